"""Models of services for the linearizability checker."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from finn.testing.linearizability import Model


class KeyValueModel(Model):
    """Strings under keys, as the bundled machine has them.

    Inputs are commands as lists or tuples of bytes, the name in capitals: GET, SET, SETNX, GETSET,
    APPEND, STRLEN, EXISTS and DEL of one key, INCR, DECR and INCRBY of a number. Outputs are those
    of a client; text and bytes are the same.
    """

    def initial(self) -> Hashable:
        return None

    def key(self, input: Sequence[bytes]) -> Hashable:
        return input[1]

    def reads(self, input: Sequence[bytes]) -> bool:
        return input[0] in (b"GET", b"STRLEN", b"EXISTS")

    def overwrites(self, input: Sequence[bytes]) -> bool:
        return input[0] in (b"SET", b"GETSET", b"DEL")

    def step(self, state: bytes | None, input: Sequence[bytes]) -> tuple[Hashable, Any]:
        name, arguments = input[0], input[2:]
        old = state or b""
        if name == b"GET":
            return state, state
        if name == b"SET":
            return arguments[0], b"OK"
        if name == b"SETNX":
            return (arguments[0], 1) if state is None else (state, 0)
        if name == b"GETSET":
            return arguments[0], state
        if name == b"APPEND":
            return old + arguments[0], len(old) + len(arguments[0])
        if name == b"STRLEN":
            return state, len(old)
        if name == b"EXISTS":
            return state, int(state is not None)
        if name == b"DEL":
            return None, int(state is not None)
        if name in (b"INCR", b"DECR", b"INCRBY"):
            by = {b"INCR": 1, b"DECR": -1}.get(name) or int(arguments[0])
            number = int(old or b"0") + by
            return b"%d" % number, number
        raise ValueError(f"the model does not know {name!r}")

    def matches(self, expected: Any, output: Any) -> bool:
        return bool(_bytes(expected) == _bytes(output))


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
