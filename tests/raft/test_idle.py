"""A leader with nothing to do: what it owes to its peers is done without another entry."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.raft.messages import AppendEntries, AppendReply, TimeoutNow
from finn.raft.progress import ProgressState
from tests.raft.host import members
from tests.raft.single import Single


class IdleLeaderTests(SynchronousTestCase):
    def probe(self, node: Single, peer: int) -> None:
        """Lose the link to a peer, find it again, and get a late answer of before that."""
        last = node.raft.log.last_index
        node.raft.peer_lost(peer, node.now)
        node.raft.peer_connected(peer, node.now)
        node.drain()
        sent = node.said(AppendEntries, peer)
        assert node.raft.leader is not None
        progress = node.raft.leader.progress[peer]
        node.gets(peer, AppendReply(node.raft.current_term, True, 0, last))
        self.assertIs(progress.state, ProgressState.PROBE)
        node.gets(peer, AppendReply(node.raft.current_term, True, sent[-1].round, last))
        self.assertIs(progress.state, ProgressState.REPLICATE)

    def test_learner_whose_probe_ends_without_news_is_promoted(self) -> None:
        """Nobody may write anything for hours: it would not vote for so long."""
        node = Single(members(1, 2, 3, learners=(4,)))
        node.lead_on()
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3))
        self.probe(node, 4)
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3, 4))

    def test_successor_that_remembers_again(self) -> None:
        """Its last answer of an amnesic told all there is; the next one says it is cured."""
        node = Single()
        node.lead_on()
        last = node.propose().index
        node.raft.transfer_leadership(2, node.now)
        node.acknowledge(2, amnesic=True)
        self.assertEqual(node.said(TimeoutNow), [])
        assert node.raft.leader is not None
        round = node.raft.leader.progress[2].sent_round
        node.gets(2, AppendReply(1, True, round, last, amnesic=True))
        node.wait(0.1)
        sent = node.said(AppendEntries, 2)[-1]
        node.gets(2, AppendReply(1, True, sent.round, last))
        self.assertEqual(len(node.said(TimeoutNow)), 1)
