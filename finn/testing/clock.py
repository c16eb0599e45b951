"""One fake time for a whole simulated world: a heap of calls, run in order of time and making.

``Scheduler`` holds the time of the world. What a process sees of it is the business of its
``finn.testing.reactor.SimulatedReactor``: a process may be paused or dead, and its clocks may be
wrong. Everything is deterministic: calls of one moment run in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any, Protocol

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer


class IProcess(Protocol):
    """Whom a call belongs to, as the scheduler sees it."""

    dead: bool
    paused: bool
    held: list[ScheduledCall]


@implementer(IDelayedCall)
class ScheduledCall:
    """A call that is to be made; ``due`` is in the time of the world.

    Attributes:
        process: whose call it is; None for those of the world itself.
        is_timer: made with ``callLater``, so subject to jumps of the process' clock.
    """

    __slots__ = ("_scheduler", "args", "due", "function", "is_timer", "kwargs", "process", "state")

    def __init__(
        self,
        scheduler: Scheduler,
        due: float,
        process: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        is_timer: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self.due = due
        self.process = process
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.is_timer = is_timer
        self.state = ""

    def getTime(self) -> float:
        """Return when it is due, by the clock of the process."""
        return float(self.process.seconds_at(self.due)) if self.process is not None else self.due

    def cancel(self) -> None:
        """Do not make it."""
        self._check()
        self.state = "cancelled"
        self.function = _nothing
        self.args = ()

    def delay(self, secondsLater: float) -> None:
        """Make it later or, for a negative number, sooner; not before now."""
        self._check()
        self.move(max(self._scheduler.now, self.due + secondsLater))

    def reset(self, secondsFromNow: float) -> None:
        """Make it so many seconds from now."""
        self._check()
        self.move(self._scheduler.now + secondsFromNow)

    def active(self) -> bool:
        """Say whether it is still to be made."""
        return not self.state

    def move(self, due: float) -> None:
        """Change the time of the world at which it is due."""
        earlier = due < self.due
        self.due = due
        if earlier:
            self._scheduler.push(self)

    def _check(self) -> None:
        if self.state == "cancelled":
            raise AlreadyCancelled
        if self.state:
            raise AlreadyCalled


class Scheduler:
    """The time of a simulated world and all that is still to happen in it.

    Attributes:
        now: seconds since the world began.
        current: the process whose call is running, None for the world's own.
        steps: calls made so far.
        after: called with the process after each of its calls; for checks and traces.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.current: Any = None
        self.steps = 0
        self.after: Callable[[Any], None] | None = None
        self._heap: list[tuple[float, int, ScheduledCall]] = []
        self._made = 0

    def push(self, call: ScheduledCall) -> None:
        """Queue a call at its ``due`` time, behind those of the same time."""
        self._made += 1
        heappush(self._heap, (call.due, self._made, call))

    def at(
        self, due: float, process: Any, function: Callable[..., Any], *args: Any
    ) -> ScheduledCall:
        """Make a call at a time of the world, in a process or (None) in no process."""
        call = ScheduledCall(self, due, process, function, args)
        self._made += 1
        heappush(self._heap, (due, self._made, call))
        return call

    def later(self, seconds: float, function: Callable[..., Any], *args: Any) -> ScheduledCall:
        """Make a call of the world itself in so many seconds."""
        return self.at(self.now + seconds, None, function, *args)

    def timers_of(self, process: Any) -> list[ScheduledCall]:
        """Return the timers of a process that are still to fire, in order."""
        found = dict.fromkeys(
            call
            for _, _, call in sorted(self._heap, key=lambda item: item[:2])
            if call.process is process and call.is_timer and not call.state
        )
        return list(found)

    def release(self, process: Any) -> None:
        """Make the calls that a pause held up, now, in their order."""
        held, process.held = process.held, []
        for call in held:
            if not call.state:
                call.due = self.now
                self.push(call)

    def run_until(self, end: float) -> None:
        """Make every call due until then; the time is ``end`` afterwards."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.step(end)
        self.now = max(self.now, end)

    def step(self, end: float = inf) -> bool:
        """Make the next call; False when there is none until ``end``."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            time, _, call = heappop(heap)
            if call.state:
                continue
            if call.due != time:
                if call.due > time:
                    self.push(call)
                continue
            self.now = time
            process = call.process
            if process is not None:
                if process.dead:
                    continue
                if process.paused:
                    process.held.append(call)
                    continue
            call.state = "called"
            self.steps += 1
            self.current = process
            if call.kwargs:
                call.function(*call.args, **call.kwargs)
            else:
                call.function(*call.args)
            if self.after is not None and process is not None:
                self.after(process)
            self.current = None
            return True
        return False


def _nothing() -> None:
    """Stand in for the function of a cancelled call, which may hold much alive."""
