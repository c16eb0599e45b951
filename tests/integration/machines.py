"""Machines with faults, for the tests of bad input."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

import finn
from finn.errors import UnknownCommand


class Faulty(finn.Machine):
    """Counts, and has a command with a bug."""

    def __init__(self) -> None:
        self.count = 0

    @finn.write("COUNT")
    def add(self, call: finn.Call) -> int:
        """Return the next number."""
        self.count += 1
        return self.count

    @finn.write("BUG")
    def bug(self, call: finn.Call) -> int:
        """Change the state, then fail."""
        self.count += 10
        return 1 // (self.count - self.count)

    @finn.write("NO")
    def no(self, call: finn.Call) -> None:
        """Say no."""
        raise finn.CommandError("NOTNOW not now")

    @finn.read("READBUG")
    def read_bug(self, call: finn.Call) -> None:
        """Fail while reading."""
        raise KeyError("nothing")

    @finn.read("TOTAL")
    def total(self, call: finn.Call) -> int:
        """Return the number."""
        return self.count


@implementer(finn.IMachine)
class FaultyClosures:
    """The same in the style of the original."""

    def __init__(self) -> None:
        self.count = 0

    def command(self, applier: finn.IApplier, conn: Any, cmd: list[bytes]) -> Any:
        name = cmd[0].upper()
        if name == b"COUNT":
            return applier.apply(conn, cmd, self.add, lambda value: conn.write_integer(value))
        if name == b"BUG":
            return applier.apply(conn, cmd, self.bug, lambda value: conn.write_integer(value))
        if name == b"REPLYBUG":
            return applier.apply(conn, cmd, self.add, lambda value: conn.write_integer(None))
        if name == b"READBUG":
            return applier.apply(conn, cmd, None, lambda _: {}["nothing"])
        if name == b"TOTAL":
            return applier.apply(conn, cmd, None, lambda _: conn.write_integer(self.count))
        raise UnknownCommand(cmd[0])

    def add(self) -> int:
        self.count += 1
        return self.count

    def bug(self) -> int:
        self.count += 10
        return 1 // (self.count - self.count)

    def snapshot(self, file: Any) -> None:
        file.write(str(self.count).encode())

    def restore(self, file: Any) -> None:
        self.count = int(file.read())


class Plain:
    """Is no machine."""


class Unmakeable(finn.Machine):
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no tickets left")
