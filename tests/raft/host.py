"""A driver for tests: one ``Raft`` on a disk that can be slow, and lose what is not synced."""

from __future__ import annotations

from random import Random

from finn.raft import (
    Configuration,
    Entry,
    HardState,
    Member,
    Raft,
    RaftLog,
    RaftOptions,
    Ready,
)
from finn.raft.entries import CONFIGURATION
from finn.raft.messages import Message


def members(*ids: int, learners: tuple[int, ...] = ()) -> Configuration:
    """A configuration of nodes at :7481, :7482..."""
    return Configuration(
        tuple(Member(i, f":{7480 + i}", i not in learners) for i in sorted((*ids, *learners)))
    )


class StoredLog:
    """What a log store holds: entries behind a base."""

    def __init__(self) -> None:
        self.base, self.base_term = 0, 0
        self.entries: list[Entry] = []

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    def copy(self) -> StoredLog:
        new = StoredLog()
        new.base, new.base_term, new.entries = self.base, self.base_term, list(self.entries)
        return new

    def reset(self, index: int, term: int) -> None:
        self.base, self.base_term, self.entries = index, term, []

    def truncate(self, index: int) -> None:
        del self.entries[index - self.base - 1 :]

    def append(self, entries: list[Entry]) -> None:
        assert not entries or entries[0].index == self.last + 1
        self.entries += entries

    def compact(self, index: int) -> None:
        if index > self.base:
            self.base_term = self.entries[index - self.base - 1].term
            del self.entries[: index - self.base]
            self.base = index

    def get(self, index: int) -> Entry:
        return self.entries[index - self.base - 1]

    def terms(self) -> list[tuple[int, int]]:
        runs: list[tuple[int, int]] = []
        for entry in self.entries:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        return runs


class Snapshot:
    """A durable snapshot: the machine is the running hash of all entries."""

    def __init__(
        self, index: int, term: int, time: int, configuration: Configuration, machine: int
    ) -> None:
        self.index, self.term, self.time = index, term, time
        self.configuration, self.machine = configuration, machine


EMPTY = Snapshot(0, 0, 0, Configuration(), 0)


class Host:
    """One node with its disk. ``drain`` does what ``Ready`` says; ``sync`` is the disk's turn."""

    def __init__(
        self, node_id: int, configuration: Configuration, options: RaftOptions, seed: int = 0
    ) -> None:
        self.id = node_id
        self.founded = configuration
        self.options = options
        self.random = Random(f"{seed}/{node_id}")
        self.state = HardState()  # durable
        self.disk = StoredLog()  # durable
        self.store = StoredLog()  # as the node sees it
        self.snapshot = EMPTY
        self.amnesic = False  # durable
        self.pending: list[tuple[str, object, int]] = []
        self.raft: Raft | None = None
        self.machine = 0
        self.applied = 0
        self.reads: list[tuple[object, int]] = []
        self.events: list[tuple[str, str]] = []
        self.snapshots_wanted: list[int] = []
        self.fetches: list[tuple[int, int, int]] = []
        self.slow = False  # the disk waits for sync()

    def start(self, now: float) -> Raft:
        """Start from what is durable."""
        self.store = self.disk.copy()
        self.pending = []
        self.machine, self.applied = self.snapshot.machine, self.snapshot.index
        configurations = [e for e in self.disk.entries if e.kind == CONFIGURATION]
        log = RaftLog(
            self.snapshot.index, self.snapshot.term, self.snapshot.configuration,
            self.disk.base + 1, self.disk.last, self.disk.terms(), configurations,
            self.disk.entries[-1].time if self.disk.entries else self.snapshot.time,
        )  # fmt: skip
        self.raft = Raft(
            self.id, self.options, self.random, log, self.state, self.founded, now, self.amnesic
        )
        return self.raft

    def crash(self, keep: int = 0) -> None:
        """Lose the process, and all writes of the disk but the first ``keep`` of those pending."""
        for op in self.pending[:keep]:
            self._write(op, tell=False)
        self.pending = []
        self.raft = None

    @property
    def live(self) -> Raft:
        assert self.raft is not None
        return self.raft

    # -- the driver ---------------------------------------------------------------------------

    def drain(self) -> list[tuple[int, Message]]:
        """Do all that is to be done; returns the messages to send."""
        sent: list[tuple[int, Message]] = []
        while self.raft is not None:
            ready = self.raft.ready()
            if ready is None:
                break
            sent += self.perform(ready)
            if not self.slow:
                self.sync()
        return sent

    def perform(self, ready: Ready) -> list[tuple[int, Message]]:
        """Do one Ready."""
        raft = self.live
        self.events += [(level, text.format(**fields)) for level, text, fields in ready.events]
        if ready.state is not None:
            self.pending.append(("state", ready.state, ready.state_ticket))
        if ready.reset_to is not None:
            self.store.reset(*ready.reset_to)
            self.pending.append(("reset", ready.reset_to, 0))
        if ready.truncate_from:
            self.store.truncate(ready.truncate_from)
            self.pending.append(("truncate", ready.truncate_from, 0))
        if ready.entries:
            self.store.append(ready.entries)
            self.pending.append(("append", ready.entries, ready.log_ticket))
        self.fetches += ready.fetches
        self.snapshots_wanted += ready.snapshots
        self.reads += ready.reads
        if ready.cured:
            self.amnesic = False
        self.apply()
        raft.applied(self.applied)
        return ready.messages

    def apply(self) -> None:
        """Apply what is committed."""
        raft = self.live
        if raft.reinstalling:
            return
        while self.applied < raft.commit_index:
            entry = self.store.get(self.applied + 1)
            self.machine = hash((self.machine, entry.record))
            self.applied += 1

    def sync(self, count: int | None = None) -> None:
        """Make the first ``count`` pending writes durable, and say so."""
        count = len(self.pending) if count is None else count
        done, self.pending = self.pending[:count], self.pending[count:]
        for op in done:
            self._write(op, tell=True)

    def _write(self, op: tuple[str, object, int], tell: bool) -> None:
        kind, what, ticket = op
        if kind == "state":
            assert isinstance(what, HardState)
            self.state = what
            if tell:
                self.live.state_persisted(ticket)
        elif kind == "reset":
            self.disk.reset(*what)  # type: ignore[misc]
        elif kind == "truncate":
            self.disk.truncate(what)  # type: ignore[arg-type]
        else:
            self.disk.append(what)  # type: ignore[arg-type]
            if tell:
                self.live.persisted(ticket)

    # -- snapshots ------------------------------------------------------------------------------

    def take_snapshot(self, keep: int = 0) -> None:
        """Snapshot what is applied, and compact the log but for ``keep`` entries."""
        raft = self.live
        if self.applied <= self.snapshot.index or self.pending:
            return
        entry = self.store.get(self.applied)
        configuration = raft.log.configuration_at(self.applied)
        self.snapshot = Snapshot(self.applied, entry.term, entry.time, configuration, self.machine)
        raft.snapshot_taken(self.applied, entry.term, configuration)
        base = max(self.applied - keep, self.store.base)
        self.store.compact(base)
        self.disk.compact(base)
        raft.compacted(base + 1)

    def install(self, snapshot: Snapshot, sender: int, term: int, now: float) -> None:
        """Take a snapshot from a leader, if it is wanted."""
        raft = self.live
        if not raft.snapshot_offered(sender, term, snapshot.index, snapshot.term, now):
            return
        self.snapshot = snapshot
        self.machine, self.applied = snapshot.machine, snapshot.index
        raft.snapshot_installed(
            snapshot.index, snapshot.term, snapshot.time, snapshot.configuration, sender, now
        )

    def answer_fetches(self, now: float) -> None:
        """Read what the core asked for from the store."""
        fetches, self.fetches = self.fetches, []
        for peer, first, size in fetches:
            entries: list[Entry] | None = None
            if first > self.store.base:
                entries = []
                for index in range(first, self.store.last + 1):
                    entries.append(self.store.get(index))
                    size -= self.store.get(index).size
                    if size <= 0:
                        break
            self.live.fetched(peer, entries, now)
