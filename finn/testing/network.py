"""The network of a simulated world: who can reach whom, and how long it takes.

Connections are TCP: bytes come in order and complete, or the connection ends. What goes wrong
shows as time: a lost packet is sent again later, and across a cut bytes stall until it heals. A
cut has a direction, so partitions of every shape are sets of cuts.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.error import CannotListenError

from finn.testing.clock import Scheduler

if TYPE_CHECKING:
    from finn.testing.ports import SimulatedPort
    from finn.testing.transports import Pipe

# TCP sends again what is lost after this time first, then after twice as long; seconds.
RETRANSMISSION = 0.2


class NetworkSettings:
    """How the network is; seconds.

    Attributes:
        latency: one way, at least.
        jitter: on top of it, mostly little and sometimes all of this.
        loss: chance that a piece is lost and sent again.
        bandwidth: bytes per second and connection; 0 is no bound.
        split: chance that a piece arrives in two.
    """

    def __init__(
        self,
        latency: float = 0.0002,
        jitter: float = 0.0005,
        loss: float = 0.0,
        bandwidth: float = 0.0,
        split: float = 0.02,
    ) -> None:
        self.latency = latency
        self.jitter = jitter
        self.loss = loss
        self.bandwidth = bandwidth
        self.split = split

    def __repr__(self) -> str:
        return " ".join(f"{name}={value:g}" for name, value in vars(self).items())


class Network:
    """Connects the hosts of a world.

    Args:
        scheduler: the world's time.
        random: source of all that is drawn.
        settings: how fast and how lossy it is.

    Attributes:
        down: hosts without power: they answer nothing.
        tap: told of every piece that arrives; for traces.
    """

    def __init__(
        self, scheduler: Scheduler, random: Random, settings: NetworkSettings | None = None
    ) -> None:
        self.scheduler = scheduler
        self.random = random
        self.settings = settings or NetworkSettings()
        self.down: set[str] = set()
        self.tap: Any = None
        self.pipes: dict[Pipe, None] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._slow: dict[tuple[str, str], float] = {}
        self._ports: dict[tuple[str, int], SimulatedPort] = {}
        self._next_port = 30000

    # -- faults -------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one host to another; the other direction stays as it is."""
        self._cuts.add((source, target))

    def cut_both(self, one: str, other: str) -> None:
        """Let nothing pass between two hosts."""
        self.cut(one, other)
        self.cut(other, one)

    def partition(self, *groups: Iterable[str]) -> None:
        """Let nothing pass between hosts of different groups; a host in two groups is a bridge."""
        sides = [list(group) for group in groups]
        together = {(a, b) for side in sides for a in side for b in side}
        every = list(dict.fromkeys(host for side in sides for host in side))
        for a in every:
            for b in every:
                if a != b and (a, b) not in together:
                    self.cut(a, b)

    def isolate(self, host: str, others: Iterable[str]) -> None:
        """Cut a host off from others, in both directions."""
        for other in others:
            if other != host:
                self.cut_both(host, other)

    def slow(self, source: str, target: str, seconds: float) -> None:
        """Add to the latency of a direction; 0 ends it."""
        if seconds:
            self._slow[source, target] = seconds
        else:
            self._slow.pop((source, target), None)

    def heal(self) -> None:
        """End all cuts and slowness; what stalled arrives when TCP tries again."""
        self._cuts.clear()
        self._slow.clear()
        now = self.scheduler.now
        for pipe in list(self.pipes):
            if pipe.stalled:
                self.scheduler.at(now + self.random.uniform(0.0, 1.5), None, pipe.try_again)

    def mend(self, source: str, target: str) -> None:
        """End the cut of one direction."""
        self._cuts.discard((source, target))
        now = self.scheduler.now
        for pipe in list(self.pipes):
            if pipe.stalled and (pipe.source_host, pipe.target_host) == (source, target):
                self.scheduler.at(now + self.random.uniform(0.0, 1.5), None, pipe.try_again)

    def reset_connections(self, one: str, other: str) -> None:
        """End every connection between two hosts, as a middlebox that forgot them would."""
        for pipe in list(self.pipes):
            if (pipe.source_host, pipe.target_host) == (one, other):
                pipe.break_connection()

    # -- how it is ----------------------------------------------------------------------------

    def is_cut(self, source: str, target: str) -> bool:
        """Say whether nothing passes from ``source`` to ``target`` now."""
        if self.down and (target in self.down or source in self.down):
            return True
        return bool(self._cuts) and (source, target) in self._cuts

    def latency(self, source: str, target: str) -> float:
        """Draw the time that a piece takes."""
        settings = self.settings
        r = self.random.random()
        seconds = settings.latency + settings.jitter * r * r * r
        if self._slow:
            seconds += self._slow.get((source, target), 0.0)
        if settings.loss and self.random.random() < settings.loss:
            seconds += RETRANSMISSION
            while self.random.random() < settings.loss:
                seconds *= 2
        return seconds

    # -- ports --------------------------------------------------------------------------------

    def bind(self, port: SimulatedPort) -> None:
        """Let a port listen.

        Raises:
            CannotListenError: another one does.
        """
        key = (port.host, port.number)
        if key in self._ports:
            raise CannotListenError(port.host, port.number, OSError("address in use"))
        self._ports[key] = port

    def unbind(self, port: SimulatedPort) -> None:
        """Let a port no longer listen."""
        if self._ports.get((port.host, port.number)) is port:
            del self._ports[port.host, port.number]

    def port_at(self, host: str, number: int) -> SimulatedPort | None:
        """Return who listens there."""
        return self._ports.get((host, number))

    def free_port(self) -> int:
        """Return a port number for an outgoing connection."""
        self._next_port = 30000 + (self._next_port - 29999) % 30000
        return self._next_port
