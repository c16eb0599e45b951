"""Fastlog: group commit, durability levels, errors."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DataDirectoryError, DiskFailed, LogError
from finn.interfaces import IDisk
from finn.options import Durability
from finn.raft.ready import HardState
from finn.storage.commit import INLINE_BYTES
from finn.storage.disk import ImmediateDisk
from finn.storage.fastlog import FastLog
from finn.testing.contract import sample_entries, sample_entry
from finn.testing.disks import ManualDisk, SimulatedDisk
from finn.testing.faulty import FaultyFile, FaultyFiles

FIRST = "data/log/00000001.log"


class CountingFiles(FaultyFiles):
    """Counts operations by kind and path."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def _begin(self, kind: str, path: str, change: bool = True) -> None:
        if change and ".log" in path:
            self.done.append(kind)
        super()._begin(kind, path, change)

    def take(self) -> list[str]:
        """Return what was done to segments since the last call."""
        done, self.done = self.done, []
        return done


class FastLogTestCase(SynchronousTestCase):
    """With a disk that is worked by hand."""

    durability = Durability.HIGH

    def setUp(self) -> None:
        self.files = CountingFiles()
        self.disk = ManualDisk()
        self.clock = Clock()
        self.store = self.make(self.disk)
        opened = self.store.open()
        self.disk.step_all()
        self.assertIsNone(self.successResultOf(opened))
        self.files.take()

    def make(self, disk: IDisk, files: FaultyFiles | None = None, **more: Any) -> FastLog:
        """Make a store over the same directory."""
        return FastLog(
            files or self.files, disk, self.clock, "data", self.durability, random=Random(1), **more
        )

    def reopen(self, files: FaultyFiles) -> FastLog:
        """Open what a process left behind."""
        store = self.make(ImmediateDisk(), files)
        self.assertIsNone(self.successResultOf(store.open()))
        return store

    def sync(self) -> list[int]:
        """Sync; return a list that gets a number when it fires."""
        fired: list[int] = []
        self.store.sync().addCallback(lambda _: fired.append(1))
        return fired


class HighTests(FastLogTestCase):
    """Durability high: one write and one sync for all that came together."""

    def test_group_commit(self) -> None:
        """Appends made while a sync runs share the next write and the next sync."""
        fired: list[int] = []
        for index in range(1, 8):
            self.store.append([sample_entry(index)])
            self.store.sync().addCallback(lambda _, index=index: fired.append(index))
        self.assertEqual((fired, self.files.take()), ([], []))
        self.disk.step()
        self.assertEqual((fired, self.files.take()), ([1], ["write", "datasync"]))
        self.assertEqual(self.store.durable_index, 1)
        self.disk.step()
        self.assertEqual(fired, list(range(1, 8)))
        self.assertEqual(self.files.take(), ["write", "datasync"])
        self.assertEqual(self.disk.pending, 0)

    def test_nothing_fires_before_the_sync_is_delivered(self) -> None:
        """What the thread has done counts when the reactor knows of it."""
        self.store.append([sample_entry(1)])
        fired = self.sync()
        self.disk.execute()
        self.assertEqual((fired, self.store.durable_index), ([], 0))
        self.disk.deliver()
        self.assertEqual((fired, self.store.durable_index), ([1], 1))

    def test_sync_of_what_is_durable_is_done_at_once(self) -> None:
        """Nobody waits for the disk without need."""
        self.store.append([sample_entry(1)])
        self.disk.step_all()
        self.assertTrue(self.store.sync().called)
        self.assertEqual(self.disk.pending, 0)

    def test_a_slow_disk_does_not_block(self) -> None:
        """With a disk that hangs, append and sync return, and busy_since tells since when."""
        self.clock.advance(100)
        self.assertIsNone(self.store.busy_since)
        self.store.append([sample_entry(1)])
        self.clock.advance(0.25)
        self.store.append([sample_entry(2)])
        fired = self.sync()
        self.clock.advance(0.25)
        self.assertEqual((self.store.busy_since, fired), (100, []))
        self.disk.step()
        self.assertEqual(self.store.busy_since, 100.5)
        self.disk.step()
        self.assertEqual((self.store.busy_since, fired), (None, [1]))

    def test_truncation_lowers_what_a_running_sync_covers(self) -> None:
        """An overwritten entry does not count as durable when the older sync ends."""
        self.store.append(sample_entries(1, 5))
        self.disk.execute()
        self.store.truncate_suffix(3)
        self.store.append(sample_entries(3, 4, term=2))
        self.disk.deliver()
        self.assertEqual((self.store.durable_index, self.store.last_index), (2, 4))
        self.disk.step_all()
        self.assertEqual(self.store.durable_index, 4)
        self.assertEqual(self.reopen(self.files.crash()).terms, [(1, 1), (3, 2)])

    def test_every_write_carries_the_mark_of_the_sync_before(self) -> None:
        """A mark stands in front of the next write, and a last one at the end."""
        sizes = []
        for index in (1, 2):
            self.store.append([sample_entry(index)])
            self.disk.step_all()
            sizes.append(self.store.log_bytes)
        entry = sample_entry(1).size
        self.assertEqual(sizes, [48 + entry, 48 + entry + 40 + entry])
        self.store.close()
        self.disk.step_all()
        self.assertEqual(len(self.files.read(FIRST)), sizes[1] + 40)
        # A stop and a start with nothing between add nothing.
        store = self.reopen(self.files)
        self.successResultOf(store.close())
        self.assertEqual(len(self.files.read(FIRST)), sizes[1] + 40)

    def test_read_waits_for_what_is_not_written(self) -> None:
        """A read behind queued changes sees them, one of older entries does not wait."""
        self.store.append([sample_entry(1)])
        self.disk.step_all()
        self.store.append([sample_entry(2)])
        self.store.append([sample_entry(3)])
        new = self.store.read(3, 1000)
        old = self.store.read(1, 1000)
        self.disk.step()
        self.disk.step()
        self.assertEqual(self.successResultOf(old), [sample_entry(1)])
        self.assertNoResult(new)
        self.disk.step_all()
        self.assertEqual(self.successResultOf(new), [sample_entry(3)])

    def test_read_beyond_the_end(self) -> None:
        """That is an error of its own."""
        self.failureResultOf(self.store.read(1, 1000), LogError)

    def test_shrink_first_after_an_open(self) -> None:
        """No segment is begun for it, nothing was written yet: it is done nevertheless."""
        self.store.append(sample_entries(1, 6))
        self.store.truncate_suffix(6)
        self.disk.step_all()
        self.store = self.make(self.disk, self.files.crash())
        self.store.open()
        self.disk.step_all()
        self.store.compact(3)
        shrunk = self.store.shrink()
        self.disk.step_all()
        self.assertIsNone(self.successResultOf(shrunk))
        self.store.append([sample_entry(6)])
        fired = self.sync()
        self.disk.step_all()
        self.assertEqual((self.store.first_index, self.store.last_index, fired), (4, 6, [1]))

    def test_state_is_saved_on_the_disk_thread(self) -> None:
        """Term and vote fire when they are synced."""
        saved = self.store.save_state(HardState(3, 4))
        self.assertNoResult(saved)
        self.disk.step()
        self.assertIsNone(self.successResultOf(saved))
        self.assertEqual(self.reopen(self.files.power_cut(Random(1))).state, HardState(3, 4))


class MediumTests(FastLogTestCase):
    """Durability medium: written at once, synced once a second."""

    durability = Durability.MEDIUM

    def test_written_at_once(self) -> None:
        """Small writes do not wait for the disk thread."""
        self.store.append([sample_entry(1)])
        self.assertTrue(self.store.sync().called)
        self.assertEqual((self.files.take(), self.disk.pending), (["write"], 0))

    def test_synced_once_a_second_when_dirty(self) -> None:
        """One sync a second while there are writes, none without, and no call is left behind."""
        for index in range(1, 11):
            self.store.append([sample_entry(index)])
            self.clock.advance(0.25)
            self.disk.step_all()
        self.assertEqual(self.files.take().count("datasync"), 2)
        self.assertEqual(self.store.durable_index, 8)
        self.clock.pump([1.0] * 5)
        self.disk.step_all()
        self.assertEqual(self.files.take(), ["datasync"])
        self.assertEqual(self.store.durable_index, 10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_durable_at_once_when_asked(self) -> None:
        """What has to survive a power loss need not wait for the level's second."""
        self.store.append([sample_entry(1)])
        durable = self.store.sync(durable=True)
        self.assertNoResult(durable)
        self.disk.step_all()
        self.successResultOf(durable)
        self.assertEqual(self.store.durable_index, 1)
        self.assertTrue(self.store.sync(durable=True).called)
        lost = self.reopen(self.files.power_cut(Random(0)))
        self.assertEqual(lost.last_index, 1)

    def test_no_write_while_a_sync_runs(self) -> None:
        """What is appended meanwhile follows on the disk thread, in order."""
        self.store.append([sample_entry(1)])
        self.clock.advance(1)
        self.assertEqual(self.disk.pending, 1)
        self.files.take()
        self.store.append([sample_entry(2)])
        self.store.append([sample_entry(3)])
        fired = self.sync()
        self.assertEqual((fired, self.files.take()), ([], []))
        self.disk.step()
        self.assertEqual((fired, self.files.take()), ([], ["datasync"]))
        self.disk.step()
        self.assertEqual((fired, self.files.take()), ([1], ["write"]))
        self.store.append([sample_entry(4)])
        self.assertEqual(self.files.take(), ["write"])
        self.assertEqual(self.reopen(self.files.crash()).last_index, 4)

    def test_large_writes_belong_to_the_disk_thread(self) -> None:
        """A write beyond the bound is not made inline."""
        self.store.append([sample_entry(1, 1, bytes(INLINE_BYTES))])
        fired = self.sync()
        self.assertEqual((fired, self.disk.pending), ([], 1))
        self.disk.step()
        self.assertEqual(fired, [1])

    def test_close_syncs_what_is_queued(self) -> None:
        """All that was appended is durable when close fires, and no timer is left."""
        self.store.append([sample_entry(1)])
        self.clock.advance(1)
        self.store.append([sample_entry(2)])
        closed = self.store.close()
        self.assertNoResult(closed)
        self.disk.step_all()
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for seed in range(5):
            store = self.reopen(self.files.power_cut(Random(seed)))
            self.assertEqual((store.last_index, store.dropped_tail), (2, False))

    def test_compaction_does_not_hold_up_writes(self) -> None:
        """Segments are removed on the disk thread while writes go on inline."""
        store = self.make(ImmediateDisk(), FaultyFiles(), segment_bytes=300)
        self.successResultOf(store.open())
        for index in range(1, 30):
            store.append([sample_entry(index)])
        manual = ManualDisk()
        store._commit._disk = manual
        store.compact(20)
        self.assertEqual(manual.pending, 1)
        store.append([sample_entry(30)])
        self.assertTrue(store.sync().called)


class SlowSyncTests(SynchronousTestCase):
    """Each fdatasync takes 500 ms."""

    def run_second(self, durability: Durability) -> tuple[list[float], float]:
        """Append every 10 ms for three seconds.

        Returns:
            How long each sync took, and the longest time the disk was seen busy.
        """
        clock = Clock()
        files = FaultyFiles()
        disk = SimulatedDisk(clock, Random(1), lambda random: 0.0001)
        store = FastLog(files, disk, clock, "data", durability, random=Random(1))
        opened = store.open()
        clock.pump([0.001] * 20)
        self.successResultOf(opened)
        files.on_slow = disk.delay
        files.slow("datasync", 0.5)
        took: list[float] = []
        busy = 0.0

        def done(_: None, began: float) -> None:
            took.append(clock.seconds() - began)

        for index in range(1, 301):
            store.append([sample_entry(index)])
            store.sync().addCallback(done, clock.seconds())
            for _ in range(10):
                clock.advance(0.001)
                if store.busy_since is not None:
                    busy = max(busy, clock.seconds() - store.busy_since)
        while store.busy_since is not None:
            clock.advance(0.01)
        self.assertEqual(len(took), 300)
        return took, busy

    def test_high(self) -> None:
        """Each append waits for two syncs at most: all that gathers during one share the next."""
        took, busy = self.run_second(Durability.HIGH)
        self.assertLess(max(took), 1.05)
        self.assertTrue(0.5 <= busy < 0.52, busy)

    def test_medium(self) -> None:
        """Only appends made while the sync of the second runs wait, and for its rest."""
        took, busy = self.run_second(Durability.MEDIUM)
        self.assertLess(max(took), 0.52)
        self.assertLess(sum(1 for seconds in took if seconds), 160)
        self.assertTrue(0.5 <= busy < 0.52, busy)


class LowTests(FastLogTestCase):
    """Durability low: the system decides when to sync."""

    durability = Durability.LOW

    def test_no_sync_until_close(self) -> None:
        """Only close syncs, and the end of a segment."""
        for index in range(1, 5):
            self.store.append([sample_entry(index)])
            self.clock.advance(10)
        self.assertEqual((self.files.take(), self.disk.pending), (["write"] * 4, 0))
        closed = self.store.close()
        self.disk.step_all()
        self.assertIsNone(self.successResultOf(closed))
        self.assertIn("datasync", self.files.take())

    def test_a_segment_is_synced_before_its_successor_exists(self) -> None:
        """Damage before the last segment can then never be a power cut's."""
        store = self.make(ImmediateDisk(), segment_bytes=300)
        self.files.rmtree("data")
        self.successResultOf(store.open())
        for index in range(1, 20):
            store.append([sample_entry(index)])
        for seed in range(20):
            found = self.reopen(self.files.power_cut(Random(seed)))
            self.assertGreaterEqual(found.last_index, store._segments[-1].base_index)


class ErrorTests(FastLogTestCase):
    """The first error of the disk is the last."""

    durability = Durability.MEDIUM

    def failing(self, deferred: Deferred[Any], text: str) -> None:
        """Check that it failed with this line."""
        self.assertEqual(str(self.failureResultOf(deferred, DiskFailed).value), text)

    def test_full_disk(self) -> None:
        """One clear line for all who wait and all who come; nothing is tried again."""
        text = f"cannot write {FIRST}: No space left on device"
        self.store.append([sample_entry(1)])
        self.files.capacity = self.files.used + 20
        self.store.append([sample_entry(2)])
        self.failing(self.store.sync(), text)
        self.files.capacity = None
        self.files.take()
        self.store.append([sample_entry(3)])
        self.clock.advance(5)
        self.failing(self.store.sync(), text)
        self.failing(self.store.save_state(HardState(1, 1)), text)
        self.failing(self.store.read(1, 100), text)
        self.failing(self.store.shrink(), text)
        closed = self.store.close()
        self.disk.step_all()
        self.failing(closed, text)
        self.assertEqual((self.files.take(), self.clock.getDelayedCalls()), ([], []))

    def test_full_disk_leaves_no_torn_record(self) -> None:
        """With space back the node starts, without a doubt about its tail."""
        self.store.append([sample_entry(1)])
        self.files.capacity = self.files.used + 20
        self.store.append([sample_entry(2)])
        self.failureResultOf(self.store.sync(), DiskFailed)
        self.files.capacity = None
        store = self.reopen(self.files.crash())
        self.assertEqual((store.last_index, store.dropped_tail), (1, False))
        store.append([sample_entry(2)])
        self.assertTrue(store.sync().called)

    def test_what_a_failed_sync_left_is_written_anew(self) -> None:
        """The next process would take it for durable after a sync that has nothing to do."""
        for index in (1, 2):
            self.store.append([sample_entry(index)])
            if index == 2:  # with the mark that names the first
                self.files.fail("datasync", error=errno.EIO)
            self.clock.advance(1)
            self.disk.step_all()
        files = self.files.crash()
        store = self.reopen(files)
        self.assertEqual((store.last_index, store.durable_index), (2, 2))
        for seed in range(10):
            self.assertEqual(self.reopen(files.power_cut(Random(seed))).last_index, 2)

    def test_a_vote_that_a_failed_sync_left_is_written_anew(self) -> None:
        """It is given again without a save to whoever asks once more."""
        self.files.fail("datasync", error=errno.EIO, path="state")
        self.store.save_state(HardState(2, 5)).addErrback(lambda _: None)
        self.disk.step_all()
        files = self.files.crash()
        self.assertEqual(self.reopen(files).state, HardState(2, 5))
        for seed in range(10):
            store = self.reopen(files.power_cut(Random(seed)))
            self.assertEqual((store.state, store.notice), (HardState(2, 5), ""))

    def test_failing_sync(self) -> None:
        """A sync that fails is never repeated, and fails what queued up behind it."""
        self.store.append([sample_entry(1)])
        self.files.fail("datasync", error=errno.EIO)
        self.clock.advance(1)
        self.store.append([sample_entry(2)])
        waiting = self.store.sync()
        self.disk.step()
        text = f"cannot sync {FIRST}: Input/output error"
        self.failing(waiting, text)
        self.files.take()
        self.failing(self.store.sync(), text)
        self.store.close().addErrback(lambda _: None)
        self.disk.step_all()
        self.assertEqual(self.files.take(), [])

    def test_an_open_that_fails_leaves_no_file_open(self) -> None:
        """Whatever failed: a service that tries again would run out of descriptors."""
        store = self.make(ImmediateDisk(), segment_bytes=300)
        self.successResultOf(store.open())
        for index in range(1, 20):
            store.append([sample_entry(index)])
        left = self.files.crash()
        failures = 0
        for kind in ("rewrite", "datasync", "write", "create", "rename", "sync_directory"):
            for at in range(1, 4):
                files = left.crash()
                opened = self.watched(files)
                files.fail(kind, at)
                result = self.make(ImmediateDisk(), files, segment_bytes=300).open()
                result.addErrback(lambda failure: failure.type)
                if self.successResultOf(result) is not None:
                    failures += 1
                    self.assertEqual([file for file in opened if file._open], [], (kind, at))
        self.assertGreater(failures, 5)

    def watched(self, files: FaultyFiles) -> list[FaultyFile]:
        """Return a list of all files that are opened from now on."""
        opened: list[FaultyFile] = []

        def watch(real: Callable[[str], FaultyFile], path: str) -> FaultyFile:
            opened.append(real(path))
            return opened[-1]

        for name in ("create", "open", "open_readonly"):
            self.patch(files, name, partial(watch, getattr(files, name)))
        return opened

    def test_a_failed_store_removes_nothing(self) -> None:
        """Segments stay where they are for whoever looks into it."""
        files = CountingFiles()
        store = self.make(ImmediateDisk(), files, segment_bytes=300)
        self.successResultOf(store.open())
        for index in range(1, 20):
            store.append([sample_entry(index)])
        files.fail("write", error=errno.EIO)
        store.append([sample_entry(20)])
        files.take()
        store.compact(15)
        store.truncate_suffix(18)
        store.reset(30, 2)
        self.assertEqual(files.take(), [])
        self.failureResultOf(store.sync(), DiskFailed)

    def test_nothing_is_removed_once_a_segment_cannot_be_begun(self) -> None:
        """The segment that was to replace them is not there: they are all of the log."""
        store = self.make(self.disk, segment_bytes=100)
        store.open()
        self.disk.step_all()
        for index in range(1, 4):
            store.append([sample_entry(index)])
            self.disk.step_all()
        names = self.files.listdir("data/log")
        self.files.fail("create", error=errno.ENOSPC)
        store.append([sample_entry(4)])
        store.compact(3)
        self.disk.step_all()
        self.failing(store.sync(), "cannot create data/log/00000004.log: No space left on device")
        self.assertEqual(self.files.listdir("data/log"), names)
        self.assertEqual(self.reopen(self.files.crash()).last_index, 3)

    def test_failing_save_of_the_state(self) -> None:
        """It fails the log too: the node has to stop."""
        self.files.fail("write", error=errno.EIO, path="state")
        saved = self.store.save_state(HardState(1, 1))
        self.disk.step_all()
        self.failing(saved, "cannot save term and vote in data/log/state: Input/output error")
        self.failureResultOf(self.store.sync(), DiskFailed)

    def test_failing_read(self) -> None:
        """A read that fails says so; the bytes written are not in doubt."""
        self.store.append([sample_entry(1)])
        self.files.fail("pread", error=errno.EIO)
        reading = self.store.read(1, 100)
        self.disk.step_all()
        self.failing(reading, f"cannot read {FIRST}: Input/output error")

    def test_every_kind_of_error_at_every_change(self) -> None:
        """What was acknowledged before a disk failed is there when it works again."""
        for durability in Durability:
            self.durability = durability
            for kind in (errno.ENOSPC, errno.EIO):
                number = 0
                while self._fails_at(number := number + 1, kind):
                    pass
                self.assertGreater(number, 15)

    def _fails_at(self, number: int, kind: int) -> bool:
        files = FaultyFiles()
        store = self.make(ImmediateDisk(), files, segment_bytes=400)
        self.successResultOf(store.open())
        files.fail("any", at=number, error=kind, times=1)
        acknowledged = 0
        failed: list[Any] = []
        for index in range(1, 15):
            store.append([sample_entry(index)])
            if index == 6:
                store.compact(4)
            if index == 9:
                store.shrink().addErrback(failed.append)
            self.clock.advance(0.5)
            store.sync().addErrback(failed.append)
            if failed:
                break
            acknowledged = index
        store.close().addErrback(failed.append)
        found = self.reopen(files.crash())
        self.assertGreaterEqual(found.last_index, acknowledged, (number, kind))
        if found.last_index:
            reading = found.read(found.first_index, 100_000)
            self.assertEqual(
                self.successResultOf(reading), sample_entries(found.first_index, found.last_index)
            )
        return bool(failed)

    def test_unusable_directory(self) -> None:
        """A file in the place of the directory: one line."""
        files = FaultyFiles()
        files.create("data")
        opening = self.make(ImmediateDisk(), files).open()
        error = self.failureResultOf(opening, DataDirectoryError).value
        self.assertIn("cannot use data", str(error))
        files = FaultyFiles()
        files.fail("makedirs", error=errno.EACCES)
        opening = self.make(ImmediateDisk(), files).open()
        error = self.failureResultOf(opening, DataDirectoryError).value
        self.assertEqual(str(error), "cannot use data: Permission denied")

    def test_broken_disk_at_open(self) -> None:
        """An error of the disk at open is one of the disk."""
        self.files.fail("read", error=errno.EIO)
        opening = self.make(ImmediateDisk()).open()
        error = self.failureResultOf(opening, DiskFailed).value
        self.assertEqual(str(error), "cannot open data/log/state: Input/output error")
