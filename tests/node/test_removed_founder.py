"""A founder that was removed and is started with its old flags: it founds nothing."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.testing.cluster import MemoryCluster
from finn.testing.computer import Computer


class RemovedFounder(SynchronousTestCase):
    def test_it_waits_for_its_cluster(self) -> None:
        """Though nobody of it answers at the start, and over another restart."""
        cluster = MemoryCluster(KV)
        self.addCleanup(cluster.close)
        cluster.start()
        founder: Computer = cluster.computers[0]
        raft = founder.node.raft
        assert raft is not None
        if not founder.leads:
            cluster.nodes[cluster.leader()].raft.transfer_leadership(raft.node_id, 0.0)  # type: ignore[union-attr]
            cluster.nodes[cluster.leader()].wake()
            cluster.wait_until(lambda: founder.leads)
        cluster.result(_coroutine(founder.node.membership.remove(founder.address)))
        cluster.wait_until(lambda: founder.node.identity.removed)
        cluster.advance(0.1)
        for member in (1, 2):
            cluster.crash(member)  # in a partition it would wait whatever it knows
        for _ in range(2):
            cluster.restart(0)
            cluster.advance(20)
            self.assertFalse(founder.leads)
            self.assertEqual(founder.node.identity.cluster_id, 0)
        for member in (1, 2):
            cluster.computers[member].start()
        cluster.wait_until(cluster.settled)
        self.assertEqual(len(cluster.nodes[1].raft.configuration.voters), 3)  # type: ignore[union-attr]


def _coroutine(coroutine):  # type: ignore[no-untyped-def]
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)
