"""Tests for finn.protocols.wire."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import ProtocolError
from finn.interfaces import SnapshotMeta
from finn.protocols import wire
from finn.protocols.frames import FrameReader
from finn.protocols.wire import (
    Forward,
    ForwardReply,
    Ping,
    Pong,
    SnapshotAccept,
    SnapshotAck,
    SnapshotChunk,
    SnapshotDone,
    SnapshotOffer,
    Status,
    StatusRequest,
    decode,
    decode_meta,
    encode,
    encode_cached,
    encode_meta,
)
from finn.raft.configuration import Configuration, Member
from finn.raft.entries import COMMANDS, NOOP, make_entry
from finn.raft.messages import AppendEntries, AppendReply, RequestVote, TimeoutNow, VoteReply

U64 = st.integers(0, 2**64 - 1)
TERM = st.integers(1, wire.TERM_LIMIT - 1)
INDEX = st.integers(0, wire.INDEX_LIMIT - 1)
FLAG = st.booleans()


@st.composite
def positions(draw: Any) -> tuple[int, int, int]:
    """A term, and an index with its term, that fit each other."""
    term = draw(TERM)
    index = draw(INDEX)
    return term, index, draw(st.integers(1, term)) if index else 0


@st.composite
def appends(draw: Any) -> AppendEntries:
    """AppendEntries as a leader makes them."""
    term, index, prev_term = draw(positions())
    entries = []
    at = prev_term
    for _ in range(draw(st.integers(0, 4))):
        index += 1
        at = draw(st.integers(max(at, 1), term))
        entries.append(
            make_entry(index, at, COMMANDS, draw(U64), draw(U64), 1, [draw(st.binary(max_size=50))])
        )
    prev = index - len(entries)
    return AppendEntries(term, prev, prev_term, draw(INDEX), draw(INDEX), entries, draw(FLAG))


def parts_of(message: Any) -> list[bytes]:
    """Encode and cut."""
    (parts,) = FrameReader(1 << 20, 100).feed(encode(message))
    return parts


def make_meta(**changes: Any) -> SnapshotMeta:
    members = Configuration((Member(1, "a:1"), Member(2, "b:2", False)), 3)
    fields: dict[str, Any] = {
        "index": 9,
        "term": 4,
        "time": 1700000000000,
        "configuration": members,
        "size": 100,
        "crc": 77,
        "machine": "kv",
        "version": 2,
        "id": "4-9-1700000000000",
    }
    return SnapshotMeta(**{**fields, **changes})


def fields_of(meta: SnapshotMeta) -> dict[str, Any]:
    return {name: getattr(meta, name) for name in SnapshotMeta.__slots__}


class RoundTrips(SynchronousTestCase):
    """What one side encodes the other decodes."""

    def check(self, message: Any) -> None:
        self.assertEqual(decode(parts_of(message)), message)

    @given(appends())
    def test_append_entries(self, message: AppendEntries) -> None:
        """Entries arrive as the records they were, with all of their fields."""
        self.check(message)

    @given(positions(), FLAG, FLAG, FLAG)
    def test_request_vote(self, at: tuple[int, int, int], a: bool, b: bool, c: bool) -> None:
        """Votes and pre-votes."""
        self.check(RequestVote(*at, a, b, c))

    @given(TERM, FLAG, FLAG, FLAG)
    def test_vote_reply(self, term: int, a: bool, b: bool, c: bool) -> None:
        """Answers to them."""
        self.check(VoteReply(term, a, b, c))

    @given(TERM, FLAG, st.tuples(INDEX, INDEX, INDEX, INDEX), FLAG)
    def test_append_reply(
        self, term: int, ok: bool, indexes: tuple[int, int, int, int], amnesic: bool
    ) -> None:
        """Answers to entries."""
        self.check(AppendReply(term, ok, *indexes, term - 1, amnesic))

    @given(U64, st.integers(0, 2), st.integers(0, 2**32 - 1), st.binary(min_size=1))
    def test_forward(self, request: int, level: int, deadline: int, command: bytes) -> None:
        """Commands for the leader."""
        self.check(Forward(request, level, deadline, command))

    @given(U64, st.integers(0, 2), st.binary())
    def test_forward_reply(self, request: int, outcome: int, payload: bytes) -> None:
        """And their outcomes."""
        self.check(ForwardReply(request, outcome, payload))

    @given(st.text(), st.text(), st.text(), U64)
    def test_status(self, state: str, address: str, leader: str, number: int) -> None:
        """How members are, in any words that UTF-8 can say."""
        self.check(Status(state, address, number, leader, number, number, number, number))

    @given(U64, st.integers(0, 2**32 - 1), st.binary())
    def test_chunks(self, offset: int, crc: int, data: bytes) -> None:
        """Pieces of snapshots."""
        self.check(SnapshotChunk(offset, crc, data))

    def test_the_rest(self) -> None:
        """Messages with little in them."""
        for message in (
            TimeoutNow(3),
            StatusRequest(2**64 - 1),
            SnapshotAccept(5, True),
            SnapshotAccept(2**64 - 1),
            SnapshotAck(7),
            SnapshotDone(True),
            SnapshotDone(False),
            Ping(),
            Pong(),
        ):
            self.check(message)

    def test_offers(self) -> None:
        """The meta of a snapshot, members included."""
        offer = decode(parts_of(SnapshotOffer(4, make_meta())))
        assert isinstance(offer, SnapshotOffer)
        self.assertEqual(offer.term, 4)
        self.assertEqual(fields_of(offer.meta), fields_of(make_meta()))

    def test_the_bytes_are_those_of_the_table(self) -> None:
        """One message byte by byte: the format must not change unnoticed."""
        entry = make_entry(6, 2, NOOP, 1, 2, 0, [])
        message = AppendEntries(3, 5, 2, 4, 9, [entry])
        self.assertEqual(
            encode(message),
            b"*3\r\n$1\r\nA\r\n$41\r\n"
            + struct.pack("<QQQQQB", 3, 5, 2, 4, 9, 0)
            + b"\r\n$48\r\n"
            + entry.record
            + b"\r\n",
        )


class Cache(SynchronousTestCase):
    """One object, one frame."""

    def test_the_same_message_is_encoded_once(self) -> None:
        """It goes to several peers."""
        message = TimeoutNow(5)
        self.assertIs(encode_cached(message), encode_cached(message))
        self.assertEqual(encode_cached(message), encode(message))

    def test_equal_messages_are_not_the_same(self) -> None:
        """Only identity is trusted, and only of objects that are alive."""
        for term in range(1, 100):
            self.assertEqual(encode_cached(TimeoutNow(term)), encode(TimeoutNow(term)))
        self.assertLessEqual(len(wire._cache), 4)


class Nonsense(SynchronousTestCase):
    """Whatever else arrives is a ProtocolError and nothing else."""

    def refuse(self, parts: list[bytes]) -> None:
        with self.assertRaises(ProtocolError):
            decode(parts)

    @given(st.lists(st.binary(max_size=60), max_size=6))
    def test_noise(self, parts: list[bytes]) -> None:
        """Arbitrary bulk strings."""
        try:
            decode(parts)
        except ProtocolError:
            pass

    @given(st.sampled_from(sorted(wire._DECODERS)), st.data())
    def test_headers_of_the_right_size(self, kind: bytes, data: st.DataObject) -> None:
        """Arbitrary values in every field, so that every check is reached."""
        _, size, count = wire._DECODERS[kind]
        parts = [kind, data.draw(st.binary(min_size=size, max_size=size))]
        parts += data.draw(st.lists(st.binary(max_size=80), max_size=3))[: count - 2]
        parts += [b"x"] * (count - len(parts))
        try:
            decode(parts)
        except ProtocolError:
            pass

    @given(appends(), st.integers(0, 10_000), st.integers(1, 255))
    def test_flipped_bits_in_records(self, message: AppendEntries, at: int, flip: int) -> None:
        """A record that was damaged on the way is found out."""
        parts = parts_of(message)
        for position in range(2, len(parts)):
            damaged = bytearray(parts[position])
            damaged[at % len(damaged)] ^= flip
            self.refuse([*parts[:position], bytes(damaged), *parts[position + 1 :]])

    def test_wrong_forms(self) -> None:
        """Types, counts and sizes that no message has."""
        for parts in ([], [b"A"], [b"?", b""], [b"T", b"1234567"], [b"T", bytes(8), b"more"]):
            self.refuse(parts)

    def test_nonsense_terms_and_indexes(self) -> None:
        """A term or index that could not be undone once believed."""
        for message in (
            RequestVote(0, 1, 1),
            RequestVote(wire.TERM_LIMIT, 1, 1),
            RequestVote(5, wire.INDEX_LIMIT, 1),
            RequestVote(5, 1, 6),
            RequestVote(5, 0, 1),
            RequestVote(5, 1, 0),
            VoteReply(0, True),
            VoteReply(2**64 - 1, True),
            TimeoutNow(0),
            AppendReply(0, True, 1, 1),
            AppendReply(1, True, wire.INDEX_LIMIT, 1),
            AppendReply(1, True, 1, wire.INDEX_LIMIT),
            AppendReply(1, False, 1, 0, 1, 1, wire.TERM_LIMIT),
            AppendEntries(0, 0, 0, 0, 1, []),
            AppendEntries(5, 3, 6, 0, 1, []),
            AppendEntries(5, 0, 1, 0, 1, []),
            AppendEntries(5, 1, 0, 0, 1, []),
            AppendEntries(5, 0, 0, wire.INDEX_LIMIT, 1, []),
            SnapshotOffer(3, make_meta(term=4)),
            SnapshotOffer(0, make_meta()),
        ):
            self.refuse(parts_of(message))

    def test_entries_out_of_place(self) -> None:
        """Gaps, repetitions, falling terms, and terms above the leader's."""
        for prev, prev_term, places in (
            (3, 1, [(5, 1)]),
            (3, 1, [(3, 1)]),
            (3, 1, [(4, 1), (4, 1)]),
            (3, 2, [(4, 1)]),
            (3, 2, [(4, 2), (5, 6)]),
            (3, 2, [(4, 3), (5, 2)]),
        ):
            entries = [make_entry(i, t, NOOP, 1, 1, 0, []) for i, t in places]
            self.refuse(parts_of(AppendEntries(5, prev, prev_term, 0, 1, entries)))

    def test_flags_nobody_knows(self) -> None:
        """A later version's flag must not be overlooked."""
        for message in (
            RequestVote(5, 1, 1),
            VoteReply(5, True),
            AppendReply(5, True, 1, 1),
            AppendEntries(5, 1, 1, 1, 1, []),
        ):
            kind, header = parts_of(message)
            self.refuse([kind, header[:-1] + b"\x40"])

    def test_values_out_of_range(self) -> None:
        """Levels, outcomes, texts."""
        self.refuse(parts_of(Forward(1, 3, 1, b"x")))
        self.refuse(parts_of(Forward(1, 1, 1, b"")))
        self.refuse(parts_of(ForwardReply(1, 3, b"x")))
        self.refuse([b"s", bytes(40), b"\xff", b"", b""])


class Metas(SynchronousTestCase):
    """A snapshot's meta comes from another node and becomes a directory."""

    def changed(self, **changes: Any) -> bytes:
        fields = json.loads(encode_meta(make_meta()))
        return json.dumps({**fields, **changes}).encode()

    def test_it_is_accepted_unchanged(self) -> None:
        """The changes below are what makes it refused."""
        self.assertEqual(fields_of(decode_meta(self.changed())), fields_of(make_meta()))

    def test_nonsense_is_refused(self) -> None:
        """Numbers that are none, names that lead elsewhere, members that cannot be."""
        for changes in (
            {"index": 0},
            {"index": "9"},
            {"index": 9.0},
            {"index": True},
            {"term": -4},
            {"size": -1},
            {"size": 2**60},
            {"crc": 2**32},
            {"time": float("inf")},
            {"version": None},
            {"configuration_index": 10},
            {"configuration": 5},
            {"configuration": {"members": [["x", "y"]]}},
            {"machine": 5},
            {"id": "../../etc-1-1"},
            {"id": "4-9-1700/../.."},
            {"id": "4-9"},
            {"id": ""},
            {"id": "4-9-1\n"},
            {"id": None},
        ):
            with self.assertRaises(ProtocolError, msg=str(changes)):
                decode_meta(self.changed(**changes))

    @given(st.binary(max_size=100))
    def test_noise_is_refused(self, data: bytes) -> None:
        """Bytes that are no JSON, or JSON that is no meta."""
        for noise in (data, b"[]", b"5", b"null", b"[" * 100_000):
            with self.assertRaises(ProtocolError):
                decode_meta(noise)
