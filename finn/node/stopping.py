"""Stopping a node in order, so that nobody waits and nothing is forgotten (DESIGN section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finn.errors import FinnError
from finn.raft.core import Role

if TYPE_CHECKING:
    from finn.node.service import Node

# How long the stop waits for entries in flight, and then for another leader, seconds.
SETTLE_TIMEOUT = 2.0
HANDOVER_TIMEOUT = 2.0
POLL = 0.005


async def stop_node(node: Node) -> None:
    """Stop accepting, settle, hand over, sync, mark the clean stop, close, unlock."""
    node.stopping = True
    node.joining.stop()
    if node.port is not None:
        await _quietly(node.port.stopListening())
    driver = node.driver
    if driver is not None and node.failure is None:
        await _hand_over(node)
    node.stop_sweeping()
    if driver is not None:
        driver.refuse_all("node is stopping")
        driver.stop()
    node.forwarding.fail_all()
    node.server.flush()
    node.server.close_all()
    node.wake_sleepers()
    node.links.stop()
    await node.snapshots.stop()
    await _close_storage(node)
    node.lock.release()


async def _hand_over(node: Node) -> None:
    """Let what was appended be applied, then make another member the leader."""
    raft = node.raft
    assert raft is not None
    if raft.role is not Role.LEADER:
        return
    if len(raft.configuration.voters) > 1:
        try:
            raft.transfer_leadership(None, node.now())
            node.wake()
        except FinnError as e:
            node.log.info("leadership is not handed over: {error}", error=str(e))
        deadline = node.now() + HANDOVER_TIMEOUT
        while raft.role is Role.LEADER and raft.transferring and node.now() < deadline:
            await node.sleep(POLL)
        # Those that wait learn the next leader's address; new ones are told it at once.
        while raft.role is not Role.LEADER and not raft.leader_id and node.now() < deadline:
            await node.sleep(POLL)
        await node.sleep(POLL)
    else:
        deadline = node.now() + SETTLE_TIMEOUT
        while not node.proposals.idle and node.now() < deadline:
            await node.sleep(POLL)


async def _close_storage(node: Node) -> None:
    """Close the store; only if all went well the next start may trust the tail at any level."""
    clean = node.failure is None
    if node.store_open:
        try:
            await node.store.close()
        except Exception as e:
            clean = False
            node.log.error("closing the log failed: {error}", error=str(e))
    if clean and node.store_open:
        node.identity.stopped_cleanly()
        try:
            await node.standing.save_identity()
        except Exception as e:
            node.log.error("the stop could not be noted: {error}", error=str(e))
    if node.snapshot_disk is not node.disk:
        await _quietly(node.snapshot_disk.stop())
    await _quietly(node.disk.stop())


async def _quietly(deferred: Any) -> None:
    try:
        await deferred
    except Exception:
        pass
