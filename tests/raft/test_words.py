"""Tests of entries and configurations: what is written is read, anything else is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import ProtocolError
from finn.raft import Configuration, Member
from finn.raft.entries import COMMANDS, HEADER_SIZE, KINDS, decode_entry, make_entry
from tests.raft.host import members

u64 = st.integers(1, 2**64 - 1)


class EntryTests(SynchronousTestCase):
    """Entries and their records."""

    @given(u64, u64, st.sampled_from(KINDS), u64, u64, st.lists(st.binary(max_size=40), max_size=4))
    def test_round_trip(
        self, index: int, term: int, kind: int, time: int, seed: int, chunks: list[bytes]
    ) -> None:
        """A record has all of its entry."""
        made = make_entry(index, term, kind, time, seed, len(chunks), chunks)
        read = decode_entry(made.record)
        for field in ("index", "term", "kind", "time", "seed", "count", "payload"):
            self.assertEqual(getattr(read, field), getattr(made, field))
        self.assertEqual(read.payload, b"".join(chunks))
        self.assertEqual(read, made)
        self.assertEqual(hash(read), hash(made))
        self.assertEqual(read.size, HEADER_SIZE + len(read.payload))

    def test_damage(self) -> None:
        """Every byte counts."""
        record = make_entry(5, 3, COMMANDS, 9, 9, 1, [b"*1\r\n$4\r\nPING\r\n"]).record
        for at in range(len(record)):
            damaged = record[:at] + bytes([record[at] ^ 0x10]) + record[at + 1 :]
            self.assertRaises(ProtocolError, decode_entry, damaged)
            self.assertRaises(ProtocolError, decode_entry, record[:at])

    def test_nonsense(self) -> None:
        """A checksum does not make sense of nonsense."""
        for index, term, kind in ((0, 1, 1), (1, 0, 1), (1, 1, 9)):
            record = make_entry(index, term, kind, 0, 0, 0, []).record
            self.assertRaises(ProtocolError, decode_entry, record)

    def test_repr(self) -> None:
        """Logs show index, term and size."""
        text = repr(make_entry(5, 3, COMMANDS, 0, 0, 2, [b"xx"]))
        self.assertEqual(text, "<Entry 5^3 kind=1 count=2 50B>")


class ConfigurationTests(SynchronousTestCase):
    """Configurations."""

    def test_round_trip(self) -> None:
        """Members come back, sorted by id."""
        configuration = members(3, 1, learners=(2,))
        again = Configuration.decode(configuration.encode(), 7)
        self.assertEqual((again.members, again.index), (configuration.members, 7))
        self.assertEqual((again.voters, again.quorum), ((1, 3), 2))

    def test_nonsense(self) -> None:
        """Other bytes are refused."""
        for data in (b"", b"{}", b"[]", b'{"members": [1]}', b'{"members": [["x", "a", true]]}'):
            self.assertRaises(ProtocolError, Configuration.decode, data)

    def test_look_up(self) -> None:
        """By id and by address."""
        configuration = members(1, 2)
        self.assertEqual(configuration.by_address(":7482"), Member(2, ":7482"))
        self.assertIsNone(configuration.by_address(":1"))
        self.assertIsNone(configuration.get(9))
