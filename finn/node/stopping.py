"""Stopping a node in order, so that nobody waits and nothing is forgotten (DESIGN section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from finn.errors import NotReady, OutcomeUnknown, Stopping, error_text
from finn.node.handover import find_successor, hand_over
from finn.resp.replies import encode_error

if TYPE_CHECKING:
    from finn.node.service import Node

# Clients and members whose connections are not closed by then are dropped, seconds.
CLOSE_TIMEOUT = 1.0
# A disk that does not answer for so long is left alone, seconds.
DISK_TIMEOUT = 10.0


def ending(node: Node) -> NotReady | None:
    """Say why this node does nothing any more, or is about to; None as long as it runs."""
    if node.failure is not None:
        return NotReady("ERR node has failed")
    return Stopping() if node.stopping else None


async def stop_node(node: Node) -> None:
    """Stop accepting, settle, hand over, sync, mark the clean stop, close, unlock."""
    node.stopping = True
    node.joining.stop()
    node.disappoint(Stopping())
    successor = await find_successor(node) if node.failure is None else None
    if node.port is not None:
        await _quietly(node.port.stopListening())
    driver = node.driver
    if driver is not None and node.failure is None:
        await hand_over(node, successor)
    node.stop_sweeping()
    if driver is not None:
        driver.refuse_all("node is stopping")
        driver.stop()
    node.forwarding.fail_all()
    node.executing.fail_all()
    node.server.flush()
    # What a machine, or a command of the node, still owes: it has begun, and may do anything.
    too_late, refusal = OutcomeUnknown("node is stopping"), Stopping()
    clients = node.server.close_all(*[encode_error(error_text(e)) for e in (too_late, refusal)])
    node.wake_sleepers()
    links = node.links.stop()
    storage = Deferred.fromCoroutine(_close_storage(node))
    # Until then the disk may still do what it was told.
    storage.addErrback(lambda failure: node.log.failure("closing failed", failure))
    storage.addCallback(lambda _: node.lock.release())
    await _at_most(node, storage, DISK_TIMEOUT)
    await _at_most(node, gatherResults([clients, links]), CLOSE_TIMEOUT)
    node.server.abandon_all()
    if not storage.called:
        node.log.error("the disk does not answer, stopped without a last sync")


def _at_most(node: Node, deferred: Deferred[Any], seconds: float) -> Deferred[None]:
    """Return a Deferred that fires with another one, or when the time is over."""
    result: Deferred[None] = Deferred()

    def over(_: object = None) -> None:
        if call.active():
            call.cancel()
        if not result.called:
            result.callback(None)

    call = node.reactor.callLater(seconds, over)
    deferred.addBoth(over)
    return result


async def _close_storage(node: Node) -> None:
    """Close the store; only if all went well the next start may trust the tail at any level."""
    await node.snapshots.stop()  # a restore, too
    await node.opened  # or what it opens next would stay open
    clean = node.failure is None
    end = None
    if node.store_open:
        end = await _end_of_log(node)
        try:
            await node.store.close()
        except Exception as e:
            if clean:  # else it was said already why
                node.log.error("closing the log failed: {error}", error=str(e))
            clean = False
    if clean and end is not None and node.failure is None:
        node.identity.stopped_cleanly(*end)
        try:
            await node.standing.save_identity()
        except Exception as e:
            node.log.error("the stop could not be noted: {error}", error=str(e))
    if node.snapshot_disk is not node.disk:
        await _quietly(node.snapshot_disk.stop())
    await _quietly(node.disk.stop())


async def _end_of_log(node: Node) -> tuple[int, int] | None:
    """Return index and term of the last entry, term 0 without one; None if it cannot be read.

    It is the store that is asked: the core may hold what the store was never given.
    """
    store = node.store
    if store.last_index < store.first_index:
        return store.last_index, 0
    try:
        entries = await store.read(store.last_index, 1)
    except Exception as e:
        if node.failure is None:  # else it was said already why
            node.log.error("reading the end of the log failed: {error}", error=str(e))
        return None
    return entries[0].index, entries[0].term


async def _quietly(deferred: Any) -> None:
    try:
        await deferred
    except Exception:
        pass
