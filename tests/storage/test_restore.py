"""Reading a snapshot ahead of the machine."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.interfaces import IReader, SnapshotMeta
from finn.raft.configuration import Configuration
from finn.storage.memsnapshots import MemorySource
from finn.storage.restore import READ_BYTES, SnapshotReader, open_reader


class SlowSource(MemorySource):
    """Counts the reads that block, and answers others when told to."""

    def __init__(self, state: bytes) -> None:
        super().__init__(SnapshotMeta(1, 1, 1, Configuration(), len(state)), state)
        self.blocked = 0
        self.waiting: list[Deferred[None]] = []

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting.addCallback(lambda _: super(SlowSource, self).read_now(offset, size))

    def read_now(self, offset: int, size: int) -> bytes:
        self.blocked += 1
        return super().read_now(offset, size)

    def answer(self) -> None:
        """Answer all reads, those that follow too."""
        while self.waiting:
            self.waiting.pop(0).callback(None)


class SnapshotReaderTests(SynchronousTestCase):
    """With and without prefetching."""

    def test_provides_the_interface(self) -> None:
        """It is what machines read from."""
        verifyObject(IReader, open_reader(SlowSource(b"")))

    def test_prefetched_bytes_do_not_block(self) -> None:
        """What was prefetched is read without the disk, across several pieces of it."""
        state = Random(1).randbytes(3 * READ_BYTES + 17)
        source = SlowSource(state)
        reader = SnapshotReader(source)
        found = []
        while not reader.at_end:
            ready = reader.prefetch(100_000)
            source.answer()
            self.successResultOf(ready)
            self.assertTrue(reader.buffered >= 100_000 or reader.buffered < READ_BYTES)
            found.append(reader.read(min(99_000, reader.buffered)))
        self.assertEqual((b"".join(found), source.blocked), (state, 0))
        self.assertEqual(reader.read(5), b"")

    def test_reading_beyond_the_buffer_blocks_but_works(self) -> None:
        """A machine that reads everything at once gets it."""
        source = SlowSource(bytes(1000) + b"end")
        self.assertEqual(len(SnapshotReader(source).read()), 1003)
        reader = SnapshotReader(source)
        ready = reader.prefetch(10)
        source.answer()
        self.successResultOf(ready)
        self.assertEqual(reader.read(1000) + reader.read(), bytes(1000) + b"end")

    def test_no_read_while_a_prefetch_runs(self) -> None:
        """That would mix up the order of the bytes: it is a bug of the caller."""
        source = SlowSource(bytes(100))
        reader = SnapshotReader(source)
        ready = reader.prefetch(10)
        self.assertRaises(AssertionError, reader.read, 20)
        self.failureResultOf(reader.prefetch(20), AssertionError)
        source.answer()
        self.successResultOf(ready)
        self.assertEqual(reader.read(20), bytes(20))

    @given(st.binary(max_size=200), st.lists(st.tuples(st.booleans(), st.integers(-1, 60))))
    def test_any_sequence_of_reads(self, state: bytes, steps: list[tuple[bool, int]]) -> None:
        """Whatever is read and prefetched, the bytes come once and in order."""
        source = SlowSource(state)
        reader = SnapshotReader(source)
        found = b""
        for is_prefetch, size in steps:
            if is_prefetch:
                ready = reader.prefetch(size)
                source.answer()
                self.successResultOf(ready)
            else:
                piece = reader.read(size)
                rest = len(state) - len(found)
                self.assertEqual(len(piece), rest if size < 0 else min(size, rest))
                found += piece
        self.assertEqual(found + reader.read(), state)
        self.assertTrue(reader.at_end)
