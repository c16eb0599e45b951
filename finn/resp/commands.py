"""Commands that are alike, kept as what they have in common and their arguments.

Not compiled: an instance check of a compiled class with an abstract base asks the base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import overload


class UniformCommands(Sequence[list[bytes]]):
    """Commands of one name and one number of arguments.

    Args:
        name: of all of them, as the client spelt it.
        width: arguments of each.
        arguments: those of the first command, of the second, and so on.
        count: of the commands.
    """

    __slots__ = ("_arguments", "_count", "name", "width")

    def __init__(self, name: bytes, width: int, arguments: list[bytes], count: int) -> None:
        self.name = name
        self.width = width
        self._arguments = arguments
        self._count = count

    def columns(self) -> list[Sequence[bytes]]:
        """Return the first arguments of all commands, the second, and so on."""
        width = self.width
        return [self._arguments[i::width] for i in range(width)]

    def behind(self, first: list[bytes]) -> UniformCommands | None:
        """Return these commands behind another one, or None if that is not like them."""
        if first[0] != self.name or len(first) != self.width + 1:
            return None
        arguments = [*first[1:], *self._arguments]
        return UniformCommands(self.name, self.width, arguments, self._count + 1)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[bytes]]:
        columns = [iter(self._arguments)] * self.width
        return map(list, zip(repeat(self.name, self._count), *columns, strict=False))

    @overload
    def __getitem__(self, where: int) -> list[bytes]: ...
    @overload
    def __getitem__(self, where: slice) -> UniformCommands: ...
    def __getitem__(self, where: int | slice) -> list[bytes] | UniformCommands:
        width = self.width
        if isinstance(where, slice):
            begin, end, step = where.indices(self._count)
            if step != 1:
                raise ValueError("only neighbours stay together")
            count = max(0, end - begin)
            part = self._arguments[begin * width : (begin + count) * width]
            return UniformCommands(self.name, width, part, count)
        at = range(self._count)[where] * width
        return [self.name, *self._arguments[at : at + width]]
