"""Bounds of what an application may have under way, and of what strangers may have logged."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import NotApplied, OutcomeUnknown, Overloaded
from finn.node.proposals import MAX_PENDING_BYTES
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal


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


class LogBound(SynchronousTestCase):
    def test_links_that_are_refused(self) -> None:
        """One line a second says who and why, however many come, and when nobody stays."""
        cluster = MemoryCluster(Journal, size=1, secret="hush")
        self.addCleanup(cluster.close)
        cluster.start()
        with capturedLogs() as logs:
            for _ in range(3):
                for _ in range(100):
                    client = Client(cluster, 0)
                    client.send("RAFTLINK nonsense")
                    self.assertTrue(client.received.startswith(b"-ERR "))
                    client.protocol.connectionLost(Failure(ConnectionDone()))
                cluster.advance(1.1)
        told = [event for event in logs if "refused" in event["log_format"]]
        self.assertEqual(len(told), 3)
        self.assertTrue(told[0]["peer"])
        self.assertIn(told[0]["reason"].encode(), client.received)
