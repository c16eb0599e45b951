"""When a follower takes its leader for dead before the election timeout."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.testing.cluster import MemoryCluster
from finn.testing.network import NetworkSettings


class SuspicionTests(SynchronousTestCase):
    """A cluster of three."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(KV, size=3, seed=7)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.term = self.cluster.nodes[self.leader].raft.current_term

    def refuse(self) -> None:
        """Have the leader's port refuse while it lives, and a follower dial it anew."""
        leader = self.cluster.nodes[self.leader]
        self.follower = self.cluster.nodes[(self.leader + 1) % 3]
        self.cluster.result(leader.port.stopListening())
        dialer = self.follower.links._dialers[leader.identity.node_id]
        dialer.link.abort("the test says so")
        self.cluster.wait_until(lambda: dialer.problem)

    def test_a_leader_whose_port_refuses_lives(self) -> None:
        """Its own link says so, and it may hold a lease: nobody campaigns."""
        self.refuse()
        self.assertFalse(self.follower.raft.timer.suspect)
        self.cluster.advance(0.5)
        for node in self.cluster.nodes:
            self.assertEqual(node.raft.current_term, self.term)
            self.assertFalse(node.raft.timer.suspect)
        self.assertEqual(self.cluster.leader(), self.leader)

    def test_when_its_link_is_lost_too_it_is_dead(self) -> None:
        """The election does not wait for the timeout."""
        self.refuse()
        self.cluster.crash(self.leader)
        self.cluster.advance(0.4)
        left = [n for i, n in enumerate(self.cluster.nodes) if i != self.leader]
        self.assertEqual(len([n for n in left if n.raft.leader is not None]), 1)


class PiecesTests(SynchronousTestCase):
    """What a leader sends comes in pieces: of a large message it is the only sign of life."""

    def test_a_former_leader(self) -> None:
        """It asks for votes, and what has come of such a question is no sign of a leader."""
        settings = NetworkSettings(0.001, 0.001, split=1.0)
        cluster = MemoryCluster(KV, network=settings)
        self.addCleanup(cluster.close)
        cluster.start()
        node = cluster.nodes[cluster.leader()]
        node.raft.step_down(node.now(), "the test says so")
        node.wake()
        cluster.advance(0.01)
        self.assertEqual([n for n in cluster.nodes if n.raft.leader is not None], [])
        cluster.wait_until(lambda: [n for n in cluster.nodes if n.raft.leader is not None], 5)

    def test_a_large_message(self) -> None:
        """Nobody campaigns while it is under way, for longer than any election timeout."""
        cluster = MemoryCluster(KV, network=NetworkSettings(0.001, 0.001, split=1.0))
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        term = cluster.nodes[leader].raft.current_term
        cluster.world.network.settings.bandwidth = 400_000.0
        setting = cluster.submit("SET", "k", b"x" * 1_500_000, on=leader)
        self.assertEqual(cluster.result(setting), b"OK")
        self.assertEqual([n.raft.current_term for n in cluster.nodes], [term] * 3)
