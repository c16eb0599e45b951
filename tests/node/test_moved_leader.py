"""A member that comes back under another address and is elected before it could tell anybody."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.cluster import MemoryCluster
from tests.node.support import Journal


class MovedLeader(SynchronousTestCase):
    def test_it_tells_its_address_itself(self) -> None:
        """Whoever it asks names the leader, which it is, at an address where nobody answers."""
        cluster = MemoryCluster(Journal, size=2)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        mover, other = cluster.computers
        for member in (0, 1):
            cluster.crash(member)
        address = f"{mover.host}:7999"
        mover.move(address)
        mover.start()
        other.start()
        cluster.wait_until(lambda: other.node.raft)
        assert other.node.raft is not None
        while not mover.leads:
            other.node.raft.timer.deadline = other.node.now() + 100
            cluster.advance(0.01)
        cluster.wait_until(lambda: other.node.raft.configuration.by_address(address))  # type: ignore[union-attr]
        self.assertTrue(mover.leads)
        cluster.wait_until(cluster.settled)
        self.assertEqual(mover.node.identity.address, address)
