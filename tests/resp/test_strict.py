"""The grammar of requests, byte by byte."""

from __future__ import annotations

import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.resp.replies import pack_command
from finn.resp.strict import ReaderLimits, StrictParser, split_inline


def parse(data: bytes, limits: ReaderLimits | None = None) -> tuple[list[list[bytes]], str | None]:
    """Parse bytes in one piece."""
    parser = StrictParser(limits or ReaderLimits())
    return parser.feed(data), parser.error


class MultibulkTests(SynchronousTestCase):
    def test_commands_come_in_order(self) -> None:
        """Several commands in one piece are all returned."""
        self.assertEqual(
            parse(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n"),
            ([[b"GET", b"a"], [b"PING"]], None),
        )

    def test_arguments_hold_any_bytes(self) -> None:
        """Neither line ends nor signs within an argument matter."""
        args = [b"SET", b"", b"*1\r\n$1\r\na\r\n", bytes(range(256))]
        self.assertEqual(parse(pack_command(args)), ([args], None))

    def test_malformed_commands_are_named(self) -> None:
        """Each kind of nonsense has the error text of Redis, and of the Go original."""
        multibulk = "Protocol error: invalid multibulk length"
        bulk = "Protocol error: invalid bulk length"
        for data, error in [
            (b"*0\r\n", multibulk),
            (b"*-1\r\n", multibulk),
            (b"*x\r\n", multibulk),
            (b"*\r\n", multibulk),
            (b"*01\r\n", multibulk),
            (b"*+1\r\n", multibulk),
            (b"* 1\r\n", multibulk),
            (b"*1\rx", multibulk),
            (b"*1048577\r\n", multibulk),
            (b"*" + b"1" * 30, "Protocol error: too big mbulk count string"),
            (b"*1\r\n$-1\r\n", bulk),
            (b"*1\r\n$x\r\n", bulk),
            (b"*1\r\n$01\r\n", bulk),
            (b"*1\r\n$\r\n", bulk),
            (b"*1\r\n$999999999999\r\n", bulk),
            (b"*1\r\n$3\r\nabcXY", bulk),
            (b"*1\r\n$" + b"1" * 30, "Protocol error: too big bulk count string"),
            (b"*1\r\n+PING\r\n", "Protocol error: expected '$', got '+'"),
            (b"*1\r\n*1\r\n$1\r\na\r\n", "Protocol error: expected '$', got '*'"),
            (b"*1\r\n\r\n", "Protocol error: expected '$', got '?'"),
        ]:
            self.assertEqual(parse(data), ([], error), data)

    def test_commands_before_an_error_are_returned(self) -> None:
        """What is sound is executed, whatever follows."""
        commands, error = parse(b"*1\r\n$4\r\nPING\r\n*x\r\n*1\r\n$4\r\nPING\r\n")
        self.assertEqual(commands, [[b"PING"]])
        self.assertIsNotNone(error)

    def test_nothing_is_parsed_behind_an_error(self) -> None:
        """The connection is about to end."""
        parser = StrictParser(ReaderLimits())
        parser.feed(b"*x\r\n")
        self.assertEqual(parser.feed(b"*1\r\n$4\r\nPING\r\n"), [])

    def test_limits_are_kept(self) -> None:
        """Arguments, a bulk, and all of a command are bounded."""
        limits = ReaderLimits(arguments=2, command_bytes=40, inline_bytes=20)
        self.assertEqual(parse(pack_command([b"a"] * 2), limits)[1], None)
        for data in (
            pack_command([b"a"] * 3),
            pack_command([b"a" * 40]),
            pack_command([b"a" * 15, b"a" * 15]),
            b"a b c\r\n",
            b"a" * 21,
        ):
            self.assertEqual(parse(data, limits)[0], [], data)
            self.assertIsNotNone(parse(data, limits)[1], data)

    def test_a_length_is_refused_before_its_bytes_come(self) -> None:
        """Nobody makes the node wait for, and keep, more than the limit."""
        self.assertIsNotNone(parse(b"*1\r\n$67108865\r\n")[1])

    def test_rest_is_what_follows_the_last_command(self) -> None:
        """However far the next command was parsed, its bytes are handed over whole."""
        following = pack_command([b"x", b"value"])
        for cut in range(len(following)):
            parser = StrictParser(ReaderLimits())
            parser.feed(pack_command([b"PING"]) + following[:cut])
            self.assertEqual(parser.take_rest(), following[:cut])
            self.assertTrue(parser.idle)


class InlineTests(SynchronousTestCase):
    def test_lines_are_commands(self) -> None:
        """CR LF and LF end a line; blank lines are nothing."""
        self.assertEqual(
            parse(b"PING\r\n\r\nGET  a\n \t\r\n\nSET a b\r\n"),
            ([[b"PING"], [b"GET", b"a"], [b"SET", b"a", b"b"]], None),
        )

    def test_lines_and_multibulk_mix(self) -> None:
        """Each command is read by its first byte."""
        self.assertEqual(
            parse(b"PING\r\n*1\r\n$4\r\nPING\r\nGET a\r\n"),
            ([[b"PING"], [b"PING"], [b"GET", b"a"]], None),
        )

    def test_quotes(self) -> None:
        """Words are split as redis-server does (compared with it, byte by byte)."""
        for line, words in [
            (b"", []),
            (b"a", [b"a"]),
            (b'SET k "a b"', [b"SET", b"k", b"a b"]),
            (rb'"\x41\n\r\t\b\a\q\"\\"', [b'A\n\r\t\b\aq"\\']),
            (rb"'a\'b\n'", [b"a'b\\n"]),
            (b'""', [b""]),
            (b'a"b"', [b"ab"]),
            (rb'"\x4"', [b"x4"]),
            (b"a\x0bb", [b"a\x0bb"]),
            (b"\x0b a", [b"a"]),
            (b"a\\ b", [b"a\\", b"b"]),
            (b'"a', None),
            (b"'a", None),
            (b'"a"b', None),
            (b"'a'b", None),
            (b'"a\\', None),
        ]:
            self.assertEqual(split_inline(line), words, line)

    def test_many_lines_in_a_chunk(self) -> None:
        """Chunks of plain lines take a short cut, to the same commands and errors."""
        self.assertEqual(parse(b"a\n" * 30_000)[0], [[b"a"]] * 30_000)
        self.assertEqual(parse(b"\n\r\n \n" * 1000), ([], None))
        parser = StrictParser(ReaderLimits())
        self.assertEqual(parser.feed(b"GET  a\r\n\nPI"), [[b"GET", b"a"]])
        self.assertEqual(parser.feed(b"NG\na\tb"), [[b"PING"]])
        self.assertEqual(parser.feed(b"\n*1\r\n$1\r\nx\r\n"), [[b"a", b"b"], [b"x"]])
        limits = ReaderLimits(arguments=2, inline_bytes=10)
        for line in (b"a b c\n", b"0123456789\n"):
            commands, error = parse(b"a\n" * 5 + line + b"b\n", limits)
            self.assertEqual(commands, [[b"a"]] * 5)
            self.assertIsNotNone(error)
        self.assertEqual(parse(b"012345678\n", limits), ([[b"012345678"]], None))

    def test_lines_behind_a_command_are_read_together(self) -> None:
        """A chunk of blank lines costs no step for each of them, wherever they stand."""
        calls: list[str] = []
        parser = StrictParser(ReaderLimits())
        for blank in (b"\n", b"\r\n", b" \t\n"):
            chunk = pack_command([b"PING"]) + blank * 5_000 + b"GET a\n" + blank * 5_000
            sys.setprofile(lambda frame, event, arg: calls.append(event))
            commands = parser.feed(chunk)
            sys.setprofile(None)
            self.assertEqual(commands, [[b"PING"], [b"GET", b"a"]])
        self.assertLess(len(calls), 1_000)

    def test_unbalanced_quotes_are_an_error(self) -> None:
        """As in Redis, the connection ends."""
        self.assertEqual(
            parse(b'PING\r\nGET "a\r\n'),
            ([[b"PING"]], "Protocol error: unbalanced quotes in request"),
        )

    def test_a_line_is_bounded(self) -> None:
        """A line that does not end is not collected for ever."""
        self.assertEqual(parse(b"a" * 65536), ([], "Protocol error: too big inline request"))
        self.assertEqual(parse(b"a" * 65535 + b"\n"), ([[b"a" * 65535]], None))


class PieceTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=60), st.data())
    def test_pieces_do_not_matter(self, noise: bytes, data: st.DataObject) -> None:
        """However bytes are cut, the same commands and the same error come out."""
        stream = (
            pack_command([b"SET", b"k", noise])
            + b'INLINE "a b"\r\n\r\n'
            + pack_command([noise, b""])
            + noise
            + b"\r\n"
            + pack_command([b"END"])
        )
        whole = parse(stream)
        parser = StrictParser(ReaderLimits())
        found: list[list[bytes]] = []
        at = 0
        while at < len(stream):
            size = data.draw(st.integers(1, 30))
            found += parser.feed(stream[at : at + size])
            at += size
        self.assertEqual((found, parser.error), whole)
