"""What a driver calls: every input is a method that does no I/O, ``ready`` is the only output.

A message's term is looked at before anything else; the rest depends on the role.
"""

from __future__ import annotations

from typing import Any

from finn.errors import MembershipBusy, NotLeader
from finn.raft import snapshots, voting
from finn.raft.configuration import Configuration
from finn.raft.entries import Entry
from finn.raft.leader import Leader
from finn.raft.messages import (
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from finn.raft.ready import Ready
from finn.raft.server import Role, Server

__all__ = ["Raft", "Role"]

IDLE = 60.0  # a tick at least this often, so that a driver's timer is always finite


class Raft(Server):
    """The consensus of one node; ``finn.raft`` says what its driver has to do."""

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
                # Its round says nothing in this term, which the same leader may lead again.
                refusal = AppendReply(self.current_term, False, 0, 0)
                self.out.send_durable(sender, refusal)
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
        elif now >= self.timer.deadline:
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
        self.out.state_persisted(ticket)
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
        if self.follower is not None and self.leader_id and not self.timer.suspect:
            self.timer.suspects(now)

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
            raise MembershipBusy("ERR leadership is being handed over, try again later")
        return leader.change_membership(configuration, wall_ms)

    def leader_contact(self, sender: int, term: int, now: float) -> None:
        """Bytes came on the leader's link: it is alive, though no message is complete yet."""
        if sender == self.leader_id and term == self.current_term and self.follower is not None:
            self.now = now
            self.timer.heard(now)

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

    def peer_takes(self, peer: int, now: float) -> None:
        """A peer takes bytes of a large message: it lives, though it answers only at the end."""
        self.now = now
        if self.leader is not None:
            self.leader.peer_takes(peer, now)

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

    # -- output -----------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether ``ready`` may have something: without it, input needs no call of that."""
        if self.out.has_output(self.log, self.commit_index):
            return True
        if self.leader is not None:
            return self.leader.has_output
        return self.follower is not None and self.follower.has_output

    def ready(self) -> Ready | None:
        """Return what has to be done, None when there is nothing."""
        if self.leader is not None:
            self.leader.flush(self.now)
        elif self.follower is not None:
            self.follower.flush(self.now)
        return self.out.take(self.log, self.commit_index)

    def lease_valid(self, now: float) -> bool:
        """Say whether no other leader can exist yet, so that a local read is not stale."""
        return now < self.lease_until()

    def lease_until(self) -> float:
        """Return until when ``lease_valid`` holds if there is no input before; 0 for no lease."""
        return self.leader.lease_until() if self.leader is not None else 0.0

    def next_deadline(self) -> float:
        """Return when ``tick`` is needed next."""
        leader = self.leader
        if leader is None:
            return self.timer.deadline
        deadline = leader.next_deadline()
        return deadline if deadline < self.now + IDLE else self.now + IDLE

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
            self.timer.restart_soon(now)
