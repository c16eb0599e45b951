"""The log store contract, kept by fastlog and inmem."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.interfaces import ILogStore
from finn.options import Durability
from finn.storage.disk import ImmediateDisk
from finn.storage.fastlog import FastLog
from finn.storage.files import OSFiles
from finn.storage.inmem import InMemLog
from finn.testing.contract import DurableLogStoreContract, LogStoreContract


class FastLogMedium(DurableLogStoreContract, SynchronousTestCase):
    """At durability medium, with the segments of production."""

    durability = Durability.MEDIUM
    segment_bytes = 64 * 1024 * 1024

    def make_store(self, directory: str) -> ILogStore:
        return FastLog(
            OSFiles(),
            ImmediateDisk(),
            Clock(),
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


class InMemLogTests(LogStoreContract, SynchronousTestCase):
    """In memory."""

    def make_store(self, directory: str) -> ILogStore:
        return InMemLog()
