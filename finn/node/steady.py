"""A reactor whose timers do not wait longer when the wall clock is set back.

Twisted's timers follow the wall clock: set it back an hour, and what was to happen in a second
happens in an hour. Of a node that would be its heartbeats, its syncs and all its deadlines.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from finn.protocols.transport import ReactorProxy

# How often the thread compares the clocks, seconds: well within an election timeout.
LOOK = 0.25
# A smaller step is none: clocks are slewed, and they are read one after the other.
STEP = 0.05
# Timers are remembered after their end until there are so many, or twice those that are left.
FEW = 64


class SteadyReactor(ReactorProxy):
    """A reactor, but for its timers: a step of the wall clock back moves them too.

    A step is noticed when a timer is made, or within ``LOOK``. What is reset after a step and
    before that is moved with the others: a deadline that may pass too early, as that of a transfer.

    Forward steps are left alone: timers come early then, and none of a node's minds.

    Args:
        reactor: the reactor.
        monotonic: seconds that never jump.
    """

    log = Logger(namespace="finn.node")

    def __init__(self, reactor: Any, monotonic: Callable[[], float]) -> None:
        super().__init__(reactor)
        self._monotonic = monotonic
        self._ahead = self._now_ahead()
        self._timers: list[IDelayedCall] = []
        self._limit = FEW
        self._ended: Event | None = None

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> IDelayedCall:
        """Call later as IReactorTime does."""
        if delay:
            self.look()  # a timer that is made after a step must not be moved by it
        timers = self._timers
        if len(timers) >= self._limit:
            self._timers = timers = [timer for timer in timers if timer.active()]
            self._limit = max(FEW, 2 * len(timers))
        timer: IDelayedCall = self._reactor.callLater(delay, callable, *args, **kwargs)
        timers.append(timer)
        return timer

    def seconds(self) -> float:
        """Return monotonic seconds: for differences, which is all that anybody here asks for."""
        return self._monotonic()

    def look(self) -> None:
        """Put the timers right if the wall clock was set back since the last look."""
        ahead = self._now_ahead()
        back, self._ahead = self._ahead - ahead, ahead
        if back > STEP:
            self.log.warn("the clock was set back by {back:.1f} s", back=back)
            for timer in self._timers:
                if timer.active():
                    timer.delay(-back)

    def _now_ahead(self) -> float:
        while True:
            before = self._monotonic()
            wall = float(self._reactor.seconds())
            if self._monotonic() - before < STEP / 2:
                return wall - before
            # The process stood still between the two.

    # -- the thread ---------------------------------------------------------------------------

    def watch(self) -> None:
        """Look whenever the clock is set back, until ``stop_watching``.

        A thread sees to it: the reactor sleeps until its first timer is due, which may be an hour
        late, if nobody sends it anything.
        """
        self._ended = Event()
        Thread(target=self._watch, args=(self._ended,), name="finn-clock", daemon=True).start()

    def stop_watching(self) -> None:
        """End the thread, if there is one."""
        if self._ended is not None:
            self._ended.set()

    def _watch(self, ended: Event) -> None:
        while not ended.wait(LOOK):
            if self._ahead - self._now_ahead() > STEP:
                self._reactor.callFromThread(self.look)
