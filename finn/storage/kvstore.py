"""The log over a key-value database: what bolt and leveldb have in common.

All work is done on the disk thread, in order. What is asked for while a write runs is gathered in
one batch, written atomically when the write before it has ended (group commit).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.errors import Compacted, CorruptLog, DiskFailed, LogError
from finn.interfaces import IDisk, ILogStore
from finn.options import Durability
from finn.raft.entries import Entry
from finn.raft.ready import HardState
from finn.storage.kvengine import FORMAT, Batch, ByteCount, Content, Engine, decode, load, pack_pair

SYNC_INTERVAL = 1.0
"""Seconds between syncs at medium durability: what may be lost on a power cut."""
TRIM = 4096
"""Compacted entries are deleted so many at a time, so that others get the disk in between."""


@implementer(ILogStore)
class KeyValueStore:
    """A log store over an engine.

    Args:
        engine: the database.
        disk: runs all that touches it.
        clock: for the sync once a second, and ``busy_since``.
        durability: what ``sync`` promises.
    """

    def __init__(
        self, engine: Engine, disk: IDisk, clock: IReactorTime, durability: Durability
    ) -> None:
        self.first_index = 1
        self.last_index = 0
        self.state = HardState()
        self.terms: list[tuple[int, int]] = []
        self.configurations: list[Entry] = []
        self.last_time = 0
        self.dropped_tail = False
        self.notice = ""
        self.durable_index = 0
        self.busy_since: float | None = None
        self._engine = engine
        self._disk = disk
        self._clock = clock
        self._high = durability is Durability.HIGH
        self._medium = durability is Durability.MEDIUM
        self._sizes = ByteCount()
        self._pending = Batch()
        self._running: deque[Batch] = deque()
        self._jobs = 0
        self._lowest = 1  # oldest entry that may still be in the database
        self._stored = 0  # newest that was handed to it
        self._mark = 0  # sync mark in the database
        self._timer: IDelayedCall | None = None
        self._failure: DiskFailed | None = None
        self._broken = False  # the same, as the disk thread knows it
        self._closing = False

    @property
    def log_bytes(self) -> int:
        """Bytes of the records held."""
        return self._sizes.bytes

    # -- opening and closing ------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        return self._run(self._open).addCallback(self._opened)

    def _open(self) -> Content:
        self._engine.open()
        try:
            content = load(self._engine)
            if content.fresh:
                self._engine.write(Batch(values={"format": FORMAT}, sync=True))
            if content.hole:
                # A database that is not synced may lose entries before others; load has checked
                # that all up to the sync mark are there.
                self._engine.write(Batch(delete=(content.hole, self._highest()), sync=True))
        except BaseException:
            self._engine.close()
            raise
        return content

    def _highest(self) -> int:
        return max(index for index, _ in self._engine.scan(0))

    def _opened(self, content: Content) -> None:
        self.first_index = content.base + 1
        self.last_index = self.durable_index = self._stored = content.last
        self.state = content.state
        self.terms = content.terms
        self.configurations = content.configurations
        self.last_time = content.last_time
        self._sizes = content.sizes
        self._mark = content.synced
        self._lowest = content.lowest
        if content.hole:
            self.dropped_tail = True
            self.notice = (
                f"{self._engine.path}: entry {content.hole} was never synced and is missing, "
                "dropped what follows it"
            )
        self._trim()

    def close(self) -> Deferred[None]:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pending.sync = True
        self._submit()
        return self._run(self._engine.close).addBoth(self._closed)

    def _closed(self, result: object) -> object:
        return Failure(self._failure) if self._failure is not None else result

    # -- writing ------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        for expected, entry in enumerate(entries, self.last_index + 1):
            assert entry.index == expected, f"entry {entry.index} where {expected} belongs"
        for entry in entries:
            self._pending.puts.append((entry.index, entry.record))
            self._sizes.add(entry.index, entry.size)
        if entries:
            self.last_index = entries[-1].index
            self.last_time = entries[-1].time
            self._kick()

    def sync(self, durable: bool = False) -> Deferred[None]:
        if self._failure is not None:
            return fail(self._failure)
        if durable:
            self._pending.sync = True
        self._kick()
        batch = self._pending
        if batch.empty:
            if not self._running:
                return succeed(None)
            batch = self._running[-1]
        return _wait(batch)

    def truncate_suffix(self, index: int) -> None:
        self._cut(index)
        self._sizes.cut(index)
        self.last_index = min(self.last_index, index - 1)
        self._kick()

    def compact(self, index: int) -> None:
        index = min(index, self.last_index)
        if index >= self.first_index:
            self._pending.values["base"] = pack_pair(index)
            self._sizes.drop(index + 1)
            self.first_index = index + 1
            self._kick()

    def reset(self, index: int, term: int) -> None:
        self._cut(self._lowest)
        self._pending.values["base"] = pack_pair(index)
        self._sizes = ByteCount()
        self.first_index = index + 1
        self.last_index = self._stored = index
        self._lowest = index + 1
        self.durable_index = min(self.durable_index, index)
        self._kick()

    def _cut(self, index: int) -> None:
        """Remove ``index`` and all above from the pending batch and from the database."""
        batch = self._pending
        batch.puts = [put for put in batch.puts if put[0] < index]
        if index <= self._stored:
            first, last = batch.delete or (index, self._stored)
            batch.delete = min(first, index), max(last, self._stored)
            self._stored = index - 1
        for written in self._running:
            written.last = min(written.last, index - 1)
        self.durable_index = min(self.durable_index, index - 1)

    def save_state(self, state: HardState) -> Deferred[None]:
        if self._failure is not None:
            return fail(self._failure)
        self.state = state
        batch = self._pending
        batch.values["state"] = pack_pair(state.term, state.voted_for)
        batch.sync = True
        done = _wait(batch)
        self._kick()
        return done

    def _kick(self) -> None:
        """Write what is pending unless a write is running: its end will."""
        if not self._running:
            self._submit()

    def _submit(self) -> None:
        batch = self._pending
        if batch.empty or self._failure is not None:
            return
        self._pending = Batch()
        batch.sync = batch.sync or self._high
        batch.last = self.last_index
        if self._mark != self.durable_index:
            self._mark = self.durable_index
            batch.values["synced"] = pack_pair(self._mark)
        if batch.puts:
            self._stored = batch.puts[-1][0]
        self._start(batch)

    def _start(self, batch: Batch) -> None:
        self._running.append(batch)
        self._run(self._write, batch).addCallbacks(
            self._written, self._write_failed, callbackArgs=(batch,), errbackArgs=(batch,)
        )

    def _write(self, batch: Batch) -> None:
        self._check_unbroken()
        try:
            self._engine.write(batch)
        except BaseException:
            self._broken = True
            raise

    def _check_unbroken(self) -> None:
        """On the disk thread: a batch written after a lost one would leave a hole."""
        if self._broken:
            raise DiskFailed(f"{self._engine.path}: an earlier write failed")

    def _written(self, result: None, batch: Batch) -> None:
        self._running.popleft()
        if batch.sync:
            self.durable_index = max(self.durable_index, batch.last)
        elif self._medium and self._timer is None and not self._closing:
            self._timer = self._clock.callLater(SYNC_INTERVAL, self._sync_now)
        self._kick()
        for waiting in batch.waiting:
            waiting.callback(None)
        self._trim()

    def _sync_now(self) -> None:
        self._timer = None
        self._pending.sync = True
        self._kick()

    def _trim(self) -> None:
        """Delete some compacted entries, when there is nothing better to do."""
        busy = self._running or self._closing or self._failure is not None
        if busy or self._lowest >= self.first_index:
            return
        first, self._lowest = self._lowest, min(self._lowest + TRIM, self.first_index)
        self._start(Batch(delete=(first, self._lowest - 1)))

    def _write_failed(self, failure: Failure, batch: Batch) -> None:
        self._running.popleft()
        self._give_up(batch, self._failed(failure))

    def _failed(self, failure: Failure) -> DiskFailed:
        """The disk failed: all that waits fails, and all that will be asked."""
        if self._failure is None:
            error = failure.value
            if not isinstance(error, DiskFailed):
                error = DiskFailed(f"{self._engine.path}: {error}")
            self._failure = error
        batch, self._pending = self._pending, Batch()
        self._give_up(batch, self._failure)
        return self._failure

    @staticmethod
    def _give_up(batch: Batch, error: DiskFailed) -> None:
        waiting, batch.waiting = batch.waiting, []
        for deferred in waiting:
            deferred.errback(Failure(error))

    # -- reading ------------------------------------------------------------------------------

    def read(self, first: int, max_bytes: int) -> Deferred[list[Entry]]:
        if self._failure is not None:
            return fail(self._failure)
        if first < self.first_index:
            return fail(Compacted(f"entry {first} is gone, the log begins at {self.first_index}"))
        if first > self.last_index:
            return fail(LogError(f"entry {first} is not in the log, it ends at {self.last_index}"))
        self._submit()  # what was appended is read, too
        reading = self._run(self._read, first, self.last_index, max_bytes)
        return reading.addErrback(self._read_failed)

    def _read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        self._check_unbroken()
        found: list[Entry] = []
        size = 0
        with closing(self._engine.scan(first)) as entries:
            for expected, (index, record) in zip(range(first, last + 1), entries, strict=False):
                size += len(record)
                if found and size > max_bytes:
                    break
                if index != expected:
                    raise CorruptLog(self._engine.path, 0, f"entry {expected} is missing")
                found.append(decode(self._engine, index, record))
        if not found:
            raise CorruptLog(self._engine.path, 0, f"entry {first} is missing")
        return found

    def _read_failed(self, failure: Failure) -> Failure:
        if failure.check(DiskFailed):
            self._failed(failure)
        return failure

    def shrink(self) -> Deferred[None]:
        if self._failure is not None:
            return fail(self._failure)
        self._submit()
        return self._run(self._engine.shrink, self.first_index).addErrback(self._read_failed)

    # -- the disk -----------------------------------------------------------------------------

    def _run(self, function: Any, *args: Any) -> Deferred[Any]:
        self._jobs += 1
        if self._jobs == 1:
            self.busy_since = self._clock.seconds()
        return self._disk.run(function, *args).addBoth(self._ran)

    def _ran(self, result: object) -> object:
        self._jobs -= 1
        self.busy_since = self._clock.seconds() if self._jobs else None
        return result


def _wait(batch: Batch) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    batch.waiting.append(done)
    return done
