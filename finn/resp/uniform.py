"""Pipelines of one command with arguments of equal sizes: what most large chunks of clients are.

Keys are often of one size, and so are counters, hashes and identifiers for long stretches. Then
every argument is where arithmetic says, ``struct`` cuts them all out in one call, and one
comparison proves the result: a third of what a parser takes. What all commands have in common is
known without a look at each, so a machine can also run them together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from finn.resp.commands import UniformCommands

__all__ = ["LastCommand", "LastShape", "Shape"]

LONGEST_NAME = 64
"""No command's is longer, and what is remembered is small."""

MOST_ARGUMENTS = 16
"""Beyond this commands are lists of something, and seldom alike."""

LARGEST_ALONE = 64 * 1024
"""Bytes of a command: larger ones do not come in one piece."""

LARGE = 1024
"""Bytes of a command from which on what stands between the arguments is compared, and not a copy of
all of it."""

REST = 16
"""Commands of which nothing is learned after the shape of one was of no use."""

_NEVER = 1 << 62


class Shape:
    """What commands have in common whose arguments have the same sizes.

    Args:
        name: of the commands.
        sizes: bytes of each argument.

    Attributes:
        size: bytes of each command.
        beginning: the bytes of each up to the first that may differ.
    """

    __slots__ = ("_between", "_cut", "_fixed", "_name", "_template", "_width", "beginning", "size")

    def __init__(self, name: bytes, sizes: tuple[int, ...]) -> None:
        head = b"*%d\r\n$%d\r\n%b\r\n" % (len(sizes) + 1, len(name), name)
        headers = [b"$%d\r\n" % size for size in sizes]
        layout = f"{len(head)}x"
        template = head.replace(b"%", b"%%")
        between, fixed = f"{len(head)}s", [head]
        for size, header in zip(sizes, headers, strict=True):
            layout += f"{len(header)}x{size}s2x"
            template += header + b"%b\r\n"
            between += f"{len(header)}s{size}x2s"
            fixed += (header, b"\r\n")
        self._name = name
        self._width = len(sizes)
        self._cut = struct.Struct(layout)
        self._template = template
        self._between = struct.Struct(between)
        self._fixed = tuple(fixed)
        self.beginning = head + b"".join(headers[:1])
        self.size = self._cut.size

    @classmethod
    def of(cls, command: Sequence[bytes]) -> Shape | None:
        """Return the shape of a command and of those like it; None where few are alike."""
        name, *arguments = command
        if len(arguments) > MOST_ARGUMENTS or len(name) > LONGEST_NAME:
            return None
        return _shape(name, tuple(map(len, arguments)))

    def read(self, data: bytes, begin: int = 0) -> UniformCommands | None:
        """Read as many commands as ``data`` has room for, at least one.

        Returns:
            The commands, of whose encoding ``data`` from ``begin`` on is the beginning or more;
            None if others are among them.
        """
        size, beginning = self.size, self.beginning
        count = (len(data) - begin) // size
        end = begin + count * size
        if not (data.startswith(beginning, begin) and data.startswith(beginning, end - size)):
            return None  # most that differ are found out here, for nothing
        # A command has one encoding: if these bytes are it, there is no other way to read them.
        if size < LARGE:
            whole = data[begin:end]
            arguments = [*chain.from_iterable(self._cut.iter_unpack(whole))]
            if (self._template * count) % tuple(arguments) != whole:
                return None
        else:
            view = memoryview(data)[begin:end]
            if [*self._between.iter_unpack(view)] != [self._fixed] * count:
                return None
            arguments = [*chain.from_iterable(self._cut.iter_unpack(view))]
        return UniformCommands(self._name, self._width, arguments, count)

    def read_one(self, data: bytes, begin: int = 0) -> list[bytes] | None:
        """Read the last ``size`` bytes; None if they are a command of another shape."""
        # As above: it has one encoding.
        if self.size < LARGE:
            if begin:
                data = data[begin:]
            arguments = self._cut.unpack(data)
            if self._template % arguments != data:
                return None
        else:
            if self._between.unpack_from(data, begin) != self._fixed:
                return None
            arguments = self._cut.unpack_from(data, begin)
        return [self._name, *arguments]


_shape = lru_cache(maxsize=256)(Shape)


class LastShape:
    """The shape of the last pipeline that came one way: the next one often has the same.

    Args:
        fewest: commands for which it is worth it.

    Attributes:
        least: bytes of a chunk in which to look for such commands.
        size: bytes of each.
    """

    __slots__ = ("_fewest", "_shape", "least", "size")

    def __init__(self, fewest: int) -> None:
        self._fewest = fewest
        self._shape: Shape | None = None
        self.least = _NEVER
        self.size = 0

    def learn(self, commands: list[list[bytes]], size: int) -> None:
        """Keep the shape of commands, if they share one.

        ``size``: bytes of their encoding, 0 if nobody knows.
        """
        count = len(commands)
        if count < self._fewest or size % count:
            return
        first, last = commands[0], commands[-1]
        if first[:1] != last[:1] or [*map(len, first)] != [*map(len, last)]:
            return
        shape = Shape.of(first)
        if shape is not None and size in (0, shape.size * count):
            self._shape = shape
            self.size = shape.size
            self.least = self._fewest * shape.size

    def may_begin(self, data: bytes) -> bool:
        """Say whether these bytes look like a part of one command, where ``read`` ended."""
        shape = self._shape
        return shape is not None and len(data) < shape.size and data.startswith(shape.beginning)

    def read(self, data: bytes, begin: int = 0) -> UniformCommands | None:
        """Read a chunk of at least ``least`` bytes; see ``Shape.read``."""
        assert self._shape is not None
        commands = self._shape.read(data, begin)
        if commands is None:
            self.least = _NEVER
        return commands


class LastCommand:
    """The shape of the last command that came alone: the next one often has the same.

    Attributes:
        size: bytes of a command that may have it; -1 where none is known.
    """

    __slots__ = ("_rest", "_shape", "_size", "_was_used", "size")

    def __init__(self) -> None:
        self._shape: Shape | None = None
        self._was_used = True
        self._rest = 0  # commands of which nothing is learned
        self._size = -1  # of the command before
        self.size = -1

    def learn(self, command: list[bytes], size: int) -> None:
        """Keep the shape of a command of ``size`` bytes if the one before was as large."""
        if self._rest:
            self._rest -= 1
        elif size != self._size:
            self._size = size
        elif size <= LARGEST_ALONE:
            shape = Shape.of(command)
            if shape is not None and shape.size == size:
                self._shape = shape
                self.size = size
                if not self._was_used:
                    self._rest = REST  # nor was the one before of any use
                self._was_used = False

    def read(self, data: bytes, begin: int = 0) -> list[bytes] | None:
        """Read ``size`` bytes; see ``Shape.read_one``."""
        assert self._shape is not None
        command = self._shape.read_one(data, begin)
        if command is None:
            self.size = self._size = -1
            self._rest = REST
        else:
            self._was_used = True
        return command
