"""Snapshots of a node: taken in slices, sent to peers, received, restored, and what they free."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from finn.errors import CommandError, Disabled, DiskFailed, LogError, NotReady, Stopping
from finn.interfaces import SnapshotMeta
from finn.node.transfers import Transfers
from finn.storage.restore import SnapshotReader

if TYPE_CHECKING:
    from finn.interfaces import ISnapshotSink
    from finn.node.service import Node
    from finn.raft.core import Raft

# One slice of restoring, seconds (DESIGN P4).
SLICE = 0.004
# One of writing, and how long commands go first behind it: without the rest each waits for a slice,
# and p99 under load is that of the snapshot. Few commands need less of it: a share for each.
WRITE_SLICE = 0.0005
WRITE_REST = 0.002
COMMAND_REST = 0.00005
# Members take their snapshots at so many different times.
PHASES = 3
# Bytes of a snapshot not yet on the disk before writing pauses.
MAX_PENDING = 8 * 1024 * 1024
# How long a snapshot that was found good is not doubted again, seconds: what is wrong may be with
# whom it is sent to, and it is read through each time.
TRUST = 600.0
# Read ahead by this much while restoring.
PREFETCH = 4 * 1024 * 1024


class Snapshotting:
    """The snapshots of a node."""

    log = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self.store: Any = None
        self.transfers = Transfers(node)
        self.taken = 0
        self.installed = 0
        self.disabled = False
        self.restoring = False
        self._taking: Deferred[Any] | None = None
        self._waiting: list[Deferred[Any]] = []
        self._sink: ISnapshotSink | None = None
        self._call: Any = None
        self._work_before = 0  # commands, until the last slice
        self._bytes_at_newest = 0
        self._bad: tuple[SnapshotMeta, str] | None = None  # until there is another, and why
        self._trusted = ("", 0.0)  # id, until when
        self._marks: deque[tuple[int, int]] = deque()  # (bytes applied, index), about each MiB
        self._stopped = False

    @property
    def newest(self) -> SnapshotMeta | None:
        """The newest complete snapshot."""
        if self.store is None or not self.store.snapshots:
            return None
        meta: SnapshotMeta = self.store.snapshots[-1]
        return meta

    @property
    def in_progress(self) -> bool:
        """Whether a snapshot is being taken."""
        return self._taking is not None

    # -- taking -------------------------------------------------------------------------------

    def check(self) -> None:
        """Take a snapshot when the log has grown enough (called twice a second)."""
        node = self._node
        if node.raft is None or self._taking is not None or self.disabled or self._stopped:
            return
        applying = node.applying
        if not self._marks or applying.bytes_applied - self._marks[-1][0] > 1024 * 1024:
            self._marks.append((applying.bytes_applied, applying.last_applied))
            if len(self._marks) > 4096:
                self._marks.popleft()
        grown = applying.bytes_applied - self._bytes_at_newest
        if grown > self._threshold(node.raft) and not applying.paused:
            self.take().addErrback(self._failed_alone)

    def _threshold(self, raft: Raft) -> int:
        """Return the bytes of log that are worth a snapshot.

        The first one of a member comes earlier, by another share for each: they apply the same log,
        and if all wrote at once there would be no majority with time for commands.
        """
        newest = self.newest
        size = max(self._node.options.snapshot_bytes, newest.size if newest is not None else 0)
        if self._bytes_at_newest:
            return size
        rank = sum(member.id < raft.node_id for member in raft.configuration.members)
        return size - size * (rank % PHASES) // PHASES

    def _failed_alone(self, failure: Any) -> None:
        if failure.check(OSError):
            self.log.error("snapshot failed: {error}", error=failure.value)
        elif not failure.check(CommandError, NotReady):
            self.log.failure("snapshot failed", failure)

    def take(self) -> Deferred[Any]:
        """Take a snapshot of the machine as of an entry from now.

        Returns:
            Fires with its meta when it is durable. Fails with CommandError when there is nothing
            to snapshot or the machine refuses, with DiskFailed when the disk does.
        """
        node = self._node
        result: Deferred[Any] = Deferred()
        if node.raft is None or node.applying.paused or self._stopped:
            result.errback(NotReady())
        elif node.raft.removed:
            result.errback(CommandError("ERR raft is already shutdown"))
        else:
            # Each has a Deferred of its own: one that is cancelled is no end of the snapshot.
            self._waiting.append(result)
            if self._taking is None:
                self._taking = Deferred()
                self._taking.addBoth(self._taken)
                node.applying.between_entries(self._freeze)
        return result

    def _taken(self, value: Any) -> None:
        self._taking = None
        self._sink = None
        waiting, self._waiting = self._waiting, []
        for result in waiting:
            # Not ``callback`` or ``errback``: with a failure this is the latter.
            result.callback(value)

    def _freeze(self) -> None:
        """Between two entries: what the machine does up to its first yield sees one state."""
        node = self._node
        applying = node.applying
        newest = self.newest
        assert self._taking is not None
        if newest is not None and newest.index >= applying.last_applied and not self.is_bad(newest):
            self._taking.callback(newest)
            return
        if newest is None and not applying.commands_applied:
            self._taking.errback(CommandError("ERR Nothing new to snapshot"))
            return
        bytes_applied = applying.bytes_applied
        try:
            meta = SnapshotMeta(
                applying.last_applied, applying.last_term, applying.last_time,
                applying.configuration, machine=node.host.name, version=node.host.version,
            )  # fmt: skip
            self.log.info("starting snapshot up to {index}", index=meta.index)
            sink = self._sink = self.store.create(meta)
            steps = node.host.snapshot(sink)
        except Disabled:
            self.disabled = True
            self._abort(CommandError("ERR snapshots are disabled"))
            return
        except BaseException as e:
            self.log.failure("the machine failed to write a snapshot")
            self._abort(CommandError(f"ERR snapshot failed: {e}"))
            return
        self._write(steps, sink, bytes_applied)

    def _abort(self, error: BaseException) -> None:
        self._cancel_call()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort().addErrback(lambda _: None)
        if self._taking is not None:
            self._taking.errback(error)

    def _cancel_call(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _write(
        self, steps: Generator[None, None, None] | None, sink: ISnapshotSink, bytes_applied: int
    ) -> None:
        """Run the machine's generator for one slice, then yield to the reactor."""
        if self._sink is not sink:
            return  # stopped, or a received snapshot came in between
        self._call = None
        if steps is not None:
            end = self._node.now() + WRITE_SLICE
            try:
                for _ in steps:
                    if self._node.now() >= end or sink.pending > MAX_PENDING:
                        break
                else:
                    steps = None
            except BaseException as e:
                self.log.failure("the machine failed to write a snapshot")
                self._abort(CommandError(f"ERR snapshot failed: {e}"))
                return
        if steps is None:
            self._finish(sink, bytes_applied)
        elif sink.pending > MAX_PENDING:
            sink.flushed().addCallbacks(
                lambda _: self._write(steps, sink, bytes_applied), self._disk_failed
            )
        else:
            node = self._node
            work = node.dispatch.commands_total + node.applying.commands_applied
            rest = min(WRITE_REST, COMMAND_REST * (work - self._work_before))
            self._work_before = work
            self._call = node.reactor.callLater(rest, self._write, steps, sink, bytes_applied)

    def _finish(self, sink: ISnapshotSink, bytes_applied: int) -> None:
        def finished(meta: SnapshotMeta) -> Any:
            if self._sink is not sink:
                # A received one came in between, perhaps because this one should never have been.
                return None if self._stopped else self.store.discard([meta])
            raft = self._node.raft
            assert raft is not None, "it was given up with its node"
            self.taken += 1
            self._bytes_at_newest = bytes_applied
            self.log.info("snapshot to {index} complete", index=meta.index)
            aside = self._set_bad_aside()
            raft.snapshot_taken(meta.index, meta.term, meta.configuration)
            self._compact(self._node.options.trailing_bytes)
            if self._taking is not None:
                self._taking.callback(meta)
            self._node.wake()
            return aside

        sink.finish().addCallback(finished).addErrback(self._disk_failed)

    def _disk_failed(self, failure: Any) -> None:
        self._sink = None
        if self._taking is not None:
            self._taking.errback(CommandError(f"ERR snapshot failed: {failure.value}"))
        if failure.check(DiskFailed):
            self._node.fatal(failure.value)
        elif not failure.check(LogError, NotReady):
            self.log.failure("a snapshot failed", failure)

    # -- what is bad --------------------------------------------------------------------------

    def is_bad(self, meta: SnapshotMeta) -> bool:
        """Whether a snapshot is known to be bad, and there only because there is no other yet."""
        return self._bad is not None and self._bad[0].id == meta.id

    def doubt(self, meta: SnapshotMeta) -> Deferred[None]:
        """Check a snapshot that cannot be read, or not be used by whom it was sent to.

        A bad one makes room for a new one: of what the machine has in memory, as new at least.

        Returns:
            Fires when that is done, or failed. To cancel it is to wait no longer.
        """
        done: Deferred[None] = Deferred()

        def failed(failure: Any) -> None:
            if self._stopped:
                return
            if failure.check(DiskFailed):
                self._node.fatal(failure.value)
            else:
                self._failed_alone(failure)

        def over(_: object) -> None:
            if not done.called:
                done.callback(None)

        # Not cancelled with whoever waits: the disk goes on all the same.
        checked = Deferred.fromCoroutine(self._replace_if_bad(meta))
        checked.addErrback(failed).addCallback(over)
        return done

    async def _replace_if_bad(self, meta: SnapshotMeta) -> None:
        now = self._node.now()
        trusted, until = self._trusted
        if self.is_bad(meta) or (meta.id == trusted and now < until):
            return
        reason = await self.store.check(meta)
        self._trusted = meta.id, now + TRUST
        others = [m.index for m in self.store.snapshots if m.id != meta.id]
        if not reason or self._stopped or len(others) == len(self.store.snapshots):
            return
        self.log.error("snapshot {id} is bad: {reason}", id=meta.id, reason=reason)
        self._bad = meta, reason
        if self._node.store.first_index <= max(others, default=0) + 1:
            await self._set_bad_aside()  # a start goes on from the one before it, or from the log
        await self.take()

    def _set_bad_aside(self) -> Deferred[None]:
        bad, self._bad = self._bad, None
        if bad is None or all(meta.id != bad[0].id for meta in self.store.snapshots):
            return succeed(None)
        aside: Deferred[str] = self.store.set_aside(*bad)
        return aside.addCallback(lambda notice: self.log.warn("{notice}", notice=notice))

    # -- what snapshots free ------------------------------------------------------------------

    def _compact(self, trailing_bytes: int) -> None:
        """Drop log that the older retained snapshot covers, but for a tail and for transfers."""
        metas = self.store.snapshots
        if len(metas) < 2:
            return  # a bad newest snapshot falls back to the whole log
        index = metas[0].index
        if trailing_bytes:
            bound = self._bytes_at_newest - trailing_bytes
            kept = [i for size, i in self._marks if size <= bound]
            index = min(index, kept[-1] if kept else 0)
        self._compact_to(min(index, self.transfers.pinned(index)))

    def _compact_to(self, index: int) -> None:
        node = self._node
        if index >= node.store.first_index:
            before = node.store.first_index
            node.store.compact(index)
            if node.store.first_index > before:
                self.log.debug(
                    "compacted log from {first} to {last}",
                    first=before, last=node.store.first_index - 1,
                )  # fmt: skip
            self._compacted()

    def shrink(self) -> Deferred[Any]:
        """Give back the space of everything a snapshot covers, at once.

        With two snapshots the log behind the older one stays, so that a damaged newest one does
        no harm; with one it is dropped up to that one.
        """
        node = self._node
        if node.raft is None:
            raise NotReady()
        metas = self.store.snapshots
        if metas:
            self._compact_to(min(metas[0].index, self.transfers.pinned(metas[0].index)))
        return node.store.shrink().addCallback(lambda _: self._compacted())

    def _compacted(self) -> None:
        raft = self._node.raft
        if raft is not None:
            raft.compacted(self._node.store.first_index)

    def interrupt(self) -> None:
        """Give up the snapshot that is being taken: a received one replaces the state."""
        self.give_up(CommandError("ERR snapshot was overtaken by one of the leader"))

    def give_up(self, error: BaseException) -> None:
        """Fail the snapshot that is being taken, perhaps by a node that has just ended."""
        if self._taking is not None:
            self._abort(error)

    # -- restoring ----------------------------------------------------------------------------

    def check_writer(self, meta: SnapshotMeta) -> None:
        """Look who wrote a snapshot, before anything gives way to it.

        Raises:
            DiskFailed: not this machine, or a newer version of it.
        """
        node = self._node
        if meta.machine != node.host.name or meta.version > node.host.version:
            raise DiskFailed(
                f"snapshot {meta.id} was written by machine {meta.machine} "
                f"version {meta.version}, not by {node.host.name} version {node.host.version}"
            )

    async def restore(self, meta: SnapshotMeta) -> None:
        """Replace the machine's state by a snapshot's, in slices, and apply from there on."""
        node = self._node
        self.check_writer(meta)
        source = await self.store.source(meta)
        reader = SnapshotReader(source)
        self.restoring = True
        try:
            await reader.prefetch(PREFETCH)
            steps = node.host.restore(reader)
            while steps is not None and not self._stopped:
                end = node.now() + SLICE
                for _ in steps:
                    if node.now() >= end or reader.buffered < PREFETCH // 4:
                        break
                else:
                    break
                await reader.prefetch(PREFETCH)
                await node.yield_turn()
        finally:
            self.restoring = False
            closed = source.close()
            closed.addErrback(lambda f: self.log.failure("closing a snapshot failed", f))
        if not self._stopped:
            node.applying.start_at(meta.index, meta.term, meta.time, meta.configuration)
            node.applying.commands_applied = max(1, node.applying.commands_applied)

    # -- stopping -----------------------------------------------------------------------------

    async def stop(self) -> None:
        """Abort what is being written and sent."""
        self._stopped = True
        self._cancel_call()
        sink, self._sink = self._sink, None
        if self._taking is not None:
            self._taking.errback(Stopping())
        await self.transfers.stop()
        if sink is not None:
            try:
                await sink.abort()
            except LogError as e:
                self.log.error("{error}", error=str(e))
