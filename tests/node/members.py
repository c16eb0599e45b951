"""A cluster whose members come and go."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.cluster import MemoryCluster
from finn.testing.computer import Computer
from tests.node.support import Journal


class MembersCase(SynchronousTestCase):
    """Each test starts a cluster of the size that it needs."""

    def start(self, size: int = 3, seed: int = 0) -> None:
        self.cluster = MemoryCluster(Journal, size=size, seed=seed)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.cluster.execute("PUT", "a", "1")
        self.cluster.advance(2)
        self.leader = self.cluster.leader()
        self.others = [m for m in range(size) if m != self.leader]

    def waiting(self) -> Computer:
        """Start one more node, which waits to be added."""
        computer = self.cluster._build()
        computer.options.join, computer.options.wait = [], True
        computer.start()
        self.cluster.advance(0.5)
        return computer
