"""One test for each sentence of figure 2 of the Raft paper, and of figure 13."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.raft import HardState, Role
from finn.raft.messages import AppendEntries, AppendReply, RequestVote, VoteReply
from finn.raft.progress import ProgressState
from tests.raft.host import members
from tests.raft.single import Single, entry


class StateTests(SynchronousTestCase):
    """Figure 2, State."""

    def test_initial_state(self) -> None:
        """currentTerm, commitIndex and lastApplied are initialized to 0, votedFor to null."""
        raft = Single().raft
        self.assertEqual((raft.current_term, raft.voted_for), (0, 0))
        self.assertEqual((raft.commit_index, raft.last_applied), (0, 0))

    def test_persistent_before_responding_votes(self) -> None:
        """Persistent state is updated on stable storage before responding to RPCs: the vote."""
        node = Single()
        node.host.slow = True
        self.assertEqual(node.asked(2, 1), [])
        self.assertEqual(node.host.state, HardState())
        node.sync()
        self.assertEqual(node.host.state, HardState(1, 2))
        self.assertTrue(node.said(VoteReply)[0].granted)

    def test_persistent_before_responding_log(self) -> None:
        """Persistent state is updated on stable storage before responding to RPCs: the log."""
        node = Single()
        node.append(term=1)
        node.host.slow = True
        self.assertEqual(node.append((0, 0), entry(1, 1)), [])
        node.sync()
        self.assertEqual(node.said(AppendReply)[0].match_index, 1)

    def test_persistent_before_responding_term(self) -> None:
        """Persistent state is updated on stable storage before responding to RPCs: the term."""
        node = Single()
        node.host.slow = True
        self.assertEqual(node.append((0, 0), entry(1, 1), term=1), [])
        node.host.sync(1)
        self.assertEqual(node.host.state, HardState(1, 0))
        node.sync()
        self.assertEqual(node.said(AppendReply)[-1].match_index, 1)

    def test_state_survives(self) -> None:
        """currentTerm, votedFor and log are persistent."""
        node = Single()
        node.append((0, 0), entry(1, 1), entry(2, 1), term=1)
        node.wait(5)
        node.asked(3, 7)
        node.restart()
        self.assertEqual((node.raft.current_term, node.raft.voted_for), (7, 3))
        self.assertEqual(node.raft.log.last_index, 2)

    def test_leader_state_is_new_after_election(self) -> None:
        """nextIndex[] starts at the leader's last log index + 1, matchIndex[] at 0."""
        node = Single(terms=(1, 1, 1))
        node.campaign()
        node.raft.receive(2, VoteReply(node.raft.current_term, True), node.now)
        assert node.raft.leader is not None
        for progress in node.raft.leader.progress.values():
            self.assertEqual((progress.next_index, progress.match_index), (4, 0))


class AppendEntriesTests(SynchronousTestCase):
    """Figure 2, AppendEntries RPC, receiver implementation."""

    def test_rule_1_lower_term(self) -> None:
        """1. Reply false if term < currentTerm (5.1)."""
        node = Single(state=HardState(5, 0))
        reply = node.append((0, 0), entry(1, 3), term=3)[0]
        self.assertEqual((reply.success, reply.term), (False, 5))
        self.assertEqual(node.terms, [])

    def test_rule_2_missing(self) -> None:
        """2. Reply false if the log has no entry at prevLogIndex (5.3)."""
        node = Single(terms=(1, 1))
        reply = node.append((3, 1), entry(4, 1))[0]
        self.assertFalse(reply.success)
        self.assertEqual((reply.rejected_index, reply.conflict_index), (3, 3))
        self.assertEqual(node.terms, [1, 1])

    def test_rule_2_other_term(self) -> None:
        """2. Reply false if the entry at prevLogIndex has another term than prevLogTerm (5.3)."""
        node = Single(terms=(1, 2, 2, 2))
        reply = node.append((4, 3), entry(5, 3), term=3)[0]
        self.assertFalse(reply.success)
        self.assertEqual((reply.conflict_term, reply.conflict_index), (2, 2))
        self.assertEqual(node.terms, [1, 2, 2, 2])

    def test_rule_3_conflict(self) -> None:
        """3. An entry that conflicts is deleted with all that follow it (5.3)."""
        node = Single(terms=(1, 1, 1, 1))
        node.append((1, 1), entry(2, 2), term=2)
        self.assertEqual(node.terms, [1, 2])

    def test_rule_4_new_entries(self) -> None:
        """4. Append any new entries not already in the log."""
        node = Single(terms=(1, 1))
        node.append((1, 1), entry(2, 1), entry(3, 1), entry(4, 1))
        self.assertEqual(node.terms, [1, 1, 1, 1])

    def test_rule_5_leader_commit(self) -> None:
        """5. commitIndex = min(leaderCommit, index of the last new entry)."""
        node = Single(terms=(1, 1))
        node.append((2, 1), entry(3, 1), commit=2)
        self.assertEqual(node.raft.commit_index, 2)
        node.append((3, 1), entry(4, 1), commit=9)
        self.assertEqual(node.raft.commit_index, 4)

    def test_rule_5_only_greater(self) -> None:
        """5. If leaderCommit > commitIndex: a lower one changes nothing."""
        node = Single(terms=(1, 1))
        node.append((2, 1), commit=2)
        node.append((2, 1), commit=1)
        self.assertEqual(node.raft.commit_index, 2)


class RequestVoteTests(SynchronousTestCase):
    """Figure 2, RequestVote RPC, receiver implementation."""

    def test_rule_1_lower_term(self) -> None:
        """1. Reply false if term < currentTerm (5.1)."""
        node = Single(state=HardState(5, 0))
        node.wait(3)
        reply = node.asked(2, 4)[0]
        self.assertEqual((reply.granted, reply.term), (False, 5))

    def test_rule_2_free_vote(self) -> None:
        """2. Grant if votedFor is null and the candidate's log is up to date (5.2, 5.4)."""
        node = Single()
        self.assertTrue(node.asked(2, 1, (0, 0))[0].granted)
        self.assertEqual(node.raft.voted_for, 2)

    def test_rule_2_same_candidate(self) -> None:
        """2. Grant again if votedFor is this candidate: the answer may have been lost."""
        node = Single()
        node.asked(2, 1)
        self.assertTrue(node.asked(2, 1)[0].granted)

    def test_rule_2_other_candidate(self) -> None:
        """2. One vote a term."""
        node = Single()
        node.asked(2, 1)
        self.assertFalse(node.asked(3, 1)[0].granted)

    def test_rule_2_log_is_longer_here(self) -> None:
        """5.4.1. With the same last term the longer log is more up to date."""
        node = Single(terms=(1, 1))
        node.wait(0.99)
        node.wait(0.02)
        self.assertFalse(node.asked(2, 2, (1, 1), transfer=True)[0].granted)
        self.assertTrue(node.asked(3, 2, (2, 1), transfer=True)[0].granted)

    def test_rule_2_last_term_is_later_here(self) -> None:
        """5.4.1. The log with the later last term is more up to date, however short."""
        node = Single(terms=(1, 3))
        self.assertFalse(node.asked(2, 4, (9, 2), transfer=True)[0].granted)
        self.assertTrue(node.asked(3, 4, (1, 4), transfer=True)[0].granted)


class AllServersTests(SynchronousTestCase):
    """Figure 2, Rules for servers: all servers."""

    def test_applies_what_is_committed(self) -> None:
        """If commitIndex > lastApplied: apply log[lastApplied] (5.3)."""
        node = Single()
        node.append((0, 0), entry(1, 1), entry(2, 1), term=1, commit=2)
        self.assertEqual((node.raft.commit_index, node.raft.last_applied), (2, 2))

    def test_higher_term_in_a_request(self) -> None:
        """A request with a higher term: currentTerm = T, convert to follower (5.1)."""
        node = Single()
        node.lead()
        node.append(term=9, leader=3)
        self.assertEqual((node.raft.role, node.raft.current_term), (Role.FOLLOWER, 9))
        self.assertEqual(node.raft.leader_id, 3)

    def test_higher_term_in_a_response(self) -> None:
        """A response with a higher term: currentTerm = T, convert to follower (5.1)."""
        node = Single()
        node.lead()
        node.gets(2, AppendReply(9, False, 1, 0))
        self.assertEqual((node.raft.role, node.raft.current_term), (Role.FOLLOWER, 9))

    def test_higher_term_frees_the_vote(self) -> None:
        """votedFor belongs to currentTerm."""
        node = Single()
        node.asked(2, 1)
        self.assertTrue(node.asked(3, 2)[0].granted)


class FollowersTests(SynchronousTestCase):
    """Figure 2, Rules for servers: followers (5.2)."""

    def test_responds(self) -> None:
        """Respond to RPCs from candidates and leaders."""
        node = Single()
        self.assertEqual(len(node.asked(2, 1)), 1)
        self.assertEqual(len(node.append(term=1)), 1)

    def test_election_timeout(self) -> None:
        """If the election timeout elapses: convert to candidate; it is drawn in [t, 2t]."""
        node = Single()
        node.wait(0.999)
        self.assertIs(node.raft.role, Role.FOLLOWER)
        node.wait(1.001)
        self.assertIs(node.raft.role, Role.CANDIDATE)

    def test_append_entries_puts_it_off(self) -> None:
        """... without receiving AppendEntries from the current leader."""
        node = Single()
        for _ in range(10):
            node.append(term=1)
            node.wait(0.9)
        self.assertIs(node.raft.role, Role.FOLLOWER)

    def test_granting_a_vote_puts_it_off(self) -> None:
        """... or granting a vote."""
        node = Single()
        for term in range(1, 10):
            self.assertTrue(node.asked(2, term)[0].granted)
            node.wait(0.9)
        self.assertIs(node.raft.role, Role.FOLLOWER)

    def test_old_leader_does_not(self) -> None:
        """AppendEntries of a leader of the past is no contact."""
        node = Single(state=HardState(5, 0))
        for _ in range(3):
            node.wait(0.9)
            node.append(term=4)
        self.assertIs(node.raft.role, Role.CANDIDATE)


class CandidatesTests(SynchronousTestCase):
    """Figure 2, Rules for servers: candidates (5.2)."""

    def test_starts_an_election(self) -> None:
        """Increment currentTerm, vote for self, reset the timer, send RequestVote to all."""
        node = Single(terms=(1, 1))
        node.campaign()
        self.assertEqual((node.raft.current_term, node.raft.voted_for), (2, 1))
        self.assertGreaterEqual(node.raft.next_deadline(), node.now + 1.0)
        for peer in (2, 3):
            request = [r for r in node.said(RequestVote, peer) if not r.pre_vote][-1]
            self.assertEqual(
                (request.term, request.last_log_index, request.last_log_term), (2, 2, 1)
            )

    def test_majority(self) -> None:
        """If votes are received from a majority: become leader."""
        node = Single(members(1, 2, 3, 4, 5))
        node.campaign()
        node.gets(2, VoteReply(1, True))
        node.gets(2, VoteReply(1, True))
        node.gets(4, VoteReply(1, False))
        self.assertIs(node.raft.role, Role.CANDIDATE)
        node.gets(3, VoteReply(1, True))
        self.assertIs(node.raft.role, Role.LEADER)

    def test_new_leader(self) -> None:
        """If AppendEntries is received from the new leader: convert to follower."""
        node = Single()
        node.campaign()
        node.append(term=1)
        self.assertEqual((node.raft.role, node.raft.leader_id), (Role.FOLLOWER, 2))

    def test_timeout(self) -> None:
        """If the election timeout elapses: start a new election."""
        node = Single()
        node.campaign()
        node.said(RequestVote)
        node.wait(2.0)
        self.assertIs(node.raft.role, Role.CANDIDATE)
        self.assertTrue(node.said(RequestVote, 2))


class LeadersTests(SynchronousTestCase):
    """Figure 2, Rules for servers: leaders."""

    def test_says_so_at_once(self) -> None:
        """Upon election: send AppendEntries to each server ..."""
        node = Single()
        node.lead()
        self.assertEqual([len(node.said(AppendEntries, p)) for p in (2, 3)], [1, 1])

    def test_repeats_it(self) -> None:
        """... and repeat during idle periods to prevent election timeouts (5.2)."""
        node = Single()
        node.lead_on()
        node.wait(0.35)
        for peer in (2, 3):
            self.assertGreaterEqual(len(node.said(AppendEntries, peer)), 3)

    def test_command(self) -> None:
        """A command from a client: append to the local log; it counts when it is committed."""
        node = Single()
        node.lead_on()
        made = node.propose()
        self.assertEqual(node.raft.log.last_index, made.index)
        self.assertLess(node.raft.commit_index, made.index)
        node.acknowledge(2)
        self.assertEqual(node.raft.commit_index, made.index)

    def test_sends_from_next_index(self) -> None:
        """If last log index >= nextIndex for a follower: send the entries from nextIndex on."""
        node = Single()
        node.lead_on()
        made = [node.propose() for _ in range(2)]
        sent = node.said(AppendEntries, 2)
        self.assertEqual([m.entries for m in sent], [[e] for e in made])
        self.assertEqual([m.prev_log_index for m in sent], [1, 2])

    def test_success(self) -> None:
        """If successful: update nextIndex and matchIndex for the follower (5.3)."""
        node = Single()
        node.lead_on()
        node.propose()
        node.acknowledge(2)
        assert node.raft.leader is not None
        progress = node.raft.leader.progress[2]
        self.assertEqual((progress.match_index, progress.next_index), (2, 3))

    def test_inconsistency(self) -> None:
        """If it fails because of log inconsistency: go back with nextIndex and retry (5.3)."""
        node = Single(terms=(1, 1, 2, 2))
        node.lead()
        first = node.said(AppendEntries, 2)[-1]
        self.assertEqual(first.prev_log_index, 4)
        node.gets(2, AppendReply(3, False, first.round, 0, 4, 3, 0))
        again = node.said(AppendEntries, 2)[-1]
        self.assertEqual((again.prev_log_index, again.prev_log_term), (2, 1))
        self.assertEqual([e.index for e in again.entries], [3, 4, 5])

    def test_commits_by_majority(self) -> None:
        """N > commitIndex, a majority of matchIndex[i] >= N, log[N].term == currentTerm ..."""
        node = Single(members(1, 2, 3, 4, 5))
        node.lead_on()
        node.propose()
        node.propose()
        node.acknowledge(2)
        self.assertEqual(node.raft.commit_index, 1)
        node.acknowledge(3, 2)
        self.assertEqual(node.raft.commit_index, 2)
        node.acknowledge(4)
        self.assertEqual(node.raft.commit_index, 3)

    def test_commits_the_own_term_only(self) -> None:
        """... only entries of the own term are committed by counting (5.4.2, figure 8)."""
        node = Single(terms=(1, 2))
        node.lead()
        node.acknowledge(2, 2)
        self.assertEqual(node.raft.commit_index, 0)
        node.wait(0.2)
        node.acknowledge(2, 3)
        self.assertEqual(node.raft.commit_index, 3)


class SectionSixTests(SynchronousTestCase):
    """Section 6, at the end: disruptive servers."""

    def test_vote_while_a_leader_lives(self) -> None:
        """RequestVote within the minimum election timeout of hearing a leader is disregarded."""
        node = Single()
        node.append(term=1)
        node.wait(0.9)
        self.assertFalse(node.asked(3, 5)[0].granted)
        self.assertEqual(node.raft.current_term, 1)
        node.wait(0.1)
        self.assertTrue(node.asked(3, 5)[0].granted)


class InstallSnapshotTests(SynchronousTestCase):
    """Figure 13, InstallSnapshot RPC; chunks are the driver's business."""

    def install(self, node: Single, index: int, term: int) -> None:
        node.raft.snapshot_installed(index, term, 0, members(1, 2, 3), 2, node.now)
        node.host.applied = max(node.host.applied, index)
        node.drain()

    def test_rule_1(self) -> None:
        """1. A lower term is refused."""
        node = Single(state=HardState(5, 0))
        self.assertFalse(node.raft.snapshot_offered(2, 4, 9, 4, node.now))
        self.assertEqual(node.raft.leader_id, 0)

    def test_rule_6(self) -> None:
        """6. If an entry at the same index has the same term, retain what follows."""
        node = Single(terms=(1, 1, 1, 1))
        node.append(term=1)
        self.assertFalse(node.raft.snapshot_offered(2, 1, 3, 1, node.now))
        self.install(node, 3, 1)
        self.assertEqual((node.raft.log.last_index, node.raft.commit_index), (4, 3))
        self.assertEqual(node.terms, [1, 1, 1, 1])

    def test_rule_7(self) -> None:
        """7. Discard the entire log."""
        node = Single(terms=(1, 1, 1, 1))
        node.append(term=2)
        self.assertTrue(node.raft.snapshot_offered(2, 2, 3, 2, node.now))
        self.install(node, 3, 2)
        self.assertEqual((node.raft.log.first_index, node.raft.log.last_index), (4, 3))
        self.assertEqual((node.host.store.base, node.terms), (3, []))

    def test_rule_8(self) -> None:
        """8. Load the cluster configuration of the snapshot."""
        node = Single(members(1, 2))
        node.append(term=1)
        self.install(node, 9, 1)
        self.assertEqual(node.raft.configuration.voters, (1, 2, 3))

    def test_answer(self) -> None:
        """The leader learns that it may go on behind the snapshot."""
        node = Single()
        node.append(term=1)
        self.install(node, 9, 1)
        self.assertEqual(node.said(AppendReply)[-1].match_index, 9)

    def test_sent_when_the_log_is_compacted(self) -> None:
        """Section 7. The leader sends a snapshot when it has discarded the next entry to send."""
        node = Single()
        node.lead_on()
        for _ in range(4):
            node.propose()
        node.acknowledge(3)
        node.wait(0.2)
        node.host.take_snapshot()
        newest = node.said(AppendEntries, 2)[-1].round
        node.gets(2, AppendReply(1, False, newest, 0, 5, 2, 0))
        node.drain()
        self.assertEqual(node.host.snapshots_wanted, [2])
        assert node.raft.leader is not None
        self.assertIs(node.raft.leader.progress[2].state, ProgressState.SNAPSHOT)
        node.gets(2, AppendReply(1, True, newest, 5))
        node.propose()
        self.assertEqual(node.said(AppendEntries, 2)[-1].prev_log_index, 5)
