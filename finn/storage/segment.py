"""Segments of fastlog: where entries stand, making new files, reading entries back."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right

from finn.errors import CorruptLog, DiskFailed, LogError, ProtocolError
from finn.interfaces import IFile, IFiles
from finn.raft.entries import HEADER, HEADER_SIZE, Entry, decode_entry
from finn.storage.records import (
    HAS_SUCCESSOR,
    MARK,
    MARK_SIZE,
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    Window,
    encode_mark,
)

SUFFIX = ".log"
TEMPORARY = ".tmp"
_NAME = re.compile(r"[0-9]{8,}\.log")

# One offset is kept in memory per this many bytes of log: 16 bytes for each 64 KiB.
STRIDE = 64 * 1024
# Bytes read at a time when entries are read back.
READ_CHUNK = 256 * 1024
# Files that stay open for reading.
MAX_OPEN = 4


def segment_path(directory: str, number: int) -> str:
    """Return the path of a segment."""
    return os.path.join(directory, f"{number:08d}{SUFFIX}")


def segment_number(name: str) -> int | None:
    """Return the number in a segment's file name, None for other files."""
    return int(name[: -len(SUFFIX)]) if _NAME.fullmatch(name) else None


def disk_failed(what: str, path: str, error: OSError) -> DiskFailed:
    """Say in one line which operation on which file failed, and why."""
    return DiskFailed(f"cannot {what} {path}: {error.strerror or error}")


class Segment:
    """What is known of one segment.

    Attributes:
        path: of the file.
        header: as it is in the file.
        last_index: last entry in it that is not truncated; the base, or less, when there is none.
        end: bytes in the file, those still to be written included.
        synced: offset up to which a mark in the file says that it is durable; valid after loading.
    """

    __slots__ = ("path", "header", "last_index", "end", "synced", "_indexes", "_offsets")

    def __init__(self, path: str, header: SegmentHeader) -> None:
        self.path = path
        self.header = header
        self.last_index = header.base_index
        self.end = SEGMENT_HEADER_SIZE
        self.synced = 0
        self._indexes = array("Q")
        self._offsets = array("Q")

    @property
    def base_index(self) -> int:
        """Index below the first entry."""
        return self.header.base_index

    def add(self, index: int, size: int) -> None:
        """Take note of an entry at the end."""
        end = self.end
        offsets = self._offsets
        if not offsets or end - offsets[-1] >= STRIDE:
            # In this order: the disk thread may look meanwhile, by the indexes.
            offsets.append(end)
            self._indexes.append(index)
        self.end = end + size
        self.last_index = index

    def locate(self, index: int) -> int:
        """Return the offset of a record at or before that of an entry."""
        place = bisect_right(self._indexes, index)
        return self._offsets[place - 1] if place else SEGMENT_HEADER_SIZE

    def become(self, other: Segment) -> None:
        """Take over what is known of a file that was put in this one's place."""
        self.header = other.header
        self._indexes = other._indexes
        self._offsets = other._offsets
        self.end = other.end


def make_segment(files: IFiles, directory: str, segment: Segment) -> IFile:
    """Create a segment's file; the name appears, durably, with a durable header behind it."""
    temporary = segment.path + TEMPORARY
    if files.exists(temporary):
        files.unlink(temporary)
    file = files.create(temporary)
    try:
        file.write(segment.header.encode())
        file.datasync()
        files.rename(temporary, segment.path)
        files.sync_directory(directory)
    except BaseException:
        file.close()
        raise
    return file


def cut_front(files: IFiles, directory: str, segment: Segment, base: int, term: int) -> Segment:
    """Rewrite a sealed segment without the entries up to ``base``, in place of the old file.

    Returns:
        What is known of the new file; its header makes all segments before it void.
    """
    old = segment.header
    header = SegmentHeader(old.number, base, term, True, old.nonce)
    twin = Segment(segment.path, header)
    temporary = segment.path + TEMPORARY
    if files.exists(temporary):
        files.unlink(temporary)
    source = files.open_readonly(segment.path)
    try:
        target = files.create(temporary)
        try:
            target.write(header.encode())
            _copy_entries(segment, source, target, twin)
            # It is sealed: it has a successor.
            target.write(encode_mark(old.nonce, twin.end, twin.end, HAS_SUCCESSOR))
            twin.end += MARK_SIZE
            target.datasync()
        finally:
            target.close()
    finally:
        source.close()
    files.rename(temporary, segment.path)
    files.sync_directory(directory)
    return twin


def _copy_entries(segment: Segment, source: IFile, target: IFile, twin: Segment) -> None:
    # An unfinished mark may follow behind the end.
    window = Window(source, segment.end, READ_CHUNK)
    offset = segment.locate(twin.base_index + 1)
    pieces: list[bytes] = []
    size = 0
    # Truncated entries too: the segments behind continue or truncate what the file says.
    while (offset := _skip_marks(window, offset)) < window.end:
        entry, offset = _next_entry(segment.path, window, offset)
        if entry.index <= twin.base_index:
            continue
        twin.add(entry.index, entry.size)
        pieces.append(entry.record)
        size += entry.size
        if size >= READ_CHUNK:
            target.write(b"".join(pieces))
            pieces.clear()
            size = 0
    if pieces:
        target.write(b"".join(pieces))


def _skip_marks(window: Window, offset: int) -> int:
    """Return the offset of the first entry at or behind ``offset``, the end without one."""
    while (at := window.at(offset, MARK_SIZE)) >= 0 and window.data[at + 8] == MARK:
        offset += MARK_SIZE
    return offset


def _next_entry(path: str, window: Window, offset: int) -> tuple[Entry, int]:
    """Return the first entry at or behind ``offset`` and the offset behind it."""
    offset = _skip_marks(window, offset)
    at = window.at(offset, HEADER_SIZE)
    if at >= 0:
        size = HEADER_SIZE + HEADER.unpack_from(window.data, at)[1]
        at = window.at(offset, size)
    if at < 0:
        raise CorruptLog(path, offset, "the file ends before an entry that was in it")
    try:
        return decode_entry(window.data[at : at + size]), offset + size
    except ProtocolError as e:
        raise CorruptLog(path, offset, str(e)) from None


def _skip_to(path: str, window: Window, offset: int, index: int) -> int:
    """Return the offset of an entry, looking from ``offset`` on without checking payloads."""
    while True:
        offset = _skip_marks(window, offset)
        at = window.at(offset, HEADER_SIZE)
        if at < 0:
            raise CorruptLog(path, offset, "the file ends before an entry that was in it")
        _, length, _, _, _, found, _, _ = HEADER.unpack_from(window.data, at)
        if found == index:
            return offset
        if found > index:
            raise CorruptLog(path, offset, f"entry {found} stands where {index} belongs")
        offset += HEADER_SIZE + length


class SegmentReader:
    """Reads entries back from segments. Used on the disk thread only."""

    def __init__(self, files: IFiles) -> None:
        self._files = files
        self._open: dict[str, IFile] = {}

    def read(self, parts: list[tuple[Segment, int]], first: int, max_bytes: int) -> list[Entry]:
        """Read entries in order, at least one, as many as ``max_bytes`` allows.

        Args:
            parts: segments and the last index to be read from each, in order.
            first: index to begin with.
            max_bytes: bound on the records' sizes together.
        """
        entries: list[Entry] = []
        for segment, last in parts:
            if last < first:
                continue
            file = self._file(segment.path)
            window = Window(file, file.size(), READ_CHUNK)
            offset = _skip_to(segment.path, window, segment.locate(first), first)
            while first <= last:
                entry, offset = _next_entry(segment.path, window, offset)
                if entry.index != first:
                    raise CorruptLog(segment.path, offset, f"entry {first} is missing")
                max_bytes -= entry.size
                if max_bytes < 0 and entries:
                    return entries
                entries.append(entry)
                first += 1
        if not entries:
            raise LogError(f"entry {first} is in no segment")
        return entries

    def forget(self, path: str) -> None:
        """Close a file that is removed or replaced."""
        file = self._open.pop(path, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close all files."""
        for path in list(self._open):
            self.forget(path)

    def _file(self, path: str) -> IFile:
        file = self._open.pop(path, None)
        if file is None:
            if len(self._open) >= MAX_OPEN:
                self.forget(next(iter(self._open)))
            file = self._files.open_readonly(path)
        self._open[path] = file
        return file
