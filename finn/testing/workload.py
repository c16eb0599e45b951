"""What a simulated cluster serves, and what its clients ask."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from finn.testing.history import Operation
from finn.testing.linearizability import Model
from finn.testing.register import Register, RegisterModel, Witness


class Workload:
    """A machine, its model, and commands for it.

    Attributes:
        model: what the machine should do.
        traced: the machine tells of every write: the strictest checks need that.
        errors: error replies of the machine are results as good as others.
    """

    model: Model
    traced = False
    errors = True

    def machine(self, witness: Witness) -> Any:
        """Make a machine."""
        raise NotImplementedError

    def draw(
        self, random: Random, operation_id: bytes, stretch: int, history: Sequence[Operation]
    ) -> list[bytes]:
        """Draw a command; in each stretch on keys of its own, or for a new stretch only."""
        raise NotImplementedError

    def is_read(self, words: list[bytes]) -> bool:
        """Say whether a command surely changes nothing."""
        return False

    def state(self, machine: Any) -> Any:
        """Return what can be compared between machines."""
        raise NotImplementedError


class RegisterWorkload(Workload):
    """Strings under keys, with a hash over all writes.

    Args:
        keys: how many keys are in use at a time.
    """

    traced = True
    errors = False

    def __init__(self, keys: int) -> None:
        self.model = RegisterModel()
        self._keys = keys

    def machine(self, witness: Witness) -> Register:
        return Register(witness)

    def draw(
        self, random: Random, operation_id: bytes, stretch: int, history: Sequence[Operation]
    ) -> list[bytes]:
        key = b"%d:%d" % (stretch, random.randrange(self._keys))
        kind = random.random()
        if kind < 0.45:
            return [b"GET", key]
        if kind < 0.85:
            return [b"SET", key, operation_id, operation_id]
        values = [
            op.input[2] for op in history[-8:] if op.input[0] == b"SET" and op.input[1] == key
        ]
        old = random.choice(values) if values else b""
        return [b"CAS", key, old, operation_id, operation_id]

    def is_read(self, words: list[bytes]) -> bool:
        return words[0] == b"GET"

    def state(self, machine: Register) -> Any:
        return machine.count, machine.chain
