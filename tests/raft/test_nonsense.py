"""Messages of members that make no sense: they are refused, and nothing is believed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import ProtocolError
from finn.raft import Role
from finn.raft.messages import AppendReply
from tests.raft.single import Single


class AnswerTests(SynchronousTestCase):
    """Answers to a leader."""

    def setUp(self) -> None:
        self.node = Single()
        self.node.lead()
        self.raft = self.node.raft

    def refused(self, reply: AppendReply) -> None:
        before = self.raft.commit_index, self.raft.log.last_index
        self.assertRaises(ProtocolError, self.node.gets, 2, reply)
        self.assertIs(self.raft.role, Role.LEADER)
        self.assertEqual((self.raft.commit_index, self.raft.log.last_index), before)

    def test_round_of_the_future(self) -> None:
        """It would keep the lease for ever."""
        term, last = self.raft.current_term, self.raft.log.last_index
        self.refused(AppendReply(term, True, 1 << 40, last))
        self.node.wait(5)
        self.assertFalse(self.raft.lease_valid(self.node.now))

    def test_match_of_no_entry(self) -> None:
        """It would commit what is on one node only."""
        self.refused(AppendReply(self.raft.current_term, True, 1, 1 << 40))

    def test_refusal_of_no_entry(self) -> None:
        """It would make the leader look for entries it does not have."""
        refusal = AppendReply(self.raft.current_term, False, 1, 0, 1 << 40, 1 << 40, 0)
        self.refused(refusal)
