"""A follower's side of snapshots: which one it wants, and what an installed one means (figure 13).

The bytes are the driver's business; figure 13's rules 2 to 4 (chunks) are its too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finn.raft.configuration import Configuration

if TYPE_CHECKING:
    from finn.raft.server import Server


def offered(
    raft: Server, sender: int, term: int, index: int, snapshot_term: int, now: float
) -> bool:
    """Figure 13, rule 1, and whether the snapshot is of use."""
    if term < raft.current_term:
        return False
    if term > raft.current_term:
        raft.become_follower(term, sender, now)
    follower = raft.follow(sender, now)
    if raft.reinstalling:
        return True
    if index > raft.commit_index and raft.log.term_at(index) != snapshot_term:
        return True
    if index <= raft.commit_index and not raft.log.may_hold(index, snapshot_term):
        raft.reinstall()
        return True
    # All of it is here already (rule 6): what a snapshot holds is committed.
    follower.installed(index)
    if index > raft.commit_index:
        raft.commit_to(index)
    return False


def installed(
    raft: Server, index: int, term: int, time_ms: int, configuration: Configuration,
    sender: int | None,
) -> None:  # fmt: skip
    """Figure 13, rules 6 to 8."""
    log = raft.log
    before = raft.configuration
    was_member = log.configuration_at(raft.commit_index).get(raft.node_id) is not None
    if raft.reinstalling or (index > raft.commit_index and log.term_at(index) != term):
        # Rule 7, BUGS 5.5 (hashicorp#697): a log that conflicts must not outlive it.
        log.reset(index, term, configuration, time_ms)
    else:
        # Rule 6: retain what follows.
        log.snapshot_taken(index, term, configuration)
    if raft.configuration != before:
        raft.out.configuration_changed()
    if index >= raft.commit_index:
        if configuration.get(raft.node_id) is not None:
            raft.is_member_again()
        elif was_member:
            raft.note_removal()
    raft.restored(index)
    if raft.follower is not None and sender is not None and sender == raft.leader_id:
        raft.follower.installed(min(index, raft.commit_index))
        raft.follower.maybe_cured()
