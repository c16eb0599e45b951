"""Messages between members, as the core sees them; ``finn.protocols.wire`` gives them bytes.

The sender's and receiver's ids are not in the messages: the link that carries them says both.
One object may be sent to several peers, so messages are never altered once they are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from finn.raft.entries import Entry


@dataclass(slots=True)
class RequestVote:
    """A candidate asks for a vote (figure 2), or whether it would get one (thesis 9.6).

    ``transfer`` marks a campaign that follows a TimeoutNow: a live leader is no reason to refuse.
    ``amnesic`` says that the sender may have forgotten what it acknowledged.
    """

    term: int
    last_log_index: int
    last_log_term: int
    pre_vote: bool = False
    transfer: bool = False
    amnesic: bool = False


@dataclass(slots=True)
class VoteReply:
    """Answer to RequestVote; ``term`` of a granted pre-vote is the term asked for."""

    term: int
    granted: bool
    pre_vote: bool = False
    amnesic: bool = False


@dataclass(slots=True)
class AppendEntries:
    """Entries, or a heartbeat when there are none (figure 2).

    ``round`` counts the leader's sends within its term and is never used twice; the reply that
    carries it back proves that the follower knew this leader after it was sent (reads, lease).
    ``amnesic``: the leader knows that the receiver is, and counts nothing it acknowledged before:
    ``leader_commit`` covers all that the receiver may have forgotten.
    """

    term: int
    prev_log_index: int
    prev_log_term: int
    leader_commit: int
    round: int
    entries: list[Entry]
    amnesic: bool = False


@dataclass(slots=True)
class AppendReply:
    """Answer to AppendEntries, or the news that more entries became durable.

    Success: ``match_index`` is verified against this leader's log *and* durable on the follower.
    Refusal: ``match_index`` is 0 and the entry at ``prev_log_index`` of the request (echoed as
    ``rejected_index``) is missing or has another term: ``conflict_term`` (0: log is shorter) and
    ``conflict_index`` (first index of that term, or last index + 1; 0: only a snapshot can help).
    """

    term: int
    success: bool
    round: int
    match_index: int
    rejected_index: int = 0
    conflict_index: int = 0
    conflict_term: int = 0
    amnesic: bool = False


@dataclass(slots=True)
class TimeoutNow:
    """The leader asks its successor to campaign at once (thesis 3.10)."""

    term: int


Message = RequestVote | VoteReply | AppendEntries | AppendReply | TimeoutNow
