"""Who gets this node's vote, and when it asks for votes itself (sections 5.2, 5.4.1 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finn.raft.messages import RequestVote, TimeoutNow, VoteReply

if TYPE_CHECKING:
    from finn.raft.server import Server


def vote_requested(raft: Server, sender: int, message: RequestVote, now: float) -> None:
    """Answer RequestVote, whatever the role, and whether or not either side is a member.

    A voter that has not heard of its promotion must answer (BUGS 5.1, raft-rs#57), and so must one
    that does not know the candidate yet: only the candidate counts.
    """
    raft.amnesia.heard(sender, message.amnesic)
    if message.pre_vote:
        _answer_pre_vote(raft, sender, message, now)
        return
    if not message.transfer and raft.is_leader_alive(now):
        # Section 6: disregard it, the term too, so that a member that was removed or was away
        # cannot topple a leader (BUGS 5.1, etcd#8499).
        _refuse(raft, sender, message)
        return
    if message.term > raft.current_term:
        raft.become_follower(message.term, 0, now)
    if (
        message.term < raft.current_term
        or raft.voted_for not in (0, sender)
        or raft.follower is None
        or not _may_vote(raft, now)
        or not _is_up_to_date(raft, message)
    ):
        _refuse(raft, sender, message)
        return
    if raft.amnesic:
        raft.out.event(
            "warn", "A majority may have forgotten what it acknowledged, voting nevertheless: "
            "writes acknowledged before the crash may be lost",
        )  # fmt: skip
    if raft.voted_for != sender:
        raft.set_state(raft.current_term, sender)
    raft.timer.restart(now)
    raft.out.send_durable(sender, VoteReply(raft.current_term, True, False, raft.amnesic))


def _answer_pre_vote(raft: Server, sender: int, message: RequestVote, now: float) -> None:
    """Thesis 9.6: say how a vote would be answered; nothing changes (BUGS 5.1, hashicorp#609)."""
    granted = (
        message.term > raft.current_term
        and not raft.is_leader_alive(now)
        and _may_vote(raft, now)
        and _is_up_to_date(raft, message)
    )
    if granted:
        # No promise is made, so nothing has to be durable first.
        raft.out.send(sender, VoteReply(message.term, True, True, raft.amnesic))
    else:
        _refuse(raft, sender, message)


def _refuse(raft: Server, sender: int, message: RequestVote) -> None:
    # BUGS 5.1, etcd#8243: the own term lets a candidate with a lower one catch up.
    reply = VoteReply(raft.current_term, False, message.pre_vote, raft.amnesic)
    raft.out.send_durable(sender, reply)


def _is_up_to_date(raft: Server, message: RequestVote) -> bool:
    """Section 5.4.1: the candidate's log is at least as up to date as this one."""
    theirs = (message.last_log_term, message.last_log_index)
    return theirs >= (raft.log.last_term, raft.log.last_index)


def _may_vote(raft: Server, now: float) -> bool:
    return not raft.amnesic or is_emergency(raft, now)


def is_emergency(raft: Server, now: float) -> bool:
    """Say whether amnesic nodes may elect, because those that remember are no majority."""
    options = raft.options
    leaderless = raft.timer.leaderless(now)
    limit = options.amnesia_timeouts * options.election_timeout
    return raft.amnesia.is_emergency(raft.configuration, leaderless, limit)


def timeout_now(raft: Server, sender: int, message: TimeoutNow, now: float) -> None:
    """Thesis 3.10: the leader hands over; campaign at once, without a pre-vote."""
    if raft.follower is not None and sender == raft.leader_id and _may_campaign(raft):
        if raft.amnesic:
            return
        raft.out.event("info", "Taking over from {leader}", leader=raft.leader_address or "")
        raft.become_candidate(True, now)


def _may_campaign(raft: Server) -> bool:
    # BUGS 5.1 (redpanda#8495): a learner never campaigns.
    return raft.is_voter and not (raft.hold_off or raft.reinstalling or raft.removed)


def election_timeout(raft: Server, now: float) -> None:
    """Section 5.2: nothing was heard for too long."""
    if not _may_campaign(raft):
        if raft.candidate is not None:
            raft.become_follower(raft.current_term, 0, now)
        raft.leader_lost(now)
    elif raft.candidate is not None:
        raft.candidate.timed_out(now)
    else:
        text = 'Heartbeat timeout from "{leader}" reached, starting election'
        raft.out.event("warn", text, leader=raft.leader_address or "")
        raft.become_candidate(False, now)
