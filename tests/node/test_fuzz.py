"""Whole nodes against random sessions; ``python -m tests.fuzz`` runs many more of them."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.protocols.wire import Ping, StatusRequest, encode
from finn.raft.entries import COMMANDS, make_entry
from tests.integration.hostile import ATTACKS, COMMANDS_SEEN, GOOD
from tests.node.target import Target, lie

SEEN = [*COMMANDS_SEEN, *(b"".join(attack.data)[:5000] for attack in ATTACKS)]
WORDS = [
    b"SET", b"GET", b"MULTI", b"EXEC", b"WATCH", b"HELLO", b"AUTH", b"CLIENT", b"COMMAND", b"RESET",
    b"EXPIRE", b"LPUSH", b"SCAN", b"RAFTSTATS", b"CONFIG", b"fuzz1", b"secret", b"3", b"-1", b"\0",
    b"KILL", b"LIST", b"9" * 30, b"SKIPME", b"no",
]  # fmt: skip


def _packed(words: list[bytes]) -> bytes:
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n" % len(words) + parts


def _mutated(seen: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    data = bytearray(seen)
    for at, length, new in changes:
        at %= len(data) + 1
        data[at : at + length] = new
    return bytes(data)


commands = st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), min_size=1, max_size=6).map(
    _packed
)
changes = st.tuples(st.integers(0, 400), st.integers(0, 6), st.binary(max_size=6))
mutations = st.builds(_mutated, st.sampled_from(SEEN), st.lists(changes, max_size=4))
pieces = commands | mutations | st.sampled_from(SEEN) | st.binary(max_size=60)
sessions = st.lists(pieces, max_size=8)

small = st.integers(0, 8) | st.integers(0, 1 << 62)
record = make_entry(1, 1, COMMANDS, 1, 1, 1, [GOOD]).record
records = st.sampled_from([record, record[:-1], b"", bytes(200)]) | st.binary(max_size=120)
lies = st.builds(
    lie,
    st.sampled_from([b"A", b"a", b"V", b"v", b"T", b"S", b"O"]),
    st.lists(small, min_size=6, max_size=6),
    st.integers(0, 255),
    st.lists(records, max_size=2),
)
frames = (
    lies
    | st.sampled_from([encode(Ping()), encode(StatusRequest(1)), b"*0\r\n", b"*1\r\n$1\r\n"])
    | pieces
)


class SessionTests(SynchronousTestCase):
    """Each example is one session with a running cluster."""

    def setUp(self) -> None:
        self.target = Target()
        self.addCleanup(self.target.close)

    def tearDown(self) -> None:
        self.flushLoggedErrors()  # what may be logged, the target decides

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sessions, st.booleans())
    def test_clients(self, chunks: list[bytes], authenticated: bool) -> None:
        """Replies are RESP, nothing is done without AUTH, all others are served as before."""
        self.target.client(chunks, authenticated)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(frames, max_size=5), st.booleans(), st.booleans(), st.just("raft"))
    def test_members(self, chunks: list[bytes], known: bool, to_leader: bool, kind: Any) -> None:
        """Members that lie end no node, and the cluster serves after them."""
        self.target.member(chunks, known, to_leader, kind)
