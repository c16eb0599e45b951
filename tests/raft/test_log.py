"""Tests of the log view."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import LogError
from finn.raft import Configuration, RaftLog
from finn.raft.entries import COMMANDS, CONFIGURATION, Entry, make_entry
from tests.raft.host import members


def entry(index: int, term: int, size: int = 10, time: int = 0) -> Entry:
    return make_entry(index, term, COMMANDS, time, 0, 1, [b"x" * size])


def filled(*terms: int) -> RaftLog:
    """A log of entries of these terms, all durable."""
    log = RaftLog()
    for index, term in enumerate(terms, 1):
        log.append(entry(index, term))
    if terms:
        log.persisted(log.take()[3])
    return log


class RaftLogTests(SynchronousTestCase):
    """RaftLog knows terms of all, entries of the newest part, and what the store has to do."""

    def test_begins_empty(self) -> None:
        """Index 0 has term 0 and is the entry before the first."""
        log = RaftLog()
        self.assertEqual((log.first_index, log.last_index, log.last_term), (1, 0, 0))
        self.assertEqual(log.term_at(0), 0)
        self.assertIsNone(log.term_at(1))
        self.assertFalse(log.has_news)

    def test_terms(self) -> None:
        """Terms are known for every index, also where the entries are in the store only."""
        log = RaftLog(first_index=5, last_index=9, snapshot_index=6, snapshot_term=2,
                      terms=[(5, 1), (6, 2), (8, 4)])  # fmt: skip
        self.assertEqual([log.term_at(i) for i in range(3, 11)], [None, None, 1, 2, 2, 4, 4, None])
        self.assertIsNone(log.entries(8, 9, 100))
        self.assertEqual(log.last_of_term(4), 9)
        self.assertEqual(log.last_of_term(3), 7)
        self.assertEqual(log.last_of_term(1), 5)
        self.assertEqual(log.run_start(9), 8)

    def test_take_hands_over_once(self) -> None:
        """Entries go to the store once, with a ticket."""
        log = RaftLog()
        log.append(entry(1, 1))
        log.append(entry(2, 1))
        reset_to, truncate_from, entries, ticket = log.take()
        self.assertEqual((reset_to, truncate_from, [e.index for e in entries]), (None, 0, [1, 2]))
        self.assertFalse(log.has_news)
        self.assertEqual(log.persisted_index, 0)
        self.assertTrue(log.persisted(ticket))
        self.assertEqual(log.persisted_index, 2)
        self.assertFalse(log.persisted(ticket))

    def test_truncation_lowers_old_tickets(self) -> None:
        """An overwritten entry does not count as durable by the ticket of the one before."""
        log = filled(1, 1)
        for index in (3, 4, 5):
            log.append(entry(index, 1))
        old = log.take()[3]
        log.truncate(4)
        log.append(entry(4, 2))
        log.append(entry(5, 2))
        _, truncate_from, entries, new = log.take()
        self.assertEqual((truncate_from, [e.index for e in entries]), (4, [4, 5]))
        log.persisted(old)
        self.assertEqual(log.persisted_index, 3)
        log.persisted(new)
        self.assertEqual(log.persisted_index, 5)

    def test_truncation_of_durable_entries(self) -> None:
        """What is removed is not durable any more, and the terms behind it are gone."""
        log = filled(1, 1, 2, 2)
        log.truncate(3)
        self.assertEqual((log.persisted_index, log.last_index, log.last_term), (2, 2, 1))
        self.assertEqual(log.take()[:2], (None, 3))

    def test_truncation_before_the_store_knew(self) -> None:
        """Entries that were not handed over yet just go."""
        log = filled(1)
        log.append(entry(2, 1))
        log.truncate(2)
        log.append(entry(2, 2))
        _, truncate_from, entries, _ = log.take()
        self.assertEqual((truncate_from, [e.term for e in entries]), (0, [2]))

    def test_reset_voids_tickets(self) -> None:
        """After a reset only what follows the snapshot counts, whatever was being written."""
        log = RaftLog()
        for index in range(1, 11):
            log.append(entry(index, 1))
        old = log.take()[3]
        log.reset(5, 3, members(1), 0)
        log.append(entry(6, 3))
        self.assertEqual((log.first_index, log.last_index, log.last_term), (6, 6, 3))
        self.assertEqual(log.take()[0], (5, 3))
        log.persisted(old)
        self.assertEqual(log.persisted_index, 5)

    def test_reset_at_start(self) -> None:
        """A log that ends before the newest snapshot, or conflicts with it, is reset to it."""
        for last, terms in ((4, [(1, 1)]), (9, [(1, 1)])):
            log = RaftLog(7, 2, members(1), 1, last, terms)
            self.assertEqual(log.take()[0], (7, 2))
            self.assertEqual((log.first_index, log.last_index, log.persisted_index), (8, 7, 7))

    def test_gap_is_refused(self) -> None:
        """A log that begins after the entry behind the snapshot lacks entries."""
        self.assertRaises(LogError, RaftLog, 3, 1, members(1), 5, 9, [(5, 1)])

    def test_memory_is_bounded(self) -> None:
        """Durable entries leave the memory beyond the bound, others stay."""
        log = RaftLog()
        log.memory_bytes = 5000
        for index in range(1, 101):
            log.append(entry(index, 1, 100))
        first = log.take()[3]
        log.append(entry(101, 1, 100))
        self.assertIsNotNone(log.entries(1, 101, 1))
        log.persisted(first)
        self.assertIsNone(log.entries(1, 101, 1))
        self.assertIsNone(log.entries(80, 101, 1))
        tail = log.entries(90, 101, 10**6)
        assert tail is not None
        self.assertEqual([e.index for e in tail], list(range(90, 102)))
        self.assertEqual(log.term_at(1), 1)

    def test_entries_are_bounded(self) -> None:
        """At least one entry, and no more than the bytes asked for."""
        log = filled(*[1] * 9)
        size = entry(1, 1).size

        def found(bound: int) -> list[int]:
            return [e.index for e in log.entries(3, 9, bound) or []]

        self.assertEqual(found(0), [3])
        self.assertEqual(found(2 * size), [3, 4])
        self.assertEqual(found(2 * size + 1), [3, 4])
        self.assertEqual(found(10**6), [3, 4, 5, 6, 7, 8, 9])

    def test_compaction(self) -> None:
        """The term before the first entry stays known, those below do not."""
        log = filled(1, 1, 2, 2, 3)
        log.snapshot_taken(4, 2, members(1))
        self.assertEqual(log.term_at(1), 1)
        log.compacted(4)
        self.assertEqual([log.term_at(i) for i in range(2, 6)], [None, 2, 2, 3])
        self.assertIsNone(log.entries(3, 5, 100))
        self.assertIsNotNone(log.entries(4, 5, 100))
        self.assertEqual(log.run_start(4), 4)

    def test_configurations(self) -> None:
        """The newest counts from its append, and is gone when it is truncated."""
        log = filled(1)
        for index, ids in ((2, (1, 2)), (3, (1, 2, 3))):
            chunks = [members(*ids).encode()]
            log.append(make_entry(index, 1, CONFIGURATION, 0, 0, 0, chunks))
        self.assertEqual(log.configuration.voters, (1, 2, 3))
        self.assertEqual(log.configuration_at(2).voters, (1, 2))
        self.assertEqual(log.configuration_at(1), Configuration())
        log.truncate(3)
        self.assertEqual((log.configuration.voters, log.configuration.index), ((1, 2), 2))
        log.snapshot_taken(2, 1, log.configuration)
        self.assertEqual(log.configuration.voters, (1, 2))

    def test_time_never_goes_back(self) -> None:
        """The newest time seen is kept, also when its entry is truncated."""
        log = filled(1)
        log.append(entry(2, 1, time=500))
        log.truncate(2)
        self.assertEqual(log.last_time, 500)


class LogPropertyTests(SynchronousTestCase):
    """RaftLog against a plain list."""

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("atpsc"), st.integers(0, 20)), max_size=60))
    def test_as_a_list(self, operations: list[tuple[str, int]]) -> None:
        """Whatever is done, terms, bounds and entries are those of a list."""
        log = RaftLog()
        log.memory_bytes = 700
        plain: list[Entry] = []
        base, term, tickets = 0, 1, [0]
        for name, number in operations:
            if name == "a":
                term += number % 3 == 0
                plain.append(entry(len(plain) + 1, term, number))
                log.append(plain[-1])
            elif name == "t" and len(plain) > log.snapshot_index:
                index = log.snapshot_index + 1 + number % (len(plain) - log.snapshot_index)
                log.truncate(index)
                del plain[index - 1 :]
            elif name == "p":
                tickets.append(log.take()[3] or tickets[-1])
                log.persisted(tickets[number % len(tickets)])
            elif name == "s" and log.persisted_index > log.snapshot_index:
                index = log.persisted_index
                log.snapshot_taken(index, plain[index - 1].term, members(1))
            elif name == "c" and log.snapshot_index > base:
                base = log.snapshot_index
                log.compacted(base + 1)
            self.assertEqual((log.first_index, log.last_index), (base + 1, len(plain)))
            self.assertLessEqual(log.persisted_index, len(plain))
            for index in range(base + 1, len(plain) + 1):
                self.assertEqual(log.term_at(index), plain[index - 1].term)
                found = log.entries(index, len(plain), 10**6)
                if found is not None:
                    self.assertEqual(found, plain[index - 1 :])
                else:
                    self.assertLessEqual(index, log.persisted_index)
