"""The writing side of fastlog's segments; blocks, and belongs to one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from finn.errors import DiskFailed
from finn.interfaces import IFile, IFiles
from finn.storage.records import HAS_SUCCESSOR, encode_mark
from finn.storage.segment import Segment, disk_failed, make_segment

# Bytes that are joined for one write.
JOIN_BYTES = 8 * 1024 * 1024


class TailWriter:
    """The file of the last segment.

    Args:
        files: the file system.
        directory: of the segments.

    Attributes:
        offset: bytes that were written as a whole.
    """

    def __init__(self, files: IFiles, directory: str) -> None:
        self.offset = 0
        self._files = files
        self._directory = directory
        self._path = directory
        self._nonce = 0
        self._file: IFile | None = None
        self._failure: Exception | None = None

    def attach(self, segment: Segment, file_size: int) -> None:
        """Open an existing segment, and sync it.

        A process that was killed may have written what it had not synced: nothing in the file
        may count as durable before this. Nor by this alone, as it may have ended because its sync
        failed (fsyncgate): what no mark names is written once more.
        """
        self._path = segment.path
        self._nonce = segment.header.nonce
        self._file = self._files.open(segment.path)
        self._files.rewrite(segment.path, segment.synced)
        self._file.datasync()
        self.offset = file_size

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            DiskFailed: it did not work; what was written of ``data`` is removed if possible, as
                the next start would otherwise have to wonder what was lost there.
        """
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as e:
            try:
                self._file.truncate(self.offset)
            except OSError:
                pass
            raise disk_failed("write", self._path, e) from e
        self.offset += len(data)

    def run(self, steps: Sequence[bytes | Callable[[], None]], sync: bool) -> None:
        """Write bytes and take other steps in order, joining writes; then sync.

        Invariant: nothing is done once something failed; above all nothing is removed, as the
        segment that was to replace it may not be there.

        Raises:
            DiskFailed: it did not work, now or before.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._take(steps)
            if sync:
                self.sync()
        except Exception as e:
            self._failure = e
            raise

    def _take(self, steps: Sequence[bytes | Callable[[], None]]) -> None:
        pieces: list[bytes] = []
        size = 0
        for step in steps:
            if isinstance(step, bytes):
                pieces.append(step)
                size += len(step)
                if size < JOIN_BYTES:
                    continue
            if pieces:
                self.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
                pieces.clear()
                size = 0
            if not isinstance(step, bytes):
                step()
        if pieces:
            self.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def sync(self) -> None:
        """Make everything durable. Raises DiskFailed."""
        assert self._file is not None
        try:
            self._file.datasync()
        except OSError as e:
            raise disk_failed("sync", self._path, e) from e

    def begin(self, segment: Segment) -> None:
        """Seal the file and begin the next one. Raises DiskFailed.

        The mark that says so comes last: no crash leaves it without its successor.
        """
        if self._file is not None:
            self.sync()
        try:
            file = make_segment(self._files, self._directory, segment)
        except OSError as e:
            raise disk_failed("create", segment.path, e) from e
        try:
            if self._file is not None:
                self.seal()
        except DiskFailed:
            file.close()
            raise
        self._path = segment.path
        self._nonce = segment.header.nonce
        self._file = file
        self.offset = file.size()

    def seal(self) -> None:
        """Say that the segment has a successor, and close the file. Raises DiskFailed."""
        self.write(encode_mark(self._nonce, self.offset, self.offset, HAS_SUCCESSOR))
        self.sync()
        self.close()

    def cut(self, size: int) -> None:
        """Remove a torn tail, durably. Raises DiskFailed."""
        assert self._file is not None
        try:
            self._file.truncate(size)
            self._file.datasync()
        except OSError as e:
            raise disk_failed("cut", self._path, e) from e
        self.offset = size

    def close(self) -> None:
        """Close the file; not a sync."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as e:
                raise disk_failed("close", self._path, e) from e
