"""A fresh node whose flags would let it found a cluster, beside members that are not ready yet."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import MembershipError
from finn.testing.cluster import MemoryCluster
from finn.testing.faulty import FaultyFiles
from tests.node.support import Client, Journal


class BootstrapGuard(SynchronousTestCase):
    def test_members_that_still_restore_have_a_cluster(self) -> None:
        """The first address lost its disk, and all are started at once: it joins again."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        cluster.advance(2)
        cluster_id = cluster.nodes[1].identity.cluster_id
        for member in range(3):
            cluster.crash(member)
        cluster.computers[0].files = FaultyFiles()
        for member in (1, 2):
            cluster.computers[member]._latency = lambda random: 0.5
        for member in range(3):
            cluster.computers[member].start()
        cluster.advance(0.5)
        client = Client(cluster, 1)
        self.assertEqual(client.ask("RAFTPEERS"), b"-ERR raft not ready\r\n")
        cluster.wait_until(cluster.settled)
        self.assertEqual(cluster.nodes[0].identity.cluster_id, cluster_id)
        self.assertEqual(cluster.machine(0).values, {b"a": b"1"})

    def test_what_can_never_be_is_refused_at_once(self) -> None:
        """Only a change that has to wait for another one is tried again."""
        cluster = MemoryCluster(Journal, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        node = cluster.nodes[0]
        removing = Deferred.fromCoroutine(node.membership.remove(node.options.address))
        error = self.failureResultOf(removing, MembershipError)
        self.assertEqual(error.getErrorMessage(), "ERR the last voter cannot be removed")
