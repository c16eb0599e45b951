"""The machine of the simulator: strings under keys, with a chain of hashes over all writes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from finn import plain
from finn.declarative import Call, Machine, read, write
from finn.testing.linearizability import Model

if TYPE_CHECKING:
    from finn.interfaces import IReader, IWriter

Witness = Callable[[int, int, bytes], None]


class Register(Machine):
    """Strings under keys; every write carries the id of its operation.

    Args:
        witness: told of each write: its number, the hash over all writes so far, and its id. It is
            no part of the state.
    """

    def __init__(self, witness: Witness | None = None) -> None:
        self.data: dict[bytes, bytes] = {}
        self.count = 0
        self.chain = 0
        self.witness = witness

    def snapshot(self, file: IWriter) -> Generator[None, None, None]:
        """Write all but the witness."""
        state = {name: value for name, value in vars(self).items() if name != "witness"}
        return plain.dump(plain.freeze(state), file)

    def restore(self, file: IReader) -> Generator[None, None, None]:
        """Read it, and keep the witness."""
        witness = self.witness
        yield from self._restore(file)
        self.witness = witness

    def _written(self, call: Call, operation: bytes, key: bytes, result: bytes) -> None:
        self.count += 1
        # Time and random numbers are replicated; a difference shows in the chain.
        drawn = call.random.getrandbits(32) if self.count % 16 == 0 else 0
        link = b"%s %s %s %d %d" % (operation, key, result, call.now, drawn)
        self.chain = crc32(link, self.chain)
        if self.witness is not None:
            self.witness(self.count, self.chain, operation)

    @write("SET", keys=(1, 1, 1))
    def set(self, call: Call, key: bytes, value: bytes, operation: bytes) -> bytes | None:
        """Set a string; return what was there."""
        old = self.data.get(key)
        self.data[key] = value
        self._written(call, operation, key, value)
        return old

    @write("CAS", keys=(1, 1, 1))
    def cas(self, call: Call, key: bytes, old: bytes, new: bytes, operation: bytes) -> int:
        """Set a string if it is what the client thinks (empty: nothing); return 1 if it was."""
        done = self.data.get(key, b"") == old
        if done:
            self.data[key] = new
        self._written(call, operation, key, new if done else b"-")
        return int(done)

    @write("FORGET")
    def forget(self, call: Call, prefix: bytes, operation: bytes) -> int:
        """Remove all keys but those that begin so."""
        before = len(self.data)
        self.data = {k: v for k, v in self.data.items() if k.startswith(prefix)}
        self._written(call, operation, prefix, b"")
        return before - len(self.data)

    @read("GET", keys=(1, 1, 1), pipelined="get_all")
    def get(self, call: Call, key: bytes) -> bytes | None:
        """Return a string."""
        return self.data.get(key)

    def get_all(self, call: Call, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return several strings."""
        return [self.data.get(key) for key in keys]


class RegisterModel(Model):
    """What ``Register`` should do, for the linearizability checker."""

    def initial(self) -> Hashable:
        return None

    def key(self, input: Sequence[bytes]) -> Hashable:
        return input[1]

    def step(self, state: Any, input: Sequence[bytes]) -> tuple[Hashable, Any]:
        name = input[0]
        if name == b"GET":
            return state, state
        if name == b"SET":
            return input[2], state
        if (state or b"") == input[2]:
            return input[3], 1
        return state, 0
