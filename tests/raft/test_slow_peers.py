"""Peers that take a large message for longer than an election timeout."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.raft import Role
from tests.raft.single import Single


class TakingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Single()
        self.node.lead_on()
        self.raft = self.node.raft

    def test_leader_leads_on(self) -> None:
        """A value of 32 MiB took longer than a second, and the cluster its leader."""
        for _ in range(30):
            self.node.wait(0.1)
            self.raft.peer_takes(2, self.node.now)
        self.assertIs(self.raft.role, Role.LEADER)
        self.node.wait(1.5)
        self.assertIs(self.raft.role, Role.FOLLOWER)

    def test_nothing_else_follows(self) -> None:
        """It is no answer: the lease ends, and reads wait for one."""
        self.raft.read_index("read", self.node.now)
        for _ in range(30):
            self.node.wait(0.1)
            self.raft.peer_takes(2, self.node.now)
        self.assertFalse(self.raft.lease_valid(self.node.now))

    def test_of_no_member(self) -> None:
        """It means nothing."""
        for _ in range(15):
            self.node.wait(0.1)
            self.raft.peer_takes(9, self.node.now)
        self.assertIs(self.raft.role, Role.FOLLOWER)
