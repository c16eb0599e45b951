"""The format of segment files: what is written is read, what is damaged is noticed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import BadRecord, CorruptLog, DataDirectoryError
from finn.raft.entries import CONFIGURATION
from finn.storage.records import (
    MARK,
    MARK_SIZE,
    SEGMENT_HEADER_SIZE,
    Scanned,
    SegmentHeader,
    decode_mark,
    encode_mark,
    last_mark,
    scan,
)
from finn.testing.contract import sample_configuration, sample_entry
from finn.testing.faulty import FaultyFile, FaultyFiles

NONCE = 0x1122334455667788
NUMBER = st.integers(0, (1 << 64) - 1)


def file_of(data: bytes) -> FaultyFile:
    """Return an open file of these bytes."""
    file = FaultyFiles().create("f")
    file.write(data)
    return file


def scan_all(data: bytes, offset: int = 0) -> tuple[list[Scanned], BadRecord | None]:
    """Scan bytes; return what was found and what ended it."""
    found: list[Scanned] = []
    try:
        for record in scan(file_of(data), len(data), offset, NONCE, 0, 0):
            found.append(record)
    except BadRecord as e:
        return found, e
    return found, None


def sample_records() -> tuple[bytes, list[int]]:
    """Return records of all kinds and the offsets where they end."""
    pieces: list[bytes] = []
    ends = [0]
    for index in range(1, 8):
        if index in (3, 6):
            pieces.append(encode_mark(NONCE, ends[-1], ends[-2]))
            ends.append(ends[-1] + MARK_SIZE)
        entry = sample_entry(index, 1 + index // 4, b"x" * (index * 13 % 50))
        if index == 5:
            entry = sample_configuration(5, 2, 7)
        pieces.append(entry.record)
        ends.append(ends[-1] + entry.size)
    return b"".join(pieces), ends


class HeaderTests(SynchronousTestCase):
    """The header of a segment."""

    @given(NUMBER, NUMBER, NUMBER, st.booleans(), NUMBER)
    def test_round_trip(self, number: int, base: int, term: int, void: bool, nonce: int) -> None:
        """All fields come back."""
        data = SegmentHeader(number, base, term, void, nonce).encode()
        self.assertEqual(len(data), SEGMENT_HEADER_SIZE)
        header = SegmentHeader.decode(data, "p")
        self.assertEqual(
            (header.number, header.base_index, header.base_term, header.void_before, header.nonce),
            (number, base, term, void, nonce),
        )

    def test_every_bit_counts(self) -> None:
        """A header with any bit flipped is refused, with file and offset."""
        data = SegmentHeader(1, 2, 3, True, 4).encode()
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            error = self.assertRaises(CorruptLog, SegmentHeader.decode, bytes(damaged), "a/b.log")
            self.assertIn("a/b.log is damaged at offset 0", str(error))
        for size in range(len(data)):
            self.assertRaises(CorruptLog, SegmentHeader.decode, data[:size], "p")

    def test_unknown_version(self) -> None:
        """A version of the future is refused as such, not as damage."""
        from zlib import crc32

        data = bytearray(SegmentHeader(1, 2, 3, True, 4).encode())
        data[12] = 2
        data[8:12] = crc32(data[12:]).to_bytes(4, "little")
        error = self.assertRaises(DataDirectoryError, SegmentHeader.decode, bytes(data), "p")
        self.assertIn("format version 2", str(error))


class MarkTests(SynchronousTestCase):
    """Sync marks."""

    def test_a_mark_belongs_to_its_segment_and_place(self) -> None:
        """The same bytes elsewhere are no mark."""
        data = encode_mark(NONCE, 500, 400)
        self.assertEqual(len(data), MARK_SIZE)
        self.assertEqual(decode_mark(data, NONCE, 500), 400)
        self.assertIsNone(decode_mark(data, NONCE + 1, 500))
        self.assertIsNone(decode_mark(data, NONCE, 540))
        self.assertIsNone(decode_mark(data[:-1], NONCE, 500))
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            self.assertIsNone(decode_mark(bytes(damaged), NONCE, 500))

    def test_search_finds_marks_behind_anything(self) -> None:
        """The highest durable offset is found in the midst of rubbish."""
        rubbish = b"sync" * 1000
        position = len(rubbish)
        data = rubbish + encode_mark(NONCE, position, 77) + rubbish
        for offset in (0, 5, position):
            self.assertEqual(last_mark(file_of(data), len(data), offset, NONCE), 77)
        self.assertEqual(last_mark(file_of(data), len(data), position + 1, NONCE), 0)

    def test_search_finds_marks_at_the_seams_of_its_pieces(self) -> None:
        """A mark across two pieces of the search is not missed."""
        from finn.storage.records import CHUNK

        for begin in range(CHUNK - MARK_SIZE - 1, CHUNK + 2):
            data = bytes(begin) + encode_mark(NONCE, begin, 9)
            self.assertEqual(last_mark(file_of(data), len(data), 0, NONCE), 9)


class ScanTests(SynchronousTestCase):
    """Reading records."""

    def test_scan_finds_all(self) -> None:
        """Entries and marks come in order with offsets and sizes."""
        data, ends = sample_records()
        found, bad = scan_all(data)
        self.assertIsNone(bad)
        self.assertEqual([r[0] for r in found], ends[:-1])
        self.assertEqual([r[0] + r[1] for r in found], ends[1:])
        self.assertEqual([r[4] for r in found if r[2] != MARK], list(range(1, 8)))
        (configuration,) = (r for r in found if r[2] == CONFIGURATION)
        self.assertEqual(configuration[6], sample_configuration(5, 2, 7).record)

    def test_any_cut_is_noticed(self) -> None:
        """Cut at any byte: the whole records before are found, the rest is named by its offset."""
        data, ends = sample_records()
        for size in range(len(data)):
            found, bad = scan_all(data[:size])
            whole = [end for end in ends if end <= size]
            self.assertEqual(len(found), len(whole) - 1)
            if size in ends:
                self.assertIsNone(bad)
            else:
                assert bad is not None
                self.assertEqual(bad.offset, whole[-1])

    def test_any_flipped_bit_is_noticed(self) -> None:
        """Flip any bit: the scan ends at the record it is in."""
        data, ends = sample_records()
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            _, bad = scan_all(bytes(damaged))
            assert bad is not None, bit
            self.assertEqual(bad.offset, max(end for end in ends if end <= bit // 8))

    @given(st.binary(max_size=300))
    @settings(max_examples=200)
    def test_rubbish_is_refused(self, data: bytes) -> None:
        """Any bytes behind good records end the scan, without harm and without reading on."""
        good, ends = sample_records()
        found, bad = scan_all(good + data)
        self.assertEqual(len(found), len(ends) - 1)
        self.assertEqual(bad is None, not data)

    def test_indexes_and_terms_must_continue(self) -> None:
        """A good record in the wrong place is a bad one."""
        for second in (sample_entry(3), sample_entry(1)):
            _, bad = scan_all(sample_entry(1).record + second.record)
            assert bad is not None
            self.assertIn("belongs", bad.reason)
        _, bad = scan_all(sample_entry(1, 5).record + sample_entry(2, 4).record)
        assert bad is not None
        self.assertIn("term 4 stands behind term 5", bad.reason)

    def test_long_records(self) -> None:
        """A record longer than the read-ahead is read whole."""
        entries = [sample_entry(1), sample_entry(2, 1, bytes(3_000_000)), sample_entry(3)]
        found, bad = scan_all(b"".join(entry.record for entry in entries))
        self.assertIsNone(bad)
        self.assertEqual([r[1] for r in found], [entry.size for entry in entries])

    def test_a_length_beyond_the_file_is_not_believed(self) -> None:
        """A damaged length does not make the scan reserve memory."""
        data = bytearray(sample_entry(1).record)
        data[4:8] = b"\xff\xff\xff\xff"
        _, bad = scan_all(bytes(data))
        assert bad is not None
        self.assertEqual(bad.reason, "the record is cut short")
