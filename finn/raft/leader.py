"""A leader: replicates, commits, and knows for how long it is one (figure 2, leaders)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from finn.errors import MembershipBusy, MembershipError, Overloaded, ProtocolError
from finn.raft.configuration import Configuration, Member
from finn.raft.entries import COMMANDS, CONFIGURATION, NOOP, Entry, make_entry
from finn.raft.membership import check_change
from finn.raft.messages import AppendReply, TimeoutNow
from finn.raft.progress import Progress, ProgressState
from finn.raft.reads import Rounds, WaitingReads
from finn.raft.replication import Replication
from finn.raft.transfer import Transfer, choose_target

if TYPE_CHECKING:
    from finn.raft.server import Server

ALWAYS = 1 << 62  # the round that a leader which is a majority by itself has always answered


class Leader:
    """What only a leader has; dropped when it steps down.

    Attributes:
        progress: of every other member, and of those whose removal they do not know yet.
        transfer: the handing over under way, or None.
    """

    def __init__(self, raft: Server, now: float) -> None:
        self._raft = raft
        self.progress: dict[int, Progress] = {}
        self.transfer: Transfer | None = None
        self._leaving: dict[int, Member] = {}
        self._handed_over = False  # a TimeoutNow was sent in this term
        self._rounds = Rounds()
        self._reads = WaitingReads()
        self._void_round = 0  # the lease rests on later rounds only
        self._term_start = raft.log.last_index + 1
        self._uncommitted: deque[tuple[int, int]] = deque()
        self._uncommitted_bytes = 0
        self._replication = Replication(raft, self._rounds)
        self._voters: list[Progress] = []
        self._is_voter = self._has_learners = False
        self._quorum = 0
        self._follow_configuration(now)

    def start(self) -> None:
        """Append the entry of the own term that everything waits for (section 8).

        A log without any configuration begins with the one that the cluster was founded with.
        """
        raft = self._raft
        if raft.amnesic:
            raft.cure()  # what a majority has is the truth now
        if raft.configuration.index == 0 and raft.log.snapshot_index == 0:
            self._append(CONFIGURATION, raft.log.last_time, 0, [raft.configuration.encode()])
        else:
            self._append(NOOP, raft.log.last_time, 0, [])

    def lost(self) -> None:
        """Leadership is over: nothing more is served."""
        self._raft.out.serve_reads(self._reads.lost())

    # -- entries ----------------------------------------------------------------------------------

    def _append(self, kind: int, time: int, count: int, chunks: list[bytes]) -> Entry:
        raft = self._raft
        log = raft.log
        entry = make_entry(
            log.last_index + 1, raft.current_term, kind, max(time, log.last_time),
            raft.random.getrandbits(64), count, chunks,
        )  # fmt: skip
        log.append(entry)
        size = len(entry.record)
        self._uncommitted.append((entry.index, size))
        self._uncommitted_bytes += size
        self._replication.due = True
        if kind == CONFIGURATION:
            # Thesis 4.1: it holds from its append (BUGS 5.4, valkey#3926).
            self._follow_configuration(raft.now)
            raft.out.configuration_changed()
        return entry

    def propose(self, chunks: list[bytes], count: int, wall_ms: int) -> Entry:
        """Append a batch of commands."""
        limit = self._raft.options.max_uncommitted_bytes
        if self._uncommitted and self._uncommitted_bytes + sum(map(len, chunks)) > limit:
            raise Overloaded
        return self._append(COMMANDS, wall_ms, count, chunks)

    @property
    def _is_own_term_committed(self) -> bool:
        return self._raft.commit_index >= self._term_start

    def maybe_commit(self) -> None:
        """Figure 2, last rule of leaders: commit what a majority of the voters holds durably."""
        raft = self._raft
        # Thesis 10.2.1: the own disk counts for what it has, like any other.
        matches = [pr.match_index for pr in self._voters]
        if self._is_voter:
            matches.append(raft.log.persisted_index)
        # BUGS 5.2 (openraft#1802): sorted first.
        matches.sort(reverse=True)
        index = matches[self._quorum - 1]
        # Section 5.4.2, figure 8: only an entry of the own term is committed by counting.
        if index <= raft.commit_index or index < self._term_start:
            return
        had_own = self._is_own_term_committed
        raft.commit_to(index)
        uncommitted = self._uncommitted
        while uncommitted and uncommitted[0][0] <= index:
            self._uncommitted_bytes -= uncommitted.popleft()[1]
        self._replication.commit_news(raft.now)
        self._replication.majority_answered(self._reads.is_waiting)
        if not had_own:
            self._replication.own_term_committed = True
        self._maybe_promote()

    def answered(self, sender: int, reply: AppendReply, now: float) -> None:
        """Take a follower's answer.

        Raises:
            ProtocolError: it answers what was never sent; nothing changed.
        """
        progress = self.progress.get(sender)
        if progress is None:
            return
        if (
            reply.round > self._rounds.newest
            or max(reply.match_index, reply.rejected_index) > self._raft.log.last_index
        ):
            # A round of the future would keep the lease for ever.
            raise ProtocolError("an answer to what was never sent")
        if not reply.success and not reply.round:
            return  # it refuses a message of an earlier term, and promises nothing in this one
        progress.last_heard = now
        progress.connected = True
        if not self._believe(progress, reply):
            return
        if reply.round > progress.acked_round:
            progress.acked_round = reply.round
            if self._reads.is_waiting:
                served = self._reads.answered(self._majority_round())
                if served:
                    self._raft.out.serve_reads(served)
                    self._replication.majority_answered(self._reads.is_waiting)
        if not reply.success:
            self._replication.refused(progress, reply)
            return
        news = self._replication.acknowledged(progress, reply)
        if news and progress.match_index > self._raft.commit_index:
            self.maybe_commit()
        # An answer that tells nothing new may still end a probe, or amnesia.
        self._maybe_hand_over(progress)
        self._maybe_promote()

    def _believe(self, progress: Progress, reply: AppendReply) -> bool:
        """Forget what an amnesic peer acknowledged in its former life, once, and note its cure."""
        first = progress.amnesic_round
        if reply.amnesic:
            if not first:
                progress.amnesic_round = max(reply.round, 1)
                progress.forget()
                self._replication.restart(progress)
        elif first:
            if reply.round <= first:
                return False  # sent before it forgot
            progress.amnesic_round = 0
        return True

    # -- time -------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Heartbeats, CheckQuorum, and what has a time limit."""
        raft = self._raft
        self._rounds.sent_at(self._majority_round())  # forgets the older ones
        if now - self._quorum_heard(now) > raft.options.election_timeout:
            # BUGS 5.1 (openraft#2080): a leader that hears no majority makes way.
            raft.step_down(now, "Failed to contact quorum of nodes")
            return
        transfer = self.transfer
        if transfer is not None and now >= transfer.deadline:
            self.transfer = None
            if transfer.leaving:
                raft.step_down(now, "Removed from the cluster")
                return
            raft.out.event("warn", "Transfer of leadership timed out")
        for peer in [p for p, pr in self.progress.items() if pr.leave_at is not None]:
            self._maybe_drop(self.progress[peer], now)
        self._replication.tick(self.progress, now)

    def next_deadline(self) -> float:
        """When ``tick`` is needed next."""
        deadline = self._replication.next_deadline()
        if self.transfer is not None:
            deadline = min(deadline, self.transfer.deadline)
        return deadline

    @property
    def has_output(self) -> bool:
        """Whether ``flush`` may have something to send."""
        return self._replication.due or bool(self._reads.fresh)

    def flush(self, now: float) -> None:
        """Send what is due: entries, heartbeats, rounds for reads."""
        # BUGS 5.3 (etcd#7331, redisraft#18): before an entry of its own term is committed a new
        # leader does not know what is.
        reads = bool(self._reads.fresh) and self._is_own_term_committed
        if not (self._replication.due or reads):
            return
        self._replication.send(self.progress, reads, now)
        if reads:
            self._reads.sent(self._replication.asked_round, self._raft.commit_index)
            if self._majority_round() == ALWAYS:
                self._raft.out.serve_reads(self._reads.answered(ALWAYS))

    def _quorum_heard(self, now: float) -> float:
        """The time since when a majority, this node included, was heard."""
        heard = [pr.last_heard for pr in self._voters]
        if self._is_voter:
            heard.append(now)
        heard.sort(reverse=True)
        return heard[self._quorum - 1]

    def _majority_round(self) -> int:
        """The newest round that a majority, this node included, answered."""
        rounds = [pr.acked_round for pr in self._voters]
        if self._is_voter:
            rounds.append(ALWAYS)
        rounds.sort(reverse=True)
        return rounds[self._quorum - 1]

    # -- reads ------------------------------------------------------------------------------------

    def read_index(self, token: Any) -> None:
        """Queue a linearizable read."""
        self._reads.fresh.append(token)

    def lease_until(self) -> float:
        """Return until when followers keep from electing another leader (thesis 6.4.1).

        It holds until the next input; 0 when there is no lease.
        """
        if self._handed_over or not self._is_own_term_committed:
            return 0.0
        round = self._majority_round()
        if round == ALWAYS:
            return float("inf")
        if round <= self._void_round:
            return 0.0
        options = self._raft.options
        # From the *sending* of the round: the followers count from its arrival, which is later.
        since = self._rounds.sent_at(round)
        return since + options.election_timeout * (1.0 - options.lease_margin)

    def peer_connected(self, peer: int) -> None:
        """The link to a peer is there again: find out what it has."""
        progress = self.progress.get(peer)
        if progress is not None:
            progress.connected = True
            progress.amnesic_round = 0  # another life of it may have begun
            self._replication.restart(progress)

    def peer_takes(self, peer: int, now: float) -> None:
        """A peer takes what is sent: it was heard, which says nothing about lease or reads."""
        progress = self.progress.get(peer)
        if progress is not None:
            progress.last_heard = now

    def peer_lost(self, peer: int) -> None:
        """The link to a peer is lost, and with it what was under way."""
        progress = self.progress.get(peer)
        if progress is None:
            return
        progress.connected = False
        progress.amnesic_round = 0
        self._replication.restart(progress)
        linked = sum(1 for pr in self._voters if pr.connected) + self._is_voter
        if linked < self._quorum:
            # They may have taken this for a crash: the lease has to be earned again.
            self._void_round = self._rounds.newest
        if self.transfer is not None and self.transfer.target == peer:
            self.transfer.deadline = self._raft.now

    # -- snapshots and old entries ----------------------------------------------------------------

    def fetched(self, peer: int, entries: list[Entry] | None, now: float) -> None:
        """Entries for a peer were read from the store."""
        progress = self.progress.get(peer)
        if progress is not None:
            self._replication.fetched(progress, entries, now)

    def snapshot_sent(self, peer: int, index: int, ok: bool, now: float) -> None:
        """The sending of a snapshot to a peer ended."""
        progress = self.progress.get(peer)
        if progress is not None and progress.state is ProgressState.SNAPSHOT:
            progress.probe(index + 1 if ok else progress.next_index, self._rounds.newest + 1)
            if not ok:
                progress.retry_at = now + self._raft.options.election_timeout / 2
            self._replication.due = True

    # -- handing over -----------------------------------------------------------------------------

    def begin_transfer(self, target: int | None, now: float, leaving: bool = False) -> None:
        """Let the target catch up, then tell it to campaign; for an election timeout at most."""
        raft = self._raft
        chosen = choose_target(target, raft.node_id, raft.configuration, self.progress)
        deadline = now + raft.options.election_timeout
        self.transfer = Transfer(chosen, deadline, leaving)
        progress = self.progress[chosen]
        self._maybe_hand_over(progress)
        if progress.match_index < raft.log.last_index:
            progress.heartbeat_due = self._replication.due = True  # it may be a spare

    def _maybe_hand_over(self, progress: Progress) -> None:
        transfer = self.transfer
        if transfer is None or transfer.sent or progress.peer != transfer.target:
            return
        raft = self._raft
        if progress.match_index < raft.log.last_index or progress.amnesic_round:
            return
        transfer.sent = self._handed_over = True
        raft.out.send(progress.peer, TimeoutNow(raft.current_term))
        if transfer.leaving:
            raft.step_down(raft.now, "Removed from the cluster")

    # -- members ----------------------------------------------------------------------------------

    def change_membership(self, configuration: Configuration, wall_ms: int) -> Entry:
        """Append a changed configuration."""
        raft = self._raft
        if not self._is_own_term_committed:
            # BUGS 5.4: the bug of single-server changes found in 2015 (raft-dev, Ongaro).
            raise MembershipBusy("ERR the leader has not committed an entry of its term yet")
        if raft.configuration.index > raft.commit_index:
            # BUGS 5.4 (hashicorp#158): majorities of old and new overlap for one change only.
            raise MembershipBusy("ERR another change of the members is under way")
        check_change(raft.configuration, configuration)
        if len(configuration.voters) < len(raft.configuration.voters):
            self._check_who_is_left(configuration)
        return self._append(CONFIGURATION, wall_ms, 0, [configuration.encode()])

    def _check_who_is_left(self, configuration: Configuration) -> None:
        """Refuse to remove a voter when those left, there and not amnesic, are no majority.

        They could not commit it. And one that is amnesic would wait for a majority of its older
        configuration, the removed among them, for ever if this node fell before it is cured.
        """
        left = [v for v in configuration.voters if v == self._raft.node_id or self._is_sound(v)]
        if len(left) < configuration.quorum:
            raise MembershipBusy("ERR too few of the members that stay are there, try again later")

    def _is_sound(self, peer: int) -> bool:
        """Whether a peer is there: it has answered this leader, not long ago, and remembers."""
        progress = self.progress[peer]
        silent = self._raft.now - progress.last_heard
        answered = progress.acked_round > 0 and silent <= self._raft.options.election_timeout
        return answered and progress.connected and not progress.amnesic_round

    def _follow_configuration(self, now: float) -> None:
        raft = self._raft
        configuration = raft.configuration
        members = {m.id: m for m in configuration.members if m.id != raft.node_id}
        previous = raft.log.configuration_at(configuration.index - 1)
        for peer in [p for p in self.progress if p not in members]:
            member = previous.get(peer)
            if member is not None:
                self._leaving[peer] = member
        for peer in sorted(members):
            if peer not in self.progress:
                progress = Progress(peer, raft.log.last_index + 1, now)
                progress.connected = peer not in raft.lost_links
                self.progress[peer] = progress
            if self._leaving.pop(peer, None) is not None:
                self.progress[peer].leave_at = None
        self.progress = {p: self.progress[p] for p in sorted(self.progress)}
        # BUGS 5.2: learners do not count, nor does a leader that is no voter.
        self._voters = [self.progress[v] for v in configuration.voters if v != raft.node_id]
        self._is_voter = raft.node_id in configuration.voters
        self._has_learners = len(configuration.voters) < len(configuration.members)
        self._quorum = configuration.quorum
        self._replication.voters_are(self._voters, self._quorum - self._is_voter)

    def leaving_members(self) -> tuple[Member, ...]:
        """Members of the past that do not know yet that they are removed."""
        return tuple(self._leaving[p] for p in sorted(self._leaving))

    def configuration_committed(self, configuration: Configuration) -> None:
        """A configuration is committed: let the removed know, and leave if it is this node."""
        raft = self._raft
        deadline = raft.now + raft.options.election_timeout
        for peer in sorted(self._leaving):
            if configuration.get(peer) is None:
                self.progress[peer].leave_at = deadline
                self.progress[peer].heartbeat_due = True
                self._replication.due = True
        if configuration.get(raft.node_id) is None:
            self._leave(raft.now)

    def _leave(self, now: float) -> None:
        """Hand over and step down, as this node is no member any more (thesis 4.2.2)."""
        if self.transfer is not None and not self.transfer.sent:
            self.transfer.leaving = True
            return
        try:
            self.begin_transfer(None, now, leaving=True)
        except MembershipError:
            self._raft.step_down(now, "Removed from the cluster")

    def _maybe_drop(self, progress: Progress, now: float) -> None:
        """Stop replicating to a removed peer (BUGS 5.2, openraft 6d680484)."""
        assert progress.leave_at is not None
        raft = self._raft
        knows = progress.sent_commit >= raft.configuration.index <= progress.match_index
        if knows or now >= progress.leave_at:
            del self.progress[progress.peer]
            del self._leaving[progress.peer]
            raft.out.configuration_changed()

    def _maybe_promote(self) -> None:
        """Make a learner a voter when it has caught up (thesis 4.2.1)."""
        if not self._has_learners:
            return
        raft = self._raft
        configuration = raft.configuration
        if self.transfer is not None or not self._is_own_term_committed:
            return
        if raft.leader is not self or configuration.index > raft.commit_index:
            return
        for member in configuration.members:
            progress = self.progress.get(member.id)
            if member.voter or progress is None or progress.amnesic_round:
                continue
            is_caught_up = progress.match_index >= raft.commit_index
            if progress.state is ProgressState.REPLICATE and is_caught_up:
                voter = Member(member.id, member.address, True)
                raft.out.event(
                    "info", "Node {peer} has caught up, it votes now", peer=member.address
                )
                promoted = configuration.with_member(voter)
                self._append(CONFIGURATION, raft.log.last_time, 0, [promoted.encode()])
                return
