"""Tests of the leveldb backend: what is particular to LevelDB, and faults in real processes."""

from __future__ import annotations

import os
import sys
from unittest import mock

import plyvel
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog, DataDirectoryError, MissingExtra
from finn.options import Durability
from finn.raft.ready import HardState
from finn.storage.disk import ImmediateDisk
from finn.storage.files import OSFile
from finn.storage.leveldb import LevelDBStore, check_report
from finn.testing.contract import sample_entries, sample_entry
from tests.storage.processes import ProcessTestCase


class LevelDBTests(SynchronousTestCase):
    """What is particular to LevelDB."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.path = os.path.join(self.directory, "leveldb")
        self.clock = Clock()

    def make(self, durability: Durability = Durability.HIGH) -> LevelDBStore:
        return LevelDBStore(
            directory=self.directory, disk=ImmediateDisk(), clock=self.clock, durability=durability
        )

    def opened(self, durability: Durability = Durability.HIGH) -> LevelDBStore:
        store = self.make(durability)
        self.successResultOf(store.open())
        return store

    def closed(self, store: LevelDBStore) -> None:
        self.successResultOf(store.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def raw(self) -> plyvel.DB:
        database = plyvel.DB(self.path)
        self.addCleanup(database.close)
        return database

    def test_high_is_durable_when_synced(self) -> None:
        """At high an acknowledged entry survives power loss."""
        store = self.opened()
        store.append(sample_entries(1, 3))
        self.successResultOf(store.sync())
        self.assertEqual(store.durable_index, 3)
        self.closed(store)

    def test_medium_is_durable_within_a_second(self) -> None:
        """At medium a sync follows within a second, and then no more until something is new."""
        synced: list[OSFile] = []
        datasync = OSFile.datasync
        self.patch(OSFile, "datasync", lambda file: (synced.append(file), datasync(file)))
        store = self.opened(Durability.MEDIUM)
        synced.clear()
        store.append(sample_entries(1, 3))
        self.successResultOf(store.sync())
        self.assertEqual((store.durable_index, synced), (0, []))
        self.clock.advance(1.0)
        self.assertEqual(store.durable_index, 3)
        self.assertEqual(len(synced), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.closed(store)

    def test_low_is_never_synced(self) -> None:
        """At low nothing is known durable until the store is closed."""
        store = self.opened(Durability.LOW)
        store.append(sample_entries(1, 3))
        self.successResultOf(store.sync())
        self.clock.advance(60)
        self.assertEqual(store.durable_index, 0)
        self.closed(store)
        self.assertEqual(store.durable_index, 3)

    def test_state_is_always_synced(self) -> None:
        """Term and vote are durable at low, and with them all that was written before."""
        store = self.opened(Durability.LOW)
        store.append(sample_entries(1, 3))
        self.successResultOf(store.save_state(HardState(1, 1)))
        self.assertEqual(store.durable_index, 3)
        self.closed(store)

    def test_hole_after_the_sync_mark(self) -> None:
        """Entries behind one that was lost unsynced are dropped, with a notice."""
        store = self.opened(Durability.LOW)
        store.append(sample_entries(1, 9))
        self.successResultOf(store.close())
        database = self.raw()
        database.delete(b"confsynced")
        database.delete(b"logs" + (6).to_bytes(8, "big"))
        database.close()
        store = self.opened(Durability.LOW)
        self.assertEqual((store.first_index, store.last_index), (1, 5))
        self.assertTrue(store.dropped_tail)
        self.assertIn("entry 6 was never synced", store.notice)
        self.closed(store)
        store = self.opened(Durability.LOW)
        self.assertFalse(store.dropped_tail)
        self.assertEqual(self.successResultOf(store.read(1, 1 << 20)), sample_entries(1, 5))
        store.append([sample_entry(6)])
        self.closed(store)

    def test_hole_before_the_sync_mark(self) -> None:
        """An entry that had been synced and is missing is corruption."""
        store = self.opened()
        for index in range(1, 10):
            store.append([sample_entry(index)])
        self.closed(store)
        database = self.raw()
        database.delete(b"logs" + (6).to_bytes(8, "big"))
        database.close()
        failure = self.failureResultOf(self.make().open(), CorruptLog)
        self.assertIn("entry 6 is missing", failure.getErrorMessage())
        self.assertIn("first fault: ", check_report(self.directory)[-1])

    def test_flipped_bit(self) -> None:
        """A flipped bit anywhere in the database's log refuses the start, naming the folder."""
        store = self.opened()
        for index in range(1, 10):
            store.append([sample_entry(index)])
        self.closed(store)
        (name,) = [name for name in os.listdir(self.path) if name.endswith(".log")]
        path = os.path.join(self.path, name)
        with open(path, "r+b") as file:
            content = bytearray(file.read())
            content[len(content) // 2] ^= 1
            file.seek(0)
            file.write(content)
        failure = self.failureResultOf(self.make().open(), CorruptLog)
        self.assertIn(self.path, failure.getErrorMessage())
        self.assertIn("first fault: ", check_report(self.directory)[0])

    def test_damaged_values(self) -> None:
        """Records, state and base carry checksums of their own."""
        store = self.opened()
        store.append(sample_entries(1, 5))
        store.compact(1)
        self.successResultOf(store.save_state(HardState(1, 1)))
        self.closed(store)
        key = b"logs" + (4).to_bytes(8, "big")
        for damaged, text in ((b"confstate", "state"), (b"confbase", "base"), (key, "entry 4")):
            database = self.raw()
            good = database.get(damaged)
            database.put(damaged, good[:-1] + bytes([good[-1] ^ 1]))
            database.close()
            failure = self.failureResultOf(self.make().open(), CorruptLog)
            self.assertIn(text, failure.getErrorMessage())
            database = self.raw()
            database.put(damaged, good)
            database.close()

    def test_unknown_format(self) -> None:
        """A format of the future is refused."""
        self.closed(self.opened())
        database = self.raw()
        database.put(b"confformat", b"9")
        database.close()
        failure = self.failureResultOf(self.make().open(), DataDirectoryError)
        self.assertIn("format", failure.getErrorMessage())

    def test_opened_twice(self) -> None:
        """A database in use is one clear line."""
        store = self.opened()
        failure = self.failureResultOf(self.make().open(), DataDirectoryError)
        self.assertIn("is in use", failure.getErrorMessage())
        self.closed(store)

    def test_missing_package(self) -> None:
        """Without plyvel there is one line that names the extra."""
        with mock.patch.dict(sys.modules, {"plyvel": None}):
            failure = self.failureResultOf(self.make().open(), MissingExtra)
        self.assertEqual(
            failure.getErrorMessage(),
            "the leveldb backend needs plyvel: pip install 'finn-raft[leveldb]'",
        )

    def test_shrink_gives_space_back(self) -> None:
        """After compaction and shrink the files are smaller."""
        store = self.opened(Durability.LOW)
        for index in range(1, 200):
            store.append([sample_entry(index, 1, os.urandom(200_000))])
        store.compact(195)
        self.successResultOf(store.shrink())
        self.closed(store)
        size = sum(os.path.getsize(os.path.join(self.path, n)) for n in os.listdir(self.path))
        self.assertLess(size, 12_000_000)

    def test_check_report(self) -> None:
        """The offline check tells what there is and changes nothing."""
        store = self.opened()
        store.append(sample_entries(1, 9))
        self.successResultOf(store.save_state(HardState(3, 0xAB)))
        self.closed(store)
        before = {name: os.stat(os.path.join(self.path, name)) for name in os.listdir(self.path)}
        lines = check_report(self.directory)
        after = {name: os.stat(os.path.join(self.path, name)) for name in os.listdir(self.path)}
        self.assertEqual(
            {name: stat.st_mtime_ns for name, stat in before.items()},
            {name: stat.st_mtime_ns for name, stat in after.items()},
        )
        self.assertEqual(lines[0][:17], "entries: 1 to 9, ")
        self.assertEqual(lines[1:], ["term 3, vote 00000000000000ab"])


class LevelDBProcessTests(ProcessTestCase):
    """Faults in a real process."""

    backend = "leveldb-high"

    def test_kill_9(self) -> None:
        """A killed process loses nothing that it acknowledged, at any level."""
        for seed, self.backend in enumerate(("leveldb-high", "leveldb-medium", "leveldb-low")):
            self.kill_repeatedly(3, seed)

    def test_errors_of_system_calls(self) -> None:
        """A failing write or sync is reported, nothing acknowledged is lost, and it opens again."""
        for fault in (
            "fdatasync:error=EIO:when=15",
            "write:error=ENOSPC:when=12",
            "write:error=EIO:when=3",
        ):
            self.setUp()
            last = self.inject("leveldb/000003.log", fault)
            self.assertTrue(last.startswith("failed "), last)
            self.verify()
