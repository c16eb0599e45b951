"""Tests for finn.raft.entries."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.raft.entries import COMMANDS, HEADER_SIZE, LARGE_CHUNK, decode_entry, make_entry


class EntryTests(SynchronousTestCase):
    @given(st.integers(0, 3 * LARGE_CHUNK), st.lists(st.integers(0, 3 * LARGE_CHUNK), max_size=5))
    def test_chunks_do_not_matter(self, size: int, cuts: list[int]) -> None:
        """However the payload is cut, and however large the pieces are, it is one record."""
        payload = (bytes(range(256)) * (size // 256 + 1))[:size]
        places = [0, *sorted(min(cut, size) for cut in cuts), size]
        chunks = [payload[begin:end] for begin, end in pairwise(places)]
        entry = make_entry(7, 3, COMMANDS, 99, 5, 2, chunks)
        self.assertEqual(entry.record, make_entry(7, 3, COMMANDS, 99, 5, 2, [payload]).record)
        self.assertEqual(entry.record[HEADER_SIZE:], payload)
        self.assertEqual(decode_entry(entry.record).record, entry.record)
