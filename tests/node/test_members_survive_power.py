"""Who is a member is durable at every level: a majority is counted by it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.options import Durability
from finn.testing.cluster import MemoryCluster
from tests.node.support import Journal


class MembersSurvivePowerLoss(SynchronousTestCase):
    def founder_loses_power(self, seed: int, durability: Durability) -> None:
        """At once when all are members: nothing of the log but its beginning was ever synced."""
        cluster = MemoryCluster(Journal, seed=seed, durability=durability)
        self.addCleanup(cluster.close)
        cluster.start()
        founder = cluster.computers[0]
        raft = cluster.nodes[0].raft
        assert raft is not None
        term = raft.current_term
        cluster.cut_power(0)
        cluster.wait_until(lambda: any(c.leads for c in cluster.computers[1:]))
        cluster.partition([0])
        founder.start()
        cluster.advance(5)
        self.assertFalse(founder.leads, seed)
        raft = cluster.nodes[0].raft
        assert raft is not None
        self.assertEqual((len(raft.configuration.voters), raft.current_term), (3, term), seed)
        cluster.heal()
        cluster.wait_until(cluster.settled)
        cluster.close()

    def test_founder(self) -> None:
        """It knows that it is not alone, or it would lead a cluster of its own under that name."""
        for seed in range(4):
            for durability in (Durability.LOW, Durability.MEDIUM):
                self.founder_loses_power(seed, durability)
