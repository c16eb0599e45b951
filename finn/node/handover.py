"""Handing over leadership before a stop: to whom, when, and until it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finn.errors import FinnError
from finn.raft.core import Role

if TYPE_CHECKING:
    from finn.node.service import Node

# How long entries in flight may take, and then another leader, seconds.
SETTLE_TIMEOUT = 2.0
HANDOVER_TIMEOUT = 2.0
# How long a successor that still replays its log is waited for, and a first answer, seconds.
READY_TIMEOUT = 2.0
ANSWER_TIMEOUT = 0.25
POLL = 0.005
# A successor has applied all but this many entries: milliseconds of work.
MAX_LAG = 256


async def find_successor(node: Node) -> int | None:
    """Find a voter that can serve at once without this node, which serves meanwhile.

    One that was started a moment ago has the log, and may win the election, but replays for a
    second or more before it can serve. And whoever wins needs a majority that can take new entries:
    with this node gone, that may include one which lacks many. Nobody would answer in that time.

    Returns:
        Its id, or None: there is nobody to choose from, or nobody tells.
    """
    raft = node.raft
    if raft is None or raft.role is not Role.LEADER or raft.transferring:
        return None
    if not set(raft.configuration.voters) - {raft.node_id}:
        return None
    began = node.now()
    best: int | None = None
    while raft.role is Role.LEADER and node.raft is raft and node.links.ask_statuses():
        await node.sleep(POLL)
        voters = raft.configuration.voters
        told = {p: s for p, s in node.links.statuses_since(began).items() if p in voters}
        best = max(told, key=lambda peer: told[peer].last_applied, default=None)
        passed = node.now() - began
        if passed > (ANSWER_TIMEOUT if best is None else READY_TIMEOUT):
            break
        if best is None or node.applying.last_applied - told[best].last_applied > MAX_LAG:
            continue
        quorum = len(voters) // 2 + 1
        up = sum(raft.log.last_index - status.last_log_index <= MAX_LAG for status in told.values())
        if up >= quorum or (len(told) < quorum and passed > ANSWER_TIMEOUT):
            break
    return best


async def hand_over(node: Node, successor: int | None) -> None:
    """Let what was appended be applied, then make another member the leader.

    Args:
        node: the leader; nothing happens if it is not.
        successor: who it should be, the core's choice if None.
    """
    raft = node.raft
    if raft is None or raft.role is not Role.LEADER:
        return
    if not set(raft.configuration.voters) - {raft.node_id}:
        deadline = node.now() + SETTLE_TIMEOUT
        while not node.proposals.idle and node.now() < deadline:
            await node.sleep(POLL)
        return
    for target in {successor: None, None: None}:
        if raft.transferring:
            break  # by RAFTTRANSFER, or as it was removed: that one also steps down in the end
        try:
            raft.transfer_leadership(target, node.now())
        except FinnError as e:
            if target is None:
                node.log.info("leadership is not handed over: {error}", error=str(e))
        else:
            node.wake()
            break
    deadline = node.now() + HANDOVER_TIMEOUT
    while raft.role is Role.LEADER and raft.transferring and node.now() < deadline:
        if node.raft is not raft:
            return
        await node.sleep(POLL)
    # Those that wait learn the next leader's address; new ones are told it at once.
    while not (raft.role is Role.LEADER or raft.leader_id or raft.removed):
        if node.now() > deadline or node.raft is not raft:
            break
        await node.sleep(POLL)
    await node.sleep(POLL)
