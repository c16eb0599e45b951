"""Fastlog under power cuts and kills at every single change of a scripted run."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog
from finn.options import Durability
from finn.raft.entries import Entry
from finn.raft.ready import HardState
from finn.storage.disk import ImmediateDisk
from finn.storage.fastlog import FastLog
from finn.testing.contract import sample_entry
from finn.testing.faulty import FaultyFiles, PowerCut

SEGMENT = 1500


class Version:
    """The log after one change: what a reader would see."""

    def __init__(self, store: FastLog, entries: dict[int, Entry]) -> None:
        self.first = store.first_index
        self.last = store.last_index
        self.entries = {i: e for i, e in entries.items() if self.first <= i <= self.last}


class Script:
    """A random run over faulty files, which remembers what was promised before the cut."""

    def __init__(self, files: FaultyFiles, durability: Durability, seed: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.files = files
        self.store = FastLog(
            files, ImmediateDisk(), self.clock, "data", durability, SEGMENT, Random(seed)
        )
        self.entries: dict[int, Entry] = {}
        self.versions: list[Version] = []
        self.acknowledged = 0
        self.durable = (0, 0)  # number of the version, durable_index in it
        self.states = [HardState()]
        self.saved = 0
        self.term = 1

    def run(self, steps: int) -> None:
        """Run until the end or the cut."""
        try:
            self._fired(self.store.open())
            self._note()
            for _ in range(steps):
                try:
                    self._step()
                finally:
                    self._note()
                if not self.files.dead:
                    self.durable = (len(self.versions) - 1, self.store.durable_index)
            self._fired(self.store.close())
        except PowerCut:
            pass

    def _fired(self, deferred: Deferred[Any]) -> None:
        """Go on only if it was done."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        assert results, "an immediate disk leaves nothing pending"
        if results[0] is not None:
            raise PowerCut("not done")

    def _note(self) -> None:
        self.versions.append(Version(self.store, self.entries))

    def _step(self) -> None:
        store, random = self.store, self.random
        act = random.choice(
            ("append",) * 6 + ("sync",) * 3 + ("tick", "cut", "compact", "state", "reset", "shrink")
        )
        first, last = store.first_index, store.last_index
        if act == "append":
            size = random.choice((10, 60, 200, 900))
            new = [
                sample_entry(i, self.term, random.randbytes(size))
                for i in range(last + 1, last + 1 + random.randint(1, 4))
            ]
            self.entries.update((entry.index, entry) for entry in new)
            # A version that only a cut in the middle of the change can leave.
            self.versions.append(_appended(store, self.entries, new))
            store.append(new)
        elif act == "cut" and last >= first:
            self.term += 1
            store.truncate_suffix(random.randint(max(first, last - 6), last))
        elif act == "compact":
            store.compact(random.randint(first - 1, max(first - 1, last - 3)))
        elif act == "reset" and random.random() < 0.3:
            self.term += 1
            store.reset(last + random.randint(-2, 5) if last > 3 else last + 1, self.term)
        elif act == "shrink":
            self._fired(store.shrink())
        elif act == "tick":
            self.clock.advance(1)
        elif act == "state":
            self.states.append(HardState(len(self.states), random.randint(1, 9)))
            self._fired(store.save_state(self.states[-1]))
            self.saved = len(self.states) - 1
        elif act == "sync":
            self._fired(store.sync())
            self.acknowledged = len(self.versions) - 1


def _appended(store: FastLog, entries: dict[int, Entry], new: list[Entry]) -> Version:
    version = Version(store, entries)
    version.last = new[-1].index
    version.entries.update((entry.index, entry) for entry in new)
    return version


class PowerTests(SynchronousTestCase):
    """Every cut point, several outcomes of each."""

    def _reopen(self, files: FaultyFiles, durability: Durability) -> FastLog:
        store = FastLog(files, ImmediateDisk(), Clock(), "data", durability, SEGMENT, Random(3))
        self.assertIsNone(self.successResultOf(store.open()))
        return store

    def _content(self, store: FastLog) -> dict[int, Entry]:
        found: dict[int, Entry] = {}
        index = store.first_index
        while index <= store.last_index:
            for entry in self.successResultOf(store.read(index, 5000)):
                found[index] = entry
                index += 1
        return found

    def _check(self, script: Script, store: FastLog, since: int, floor: int, text: str) -> None:
        """The log is one that was on its way since a version, with all up to ``floor``."""
        content = self._content(store)
        lowest = floor
        for version in script.versions[since:]:
            lowest = min(lowest, version.last)
            if self._matches(version, store, content) and store.last_index >= lowest:
                break
        else:
            self.fail(f"{text}: {store.first_index}-{store.last_index} matches nothing")
        self.assertIn(store.state, script.states[script.saved :], text)
        # It works, and keeps working.
        store.append([sample_entry(store.last_index + 1, 1000)])
        self.successResultOf(store.close())

    def _matches(self, version: Version, store: FastLog, content: dict[int, Entry]) -> bool:
        if not version.first - 1 <= store.last_index <= version.last:
            return False
        return all(
            content.get(i) == version.entries[i] for i in range(version.first, store.last_index + 1)
        )

    def _sweep(self, durability: Durability, seed: int, steps: int, every: int) -> None:
        length = self._length(durability, seed, steps)
        for cut in range(1 + seed % every, length + 2, every):
            written = Random(cut).choice((0.0, 0.4, 1.0))
            files = FaultyFiles()
            files.cut_at(cut, written)
            script = Script(files, durability, seed)
            script.run(steps)
            text = f"{durability.name} seed {seed} cut {cut}"
            if script.versions:
                crashed = files.crash()
                store = self._reopen(crashed, durability)
                self._lasts(crashed, store, durability, text)
                version = script.versions[script.acknowledged]
                self._check(script, store, script.acknowledged, version.last, f"{text} kill")
            for outcome in range(3):
                store = self._reopen(files.power_cut(Random(outcome)), durability)
                if not script.versions:
                    self.assertEqual((store.first_index, store.last_index), (1, 0))
                    continue
                since, floor = script.durable
                if durability is Durability.HIGH:
                    since = script.acknowledged
                    floor = script.versions[since].last
                self._check(script, store, 0 if floor == 0 else since, floor, f"{text} {outcome}")

    def _lasts(self, files: FaultyFiles, store: FastLog, durability: Durability, text: str) -> None:
        """What open found behind a kill survives a power loss from then on."""
        for outcome in range(2):
            found = self._reopen(files.power_cut(Random(outcome)), durability)
            self.assertEqual(
                (found.last_index, found.state, found.terms),
                (store.last_index, store.state, store.terms),
                f"{text} kill, then power {outcome}",
            )
        files.dead = False

    def _length(self, durability: Durability, seed: int, steps: int) -> int:
        files = FaultyFiles()
        Script(files, durability, seed).run(steps)
        return files.operations

    def test_high(self) -> None:
        """At high what was synced is there after a power cut at any change."""
        for seed in range(4):
            self._sweep(Durability.HIGH, seed, 60, 2)

    def test_medium(self) -> None:
        """At medium what counts as durable is there, and after a kill all that was synced."""
        for seed in range(4):
            self._sweep(Durability.MEDIUM, seed, 60, 2)

    def test_low(self) -> None:
        """At low all that was acknowledged is there after a kill."""
        for seed in range(4):
            self._sweep(Durability.LOW, seed, 60, 2)

    def test_kill_then_power_cut(self) -> None:
        """What a killed process had written counts as durable only because open syncs it."""
        files = FaultyFiles()
        script = Script(files, Durability.LOW, 1)
        self.successResultOf(script.store.open())
        script.store.append([sample_entry(1), sample_entry(2)])
        self.successResultOf(script.store.save_state(HardState(1, 1)))
        for durability in Durability:
            killed = files.crash()
            store = self._reopen(killed, durability)
            self.assertEqual((store.durable_index, store.state), (2, HardState(1, 1)))
            for outcome in range(10):
                found = self._reopen(killed.power_cut(Random(outcome)), durability)
                self.assertEqual((found.last_index, found.dropped_tail), (2, False))

    def test_power_cuts_after_void_segments_were_removed(self) -> None:
        """A start that ends an interrupted compaction leaves no gap between the numbers."""
        for cut in range(1, 25):
            files = FaultyFiles()
            store = self._reopen(files, Durability.HIGH)
            for index in range(1, 13):
                store.append([sample_entry(index, 1, bytes(SEGMENT))])
            store.truncate_suffix(6)
            store.append([sample_entry(index, 2) for index in range(6, 9)])
            files.cut_at(files.operations + cut)
            store.compact(6)
            self.assertTrue(files.dead)
            found = files.crash()
            left = self._reopen(found, Durability.HIGH)
            for seed in range(10):
                store = self._reopen(found.power_cut(Random(seed)), Durability.HIGH)
                self.assertEqual(
                    (store.first_index, store.last_index, store.terms),
                    (left.first_index, left.last_index, left.terms),
                    f"cut {cut} seed {seed}",
                )

    def test_a_segment_that_goes_after_a_cut_is_missed(self) -> None:
        """Whatever the cut: the one before knows of it before there is an entry in it."""
        missed = 0
        for cut in range(1, self._length(Durability.HIGH, 2, 60) + 1):
            files = FaultyFiles()
            files.cut_at(cut, 0.4)
            Script(files, Durability.HIGH, 2).run(60)
            for after in (files.crash(), files.power_cut(Random(cut))):
                opened = after.crash()
                store = self._reopen(opened, Durability.HIGH)
                last = store._segments[-1]
                if len(store._segments) == 1:
                    continue
                if last.last_index > last.base_index:
                    # Even if it goes before the next start.
                    after.dead = False
                    self._missed(after, last.path, f"cut {cut}")
                    missed += 1
                store.append([sample_entry(store.last_index + 1)])
                self.assertIsNone(self.successResultOf(store.sync()))
                for seed in range(3):
                    again = opened.power_cut(Random(seed))
                    self._missed(again, store._segments[-1].path, f"cut {cut}, then {seed}")
        self.assertGreater(missed, 50)

    def _missed(self, files: FaultyFiles, path: str, text: str) -> None:
        files.unlink(path)
        store = FastLog(files, ImmediateDisk(), Clock(), "data", random=Random(3))
        error = self.failureResultOf(store.open(), CorruptLog).value
        self.assertEqual(error.path, path, text)
