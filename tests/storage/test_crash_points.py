"""A whole data directory under power cuts and kills at every change of a scripted run.

A small node opens identity, log, term and vote, and snapshots in the order of the real one, and
works for a while. Whatever the moment at which it dies, it starts again, has what its level of
durability promised, and knows when it may have forgotten something.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DiskFailed
from finn.interfaces import SnapshotMeta
from finn.options import Durability
from finn.raft.configuration import Configuration, Member
from finn.raft.entries import Entry
from finn.raft.ready import HardState
from finn.storage.disk import ImmediateDisk
from finn.storage.fastlog import FastLog
from finn.storage.identity import Identity
from finn.storage.snapshots import SnapshotStore
from finn.testing.contract import sample_entry
from finn.testing.faulty import FaultyFiles, PowerCut

DIRECTORY = "data"
SEGMENT = 1500
CONFIGURATION = Configuration((Member(7, ":7"),), 1)


class Promises:
    """What the node was told is done, and so must find again."""

    def __init__(self) -> None:
        self.node_id = 0
        self.acknowledged = 0  # last entry that was synced as the level says
        self.durable = 0  # last that the store called durable
        self.snapshot = 0  # last entry of the newest finished snapshot
        self.states = [HardState()]  # the last is saved or was being saved
        self.saved = 0  # number of the last that is saved for certain
        self.entries: dict[int, Entry] = {}  # the log as it should be
        self.versions: dict[int, list[Entry]] = defaultdict(list)  # all that was ever written

    def cut(self, last: int) -> None:
        """Entries above ``last`` may go from now on."""
        self.acknowledged = min(self.acknowledged, last)
        self.durable = min(self.durable, last)


class Node:
    """One process: opened as ``finn.node.opening`` does, then driven by a random script."""

    def __init__(
        self, files: FaultyFiles, durability: Durability, boot: str, promises: Promises, seed: int
    ) -> None:
        self.files = files
        self.durability = durability
        self.boot = boot
        self.promises = promises
        self.random = Random(seed)
        self.clock = Clock()
        self.amnesic = False
        self.term = 1
        self.open_stores()

    def open_stores(self) -> None:
        disk = ImmediateDisk()
        self.store = FastLog(
            self.files, disk, self.clock, DIRECTORY, self.durability, SEGMENT, Random(5)
        )
        self.snapshots = SnapshotStore(self.files, disk, DIRECTORY, lambda: 1000)

    def fired(self, deferred: Deferred[Any]) -> Any:
        """Return the result of a call; when the power is gone, whatever came of it, give up."""
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        if self.files.dead:
            raise PowerCut("dead")
        assert outcome, "an immediate disk leaves nothing pending"
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    def start(self) -> None:
        """Open everything, in the order of the real node."""
        self.files.makedirs(DIRECTORY)
        release = self.files.lock(f"{DIRECTORY}/lock")
        assert release is not None
        self.release = release
        identity = Identity.load(self.files, DIRECTORY)
        if identity is None:
            identity = Identity(self.files, DIRECTORY, 4711 + self.files.operations, "fastlog")
        self.identity = identity
        self.fired(self.store.open())
        terms = self.store.terms
        lost = identity.lost_since(self.store.last_index, terms[-1][1] if terms else 0)
        assert not lost, lost
        weak = self.durability is not Durability.HIGH
        self.amnesic = identity.began(self.boot, weak, self.store.dropped_tail)
        identity.save()
        self.promises.node_id = self.promises.node_id or identity.node_id
        self.fired(self.snapshots.open())
        index, term = self.newest()
        assert self.store.first_index <= index + 1, "there is a gap between snapshot and log"
        if self.store.last_index < index:
            self.store.reset(index, term)
            self.fired(self.store.sync())

    def newest(self) -> tuple[int, int]:
        """Index and term of the newest snapshot."""
        metas = self.snapshots.snapshots
        return (metas[-1].index, metas[-1].term) if metas else (0, 0)

    def stop(self) -> None:
        """Stop in order."""
        last = self.store.last_index
        held = last >= self.store.first_index
        term = self.fired(self.store.read(last, 1))[0].term if held else 0
        self.fired(self.store.close())
        self.promises.acknowledged = self.promises.durable = last
        self.identity.stopped_cleanly(last, term)
        self.identity.save()
        self.release()

    def run(self, steps: int) -> None:
        """Start, work and stop, or die on the way."""
        try:
            self.start()
            for _ in range(steps):
                self.step()
            self.stop()
        except PowerCut:
            pass
        except DiskFailed:
            if not self.files.dead:
                raise

    def step(self) -> None:
        acts: list[Callable[[], None]] = [self.append] * 6 + [self.sync] * 3
        acts += [self.tick, self.save_state, self.save_state, self.truncate, self.shrink]
        acts += [self.take_snapshot, self.take_snapshot, self.install_snapshot, self.restart]
        self.random.choice(acts)()
        self.promises.durable = max(self.promises.durable, self.store.durable_index)

    def append(self) -> None:
        first = self.store.last_index + 1
        size = self.random.choice((10, 60, 300, 900))
        new = [
            sample_entry(index, self.term, self.random.randbytes(size))
            for index in range(first, first + self.random.randint(1, 4))
        ]
        for entry in new:
            self.promises.entries[entry.index] = entry
            self.promises.versions[entry.index].append(entry)
        self.store.append(new)

    def sync(self) -> None:
        last = self.store.last_index
        self.fired(self.store.sync())
        self.promises.acknowledged = last

    def tick(self) -> None:
        self.clock.advance(1)

    def save_state(self) -> None:
        self.term += self.random.randint(0, 1)
        self.promises.states.append(HardState(self.term, self.random.randint(0, 5)))
        self.fired(self.store.save_state(self.promises.states[-1]))
        self.promises.saved = len(self.promises.states) - 1

    def truncate(self) -> None:
        lowest = max(self.store.first_index, self.newest()[0] + 1, self.store.last_index - 4)
        if lowest <= self.store.last_index:
            self.term += 1
            index = self.random.randint(lowest, self.store.last_index)
            self.promises.cut(index - 1)
            self.store.truncate_suffix(index)

    def shrink(self) -> None:
        self.fired(self.store.shrink())

    def take_snapshot(self) -> None:
        index = self.promises.acknowledged
        if index > self.newest()[0]:
            self.write_snapshot(index, self.promises.entries[index].term)
            # Compaction stops at the older of the two that are kept.
            self.store.compact(self.snapshots.snapshots[0].index)

    def install_snapshot(self) -> None:
        """A snapshot comes from a leader that is far ahead."""
        if self.random.random() < 0.4:
            index = self.store.last_index + self.random.randint(1, 9)
            self.write_snapshot(index, self.term)
            self.store.reset(index, self.term)

    def write_snapshot(self, index: int, term: int) -> None:
        sink = self.snapshots.create(SnapshotMeta(index, term, 0, CONFIGURATION))
        content = state_at(index)
        for place in range(0, len(content), 2000):
            sink.write(content[place : place + 2000])
        self.fired(sink.finish())
        self.promises.snapshot = index

    def restart(self) -> None:
        self.stop()
        self.open_stores()
        self.start()


def state_at(index: int) -> bytes:
    """The content of a snapshot."""
    return b"%09d" % index * 700


class CrashPointTests(SynchronousTestCase):
    """Every cut point: a kill there, and power cuts with several outcomes."""

    def survivor(self, dead: Node, files: FaultyFiles, boot: str) -> Node:
        """Start the next process; with new promises, as what it finds counts from now on."""
        return Node(files, dead.durability, boot, Promises(), 1)

    def check(self, dead: Node, alive: Node, power: bool, text: str) -> None:
        """The node has what was promised, or knows that it may not."""
        promises, store = dead.promises, alive.store
        weak = power and dead.durability is not Durability.HIGH
        snapshot, _ = alive.newest()
        last = max(store.last_index, snapshot)
        floor = promises.durable if weak else max(promises.acknowledged, promises.durable)
        self.assertGreaterEqual(last, floor, text)
        if last < promises.acknowledged:
            self.assertTrue(alive.amnesic, f"{text}: it does not know what it forgot")
        if not (weak or store.dropped_tail):
            self.assertFalse(alive.amnesic, f"{text}: amnesic without a reason")
        if promises.node_id:
            self.assertEqual(alive.identity.node_id, promises.node_id, text)
        self.assertIn(store.state, promises.states[promises.saved :], text)
        self.assertGreaterEqual(snapshot, promises.snapshot, text)
        self.check_entries(promises, alive, floor, text)
        self.check_snapshot(alive, text)

    def check_entries(self, promises: Promises, alive: Node, floor: int, text: str) -> None:
        store = alive.store
        index = store.first_index
        while index <= store.last_index:
            for entry in alive.fired(store.read(index, 5000)):
                if index <= floor:
                    self.assertEqual(entry, promises.entries[index], text)
                self.assertIn(entry, promises.versions[index], text)
                index += 1

    def check_snapshot(self, alive: Node, text: str) -> None:
        index, _ = alive.newest()
        if index:
            source = alive.fired(alive.snapshots.source(alive.snapshots.snapshots[-1]))
            content = alive.fired(source.read(0, 1 << 20))
            self.assertEqual(content, state_at(index), text)
            alive.fired(source.close())

    def outcomes(self, files: FaultyFiles, seeds: int) -> list[tuple[str, bool, FaultyFiles]]:
        """What the next process may find."""
        found = [("kill", False, files.crash())]
        for seed in range(seeds):
            found.append((f"power {seed}", True, files.power_cut(Random(seed))))
        return found

    def boot(self, power: bool) -> str:
        return "second" if power else "first"

    def script(self, files: FaultyFiles, durability: Durability, seed: int, steps: int) -> Node:
        node = Node(files, durability, "first", Promises(), seed)
        node.run(steps)
        return node

    def sweep(self, durability: Durability, seed: int, steps: int, every: int) -> None:
        """Cut a run at many points; each outcome is checked, and checked again after it."""
        whole = FaultyFiles()
        self.script(whole, durability, seed, steps)
        for cut in range(1 + seed % every, whole.operations + 1, every):
            files = FaultyFiles()
            files.cut_at(cut, Random(cut).choice((0.0, 0.3, 1.0)))
            dead = self.script(files, durability, seed, steps)
            self.assertTrue(files.dead)
            for name, power, after in self.outcomes(files, 2):
                text = f"{durability.name} seed {seed} cut {cut} {name}"
                alive = self.survivor(dead, after, self.boot(power))
                alive.start()
                self.check(dead, alive, power, text)
                self.go_on(alive, text)

    def go_on(self, alive: Node, text: str) -> None:
        """What a process found counts: it is there after a power cut, too, and it can work."""
        alive.sync()
        last, state = alive.store.last_index, alive.store.state
        again = self.survivor(alive, alive.files.power_cut(Random(9)), "third")
        again.start()
        self.assertEqual((again.store.last_index, again.store.state), (last, state), text)
        self.assertGreaterEqual(again.amnesic, alive.amnesic, f"{text}: forgot that it forgot")
        for act in (again.append, again.sync, again.take_snapshot, again.save_state, again.stop):
            act()

    def test_high(self) -> None:
        """At high all that was acknowledged survives any cut."""
        for seed in range(6):
            self.sweep(Durability.HIGH, seed, 45, 3)

    def test_medium(self) -> None:
        """At medium a kill costs nothing, and a power cut what was not synced yet."""
        for seed in range(6):
            self.sweep(Durability.MEDIUM, seed, 45, 3)

    def test_low(self) -> None:
        """At low a kill costs nothing, and whoever lost power knows it."""
        for seed in range(6):
            self.sweep(Durability.LOW, seed, 45, 3)

    def test_cut_again_while_starting(self) -> None:
        """A start that is cut, too, forgets neither data nor that it forgot."""
        for durability in Durability:
            for seed in range(3):
                self.cut_twice(durability, seed)

    def cut_twice(self, durability: Durability, seed: int) -> None:
        whole = FaultyFiles()
        self.script(whole, durability, seed, 30)
        for cut in range(1 + seed, whole.operations + 1, 9):
            second = 0
            while True:
                second += 1
                files = FaultyFiles()
                files.cut_at(cut, 0.5)
                dead = self.script(files, durability, seed, 30)
                after = files.power_cut(Random(cut))
                after.cut_at(second, 0.5)
                starting = self.survivor(dead, after, "second")
                try:
                    starting.start()
                except (PowerCut, DiskFailed):
                    self.assertTrue(after.dead)
                if not after.dead:
                    break
                alive = self.survivor(dead, after.power_cut(Random(second)), "third")
                alive.start()
                text = f"{durability.name} seed {seed} cut {cut}, then {second}"
                self.check(dead, alive, True, text)
