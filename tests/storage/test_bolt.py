"""Tests of the bolt backend: what is particular to LMDB, and faults in real processes."""

from __future__ import annotations

import gc
import os
import sys
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog, DataDirectoryError, MissingExtra
from finn.raft.ready import HardState
from finn.storage.bolt import BoltStore, check_report
from finn.storage.disk import ImmediateDisk
from finn.testing.contract import sample_entries, sample_entry
from tests.storage.processes import ProcessTestCase


class BoltTests(SynchronousTestCase):
    """What is particular to LMDB."""

    def setUp(self) -> None:
        self.directory = self.mktemp()

    def make(self, map_size: int = 1 << 16) -> BoltStore:
        return BoltStore(
            directory=self.directory, disk=ImmediateDisk(), clock=Clock(), map_size=map_size
        )

    def opened(self) -> BoltStore:
        store = self.make()
        self.successResultOf(store.open())
        return store

    def test_map_grows(self) -> None:
        """Entries that need many times the map, one of them more than a doubling, find room."""
        store = self.opened()
        entries = [sample_entry(n, 1, b"x" * 20_000) for n in range(1, 30)]
        entries.append(sample_entry(30, 1, b"y" * 5_000_000))
        for entry in entries:
            store.append([entry])
        self.successResultOf(store.sync())
        self.assertEqual(store.durable_index, 30)
        self.successResultOf(store.close())
        again = self.opened()
        self.assertEqual(self.successResultOf(again.read(1, 1 << 30)), entries)
        self.successResultOf(again.close())

    def test_reads_give_their_places_back(self) -> None:
        """At once, not when garbage is collected: LMDB has eight, and without one the node fails.

        Python up to 3.10 leaves cycles of references where 3.11 leaves none.
        """
        store = self.opened()
        store.append(sample_entries(1, 20))
        self.successResultOf(store.sync())
        self.addCleanup(gc.enable)
        gc.disable()
        for first in range(1, 20):
            self.assertEqual(self.successResultOf(store.read(first, 1)), [sample_entry(first)])
        self.successResultOf(store.close())

    def test_always_durable(self) -> None:
        """What was synced is durable, at any level."""
        store = self.opened()
        store.append(sample_entries(1, 3))
        self.successResultOf(store.sync())
        self.assertEqual(store.durable_index, 3)
        self.successResultOf(store.close())

    def test_missing_package(self) -> None:
        """Without lmdb there is one line that names the extra."""
        with mock.patch.dict(sys.modules, {"lmdb": None}):
            failure = self.failureResultOf(self.make().open(), MissingExtra)
        self.assertEqual(
            failure.getErrorMessage(),
            "the bolt backend needs lmdb: pip install 'finn-raft[bolt]'",
        )

    def test_not_a_database(self) -> None:
        """A damaged file is named."""
        os.makedirs(os.path.join(self.directory, "bolt"))
        path = os.path.join(self.directory, "bolt", "data.mdb")
        with open(path, "wb") as file:
            file.write(b"hello" * 5000)
        failure = self.failureResultOf(self.make().open(), CorruptLog)
        self.assertIn(path, failure.getErrorMessage())

    def test_unusable_directory(self) -> None:
        """A directory that cannot be made is one clear line."""
        with open(self.directory, "w"):
            pass
        failure = self.failureResultOf(self.make().open(), DataDirectoryError)
        self.assertIn("cannot be used: ", failure.getErrorMessage())

    def test_check_report(self) -> None:
        """The offline check tells what there is and changes nothing."""
        store = self.opened()
        store.append(sample_entries(1, 9))
        self.successResultOf(store.save_state(HardState(3, 0xAB)))
        store.compact(4)
        self.successResultOf(store.close())
        folder = os.path.join(self.directory, "bolt")
        before = {
            name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in os.listdir(folder)
        }
        lines = check_report(self.directory)
        after = {
            name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in os.listdir(folder)
        }
        self.assertEqual(before, after)
        self.assertEqual(lines[0][:17], "entries: 5 to 9, ")
        self.assertEqual(lines[1], "term 3, vote 00000000000000ab")
        self.assertEqual(len(lines), 2)

    def test_check_report_of_nothing(self) -> None:
        """Where there is no database the check says so, and makes none."""
        self.assertIn("first fault: ", check_report(self.directory)[0])
        self.assertFalse(os.path.exists(self.directory))


class BoltProcessTests(ProcessTestCase):
    """Faults in a real process."""

    backend = "bolt"

    def test_kill_9(self) -> None:
        """A killed process loses nothing that it acknowledged."""
        self.kill_repeatedly(6, seed=1)

    def test_errors_of_system_calls(self) -> None:
        """A failing write or sync is reported, nothing acknowledged is lost, and it opens again."""
        for fault in (
            "fdatasync:error=EIO:when=1",
            "fdatasync:error=EIO:when=15",
            "pwrite64:error=ENOSPC:when=12",
            "pwrite64:error=EIO:when=5",
            "writev,pwritev:error=ENOSPC:when=10",
        ):
            last = self.inject("bolt/data.mdb", fault)
            self.assertTrue(last.startswith("failed "), last)
            store = self.verify()
            self.entry, self.term = store.last_index, store.state.term
