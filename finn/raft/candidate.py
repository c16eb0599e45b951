"""A candidate: asks whether it could win, and then for votes (section 5.2, thesis 9.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finn.raft.messages import RequestVote, VoteReply
from finn.raft.voting import is_emergency

if TYPE_CHECKING:
    from finn.raft.server import Server


class Candidate:
    """Collects votes.

    Args:
        raft: the node.
        transfer: the leader asked for it: no pre-vote, and a live leader is no reason to refuse.

    Attributes:
        pre: still in the pre-vote; the term is not raised yet.
    """

    def __init__(self, raft: Server, transfer: bool) -> None:
        self._raft = raft
        self._transfer = transfer
        self.pre = not transfer
        self._granted: set[int] = set()

    def start(self, now: float) -> None:
        """Begin a round of asking."""
        if self.pre and not self._raft.is_sole_voter:
            self._pre_vote(now)
        else:
            self._campaign(now)

    def timed_out(self, now: float) -> None:
        """Nobody won in time: begin again, with a pre-vote."""
        raft = self._raft
        level = "debug" if self.pre else "warn"
        raft.out.event(level, "Election timeout reached, restarting election")
        self.pre, self._transfer = True, False
        self.start(now)

    def _pre_vote(self, now: float) -> None:
        """Ask without raising the term, so that a node that cannot win disturbs nobody."""
        raft = self._raft
        self._granted = {raft.node_id}
        raft.timer.restart_soon(now)
        self._ask(raft.current_term + 1)

    def _campaign(self, now: float) -> None:
        """Figure 2, candidates: raise the term, vote for oneself, restart the timer, ask all."""
        raft = self._raft
        self.pre = False
        self._granted = set()
        raft.set_state(raft.current_term + 1, raft.node_id)
        raft.timer.restart(now)
        raft.out.event("debug", "Votes needed: {needed}", needed=raft.configuration.quorum)
        self._ask(raft.current_term)

    def _ask(self, term: int) -> None:
        raft = self._raft
        request = RequestVote(
            term, raft.log.last_index, raft.log.last_term, self.pre, self._transfer, raft.amnesic
        )
        send = raft.out.send if self.pre else raft.out.send_durable
        for voter in raft.configuration.voters:
            if voter != raft.node_id:
                send(voter, request)

    def state_durable(self, now: float) -> None:
        """The own vote counts once it is durable, like any other."""
        if not self.pre and self._raft.out.is_state_durable:
            self._count(self._raft.node_id, now)

    def answered(self, sender: int, reply: VoteReply, now: float) -> None:
        """Take the answer to a request of this round."""
        # BUGS 5.1 (canonical/raft#196): the answer to a pre-vote is no vote.
        if not reply.granted or reply.pre_vote != self.pre:
            return
        expected = self._raft.current_term + 1 if self.pre else self._raft.current_term
        if reply.term == expected:
            self._count(sender, now)

    def _count(self, voter: int, now: float) -> None:
        raft = self._raft
        if voter in self._granted:
            return
        self._granted.add(voter)
        # Only voters count, whoever else may answer (BUGS 5.2).
        tally = sum(1 for v in raft.configuration.voters if v in self._granted)
        if not self.pre:
            member = raft.configuration.get(voter)
            raft.out.event(
                "debug", "Vote granted from {peer}. Tally: {tally}",
                peer=member.address if member else "", tally=tally,
            )  # fmt: skip
        if tally < raft.configuration.quorum:
            return
        if not self.pre:
            raft.out.event("info", "Election won. Tally: {tally}", tally=tally)
            raft.become_leader(now)
        elif not raft.amnesic:
            self._campaign(now)
        elif is_emergency(raft, now):
            raft.out.event(
                "warn", "A majority may have forgotten what it acknowledged, electing without it: "
                "writes acknowledged before the crash may be lost",
            )  # fmt: skip
            self._campaign(now)
