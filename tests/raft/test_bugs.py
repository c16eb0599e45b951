"""Bugs that other Raft implementations had (BUGS.md 5.1 to 5.5): ours has none of them.

Many more of them are hunted by the random runs (``test_random``).
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import MembershipBusy, MembershipError, NotLeader, Overloaded, ProtocolError
from finn.raft import Configuration, HardState, Member, RaftOptions, Role
from finn.raft.messages import (
    AppendEntries,
    AppendReply,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from tests.raft.host import members
from tests.raft.single import Single, configuration_entry, entry


class ElectionBugTests(SynchronousTestCase):
    """5.1 Elections, terms, votes."""

    def test_vote_is_durable_before_the_reply(self) -> None:
        """PySyncObj#84, tikv#3572: a crash between grant and reply must not give two votes."""
        node = Single()
        node.host.slow = True
        self.assertEqual(node.asked(2, 1), [])
        node.restart()
        node.host.slow = False
        self.assertTrue(node.asked(3, 1)[0].granted)

    def test_own_vote_is_durable_before_the_request(self) -> None:
        """The same for a candidate: its requests and its own vote wait for the disk."""
        node = Single()
        node.host.slow = True
        node.campaign()
        self.assertEqual([r for r in node.said(RequestVote) if not r.pre_vote], [])
        node.gets(2, VoteReply(1, True))
        self.assertIs(node.raft.role, Role.CANDIDATE)
        node.sync()
        self.assertIs(node.raft.role, Role.LEADER)

    def test_term_and_vote_are_one_record(self) -> None:
        """hashicorp#661: a crash between two writes would pair an old vote with a new term."""
        node = Single()
        node.asked(2, 1)
        node.host.slow = True
        node.raft.receive(3, RequestVote(2, 99, 99), node.now)
        ready = node.raft.ready()
        assert ready is not None
        self.assertEqual(ready.state, HardState(2, 3))

    def test_log_proves_a_term(self) -> None:
        """PySyncObj PR#202: after a restart the term is not below that of the log."""
        node = Single(terms=(1, 4), state=HardState(2, 3))
        self.assertEqual((node.raft.current_term, node.raft.voted_for), (4, 0))

    def test_lower_term_catches_up_by_pre_vote(self) -> None:
        """etcd#8243, #9586: who pre-votes with a term too low learns the right one, soon asks."""
        node = Single(terms=(1, 1))
        node.wait(2.1)
        self.assertIs(node.raft.role, Role.CANDIDATE)
        node.gets(2, VoteReply(7, False, True))
        self.assertEqual(node.raft.current_term, 7)
        node.said(RequestVote)
        node.wait(0.51)
        self.assertEqual(node.said(RequestVote, 2)[-1].term, 8)

    def test_pre_vote_is_answered_with_the_own_term(self) -> None:
        """etcd#8243: the other side of it, also for AppendEntries."""
        node = Single(state=HardState(7, 0))
        node.wait(1.0)
        self.assertEqual(node.asked(2, 3, pre_vote=True)[0].term, 7)
        self.assertEqual(node.append(term=3)[0].term, 7)

    def test_pre_vote_changes_nothing(self) -> None:
        """canonical/raft#196, hashicorp#609: no vote, term, leader or timer is touched."""
        node = Single()
        node.append(term=1)
        node.asked(3, 2, pre_vote=True)
        node.wait(1.0)
        deadline = node.raft.next_deadline()
        self.assertTrue(node.asked(2, 2, pre_vote=True)[0].granted)
        self.assertTrue(node.asked(3, 9, pre_vote=True)[0].granted)
        self.assertEqual((node.raft.current_term, node.raft.voted_for), (1, 0))
        self.assertEqual((node.raft.leader_id, node.raft.next_deadline()), (2, deadline))

    def test_pre_vote_reply_is_no_vote(self) -> None:
        """canonical/raft#196: a late answer to the pre-vote does not elect."""
        node = Single(members(1, 2, 3, 4, 5))
        node.campaign()
        node.gets(4, VoteReply(2, True, True))
        node.gets(5, VoteReply(1, True, True))
        node.gets(3, VoteReply(1, True, True))
        self.assertIs(node.raft.role, Role.CANDIDATE)

    def test_vote_reply_of_another_term(self) -> None:
        """A vote of an earlier term does not count for this one."""
        node = Single(state=HardState(3, 0))
        node.wait(1)
        node.campaign()
        node.gets(2, VoteReply(3, True))
        self.assertIs(node.raft.role, Role.CANDIDATE)

    def test_pre_vote_reply_of_another_term(self) -> None:
        """What was granted for an earlier term says nothing of this one."""
        node = Single()
        node.wait(2)
        node.gets(3, VoteReply(1, False, True))
        self.assertEqual(node.raft.current_term, 1)
        node.wait(0.6)
        node.gets(2, VoteReply(1, True, True))
        self.assertEqual(node.raft.current_term, 1)
        node.gets(2, VoteReply(2, True, True))
        self.assertEqual(node.raft.current_term, 2)

    def test_own_vote_of_an_earlier_campaign(self) -> None:
        """Its being durable says nothing of the vote in the next term."""
        node = Single(members(1))
        node.host.slow = True
        node.wait(3)
        self.assertGreater(node.raft.current_term, 1)
        node.host.sync(1)
        self.assertIs(node.raft.role, Role.CANDIDATE)
        node.sync()
        self.assertIs(node.raft.role, Role.LEADER)

    def test_transfer_is_no_disturbance(self) -> None:
        """hashicorp GH-605: the leader itself votes for the one it handed over to."""
        node = Single()
        node.lead_on()
        self.assertTrue(node.asked(2, 2, (9, 1), transfer=True)[0].granted)
        self.assertIs(node.raft.role, Role.FOLLOWER)

    def test_removed_member_does_not_topple(self) -> None:
        """etcd#8499, #14893: votes and replies of one that was away or removed."""
        node = Single()
        node.lead_on()
        node.asked(9, 50)
        node.asked(3, 50)
        node.asked(9, 50, pre_vote=True)
        node.gets(9, VoteReply(50, False))
        node.gets(9, AppendReply(50, False, 1, 0))
        self.assertEqual((node.raft.role, node.raft.current_term), (Role.LEADER, 1))

    def test_leader_without_a_majority_makes_way(self) -> None:
        """openraft#2080: CheckQuorum, by the answers of voters only."""
        node = Single(members(1, 2, 3, learners=(4,)))
        node.lead_on()
        for _ in range(11):
            node.wait(0.1)
            if node.raft.role is Role.LEADER:
                node.acknowledge(4, 0)  # lags, or it would be promoted
        self.assertIs(node.raft.role, Role.FOLLOWER)

    def test_busy_leader_checks_its_quorum(self) -> None:
        """However much it sends, it notices that nobody answers."""
        node = Single()
        node.lead_on()
        for _ in range(40):
            if node.raft.role is Role.LEADER:
                node.propose()
                node.wait(0.03)
        self.assertIs(node.raft.role, Role.FOLLOWER)

    def test_disk_trouble(self) -> None:
        """hashicorp#503: a node whose disk hangs gives up leadership and does not campaign."""
        node = Single()
        node.lead_on()
        node.raft.hold_off = True
        node.raft.step_down(node.now, "the disk hangs")
        node.drain()
        node.said(RequestVote)
        node.wait(10)
        self.assertEqual((node.raft.role, node.said(RequestVote)), (Role.FOLLOWER, []))
        node.raft.hold_off = False
        node.wait(2.1)
        self.assertTrue(node.said(RequestVote))

    def test_learner_votes(self) -> None:
        """raft-rs#57: it may have been promoted without knowing it."""
        node = Single(members(2, 3, learners=(1,)))
        self.assertTrue(node.asked(2, 1)[0].granted)
        node = Single(Configuration())
        self.assertTrue(node.asked(2, 1)[0].granted)

    def test_learner_never_campaigns(self) -> None:
        """redpanda#8495: not by time, not by suspicion, not by TimeoutNow."""
        node = Single(members(2, 3, learners=(1,)))
        node.append(term=1)
        node.raft.leader_suspect(node.now)
        node.wait(5)
        node.append(term=1)
        node.gets(2, TimeoutNow(1))
        self.assertEqual((node.raft.role, node.said(RequestVote)), (Role.FOLLOWER, []))

    def test_learners_vote_does_not_count(self) -> None:
        """Whoever answers: only voters elect."""
        node = Single(members(1, 2, 3, learners=(4, 5)))
        node.campaign()
        node.gets(4, VoteReply(1, True))
        node.gets(5, VoteReply(1, True))
        self.assertIs(node.raft.role, Role.CANDIDATE)

    def test_step_down_answers_reads(self) -> None:
        """openraft 43dd8b6f: whoever waits learns that leadership is lost."""
        node = Single()
        node.lead()
        node.raft.read_index("a", node.now)
        node.append(term=5)
        self.assertEqual(node.host.reads, [("a", -1)])

    def test_old_leader_after_a_higher_term(self) -> None:
        """butane oracles#32: its heartbeat is refused."""
        node = Single()
        node.append(term=1)
        node.wait(1)
        node.asked(3, 4)
        self.assertFalse(node.append(term=1)[0].success)
        self.assertEqual(node.raft.leader_id, 0)

    def test_promise_of_the_old_term_is_withdrawn(self) -> None:
        """An answer that waited for the disk is not sent once the term is a higher one."""
        node = Single()
        node.host.slow = True
        node.append(term=1)
        node.append(term=2, leader=3)
        node.sync()
        self.assertEqual(node.said(AppendReply, 2), [])
        self.assertEqual([r.term for r in node.said(AppendReply, 3)], [2])

    def test_restarted_node_refuses_votes(self) -> None:
        """It may have promised a lease before it fell; but a hand-over is no breach."""
        node = Single(terms=(1,))
        node.wait(0.99)
        self.assertFalse(node.asked(2)[0].granted)
        self.assertFalse(node.asked(2, pre_vote=True)[0].granted)
        self.assertTrue(node.asked(3, transfer=True)[0].granted)
        node = Single(terms=(1,))
        node.wait(1.0)
        self.assertTrue(node.asked(2)[0].granted)

    def test_fresh_nodes_start_at_once(self) -> None:
        """Who never was part of anything promised nothing; a sole voter waits for nobody."""
        self.assertTrue(Single().asked(2)[0].granted)
        for terms in ((), (1, 1)):
            node = Single(members(1), terms)
            node.wait(0.0)
            self.assertIs(node.raft.role, Role.LEADER)
            self.assertEqual(node.raft.commit_index, len(terms) + 1)

    def test_suspicion_lifts_the_refusal(self) -> None:
        """After a crash, those that saw it grant votes; the others still refuse."""
        self.check_suspicion(Single(), 1)

    def check_suspicion(self, node: Single, term: int) -> None:
        """Pre-votes are refused while a leader is heard, but not while it seems to be gone."""
        node.append(term=term)
        self.assertFalse(node.asked(3, pre_vote=True)[0].granted)
        node.raft.leader_suspect(node.now)
        self.assertTrue(node.asked(3, pre_vote=True)[0].granted)
        node.append(term=term)
        self.assertFalse(node.asked(3, pre_vote=True)[0].granted)

    def test_suspicion_lifts_the_refusal_of_a_restarted_node(self) -> None:
        """The leader it heard since shows that no lease of before is left; nobody else does."""
        node = Single(terms=(1,))
        node.raft.leader_suspect(node.now)
        self.assertFalse(node.asked(3, pre_vote=True)[0].granted)
        self.check_suspicion(node, 2)

    def test_suspicion_is_quick(self) -> None:
        """A pre-vote goes out 10 to 50 ms later; contact ends it."""
        node = Single()
        node.append(term=1)
        node.raft.leader_suspect(node.now)
        self.assertTrue(0.01 <= node.raft.next_deadline() - node.now <= 0.05)
        node.raft.leader_contact(2, 1, node.now)
        self.assertGreaterEqual(node.raft.next_deadline() - node.now, 1.0)


class ReplicationBugTests(SynchronousTestCase):
    """5.2 Replication and commit."""

    def test_figure_8(self) -> None:
        """PySyncObj#169: an entry of an earlier term on a majority is not committed yet."""
        node = Single(terms=(1, 2), state=HardState(3, 0))
        node.lead()
        node.acknowledge(2, 2)
        node.acknowledge(3, 2)
        self.assertEqual(node.raft.commit_index, 0)

    def test_late_reply(self) -> None:
        """PySyncObj#166, #167, raftos#25: match and commit index never move back."""
        node = Single()
        node.lead_on()
        node.propose()
        old = node.said(AppendEntries, 2)[-1]
        node.propose()
        node.acknowledge(2, 3)
        node.gets(2, AppendReply(1, True, old.round, 2))
        node.gets(2, AppendReply(1, False, old.round, 0, 1, 1, 0))
        assert node.raft.leader is not None
        self.assertEqual(node.raft.leader.progress[2].match_index, 3)
        self.assertEqual(node.raft.commit_index, 3)

    def test_late_duplicate_truncates_nothing(self) -> None:
        """hashicorp v0.1.0, raftos#26: a message that comes again removes no later entries."""
        node = Single()
        node.append(term=1)
        node.append((0, 0), entry(1, 1), entry(2, 1))
        node.append((2, 1), entry(3, 1))
        node.append((0, 0), entry(1, 1))
        node.append((0, 0), entry(1, 1), entry(2, 1))
        self.assertEqual(node.terms, [1, 1, 1])

    def test_commit_not_past_what_is_verified(self) -> None:
        """copycat#265: an empty message does not commit a stale tail."""
        node = Single(terms=(1, 1, 1))
        node.append((1, 1), term=2, commit=3)
        self.assertEqual(node.raft.commit_index, 1)

    def test_acknowledges_only_what_is_verified(self) -> None:
        """The same for the match index: the tail may be another leader's."""
        node = Single(terms=(1, 1, 1))
        self.assertEqual(node.append((1, 1), term=2)[-1].match_index, 1)

    def test_conflict_without_entries(self) -> None:
        """openraft 6202138f: a heartbeat finds the conflict, too."""
        node = Single(terms=(1, 1, 1))
        self.assertFalse(node.append((3, 2), term=2)[0].success)

    def test_refusal_names_what_was_refused(self) -> None:
        """cubefs#2428: the leader knows which of its messages it was."""
        node = Single(terms=(1,))
        reply = node.append((7, 1), term=2, round=33)[0]
        self.assertEqual((reply.rejected_index, reply.round), (7, 33))

    def test_many_refusals_are_one(self) -> None:
        """openraft 6d53aa12: a window full of refusals causes one probe, not as many."""
        node = Single(terms=(1,) * 9)
        node.lead()
        node.acknowledge(2, 0)
        for _ in range(5):
            node.propose()
        refused = [m for m in node.said(AppendEntries, 2) if m.entries]
        for message in refused:
            reply = AppendReply(2, False, message.round, 0, message.prev_log_index, 4, 0)
            node.gets(2, reply)
        self.assertEqual(len(node.said(AppendEntries, 2)), 1)

    def test_quorum_of_even_numbers(self) -> None:
        """openraft d60f1e85: two of four are no majority."""
        node = Single(members(1, 2, 3, 4))
        node.lead()
        node.acknowledge(2)
        self.assertEqual(node.raft.commit_index, 0)
        node.acknowledge(3)
        self.assertEqual(node.raft.commit_index, 1)

    def test_learners_do_not_commit(self) -> None:
        """A learner's acknowledgement is not counted."""
        node = Single(members(1, 2, 3, learners=(4,)))
        node.lead()
        node.acknowledge(4)
        self.assertEqual(node.raft.commit_index, 0)

    def test_unsorted_progress(self) -> None:
        """openraft#1802: the highest match index is not the majority's."""
        node = Single(members(1, 2, 3, 4, 5))
        node.lead_on()
        for _ in range(3):
            node.propose()
        node.acknowledge(5, 4)
        node.acknowledge(2, 2)
        self.assertEqual(node.raft.commit_index, 2)

    def test_own_disk_counts_when_it_has_it(self) -> None:
        """Thesis 10.2.1: the leader is no exception; without it two others suffice."""
        node = Single()
        node.lead_on()
        node.host.slow = True
        node.propose()
        node.acknowledge(2)
        self.assertEqual(node.raft.commit_index, 1)
        node.sync()
        self.assertEqual(node.raft.commit_index, 2)
        node.propose()
        node.acknowledge(2)
        node.acknowledge(3)
        self.assertEqual(node.raft.commit_index, 3)

    def test_overwritten_entry_is_not_durable(self) -> None:
        """A disk that is slow with a removed entry does not vouch for its successor."""
        node = Single()
        node.append(term=1)
        node.host.slow = True
        node.append((0, 0), entry(1, 1), entry(2, 1))
        node.append((1, 1), entry(2, 2), term=2, leader=3)
        node.host.sync(1)
        node.drain()
        self.assertEqual([r.match_index for r in node.said(AppendReply, 3)], [])
        node.sync()
        self.assertEqual(node.said(AppendReply, 3)[-1].match_index, 2)

    def test_fetched_entries_of_another_time(self) -> None:
        """openraft 8cd24ba0: what was read from the store is sent only if it is still the log."""
        node = Single(terms=(1, 1, 1))
        node.lead()
        message = node.said(AppendEntries, 2)[-1]
        node.gets(2, AppendReply(2, False, message.round, 0, 3, 1, 0))
        node.said(AppendEntries, 2)
        assert node.raft.leader is not None
        node.raft.leader.progress[2].probe(2, 0)
        node.raft.fetched(2, [entry(2, 7)], node.now)
        node.drain()
        self.assertNotIn(7, [e.term for m in node.said(AppendEntries, 2) for e in m.entries])

    def test_slow_disk_does_not_look_dead(self) -> None:
        """hashicorp#612: while entries wait for the disk the leader still hears answers."""
        node = Single()
        node.append(term=1)
        node.host.slow = True
        answers = []
        for index in range(1, 21):
            node.wait(0.02)
            answers += node.append((index - 1, int(index > 1)), entry(index, 1))
        self.assertTrue(1 <= len(answers) <= 4)
        self.assertEqual({a.match_index for a in answers}, {0})
        node.sync()
        self.assertEqual(node.said(AppendReply)[-1].match_index, 20)

    def test_nonsense_changes_nothing(self) -> None:
        """Entries with gaps, or terms that fall, are refused before anything is touched."""
        node = Single(terms=(1,))
        node.append(term=3)
        for entries in (
            [entry(3, 2)], [entry(2, 2), entry(4, 2)], [entry(2, 3), entry(3, 2)], [entry(2, 4)],
        ):  # fmt: skip
            message = AppendEntries(3, 1, 1, 0, 5, entries)
            self.assertRaises(ProtocolError, node.raft.receive, 2, message, node.now)
        self.assertEqual(node.terms, [1])

    def test_uncommitted_entries_are_bounded(self) -> None:
        """Beyond the bound nothing is appended; one entry always may be."""
        node = Single(options=RaftOptions(max_uncommitted_bytes=98, spare_delay=0))
        node.lead_on()
        node.propose()
        node.propose()
        self.assertRaises(Overloaded, node.propose)
        self.assertEqual(node.raft.log.last_index, 3)
        node.acknowledge(2)
        node.propose()

    def test_lost_and_found_window(self) -> None:
        """A peer whose window was lost, and whose entries were compacted, gets a snapshot."""
        node = Single(options=RaftOptions(window_messages=1, spare_delay=0))
        node.lead_on()
        for _ in range(4):
            node.propose()
            node.acknowledge(3)
        node.wait(0.05)
        node.host.take_snapshot()
        for _ in range(3):
            node.wait(0.1)
            for message in node.said(AppendEntries, 2):
                node.gets(2, AppendReply(1, True, message.round, 1))
        self.assertEqual(node.host.snapshots_wanted, [2])

    def test_what_a_lost_link_held_is_sent_again(self) -> None:
        """hashicorp#612: entries that were under way on a lost link are not waited for."""
        node = Single()
        node.lead_on()
        node.propose()
        node.raft.peer_lost(2, node.now)
        node.raft.peer_connected(2, node.now)
        node.drain()
        node.said(AppendEntries, 2)
        node.wait(0.1)
        last = node.said(AppendEntries, 2)[-1]
        node.gets(2, AppendReply(1, False, last.round, 0, last.prev_log_index, 2, 0))
        self.assertEqual([e.index for e in node.said(AppendEntries, 2)[-1].entries], [2])

    def test_peer_that_lost_entries(self) -> None:
        """A peer that lacks what it acknowledged is served again, and no longer counted."""
        node = Single()
        node.lead_on()
        node.propose()
        node.acknowledge(2)
        node.propose()
        node.wait(0.2)
        last = node.said(AppendEntries, 2)[-1]
        node.gets(2, AppendReply(1, False, last.round, 0, 2, 1, 0))
        assert node.raft.leader is not None
        self.assertEqual(node.raft.leader.progress[2].match_index, 0)
        self.assertEqual([e.index for e in node.said(AppendEntries, 2)[-1].entries], [1, 2, 3])


class ReadBugTests(SynchronousTestCase):
    """5.3 Reads."""

    def test_sole_voter(self) -> None:
        """It confirms its reads itself, but not before its term's first entry is committed."""
        node = Single(members(1, learners=(2,)))
        node.wait(0)
        node.host.slow = True
        node.restart()
        node.host.slow = True
        node.wait(0)
        node.host.sync()
        node.raft.read_index("a", node.now)
        node.drain()
        self.assertEqual(node.host.reads, [])
        node.sync()
        self.assertEqual(node.host.reads, [("a", 2)])
        node.raft.read_index("b", node.now)
        node.drain()
        self.assertEqual(node.host.reads[1:], [("b", 2)])

    def test_new_leader_waits_for_its_term(self) -> None:
        """etcd#7331, redisraft#18: it does not know yet what is committed."""
        node = Single(terms=(1, 1))
        node.lead()
        node.raft.read_index("a", node.now)
        node.drain()
        self.assertFalse(node.raft.lease_valid(node.now))
        node.acknowledge(2)
        self.assertEqual((node.raft.commit_index, node.host.reads), (3, []))
        node.acknowledge(3)
        self.assertEqual(node.host.reads, [("a", 3)])

    def test_round_of_before_the_read(self) -> None:
        """etcd#20418: a late or repeated answer to an earlier round confirms nothing."""
        node = Single()
        node.lead_on()
        node.wait(0.1)
        old = node.said(AppendEntries, 2)[-1]
        node.raft.read_index("a", node.now)
        node.drain()
        for _ in range(2):
            node.gets(2, AppendReply(1, True, old.round, 1))
            node.gets(3, AppendReply(1, True, old.round, 1))
        self.assertEqual(node.host.reads, [])
        node.acknowledge(3)
        self.assertEqual(node.host.reads, [("a", 1)])

    def test_deposed_leader(self) -> None:
        """etcd#741: an answer with a higher term confirms nothing."""
        node = Single()
        node.lead_on()
        node.raft.read_index("a", node.now)
        node.drain()
        round = node.said(AppendEntries, 2)[-1].round
        node.gets(2, AppendReply(9, True, round, 1))
        self.assertEqual(node.host.reads, [("a", -1)])
        self.assertRaises(NotLeader, node.raft.read_index, "b", node.now)

    def test_refusal_confirms_leadership(self) -> None:
        """A follower that lacks entries knows the leader no less."""
        node = Single()
        node.lead_on()
        node.raft.read_index("a", node.now)
        node.drain()
        round = node.said(AppendEntries, 2)[-1].round
        node.gets(2, AppendReply(1, False, round, 0, 1, 1, 0))
        self.assertEqual(node.host.reads, [("a", 1)])

    def test_refusal_of_an_earlier_term(self) -> None:
        """It names no round: that would be one of the term in which the same leader leads again."""
        node = Single(terms=(1,), state=HardState(3))
        self.assertEqual(node.append(term=1, round=7), [AppendReply(3, False, 0, 0)])
        node = Single()
        node.lead_on()
        node.wait(0.15)
        node.sent.clear()
        node.raft.read_index("a", node.now)
        node.drain()
        assert node.raft.leader is not None
        before = str(node.raft.leader.progress[3]), node.raft.leader.progress[3].last_heard
        lease = node.raft.lease_until()
        node.gets(3, AppendReply(1, False, 0, 0))
        self.assertEqual(node.host.reads, [])
        self.assertEqual(node.raft.lease_until(), lease)
        after = str(node.raft.leader.progress[3]), node.raft.leader.progress[3].last_heard
        self.assertEqual(after, before)

    def test_lease_waits_for_the_term(self) -> None:
        """etcd#7331: a majority that answers is none that has an entry of the term."""
        node = Single(terms=(1,))
        node.lead()
        for peer in (2, 3):
            node.acknowledge(peer, 0)
        self.assertEqual(node.raft.commit_index, 0)
        self.assertFalse(node.raft.lease_valid(node.now))
        node.wait(0.1)
        node.acknowledge(2, 2)
        self.assertTrue(node.raft.lease_valid(node.now))

    def test_lease_counts_from_the_sending(self) -> None:
        """An answer that was long under way does not prolong the lease from its arrival."""
        node = Single()
        node.lead_on()
        node.wait(0.15)
        node.said(AppendEntries, 3)
        sent = node.said(AppendEntries, 2)[-1]
        at = node.now - 0.05
        node.now += 0.7
        node.gets(2, AppendReply(1, True, sent.round, 1))
        self.assertTrue(node.raft.lease_valid(at + 0.89))
        self.assertFalse(node.raft.lease_valid(at + 0.91))

    def test_lease_ends_with_timeout_now(self) -> None:
        """A successor may be elected at once."""
        node = Single()
        node.lead_on()
        self.assertTrue(node.raft.lease_valid(node.now))
        node.raft.transfer_leadership(2, node.now)
        self.assertFalse(node.raft.lease_valid(node.now))

    def test_lease_ends_with_the_links(self) -> None:
        """Followers may take it for a crash; answers of before do not give it back."""
        node = Single()
        node.lead_on()
        node.wait(0.1)
        late = node.said(AppendEntries, 2)[-1]
        node.raft.peer_lost(3, node.now)
        self.assertTrue(node.raft.lease_valid(node.now))
        node.raft.peer_lost(2, node.now)
        self.assertFalse(node.raft.lease_valid(node.now))
        node.raft.peer_connected(2, node.now)
        node.gets(2, AppendReply(1, True, late.round, 1))
        self.assertFalse(node.raft.lease_valid(node.now))
        node.drain()
        node.acknowledge(2)
        self.assertTrue(node.raft.lease_valid(node.now))


class MembershipBugTests(SynchronousTestCase):
    """5.4 Membership."""

    def change(self, node: Single, configuration: Configuration) -> None:
        node.raft.change_membership(configuration, 0, node.now)
        node.drain()

    def test_one_change_at_a_time(self) -> None:
        """hashicorp#158: a second one waits for the first to be committed."""
        node = Single()
        node.lead_on()
        self.change(node, members(1, 2, 3, learners=(4,)))
        error = self.assertRaises(MembershipError, self.change, node, members(1, 2, 3))
        self.assertIn("under way", str(error))
        node.acknowledge(2)
        self.change(node, members(1, 2, 3))

    def test_those_that_stay_have_to_be_there(self) -> None:
        """No voter is removed when too few are left, without the lost and the amnesic."""
        node = Single()
        node.lead_on()
        node.raft.peer_lost(2, node.now)
        for stay in (members(1, 2), members(2, 3)):
            error = self.assertRaises(MembershipBusy, self.change, node, stay)
            self.assertIn("too few", str(error))
        node.raft.peer_connected(2, node.now)
        node.wait(0.1)
        round = node.said(AppendEntries, 2)[-1].round
        node.gets(2, AppendReply(1, True, round, 0, amnesic=True))
        self.assertRaises(MembershipBusy, self.change, node, members(1, 2))
        node.wait(0.1)
        node.acknowledge(2)
        self.change(node, members(1, 2))

    def test_those_that_stay_have_to_answer(self) -> None:
        """A link that stands, or that nobody has made yet, is not the member behind it."""
        node = Single()
        node.lead()
        node.acknowledge(2)  # 3 was never there
        self.assertRaises(MembershipBusy, self.change, node, members(1, 3))
        node.wait(0.5)
        node.acknowledge(2)
        node.wait(0.6)  # 2 is silent, but not for long
        self.change(node, members(1, 2))
        node = Single()
        node.lead_on()
        node.wait(0.9)
        node.acknowledge(2)
        node.wait(0.2)  # 3 has been silent for an election timeout
        self.assertRaises(MembershipBusy, self.change, node, members(1, 3))
        self.change(node, members(1, 2))

    def test_who_is_away_can_be_removed(self) -> None:
        """The others are a majority of those that stay."""
        node = Single()
        node.lead_on()
        node.raft.peer_lost(2, node.now)
        self.change(node, members(1, 3))

    def test_one_step_only(self) -> None:
        """Two members at once, no voter left, doubled addresses: refused."""
        node = Single()
        node.lead_on()
        for bad in (
            members(1), members(1, 2, 3, 4, 5), members(1, 2, 3), members(1, 2, learners=(3,)),
            Configuration((*members(1, 2, 3).members, Member(4, ":7482", False))),
            members(1, 2, 4), Configuration(),
        ):  # fmt: skip
            self.assertRaises(MembershipError, self.change, node, bad)
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3))
        node = Single(members(1))
        node.wait(0)
        error = self.assertRaises(MembershipError, self.change, node, Configuration())
        self.assertIn("last voter", str(error))

    def test_addresses_are_exchanged_in_one_step(self) -> None:
        """They are no part of a majority; whoever changes besides is refused."""
        node = Single()
        node.lead_on()
        old = node.raft.configuration
        two, three = old.members[1:]
        new = old.moved(2, three.address)
        self.assertEqual([m.address for m in new.members[1:]], [three.address, two.address])
        self.assertRaises(MembershipError, self.change, node, new.without(1))
        self.assertRaises(
            MembershipError, self.change, node, new.with_member(Member(4, ":7999", False))
        )
        self.change(node, new)
        self.assertEqual(node.raft.configuration.members, new.members)

    def test_adopted_when_appended(self) -> None:
        """valkey#3926: on the leader and on followers, long before it is applied."""
        node = Single()
        node.lead_on()
        self.change(node, members(1, 2))
        self.assertEqual(node.raft.configuration.voters, (1, 2))
        node = Single()
        node.append((0, 0), configuration_entry(1, 1, members(1, 2)), term=1)
        self.assertEqual(node.raft.configuration.voters, (1, 2))

    def test_needs_a_commit_of_the_own_term(self) -> None:
        """The bug of single-server changes found in 2015."""
        node = Single(terms=(1,))
        node.lead()
        error = self.assertRaises(MembershipError, self.change, node, members(1, 2))
        self.assertIn("its term", str(error))

    def test_rolled_back(self) -> None:
        """scylla#31257: a truncated configuration no longer holds, nor do its quorums."""
        node = Single()
        node.append((0, 0), configuration_entry(1, 1, members(1, 2, 3)), term=1)
        node.append((1, 1), configuration_entry(2, 1, members(1, 2)))
        self.assertEqual(node.raft.configuration.voters, (1, 2))
        node.append((1, 1), entry(2, 2), term=2, leader=3)
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3))

    def test_history_removes_nobody(self) -> None:
        """redisraft PR#31, #2: a newcomer that reads old configurations is not removed."""
        node = Single(Configuration())
        node.append(
            (0, 0), configuration_entry(1, 1, members(2, 3)),
            configuration_entry(2, 1, members(2)), term=1, commit=2,
        )  # fmt: skip
        self.assertFalse(node.raft.removed)
        node.append((2, 1), configuration_entry(3, 1, members(2, learners=(1,))), commit=3)
        self.assertFalse(node.raft.removed)
        node.append((3, 1), configuration_entry(4, 1, members(2)), commit=3)
        self.assertFalse(node.raft.removed)
        node.append((4, 1), commit=4)
        self.assertTrue(node.raft.removed)

    def test_a_later_configuration_takes_a_removal_back(self) -> None:
        """redisraft#2: one that was added again reads its removal first; in a snapshot, too."""
        for snapshot in (False, True):
            node = Single(Configuration())
            node.append(
                (0, 0), configuration_entry(1, 1, members(2, learners=(1,))),
                configuration_entry(2, 1, members(2)), term=1, commit=2,
            )  # fmt: skip
            self.assertTrue(node.raft.removed)
            node.drain()
            again = members(2, learners=(1,))
            if snapshot:
                node.raft.snapshot_installed(3, 1, 0, again, 2, node.now)
            else:
                node.append((2, 1), configuration_entry(3, 1, again), commit=3)
            self.assertFalse(node.raft.removed)

    def test_a_leaders_word_is_not_taken_back(self) -> None:
        """Ids are never used again: what has this node as a member is of before."""
        for snapshot in (False, True):
            node = Single(members(1, 2))
            node.raft.learn_of_removal(node.now)
            node.drain()
            if snapshot:
                node.raft.snapshot_installed(3, 1, 0, members(1, 2), 2, node.now)
            else:
                node.append((0, 0), configuration_entry(1, 1, members(1, 2)), term=1, commit=1)
            self.assertTrue(node.raft.removed)

    def test_history_removes_no_leader(self) -> None:
        """After a restart of all, a leader commits again the configurations of before its time."""
        node = Single(Configuration())
        node.append(
            (0, 0), configuration_entry(1, 1, members(2)),
            configuration_entry(2, 1, members(2, learners=(1,))),
            configuration_entry(3, 1, members(1, 2)), term=1, commit=3,
        )  # fmt: skip
        node.restart()
        node.wait(1)
        node.lead_on()
        self.assertEqual(node.said(TimeoutNow), [])
        self.assertFalse(node.raft.transferring or node.raft.removed)
        node.propose()

    def test_log_wins_over_the_snapshot(self) -> None:
        """PySyncObj#133: after a restart the newest configuration of the log holds."""
        node = Single()
        node.append((0, 0), configuration_entry(1, 1, members(1, 2, 3)), term=1, commit=1)
        node.host.take_snapshot()
        node.append((1, 1), configuration_entry(2, 1, members(1, 2)), commit=1)
        node.restart()
        self.assertEqual(node.raft.configuration.voters, (1, 2))

    def test_removed_peer_neither_counts_nor_stays(self) -> None:
        """openraft 6d680484: it learns of its removal, then nothing is sent any more."""
        node = Single()
        node.lead_on()
        self.change(node, members(1, 2))
        self.assertEqual([m.id for m in node.raft.peers], [2, 3])
        node.acknowledge(3)
        self.assertEqual(node.raft.commit_index, 1)
        node.acknowledge(2)
        self.assertEqual(node.raft.commit_index, 2)
        self.assertEqual(node.said(AppendEntries, 3)[-1].leader_commit, 2)
        node.wait(0.1)
        node.said(AppendEntries)
        self.assertEqual([m.id for m in node.raft.peers], [2])
        node.propose()
        self.assertEqual(node.said(AppendEntries, 3), [])

    def test_removed_peer_that_is_away(self) -> None:
        """It does not stay for ever: after an election timeout it is let go."""
        node = Single()
        node.lead_on()
        self.change(node, members(1, 2))
        for _ in range(12):
            node.acknowledge(2)
            node.wait(0.1)
        self.assertEqual([m.id for m in node.raft.peers], [2])

    def test_leader_removes_itself(self) -> None:
        """It does not count itself, hands over after the commit, and stays quiet."""
        node = Single()
        node.lead_on()
        self.change(node, members(2, 3))
        node.acknowledge(2)
        self.assertEqual(node.raft.commit_index, 1)
        node.acknowledge(3)
        self.assertEqual((node.raft.commit_index, node.raft.removed), (2, True))
        self.assertEqual(len(node.said(TimeoutNow)), 1)
        self.assertIs(node.raft.role, Role.FOLLOWER)
        node.said(RequestVote)
        node.wait(10)
        self.assertEqual(node.said(RequestVote), [])

    def test_leader_that_leaves_always_goes(self) -> None:
        """With no successor at hand, with one that is away, or while it hands over anyway."""
        for trouble in ("no links", "away", "handing over"):
            node = Single()
            node.lead_on()
            self.change(node, members(2, 3))
            node.said(AppendEntries, 2)
            if trouble == "handing over":
                node.propose()
                node.raft.transfer_leadership(2, node.now)
            last = node.said(AppendEntries, 3)[-1]
            node.gets(3, AppendReply(1, True, last.round, 2))
            node.gets(2, AppendReply(1, True, last.round, 1))
            if trouble == "away":
                node.propose()
            if trouble == "no links":
                node.raft.peer_lost(2, node.now)
                node.raft.peer_lost(3, node.now)
                node.raft.commit_to(2)
                node.drain()
            else:
                node.gets(2, AppendReply(1, True, last.round, 2))
                node.wait(1.05)
            self.assertEqual((node.raft.role, node.raft.removed), (Role.FOLLOWER, True), trouble)

    def test_leader_that_leaves_does_not_wait_for_its_successor(self) -> None:
        """A successor that never catches up does not keep it: the others elect one."""
        node = Single(members(1, 2, 3, 4))
        node.lead_on()
        self.change(node, members(2, 3, 4))
        node.propose()
        for peer in (2, 3):
            node.acknowledge(peer, 2)
        self.assertTrue(node.raft.removed)
        for _ in range(11):
            for peer in (2, 3, 4):
                for message in node.said(AppendEntries, peer)[-1:]:
                    node.gets(peer, AppendReply(1, True, message.round, 2))
            node.wait(0.1)
        self.assertIs(node.raft.role, Role.FOLLOWER)

    def test_new_leader_promotes_nobody_at_once(self) -> None:
        """The same bug by way of the promotion of a learner."""
        node = Single()
        with_learner = members(1, 2, 3, learners=(4,))
        node.append((0, 0), configuration_entry(1, 1, with_learner), term=1, commit=1)
        node.lead()
        node.acknowledge(4)
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3))

    def test_learner_is_promoted_when_it_has_caught_up(self) -> None:
        """Not before its addition is committed, and not while it lags."""
        node = Single()
        node.lead_on()
        node.propose()
        node.acknowledge(2)
        self.change(node, members(1, 2, 3, learners=(4,)))
        node.acknowledge(4, 3)
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3))
        node.propose()
        node.acknowledge(2)
        self.assertEqual((node.raft.commit_index, node.raft.configuration.index), (4, 3))
        node.acknowledge(4, 4)
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3, 4))

    def test_founding_members_are_in_the_log(self) -> None:
        """Who joins later learns of them from the log: the first entry is the configuration."""
        node = Single(members(1))
        node.wait(0)
        self.assertEqual(node.raft.configuration, Configuration(members(1).members, 1))


class SnapshotBugTests(SynchronousTestCase):
    """5.5 Snapshots and log files."""

    def test_conflicting_log_is_discarded(self) -> None:
        """hashicorp#697, rule 7: also when it is longer than the snapshot."""
        node = Single(terms=(1,) * 9)
        node.append(term=2)
        node.raft.snapshot_installed(4, 2, 0, members(1, 2, 3), 2, node.now)
        node.host.applied = 4
        node.drain()
        self.assertEqual((node.raft.log.last_index, node.raft.log.term_at(9)), (4, None))
        self.assertEqual(node.append((4, 2), entry(5, 2))[-1].match_index, 5)

    def test_crash_between_installing_and_the_log(self) -> None:
        """canonical/raft#199: the log is reset to the newer snapshot at the start."""
        node = Single(terms=(1, 1))
        node.host.slow = True
        node.append(term=2)
        node.raft.snapshot_installed(9, 2, 0, members(1, 2, 3), 2, node.now)
        other = Single(members(1, 2, 3))
        other.append((0, 0), *[entry(i, 1) for i in range(1, 10)], term=1, commit=9)
        other.host.take_snapshot()
        node.host.snapshot = other.host.snapshot
        node.restart()
        log = node.raft.log
        self.assertEqual((log.first_index, log.last_index, node.raft.commit_index), (10, 9, 9))
        self.assertEqual(node.host.store.base, 9)

    def test_old_snapshot_is_not_wanted(self) -> None:
        """redisraft#449: what is here already is not installed over what came meanwhile."""
        node = Single(terms=(1,) * 5)
        node.append((5, 1), term=2, commit=5)
        self.assertFalse(node.raft.snapshot_offered(2, 2, 4, 1, node.now))
        node.raft.snapshot_installed(4, 1, 0, members(1, 2, 3), 2, node.now)
        node.drain()
        self.assertEqual((node.raft.commit_index, node.raft.last_applied), (5, 5))
        self.assertEqual(node.raft.log.last_index, 5)

    def test_offer_counts_as_contact(self) -> None:
        """A long transfer is no reason for an election."""
        node = Single()
        for _ in range(5):
            node.raft.snapshot_offered(2, 1, 9, 1, node.now)
            node.wait(0.6)
            node.raft.leader_contact(2, 1, node.now)
            node.wait(0.6)
        self.assertEqual((node.raft.role, node.raft.leader_id), (Role.FOLLOWER, 2))

    def test_committed_entries_are_never_truncated(self) -> None:
        """What was applied and is contradicted needs a snapshot, not a truncation."""
        node = Single()
        node.append((0, 0), entry(1, 1), entry(2, 1), term=1, commit=2)
        reply = node.append((1, 1), entry(2, 2), term=2, leader=3)[-1]
        self.assertEqual((reply.success, reply.conflict_index), (False, 0))
        self.assertTrue(node.raft.reinstalling)
        self.assertEqual(node.terms, [1, 1])
        self.assertFalse(node.append((0, 0), term=2, leader=3)[-1].success)
        self.assertTrue(node.raft.snapshot_offered(3, 2, 1, 1, node.now))
        node.host.machine, node.host.applied = 0, 1
        node.raft.snapshot_installed(1, 1, 0, members(1, 2, 3), 3, node.now)
        node.drain()
        self.assertEqual((node.raft.commit_index, node.raft.last_applied), (1, 1))
        self.assertEqual(node.append((1, 1), entry(2, 2), leader=3)[-1].match_index, 2)


class AmnesiaTests(SynchronousTestCase):
    """A node that may have forgotten what it acknowledged (DESIGN section 4)."""

    def test_does_not_vote(self) -> None:
        """Neither votes nor pre-votes nor campaigns."""
        node = Single(terms=(1,), amnesic=True)
        node.wait(1.0)
        self.assertFalse(node.asked(2, pre_vote=True)[0].granted)
        reply = node.asked(2)[0]
        self.assertEqual((reply.granted, reply.amnesic), (False, True))
        node.wait(3)
        node.gets(2, VoteReply(node.raft.current_term + 1, True, True))
        node.gets(3, VoteReply(node.raft.current_term + 1, True, True))
        self.assertEqual([r for r in node.said(RequestVote) if not r.pre_vote], [])
        self.assertEqual(node.raft.voted_for, 0)

    def test_cure(self) -> None:
        """Only a commit index from a leader that knows of it counts, and only when it is here."""
        node = Single(terms=(1,), amnesic=True)
        node.append((1, 1), term=2, commit=1)
        self.assertTrue(node.raft.amnesic)
        node.append((1, 1), commit=3, amnesic=True)
        self.assertTrue(node.raft.amnesic)
        node.host.slow = True
        node.append((1, 1), entry(2, 2), entry(3, 2), commit=3)
        self.assertTrue(node.raft.amnesic)
        node.sync()
        self.assertFalse(node.raft.amnesic)
        self.assertFalse(node.host.amnesic)
        self.assertFalse(node.said(AppendReply)[-1].amnesic)

    def test_leader_forgets_what_it_acknowledged(self) -> None:
        """And says so, once it has committed in its own term."""
        node = Single()
        node.lead()
        node.gets(3, AppendReply(1, True, 1, 0, amnesic=True))
        self.assertFalse(any(m.amnesic for m in node.said(AppendEntries, 3)))
        node.acknowledge(2)
        node.propose()
        node.acknowledge(2)
        node.wait(0.2)
        self.assertTrue(node.said(AppendEntries, 3)[-1].amnesic)
        assert node.raft.leader is not None
        self.assertEqual(node.raft.leader.progress[3].match_index, 0)

    def test_acknowledgement_of_the_former_life(self) -> None:
        """A late one is not believed."""
        node = Single()
        node.lead_on()
        node.propose()
        rounds = [m.round for m in node.said(AppendEntries, 3)]
        node.gets(3, AppendReply(1, True, rounds[-1], 0, amnesic=True))
        node.gets(3, AppendReply(1, True, rounds[-1], 2))
        self.assertEqual(node.raft.commit_index, 1)
        assert node.raft.leader is not None
        self.assertEqual(node.raft.leader.progress[3].match_index, 0)

    def test_is_no_successor(self) -> None:
        """Leadership is not handed to it, and if it were, it would not take it."""
        node = Single(terms=(1,), amnesic=True)
        node.append((1, 1))
        node.gets(2, TimeoutNow(1))
        self.assertIs(node.raft.role, Role.FOLLOWER)
        node = Single()
        node.lead_on()
        node.gets(3, AppendReply(1, True, 1, 1, amnesic=True))
        self.assertRaises(MembershipError, node.raft.transfer_leadership, 3, node.now)
        node.raft.transfer_leadership(None, node.now)
        node.drain()
        self.assertEqual(len(node.said(TimeoutNow, 2)), 1)

    def test_majority_forgot(self) -> None:
        """After ten election timeouts those that forgot may elect, with a warning."""
        node = Single(terms=(1,), amnesic=True)
        for _ in range(20):
            node.wait(0.51)
            node.gets(2, VoteReply(1, False, True, True))
            granted = node.asked(2, pre_vote=True, amnesic=True)[0].granted
            self.assertEqual(granted, node.now >= 110.0)
        node.wait(0.6)
        node.gets(2, VoteReply(2, True, True, True))
        self.assertEqual(node.raft.voted_for, 1)
        self.assertIn("lost", [text for level, text in node.host.events if level == "warn"][-1])

    def test_minority_forgot(self) -> None:
        """While those that remember are a majority, nothing changes, however long it takes."""
        node = Single(terms=(1,), amnesic=True)
        for _ in range(40):
            node.wait(0.51)
            node.gets(2, VoteReply(1, False, True, False))
            node.gets(3, VoteReply(1, False, True, False))
            self.assertFalse(node.asked(2, pre_vote=True)[0].granted)

    def test_sole_voter(self) -> None:
        """It goes on at once, with the warning."""
        node = Single(members(1), terms=(1,), amnesic=True)
        self.assertFalse(node.raft.amnesic)
        self.assertIn("forgotten", " ".join(t for level, t in node.host.events if level == "warn"))
        node.wait(0)
        self.assertIs(node.raft.role, Role.LEADER)
