"""Tests of what bolt and leveldb have in common: group commit, failures, trimming."""

from __future__ import annotations

from collections.abc import Generator

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CommandError, Compacted, CorruptLog, DiskFailed, LogError
from finn.options import Durability
from finn.raft.ready import HardState
from finn.storage import kvstore
from finn.storage.kvengine import Batch, ByteCount
from finn.storage.kvstore import KeyValueStore
from finn.testing.contract import sample_entries, sample_entry
from finn.testing.disks import ManualDisk


class MemoryEngine:
    """A database in memory that notes what is written and fails when told."""

    path = "memory"

    def __init__(self) -> None:
        self.logs: dict[int, bytes] = {}
        self.conf: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.broken: Exception | None = None
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def get(self, name: str) -> bytes | None:
        return self.conf.get(name)

    def scan(self, first: int) -> Generator[tuple[int, bytes], None, None]:
        self.fail()
        for index in sorted(self.logs):
            if index >= first:
                yield index, self.logs[index]

    def write(self, batch: Batch) -> None:
        assert self.is_open
        self.fail()
        self.batches.append(batch)
        if batch.delete:
            for index in range(batch.delete[0], batch.delete[1] + 1):
                self.logs.pop(index, None)
        self.logs.update(batch.puts)
        self.conf.update(batch.values)

    def fail(self) -> None:
        if self.broken is not None:
            raise self.broken

    def shrink(self, first: int) -> None:
        raise CommandError("ERR log is not shrinkable")

    def close(self) -> None:
        self.is_open = False


class KeyValueStoreTests(SynchronousTestCase):
    """The store over a disk worked by hand."""

    def setUp(self) -> None:
        self.engine = MemoryEngine()
        self.disk = ManualDisk()
        self.clock = Clock()
        self.store = self.opened()

    def opened(self, durability: Durability = Durability.HIGH) -> KeyValueStore:
        store = KeyValueStore(self.engine, self.disk, self.clock, durability)
        opening = store.open()
        self.disk.step_all()
        self.successResultOf(opening)
        self.engine.batches.clear()
        return store

    def test_group_commit(self) -> None:
        """What is appended while a write runs goes into one batch behind it."""
        syncs = []
        for index in range(1, 6):
            self.store.append([sample_entry(index)])
            syncs.append(self.store.sync())
        self.disk.step()
        self.successResultOf(syncs[0])
        for sync in syncs[1:]:
            self.assertNoResult(sync)
        self.assertEqual(self.store.durable_index, 1)
        self.disk.step()
        for sync in syncs[1:]:
            self.successResultOf(sync)
        self.assertEqual([len(batch.puts) for batch in self.engine.batches], [1, 4])
        self.assertEqual(self.store.durable_index, 5)

    def test_state_goes_with_the_log(self) -> None:
        """Term and vote share the batch, which is synced at any level."""
        self.store = self.opened(Durability.LOW)
        self.store.append([sample_entry(1)])
        saved = self.store.save_state(HardState(1, 2))
        self.store.append([sample_entry(2)])
        self.disk.step_all()
        self.successResultOf(saved)
        self.assertEqual([batch.sync for batch in self.engine.batches], [False, True])
        self.assertEqual(self.store.durable_index, 2)

    def test_durable_at_once_when_asked(self) -> None:
        """At any level, with all that was appended before."""
        self.store = self.opened(Durability.LOW)
        self.store.append([sample_entry(1)])
        self.store.append([sample_entry(2)])
        durable = self.store.sync(durable=True)
        self.disk.step_all()
        self.successResultOf(durable)
        self.assertEqual([batch.sync for batch in self.engine.batches], [False, True])
        self.assertEqual(self.store.durable_index, 2)

    def test_truncation_lowers_what_is_under_way(self) -> None:
        """An entry that is cut off while it is written does not count as durable."""
        self.store.append(sample_entries(1, 5))
        self.store.truncate_suffix(3)
        self.store.append(sample_entries(3, 3, term=2))
        sync = self.store.sync()
        self.disk.step()
        self.assertEqual(self.store.durable_index, 2)
        self.assertNoResult(sync)
        self.disk.step()
        self.successResultOf(sync)
        self.assertEqual(self.store.durable_index, 3)
        self.assertEqual(self.engine.batches[1].delete, (3, 5))
        self.assertEqual(sorted(self.engine.logs), [1, 2, 3])

    def test_truncation_of_what_is_pending(self) -> None:
        """What was not handed to the database is not deleted there."""
        self.store.append([sample_entry(1)])
        self.store.append(sample_entries(2, 5))
        self.store.truncate_suffix(3)
        self.disk.step_all()
        self.assertEqual(sorted(self.engine.logs), [1, 2])
        self.assertEqual([batch.delete for batch in self.engine.batches], [None, None])

    def test_read_between_writes(self) -> None:
        """A read sees what was appended before it and nothing else."""
        self.store.append([sample_entry(1)])
        self.store.append([sample_entry(2)])
        reading = self.store.read(1, 1 << 20)
        self.store.append([sample_entry(3)])
        self.disk.step_all()
        self.assertEqual(self.successResultOf(reading), sample_entries(1, 2))

    def test_read_outside(self) -> None:
        """Outside the bounds a read fails."""
        self.store.reset(5, 1)
        self.failureResultOf(self.store.read(5, 1), Compacted)
        self.failureResultOf(self.store.read(6, 1), LogError)

    def test_busy_since(self) -> None:
        """The beginning of the oldest operation that has not ended."""
        self.clock.advance(1)
        self.store.append([sample_entry(1)])
        self.store.append([sample_entry(2)])
        self.clock.advance(1)
        self.assertEqual(self.store.busy_since, 1)
        self.disk.step()
        self.assertEqual(self.store.busy_since, 2)
        self.disk.step()
        self.assertIsNone(self.store.busy_since)

    def test_failed_write(self) -> None:
        """All that waits and all that follows fails; nothing more is written."""
        first = self.store.save_state(HardState(1, 1))
        self.store.append([sample_entry(1)])
        second = self.store.sync()
        reading = self.store.read(1, 1)  # puts the second batch behind the first
        self.store.append([sample_entry(2)])
        third = self.store.sync()
        self.engine.broken = DiskFailed("no space left")
        self.disk.step()
        self.engine.broken = None
        self.disk.step_all()
        self.store.append([sample_entry(3)])
        for waiting in (
            first,
            second,
            third,
            reading,
            self.store.sync(),
            self.store.save_state(HardState(2, 2)),
            self.store.read(1, 1),
            self.store.shrink(),
        ):
            self.failureResultOf(waiting, DiskFailed)
        self.assertEqual(self.engine.batches, [])
        closing = self.store.close()
        self.disk.step_all()
        failure = self.failureResultOf(closing, DiskFailed)
        self.assertEqual(failure.getErrorMessage(), "no space left")
        self.assertFalse(self.engine.is_open)

    def test_failed_read(self) -> None:
        """A disk that cannot be read has failed as well; a damaged entry is told apart."""
        self.store.append(sample_entries(1, 2))
        self.disk.step_all()
        record = self.engine.logs[2]
        self.engine.logs[2] = record[:-1] + b"?"
        reading = self.store.read(1, 1 << 20)
        self.disk.step()
        failure = self.failureResultOf(reading, CorruptLog)
        self.assertIn("entry 2: record checksum is wrong", failure.getErrorMessage())
        self.engine.broken = DiskFailed("no disk")
        reading = self.store.read(1, 1)
        self.disk.step()
        self.failureResultOf(reading, DiskFailed)
        self.failureResultOf(self.store.sync(), DiskFailed)

    def test_any_other_error_is_a_failed_disk(self) -> None:
        """Whatever goes wrong in a write, the store must not go on."""
        self.engine.broken = RuntimeError("surprise")
        self.store.append([sample_entry(1)])
        sync = self.store.sync()
        self.disk.step()
        failure = self.failureResultOf(sync, DiskFailed)
        self.assertEqual(failure.getErrorMessage(), "memory: surprise")

    def test_shrink_refused(self) -> None:
        """A refusal is no failure."""
        shrinking = self.store.shrink()
        self.disk.step()
        self.failureResultOf(shrinking, CommandError)
        self.successResultOf(self.store.sync())

    def test_trims_in_pieces(self) -> None:
        """Compacted entries are deleted piece by piece, and others get the disk in between."""
        self.patch(kvstore, "TRIM", 10)
        self.store.append(sample_entries(1, 40))
        self.disk.step_all()
        self.store.compact(35)
        self.disk.step()
        self.store.append([sample_entry(41)])
        sync = self.store.sync()
        self.disk.step()
        self.disk.step()
        self.successResultOf(sync)
        self.assertEqual(min(self.engine.logs), 11)
        self.disk.step_all()
        self.assertEqual(sorted(self.engine.logs), list(range(36, 42)))
        deleted = [batch.delete for batch in self.engine.batches if batch.delete]
        self.assertEqual(deleted, [(1, 10), (11, 20), (21, 30), (31, 35)])

    def test_trims_what_a_killed_process_left(self) -> None:
        """Compacted entries that are still there at open are deleted."""
        self.store.append(sample_entries(1, 20))
        self.store.compact(15)
        self.disk.step()
        self.disk.step()
        self.disk.kill()
        self.assertEqual(len(self.engine.logs), 20)
        self.disk = ManualDisk()
        store = self.opened()
        self.assertEqual((store.first_index, store.last_index), (16, 20))
        self.assertEqual(sorted(self.engine.logs), list(range(16, 21)))

    def test_close_ends_all_work(self) -> None:
        """Nothing is trimmed or timed after close."""
        store = self.opened(Durability.MEDIUM)
        store.append(sample_entries(1, 20))
        store.compact(10)
        closing = store.close()
        self.disk.step_all()
        self.successResultOf(closing)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.engine.batches[-1].sync)

    def test_medium_syncs_once_a_second(self) -> None:
        """One sync a second while something is written, none after."""
        store = self.opened(Durability.MEDIUM)
        for index in range(1, 21):
            store.append([sample_entry(index)])
            self.disk.step_all()
            self.clock.advance(0.1)
            self.disk.step_all()
        self.clock.advance(1)
        self.disk.step_all()
        self.assertEqual(sum(batch.sync for batch in self.engine.batches), 2)
        self.assertEqual(store.durable_index, 20)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failed_open_closes(self) -> None:
        """A store that cannot be opened leaves the database closed."""
        self.engine.conf["format"] = b"7"
        opening = KeyValueStore(self.engine, self.disk, self.clock, Durability.LOW).open()
        self.disk.step()
        self.failureResultOf(opening, LogError)
        self.assertFalse(self.engine.is_open)


class ByteCountTests(SynchronousTestCase):
    """ByteCount is exact while nothing is cut, and near the truth after."""

    def test_exact(self) -> None:
        """Without cuts the sum is exact; cuts at the ends are exact, too."""
        count = ByteCount()
        for index in range(1, 101):
            count.add(index, 5000)
        self.assertEqual(count.bytes, 500_000)
        count.drop(1)
        count.cut(101)
        self.assertEqual(count.bytes, 500_000)
        count.cut(1)
        self.assertEqual(count.bytes, 0)

    @given(st.lists(st.tuples(st.sampled_from(("add", "cut", "drop")), st.integers(0, 40))))
    def test_estimate(self, steps: list[tuple[str, int]]) -> None:
        """With entries of one size even an estimate is near."""
        count, first, last = ByteCount(), 1, 0
        for step, number in steps:
            if step == "add":
                for _ in range(number):
                    last += 1
                    count.add(last, 3000)
            elif step == "cut" and last >= first:
                index = max(first, last - number)
                count.cut(index)
                last = index - 1
            elif step == "drop" and last >= first:
                first = min(first + number, last + 1)
                count.drop(first)
            expected = (last - first + 1) * 3000
            self.assertTrue(abs(count.bytes - expected) <= 3000, (count.bytes, expected))
