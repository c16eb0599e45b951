"""Opening a node: directory, identity, log, snapshot, core; then founding or joining a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from finn.errors import CorruptLog, DataDirectoryError
from finn.node.driver import Driver
from finn.node.stopping import ending
from finn.options import Backend, Durability
from finn.raft.configuration import Configuration
from finn.raft.core import Raft
from finn.raft.entries import Entry
from finn.raft.log import RaftLog
from finn.raft.ready import HardState
from finn.raft.settings import RaftOptions
from finn.storage.factory import effective_durability, open_snapshots, open_store
from finn.storage.identity import DirectoryLock, Identity

if TYPE_CHECKING:
    from finn.interfaces import SnapshotMeta
    from finn.node.service import Node


class Opening:
    """Brings one node up; every step can be cut by a crash and is then done again."""

    log = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._was_reset = False

    def prepare(self) -> None:
        """Lock the data directory and learn or draw this node's id.

        Raises:
            DataDirectoryError: it cannot be used, or is another backend's; one line says why.
        """
        node = self._node
        options = node.options
        in_memory = options.backend is Backend.INMEM
        node.lock = DirectoryLock(node.files, options.directory, kept=not in_memory)
        node.lock.acquire()
        found = None if in_memory else Identity.load(node.files, options.directory)
        if found is not None and found.backend != options.backend.value:
            made = found.backend
            raise DataDirectoryError(
                f"data directory {options.directory} was made by backend {made}: "
                f"start with --backend {made}, or choose another --dir"
            )
        if found is not None and found.cluster_id == 0 and options.join:
            # It asks to be added, and may have been before, and removed, without knowing of it.
            found = None
        node.identity = found or self._draw()

    def _draw(self) -> Identity:
        """Draw an id for a new member; ids are never used again."""
        node = self._node
        options = node.options
        return Identity(
            node.files,
            options.directory,
            node.random.getrandbits(63) | 1,
            options.backend.value,
            options.address,
            options.backend is Backend.INMEM,
        )

    async def open(self) -> None:
        """Restore, and start the core; less than that where the node is stopped meanwhile."""
        node = self._node
        identity = node.identity
        if identity.removed:
            identity = await self._begin_again()
        node.store = open_store(
            node.options, node.files, node.disk, node.reactor, node.store_random
        )
        await node.store.open()
        node.store_open = True
        if node.store.notice:
            self.log.warn("{notice}", notice=node.store.notice)
        if identity.cluster_id == 0:
            self._check_fresh(node.store.last_index > 1 or node.store.state.term > 1)
            identity.address = node.options.address
        self._check_whole()
        amnesic = self._is_amnesic()
        await node.standing.save_identity()
        if ending(node) is not None:
            return
        node.snapshots.store = open_snapshots(
            node.options, node.files, node.snapshot_disk, node.wall_ms
        )
        await node.snapshots.store.open()
        if identity.cluster_id == 0:
            self._check_fresh(bool(node.snapshots.store.snapshots))
        meta = await self._restore()
        if ending(node) is not None:
            return
        founded: Entry | None = None
        if identity.cluster_id == 0:
            founded = await self._found()
        if ending(node) is not None:
            return
        self._start_core(meta, founded, amnesic)

    def _check_fresh(self, has_data: bool) -> None:
        """Refuse data without the node.json they belong to.

        Invariant: a node without a cluster has at most the one entry with which it began to found
        one. What comes next would delete all others.
        """
        if has_data:
            raise DataDirectoryError(
                f"{self._node.options.directory} has data of a member, but no node.json that says "
                "of which: restore it, or move the directory away"
            )

    async def _found(self) -> Entry | None:
        """Found a cluster if this fresh node is to; returns its first entry."""
        node = self._node
        store = node.store
        if store.last_index >= store.first_index:
            # A founding that a crash cut short: nobody else ever saw it.
            store.reset(0, 0)
            await store.sync()
        configuration = await node.joining.begin()
        if configuration is None or ending(node) is not None:
            return None
        return await node.joining.found(configuration)

    async def announce(self) -> None:
        """Ask for membership, or tell the others this node's new address, if there is need."""
        node = self._node
        identity = node.identity
        if identity.removed:
            return  # it has said how to join again
        if identity.joined and node.is_member and identity.address == node.options.address:
            return
        if not identity.joined:
            # What the log says of this newcomer, if anything, may never have been committed.
            if not node.options.wait:
                await node.joining.join(node.options.join)
        elif node.is_member:
            raft = node.raft
            assert raft is not None
            others = [m.address for m in raft.configuration.members if m.id != raft.node_id]
            if not others:
                await node.joining.rename_alone()
            else:
                await node.joining.join(others)
        else:
            await node.joining.join(node.options.join)
        if ending(node) is None:  # else nobody may have been told
            node.identity.address = node.options.address
            await node.standing.save_identity()

    async def _begin_again(self) -> Identity:
        """A removed node started with --join: old data aside, a new id, a fresh start."""
        node = self._node
        if not node.options.join and not node.options.wait:
            self.log.warn(
                "this node was removed from its cluster and serves status only: "
                "start it with --join to join again as a new member"
            )
            return node.identity
        aside = await node.disk.run(node.identity.set_aside, node.wall_ms())
        self.log.warn("this node was removed: its old data is in {aside}", aside=aside)
        node.identity = self._draw()
        return node.identity

    def _check_whole(self) -> None:
        """Refuse a log that lacks what no crash takes; amnesia is for what was not synced.

        Invariant: whoever was a member knows a term. Term and vote are synced with their names, at
        every level, before that is noted; without them it would vote twice in a term.
        """
        node = self._node
        identity = node.identity
        store = node.store
        lost = identity.lost_since(store.last_index, store.terms[-1][1] if store.terms else 0)
        if identity.joined and store.state.term == 0:
            lost = "the log is missing, and with it the vote"
        if lost and identity.removed:  # damaged, or cut short as it was set aside
            raise DataDirectoryError(
                f"this node was removed from its cluster, and what {node.options.directory} has is "
                f"not whole ({lost}): start it with --join to join again as a new member"
            )
        if lost:
            raise CorruptLog(node.options.directory, 0, lost)

    def _is_amnesic(self) -> bool:
        """Say whether this node may have forgotten what it acknowledged (DESIGN section 4)."""
        node = self._node
        store = node.store
        level = effective_durability(node.options)
        amnesic = node.identity.began(
            node.boot_id(),
            level is not Durability.HIGH,
            store.dropped_tail,
            level.name.lower(),
        )
        if amnesic:
            self.log.warn(
                "this node may have forgotten writes it acknowledged: "
                "it does not vote until a leader has brought it up to date"
            )
        return amnesic

    async def _restore(self) -> SnapshotMeta | None:
        """Restore the newest good snapshot; the log has to reach it (figure 13)."""
        node = self._node
        store = node.store
        for notice in node.snapshots.store.notices:
            self.log.warn("{notice}", notice=notice)
        metas = node.snapshots.store.snapshots
        meta: SnapshotMeta | None = metas[-1] if metas else None
        index, term = (meta.index, meta.term) if meta is not None else (0, 0)
        if store.first_index > index + 1:
            raise CorruptLog(
                node.options.directory, 0,
                f"the log begins at {store.first_index}, the newest snapshot ends at {index}",
            )  # fmt: skip
        if meta is None:
            return None
        node.snapshots.check_writer(meta)
        known = _term_at(store.terms, meta.index, store.last_index)
        if store.last_index < index or (known is not None and known != term):
            # A crash between the two steps of an installation: the snapshot wins.
            self.log.info("log is reset to the snapshot at {index}", index=index)
            store.reset(index, term)
            await store.sync()
            self._was_reset = True
        await node.snapshots.restore(meta)
        self.log.info("restored from snapshot {id}", id=meta.id)
        return meta

    def _start_core(self, meta: SnapshotMeta | None, founded: Entry | None, amnesic: bool) -> None:
        node = self._node
        store = node.store
        options = node.options
        state: HardState = store.state
        # What the store says of its entries was true when it was opened.
        terms, configurations = list(store.terms), list(store.configurations)
        if founded is not None:
            terms, configurations = [(founded.index, founded.term)], [founded]
        elif self._was_reset:
            terms, configurations = [], []
        snapshot_configuration = meta.configuration if meta is not None else Configuration()
        log = RaftLog(
            meta.index if meta is not None else 0,
            meta.term if meta is not None else 0,
            snapshot_configuration,
            store.first_index,
            store.last_index,
            terms,
            configurations,
            max(store.last_time, meta.time if meta is not None else 0),
        )
        settings = RaftOptions(
            address=options.address,
            heartbeat=options.heartbeat,
            election_timeout=options.election_timeout,
        )
        raft = Raft(
            node.identity.node_id, settings, node.random, log, state, log.configuration,
            node.now(), amnesic,
        )  # fmt: skip
        node.raft = raft
        node.applying.raft = raft
        node.driver = Driver(node, raft, store)
        raft.removed = node.identity.removed
        raft.told_removed = node.identity.told_removed
        node.links.follow(raft.peers)
        self.log.info(
            "node {id} at {address}, term {term}, log {first} to {last}",
            id=format(node.identity.node_id, "016x"),
            address=options.address,
            term=raft.current_term,
            first=store.first_index,
            last=store.last_index,
        )
        node.driver.wake()


def _term_at(terms: list[tuple[int, int]], index: int, last: int) -> int | None:
    """Return the term of an entry by the runs of terms, None outside of the log."""
    if index > last:
        return None
    found = None
    for first, term in terms:
        if first > index:
            break
        found = term
    return found
