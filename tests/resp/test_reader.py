"""The fast reader: as the strict parser, only faster; its raw bytes are what followers read."""

from __future__ import annotations

import hiredis
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import ProtocolError
from finn.resp.reader import WINDOW, CommandReader, ReaderLimits, parse_commands
from finn.resp.replies import pack_command
from finn.resp.strict import StrictParser

PING = pack_command([b"PING"])
SET = pack_command([b"SET", b"key", b"value"])


class CommandReaderTests(SynchronousTestCase):
    def read(self, data: bytes) -> tuple[list[list[bytes]], bytes | None, str | None]:
        """Read one chunk."""
        reader = CommandReader()
        commands, raw = reader.feed(data)
        return commands, raw, reader.error

    def test_whole_chunks_are_raw(self) -> None:
        """A chunk of complete commands is its own encoding, however many there are."""
        for count in (1, 2, 3, 4, 5, 64, 3000):
            commands, raw, _ = self.read(SET * count)
            self.assertEqual(commands, [[b"SET", b"key", b"value"]] * count)
            self.assertEqual(raw, SET * count)

    def test_any_value_may_be_raw(self) -> None:
        """Line ends and signs in values take another proof, to the same effect."""
        for value in (
            b"",
            b"\r\n",
            b"+",
            b"~10",
            b"100%25",
            b"*1\r\n$1\r\na\r\n",
            b"$",
            bytes(range(256)),
        ):
            for count in (1, 10):
                data = pack_command([b"SET", b"k", value]) * count
                self.assertEqual(self.read(data), ([[b"SET", b"k", value]] * count, data, None))

    def test_an_incomplete_command_waits(self) -> None:
        """What is complete is returned with its bytes, the rest with the next chunk."""
        for cut in range(1, len(SET)):
            reader = CommandReader()
            self.assertEqual(reader.feed(PING * 5 + SET[:cut]), ([[b"PING"]] * 5, PING * 5))
            commands, raw = reader.feed(SET[cut:] + PING * 7)
            self.assertEqual(commands, [[b"SET", b"key", b"value"]] + [[b"PING"]] * 7)
            self.assertEqual(raw, SET + PING * 7)

    def test_nothing_complete_is_nothing(self) -> None:
        """No command, no bytes."""
        self.assertEqual(CommandReader().feed(SET[:10]), ([], None))
        self.assertEqual(CommandReader().feed(b""), ([], None))

    def test_inline_commands_are_not_raw(self) -> None:
        """They have to be packed for the log."""
        self.assertEqual(self.read(b"PING\r\n"), ([[b"PING"]], None, None))
        commands, raw, _ = self.read(PING + b"GET a\r\n" + PING)
        self.assertEqual(commands, [[b"PING"], [b"GET", b"a"], [b"PING"]])
        self.assertIsNone(raw)
        reader = CommandReader()
        reader.feed(b"PI")
        self.assertEqual(reader.feed(b"NG\r\n" + PING * 5), ([[b"PING"]] * 6, None))

    def test_what_hiredis_would_accept_is_refused(self) -> None:
        """A command is a non-empty list of bulks with their line ends, nothing else."""
        for data in (
            b"*0\r\n",
            b"*-1\r\n",
            b"*1\r\n+PING\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n_\r\n",
            b"*1\r\n#f\r\n",
            b"*1\r\n,1.5\r\n",
            b"*1\r\n(123\r\n",
            b"*1\r\n=7\r\ntxt:abc\r\n",
            b"*1\r\n*1\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\r\nPINGXX",
            b"*2\r\n$2\r\n\r\n\r\n$1\r\naXX",  # as many line ends as it should have
            b"*1\r\n~1\r\n$4\r\nPING\r\n",
        ):
            for before in (0, 1, 10):
                for after in (0, 1, 10):
                    commands, raw, error = self.read(PING * before + data + PING * after)
                    self.assertEqual(commands, [[b"PING"]] * before, data)
                    self.assertIn(raw, (None, PING * before))
                    self.assertIsNotNone(error, data)

    def test_other_types_are_lines(self) -> None:
        """At the beginning of a command ``#f``, a map or a push are words of an inline command."""
        for data in (b"#f\r\n", b"%0\r\n", b">1\r\n", b"~0\r\n", b"|0\r\n", b"$4\r\n", b"_\r\n"):
            self.assertEqual(self.read(PING * 9 + data)[0], [[b"PING"]] * 9 + [[data[:-2]]])

    def test_commands_before_an_error_are_returned(self) -> None:
        """In a pipeline, what is sound comes first."""
        reader = CommandReader()
        self.assertEqual(
            reader.feed(SET * 10 + b"*x\r\n" + SET)[0], [[b"SET", b"key", b"value"]] * 10
        )
        self.assertEqual(reader.error, "Protocol error: invalid multibulk length")
        self.assertEqual(reader.feed(SET), ([], None))

    def test_hiredis_is_never_asked_to_reserve_much(self) -> None:
        """Headers that promise more than the chunk can hold do not reach hiredis."""
        fed: list[bytes] = []

        class Spy(hiredis.Reader):
            def feed(self, data: bytes, *where: int) -> None:
                fed.append(data)
                super().feed(data, *where)

        self.patch(hiredis, "Reader", Spy)
        for header in (b"*1000000\r\n", b"*999\r\n", b"~4294967295\r\n", b"|999\r\n", b">100\r\n"):
            CommandReader().feed(PING * 10 + b"*1\r\n" + header + b"*2\r\n" * 10)
        CommandReader().feed(b"*2\r\n$0\r\n\r\n*500\r\n" * 100)
        self.assertEqual(fed, [])
        many = pack_command([b"MGET"] + [b"key"] * 999)
        CommandReader().feed(many)
        self.assertEqual(b"".join(fed[:1]), many)

    def test_limits_hold_for_pipelines(self) -> None:
        """Small limits, as before authentication, are kept in the fast path too."""
        reader = CommandReader(ReaderLimits(arguments=2, command_bytes=100))
        self.assertEqual(reader.feed(PING * 10)[0], [[b"PING"]] * 10)
        self.assertEqual(reader.feed(SET)[0], [])
        self.assertIsNotNone(reader.error)

    def test_limits_can_be_raised(self) -> None:
        """As once a client has authenticated, even within an incomplete command."""
        reader = CommandReader(ReaderLimits(arguments=2))
        reader.feed(PING + b"*1")
        reader.set_limits(ReaderLimits())
        self.assertEqual(
            reader.feed(b"\r\n$1\r\na\r\n" + SET)[0], [[b"a"], [b"SET", b"key", b"value"]]
        )

    def test_rest_can_be_taken(self) -> None:
        """A connection that becomes a link loses no byte."""
        for cut in range(len(SET)):
            reader = CommandReader()
            reader.feed(PING + SET[:cut])
            self.assertEqual(reader.take_rest(), SET[:cut])
            self.assertEqual(reader.feed(SET)[1], SET)


class ParseCommandsTests(SynchronousTestCase):
    def test_payload_behind_a_header(self) -> None:
        """The payload is parsed in place, in windows, whatever its size."""
        for count in (1, 2, WINDOW // len(SET), WINDOW // len(SET) + 1, 5000):
            record = b"header" + SET * count
            found = parse_commands(record, 6, count)
            self.assertEqual(list(found), [[b"SET", b"key", b"value"]] * count)

    def test_nonsense_is_refused(self) -> None:
        """A wrong count, a torn or malformed payload; the next one is not disturbed."""
        for payload, count in (
            (SET * 2, 1),
            (SET * 2, 3),
            (SET + SET[:-1], 1),
            (SET + b"*1\r\n", 1),
            (b"x", 1),
            (b"*x\r\n", 1),
            (b"", 1),
        ):
            with self.assertRaises(ProtocolError):
                parse_commands(payload, 0, count)
            self.assertEqual(len(parse_commands(SET, 0, 1)), 1)


signs = st.sampled_from(
    [b"", b"\r", b"\n", b"\r\n", b"$", b"*", b"+", b"=", b"(", b"~", b"|", b"\r\n$1\r\na\r\n",
     b"*3\r\n", b"*1\r\n$4\r\nPING\r\n", b"~999", b"*12345678", b"abc", b"\0\xff", b"x" * 300]
)  # fmt: skip
values = st.lists(signs, max_size=4).map(b"".join)
commands = st.lists(values, min_size=1, max_size=5)
nonsense = st.sampled_from(
    [b"*1\r\n+PING\r\n", b"*2\r\n$1\r\na\r\n:1\r\n", b"*1\r\n$1\r\naXY", b"=5\r\ntxt:a\r\n",
     b"*1\r\n=5\r\ntxt:a\r\n", b"*1\r\n*1\r\n$1\r\na\r\n", b"*0\r\n", b"*-1\r\n", b"*1\r\n$-1\r\n",
     b"~1\r\n$1\r\na\r\n", b"|1\r\n+a\r\n+b\r\n", b"%1\r\n$1\r\na\r\n$1\r\nb\r\n", b"#f\r\n",
     b"*2147483648\r\n", b"PING\r\n", b"\r\n", b'SET "a b" c\n', b"$0\r\n\r\n", b"*1\r\n$1\r\na$$",
     b"*1\r\n=7\r\n\r\n\r\nabc\r\n", b"*2\r\n$3\r\nab", b"*"]
)  # fmt: skip
streams = st.lists(
    st.one_of(
        commands.map(pack_command),
        commands.map(pack_command),
        st.lists(st.just(SET), min_size=4, max_size=8).map(b"".join),
        nonsense,
    ),
    max_size=8,
).map(b"".join)


class FuzzTests(SynchronousTestCase):
    @settings(max_examples=2000, deadline=None)
    @given(streams, st.lists(st.integers(1, 400), max_size=12))
    def test_reader_equals_grammar_and_followers(self, stream: bytes, cuts: list[int]) -> None:
        """In any chunks: the commands of the grammar, and raw bytes that followers read as they."""
        oracle = StrictParser(ReaderLimits())
        expected = oracle.feed(stream)
        reader = CommandReader()
        found: list[list[bytes]] = []
        at = 0
        for size in [*cuts, len(stream)]:
            parsed, raw = reader.feed(stream[at : at + size])
            at += size
            found += parsed
            if raw is not None:
                self.assertEqual(raw, b"".join(map(pack_command, parsed)))
                again = parse_commands(b"12345" + raw, 5, len(parsed))
                self.assertEqual(list(again), list(parsed))
        self.assertEqual(found, expected)
        self.assertEqual(reader.error, oracle.error)

    @settings(max_examples=100, deadline=None)
    @given(streams)
    def test_one_byte_at_a_time(self, stream: bytes) -> None:
        """The slowest client is understood as well."""
        oracle = StrictParser(ReaderLimits())
        expected = oracle.feed(stream)
        reader = CommandReader()
        found = []
        for at in range(len(stream)):
            found += reader.feed(stream[at : at + 1])[0]
        self.assertEqual((found, reader.error), (expected, oracle.error))
