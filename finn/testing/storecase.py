"""Tools for tests of log stores: sample entries, and a test case that opens and reads stores."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from finn.interfaces import ILogStore
from finn.raft.configuration import Configuration, Member
from finn.raft.entries import COMMANDS, CONFIGURATION, Entry, make_entry

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _TestCase
else:
    _TestCase = ABC  # a mixin: the tests run where a test case is made of them

T = TypeVar("T")
HUGE = 1 << 40
FIRST_TIME = 1_700_000_000_000


def sample_entry(index: int, term: int = 1, payload: bytes = b"", kind: int = COMMANDS) -> Entry:
    """Make an entry whose other fields follow from its index."""
    seed = index * 0x9E3779B97F4A7C15 % (1 << 64)
    payload = payload or b"*2\r\n$4\r\nINCR\r\n$8\r\n%08d\r\n" % index
    return make_entry(index, term, kind, FIRST_TIME + index, seed, 1, [payload])


def sample_entries(first: int, last: int, term: int = 1) -> list[Entry]:
    """Make the entries from ``first`` to ``last``."""
    return [sample_entry(index, term) for index in range(first, last + 1)]


def sample_configuration(index: int, term: int, *members: int) -> Entry:
    """Make a configuration entry."""
    configuration = Configuration(tuple(Member(m, f":{m}") for m in members), index)
    return sample_entry(index, term, configuration.encode(), CONFIGURATION)


def runs_of_terms(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """Return ``(first index, term)`` of each run, as ``ILogStore.terms``."""
    runs: list[tuple[int, int]] = []
    for entry in entries:
        if not runs or runs[-1][1] != entry.term:
            runs.append((entry.index, entry.term))
    return runs


class StoreTestCase(_TestCase):
    """Tools for tests of a store: opens, reads, and closes what a test left open."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = os.path.join(self.mktemp(), "data")
        self._open: list[ILogStore] = []
        self.addCleanup(self._close_all)

    @abstractmethod
    def make_store(self, directory: str) -> ILogStore:
        """Make a store, closed, over ``directory``; called again for the same one to reopen."""

    def settle(self, deferred: Deferred[Any]) -> None:
        """Let the store work until ``deferred`` has fired. Override it for other disks."""

    def wait(self, deferred: Deferred[T]) -> T:
        """Return the result of a call of the store."""
        self.settle(deferred)
        return self.successResultOf(deferred)

    def wait_failure(self, deferred: Deferred[Any], error: type[Exception]) -> Exception:
        """Return the exception, of this type, with which a call of the store fails."""
        self.settle(deferred)
        failure = self.failureResultOf(deferred, error)
        assert isinstance(failure.value, Exception)
        return failure.value

    def open_store(self) -> ILogStore:
        """Make a store and open it."""
        store = self.make_store(self.directory)
        self.wait(store.open())
        self._open.append(store)
        return store

    def close(self, store: ILogStore) -> None:
        """Close a store."""
        self._open.remove(store)
        self.wait(store.close())

    def reopen(self, store: ILogStore) -> ILogStore:
        """Close, and open another one over the same directory."""
        self.close(store)
        return self.open_store()

    def write(self, store: ILogStore, entries: Sequence[Entry]) -> None:
        """Append and sync."""
        store.append(entries)
        self.wait(store.sync())

    def read_all(self, store: ILogStore, max_bytes: int = HUGE) -> list[Entry]:
        """Read from the first to the last entry, in as many reads as it takes."""
        found: list[Entry] = []
        while (first := store.first_index + len(found)) <= store.last_index:
            part = self.wait(store.read(first, max_bytes))
            self.assertTrue(part, "a read returned nothing")
            if len(part) > 1:
                self.assertLessEqual(sum(entry.size for entry in part), max_bytes)
            found += part
        return found

    def check(self, store: ILogStore, entries: Sequence[Entry], base: int = 0) -> None:
        """Check bounds and content: ``entries``, or empty after ``base``."""
        first = entries[0].index if entries else base + 1
        self.assertEqual(store.first_index, first)
        self.assertEqual(store.last_index, first + len(entries) - 1)
        self.assertEqual(self.read_all(store), list(entries))

    def _close_all(self) -> None:
        for store in list(self._open):
            self.close(store)
