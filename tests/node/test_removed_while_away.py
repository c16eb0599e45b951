"""A member that is removed while it is down or cut off: the log will never tell it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.node.status import state_of
from finn.protocols.handshake import PeerHello
from finn.testing.cluster import MemoryCluster
from tests.compiled import replaces_parts
from tests.node.support import Journal


class RemovedWhileAway(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        cluster.advance(1)
        self.leader = cluster.leader()
        self.away = (self.leader + 1) % 3

    def raft(self, member: int) -> Any:
        return self.cluster.nodes[member].raft

    def remove(self) -> None:
        membership = self.cluster.nodes[self.leader].membership
        address = self.cluster.computers[self.away].address
        self.cluster.result(Deferred.fromCoroutine(membership.remove(address)))
        self.cluster.advance(3)

    def check(self) -> None:
        """It says that it is removed, and joins as a new node when it is started again."""
        cluster, node = self.cluster, self.cluster.nodes[self.away]
        old = node.identity.node_id
        cluster.wait_until(lambda: node.identity.removed, 20)
        self.assertEqual(state_of(node), "Shutdown")
        term = self.raft(self.away).current_term
        cluster.advance(5)
        self.assertEqual(self.raft(self.away).current_term, term)
        cluster.restart(self.away)
        cluster.wait_until(cluster.settled)
        self.assertNotEqual(cluster.nodes[self.away].identity.node_id, old)
        self.assertEqual(len(self.raft(self.leader).configuration.voters), 3)

    def test_down(self) -> None:
        """It is repaired, and started with the flags it always had."""
        self.cluster.crash(self.away)
        self.remove()
        self.cluster.computers[self.away].start()
        self.check()

    def test_cut_off(self) -> None:
        """Its links may have outlived the cut."""
        self.cluster.partition([self.away])
        self.cluster.advance(2)
        self.remove()
        self.cluster.heal()
        self.check()

    @replaces_parts
    def test_only_who_knows_says_so(self) -> None:
        """Neither a follower, nor a leader without a lease or with a change under way."""
        cluster = self.cluster
        gone = PeerHello(99, cluster.nodes[0].identity.cluster_id, ":1", 1, False, "raft")
        for member in range(3):
            accepted = cluster.nodes[member].links.accept_link(gone)
            self.assertEqual(accepted is not None, member == self.leader)
        fresh = PeerHello(99, gone.cluster_id, ":1", 1, True, "raft")
        node = cluster.nodes[self.leader]
        self.assertIsNone(node.links.accept_link(fresh))
        self.patch(self.raft(self.leader), "commit_index", 0)
        self.assertIsNone(node.links.accept_link(gone))
        self.patch(self.raft(self.leader), "commit_index", self.raft(self.leader).log.last_index)
        self.patch(self.raft(self.leader), "lease_valid", lambda now: False)
        self.assertIsNone(node.links.accept_link(gone))
