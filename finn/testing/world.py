"""A world of computers: one time, one network, one seed."""

from __future__ import annotations

from random import Random

from finn.testing.clock import Scheduler
from finn.testing.network import Network, NetworkSettings
from finn.testing.reactor import SimulatedReactor


class World:
    """What simulated computers share.

    Args:
        seed: everything that is drawn comes of it.
        settings: how the network is.

    Attributes:
        scheduler: the time.
        network: the network.
    """

    def __init__(self, seed: int = 0, settings: NetworkSettings | None = None) -> None:
        self.seed = seed
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, self.random("network"), settings)
        self._processes = 0

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.scheduler.now

    def random(self, name: str) -> Random:
        """Return a source of its own for some purpose: its draws change no others."""
        return Random(f"{self.seed}/{name}")

    def reactor(self, host: str, rate: float = 1.0, offset: float = 0.0) -> SimulatedReactor:
        """Return the reactor of a new process."""
        self._processes += 1
        return SimulatedReactor(self.scheduler, self.network, host, rate, offset, self._processes)
