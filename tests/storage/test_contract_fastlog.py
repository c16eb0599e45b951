"""The log store contract, kept by fastlog and inmem."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.interfaces import IDisk, ILogStore
from finn.options import Durability
from finn.storage.disk import ImmediateDisk
from finn.storage.fastlog import FastLog
from finn.storage.files import OSFiles
from finn.storage.inmem import InMemLog
from finn.testing.contract import DurableLogStoreContract, LogStoreContract
from finn.testing.disks import SimulatedDisk
from finn.testing.faulty import FaultyFiles


class FastLogOnTheSystem(DurableLogStoreContract, SynchronousTestCase):
    """At durability medium, with the files and the segments of production."""

    def make_store(self, directory: str) -> ILogStore:
        return FastLog(OSFiles(), ImmediateDisk(), Clock(), directory)


class FastLogMedium(DurableLogStoreContract, SynchronousTestCase):
    """At durability medium, on files in memory: they sync faster."""

    durability = Durability.MEDIUM
    segment_bytes = 64 * 1024 * 1024

    def setUp(self) -> None:
        super().setUp()
        self.files = FaultyFiles()
        self.clock = Clock()
        self.disk: IDisk = ImmediateDisk()

    def make_store(self, directory: str) -> ILogStore:
        return FastLog(
            self.files,
            self.disk,
            self.clock,
            directory,
            self.durability,
            self.segment_bytes,
            Random(1),
        )


class FastLogLow(FastLogMedium):
    """At durability low."""

    durability = Durability.LOW


class FastLogHigh(FastLogMedium):
    """At durability high."""

    durability = Durability.HIGH


class FastLogSmallSegments(FastLogMedium):
    """With segments that hold a dozen entries."""

    segment_bytes = 1000


class FastLogSlowDisk(FastLogMedium):
    """On a disk that takes its time: inline writes and queued ones take turns."""

    segment_bytes = 2000

    def setUp(self) -> None:
        super().setUp()
        self.disk = SimulatedDisk(self.clock, Random(4))

    def settle(self, deferred: Deferred[Any]) -> None:
        done: list[bool] = []

        def note(result: Any) -> Any:
            done.append(True)
            return result

        deferred.addBoth(note)
        while not done and (calls := self.clock.getDelayedCalls()):
            self.clock.advance(max(0, calls[0].getTime() - self.clock.seconds()))


class FastLogSlowDiskHigh(FastLogSlowDisk):
    """The same at high, where all changes queue up."""

    durability = Durability.HIGH


class InMemLogTests(LogStoreContract, SynchronousTestCase):
    """In memory."""

    def make_store(self, directory: str) -> ILogStore:
        return InMemLog()
