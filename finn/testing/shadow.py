"""A copy of a machine in a process of its own: the other half of ``finn.testing.determinism``.

Reads a job as JSON and writes a reply and a digest of the state for each command.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
import time
from typing import Any

from finn.errors import CommandError, Disabled
from finn.launch import load_machine
from finn.table import Kind
from finn.testing.applier import FakeApplier


def shift_clock(offset: float) -> None:
    """Set the clock that Python programs see; before the machine is imported."""
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + offset
    time.time_ns = lambda: nanoseconds() + int(offset * 1e9)

    class Date(datetime.date):
        @classmethod
        def today(cls) -> Date:
            return cls.fromtimestamp(time.time())

    class DateTime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> DateTime:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def today(cls) -> DateTime:
            return cls.fromtimestamp(time.time())

        @classmethod
        def utcnow(cls) -> DateTime:
            return cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)

    datetime.date = Date  # type: ignore[misc]
    datetime.datetime = DateTime  # type: ignore[misc]


class Shadow:
    """The copy.

    Args:
        machine: how it is imported.
    """

    def __init__(self, machine: str) -> None:
        self._name = machine
        self._applier = FakeApplier(load_machine(machine))

    def run(self, now: int, seed: int, command: list[bytes]) -> str:
        """Run one command; returns its reply in words."""
        applier = self._applier
        applier.now, applier.seed = now, seed
        spec = getattr(applier.machine, "__finn_commands__", {}).get(command[0].upper())
        if spec is not None and spec[1].kind is Kind.LOCAL:
            return "(local)"
        try:
            return repr(applier.execute(*command))
        except CommandError as error:
            return f"error {error}"
        except Exception as error:  # the text may hold an address, which differs lawfully
            return f"error {type(error).__name__}"

    def state(self) -> str:
        """A digest of the snapshot, empty for a machine that takes none."""
        try:
            return hashlib.sha256(self._applier.snapshot()).hexdigest()
        except Disabled:
            return ""

    def restore(self) -> None:
        """Become a new machine that has only what the snapshot of this one holds."""
        try:
            snapshot = self._applier.snapshot()
        except Disabled:
            return
        position = self._applier.position
        self._applier = FakeApplier(load_machine(self._name))
        self._applier.restore(snapshot)
        self._applier.position = position


def run(job: dict[str, Any]) -> list[tuple[str, str]]:
    """Do a job; returns reply and digest before the first and after each command."""
    shift_clock(job["offset"])
    shadow = Shadow(job["machine"])
    listed = job["commands"]
    stops = {len(listed) * (n + 1) // (job["restores"] + 1) for n in range(job["restores"])}
    trace = [("", shadow.state())]
    for number, (now, seed, command) in enumerate(listed, 1):
        reply = shadow.run(now, seed, [bytes.fromhex(word) for word in command])
        due = number % job["every"] == 0 or number == len(listed)
        trace.append((reply, shadow.state() if due else ""))
        if number in stops:
            shadow.restore()
    return trace


def main() -> None:
    """Keep standard output for the answer: what a machine prints goes to standard error."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(run(json.load(sys.stdin)), answer)
    answer.flush()


if __name__ == "__main__":
    main()
