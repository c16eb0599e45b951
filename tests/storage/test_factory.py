"""Choosing a store, and refusing the wrong one."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DataDirectoryError
from finn.interfaces import ILogStore
from finn.options import Backend, Durability, NodeOptions
from finn.storage.disk import ImmediateDisk
from finn.storage.factory import effective_durability, open_snapshots, open_store
from finn.storage.fastlog import FastLog
from finn.storage.files import OSFiles
from finn.storage.identity import Identity
from finn.storage.inmem import InMemLog
from finn.storage.snapshots import MemorySnapshotStore, SnapshotStore
from finn.testing.contract import sample_entries


class FactoryTests(SynchronousTestCase):
    """On the real file system, as two of the backends need it."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.files = OSFiles()

    def open(self, backend: Backend) -> ILogStore:
        """Make a store of that backend."""
        options = NodeOptions(backend=backend, directory=self.directory)
        return open_store(options, self.files, ImmediateDisk(), Clock())

    def test_backends(self) -> None:
        """Each backend has its stores; nothing is touched before they are opened."""
        names = {}
        for backend in Backend:
            names[backend.value] = type(self.open(backend)).__name__
        self.assertEqual(
            names,
            {
                "fastlog": FastLog.__name__,
                "bolt": "BoltStore",
                "leveldb": "LevelDBStore",
                "inmem": InMemLog.__name__,
            },
        )
        self.assertFalse(self.files.exists(self.directory))

    def test_snapshots(self) -> None:
        """Only inmem keeps its snapshots in memory."""
        for backend, kind in (
            (Backend.INMEM, MemorySnapshotStore),
            (Backend.BOLT, SnapshotStore),
        ):
            options = NodeOptions(backend=backend, directory=self.directory)
            store = open_snapshots(options, self.files, ImmediateDisk(), lambda: 0)
            self.assertIsInstance(store, kind)

    def test_a_full_log_is_never_put_beside_an_empty_one(self) -> None:
        """Every other backend is refused in one line that says what to do."""
        for backend in (Backend.FASTLOG, Backend.BOLT, Backend.LEVELDB):
            self.directory = self.mktemp()
            store = self.open(backend)
            self.successResultOf(store.open())
            store.append(sample_entries(1, 3))
            self.successResultOf(store.close())
            for other in Backend:
                if other is backend:
                    self.open(other)
                    continue
                error = self.assertRaises(DataDirectoryError, self.open, other)
                self.assertIn(f"start with --backend {backend.value}", str(error))

    def test_identity_tells_the_backend_too(self) -> None:
        """A directory whose log was deleted is not taken over by another backend."""
        Identity(self.files, self.directory, Random(1).getrandbits(63), "bolt").save()
        self.assertRaises(DataDirectoryError, self.open, Backend.FASTLOG)
        self.files.makedirs(f"{self.directory}/log")
        error = self.assertRaises(DataDirectoryError, self.open, Backend.FASTLOG)
        self.assertIn("several backends: fastlog and bolt", str(error))

    def test_bolt_is_always_high(self) -> None:
        """Whatever the flag says."""
        for durability in Durability:
            options = NodeOptions(durability=durability)
            self.assertEqual(effective_durability(options), durability)
            options.backend = Backend.BOLT
            self.assertEqual(effective_durability(options), Durability.HIGH)
