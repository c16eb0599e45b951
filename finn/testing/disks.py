"""Disks (``IDisk``) for tests: one that takes simulated time, one that is worked by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.errors import DiskFailed
from finn.interfaces import IDisk


class _Job:
    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.done: Deferred[Any] = Deferred()
        self.result: Any = None
        self.executed = False

    def execute(self) -> None:
        """Run the function, once, and keep what came of it."""
        if not self.executed:
            self.executed = True
            try:
                self.result = self.function(*self.args)
            except Exception:
                self.result = Failure()

    def deliver(self) -> None:
        """Fire the Deferred."""
        self.done.callback(self.result)


class _QueuedDisk:
    """What the two have in common: a queue, and an end of it."""

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._stopped: Deferred[None] | None = None
        self._killed = False

    @property
    def pending(self) -> int:
        """Jobs not delivered yet."""
        return len(self._jobs)

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Queue a function."""
        if self._killed:
            return Deferred()
        if self._stopped is not None:
            return fail(DiskFailed("the disk is stopped"))
        job = _Job(function, args)
        self._jobs.append(job)
        self._queued()
        return job.done

    def stop(self) -> Deferred[None]:
        """Fire when the queue is empty."""
        done: Deferred[None] = Deferred()
        self._stopped = done
        self._ended()
        return done

    def kill(self) -> None:
        """The process is dead: nothing that is queued is run or answered."""
        self._jobs.clear()
        self._killed = True

    def _deliver(self) -> None:
        job = self._jobs.popleft()
        job.execute()
        job.deliver()
        self._ended()

    def _ended(self) -> None:
        if self._stopped is not None and not self._jobs and not self._stopped.called:
            self._stopped.callback(None)

    def _queued(self) -> None:
        """A job was queued."""


@implementer(IDisk)
class SimulatedDisk(_QueuedDisk):
    """Runs jobs one after the other, each taking a while on a fake clock.

    A job does its work at the beginning or at the end of its time, drawn for each: both happen.

    Args:
        clock: a ``task.Clock``, or anything else with ``callLater``.
        random: source of all that is drawn.
        latency: draws the seconds a job takes; the default is 50 to 150 microseconds, and one
            job in a hundred takes up to 20 ms.
    """

    def __init__(
        self,
        clock: Any,
        random: Random,
        latency: Callable[[Random], float] | None = None,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._random = random
        self._latency = latency or ssd_latency
        self._hung = False
        self._extra = 0.0
        self._call: IDelayedCall | None = None

    def delay(self, seconds: float) -> None:
        """Lengthen the job that is running: the hook for ``FaultyFiles.on_slow``."""
        self._extra += seconds

    def hang(self) -> None:
        """Let no job end until ``resume``; the one that runs may have done its work already."""
        self._hung = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def resume(self) -> None:
        """End the hang."""
        self._hung = False
        self._start()

    def kill(self) -> None:
        super().kill()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _queued(self) -> None:
        self._start()

    def _start(self) -> None:
        if self._hung or self._call is not None or not self._jobs:
            return
        self._extra = 0.0
        seconds = self._latency(self._random)
        if self._random.random() < 0.5:
            self._jobs[0].execute()
        self._call = self._clock.callLater(seconds + self._extra, self._finish)

    def _finish(self) -> None:
        self._call = None
        job = self._jobs[0]
        if not job.executed:
            self._extra = 0.0
            job.execute()
            if self._extra:
                self._call = self._clock.callLater(self._extra, self._finish)
                return
        self._deliver()
        self._start()


@implementer(IDisk)
class ManualDisk(_QueuedDisk):
    """Runs a job when the test says so; ``execute`` and ``deliver`` are the halves of ``step``."""

    def execute(self) -> None:
        """Do the work of the oldest job without telling anybody."""
        self._jobs[0].execute()

    def deliver(self) -> None:
        """Tell the result of the oldest job, which is executed first if it was not."""
        self._deliver()

    def step(self) -> None:
        """Do the oldest job."""
        self._deliver()

    def step_all(self) -> None:
        """Do jobs until none is queued."""
        while self._jobs:
            self._deliver()


def ssd_latency(random: Random) -> float:
    """Seconds a job takes: mostly a tenth of a millisecond, rarely twenty."""
    if random.random() < 0.01:
        return random.uniform(0.001, 0.02)
    return random.uniform(0.00005, 0.00015)
