"""The promises of ``ILogStore`` as tests: mix them into a test case of your own store.

    class MyStoreTests(DurableLogStoreContract, SynchronousTestCase):
        def make_store(self, directory):
            return MyStore(directory, disk=ImmediateDisk())

``LogStoreContract`` is for a store that forgets everything when it is closed,
``DurableLogStoreContract`` adds what must be there after opening again. The store has to work
synchronously: give it an ``ImmediateDisk`` (``finn.storage.disk``), or override ``settle``.
"""

from __future__ import annotations

import os
from random import Random

from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from finn.errors import CommandError, Compacted
from finn.interfaces import ILogStore
from finn.raft.entries import COMMANDS, CONFIGURATION, NOOP, Entry, make_entry
from finn.raft.ready import HardState
from finn.testing.storecase import (
    HUGE,
    StoreTestCase,
    runs_of_terms,
    sample_configuration,
    sample_entries,
    sample_entry,
)

__all__ = [
    "DurableLogStoreContract",
    "LogStoreContract",
    "StoreTestCase",
    "runs_of_terms",
    "sample_configuration",
    "sample_entries",
    "sample_entry",
]


class LogStoreContract(StoreTestCase):
    """What every store promises while it is open."""

    def test_provides_the_interface(self) -> None:
        """A store provides ILogStore."""
        verifyObject(ILogStore, self.open_store())

    def test_constructor_touches_nothing(self) -> None:
        """Nothing is made before open: twistd forks after the constructor."""
        self.make_store(self.directory)
        self.assertFalse(os.path.exists(self.directory))

    def test_fresh_store_is_empty(self) -> None:
        """A fresh store is empty, its state zero, and it misses nothing."""
        store = self.open_store()
        self.check(store, [])
        self.assertEqual(store.state, HardState(0, 0))
        self.assertEqual((store.terms, store.configurations), ([], []))
        self.assertFalse(store.dropped_tail)
        self.assertIsNone(store.busy_since)

    def test_append_moves_the_bounds_at_once(self) -> None:
        """The attributes follow append without waiting for the disk."""
        store = self.open_store()
        store.append(sample_entries(1, 3))
        self.assertEqual((store.first_index, store.last_index), (1, 3))
        store.append([])
        store.append(sample_entries(4, 4))
        self.assertEqual((store.first_index, store.last_index), (1, 4))

    def test_append_must_be_contiguous(self) -> None:
        """A gap, an overlap or a gap within is a bug of the caller."""
        store = self.open_store()
        store.append(sample_entries(1, 3))
        for wrong in (5, 3):
            with self.assertRaises(AssertionError):
                store.append([sample_entry(wrong)])
        with self.assertRaises(AssertionError):
            store.append([sample_entry(4), sample_entry(6)])
        self.assertEqual(store.last_index, 3)

    def test_entries_are_read_as_they_were_written(self) -> None:
        """All kinds, terms, empty and binary payloads, numbers of 64 bits come back the same."""
        odd = bytes(range(256)) + b"\r\n$-1\r\n\0"
        top = (1 << 64) - 1
        entries = [
            sample_entry(1, 1, odd),
            make_entry(2, 1, NOOP, 0, 0, 0, []),
            sample_configuration(3, 7, 1, top),
            make_entry(4, top, COMMANDS, top, top, (1 << 32) - 1, [odd, b"", odd]),
        ]
        store = self.open_store()
        self.write(store, entries)
        self.check(store, entries)
        for read, written in zip(self.read_all(store), entries, strict=True):
            for field in ("index", "term", "kind", "time", "seed", "count", "record"):
                self.assertEqual(getattr(read, field), getattr(written, field), field)

    def test_big_entry(self) -> None:
        """An entry may be larger than any buffer."""
        big = Random(5).randbytes(3 * 1024 * 1024)
        entries = [sample_entry(1), sample_entry(2, 1, big), sample_entry(3)]
        store = self.open_store()
        self.write(store, entries)
        self.check(store, entries)

    def test_many_entries(self) -> None:
        """Many small appends and one large give the same log."""
        entries = sample_entries(1, 1500)
        store = self.open_store()
        for entry in entries[:40]:
            store.append([entry])
        self.write(store, entries[40:])
        self.check(store, entries)

    def test_read_respects_the_bound_of_bytes(self) -> None:
        """A read returns at least one entry, and more only within the bound."""
        entries = sample_entries(1, 20)
        size = entries[0].size
        store = self.open_store()
        self.write(store, entries)
        for bound, most in ((0, 1), (1, 1), (size, 1), (2 * size, 2), (5 * size - 1, 4)):
            part = self.wait(store.read(7, bound))
            self.assertEqual(part, entries[6 : 6 + len(part)])
            self.assertTrue(1 <= len(part) <= most, (bound, len(part)))
            self.assertEqual(self.read_all(store, bound), entries)

    def test_read_sees_what_is_not_synced(self) -> None:
        """What was appended can be read at once."""
        store = self.open_store()
        store.append(sample_entries(1, 5))
        self.assertEqual(self.wait(store.read(5, HUGE)), [sample_entry(5)])

    def test_syncs_fire_in_order(self) -> None:
        """Each sync covers what was appended before it; none is lost, none overtakes."""
        fired: list[int] = []
        store = self.open_store()
        syncs = []
        for index in range(1, 6):
            store.append([sample_entry(index)])
            syncs.append(store.sync())
            syncs[-1].addCallback(self._note, fired, index)
        for sync in syncs:
            self.wait(sync)
        self.assertEqual(fired, [1, 2, 3, 4, 5])
        self.assertLessEqual(store.durable_index, store.last_index)
        self.assertIsNone(store.busy_since)

    def test_sync_of_nothing(self) -> None:
        """A sync with nothing to do fires."""
        self.wait(self.open_store().sync())

    def test_truncate_suffix(self) -> None:
        """The entry named and all above are gone; others may take their place."""
        store = self.open_store()
        self.write(store, sample_entries(1, 10))
        store.truncate_suffix(8)
        self.assertEqual(store.last_index, 7)
        self.assertLessEqual(store.durable_index, 7)
        self.check(store, sample_entries(1, 7))
        self.write(store, sample_entries(8, 9, term=2))
        self.check(store, sample_entries(1, 7) + sample_entries(8, 9, term=2))

    def test_truncate_without_waiting(self) -> None:
        """Calls take effect in the order in which they are made."""
        store = self.open_store()
        store.append(sample_entries(1, 5))
        store.truncate_suffix(3)
        store.append(sample_entries(3, 6, term=2))
        store.truncate_suffix(6)
        self.wait(store.sync())
        self.check(store, sample_entries(1, 2) + sample_entries(3, 5, term=2))

    def test_truncate_everything(self) -> None:
        """An emptied log begins where it began."""
        store = self.open_store()
        self.write(store, sample_entries(1, 4))
        store.truncate_suffix(1)
        self.check(store, [])
        self.write(store, sample_entries(1, 2, term=3))
        self.check(store, sample_entries(1, 2, term=3))

    def test_compact(self) -> None:
        """What is above the index stays; what is below first_index cannot be read any more."""
        entries = sample_entries(1, 50)
        store = self.open_store()
        self.write(store, entries)
        store.compact(20)
        self.assertTrue(1 <= store.first_index <= 21)
        self.assertEqual(store.last_index, 50)
        self.check(store, entries[store.first_index - 1 :])
        self.wait_failure(store.read(store.first_index - 1, HUGE), Compacted)

    def test_compact_goes_only_forward(self) -> None:
        """Compacting below what is compacted changes nothing."""
        store = self.open_store()
        self.write(store, sample_entries(1, 9))
        store.compact(6)
        first = store.first_index
        store.compact(3)
        self.assertEqual(store.first_index, first)

    def test_compact_everything(self) -> None:
        """A log may be compacted to its end, and goes on there."""
        store = self.open_store()
        self.write(store, sample_entries(1, 9))
        store.compact(9)
        self.assertEqual(store.last_index, 9)
        self.write(store, sample_entries(10, 12))
        self.check(store, sample_entries(store.first_index, 12))

    def test_reset(self) -> None:
        """After a reset the log is empty behind its new base, above or below the old end."""
        for base in (100, 95, 4):
            store = self.open_store()
            self.write(store, sample_entries(store.last_index + 1, store.last_index + 8))
            store.reset(base, 3)
            self.check(store, [], base)
            self.wait_failure(store.read(base, HUGE), Compacted)
            self.write(store, sample_entries(base + 1, base + 2, term=3))
            self.check(store, sample_entries(base + 1, base + 2, term=3))
            self.close(store)

    def test_state(self) -> None:
        """Term and vote are saved together."""
        store = self.open_store()
        for state in (HardState(1, 0), HardState(1, 5), HardState((1 << 64) - 1, 1 << 63)):
            self.wait(store.save_state(state))
            self.assertEqual(store.state, state)

    def test_log_bytes(self) -> None:
        """log_bytes grows with the log."""
        store = self.open_store()
        before = store.log_bytes
        self.write(store, [sample_entry(1, 1, b"x" * 10_000)])
        self.assertGreaterEqual(store.log_bytes - before, 10_000)

    def test_shrink(self) -> None:
        """A store gives space back without losing an entry, or says that it cannot."""
        store = self.open_store()
        self.write(store, sample_entries(1, 100))
        store.compact(60)
        self.shrink(store)
        self.assertTrue(1 <= store.first_index <= 61)
        self.check(store, sample_entries(store.first_index, 100))

    def test_random_history(self) -> None:
        """A long random history leaves what a list would hold."""
        random = Random(1)
        store = self.open_store()
        entries: list[Entry] = []
        base, term = 0, 1
        for _ in range(250):
            act = random.choice(("append", "append", "append", "cut", "compact", "reset", "sync"))
            last = base + len(entries)
            if act == "append":
                new = sample_entries(last + 1, last + random.randint(1, 20), term)
                store.append(new)
                entries += new
            elif act == "cut" and entries:
                term += 1
                index = random.randint(max(base + 1, last - 9), last)
                store.truncate_suffix(index)
                del entries[index - base - 1 :]
            elif act == "compact" and entries:
                store.compact(random.randint(base, min(last, base + 15)))
                del entries[: store.first_index - 1 - base]
                base = store.first_index - 1
            elif act == "reset" and random.random() < 0.2:
                term += 1
                base = random.randint(max(0, base - 20), last + 20)
                store.reset(base, term)
                entries = []
            elif act == "sync":
                self.wait(store.sync())
            if random.random() < 0.1:
                self.check(store, entries, base)
            if random.random() < 0.05:
                store = self.between(store)
        self.check(store, entries, base)

    def between(self, store: ILogStore) -> ILogStore:
        """Called now and then in the random history; a durable store is reopened here."""
        return store

    def shrink(self, store: ILogStore) -> None:
        """Shrink, or see that the store refuses as it should."""
        shrinking = store.shrink()
        self.settle(shrinking)
        refusal: list[Failure] = []
        shrinking.addErrback(refusal.append)
        self.successResultOf(shrinking)
        if refusal:
            self.assertIsInstance(refusal[0].value, CommandError)
            self.assertEqual(str(refusal[0].value), "ERR log is not shrinkable")

    @staticmethod
    def _note(result: None, fired: list[int], number: int) -> None:
        fired.append(number)


class DurableLogStoreContract(LogStoreContract):
    """What a store on a disk promises besides: closed and opened again, it is the same."""

    def test_reopen(self) -> None:
        """Entries, bounds, terms and configurations are there again."""
        entries = [
            *sample_entries(1, 3, term=1),
            sample_configuration(4, 1, 10),
            *sample_entries(5, 7, term=4),
            sample_configuration(8, 5, 10, 11),
        ]
        store = self.open_store()
        self.write(store, entries)
        self.wait(store.save_state(HardState(5, 11)))
        store = self.reopen(store)
        self.assertEqual(store.terms, [(1, 1), (5, 4), (8, 5)])
        self.assertEqual(store.configurations, [entries[3], entries[7]])
        self.assertEqual(store.state, HardState(5, 11))
        self.assertEqual(store.durable_index, 8)
        self.assertEqual((store.dropped_tail, store.notice), (False, ""))
        self.assertGreaterEqual(store.last_time, entries[-1].time)
        self.assertGreaterEqual(store.log_bytes, sum(entry.size for entry in entries))
        self.check(store, entries)

    def test_close_syncs(self) -> None:
        """What was only appended is there after close."""
        store = self.open_store()
        store.append(sample_entries(1, 5))
        store = self.reopen(store)
        self.check(store, sample_entries(1, 5))

    def test_reopen_empty(self) -> None:
        """An empty store stays empty, with the state it had."""
        store = self.open_store()
        self.wait(store.save_state(HardState(2, 9)))
        for _ in range(2):
            store = self.reopen(store)
            self.check(store, [])
            self.assertEqual(store.state, HardState(2, 9))

    def test_state_is_that_of_the_last_save(self) -> None:
        """Of many states the last one counts, whatever was written in between."""
        store = self.open_store()
        for term in range(1, 40):
            self.wait(store.save_state(HardState(term, term % 3)))
            store.append([sample_entry(term, term)])
        store = self.reopen(store)
        self.assertEqual(store.state, HardState(39, 0))
        self.check(store, [sample_entry(n, n) for n in range(1, 40)])

    def test_truncation_lasts(self) -> None:
        """A deleted range does not come back (raft-fastlog brought its last entry back)."""
        store = self.open_store()
        self.write(store, [*sample_entries(1, 9), sample_configuration(10, 2, 1)])
        store.truncate_suffix(8)
        store = self.reopen(store)
        self.check(store, sample_entries(1, 7))
        self.assertEqual((store.terms, store.configurations), ([(1, 1)], []))
        self.write(store, sample_entries(8, 8, term=3))
        store = self.reopen(store)
        self.assertEqual(store.terms, [(1, 1), (8, 3)])
        self.check(store, sample_entries(1, 7) + sample_entries(8, 8, term=3))

    def test_truncation_of_everything_lasts(self) -> None:
        """An emptied log is empty after reopening, and can be written."""
        store = self.open_store()
        self.write(store, sample_entries(1, 5))
        store.truncate_suffix(1)
        store = self.reopen(store)
        self.check(store, [])
        self.write(store, sample_entries(1, 2, term=2))
        self.check(self.reopen(store), sample_entries(1, 2, term=2))

    def test_compaction_lasts(self) -> None:
        """Bounds, terms and configurations after compaction are the same after reopening."""
        entries = [sample_configuration(1, 1, 1), *sample_entries(2, 30, term=2)]
        store = self.open_store()
        self.write(store, entries)
        store.compact(17)
        first = store.first_index
        store = self.reopen(store)
        kept = entries[first - 1 :]
        self.check(store, kept)
        self.assertEqual(store.terms, runs_of_terms(kept))
        self.assertEqual(store.configurations, [e for e in kept if e.kind == CONFIGURATION])

    def test_compaction_of_everything_lasts(self) -> None:
        """A log that is compacted to its end does not begin at 1 again."""
        store = self.open_store()
        self.write(store, sample_entries(1, 9))
        store.compact(9)
        store = self.reopen(store)
        self.assertEqual(store.last_index, 9)
        self.write(store, sample_entries(10, 11))
        store = self.reopen(store)
        self.check(store, sample_entries(store.first_index, 11))

    def test_reset_lasts(self) -> None:
        """The base of a reset is there after reopening, empty or not."""
        for base in (100, 99, 3):
            store = self.open_store()
            self.write(store, sample_entries(store.last_index + 1, store.last_index + 5, term=9))
            store.reset(base, 10)
            store = self.reopen(store)
            self.check(store, [], base)
            self.assertEqual((store.terms, store.configurations), ([], []))
            self.write(store, sample_entries(base + 1, base + 3, term=10))
            store = self.reopen(store)
            self.check(store, sample_entries(base + 1, base + 3, term=10))
            self.assertEqual(store.terms, [(base + 1, 10)])
            self.close(store)

    def test_shrink_lasts(self) -> None:
        """Shrinking loses nothing, before and after reopening."""
        store = self.open_store()
        self.write(store, sample_entries(1, 100))
        store.compact(60)
        self.shrink(store)
        first = store.first_index
        store = self.reopen(store)
        self.check(store, sample_entries(first, 100))

    def test_reopen_many_times(self) -> None:
        """Opening and closing wears nothing out."""
        for index in range(1, 12):
            store = self.open_store()
            self.check(store, sample_entries(1, index - 1))
            self.write(store, [sample_entry(index)])
            self.close(store)

    def between(self, store: ILogStore) -> ILogStore:
        return self.reopen(store)
