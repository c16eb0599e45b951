"""Group commit: a log's changes on their way to the disk, in order, and those who wait for them.

At low and medium a small write is made at once, unless something of the log is under way on the
disk thread. Otherwise, and always at high, changes queue up while one job runs, and the next job
makes all of them with one write and, at high, one sync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from finn.errors import DiskFailed
from finn.interfaces import IDisk
from finn.options import Durability
from finn.storage.tail import TailWriter

# A write() of this size into the page cache takes some 50 us.
INLINE_BYTES = 256 * 1024
# What a power loss may cost at medium, in seconds.
SYNC_INTERVAL = 1.0

_T = TypeVar("_T")
_Waiters = deque[tuple[int, "Deferred[None]"]]


class GroupCommit:
    """The queue in front of a ``TailWriter``, used in the reactor.

    Every change has a number; a waiter waits for the number of the last change before it.

    Args:
        tail: does the work; it belongs to the disk thread while a job runs, else to the reactor.
        disk: the disk thread.
        clock: for the sync of durability medium and for ``busy_since``.
        durability: what ``wait`` waits for.
        on_synced: called with the ``position`` up to which everything is durable.

    Attributes:
        position: where the last change ends, in the owner's terms; set it when the log is opened,
            and before each change.
        last_index: last entry of the log when the changes are made; set it before each change.
        written_index: last entry that can be read from the files.
        durable_index: last entry that survives a power loss.
        failed: the first error; there is no second one, as nothing is tried after it.
    """

    def __init__(
        self,
        tail: TailWriter,
        disk: IDisk,
        clock: IReactorTime,
        durability: Durability,
        on_synced: Callable[[Any], None],
    ) -> None:
        self.position: Any = None
        self.last_index = 0
        self.written_index = 0
        self.durable_index = 0
        self.failed: DiskFailed | None = None
        self._tail = tail
        self._disk = disk
        self._clock = clock
        self._direct = durability < Durability.HIGH
        self._periodic = durability is Durability.MEDIUM
        self._on_synced = on_synced
        self._queue: list[bytes | Callable[[], None]] = []
        self._running = False
        self._sync_wanted = False
        # Numbers of the last change made known, written, durable.
        self._change = 0
        self._written = 0
        self._synced = 0
        # last_index of the running job; a truncation lowers it.
        self._covered_index = 0
        self._write_waiters: _Waiters = deque()
        self._sync_waiters: _Waiters = deque()
        self._timer: IDelayedCall | None = None
        self._started: deque[float] = deque()

    # -- changes ------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Append bytes, now or later."""
        self._change += 1
        if self.failed is not None:
            return
        if self._direct and not self._running and not self._queue and len(data) <= INLINE_BYTES:
            try:
                self._tail.write(data)
            except DiskFailed as e:
                self.fail(e)
                return
            self._written = self._change
            self.written_index = self.last_index
        else:
            self._queue.append(data)
            if not self._running:
                self.start()
        if self._timer is None and self._periodic:
            self._timer = self._clock.callLater(SYNC_INTERVAL, self._sync_due)

    def add(self, step: Callable[[], None]) -> None:
        """Queue something that blocks; ``start`` must follow."""
        self._change += 1
        self._queue.append(step)

    def add_behind(self, step: Callable[[], None]) -> None:
        """Run something that blocks behind all changes so far; those that follow need not wait.

        It is not run where one of those failed, even if that is not known here yet.
        """
        if self._queue:
            self.add(step)
            self.start()
        elif self.failed is None:
            self.submit(self._tail.run, [step], False).addErrback(self._broke)

    def lower(self, index: int) -> None:
        """Entries above ``index`` are truncated: what is under way does not cover them any more."""
        self.last_index = index
        self.written_index = min(self.written_index, index)
        self.durable_index = min(self.durable_index, index)
        self._covered_index = min(self._covered_index, index)

    def rebase(self, index: int) -> None:
        """The log is empty above ``index``, and below it nothing is left to be written."""
        self.last_index = self.written_index = self.durable_index = self._covered_index = index

    # -- waiting ------------------------------------------------------------------------------

    def wait_written(self) -> Deferred[None]:
        """Fires when all changes so far have been made."""
        return self._wait(self._write_waiters, self._written)

    def wait(self) -> Deferred[None]:
        """Fires when all changes so far are as durable as the level says."""
        if self._direct:
            return self._wait(self._write_waiters, self._written)
        return self._wait(self._sync_waiters, self._synced)

    def finish(self) -> Deferred[None]:
        """The last sync, whatever the level; no change may follow."""
        self._stop_timer()
        return self.wait_durable()

    def wait_durable(self) -> Deferred[None]:
        """Sync now, whatever the level; fires when all changes so far are durable."""
        self._sync_wanted = self._synced < self._change
        done = self._wait(self._sync_waiters, self._synced)
        self.start()
        return done

    def _wait(self, waiters: _Waiters, reached: int) -> Deferred[None]:
        if self.failed is not None:
            return fail(self.failed)
        if reached >= self._change:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        waiters.append((self._change, waiter))
        return waiter

    # -- work ---------------------------------------------------------------------------------

    @property
    def busy_since(self) -> float | None:
        """When the oldest operation began that is still under way."""
        return self._started[0] if self._started else None

    def submit(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Run something on the disk thread, apart from the queue."""
        self._started.append(self._clock.seconds())
        return self._disk.run(function, *args).addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        # The disk works in order: it is always the oldest that ends.
        self._started.popleft()
        return result

    def start(self) -> None:
        """Give the disk all that is queued, unless a job runs: it will be the next one."""
        if self._running or self.failed is not None or not (self._queue or self._sync_wanted):
            return
        steps, self._queue = self._queue, []
        sync = self._sync_wanted or not self._direct
        self._sync_wanted = False
        self._running = True
        self._covered_index = self.last_index
        self.submit(self._tail.run, steps, sync).addCallbacks(
            self._ran, self._broke, callbackArgs=(self._change, self.position, sync)
        )

    def _ran(self, _: object, change: int, position: Any, sync: bool) -> None:
        self._running = False
        self._written = change
        self.written_index = self._covered_index
        if sync:
            self._synced = change
            self.durable_index = self._covered_index
            self._on_synced(position)
        self._fire(self._write_waiters, self._written)
        self._fire(self._sync_waiters, self._synced)
        self.start()

    def _fire(self, waiters: _Waiters, reached: int) -> None:
        # Those who are called may wait anew.
        ready = []
        while waiters and waiters[0][0] <= reached:
            ready.append(waiters.popleft()[1])
        for waiter in ready:
            waiter.callback(None)

    def _sync_due(self) -> None:
        self._timer = None
        if self._synced < self._change:
            self._sync_wanted = True
            self.start()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _broke(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, DiskFailed):
            error = DiskFailed(f"cannot write the log: {failure.getErrorMessage()}")
        self._running = False
        self.fail(error)

    def fail(self, error: DiskFailed) -> None:
        """Fail for ever: all who wait and all who will."""
        if self.failed is None:
            self.failed = error
        self._queue.clear()
        self._stop_timer()
        waiting = [*self._write_waiters, *self._sync_waiters]
        self._write_waiters.clear()
        self._sync_waiters.clear()
        for _, waiter in waiting:
            waiter.errback(self.failed)
