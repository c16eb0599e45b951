"""Reading a snapshot into a machine, ahead of its needs."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from finn.interfaces import IReader, SnapshotMeta

# Bytes read from the disk in one job.
READ_BYTES = 1024 * 1024


class Source(Protocol):
    """A snapshot source that can be read at once too."""

    meta: SnapshotMeta

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        """Read off the reactor."""

    def read_now(self, offset: int, size: int) -> bytes:
        """Read in the caller's thread."""


@implementer(IReader)
class SnapshotReader:
    """``IReader`` over a snapshot.

    Call ``prefetch``, wait, and let the machine read; what it asks for beyond what is buffered is
    read at once, which blocks.

    Args:
        source: the snapshot; the caller closes it.

    Attributes:
        buffered: bytes that can be read without blocking.
    """

    def __init__(self, source: Source) -> None:
        self.buffered = 0
        self._source = source
        self._size = source.meta.size
        # Offset of what follows the buffer.
        self._offset = 0
        self._buffer = b""
        self._used = 0
        self._fetching = False

    @property
    def at_end(self) -> bool:
        """All was read."""
        return not self.buffered and self._offset >= self._size

    def prefetch(self, size: int) -> Deferred[None]:
        """Fires when ``size`` bytes, or all that are left, are buffered."""
        if self.buffered >= size or self._offset >= self._size:
            return succeed(None)
        return Deferred.fromCoroutine(self._prefetch(size))

    async def _prefetch(self, size: int) -> None:
        assert not self._fetching, "one prefetch at a time"
        self._fetching = True
        pieces = []
        offset = self._offset
        missing = size - self.buffered
        try:
            while missing > 0 and offset < self._size:
                piece = await self._source.read(offset, min(READ_BYTES, self._size - offset))
                if not piece:
                    break
                pieces.append(piece)
                offset += len(piece)
                missing -= len(piece)
        finally:
            self._fetching = False
        self._take(b"".join(pieces))

    def _take(self, data: bytes) -> None:
        self._buffer = self._buffer[self._used :] + data if self.buffered else data
        self._used = 0
        self._offset += len(data)
        self.buffered = len(self._buffer)

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = self.buffered + self._size - self._offset
        if size > self.buffered and self._offset < self._size:
            assert not self._fetching, "wait for the prefetch"
            missing = min(max(size - self.buffered, READ_BYTES), self._size - self._offset)
            self._take(self._source.read_now(self._offset, missing))
        begin = self._used
        self._used = min(begin + size, len(self._buffer))
        self.buffered = len(self._buffer) - self._used
        return self._buffer[begin : self._used]


def open_reader(source: Source) -> SnapshotReader:
    """Return a reader at the beginning of a snapshot."""
    return SnapshotReader(source)
