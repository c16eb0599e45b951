"""The state of one server, and the rules for all servers (figure 2).

What depends on the role is in an object of its own, which holds what only that role needs and is
dropped with it: ``Follower``, ``Candidate`` or ``Leader``.
"""

from __future__ import annotations

import enum
from random import Random

from finn.errors import ProtocolError
from finn.raft.amnesia import Amnesia
from finn.raft.candidate import Candidate
from finn.raft.configuration import Configuration, Member
from finn.raft.follower import Follower
from finn.raft.leader import Leader
from finn.raft.log import RaftLog
from finn.raft.outbox import Outbox
from finn.raft.ready import HardState
from finn.raft.settings import RaftOptions
from finn.raft.timer import ElectionTimer


class Role(enum.Enum):
    """What a node is; a learner is a Follower that is not a voter."""

    FOLLOWER = "Follower"
    CANDIDATE = "Candidate"
    LEADER = "Leader"


class Server:
    """Term, vote, log and role of one node.

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
        removed: a committed configuration does not hold this node any more.
        told_removed: a leader said so: that is for good. What the log says of a removal may be
            history, as may be what it says of a membership.
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
        self.removed = self.told_removed = False
        self.hold_off = False
        self.reinstalling = False
        self.lost_links: set[int] = set()
        self.now = now
        self.out = Outbox(self.commit_index)
        # A fresh node has promised nothing, one with a past may have.
        has_past = self.current_term > 0 or log.last_index > 0
        self.timer = ElectionTimer(options, random, now, has_past)
        self.follower: Follower | None = Follower(self)
        self.candidate: Candidate | None = None
        self.leader: Leader | None = None
        self.amnesia = Amnesia(amnesic, node_id)
        if self.is_sole_voter:
            self.timer.expire(now)
            if amnesic:
                text = "The only voter may have forgotten writes it acknowledged"
                self.out.event("warn", text)
                self.cure()
        self.announce_role()

    # -- what it is -------------------------------------------------------------------------------

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
        """The leader's address, None when it is unknown, or this node was removed: it has none."""
        if self.removed:
            return None
        member = self.configuration.get(self.leader_id)
        return member.address if member else None

    @property
    def last_contact(self) -> float | None:
        """When the leader was last heard, None for never."""
        return self.timer.last_contact

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

    # -- term and role ----------------------------------------------------------------------------

    def announce_role(self) -> None:
        """Tell the driver and the log that role, term or leader changed."""
        role = self.role.value
        text = "Node at {address} [{role}] entering {role} state"
        if self.follower is not None:
            text += ' (Leader: "{leader}")'
        self.out.role_changed()
        self.out.event(
            "info", text, address=self.address, role=role, leader=self.leader_address or "",
            term=self.current_term,
        )  # fmt: skip

    def cure(self) -> None:
        """This node is amnesic no longer."""
        self.amnesia.cure()
        self.out.cured()

    def reinstall(self) -> None:
        """What this node holds as committed is not what its leader has: only a snapshot helps."""
        if not self.reinstalling:
            self.reinstalling = True
            self.out.reinstall()
            text = "The log conflicts with committed entries, a snapshot is needed"
            self.out.event("warn", text)

    def set_state(self, term: int, voted_for: int) -> None:
        """Change term and vote, as one record (BUGS 5.1, hashicorp#661)."""
        assert term > self.current_term or (
            term == self.current_term and self.voted_for in (0, voted_for)
        ), "term went back or a second vote in a term"
        if term > self.current_term:
            self.out.term_changed()
        self.current_term = term
        self.voted_for = voted_for
        self.out.save_state(HardState(term, voted_for))

    def is_leader_alive(self, now: float) -> bool:
        """Say whether votes are refused because there is, or may be, a leader (section 6)."""
        return self.leader is not None or self.timer.may_have_leader(now)

    def leader_lost(self, now: float) -> None:
        """The leader was not heard for too long."""
        if self.leader_id:
            self.leader_id = 0
            self.out.role_changed()
        self.timer.restart(now)

    def follow(self, leader_id: int, now: float) -> Follower:
        """Be a follower of the leader of this term, which was heard now.

        Raises:
            ProtocolError: there is another one; nothing changed.
        """
        if self.leader is not None or self.leader_id not in (0, leader_id):
            # Election safety: one of the two lies (thesis 3.4).
            raise ProtocolError("two leaders in one term")
        if self.follower is None or self.leader_id != leader_id:
            self.become_follower(self.current_term, leader_id, now)
        self.timer.heard(now)
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
        self.timer.restart(now)
        self.announce_role()

    def step_down(self, now: float, reason: str) -> None:
        """Give up leadership."""
        self.now = now
        if self.leader is not None:
            self.out.event("warn", "{reason}, stepping down", reason=reason)
            self.become_follower(self.current_term, 0, now)

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
        assert self.candidate is not None and self.out.is_state_durable
        self.candidate = self.follower = None
        self.leader_id = self.node_id
        self.timer.led(now)
        self.leader = Leader(self, now)
        self.announce_role()
        self.leader.start()

    # -- commit -----------------------------------------------------------------------------------

    def commit_to(self, index: int) -> None:
        """Advance the commit index."""
        before = self.commit_index
        assert before <= index <= self.log.last_index, (before, index, self.log.last_index)
        self.commit_index = index
        if self.log.configuration.index > before:
            self._configurations_committed(before, index)

    def learn_of_removal(self, now: float) -> None:
        """A leader says that this node is no member any more, and never will be."""
        if self.told_removed or self.leader is not None:
            return
        self.told_removed = True
        self.note_removal()
        self.become_follower(self.current_term, 0, now)

    def is_member_again(self) -> None:
        """A committed configuration holds this node: what removed it is history (BUGS 4.4).

        It was a newcomer that never knew it, and was added once more before it read of that.
        """
        if self.removed and not self.told_removed:
            self.removed = False
            self.out.role_changed()

    def note_removal(self) -> None:
        """A committed configuration does not hold this node, which was a member."""
        if not self.removed:
            self.out.event("info", "Removed ourself, shutting down")
        self.removed = True
        self.out.role_changed()

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
                self.is_member_again()
            elif previous.get(self.node_id) is not None:
                # BUGS 5.4: only a committed removal counts, and only of a node that was a member:
                # the older history of the log says nothing about a newcomer.
                self.note_removal()
            if self.leader is not None and configuration is self.configuration:
                # Nor does it of a leader: after a restart all of the history commits once more.
                self.leader.configuration_committed(configuration)
