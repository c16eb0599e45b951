"""A key-value machine driven without a node: what the tests of this folder share."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from twisted.logger import Logger

from finn.declarative import Call, machine_commands
from finn.errors import CommandError, UnknownCommand, WrongArity
from finn.machines.kv import KV
from finn.resp.replies import encode_error, encode_value

START = 1_700_000_000_000


class KVClient:
    """Runs commands against a machine of its own, at a time of the test's choosing.

    Each write is an entry of its own: ``seed`` counts them.
    """

    def __init__(self, now: int = START, machine: KV | None = None) -> None:
        self.machine = KV() if machine is None else machine
        self.commands = machine_commands(self.machine)
        self.now = now
        self.seed = 0

    def run(self, *words: bytes | str | int) -> Any:
        """Run a command and return what it returned, errors too."""
        name, *args = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.seed += 1
        call = Call(self.now, self.seed, Logger())
        spec = self.commands.get(name.upper())
        try:
            if spec is None:
                raise UnknownCommand(name)
            if not spec.accepts(len(args) + 1):
                raise WrongArity(name)
            assert spec.run is not None
            return spec.run(call, *(spec.convert(args) if spec.convert else args))
        except CommandError as error:
            return error

    def reply(self, words: Iterable[bytes], resp3: bool = False) -> bytes:
        """Run a command and return the RESP reply."""
        value = self.run(*words)
        if isinstance(value, CommandError):
            return encode_error(str(value))
        return encode_value(value, resp3)

    def dump(self) -> bytes:
        """Return a snapshot."""
        return dump(self.machine)


def dump(machine: KV) -> bytes:
    """Return a snapshot of a machine, taken in one go."""
    file = io.BytesIO()
    for _ in machine.snapshot(file):
        pass
    return file.getvalue()


def load(data: bytes) -> KV:
    """Return a machine restored from a snapshot."""
    machine = KV()
    for _ in machine.restore(io.BytesIO(data)):
        pass
    return machine
