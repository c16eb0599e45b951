"""A newcomer whose addition is rolled back: it has to be added again, as a new one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.testing.cluster import MemoryCluster


class RolledBackJoin(SynchronousTestCase):
    def setUp(self) -> None:
        """Let a leader add a fourth node and lose leadership before that is committed."""
        self.cluster = cluster = MemoryCluster(KV)
        self.addCleanup(cluster.close)
        cluster.start()
        self.leader = leader = cluster.leader()
        self.newcomer = newcomer = cluster.add()
        others = [member for member in range(3) if member != leader]
        node_id = cluster.nodes[newcomer].identity.node_id
        before = cluster.nodes[leader].raft
        assert before is not None
        while before.configuration.get(node_id) is None:
            cluster.world.scheduler.step()
        cluster.partition([leader, newcomer], others)
        cluster.wait_until(lambda: self.raft_of(newcomer).configuration.get(node_id) is not None)
        cluster.wait_until(lambda: any(cluster.computers[m].leads for m in others))

    def raft_of(self, member: int):  # type: ignore[no-untyped-def]
        raft = self.cluster.nodes[member].raft
        assert raft is not None
        return raft

    def all_vote(self) -> bool:
        """Whether every member knows of four voters."""
        return all(len(self.raft_of(m).configuration.voters) == 4 for m in range(4))

    def test_it_asks_again(self) -> None:
        """What is in its log and not committed does not make it a member."""
        self.cluster.heal()
        self.cluster.wait_until(self.all_vote)

    def test_it_asks_again_after_a_restart(self) -> None:
        """The same for a newcomer that is started again meanwhile."""
        self.cluster.crash(self.newcomer)
        self.cluster.heal()
        self.cluster.advance(5)
        self.cluster.restart(self.newcomer)
        self.cluster.wait_until(self.all_vote)
