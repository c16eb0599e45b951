"""The snapshot format of the key-value machine.

A snapshot is a row of blocks. A block is a header, the lengths of its strings, and the strings:

    offset  size       content
    0       1          kind: 0 head, 1 strings, 2 hash, 3 list, 4 set, 5 deadlines, 6 end
    1       2          number of the shard
    3       4          n, the number of strings
    7       4          size of all n strings together
    11      4 * n      their lengths
    11+4n   size       the strings, one behind the other

Integers are little-endian and unsigned. What the strings are:

    head        ``finn-kv``, the format version, the number of shards (the last two in decimal)
    strings     k keys, then their k values
    hash        the key, then f fields, then their f values
    list, set   the key, then elements in order
    deadlines   k keys, then their k times in ms, 8 bytes each, as one string
    end         the number of keys, in decimal

A container may take several blocks. Blocks are bounded (``BLOCK_BYTES``), so that each is a
fraction of a millisecond's work. Keys are sorted within a shard: equal states give equal bytes.
The checksum is the snapshot store's business.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate, islice

from finn.errors import LogError
from finn.interfaces import IReader, IWriter
from finn.machines.deadlines import Deadlines
from finn.machines.shards import SHARDS, Shard, ShardedState
from finn.machines.values import Container, Hash, List, MemberSet

VERSION = 1
BLOCK_BYTES = 256 * 1024
"""Bytes of strings in a block, unless a single string is larger."""
BLOCK_STRINGS = 2048
"""Strings in a block: one of short strings takes no longer than one of long ones."""

HEAD, STRINGS, HASH, LIST, SET, DEADLINES, END = range(7)
MAGIC = b"finn-kv"

_HEADER = struct.Struct("<BHII")


class BadSnapshot(LogError):
    """The bytes are not a snapshot of this machine, or of a version it does not know."""


def write_snapshot(state: ShardedState, file: IWriter) -> Generator[None, None, None]:
    """Write the state of the moment of the first ``next``, yielding after each block."""
    frozen = state.freeze()
    try:
        yield
        file.write(_block(HEAD, 0, [MAGIC, b"%d" % VERSION, b"%d" % SHARDS]))
        keys = 0
        for number in range(SHARDS):
            shard = frozen.live(number)
            if shard:
                keys += len(shard)
                for block in _shard_blocks(number, shard, frozen.expiries[number]):
                    file.write(block)
                    yield
            state.release(frozen, number + 1)
        file.write(_block(END, 0, [b"%d" % keys]))
    finally:
        state.release(frozen)


def _shard_blocks(number: int, shard: Shard, expiries: dict[bytes, int]) -> Iterator[bytes]:
    names = sorted(shard)
    values = [shard[name] for name in names]
    containers: list[tuple[bytes, Container]] = []
    if set(map(type, values)) != {bytes}:
        containers = [
            (name, value)
            for name, value in zip(names, values, strict=True)
            if not isinstance(value, bytes)
        ]
        names = [name for name in names if shard[name].__class__ is bytes]
        values = [shard[name] for name in names]
    for first, last in _pieces(names, values):  # type: ignore[arg-type]
        yield _block(STRINGS, number, names[first:last] + values[first:last])  # type: ignore
    for name, container in containers:
        yield from _container_blocks(number, name, container)
    timed = sorted(name for name in expiries if name in shard)
    for first in range(0, len(timed), BLOCK_STRINGS):
        part = timed[first : first + BLOCK_STRINGS]
        times = struct.pack(f"<{len(part)}q", *[expiries[name] for name in part])
        yield _block(DEADLINES, number, [*part, times])


def _container_blocks(number: int, name: bytes, container: Container) -> Iterator[bytes]:
    kind = {Hash: HASH, List: LIST, MemberSet: SET}[type(container)]
    source = iter(container)
    while elements := list(islice(source, BLOCK_STRINGS)):
        values = [container[field] for field in elements] if isinstance(container, Hash) else []
        for first, last in _pieces(elements, values):
            yield _block(kind, number, [name, *elements[first:last], *values[first:last]])


def _pieces(left: Sequence[bytes], right: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Cut two rows of strings at the same places, into pieces that fit a block."""
    first = size = 0
    if len(left) <= BLOCK_STRINGS:
        size = sum(map(len, left)) + sum(map(len, right))
        if size <= BLOCK_BYTES:
            if left:
                yield 0, len(left)
            return
    size = 0
    for place, string in enumerate(left):
        more = len(string) + (len(right[place]) if right else 0)
        if place > first and (size + more > BLOCK_BYTES or place - first >= BLOCK_STRINGS):
            yield first, place
            first, size = place, 0
        size += more
    if left:
        yield first, len(left)


def _block(kind: int, number: int, strings: Sequence[bytes]) -> bytes:
    lengths = list(map(len, strings))
    header = _HEADER.pack(kind, number, len(strings), sum(lengths))
    return b"".join((header, struct.pack(f"<{len(lengths)}I", *lengths), *strings))


def read_snapshot(state: ShardedState, file: IReader) -> Generator[None, None, None]:
    """Replace the state by a snapshot, yielding after each block.

    Raises:
        BadSnapshot: it cannot be read; the state is as before.
    """
    shards: list[Shard] = [{} for _ in range(SHARDS)]
    expiries: list[dict[bytes, int]] = [{} for _ in range(SHARDS)]
    deadlines = Deadlines()
    kind, _, strings = _read_block(file)
    if kind != HEAD or strings != [MAGIC, b"%d" % VERSION, b"%d" % SHARDS]:
        raise BadSnapshot("not a snapshot of the key-value machine, or of another version")
    while True:
        yield
        kind, number, strings = _read_block(file)
        if kind == END:
            break
        shard = shards[number]
        if kind == STRINGS:
            half = len(strings) // 2
            shard.update(zip(strings[:half], strings[half:], strict=True))
        elif kind == DEADLINES:
            times = struct.unpack(f"<{len(strings) - 1}q", strings.pop())
            expiries[number].update(zip(strings, times, strict=True))
            for name, at in zip(strings, times, strict=True):
                deadlines.add(name, at)
        else:
            _fill(shard, kind, strings)
    if strings != [b"%d" % sum(map(len, shards))]:
        raise BadSnapshot("the snapshot has lost keys")
    state.reset(shards, expiries, deadlines)


def _fill(shard: Shard, kind: int, strings: list[bytes]) -> None:
    name = strings[0]
    container = shard.get(name)
    if kind == HASH:
        if not isinstance(container, Hash):
            container = shard[name] = Hash(0)
        half = len(strings) // 2
        container.update(zip(strings[1 : half + 1], strings[half + 1 :], strict=True))
    elif kind in (LIST, SET):
        if not isinstance(container, (List, MemberSet)):
            container = shard[name] = List(0) if kind == LIST else MemberSet(0)
        container.extend(islice(strings, 1, None))
    else:
        raise BadSnapshot(f"unknown kind of block {kind}")


def _read_block(file: IReader) -> tuple[int, int, list[bytes]]:
    kind, number, count, size = _HEADER.unpack(_read(file, _HEADER.size))
    lengths = struct.unpack(f"<{count}I", _read(file, 4 * count))
    body = _read(file, size)
    ends = list(accumulate(lengths))
    if number >= SHARDS or (ends[-1] if ends else 0) != size:
        raise BadSnapshot("a block of the snapshot contradicts itself")
    return kind, number, list(map(body.__getitem__, map(slice, [0, *ends[:-1]], ends)))


def _read(file: IReader, size: int) -> bytes:
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise BadSnapshot("the snapshot ends too early")
        data += more
    return data
