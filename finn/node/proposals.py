"""Proposals: gathers the commands of one reactor turn into entries and keeps who waits for them.

Queued batches were not appended: they can be withdrawn and are then certainly not applied. After
``Raft.propose`` a batch is in flight: from there on its outcome is applied or unknown (DESIGN P2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from finn.errors import DeadlinePassed, NotApplied, OutcomeUnknown, Overloaded
from finn.node.runs import Placed, fail_each

if TYPE_CHECKING:
    from finn.node.runs import Run
    from finn.raft.core import Raft
    from finn.raft.entries import Entry

# An entry is closed at this size: bigger ones delay heartbeats and cost memory in one piece.
MAX_BATCH_BYTES = 1024 * 1024
# Bytes queued or in flight beyond which clients are no longer read: a follower's window and then
# some; more would only add latency.
MAX_PENDING_BYTES = 32 * 1024 * 1024


class Batch:
    """Commands that become one entry, with the runs that wait for them."""

    __slots__ = ("runs", "chunks", "count", "bytes", "index", "term", "created")

    def __init__(self, created: float) -> None:
        self.runs: list[Run | Placed] = []
        self.chunks: list[bytes] = []
        self.count = 0
        self.bytes = 0
        self.index = 0
        self.term = 0
        self.created = created

    def fail(self, error: BaseException) -> None:
        """End every run with an error; the entry may still be applied."""
        fail_each(self.runs, error)

    def end(self, error: BaseException) -> None:
        """End every run with an error; nothing is done for this batch any more."""
        self.fail(error)
        for run in self.runs:
            run.drop()


class Proposals:
    """The batches of this node, from the first byte to the applied entry."""

    def __init__(self) -> None:
        self._queue: deque[Batch] = deque()
        self._in_flight: dict[int, Batch] = {}
        self._round = 0
        self.pending_bytes = 0

    @property
    def queued(self) -> bool:
        """Whether something waits to be appended."""
        return bool(self._queue)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for anything."""
        return not self._queue and not self._in_flight

    @property
    def full(self) -> bool:
        """Whether clients should not be read for now."""
        return self.pending_bytes >= MAX_PENDING_BYTES

    @property
    def has_room(self) -> bool:
        """Whether paused clients may be read again: half of the bound is free."""
        return self.pending_bytes < MAX_PENDING_BYTES // 2

    def add(self, run: Run, payload: bytes, count: int, now: float) -> None:
        """Queue a run; ``payload`` is the RESP encoding of its ``count`` commands."""
        size = len(payload)
        if self._queue and self._queue[-1].bytes + size <= MAX_BATCH_BYTES:
            batch = self._queue[-1]
        else:
            batch = Batch(now)
            self._queue.append(batch)
        run.round = self._round
        batch.runs.append(run)
        batch.chunks.append(payload)
        batch.count += count
        batch.bytes += size
        self.pending_bytes += size

    def follows(self, read: Run) -> bool:
        """Whether a read has its place in the queue: what is added now comes behind it."""
        return read.round == self._round and bool(self._queue)

    def place(
        self,
        before: Run,
        read: Run,
        serve: Callable[[Run], None],
        fail: Callable[[Run, BaseException], None],
    ) -> bool:
        """Put a read right behind a run that is still queued; False when it is not any more."""
        if before.round != self._round or not self._queue:
            return False
        read.round = self._round
        batch = self._queue[-1]
        batch.runs.append(Placed(read, serve, fail))
        batch.chunks.append(b"")
        return True

    def submit(self, raft: Raft, wall_ms: int, now: float) -> None:
        """Append what is queued. What the core cannot take now stays queued."""
        queue = self._queue
        self._round += 1
        while queue:
            batch = queue[0]
            try:
                entry = raft.propose(batch.chunks, batch.count, wall_ms, now)
            except Overloaded:
                return
            except NotApplied as e:
                self.withdraw(e)
                return
            queue.popleft()
            batch.chunks = []  # the entry has the bytes
            batch.index, batch.term = entry.index, entry.term
            self._in_flight[entry.index] = batch

    def wait_for(self, entry: Entry, run: Run, now: float) -> None:
        """Note a run that waits for an entry which is in the log already (a configuration)."""
        batch = Batch(now)
        batch.runs.append(run)
        batch.index, batch.term = entry.index, entry.term
        self._in_flight[entry.index] = batch

    def take(self, entry: Entry) -> Batch | None:
        """Return the batch that became ``entry``, which is being applied, or None."""
        batch = self._in_flight.pop(entry.index, None)
        if batch is None:
            return None
        self.pending_bytes -= batch.bytes
        if batch.term != entry.term:
            batch.end(OutcomeUnknown())
            return None
        return batch

    def withdraw_run(self, run: Run) -> bool:
        """Take back one run.

        Returns:
            Whether it was still queued, and so is certainly not applied.
        """
        for batch in self._queue:
            if run in batch.runs:
                at = batch.runs.index(run)
                size = len(batch.chunks.pop(at))
                del batch.runs[at]
                batch.count -= len(run.commands)
                batch.bytes -= size
                self.pending_bytes -= size
                return True
        return False

    def withdraw(self, error: NotApplied) -> None:
        """Fail what was not appended: certainly not applied."""
        queue, self._queue = self._queue, deque()
        for batch in queue:
            self.pending_bytes -= batch.bytes
            batch.end(error)

    def forget(self, error: OutcomeUnknown, above: int = 0) -> None:
        """Fail what is in flight as unknown: leadership, the disk or the node is lost.

        Args:
            above: entries up to here are committed and will be applied: they keep their runs.
        """
        in_flight, self._in_flight = self._in_flight, {}
        for index, batch in in_flight.items():
            if index <= above:
                self._in_flight[index] = batch
            else:
                self.pending_bytes -= batch.bytes
                batch.end(error)

    def overtaken(self, index: int) -> None:
        """A snapshot took the place of the entries up to ``index``: nobody sees their results."""
        for at in [i for i in self._in_flight if i <= index]:
            batch = self._in_flight.pop(at)
            self.pending_bytes -= batch.bytes
            batch.end(OutcomeUnknown("a snapshot of the leader came in between"))

    def expire(self, before: float) -> None:
        """Fail what was created before a time; entries in flight are still applied later."""
        while self._queue and self._queue[0].created < before:
            batch = self._queue.popleft()
            self.pending_bytes -= batch.bytes
            batch.end(DeadlinePassed())
        for batch in list(self._in_flight.values()):  # who waits for a run may add one
            if batch.created >= before:
                break  # dicts keep the order of the log
            batch.fail(OutcomeUnknown("request timed out after it was appended"))
