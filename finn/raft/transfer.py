"""Leadership transfer, the leader's side (thesis 3.10)."""

from __future__ import annotations

from dataclasses import dataclass

from finn.errors import MembershipError
from finn.raft.configuration import Configuration
from finn.raft.progress import Progress


@dataclass(slots=True)
class Transfer:
    """A transfer under way.

    Attributes:
        target: the successor.
        deadline: when it is given up.
        leaving: this leader is no member any more: it steps down in any case.
        sent: TimeoutNow is out.
    """

    target: int
    deadline: float
    leaving: bool = False
    sent: bool = False


def choose_target(
    target: int | None, node_id: int, configuration: Configuration, progress: dict[int, Progress]
) -> int:
    """Return the successor: the one asked for, or the voter whose log is longest.

    Raises:
        MembershipError: there is none, or it cannot lead.
    """
    if target is None:
        fit = [
            progress[v]
            for v in configuration.voters
            if v != node_id and progress[v].connected and not progress[v].amnesic_round
        ]
        if not fit:
            raise MembershipError("ERR no other voter can take over")
        return max(fit, key=lambda pr: (pr.match_index, pr.last_heard, -pr.peer)).peer
    if target == node_id:
        raise MembershipError("ERR this node is the leader already")
    if target not in configuration.voters:
        raise MembershipError("ERR the target is not a voter")
    if progress[target].amnesic_round or not progress[target].connected:
        raise MembershipError("ERR the target cannot take over now")
    return target
