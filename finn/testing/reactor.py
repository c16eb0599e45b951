"""The reactor of one simulated process: its clock, its timers and its TCP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IReactorFromThreads,
    IReactorTCP,
    IReactorTime,
)
from zope.interface import implementer

from finn.testing.clock import ScheduledCall, Scheduler
from finn.testing.ports import SimulatedConnector, SimulatedPort

if TYPE_CHECKING:
    from finn.testing.network import Network

EPOCH = 1_700_000_000.0
"""Wall clock of every computer when a world begins."""


@implementer(IReactorTime, IReactorTCP, IReactorFromThreads)
class SimulatedReactor:
    """What a process has for a reactor in a simulated world.

    As Twisted's, ``seconds`` is the wall clock and timers follow it: when the clock jumps back an
    hour, a timer fires an hour later.

    Args:
        scheduler: the world's time.
        network: the world's network.
        host: IP address of the computer that the process runs on.
        rate: seconds of the monotonic clock per second of the world.
        offset: error of the wall clock at the start, seconds.
        number: names the process in traces.

    Attributes:
        dead: killed: nothing of the process happens any more.
        paused: stopped (SIGSTOP): what should happen is held up.
        transports: its open connections.
        ports: what it listens on.
        owner: the computer that runs the process, if it is a node's.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        network: Network,
        host: str,
        rate: float = 1.0,
        offset: float = 0.0,
        number: int = 0,
    ) -> None:
        self.scheduler = scheduler
        self.network = network
        self.host = host
        self.rate = rate
        self.offset = offset
        self.number = number
        self.owner: Any = None
        self.dead = False
        self.paused = False
        self.held: list[ScheduledCall] = []
        self.transports: dict[Any, None] = {}
        self.ports: dict[SimulatedPort, None] = {}

    # -- time ---------------------------------------------------------------------------------

    def seconds(self) -> float:
        """Wall clock."""
        return EPOCH + self.scheduler.now * self.rate + self.offset

    def seconds_at(self, time: float) -> float:
        """Return the wall clock at a time of the world, if nothing jumps."""
        return EPOCH + time * self.rate + self.offset

    def monotonic(self) -> float:
        """Monotonic clock: it drifts, but never jumps."""
        return self.scheduler.now * self.rate

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or, for a negative number, back."""
        self.offset += seconds
        now = self.scheduler.now
        for call in self.scheduler.timers_of(self):
            call.move(max(now, call.due - seconds / self.rate))

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> IDelayedCall:
        """Call later."""
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        scheduler = self.scheduler
        due = scheduler.now + (delay / self.rate if self.rate != 1.0 else delay)
        call = ScheduledCall(scheduler, due, self, callable, args, kwargs, True)
        if not self.dead:
            scheduler.push(call)
        return call

    def getDelayedCalls(self) -> list[Any]:
        """Return the timers."""
        return self.scheduler.timers_of(self)

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> ScheduledCall:
        """Call later in any case: what is no timer of the reactor, but takes its time."""
        return self.scheduler.at(self.scheduler.now + delay, self, function, *args)

    # -- threads ------------------------------------------------------------------------------

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call in a turn of its own; there are no threads here."""
        self.callLater(0, callable, *args, **kwargs)

    # -- TCP ----------------------------------------------------------------------------------

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen on the own address; ``interface`` may name another one of this computer."""
        listening = SimulatedPort(self, interface or self.host, port, factory)
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> SimulatedConnector:
        """Connect."""
        connector = SimulatedConnector(self, host, port, factory, timeout)
        connector.connect()
        return connector

    # -- the end ------------------------------------------------------------------------------

    def die(self, silently: bool = False) -> None:
        """End the process here and now.

        Args:
            silently: the power goes, so nobody hears of it; else the system closes what was open.
        """
        self.dead = True
        self.held.clear()
        for port in list(self.ports):
            self.network.unbind(port)
        self.ports.clear()
        for transport in list(self.transports):
            transport.vanish(silently)
        self.transports.clear()
