"""Transfers: snapshots sent to peers that are too far behind, and the one that is received."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import DiskFailed, FinnError, LogError, NotReady, SnapshotUnusable
from finn.protocols.transfer import SnapshotInbox, send_snapshot

if TYPE_CHECKING:
    from finn.interfaces import SnapshotMeta
    from finn.node.service import Node

# Log kept for transfers that run; a slower receiver starts again with a newer snapshot.
MAX_PINNED_BYTES = 1024 * 1024 * 1024


class Transfers:
    """The running transfers of a node."""

    log = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sending: dict[int, Deferred[Any]] = {}
        self._pins: dict[int, int] = {}
        self._inbox: SnapshotInbox | None = None
        self._stopped = False

    def pinned(self, index: int) -> int:
        """Return up to where the log may be dropped while transfers run, at most ``index``."""
        if self._node.store.log_bytes > MAX_PINNED_BYTES:
            return index
        return min([index, *self._pins.values()])

    # -- sending ------------------------------------------------------------------------------

    def send(self, peer_id: int) -> None:
        """Send the newest snapshot to a peer; the core is told how it ended."""
        if peer_id in self._sending or self._stopped:
            return
        sending = self._sending[peer_id] = Deferred.fromCoroutine(self._send(peer_id))
        sending.addBoth(self._sent, peer_id)

    async def _send(self, peer_id: int) -> tuple[int, bool]:
        """Return the index of what was sent, and whether the peer has it now."""
        node = self._node
        raft = node.raft
        assert raft is not None
        term = raft.current_term
        meta = node.snapshots.newest
        if meta is None or meta.index + 1 < raft.log.first_index or node.snapshots.is_bad(meta):
            meta = await node.snapshots.take()
        member = raft.configuration.get(peer_id)
        if member is None or meta is None:
            return 0, False
        self._pins[peer_id] = meta.index
        try:
            source = await node.snapshots.store.source(meta)
            self.log.info(
                "sending snapshot {id}, {size} bytes, to {address}",
                id=meta.id, size=meta.size, address=member.address,
            )  # fmt: skip
            wanted = await send_snapshot(
                node.reactor, member.address, node.links, peer_id, source, term,
                tls=node.tls,
            )  # fmt: skip
        except (LogError, SnapshotUnusable):
            await node.snapshots.doubt(meta)
            raise
        # What is not wanted is there already.
        return (meta.index, True) if wanted else (0, False)

    def _sent(self, result: Any, peer_id: int) -> None:
        self._sending.pop(peer_id, None)
        self._pins.pop(peer_id, None)
        index, ok = 0, False
        if isinstance(result, Failure):
            if not result.check(CancelledError):
                self.log.info("snapshot was not sent: {reason}", reason=result.getErrorMessage())
        else:
            index, ok = result
        raft = self._node.raft
        if raft is not None and not self._stopped:
            raft.snapshot_sent(peer_id, index, ok, self._node.now())
            self._node.wake()

    def leadership_lost(self) -> None:
        """Send no more: to its receiver a transfer is a sign that there is a leader."""
        for sending in list(self._sending.values()):
            sending.cancel()

    # -- receiving ----------------------------------------------------------------------------

    def offered(self, link: Any, offer: Any) -> None:
        """A leader offers a snapshot on a link of its own."""
        node = self._node
        if self._inbox is None:
            self._inbox = SnapshotInbox(
                node.snapshots.store,
                node.reactor,
                self._wanted,
                self._contact,
                self._complete,
                node.fatal,
            )
        self._inbox.offered(link, offer)

    def _wanted(self, sender: int, term: int, meta: SnapshotMeta) -> bool:
        node = self._node
        raft = node.raft
        if raft is None or self._stopped or node.snapshots.restoring:
            return False
        wanted = raft.snapshot_offered(sender, term, meta.index, meta.term, node.now())
        if wanted:
            try:
                node.snapshots.check_writer(meta)
            except DiskFailed as e:
                # Before it is the newest: a start with the older version goes on from its own.
                node.fatal(e)
                return False
            self.log.info(
                "receiving snapshot up to {index}, {size} bytes",
                index=meta.index, size=meta.size,
            )  # fmt: skip
        node.wake()
        return wanted

    def _contact(self, sender: int, term: int) -> None:
        node = self._node
        if node.raft is not None:
            node.raft.leader_contact(sender, term, node.now())

    def _complete(self, meta: SnapshotMeta, sender: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self._install(meta, sender))

    async def _install(self, meta: SnapshotMeta, sender: int) -> None:
        """A received snapshot is durable: the log follows it, then the machine.

        A crash in between is legal: the next start finds a log that ends before its newest
        snapshot, or conflicts there, and resets it.
        """
        node = self._node
        raft = node.raft
        if raft is None or self._stopped:
            raise NotReady
        outdated = meta.index <= node.applying.last_applied and not raft.reinstalling
        if not outdated:
            node.snapshots.interrupt()
            node.applying.pause()
        if raft.reinstalling:
            await self._overrule(meta)
            if self._stopped or node.raft is not raft:
                raise NotReady
        raft.snapshot_installed(
            meta.index, meta.term, meta.time, meta.configuration, sender, node.now()
        )
        node.wake()
        if outdated:
            return
        try:
            await node.snapshots.restore(meta)
        except FinnError as e:
            node.fatal(e)
            raise
        except Exception as e:
            node.fatal(e, unexpected=True)
            raise
        node.snapshots.installed += 1
        self.log.info("installed remote snapshot {id}", id=meta.id)
        node.wake()

    async def _overrule(self, meta: SnapshotMeta) -> None:
        """Make the next start begin with a snapshot that is older than what it replaces.

        What this node held as committed is not what the cluster has, its own snapshots included:
        with a higher index they would be the newest for ever. The log goes first, durably: without
        it the next start takes the old snapshot once more, and is told again to install one.
        """
        node = self._node
        try:
            node.store.reset(meta.index, meta.term)
            await node.store.sync(durable=True)
            store = node.snapshots.store
            await store.discard([m for m in store.snapshots if m.id != meta.id])
        except LogError as e:
            node.fatal(e)
            raise

    # -- stopping -----------------------------------------------------------------------------

    def stop(self) -> Deferred[Any]:
        """End all transfers."""
        self._stopped = True
        self.leadership_lost()
        return self._inbox.stop() if self._inbox is not None else succeed(None)
