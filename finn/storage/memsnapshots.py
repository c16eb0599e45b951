"""Snapshots in memory, for the backend that keeps nothing on the disk."""

from __future__ import annotations

from zlib import crc32

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from finn.errors import LogError
from finn.interfaces import ISnapshotSink, ISnapshotSource, ISnapshotStore, SnapshotMeta

KEPT = 2


@implementer(ISnapshotStore)
class MemorySnapshotStore:
    """``ISnapshotStore`` in memory; what a source holds stays alive by itself.

    Attributes:
        notices: always empty.
    """

    def __init__(self) -> None:
        self.snapshots: list[SnapshotMeta] = []
        self.notices: list[str] = []
        self._states: dict[str, bytes] = {}
        self._number = 0

    def open(self) -> Deferred[None]:
        return succeed(None)

    def create(self, meta: SnapshotMeta) -> MemorySink:
        self._number += 1
        meta.id = f"{meta.term}-{meta.index}-{self._number}"
        return MemorySink(self, meta)

    def complete(self, meta: SnapshotMeta, state: bytes) -> None:
        """A sink is finished."""
        self._states[meta.id] = state
        self.snapshots.append(meta)
        self.snapshots.sort(key=lambda m: (m.index, m.term, int(m.id.rpartition("-")[2])))
        while len(self.snapshots) > KEPT:
            at = 1 if self.snapshots[0] is meta else 0
            del self._states[self.snapshots.pop(at).id]

    def discard(self, metas: list[SnapshotMeta]) -> Deferred[None]:
        for meta in metas:
            if self._states.pop(meta.id, None) is not None:
                self.snapshots.remove(meta)
        return succeed(None)

    def check(self, meta: SnapshotMeta) -> Deferred[str]:
        return succeed("" if meta.id in self._states else "it is gone")

    def set_aside(self, meta: SnapshotMeta, reason: str) -> Deferred[str]:
        done = self.discard([meta])
        return done.addCallback(lambda _: f"snapshot {meta.id} is thrown away: {reason}")

    def source(self, meta: SnapshotMeta) -> Deferred[ISnapshotSource]:
        state = self._states.get(meta.id)
        if state is None:
            return fail(LogError(f"snapshot {meta.id} is gone"))
        return succeed(MemorySource(meta, state))


@implementer(ISnapshotSink)
class MemorySink:
    """A snapshot being written into memory."""

    def __init__(self, store: MemorySnapshotStore, meta: SnapshotMeta) -> None:
        self.pending = 0
        self.received = 0
        self._store = store
        self._meta = meta
        self._pieces: list[bytes] = []
        self._ended = False

    def write(self, data: bytes) -> None:
        assert not self._ended, "the sink is finished"
        self._pieces.append(bytes(data))
        self.received += len(data)

    def flushed(self) -> Deferred[None]:
        return succeed(None)

    def finish(self) -> Deferred[SnapshotMeta]:
        if self._ended:
            return fail(LogError("the snapshot was finished or aborted before"))
        self._ended = True
        state = b"".join(self._pieces)
        self._pieces.clear()
        meta = self._meta
        crc = crc32(state)
        if meta.size or meta.crc:
            if len(state) != meta.size:
                return fail(LogError(f"snapshot has {len(state)} bytes instead of {meta.size}"))
            if crc != meta.crc:
                return fail(LogError("the snapshot's checksum is wrong"))
        meta.size, meta.crc = len(state), crc
        self._store.complete(meta, state)
        return succeed(meta)

    def abort(self) -> Deferred[None]:
        if self._ended:
            return fail(LogError("the snapshot was finished or aborted before"))
        self._ended = True
        self._pieces.clear()
        return succeed(None)


@implementer(ISnapshotSource)
class MemorySource:
    """A snapshot being read from memory."""

    def __init__(self, meta: SnapshotMeta, state: bytes) -> None:
        self.meta = meta
        self._state = state

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        return succeed(self._state[offset : offset + size])

    def read_now(self, offset: int, size: int) -> bytes:
        """Read in the caller's thread."""
        return self._state[offset : offset + size]

    def close(self) -> Deferred[None]:
        return succeed(None)
