"""Bounds of what an application may have under way."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import NotApplied, OutcomeUnknown, Overloaded
from finn.node.proposals import MAX_PENDING_BYTES
from finn.testing.cluster import MemoryCluster
from tests.node.support import Journal


class ExecuteBound(SynchronousTestCase):
    def test_a_leader_without_a_majority(self) -> None:
        """Beyond the bound it is told at once that nothing was appended."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        node = cluster.nodes[leader]
        cluster.partition([leader])
        value = b"x" * 500_000
        waiting: list[Deferred[object]] = []
        while not node.proposals.full:
            waiting.append(node.execute("PUT", "k", value))
        self.failureResultOf(node.execute("PUT", "k", value), Overloaded)
        self.assertLess(node.proposals.pending_bytes, MAX_PENDING_BYTES + 1_000_000)
        cluster.advance(3)
        for deferred in waiting:
            self.failureResultOf(deferred, OutcomeUnknown, NotApplied)
        self.assertEqual(node.proposals.pending_bytes, 0)
