"""Machines that are deterministic, and machines that are not, each in its own way."""

from __future__ import annotations

import datetime
import random
import time
from typing import Any

from finn import Machine, read, write
from finn.errors import CommandError, Disabled


class Good(Machine):
    """Uses only what is replicated; prints, too."""

    def __init__(self) -> None:
        self.values: dict[bytes, Any] = {}

    @write("PUT")
    def put(self, call: Any, key: bytes) -> list[Any]:
        """Keep time and chance."""
        print("noise on standard output")
        self.values[key] = [call.now, call.random.random()]
        return self.values[key]

    @write("BAD")
    def bad(self, call: Any) -> None:
        """Refuse."""
        raise CommandError("ERR no")

    @read("COUNT")
    def count(self, call: Any) -> int:
        """How many."""
        return len(self.values)


class OrderOfSet(Good):
    """Keeps the first of a set of strings."""

    @write("SADD")
    def sadd(self, call: Any, *members: str) -> None:
        """Depend on the hash seed."""
        self.values[b"first"] = next(iter(set(members)))


class Clock(Good):
    """Keeps the day of the node's clock."""

    @write("TOUCH")
    def touch(self, call: Any) -> str:
        """Depend on the clock, in the reply only."""
        return str(datetime.date.today())

    @write("TOUCH2")
    def touch2(self, call: Any) -> None:
        """Depend on the clock, in the state."""
        self.values[b"day"] = int(time.time()) // 86_400


class Chance(Good):
    """Uses the node's own random source."""

    @write("ROLL")
    def roll(self, call: Any) -> int:
        """Depend on chance."""
        return random.getrandbits(62)


class Forgetful(Good):
    """Keeps a part of its state out of the snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 0

    @write("HIDE")
    def hide(self, call: Any) -> int:
        """Depend on what no snapshot holds."""
        self.hidden += 1
        return self.hidden

    def snapshot(self, file: Any) -> None:
        """Write all but that."""
        file.write(b"%d" % len(self.values))

    def restore(self, file: Any) -> None:
        """Begin anew."""
        self.__init__()  # type: ignore[misc]


class NoSnapshot(Good):
    """Takes no snapshots."""

    restore = Machine.restore

    def snapshot(self, file: Any) -> None:
        raise Disabled()
