"""Writing a snapshot aside."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.errors import DiskFailed, LogError
from finn.interfaces import IDisk, IFile, IFiles, ISnapshotSink, SnapshotMeta
from finn.storage.meta import META_NAME, STATE_NAME, encode_meta
from finn.storage.segment import TEMPORARY, disk_failed

# Small writes are joined up to this.
BUFFER_BYTES = 256 * 1024
# Synced in steps of this, so that no sync is long: the log waits for the same disk.
SYNC_BYTES = 8 * 1024 * 1024


@implementer(ISnapshotSink)
class SnapshotSink:
    """A snapshot on its way to the disk.

    Args:
        files: the file system.
        disk: where it is written.
        directory: of all snapshots.
        meta: with size and CRC when they are known beforehand.
        complete: called with ``meta`` when the snapshot is there for good.
    """

    def __init__(
        self,
        files: IFiles,
        disk: IDisk,
        directory: str,
        meta: SnapshotMeta,
        complete: Callable[[SnapshotMeta], Deferred[None]],
    ) -> None:
        self.pending = 0
        self.received = 0
        self._files = files
        self._disk = disk
        self._directory = directory
        self._path = os.path.join(directory, meta.id)
        self._aside = self._path + TEMPORARY
        self._meta = meta
        self._complete = complete
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._ended = False
        self._error: DiskFailed | None = None
        # Of the disk thread.
        self._file: IFile | None = None
        self._size = 0
        self._crc = 0
        self._unsynced = 0

    def write(self, data: bytes) -> None:
        assert not self._ended, "the sink is finished"
        self.received += len(data)
        self.pending += len(data)
        self._buffer.append(bytes(data))
        self._buffered += len(data)
        if self._buffered >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        if self._error is not None:
            self.pending -= len(data)
            return
        done: Deferred[Any] = self._disk.run(self._write, data)
        done.addErrback(self._failed)
        done.addCallback(self._written, len(data))

    def _written(self, _: object, size: int) -> None:
        self.pending -= size

    def _failed(self, failure: Failure) -> None:
        if self._error is None:
            error = failure.value
            if isinstance(error, OSError):
                error = disk_failed("write", self._aside, error)
            elif not isinstance(error, DiskFailed):
                error = DiskFailed(f"cannot write {self._aside}: {failure.getErrorMessage()}")
            self._error = error

    def flushed(self) -> Deferred[None]:
        self._flush()
        done: Deferred[None] = self._disk.run(lambda: None)
        return done.addCallback(self._report)

    def _report(self, _: object) -> None:
        if self._error is not None:
            raise self._error

    def finish(self) -> Deferred[SnapshotMeta]:
        if self._ended:
            return fail(LogError("the snapshot was finished or aborted before"))
        self._flush()
        self._ended = True
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> SnapshotMeta:
        try:
            await self._disk.run(self._seal)
        except LogError:
            await self._clean()
            raise
        except Exception:
            self._failed(Failure())
            await self._clean()
            assert self._error is not None
            raise self._error from None
        await self._complete(self._meta)
        return self._meta

    def abort(self) -> Deferred[None]:
        if self._ended:
            return fail(LogError("the snapshot was finished or aborted before"))
        self._ended = True
        self._buffer.clear()
        return Deferred.fromCoroutine(self._clean())

    async def _clean(self) -> None:
        # What cannot be removed now is removed at the next start.
        try:
            await self._disk.run(self._remove)
        except OSError:
            pass

    # -- on the disk thread -------------------------------------------------------------------

    def _open(self) -> IFile:
        if self._file is None:
            self._files.makedirs(self._aside)
            self._file = self._files.create(os.path.join(self._aside, STATE_NAME))
        return self._file

    def _write(self, data: bytes) -> None:
        if self._error is not None:
            return
        file = self._open()
        file.write(data)
        self._crc = crc32(data, self._crc)
        self._size += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            file.datasync()
            self._unsynced = 0

    def _seal(self) -> None:
        if self._error is not None:
            raise self._error
        file = self._open()
        file.datasync()
        self._close()
        meta = self._meta
        if meta.size or meta.crc:
            if self._size != meta.size:
                raise LogError(f"snapshot has {self._size} bytes instead of {meta.size}")
            if self._crc != meta.crc:
                raise LogError("the snapshot's checksum is wrong")
        meta.size, meta.crc = self._size, self._crc
        file = self._files.create(os.path.join(self._aside, META_NAME))
        try:
            file.write(encode_meta(meta))
            file.datasync()
        finally:
            file.close()
        self._files.sync_directory(self._aside)
        self._files.rename(self._aside, self._path)
        self._files.sync_directory(self._directory)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _remove(self) -> None:
        self._close()
        if self._files.exists(self._aside):
            self._files.rmtree(self._aside)
