"""Snapshots on the disk: ``snapshots/<term>-<index>-<ms>/`` with ``meta.json`` and ``state.bin``.

A snapshot is written into ``<id>.tmp``; once its files and the directory are synced, a rename makes
it one. A bad one is renamed to ``<id>.bad`` and kept for whoever wants to look at it.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.errors import DataDirectoryError, LogError
from finn.interfaces import IDisk, IFile, IFiles, ISnapshotSource, ISnapshotStore, SnapshotMeta
from finn.storage.memsnapshots import MemorySnapshotStore
from finn.storage.meta import META_NAME, STATE_NAME, decode_meta
from finn.storage.restore import SnapshotReader, open_reader
from finn.storage.segment import TEMPORARY, disk_failed
from finn.storage.sink import SnapshotSink

__all__ = [
    "MemorySnapshotStore",
    "SnapshotReader",
    "SnapshotSource",
    "SnapshotStore",
    "open_reader",
    "wall_ms",
]

SNAPSHOTS_NAME = "snapshots"
BAD = ".bad"
KEPT = 2
# Bytes checked in one job of the disk thread, which others are waiting for.
CHECK_BYTES = 4 * 1024 * 1024

# What reading says of bytes that are lost, and not of too many open files, say.
_ROTTEN = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)
_ID = re.compile(r"[0-9]+-[0-9]+-[0-9]+")


def wall_ms() -> int:
    """Return the wall clock in milliseconds."""
    return int(time.time() * 1000)


@implementer(ISnapshotStore)
class SnapshotStore:
    """``ISnapshotStore`` in a data directory.

    Args:
        files: the file system.
        disk: where everything that blocks runs.
        directory: data directory of the node.
        now_ms: wall clock, for the names.

    Attributes:
        notices: what ``open`` had to set aside, lines for the log.
    """

    def __init__(
        self,
        files: IFiles,
        disk: IDisk,
        directory: str,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        self.snapshots: list[SnapshotMeta] = []
        self.notices: list[str] = []
        self._files = files
        self._disk = disk
        self._directory = os.path.join(directory, SNAPSHOTS_NAME)
        self._now_ms = now_ms
        self._last_ms = 0
        self._pins: dict[str, int] = {}
        self._doomed: list[SnapshotMeta] = []
        self._latest: SnapshotMeta | None = None

    # -- opening ------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._open()).addErrback(self._not_opened)

    async def _open(self) -> None:
        found: list[SnapshotMeta] = await self._disk.run(self._list)
        found.sort(key=snapshot_order)
        # The older ones are checked when they are needed: each is read through for it.
        while found:
            reason = await self._check(found[-1])
            if not reason:
                break
            meta = found.pop()
            self.notices.append(await self._disk.run(self._set_aside, meta.id, reason))
        self.snapshots = found
        if found:
            self._last_ms = max(int(meta.id.rpartition("-")[2]) for meta in found)
        await self._prune()

    def _not_opened(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, OSError):
            path = error.filename or self._directory
            return Failure(DataDirectoryError(f"cannot use {path}: {error.strerror or error}"))
        return failure

    def _list(self) -> list[SnapshotMeta]:
        self._files.makedirs(self._directory)
        found = []
        for name in self._files.listdir(self._directory):
            path = os.path.join(self._directory, name)
            if name.endswith(TEMPORARY):
                self._files.rmtree(path)
            elif _ID.fullmatch(name):
                try:
                    found.append(decode_meta(self._files.read(os.path.join(path, META_NAME)), name))
                except (LogError, FileNotFoundError) as e:
                    self.notices.append(self._set_aside(name, str(e)))
        return found

    async def _check(self, meta: SnapshotMeta) -> str:
        """Return what is wrong with a snapshot, empty when nothing is."""
        try:
            file: IFile = await self._disk.run(self._files.open_readonly, self._path(meta))
        except FileNotFoundError:
            return "its state is missing"
        try:
            size: int = await self._disk.run(file.size)
            if size != meta.size:
                return f"it has {size} bytes instead of {meta.size}"
            crc = 0
            for offset in range(0, size, CHECK_BYTES):
                crc = await self._disk.run(_add_crc, file, offset, crc)
            return "" if crc == meta.crc else "its checksum is wrong"
        finally:
            # Not awaited: a coroutine that is dropped in the middle must not wait any more.
            self._disk.run(file.close).addErrback(lambda _: None)

    def _set_aside(self, name: str, reason: str) -> str:
        path = os.path.join(self._directory, name)
        for other in self._files.listdir(self._directory):
            if other.endswith(BAD):
                self._files.rmtree(os.path.join(self._directory, other))
        self._files.rename(path, path + BAD)
        self._files.sync_directory(self._directory)
        return f"{path} is set aside as {name + BAD}: {reason}"

    # -- snapshots ----------------------------------------------------------------------------

    def create(self, meta: SnapshotMeta) -> SnapshotSink:
        # Names are never used twice, so that a pin means one snapshot for ever.
        self._last_ms = max(self._now_ms(), self._last_ms + 1)
        meta.id = f"{meta.term}-{meta.index}-{self._last_ms}"
        return SnapshotSink(self._files, self._disk, self._directory, meta, self._complete)

    def _complete(self, meta: SnapshotMeta) -> Deferred[None]:
        self.snapshots.append(meta)
        self.snapshots.sort(key=snapshot_order)
        self._latest = meta
        return Deferred.fromCoroutine(self._prune())

    def discard(self, metas: list[SnapshotMeta]) -> Deferred[None]:
        gone = {meta.id for meta in metas}
        self.snapshots = [meta for meta in self.snapshots if meta.id not in gone]
        self._doomed = [meta for meta in self._doomed if meta.id not in gone]
        return Deferred.fromCoroutine(self._remove_all(metas))

    def check(self, meta: SnapshotMeta) -> Deferred[str]:
        return Deferred.fromCoroutine(self._look(meta))

    async def _look(self, meta: SnapshotMeta) -> str:
        try:
            return await self._check(meta)
        except OSError as e:
            if e.errno not in _ROTTEN:
                raise
            return f"it cannot be read: {e.strerror}"

    def set_aside(self, meta: SnapshotMeta, reason: str) -> Deferred[str]:
        self.snapshots = [m for m in self.snapshots if m.id != meta.id]

        def failed(failure: Failure) -> Failure:
            error = failure.value
            if isinstance(error, OSError):
                return Failure(disk_failed("rename", os.path.dirname(self._path(meta)), error))
            return failure

        done: Deferred[str] = self._disk.run(self._set_aside, meta.id, reason)
        return done.addErrback(failed)

    def source(self, meta: SnapshotMeta) -> Deferred[ISnapshotSource]:
        self._pins[meta.id] = self._pins.get(meta.id, 0) + 1
        opened: Deferred[Any] = self._disk.run(self._files.open_readonly, self._path(meta))
        opened.addCallbacks(
            lambda file: SnapshotSource(self, self._files, self._disk, meta, file),
            self._not_sourced,
            errbackArgs=(meta,),
        )
        # A Deferred of its own: one that is cancelled does not keep the disk from opening the file.
        wanted: Deferred[ISnapshotSource] = Deferred()

        def hand_over(source: Any) -> None:
            if not wanted.called:
                wanted.callback(source)
            elif not isinstance(source, Failure):
                source.close().addErrback(lambda _: None)

        opened.addBoth(hand_over)
        return wanted

    def _not_sourced(self, failure: Failure, meta: SnapshotMeta) -> Failure:
        self._unpin(meta)
        error = failure.value
        if isinstance(error, FileNotFoundError):
            return Failure(LogError(f"snapshot {meta.id} is gone"))
        if isinstance(error, OSError):
            return Failure(disk_failed("read", self._path(meta), error))
        return failure

    def _unpin(self, meta: SnapshotMeta) -> None:
        count = self._pins[meta.id] - 1
        if count:
            self._pins[meta.id] = count
        else:
            del self._pins[meta.id]

    def released(self, meta: SnapshotMeta) -> Deferred[None]:
        """A source was closed: what it kept alive may go."""
        self._unpin(meta)
        return Deferred.fromCoroutine(self._prune())

    async def _prune(self) -> None:
        """Remove what is neither among the newest nor pinned."""
        while len(self.snapshots) > KEPT:
            # One received for reinstalling may be the oldest by its index: it is about to be used.
            at = 1 if self.snapshots[0] is self._latest else 0
            self._doomed.append(self.snapshots.pop(at))
        free = [meta for meta in self._doomed if meta.id not in self._pins]
        self._doomed = [meta for meta in self._doomed if meta.id in self._pins]
        await self._remove_all(free)

    async def _remove_all(self, metas: list[SnapshotMeta]) -> None:
        for meta in metas:
            try:
                await self._disk.run(self._remove, meta.id)
            except OSError as e:
                raise disk_failed("remove", self._path(meta), e) from e

    def _remove(self, name: str) -> None:
        # A crash in the middle of the removal must not leave something that looks like one.
        path = os.path.join(self._directory, name)
        self._files.rename(path, path + TEMPORARY)
        self._files.sync_directory(self._directory)
        self._files.rmtree(path + TEMPORARY)

    def _path(self, meta: SnapshotMeta) -> str:
        return os.path.join(self._directory, meta.id, STATE_NAME)


def snapshot_order(meta: SnapshotMeta) -> tuple[int, int, int]:
    """Sort key: by index, then by age."""
    return meta.index, meta.term, int(meta.id.rpartition("-")[2])


def _add_crc(file: IFile, offset: int, crc: int) -> int:
    return crc32(file.pread(CHECK_BYTES, offset), crc)


@implementer(ISnapshotSource)
class SnapshotSource:
    """A snapshot that is being read."""

    def __init__(
        self, store: SnapshotStore, files: IFiles, disk: IDisk, meta: SnapshotMeta, file: IFile
    ) -> None:
        self.meta = meta
        self._store = store
        self._files = files
        self._disk = disk
        self._file: IFile | None = file

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        assert self._file is not None, "the source is closed"
        done: Deferred[bytes] = self._disk.run(self._file.pread, size, offset)
        return done.addErrback(self._not_read)

    def _not_read(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, OSError):
            return Failure(disk_failed("read", f"snapshot {self.meta.id}", error))
        return failure

    def read_now(self, offset: int, size: int) -> bytes:
        """Read in the caller's thread."""
        path = self._store._path(self.meta)
        try:
            file = self._files.open_readonly(path)
            try:
                return file.pread(size, offset)
            finally:
                file.close()
        except OSError as e:
            raise disk_failed("read", path, e) from e

    def close(self) -> Deferred[None]:
        file, self._file = self._file, None
        if file is None:
            return succeed(None)
        done: Deferred[Any] = self._disk.run(file.close)
        return done.addBoth(lambda _: self._store.released(self.meta))
