"""Plain data as bytes: the type-exact encoding behind the default snapshot of a machine.

Plain data is None, bool, int, float, bytes, str, list, tuple, dict and set, nested as you like.
JSON would not do: it has no bytes and makes strings of integer keys, so a restored node would
differ from the others without anybody noticing.

The format: the bytes ``finn-plain 1\\n``, then one value, a dict. A value is a tag and

| tag | value |
| --- | --- |
| ``N`` ``T`` ``F`` | None, True, False |
| ``i`` ``b`` ``s`` | int (signed, big-endian), bytes, str (UTF-8): 4 bytes length, the bytes |
| ``d`` | float: 8 bytes, IEEE 754 big-endian |
| ``l`` ``t`` ``S`` | list, tuple, set: 4 bytes count, the values; a set's sorted by their bytes |
| ``m`` | dict: 4 bytes count, then key and value in turn, in the order of the dict |
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finn.interfaces import IReader, IWriter

MAGIC = b"finn-plain 1\n"

ITEMS_PER_SLICE = 1000
"""Values between two yields: about a millisecond."""

BYTES_PER_SLICE = 64 * 1024
"""Bytes between two yields, if that comes first."""

MAX_DEPTH = 200
"""Nesting that is refused, well below Python's recursion limit."""

_HEADER = struct.Struct(">cI")
_FLOAT = struct.Struct(">cd")


def freeze(state: dict[str, Any]) -> dict[str, Any]:
    """Copy the attributes of a machine, containers and all.

    Raises:
        TypeError: an attribute holds something that is not plain data, or one list, dict or set
            is found in two places (restored, it would be two).
    """
    seen: set[int] = set()
    return {name: _copy(value, seen, f"attribute {name!r}", 0) for name, value in state.items()}


def _copy(value: Any, seen: set[int], where: str, depth: int) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind not in _CONTAINERS:
        raise TypeError(
            f"{where} holds a {kind.__name__}: the default snapshot keeps None, bool, int, float, "
            "bytes, str, list, tuple, dict and set; for other types write snapshot() and restore()"
        )
    if depth > MAX_DEPTH:
        raise TypeError(f"{where} is nested deeper than {MAX_DEPTH}, or holds itself")
    if kind is not tuple:
        if id(value) in seen:
            raise TypeError(
                f"{where} holds a {kind.__name__} that is also held elsewhere: after a restore "
                "they would be two"
            )
        seen.add(id(value))
    if kind is dict:
        return {
            _copy(k, seen, where, depth + 1): _copy(v, seen, where, depth + 1)
            for k, v in value.items()
        }
    return kind([_copy(member, seen, where, depth + 1) for member in value])


def dump(state: dict[str, Any], file: IWriter) -> Generator[None, None, None]:
    """Write a frozen state in slices. What ``freeze`` copied is copied before the first yield."""
    yield
    out = [MAGIC]
    size = 0
    for piece in _pieces(state):
        out.append(piece)
        size += len(piece)
        if size >= BYTES_PER_SLICE or len(out) >= ITEMS_PER_SLICE:
            file.write(b"".join(out))
            out.clear()
            size = 0
            yield
    file.write(b"".join(out))


def _pieces(value: Any) -> Iterator[bytes]:
    """Encode a value piece by piece, without recursion."""
    stack: list[Iterator[Any]] = [iter((value,))]
    while stack:
        for member in stack[-1]:
            kind = type(member)
            scalar = _SCALARS.get(kind)
            if scalar is not None:
                yield scalar(member)
                continue
            if kind is set:
                # Hashable members have no containers but tuples: each is encoded at once.
                encoded = sorted(b"".join(_pieces(one)) for one in member)
                yield _HEADER.pack(b"S", len(encoded))
                yield from encoded
                continue
            yield _HEADER.pack(_CONTAINERS[kind], len(member))
            inner = chain.from_iterable(member.items()) if kind is dict else iter(member)
            stack.append(inner)
            break
        else:
            stack.pop()


def _sized(tag: bytes, data: bytes) -> bytes:
    return _HEADER.pack(tag, len(data)) + data


def _integer(number: int) -> bytes:
    return _sized(b"i", number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _value: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _integer,
    float: lambda value: _FLOAT.pack(b"d", value),
    bytes: lambda value: _sized(b"b", value),
    str: lambda value: _sized(b"s", value.encode("utf-8", "surrogatepass")),
}
_CONTAINERS: dict[type, bytes] = {list: b"l", tuple: b"t", dict: b"m", set: b"S"}


def load(file: IReader) -> Generator[None, None, dict[str, Any]]:
    """Read a state in slices.

    Raises:
        ValueError: it is damaged, or was not written by ``dump``.
    """
    source = _Source(file)
    if source.take(len(MAGIC)) != MAGIC:
        raise ValueError("this is not the snapshot of a machine with finn's default snapshot")
    # The containers being filled: tag, how many values are missing, the values so far.
    open_values: list[tuple[bytes, int, list[Any]]] = []
    items = 0
    while True:
        value: Any = None
        tag = source.take(1)
        items += 1
        if tag in b"ltmS" and tag:
            count = source.take_count()
            open_values.append((tag, 2 * count if tag == b"m" else count, []))
        else:
            value = _scalar(tag, source)
            if not open_values:
                break
            open_values[-1][2].append(value)
        while open_values and len(open_values[-1][2]) == open_values[-1][1]:
            tag, _, values = open_values.pop()
            value = _BUILDERS[tag](values)
            if not open_values:
                break
            open_values[-1][2].append(value)
        if not open_values:
            break
        if items % ITEMS_PER_SLICE == 0 or source.refilled:
            source.refilled = False
            yield
    if type(value) is not dict or source.take_rest():
        raise ValueError("the snapshot is damaged: it is not exactly one state")
    return value


def _scalar(tag: bytes, source: _Source) -> Any:
    if tag == b"N":
        return None
    if tag == b"T" or tag == b"F":
        return tag == b"T"
    if tag == b"d":
        return struct.unpack(">d", source.take(8))[0]
    if tag not in (b"i", b"b", b"s"):
        raise ValueError(f"the snapshot is damaged: {tag!r} is no tag")
    data = source.take(source.take_count())
    if tag == b"i":
        return int.from_bytes(data, "big", signed=True)
    return data if tag == b"b" else data.decode("utf-8", "surrogatepass")


_BUILDERS: dict[bytes, Callable[[list[Any]], Any]] = {
    b"l": lambda values: values,
    b"t": tuple,
    b"S": set,
    b"m": lambda values: dict(zip(values[::2], values[1::2], strict=True)),
}


class _Source:
    """Takes exact numbers of bytes from a reader."""

    def __init__(self, file: IReader) -> None:
        self._file = file
        self._data = b""
        self._at = 0
        self.refilled = False

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            self._fill(size)
            end = size
        data = self._data[self._at : end]
        self._at = end
        return data

    def take_count(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def take_rest(self) -> bytes:
        return self._data[self._at :] + self._file.read(1)

    def _fill(self, size: int) -> None:
        parts = [self._data[self._at :]]
        missing = size - len(parts[0])
        while missing > 0:
            part = self._file.read(max(missing, BYTES_PER_SLICE))
            if not part:
                raise ValueError("the snapshot is damaged: it ends too early")
            parts.append(part)
            missing -= len(part)
        self._data = b"".join(parts)
        self._at = 0
        self.refilled = True
