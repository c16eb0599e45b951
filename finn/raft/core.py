"""One member of a cluster: figure 2's "all servers", and what a driver calls.

A message's term is looked at before anything else; the rest depends on the role: ``Follower``,
``Candidate`` or ``Leader``, an object that holds what only that role needs and is dropped with it.
"""

from __future__ import annotations

import enum
from random import Random
from typing import Any

from finn.errors import MembershipError, NotLeader
from finn.raft import snapshots, voting
from finn.raft.amnesia import Amnesia
from finn.raft.candidate import Candidate
from finn.raft.configuration import Configuration, Member
from finn.raft.entries import Entry
from finn.raft.follower import Follower
from finn.raft.leader import Leader
from finn.raft.log import RaftLog
from finn.raft.messages import (
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from finn.raft.ready import HardState, Ready
from finn.raft.settings import RaftOptions

IDLE = 60.0  # a tick at least this often, so that a driver's timer is always finite


class Role(enum.Enum):
    """What a node is; a learner is a Follower that is not a voter."""

    FOLLOWER = "Follower"
    CANDIDATE = "Candidate"
    LEADER = "Leader"


class Raft:
    """The consensus state of one node. Does no I/O: see ``finn.raft`` for what a driver does.

    Args:
        node_id: this node.
        options: settings.
        random: the only source of chance.
        log: what the store and the newest snapshot hold.
        state: term and vote as saved last.
        configuration: the members: the newest of log and snapshot, or for a cluster that has no
            log yet those it begins with.
        now: monotonic seconds; every other ``now`` continues this clock.
        amnesic: the node may have forgotten what it acknowledged.

    Attributes:
        current_term: figure 2.
        voted_for: figure 2; 0 for nobody.
        leader_id: the leader of the current term, 0 when unknown.
        commit_index: figure 2.
        last_applied: figure 2, as the driver says.
        last_contact: when the leader was last heard, None for never.
        removed: a committed configuration does not hold this node any more.
        hold_off: do not campaign: the disk does not answer. Set and cleared by the driver.
        reinstalling: only a snapshot can help this node.
        follower, candidate, leader: the role's object; exactly one of them is not None.
    """

    def __init__(
        self,
        node_id: int,
        options: RaftOptions,
        random: Random,
        log: RaftLog,
        state: HardState,
        configuration: Configuration,
        now: float,
        amnesic: bool = False,
    ) -> None:
        self.node_id = node_id
        self.options = options
        self.random = random
        self.log = log
        log.memory_bytes = options.memory_bytes
        if not log.configuration.members and configuration.members:
            log.snapshot_configuration = configuration
        # BUGS 5.1: a log newer than the saved term proves that term; no vote in it was answered.
        self.current_term = max(state.term, log.last_term)
        self.voted_for = state.voted_for if state.term == self.current_term else 0
        self.leader_id = 0
        self.commit_index = self.last_applied = log.snapshot_index
        self.last_contact: float | None = None
        self.removed = False
        self.hold_off = False
        self.reinstalling = False
        self.suspect_until = 0.0
        self.suspect = False
        self.lost_links: set[int] = set()
        self.now = self._started = now
        self._outbox: list[tuple[int, Message]] = []
        self._held: list[tuple[int, int, Message]] = []
        self._state_dirty = False
        self._state_ticket = self._state_durable = 0
        self._reported_commit = self.commit_index
        self._news = Ready()  # collects what is rare; the lists are moved to the next Ready
        self._has_news = False
        # A fresh node has promised nothing; one with a past may have promised a lease.
        has_past = self.current_term > 0 or log.last_index > 0
        self.refuse_until = now + options.election_timeout if has_past else now
        self.follower: Follower | None = Follower(self)
        self.candidate: Candidate | None = None
        self.leader: Leader | None = None
        self.amnesia = Amnesia(amnesic, node_id)
        self._timer_from = now
        self._timeout = self.draw_timeout()
        if self.is_sole_voter:
            self._timeout = 0.0
            if amnesic:
                self.event("warn", "The only voter may have forgotten writes it acknowledged")
                self.cure()
        self.announce_role()

    # -- what others may ask ----------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Follower, Candidate or Leader."""
        if self.leader is not None:
            return Role.LEADER
        return Role.CANDIDATE if self.candidate is not None else Role.FOLLOWER

    @property
    def configuration(self) -> Configuration:
        """The members: the newest configuration of the log, committed or not."""
        return self.log.configuration

    @property
    def address(self) -> str:
        """This node's address, for log lines."""
        member = self.configuration.get(self.node_id)
        return member.address if member else self.options.address

    @property
    def leader_address(self) -> str | None:
        """The leader's address, None when it is unknown."""
        member = self.configuration.get(self.leader_id)
        return member.address if member else None

    @property
    def amnesic(self) -> bool:
        """Whether this node may have forgotten what it acknowledged."""
        return self.amnesia.active

    @property
    def transferring(self) -> bool:
        """Whether this leader is handing over: proposals have to wait."""
        return self.leader is not None and self.leader.transfer is not None

    @property
    def peers(self) -> tuple[Member, ...]:
        """The members to keep links to: all others, and those that are just being removed."""
        others = tuple(m for m in self.configuration.members if m.id != self.node_id)
        return others + (self.leader.leaving_members() if self.leader else ())

    @property
    def is_voter(self) -> bool:
        """Whether this node is a voter, as far as it knows."""
        member = self.configuration.get(self.node_id)
        return member is not None and member.voter

    @property
    def is_sole_voter(self) -> bool:
        """Whether this node is the only voter."""
        return self.configuration.voters == (self.node_id,)

    def lease_valid(self, now: float) -> bool:
        """Say whether no other leader can exist yet, so that a local read is not stale."""
        return self.leader is not None and self.leader.lease_valid(now)

    def next_deadline(self) -> float:
        """Return when ``tick`` is needed next."""
        if self.leader is not None:
            return min(self.leader.next_deadline(), self.now + IDLE)
        return self._timer_from + self._timeout

    # -- inputs -----------------------------------------------------------------------------------

    def receive(self, sender: int, message: Message, now: float) -> None:
        """Take a message.

        Raises:
            ProtocolError: it makes no sense; nothing changed.
        """
        self.now = now
        if type(message) is RequestVote:
            voting.vote_requested(self, sender, message, now)
            return
        # BUGS 5.1: replies come from members only; a removed one must not topple the leader.
        is_reply = type(message) is AppendReply or type(message) is VoteReply
        if is_reply and not self._knows(sender):
            return
        if message.term > self.current_term:
            # The term of a granted pre-vote was only asked for (thesis 9.6).
            if type(message) is not VoteReply or not (message.pre_vote and message.granted):
                self._newer_term(sender, message, now)
        elif message.term < self.current_term:
            if type(message) is AppendEntries:
                # Figure 2, AppendEntries 1: the answer's term makes a stale leader step down
                # (BUGS 5.1, etcd#8243: a node with a lower term must be able to catch up).
                refusal = AppendReply(self.current_term, False, message.round, 0)
                self.send_durable(sender, refusal)
            return
        if type(message) is AppendReply:
            if self.leader is not None:
                self.leader.answered(sender, message, now)
        elif type(message) is AppendEntries:
            self.follow(sender, now).entries_received(sender, message, now)
        elif type(message) is VoteReply:
            self.amnesia.heard(sender, message.amnesic)
            if self.candidate is not None:
                self.candidate.answered(sender, message, now)
        elif type(message) is TimeoutNow:
            voting.timeout_now(self, sender, message, now)

    def tick(self, now: float) -> None:
        """Look at the clock."""
        self.now = now
        if self.leader is not None:
            self.leader.tick(now)
        elif now >= self._timer_from + self._timeout:
            voting.election_timeout(self, now)

    def propose(self, chunks: list[bytes], count: int, wall_ms: int, now: float) -> Entry:
        """Append a batch of commands; replication begins with the next ``ready``.

        Args:
            chunks: pieces of the payload.
            count: commands in it.
            wall_ms: wall clock, in ms.
            now: monotonic seconds.

        Raises:
            NotLeader: this node is not the leader, or is handing over.
            Overloaded: too much is not committed yet.
        """
        self.now = now
        leader = self._require_leader()
        if leader.transfer is not None:
            raise NotLeader
        return leader.propose(chunks, count, wall_ms)

    def read_index(self, token: Any, now: float) -> None:
        """Ask when a linearizable read may be served: ``Ready.reads`` answers with the token.

        Raises:
            NotLeader: this node is not the leader.
        """
        self.now = now
        self._require_leader().read_index(token)

    def persisted(self, ticket: int) -> None:
        """Everything appended up to the ``Ready`` with that ``log_ticket`` is durable."""
        if self.log.persisted(ticket):
            if self.leader is not None:
                self.leader.maybe_commit()
            elif self.follower is not None:
                self.follower.maybe_cured()

    def state_persisted(self, ticket: int) -> None:
        """Term and vote of the ``Ready`` with that ``state_ticket`` are durable."""
        self._state_durable = max(self._state_durable, ticket)
        if self._held:
            held, self._held = self._held, []
            for needed, peer, message in held:
                if needed <= self._state_durable:
                    self._outbox.append((peer, message))
                else:
                    self._held.append((needed, peer, message))
        if self.candidate is not None:
            self.candidate.state_durable(self.now)

    def applied(self, index: int) -> None:
        """Everything up to ``index`` is applied."""
        assert self.last_applied <= index <= self.commit_index, (index, self.commit_index)
        self.last_applied = index

    def leader_suspect(self, now: float) -> None:
        """The leader's process seems to be gone: campaign soon, and let others do so.

        Its address refuses connections, or another instance answers there.
        """
        self.now = now
        if self.suspect or self.follower is None or not self.leader_id:
            return
        self.suspect = True
        self.suspect_until = now + self.options.election_timeout
        self.restart_timer(now, self.random.uniform(*self.options.suspect_delay))

    def transfer_leadership(self, target: int | None, now: float) -> None:
        """Hand leadership over, to the best follower for None; ``transferring`` until it ends.

        Raises:
            NotLeader: this node is not the leader.
            MembershipError: the target cannot lead.
        """
        self.now = now
        self._require_leader().begin_transfer(target, now)

    def change_membership(self, configuration: Configuration, wall_ms: int, now: float) -> Entry:
        """Append a changed configuration; it holds from now on.

        Raises:
            NotLeader: this node is not the leader, or is handing over.
            MembershipError: the change is not allowed now, or never.
        """
        self.now = now
        leader = self._require_leader()
        if leader.transfer is not None:
            raise MembershipError("ERR leadership is being handed over, try again later")
        return leader.change_membership(configuration, wall_ms)

    def leader_contact(self, sender: int, term: int, now: float) -> None:
        """Bytes came on the leader's link: it is alive, though no message is complete yet."""
        if sender == self.leader_id and term == self.current_term and self.follower is not None:
            self.now = now
            self.contact(now)

    def peer_connected(self, peer: int, now: float) -> None:
        """The link to a peer was made."""
        self.now = now
        self.lost_links.discard(peer)
        if self.leader is not None:
            self.leader.peer_connected(peer)

    def peer_lost(self, peer: int, now: float) -> None:
        """The link to a peer was lost."""
        self.now = now
        self.lost_links.add(peer)
        if self.leader is not None:
            self.leader.peer_lost(peer)

    def fetched(self, peer: int, entries: list[Entry] | None, now: float) -> None:
        """Answer one of ``Ready.fetches``; None: they are compacted, a snapshot has to do."""
        self.now = now
        if self.leader is not None:
            self.leader.fetched(peer, entries, now)

    def snapshot_sent(self, peer: int, index: int, ok: bool, now: float) -> None:
        """End one of ``Ready.snapshots``, well or not."""
        self.now = now
        if self.leader is not None:
            self.leader.snapshot_sent(peer, index, ok, now)

    def snapshot_offered(
        self, sender: int, term: int, index: int, snapshot_term: int, now: float
    ) -> bool:
        """Say whether a snapshot that a leader offers is wanted; counts as contact."""
        self.now = now
        return snapshots.offered(self, sender, term, index, snapshot_term, now)

    def snapshot_installed(
        self,
        index: int,
        term: int,
        time_ms: int,
        configuration: Configuration,
        sender: int | None,
        now: float,
    ) -> None:
        """A received snapshot is durable and the machine restored from it."""
        self.now = now
        snapshots.installed(self, index, term, time_ms, configuration, sender)

    def snapshot_taken(self, index: int, term: int, configuration: Configuration) -> None:
        """A snapshot of this node's own machine is durable."""
        self.log.snapshot_taken(index, term, configuration)

    def compacted(self, first_index: int) -> None:
        """The store dropped the entries below ``first_index``."""
        self.log.compacted(first_index)

    def step_down(self, now: float, reason: str) -> None:
        """Give up leadership."""
        self.now = now
        if self.leader is not None:
            self.event("warn", "{reason}, stepping down", reason=reason)
            self.become_follower(self.current_term, 0, now)

    # -- output -----------------------------------------------------------------------------------

    def ready(self) -> Ready | None:
        """Return what has to be done, None when there is nothing."""
        if self.leader is not None:
            self.leader.flush(self.now)
        elif self.follower is not None:
            self.follower.flush(self.now)
        log = self.log
        commit = self.commit_index
        if not (
            self._outbox
            or log.has_news
            or commit != self._reported_commit
            or self._has_news
            or self._state_dirty
        ):
            return None
        if self._has_news:
            ready = self._news
            self._news = Ready()
            self._has_news = False
        else:
            ready = Ready()
        ready.commit_index = self._reported_commit = commit
        if self._state_dirty:
            self._state_dirty = False
            ready.state = HardState(self.current_term, self.voted_for)
            ready.state_ticket = self._state_ticket
        if log.has_news:
            ready.reset_to, ready.truncate_from, ready.entries, ready.log_ticket = log.take()
        if self._outbox:
            ready.messages = self._outbox
            self._outbox = []
        return ready

    # -- for the roles ----------------------------------------------------------------------------

    def _require_leader(self) -> Leader:
        if self.leader is None:
            raise NotLeader(self.leader_address)
        return self.leader

    def _knows(self, peer: int) -> bool:
        if self.leader is not None and peer in self.leader.progress:
            return True
        return self.configuration.get(peer) is not None

    def _newer_term(self, sender: int, message: Message, now: float) -> None:
        """Figure 2, all servers: a higher term makes anyone a follower."""
        was_candidate = self.candidate is not None
        leader_id = sender if type(message) is AppendEntries else 0
        self.become_follower(message.term, leader_id, now)
        if was_candidate and type(message) is VoteReply:
            # BUGS 5.1, etcd#8243: only the term was too low; ask again soon.
            self.restart_timer(now, self.retry_delay())

    def event(self, level: str, text: str, **fields: Any) -> None:
        """Add a line for the log."""
        self._news.events.append((level, text, fields))
        self._has_news = True

    def announce_role(self) -> None:
        """Tell the driver and the log that role, term or leader changed."""
        self._news.role_changed = True
        self._has_news = True
        role = self.role.value
        text = "Node at {address} [{role}] entering {role} state"
        if self.follower is not None:
            text += ' (Leader: "{leader}")'
        self.event(
            "info", text, address=self.address, role=role, leader=self.leader_address or "",
            term=self.current_term,
        )  # fmt: skip

    def configuration_changed(self) -> None:
        """Tell the driver that links have to follow."""
        self._news.configuration_changed = True
        self._has_news = True

    def cure(self) -> None:
        """This node is amnesic no longer."""
        self.amnesia.cure()
        self._news.cured = True
        self._has_news = True

    def reinstall(self) -> None:
        """What this node holds as committed is not what its leader has: only a snapshot helps."""
        if not self.reinstalling:
            self.reinstalling = True
            self._news.reinstall = True
            self.event("warn", "The log conflicts with committed entries, a snapshot is needed")

    def serve_reads(self, reads: list[tuple[Any, int]]) -> None:
        """Hand out answers to reads."""
        if reads:
            self._news.reads += reads
            self._has_news = True

    def want_snapshot(self, peer: int) -> None:
        """Have the driver send a snapshot."""
        self._news.snapshots.append(peer)
        self._has_news = True

    def want_entries(self, peer: int, first: int, max_bytes: int) -> None:
        """Have the driver read entries from the store."""
        self._news.fetches.append((peer, first, max_bytes))
        self._has_news = True

    def send(self, peer: int, message: Message) -> None:
        """Send a message that depends on nothing that is not durable."""
        self._outbox.append((peer, message))

    def send_durable(self, peer: int, message: Message) -> None:
        """Send a message once term and vote of now are durable (figure 2, persistent state)."""
        # BUGS 5.1 (PySyncObj#84, tikv#3572): never an answer before the vote is on the disk.
        if self._state_durable < self._state_ticket:
            self._held.append((self._state_ticket, peer, message))
        else:
            self._outbox.append((peer, message))

    @property
    def is_state_durable(self) -> bool:
        """Whether term and vote of now are durable."""
        return self._state_durable == self._state_ticket

    def set_state(self, term: int, voted_for: int) -> None:
        """Change term and vote, as one record (BUGS 5.1, hashicorp#661)."""
        assert term > self.current_term or (
            term == self.current_term and self.voted_for in (0, voted_for)
        ), "term went back or a second vote in a term"
        if term > self.current_term:
            # What was promised in the old term and is not sent yet must not be said in the new
            # one: the old leader could count an entry that the new one removes.
            self._held.clear()
        self.current_term = term
        self.voted_for = voted_for
        self._state_ticket += 1
        self._state_dirty = True

    def draw_timeout(self) -> float:
        """Draw an election timeout (section 5.2)."""
        return self.options.election_timeout * (1.0 + self.random.random())

    def retry_delay(self) -> float:
        """Draw the time after which a refused candidate asks again: pre-votes disturb nobody."""
        if self.now < self.suspect_until:
            return self.options.heartbeat * self.random.uniform(0.5, 1.0)
        return self.options.election_timeout * self.random.uniform(0.25, 0.5)

    def restart_timer(self, now: float, timeout: float) -> None:
        """Let the election timer run anew."""
        self._timer_from = now
        self._timeout = timeout

    def contact(self, now: float) -> None:
        """The leader of this term was heard."""
        self.last_contact = self._timer_from = now
        if self._timeout < self.options.election_timeout:
            self._timeout = self.draw_timeout()
        self.suspect = False
        self.suspect_until = 0.0

    def is_leader_alive(self, now: float) -> bool:
        """Say whether a leader is, or may be, served by a promise of this node (section 6)."""
        if self.leader is not None:
            return True
        if now < self.refuse_until:
            return True
        if self.suspect or self.last_contact is None:
            return False
        return now < self.last_contact + self.options.election_timeout

    @property
    def last_heard_or_started(self) -> float:
        """When a leader was heard last, or when this node began to listen."""
        return self._started if self.last_contact is None else self.last_contact

    def leader_lost(self, now: float) -> None:
        """The leader was not heard for too long."""
        if self.leader_id:
            self.leader_id = 0
            self._news.role_changed = True
            self._has_news = True
        self.restart_timer(now, self.draw_timeout())

    def follow(self, leader_id: int, now: float) -> Follower:
        """Be a follower of the leader of this term, which was heard now."""
        assert self.leader is None, "two leaders in one term"
        if self.follower is None or self.leader_id != leader_id:
            assert self.leader_id in (0, leader_id), "two leaders in one term"
            self.become_follower(self.current_term, leader_id, now)
        self.contact(now)
        assert self.follower is not None
        return self.follower

    def become_follower(self, term: int, leader_id: int, now: float) -> None:
        """Figure 2: convert to follower, in this or a higher term."""
        if self.leader is not None:
            self.leader.lost()
        if term > self.current_term:
            self.set_state(term, 0)
        self.follower, self.candidate, self.leader = Follower(self), None, None
        self.leader_id = leader_id
        self.restart_timer(now, self.draw_timeout())
        self.announce_role()

    def become_candidate(self, transfer: bool, now: float) -> None:
        """Figure 2: convert to candidate; with a pre-vote first unless told by the leader."""
        assert self.leader is None
        self.leader_id = 0
        self.follower = None
        self.candidate = Candidate(self, transfer)
        self.announce_role()
        self.candidate.start(now)

    def become_leader(self, now: float) -> None:
        """Figure 2: convert to leader."""
        assert self.candidate is not None and self.is_state_durable
        self.candidate = self.follower = None
        self.leader_id = self.node_id
        self.suspect = False
        self.leader = Leader(self, now)
        self.announce_role()
        self.leader.start()

    def commit_to(self, index: int) -> None:
        """Advance the commit index."""
        before = self.commit_index
        assert before <= index <= self.log.last_index, (before, index, self.log.last_index)
        self.commit_index = index
        if self.log.configuration.index > before:
            self._configurations_committed(before, index)

    def restored(self, index: int) -> None:
        """The machine was restored from a snapshot up to ``index``."""
        if self.reinstalling:
            # The one case in which these move back: what they stood for was never committed.
            self.commit_index = self.last_applied = index
            self.reinstalling = False
            return
        self.commit_index = max(self.commit_index, index)
        self.last_applied = max(self.last_applied, index)

    def _configurations_committed(self, before: int, index: int) -> None:
        for configuration in self.log.configurations_in(before, index):
            previous = self.log.configuration_at(configuration.index - 1)
            if configuration.get(self.node_id) is not None:
                self.removed = False
            elif previous.get(self.node_id) is not None:
                # BUGS 5.4: only a committed removal counts, and only of a node that was a member:
                # the older history of the log says nothing about a newcomer.
                self.removed = True
                self._news.role_changed = True
                self.event("info", "Removed ourself, shutting down")
            if self.leader is not None:
                self.leader.configuration_committed(configuration)
