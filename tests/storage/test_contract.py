"""The log store contract, kept by bolt and leveldb, on an immediate disk and on a slow one."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.interfaces import ILogStore
from finn.options import Durability
from finn.storage.bolt import BoltStore
from finn.storage.disk import ImmediateDisk
from finn.storage.leveldb import LevelDBStore
from finn.testing.contract import DurableLogStoreContract
from finn.testing.disks import SimulatedDisk


class BoltContract(DurableLogStoreContract, SynchronousTestCase):
    """bolt, with a map that has to grow."""

    def make_store(self, directory: str) -> ILogStore:
        return BoltStore(directory, ImmediateDisk(), Clock(), map_size=1 << 16)


class LevelDBHigh(DurableLogStoreContract, SynchronousTestCase):
    """leveldb at high."""

    durability = Durability.HIGH

    def make_store(self, directory: str) -> ILogStore:
        return LevelDBStore(directory, ImmediateDisk(), Clock(), self.durability)


class LevelDBMedium(LevelDBHigh):
    """leveldb at medium."""

    durability = Durability.MEDIUM


class LevelDBLow(LevelDBHigh):
    """leveldb at low."""

    durability = Durability.LOW


class SlowDisk(DurableLogStoreContract):
    """On a disk that takes its time, so that batches queue up."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.disk = SimulatedDisk(self.clock, Random(4))

    def settle(self, deferred: Deferred[Any]) -> None:
        while not deferred.called and self.clock.getDelayedCalls():
            self.clock.advance(0.001)


class SlowBolt(SlowDisk, SynchronousTestCase):
    """bolt."""

    def make_store(self, directory: str) -> ILogStore:
        return BoltStore(directory, self.disk, self.clock)


class SlowLevelDB(SlowDisk, SynchronousTestCase):
    """leveldb."""

    def make_store(self, directory: str) -> ILogStore:
        return LevelDBStore(directory, self.disk, self.clock, Durability.MEDIUM)
