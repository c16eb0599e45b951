"""Log entries and their one encoding, the record: the same bytes on disk and on the wire.

A record is a 48-byte header, little endian, and the payload:

======  ====  ==========================================================
offset  size  field
======  ====  ==========================================================
0       4     CRC-32 of everything behind it, header and payload
4       4     length of the payload
8       1     kind: 1 commands, 2 configuration, 3 no-op
9       3     zero
12      4     count of commands in the payload
16      8     term
24      8     index
32      8     time, the leader's wall clock in milliseconds, never going back
40      8     seed, source of ``applier.random``
48      n     payload: the commands as RESP, or a configuration as JSON
======  ====  ==========================================================

The leader encodes and checksums an entry once; followers check it on receipt and keep the bytes.
"""

from __future__ import annotations

import struct
from typing import Any
from zlib import crc32

from finn.errors import ProtocolError

HEADER = struct.Struct("<IIB3xIQQQQ")
HEADER_SIZE = HEADER.size
assert HEADER_SIZE == 48
_LENGTH_ON = struct.Struct("<IB3xIQQQQ")
_CRC = struct.Struct("<I")

LARGE_CHUNK = 1024
"""Bytes of chunks, on average, that are joined once only, and checksummed one by one."""

COMMANDS = 1
CONFIGURATION = 2
NOOP = 3
KINDS = (COMMANDS, CONFIGURATION, NOOP)


class Entry:
    """One log entry, a batch of commands; immutable by convention.

    Invariant: ``record`` is the encoding of the other fields.
    """

    __slots__ = ("index", "term", "kind", "time", "seed", "count", "record")

    def __init__(
        self, index: int, term: int, kind: int, time: int, seed: int, count: int, record: bytes
    ) -> None:
        self.index = index
        self.term = term
        self.kind = kind
        self.time = time
        self.seed = seed
        self.count = count
        self.record = record

    @property
    def payload(self) -> bytes:
        """The payload, copied; hot paths feed ``record`` with an offset instead."""
        return self.record[HEADER_SIZE:]

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return len(self.record)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.index, self.term, self.kind, self.time, self.seed, self.count, self.record)
        return Entry, fields  # compiled classes are not copied or pickled without

    def __repr__(self) -> str:
        return f"<Entry {self.index}^{self.term} kind={self.kind} count={self.count} {self.size}B>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.record == other.record

    def __hash__(self) -> int:
        return hash((self.index, self.term))


def make_entry(
    index: int, term: int, kind: int, time: int, seed: int, count: int, chunks: list[bytes]
) -> Entry:
    """Encode an entry from the chunks of its payload."""
    size = sum(map(len, chunks))
    if size < LARGE_CHUNK * len(chunks):
        chunks = [b"".join(chunks)]
    head = _LENGTH_ON.pack(size, kind, count, term, index, time, seed)
    crc = crc32(head)
    for chunk in chunks:
        crc = crc32(chunk, crc)
    record = b"".join([_CRC.pack(crc), head, *chunks])
    return Entry(index, term, kind, time, seed, count, record)


def decode_entry(record: bytes) -> Entry:
    """Decode and check one whole record.

    Raises:
        ProtocolError: when length, kind or checksum is wrong; the text says which.
    """
    if len(record) < HEADER_SIZE:
        raise ProtocolError("record is shorter than its header")
    crc, length, kind, count, term, index, time, seed = HEADER.unpack_from(record)
    if length != len(record) - HEADER_SIZE:
        raise ProtocolError("record length is wrong")
    if crc32(memoryview(record)[4:]) != crc:
        raise ProtocolError("record checksum is wrong")
    if kind not in KINDS or index < 1 or term < 1:
        raise ProtocolError("record header makes no sense")
    return Entry(index, term, kind, time, seed, count, record)
