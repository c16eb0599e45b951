"""Tests for finn.protocols.frames."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.protocols.frames import LARGE, OPENING, FrameReader
from finn.protocols.wire import OPENINGS, encode, frame
from finn.raft.entries import COMMANDS, make_entry
from finn.raft.messages import AppendEntries, AppendReply

PARTS = st.one_of(
    st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    # Beginnings that the reader is told of.
    st.tuples(st.just(b"A"), st.binary(min_size=41, max_size=41)).map(list),
    st.tuples(st.just(b"A"), st.binary(min_size=41, max_size=41), st.binary()).map(list),
    st.tuples(st.just(b"a"), st.binary(min_size=49, max_size=49)).map(list),
)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at positions taken modulo its length."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


class Frames(SynchronousTestCase):
    def read(self, *chunks: bytes) -> tuple[list[list[bytes]], str | None]:
        reader = FrameReader(1000, 10)
        frames = [got for chunk in chunks for got in reader.feed(chunk)]
        told = FrameReader(1000, 10, OPENINGS)
        self.assertEqual([got for chunk in chunks for got in told.feed(chunk)], frames)
        self.assertEqual(told.error, reader.error)
        return frames, reader.error

    def test_the_openings_are_those_of_the_commonest_messages(self) -> None:
        """Whole, so that nothing of them is taken apart."""
        entry = make_entry(1, 1, COMMANDS, 1, 1, 1, [b"x"])
        for message in (
            AppendEntries(1, 0, 0, 0, 1, []),
            AppendEntries(1, 0, 0, 0, 1, [entry]),
            AppendReply(1, True, 1, 1),
        ):
            data = encode(message)
            kind, missing, size = OPENINGS[data[:OPENING]]
            (parts,) = FrameReader(1000, 10).feed(data)
            self.assertEqual((kind, missing, size), (parts[0], len(parts) - 1, len(parts[1])))
            self.assertEqual(self.read(data), ([parts], None))

    @given(st.lists(PARTS, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
    def test_cuts_do_not_matter(self, frames: list[list[bytes]], cuts: list[int]) -> None:
        """Whatever was framed comes back, however its bytes are cut."""
        data = b"".join(map(frame, frames))
        self.assertEqual(self.read(*chunked(data, cuts)), (frames, None))

    def test_large_ones(self) -> None:
        """They are joined of their pieces, wherever these end, and what is behind them is read."""
        large = bytes(range(256)) * (LARGE // 256) + b"end"
        frames = [[b"C", large], [b"x", large, b"y"], [b"z"]]
        data = b"".join(map(frame, frames))
        for begin in (0, 4, 20, 40):
            for end in range(len(large) - 8, len(large) + 40):
                pieces = [data[:begin], data[begin:9000], data[9000:end], data[end:]]
                reader = FrameReader(1 << 20, 10)
                found = [got for piece in pieces if piece for got in reader.feed(piece)]
                self.assertEqual((found, reader.error), (frames, None))
        reader = FrameReader(1 << 20, 10)
        broken = data.replace(b"end\r\n", b"end\n\n", 1)
        self.assertEqual((reader.feed(broken[:9000]), reader.error), ([], None))
        self.assertEqual(reader.feed(broken[9000:]), [])
        self.assertEqual(reader.error, "a bulk string without its end")

    @given(st.lists(PARTS, max_size=5))
    def test_one_byte_at_a_time(self, frames: list[list[bytes]]) -> None:
        """Nor a byte at a time."""
        data = b"".join(map(frame, frames))
        self.assertEqual(self.read(*[bytes([byte]) for byte in data]), (frames, None))

    @given(st.lists(st.binary(max_size=60)), PARTS)
    def test_noise_gives_frames_or_an_error(self, noise: list[bytes], good: list[bytes]) -> None:
        """Any bytes: no exception, bounded memory, and only lists of bytes come out."""
        reader = FrameReader(200, 10)
        for chunk in [frame(good), *noise]:
            for got in reader.feed(chunk):
                self.assertTrue(all(type(part) is bytes for part in got))
                self.assertLessEqual(sum(map(len, got)), 200)

    @given(PARTS, st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4))
    def test_mutations_are_read_alike_in_any_cut(
        self, parts: list[bytes], changes: list[tuple[int, int]]
    ) -> None:
        """A damaged frame means the same whole as byte by byte."""
        data = bytearray(frame(parts) * 2)
        for position, byte in changes:
            data[position % len(data)] = byte
        whole = self.read(bytes(data))
        single = self.read(*[bytes([byte]) for byte in data])
        self.assertEqual(whole[0], single[0])
        self.assertEqual(whole[1] is None, single[1] is None)

    def test_what_is_no_frame_is_refused(self) -> None:
        """Nothing but arrays of bulk strings within the limits."""
        for data in (
            b"PING\r\n",
            b"+OK\r\n",
            b"\r\n",
            b"*\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*11\r\n",
            b"*1\n$1\r\nx\r\n12345678",
            b"*1_0\r\n",
            b"*+1\r\n",
            b"*1000000000000\r\n",
            b"*1\r\n*1\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$1001\r\n",
            b"*2\r\n$600\r\n" + b"x" * 600 + b"\r\n$401\r\n",
            b"*1\r\n$1\r\nxyz",
            b"*1\r\n$999999999999999\r\n",
        ):
            self.assertIsNotNone(self.read(data)[1], data)
            self.assertIsNotNone(self.read(*[bytes([b]) for b in data])[1], data)
            frames, error = self.read(frame([b"good"]) + data)
            self.assertEqual(frames, [[b"good"]])
            self.assertIsNotNone(error, data)

    def test_nothing_is_read_after_an_error(self) -> None:
        """A broken link has no meaning any more."""
        reader = FrameReader(100, 10)
        reader.feed(b"junk")
        self.assertEqual(reader.feed(frame([b"x"])), [])

    def test_frames_can_be_taken_one_by_one(self) -> None:
        """The rest may belong to another reader."""
        reader = FrameReader(100, 10)
        self.assertEqual(reader.feed(frame([b"a"]) + frame([b"b"]), 1), [[b"a"]])
        self.assertEqual(reader.take_rest(), frame([b"b"]))
        self.assertEqual(reader.take_rest(), b"")

    def test_a_large_part_is_joined_once(self) -> None:
        """A reader that waits for many bytes does nothing for each chunk of them."""
        reader = FrameReader(10_000_000, 10)
        data = frame([b"x" * 1_000_000])
        for at in range(0, len(data) - 1000, 1000):
            self.assertFalse(reader.feed(data[at : at + 1000]))
            self.assertGreaterEqual(len(reader._pieces), at // 1000)
