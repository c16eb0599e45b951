"""Segments: entries are found again wherever they stand."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog
from finn.raft.entries import Entry
from finn.storage.records import SEGMENT_HEADER_SIZE, SegmentHeader, encode_mark
from finn.storage.segment import (
    MAX_OPEN,
    READ_CHUNK,
    STRIDE,
    Segment,
    SegmentReader,
    cut_front,
    make_segment,
    segment_number,
    segment_path,
)
from finn.testing.contract import sample_entry
from finn.testing.faulty import FaultyFiles


class SegmentTestCase(SynchronousTestCase):
    """On files in memory."""

    def setUp(self) -> None:
        self.files = FaultyFiles()
        self.files.makedirs("d")

    def fill(self, number: int, base: int, sizes: list[int]) -> tuple[Segment, list[Entry]]:
        """Write a segment with entries of these sizes, and a mark now and then."""
        segment = Segment(segment_path("d", number), SegmentHeader(number, base, 0, False, 77))
        file = make_segment(self.files, "d", segment)
        entries = []
        for index, size in enumerate(sizes, base + 1):
            if index % 3 == 0:
                file.write(encode_mark(77, segment.end, segment.end))
                segment.end += 40
            entry = sample_entry(index, 1, b"p" * (size + 1))
            segment.add(index, entry.size)
            file.write(entry.record)
            entries.append(entry)
        file.write(encode_mark(77, segment.end, segment.end))
        return segment, entries


class NameTests(SynchronousTestCase):
    """Names of segment files."""

    def test_names(self) -> None:
        """Numbers sort as text, and other files are no segments."""
        self.assertEqual(segment_path("d", 12), "d/00000012.log")
        self.assertEqual(segment_number("00000012.log"), 12)
        self.assertEqual(segment_number("123456789.log"), 123456789)
        for name in ("state", "00000012.log.tmp", "12.log", "0000001x.log", "00000012.log "):
            self.assertIsNone(segment_number(name))


class ReadTests(SegmentTestCase):
    """Reading back."""

    @given(
        st.lists(st.integers(0, 30_000), min_size=1, max_size=40),
        st.integers(1, 30),
        st.data(),
    )
    @settings(max_examples=40, deadline=None)
    def test_any_range(self, sizes: list[int], split: int, data: st.DataObject) -> None:
        """Whatever the sizes, a read gives what was written, within its bound."""
        self.setUp()
        one, first = self.fill(1, 0, sizes[:split])
        two, second = self.fill(2, len(first), sizes[split:])
        entries = first + second
        reader = SegmentReader(self.files)
        parts = [(one, one.last_index), (two, two.last_index)]
        begin = data.draw(st.integers(1, len(entries)))
        bound = data.draw(st.integers(0, 200_000))
        found = reader.read(parts, begin, bound)
        self.assertEqual(found, entries[begin - 1 : begin - 1 + len(found)])
        size = sum(entry.size for entry in found)
        self.assertTrue(size <= bound or len(found) == 1)
        rest = entries[begin - 1 + len(found) :]
        self.assertTrue(not rest or size + rest[0].size > bound)

    def test_positions_take_little_memory(self) -> None:
        """One is kept per stride, not per entry."""
        segment, _ = self.fill(1, 0, [100] * 5000)
        self.assertLess(len(segment._offsets), segment.end // STRIDE + 2)
        self.assertGreater(len(segment._offsets), 5)

    def test_few_files_stay_open(self) -> None:
        """Reading through a long log keeps a bounded number of files open."""
        parts = []
        for number in range(1, 4 * MAX_OPEN):
            segment, _ = self.fill(number, number - 1, [10])
            parts.append((segment, segment.last_index))
        reader = SegmentReader(self.files)
        self.assertEqual(len(reader.read(parts, 1, 1 << 30)), len(parts))
        self.assertEqual(len(reader._open), MAX_OPEN)
        reader.close()
        self.assertEqual(len(reader._open), 0)

    def test_a_read_that_goes_wrong_is_corruption(self) -> None:
        """An entry that is not where it was says so, with the file."""
        segment, _ = self.fill(1, 0, [10] * 5)
        self.files.open(segment.path).truncate(SEGMENT_HEADER_SIZE + 100)
        error = self.assertRaises(
            CorruptLog, SegmentReader(self.files).read, [(segment, 5)], 5, 1000
        )
        self.assertEqual(error.path, segment.path)


class CutFrontTests(SegmentTestCase):
    """Rewriting a segment without its first entries."""

    def test_any_base(self) -> None:
        """The entries behind the base stay, those before are gone, and all is found."""
        random = Random(3)
        sizes = [random.randrange(READ_CHUNK // 8) for _ in range(30)]
        for base in range(31):
            self.setUp()
            segment, entries = self.fill(4, 0, sizes)
            before = segment.end
            segment.become(cut_front(self.files, "d", segment, base, 1))
            self.assertEqual((segment.base_index, segment.header.void_before), (base, True))
            self.assertEqual(self.files.open(segment.path).size(), segment.end)
            self.assertLess(segment.end, before)
            if base < 30:
                found = SegmentReader(self.files).read([(segment, 30)], base + 1, 1 << 30)
                self.assertEqual(found, entries[base:])
