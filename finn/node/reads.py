"""Reads that have to wait: for writes before them, for a quorum round, for the apply loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import CommandError, DeadlinePassed, NotApplied, Overloaded
from finn.node.runs import fail_each

if TYPE_CHECKING:
    from finn.node.runs import Run
    from finn.raft.core import Raft

# Runs of reads that may wait at once; beyond it they are refused.
MAX_WAITING_READS = 100_000


class ReadBatch:
    """Reads that share one quorum round (ReadIndex, thesis 6.4), or wait for one index."""

    __slots__ = ("runs", "index", "created", "go")

    def __init__(self, created: float, go: Callable[[Run], None]) -> None:
        self.runs: list[Run] = []
        self.index = 0
        self.created = created
        self.go = go


class Reads:
    """The waiting reads of a node.

    Args:
        serve: runs a read, now that it may be served.
    """

    log: ClassVar[Logger] = Logger(namespace="finn.node")

    def __init__(self, serve: Callable[[Run], None]) -> None:
        self._serve = serve
        self._asking: ReadBatch | None = None  # collected in this turn
        self._confirming: dict[int, ReadBatch] = {}  # by id, oldest first
        self._applying: deque[ReadBatch] = deque()  # confirmed, by rising index
        self._ids = 0
        self.count = 0

    @property
    def asked(self) -> bool:
        """Whether reads wait to be put to the core."""
        return self._asking is not None

    def confirm(self, run: Run, now: float) -> None:
        """A read at ``high``: serve it after a quorum round that begins after this call."""
        if self.count >= MAX_WAITING_READS:
            run.fail(Overloaded())
            return
        if self._asking is None:
            self._asking = ReadBatch(now, self._serve)
        self._asking.runs.append(run)
        self.count += 1

    def after(self, index: int, run: Run, now: float, go: Callable[[Run], None]) -> None:
        """Call ``go`` with a read once ``index`` is applied."""
        batch = ReadBatch(now, go)
        batch.runs.append(run)
        batch.index = index
        self.count += 1
        self._wait(batch)

    def _wait(self, batch: ReadBatch) -> None:
        applying = self._applying
        if applying and applying[-1].index > batch.index:
            self._applying = deque(sorted([*applying, batch], key=lambda b: b.index))
        else:
            applying.append(batch)

    def submit(self, raft: Raft, now: float) -> None:
        """Put the reads of this turn to the core, as one request."""
        batch, self._asking = self._asking, None
        if batch is None:
            return
        self._ids += 1
        try:
            raft.read_index(self._ids, now)
        except NotApplied as e:
            self._fail(batch, e)
        else:
            self._confirming[self._ids] = batch

    def confirmed(self, token: int, index: int, error: NotApplied) -> None:
        """The core answered: serve after ``index``, or fail with ``error`` when it is -1."""
        batch = self._confirming.pop(token, None)
        if batch is None:
            return
        if index < 0:
            self._fail(batch, error)
            return
        batch.index = index
        self._wait(batch)

    def applied(self, index: int) -> None:
        """Serve what waited for the apply loop to reach ``index``."""
        applying = self._applying
        while applying and applying[0].index <= index:
            batch = applying.popleft()
            self.count -= len(batch.runs)
            for run in batch.runs:
                if run.ended:
                    continue
                try:
                    batch.go(run)
                except BaseException as e:
                    # It changed nothing: those behind it are served all the same.
                    self.log.failure("a read failed: {error!r}", Failure(e), error=e)
                    text = f"ERR internal error: {type(e).__name__}"
                    fail_each([run], CommandError(text))

    def fail_all(self, error: NotApplied) -> None:
        """Nothing of all this can be served any more."""
        batches = [*self._confirming.values(), *self._applying]
        if self._asking is not None:
            batches.append(self._asking)
        self._asking = None
        self._confirming = {}
        self._applying = deque()
        for batch in batches:
            self._fail(batch, error)

    def expire(self, before: float) -> None:
        """Fail reads created before a time: a read can always be repeated."""
        for batch in [*self._confirming.values(), *self._applying]:
            if batch.created < before:
                fail_each(batch.runs, DeadlinePassed())

    def _fail(self, batch: ReadBatch, error: NotApplied) -> None:
        self.count -= len(batch.runs)
        fail_each(batch.runs, error)
