"""A member that is removed while it is down or cut off: the log will never tell it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.node.links import REMOVED
from finn.node.status import state_of
from finn.testing.cluster import MemoryCluster
from tests.node.peers import Peer
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

    def test_only_who_knows_says_so(self) -> None:
        """Neither a follower, nor a leader without a lease or with a change under way."""
        for member in range(3):
            knows = member == self.leader
            self.assertEqual(self.says(member), f"-ERR {REMOVED}" if knows else "+OK")
        self.assertEqual(self.says(self.leader, fresh=True), "+OK")
        cluster, raft = self.cluster, self.raft(self.leader)
        cluster.partition([self.leader])
        cluster.wait_until(lambda: not raft.lease_valid(raft.now), 2)
        self.assertIsNotNone(raft.leader)
        self.assertEqual(self.says(self.leader), "+OK")
        cluster.heal()
        cluster.wait_until(cluster.settled)
        leader = cluster.leader()
        raft = self.raft(leader)
        self.assertEqual(self.says(leader), f"-ERR {REMOVED}")
        cluster.partition([leader])
        other = self.raft((leader + 1) % 3).node_id
        raft.change_membership(raft.configuration.without(other), 0, raft.now)
        self.assertTrue(raft.lease_valid(cluster.nodes[leader].now()))
        self.assertEqual(self.says(leader), "+OK")

    def says(self, member: int, fresh: bool = False) -> Any:
        """Return what a member says to one that it does not know, and that was in the cluster."""
        return Peer(self.cluster, member, 99, fresh=fresh).status
