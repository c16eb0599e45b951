"""The format of fastlog's segment files, and the reading of them; this text is the specification.

A segment is a header and records, one behind the other, all numbers little endian. Segments are
numbered without gaps; each is complete and fsynced before its successor exists, and is given one
more mark, which says that it does, behind that. The header of a segment is fsynced before the file
gets its name, so a file with an unfinished header is damage, not the trace of a crash.

Header, 48 bytes. Magic, CRC and version keep their places in every version of the format:

======  ====  =============================================================================
offset  size  field
======  ====  =============================================================================
0       8     magic, ``finnlog`` and a zero byte
8       4     CRC-32 of what is behind it in the header
12      1     format version, 1
13      1     flags; 1: the segments before this one are void
14      2     zero
16      8     number of the segment, from 1 on
24      8     base index: the first entry in the file has the index above it. Where entries of
              earlier segments have a higher index, they were truncated and are void
32      8     term of the entry at the base index, 0 when that is 0
40      8     nonce, a random number that the marks in this file repeat
======  ====  =============================================================================

A record is an entry, exactly as ``finn.raft.entries`` describes it, or a *sync mark*, 40 bytes:

======  ====  =============================================================================
offset  size  field
======  ====  =============================================================================
0       4     CRC-32 of everything behind it
4       4     zero, where an entry has the length of its payload
8       1     kind, 16
9       1     flags; 1: this segment has a successor, whose name is durable. Not set by versions
              up to 0.1, which do not look at it
10      2     zero
12      4     magic, ``sync``
16      8     nonce of the segment: no payload a client sends can pass for a mark
24      8     position of this mark in the file
32      8     offset known durable: an fdatasync of all bytes below it had returned before this
              mark was written
======  ====  =============================================================================

The first record that is incomplete, fails its CRC or does not continue the log ends the log when
it is in the last segment and no mark, wherever in the file, names an offset above it: it was
never known to be on the disk. Behind the last entry of a segment with a successor less than an
entry may follow: a mark that was not finished. Where the last segment but one has no whole one, the
next start writes it, before it appends. In every other place it is corruption, and so is a last
segment with a mark that it has a successor.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from zlib import crc32

from finn.errors import BadRecord, CorruptLog, DataDirectoryError
from finn.interfaces import IFile
from finn.raft.entries import CONFIGURATION, HEADER, HEADER_SIZE, KINDS

FORMAT_VERSION = 1
MAGIC = b"finnlog\0"
VOID_BEFORE = 1
HAS_SUCCESSOR = 1

_SEGMENT = struct.Struct("<8sIBBHQQQQ")
_SEGMENT_BODY = struct.Struct("<BBHQQQQ")
_SEGMENT_FRONT = struct.Struct("<8sI")
SEGMENT_HEADER_SIZE = _SEGMENT.size
assert SEGMENT_HEADER_SIZE == HEADER_SIZE == 48

MARK = 16
_MARK_MAGIC = b"sync"
_MARK = struct.Struct("<IIBB2x4sQQQ")
_MARK_BODY = struct.Struct("<IBB2x4sQQQ")
_CRC = struct.Struct("<I")
_NONCE = struct.Struct("<Q")
MARK_SIZE = _MARK.size
assert MARK_SIZE == 40

# Read ahead of a scan; a longer record is read in one piece.
CHUNK = 1024 * 1024

# (offset, size, kind, term, index, time, record). Of a mark the term stands for its flags, the
# index for the offset it names; the record's bytes are there for configurations only.
Scanned = tuple[int, int, int, int, int, int, bytes]


class SegmentHeader:
    """The fields of a segment's header, as the module's text describes them."""

    __slots__ = ("number", "base_index", "base_term", "void_before", "nonce")

    def __init__(
        self, number: int, base_index: int, base_term: int, void_before: bool, nonce: int
    ) -> None:
        self.number = number
        self.base_index = base_index
        self.base_term = base_term
        self.void_before = void_before
        self.nonce = nonce

    def encode(self) -> bytes:
        """Return the bytes a segment begins with."""
        flags = VOID_BEFORE if self.void_before else 0
        body = _SEGMENT_BODY.pack(
            FORMAT_VERSION, flags, 0, self.number, self.base_index, self.base_term, self.nonce
        )
        return _SEGMENT_FRONT.pack(MAGIC, crc32(body)) + body

    @classmethod
    def decode(cls, data: bytes, path: str) -> SegmentHeader:
        """Decode and check.

        Raises:
            CorruptLog: it is cut short or damaged.
            DataDirectoryError: a version that this finn does not know.
        """
        if len(data) < SEGMENT_HEADER_SIZE:
            raise CorruptLog(path, 0, "the segment header is cut short")
        magic, crc, version, flags, _, number, base_index, base_term, nonce = _SEGMENT.unpack_from(
            data
        )
        if magic != MAGIC:
            raise CorruptLog(path, 0, "this is not a log segment")
        if crc32(memoryview(data)[12:SEGMENT_HEADER_SIZE]) != crc:
            raise CorruptLog(path, 0, "the segment header's checksum is wrong")
        if version != FORMAT_VERSION:
            raise DataDirectoryError(
                f"{path} has format version {version}, this finn knows {FORMAT_VERSION} only"
            )
        return cls(number, base_index, base_term, bool(flags & VOID_BEFORE), nonce)


def encode_mark(nonce: int, position: int, durable: int, flags: int = 0) -> bytes:
    """Encode the sync mark that is to stand at ``position``."""
    body = _MARK_BODY.pack(0, MARK, flags, _MARK_MAGIC, nonce, position, durable)
    return _CRC.pack(crc32(body)) + body


def decode_mark(data: bytes | memoryview, nonce: int, position: int) -> int | None:
    """Return the durable offset of the mark that these 40 bytes at ``position`` are, or None."""
    if len(data) < MARK_SIZE:
        return None
    crc, length, kind, _, magic, found_nonce, found_position, durable = _MARK.unpack_from(data)
    if (length, kind, magic, found_nonce, found_position) != (
        0,
        MARK,
        _MARK_MAGIC,
        nonce,
        position,
    ):
        return None
    if crc32(memoryview(data)[4:MARK_SIZE]) != crc or not durable <= position:
        return None
    return int(durable)


class Window:
    """A read-ahead view of a file, moving forward.

    Args:
        file: to read.
        end: offset to stop at.
        chunk: bytes to read at a time.
    """

    __slots__ = ("data", "start", "end", "_file", "_chunk")

    def __init__(self, file: IFile, end: int, chunk: int = CHUNK) -> None:
        self.data = b""
        self.start = 0
        self.end = end
        self._file = file
        self._chunk = chunk

    def at(self, offset: int, size: int) -> int:
        """Make ``size`` bytes from ``offset`` on available in ``data``.

        Returns:
            Their position in ``data``, or -1 when the file ends before.
        """
        position = offset - self.start
        if position >= 0 and position + size <= len(self.data):
            return position
        if offset + size > self.end:
            return -1
        want = min(max(size, self._chunk), self.end - offset)
        self.data = self._file.pread(want, offset)
        self.start = offset
        return 0 if len(self.data) >= size else -1


def scan(
    file: IFile, end: int, offset: int, nonce: int, index: int, term: int
) -> Iterator[Scanned]:
    """Read and check the records of a segment, in order.

    Args:
        file: the segment.
        end: its size.
        offset: where to begin, a record's.
        nonce: of the segment.
        index: of the entry before the first one.
        term: of that entry; terms never go down.

    Yields:
        The records, see ``Scanned``.

    Raises:
        BadRecord: at the first thing that is no record.
    """
    window = Window(file, end)
    unpack = HEADER.unpack_from
    while offset < end:
        # A mark, 40 bytes, may be the last thing in the file.
        at = window.at(offset, MARK_SIZE)
        if at < 0:
            raise BadRecord(offset, "the record is cut short")
        if window.data[at + 8] == MARK:
            durable = decode_mark(window.data[at : at + MARK_SIZE], nonce, offset)
            if durable is None:
                raise BadRecord(offset, "the sync mark is damaged")
            yield offset, MARK_SIZE, MARK, window.data[at + 9], durable, 0, b""
            offset += MARK_SIZE
            continue
        at = window.at(offset, HEADER_SIZE)
        if at < 0:
            raise BadRecord(offset, "the record is cut short")
        crc, length, kind, _, found_term, found_index, time, _ = unpack(window.data, at)
        if kind not in KINDS:
            raise BadRecord(offset, "this is not a record")
        size = HEADER_SIZE + length
        at = window.at(offset, size)
        if at < 0:
            raise BadRecord(offset, "the record is cut short")
        if crc32(memoryview(window.data)[at + 4 : at + size]) != crc:
            raise BadRecord(offset, "the record's checksum is wrong")
        if found_index != index + 1:
            raise BadRecord(offset, f"entry {found_index} stands where {index + 1} belongs")
        if found_term < max(term, 1):
            raise BadRecord(offset, f"term {found_term} stands behind term {term}")
        index, term = found_index, found_term
        record = window.data[at : at + size] if kind == CONFIGURATION else b""
        yield offset, size, kind, term, index, time, record
        offset += size


def last_mark(file: IFile, end: int, offset: int, nonce: int) -> int:
    """Search for marks at ``offset`` and behind it, whatever else is there.

    Returns:
        The highest offset one of them names as durable, 0 without a mark.
    """
    highest = 0
    pattern = _MARK_MAGIC + _NONCE.pack(nonce)
    while offset < end:
        # Pieces overlap by a mark, so that none is missed at a seam.
        piece = file.pread(min(CHUNK + MARK_SIZE, end - offset), offset)
        found = piece.find(pattern)
        while found >= 0:
            begin = found - 12
            if begin >= 0:
                durable = decode_mark(piece[begin : begin + MARK_SIZE], nonce, offset + begin)
                highest = max(highest, durable or 0)
            found = piece.find(pattern, found + 1)
        offset += CHUNK
    return highest
