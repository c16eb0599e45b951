"""Fastlog and damaged files: what is dropped, what is refused, and what the node is told."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog
from finn.options import Durability
from finn.raft.ready import HardState
from finn.storage.disk import ImmediateDisk
from finn.storage.fastlog import FastLog
from finn.storage.records import MARK_SIZE, SEGMENT_HEADER_SIZE
from finn.testing.contract import sample_entries, sample_entry
from finn.testing.faulty import FaultyFiles

FIRST = "data/log/00000001.log"
ENTRY = sample_entry(1).size


def store_over(files: FaultyFiles, clock: Clock | None = None, **more: Any) -> FastLog:
    """Make a store."""
    return FastLog(
        files,
        ImmediateDisk(),
        clock or Clock(),
        "data",
        Durability.MEDIUM,
        random=Random(1),
        **more,
    )


class DamageTestCase(SynchronousTestCase):
    """A log of ten entries, the first five known durable."""

    def setUp(self) -> None:
        files = FaultyFiles()
        clock = Clock()
        store = store_over(files, clock)
        self.successResultOf(store.open())
        store.append(sample_entries(1, 5))
        clock.advance(1)
        self.marked = store.log_bytes
        for index in range(6, 11):
            store.append([sample_entry(index)])
        self.data = files.read(FIRST)
        self.state = files.read("data/log/state")
        self.start = self.marked + MARK_SIZE
        self.assertEqual(len(self.data), self.start + 5 * ENTRY)

    def files(self, segment: bytes, name: str = FIRST) -> FaultyFiles:
        """Return files with this segment."""
        files = FaultyFiles()
        files.makedirs("data/log")
        for path, data in (("data/log/state", self.state), (name, segment)):
            files.create(path).write(data)
        return files

    def open(self, files: FaultyFiles) -> FastLog:
        """Open, expecting success."""
        store = store_over(files)
        self.assertIsNone(self.successResultOf(store.open()))
        return store

    def refused(self, files: FaultyFiles, path: str, offset: int) -> None:
        """Open, expecting this damage to be named."""
        error = self.failureResultOf(store_over(files).open(), CorruptLog).value
        self.assertEqual((error.path, error.offset), (path, offset))
        self.assertIn("join again", str(error))


class TailTests(DamageTestCase):
    """Damage in the last segment."""

    def test_any_cut_behind_the_mark(self) -> None:
        """The whole entries before the cut are kept, and the node is told."""
        for size in range(self.start, len(self.data)):
            store = self.open(self.files(self.data[:size]))
            whole, rest = divmod(size - self.start, ENTRY)
            self.assertEqual(store.last_index, 5 + whole)
            # A cut between two records is one that only the boot id can tell.
            self.assertEqual(store.dropped_tail, bool(rest))
            if rest:
                self.assertIn(f"dropped {rest} bytes", store.notice)
                self.assertIn(FIRST, store.notice)

    def test_any_cut_at_all(self) -> None:
        """Cut at any byte the log opens with a prefix, or is refused within its header."""
        for size in range(len(self.data)):
            files = self.files(self.data[:size])
            if size < SEGMENT_HEADER_SIZE:
                self.refused(files, FIRST, 0)
                continue
            store = self.open(files)
            entries = self.successResultOf(store.read(1, 1 << 20)) if store.last_index else []
            self.assertEqual(entries, sample_entries(1, store.last_index))

    def test_any_flipped_bit(self) -> None:
        """Before the mark it is refused by file and offset, behind it the tail is dropped."""
        ends = [SEGMENT_HEADER_SIZE + n * ENTRY for n in range(6)]
        for bit in range(8 * len(self.data)):
            damaged = bytearray(self.data)
            damaged[bit // 8] ^= 1 << bit % 8
            files = self.files(bytes(damaged))
            place = bit // 8
            if place < SEGMENT_HEADER_SIZE:
                self.refused(files, FIRST, 0)
            elif place < self.marked:
                self.refused(files, FIRST, max(end for end in ends if end <= place))
            else:
                store = self.open(files)
                self.assertTrue(store.dropped_tail)
                self.assertEqual(store.last_index, 5 + max(0, place - self.start) // ENTRY)

    def test_a_hole_before_good_records(self) -> None:
        """A page that was lost ends the log, though what follows is whole."""
        for index in range(5):
            damaged = bytearray(self.data)
            begin = self.start + index * ENTRY
            damaged[begin : begin + ENTRY] = bytes(ENTRY)
            store = self.open(self.files(bytes(damaged)))
            self.assertEqual((store.last_index, store.dropped_tail), (5 + index, True))

    def test_zeros_behind_the_end(self) -> None:
        """A file system may have made the file longer without writing it."""
        for size in (1, 39, 40, 48, 5000):
            store = self.open(self.files(self.data + bytes(size)))
            self.assertEqual((store.last_index, store.dropped_tail), (10, True))

    def test_after_a_clean_stop_nothing_is_dropped(self) -> None:
        """The last mark names everything: any damage is corruption then."""
        files = self.files(self.data)
        self.successResultOf(self.open(files).close())
        files.flip_bit(FIRST, len(self.data) - 1)
        self.refused(files, FIRST, len(self.data) - ENTRY)

    def test_the_trace_stays_until_the_first_change(self) -> None:
        """Killed before it noted its amnesia, the node learns of it again."""
        files = self.files(self.data[:-1])
        self.open(files)
        files = files.crash()
        store = self.open(files)
        self.assertTrue(store.dropped_tail)
        store.append([sample_entry(10, 2)])
        found = self.open(files.crash())
        self.assertFalse(found.dropped_tail)
        self.assertEqual(found.terms, [(1, 1), (10, 2)])

    def test_the_tail_is_dropped_by_every_kind_of_first_change(self) -> None:
        """Truncation, reset and compaction leave a log that opens without notice."""
        for change in ("truncate", "reset", "append", "shrink"):
            files = self.files(self.data[:-1])
            store = self.open(files)
            if change == "truncate":
                store.truncate_suffix(8)
            elif change == "reset":
                store.reset(20, 3)
            elif change == "shrink":
                store.compact(7)
                self.successResultOf(store.shrink())
            else:
                store.append([sample_entry(10)])
            self.assertFalse(self.open(files.crash()).dropped_tail, change)

    @given(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=200))
    @settings(max_examples=150, deadline=None)
    def test_any_rubbish_anywhere(self, place: int, rubbish: bytes) -> None:
        """Overwritten anywhere: refused, dropped with a notice, or nothing had changed."""
        self.setUp()
        damaged = bytearray(self.data)
        place %= len(damaged)
        damaged[place : place + len(rubbish)] = rubbish
        store = store_over(self.files(bytes(damaged)))
        results: list[Any] = []
        store.open().addBoth(results.append)
        if results != [None]:
            results[0].trap(CorruptLog)
        elif bytes(damaged) != self.data:
            self.assertTrue(store.dropped_tail)
            if bytes(damaged[self.marked : self.start]) == self.data[self.marked : self.start]:
                self.assertGreaterEqual(store.last_index, 5)


class SegmentsTests(DamageTestCase):
    """Several segments."""

    def setUp(self) -> None:
        super().setUp()
        self.many = FaultyFiles()
        store = store_over(self.many, segment_bytes=400)
        self.successResultOf(store.open())
        for index in range(1, 31):
            store.append([sample_entry(index)])
        self.names = [segment.path for segment in store._segments]
        self.base = store._segments[-1].base_index
        self.assertGreater(len(self.names), 4)

    def test_a_torn_segment_with_a_successor_is_corruption(self) -> None:
        """It was synced before the next one was made; only its last mark was not."""
        files = self.many.crash()
        file = files.open(self.names[1])
        end = file.size() - MARK_SIZE
        file.truncate(end - 1)
        self.refused(files, self.names[1], end - ENTRY)
        for size in range(end - 2, SEGMENT_HEADER_SIZE, -1):
            file.truncate(size)
            error = self.failureResultOf(store_over(files).open(), CorruptLog).value
            self.assertIn(error.path, self.names[1:3])

    def test_a_missing_segment_is_corruption(self) -> None:
        """One in the middle, or one that begins behind the end of the last."""
        files = self.many.crash()
        files.unlink(self.names[2])
        self.refused(files, self.names[2], 0)

    def test_a_segment_cut_between_records_is_corruption(self) -> None:
        """The successor begins too late then."""
        files = self.many.crash()
        file = files.open(self.names[1])
        file.truncate(file.size() - MARK_SIZE - ENTRY)
        self.refused(files, self.names[2], 0)

    def test_the_newest_segment_is_missing(self) -> None:
        """The one before says that it had a successor, whatever that was begun for."""
        for change in ("append", "truncate", "reset", "shrink"):
            files = self.many.crash()
            store = self.open(files)
            if change == "truncate":
                store.truncate_suffix(27)
            elif change == "reset":
                files.fail("unlink")
                store.reset(40, 3)
            elif change == "shrink":
                store.compact(29)
                self.successResultOf(store.shrink())
            files = files.crash()
            newest = [name for name in files.listdir("data/log") if name != "state"][-1]
            files.unlink(f"data/log/{newest}")
            self.assertTrue(len(files.listdir("data/log")) > 1, change)
            for _ in range(2):
                self.refused(files, f"data/log/{newest}", 0)

    def test_the_newest_segment_of_an_earlier_version_is_missing(self) -> None:
        """Nothing can tell, what is there is read; this version has not opened it before."""
        for opened in (False, True):
            files = self.many.crash()
            file = files.open(self.names[-2])
            file.truncate(file.size() - MARK_SIZE)
            if opened:
                self.open(files)
            files.unlink(self.names[-1])
            if opened:
                self.refused(files, self.names[-1], 0)
                continue
            store = self.open(files)
            self.assertEqual((store.last_index, store.dropped_tail), (self.base, False))

    def test_a_mark_of_a_successor_that_was_not_finished(self) -> None:
        """Whoever died while it was written lost nothing, and goes on, compaction included."""
        whole = self.many.read(self.names[1])
        end = len(whole) - MARK_SIZE
        for size in range(MARK_SIZE + 1):
            for rest in (whole[end : end + size], bytes(size)):
                files = self.many.crash()
                file = files.open(self.names[1])
                file.truncate(end)
                file.write(rest)
                store = self.open(files)
                self.assertEqual((store.last_index, store.dropped_tail), (30, False))
                first = store._segments[1].base_index + 2
                store.compact(first - 1)
                self.successResultOf(store.shrink())
                self.assertEqual(self.successResultOf(store.read(first, 1))[0].index, first)
                self.assertEqual(self.open(files.crash()).first_index, first)

    def test_the_mark_is_made_up_for(self) -> None:
        """The next start writes what a crash kept from the last segment but one."""
        whole = self.many.read(self.names[-2])
        end = len(whole) - MARK_SIZE
        for size in range(MARK_SIZE):
            files = self.many.crash()
            file = files.open(self.names[-2])
            file.truncate(end)
            file.write(whole[end : end + size])
            bytes_before = self.open(self.many.crash()).log_bytes
            self.assertEqual(self.open(files).log_bytes, bytes_before)
            for seed in range(3):
                self.assertEqual(files.power_cut(Random(seed)).read(self.names[-2]), whole)

    def test_segments_of_another_log(self) -> None:
        """A segment under a wrong number is refused."""
        files = self.many.crash()
        files.rename(self.names[1], self.names[2])
        self.refused(files, self.names[2], 0)

    def test_missing_state(self) -> None:
        """A log without term and vote would vote twice."""
        files = self.many.crash()
        files.unlink("data/log/state")
        self.refused(files, "data/log/state", 0)

    def test_missing_log(self) -> None:
        """Term and vote without a log are refused: the log was lost."""
        files = FaultyFiles()
        store = store_over(files)
        self.successResultOf(store.open())
        self.successResultOf(store.save_state(HardState(1, 1)))
        files.unlink(FIRST)
        self.refused(files, FIRST, 0)

    def test_leftovers_are_removed(self) -> None:
        """A segment that was being made is no segment."""
        files = self.many.crash()
        files.create("data/log/00000099.log.tmp").write(b"finn")
        store = self.open(files)
        self.assertEqual((store.last_index, store.dropped_tail), (30, False))
        self.assertFalse(files.exists("data/log/00000099.log.tmp"))

    def test_damage_found_by_a_read(self) -> None:
        """Bytes that rot while the node runs are not handed out."""
        files = self.many.crash()
        store = self.open(files)
        files.flip_bit(self.names[1], 200)
        error = self.failureResultOf(
            store.read(store._segments[1].base_index + 1, 1000), CorruptLog
        )
        self.assertEqual(error.value.path, self.names[1])

    def test_hostile_payload_is_no_mark(self) -> None:
        """A client cannot store bytes that turn a torn tail into corruption."""
        from finn.storage.records import encode_mark

        # Everything but the nonce is known to an attacker.
        forged = encode_mark(12345, 400, 300) * 20
        files = self.many.crash()
        store = self.open(files)
        store.append([sample_entry(31), sample_entry(32, 1, forged)])
        path = store._segments[-1].path
        place = files.read(path).rindex(b"INCR\r\n$8\r\n00000031")
        files = files.crash()
        files.flip_bit(path, place)
        found = self.open(files)
        self.assertEqual((found.last_index, found.dropped_tail), (30, True))
