"""Values become replies, and replies values."""

from __future__ import annotations

import collections
import enum
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CommandError, ProtocolError, UnknownCommand
from finn.resp import replies
from finn.resp.replies import (
    encode_error,
    encode_integer,
    encode_push,
    encode_value,
    pack_command,
    parse_reply,
)
from finn.resp.values import OK, Simple


class EncodeValueTests(SynchronousTestCase):
    def assert_encoded(self, value: Any, resp2: bytes, resp3: bytes | None = None) -> None:
        """Check a value's form in both protocols."""
        self.assertEqual(encode_value(value), resp2)
        self.assertEqual(encode_value(value, True), resp2 if resp3 is None else resp3)

    def test_scalars(self) -> None:
        """Each type has the form that the design gives it."""
        self.assert_encoded(None, b"$-1\r\n", b"_\r\n")
        self.assert_encoded(b"a\r\nb", b"$4\r\na\r\nb\r\n")
        self.assert_encoded("é", b"$2\r\n\xc3\xa9\r\n")
        self.assert_encoded(-5, b":-5\r\n")
        self.assert_encoded(True, b":1\r\n", b"#t\r\n")
        self.assert_encoded(False, b":0\r\n", b"#f\r\n")
        self.assert_encoded(OK, b"+OK\r\n")
        self.assert_encoded(Simple("QUEUED"), b"+QUEUED\r\n")
        self.assert_encoded(CommandError("WRONGTYPE no"), b"-WRONGTYPE no\r\n")
        self.assert_encoded(UnknownCommand(b"X"), b"-ERR unknown command 'X'\r\n")

    def test_integers_beyond_64_bits_are_bulks(self) -> None:
        """A client's parser ends at 64 bits."""
        self.assert_encoded(2**63 - 1, b":9223372036854775807\r\n")
        self.assert_encoded(-(2**63), b":-9223372036854775808\r\n")
        self.assert_encoded(2**63, b"$19\r\n9223372036854775808\r\n")

    def test_floats_are_written_as_redis_does(self) -> None:
        """The shortest digits, and no point for whole numbers."""
        for value, text in (
            (3.0, b"3"),
            (0.1, b"0.1"),
            (1e22, b"1e+22"),
            (-0.0, b"-0"),
            (math.inf, b"inf"),
            (-math.inf, b"-inf"),
            (math.nan, b"nan"),
        ):
            self.assert_encoded(value, b"$%d\r\n%b\r\n" % (len(text), text), b",%b\r\n" % text)

    def test_containers(self) -> None:
        """Lists, dicts and sets, nested; RESP2 knows arrays only."""
        self.assert_encoded([], b"*0\r\n")
        self.assert_encoded([1, (b"a", None)], b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n",
                            b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n")  # fmt: skip
        self.assert_encoded({b"k": {b"x": 1.5}}, b"*2\r\n$1\r\nk\r\n*2\r\n$1\r\nx\r\n$3\r\n1.5\r\n",
                            b"%1\r\n$1\r\nk\r\n%1\r\n$1\r\nx\r\n,1.5\r\n")  # fmt: skip
        self.assert_encoded([CommandError("ERR x")], b"*1\r\n-ERR x\r\n")

    def test_sets_are_sorted(self) -> None:
        """The reply must not depend on the hash seed of the process."""
        self.assert_encoded({b"b", b"a", b"c"}, b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
                            b"~3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n")  # fmt: skip
        self.assert_encoded(frozenset({1}), b"*1\r\n:1\r\n", b"~1\r\n:1\r\n")

    def test_subclasses_are_what_they_extend(self) -> None:
        """Enums, ordered dicts and named tuples are at home in machines."""
        pair = collections.namedtuple("pair", "a b")
        self.assert_encoded(enum.IntEnum("E", "A").A, b":1\r\n")  # type: ignore[attr-defined]
        self.assert_encoded(pair(1, 2), b"*2\r\n:1\r\n:2\r\n")
        number = type("Number", (float,), {"__repr__": lambda self: "a number"})(2.5)
        self.assert_encoded(number, b"$3\r\n2.5\r\n", b",2.5\r\n")
        self.assert_encoded(collections.OrderedDict(), b"*0\r\n", b"%0\r\n")

    def test_other_values_are_refused(self) -> None:
        """The node turns that into an error reply."""
        for value in (object(), [object()], {b"a": iter(())}, ValueError("x"), bytearray(b"x")):
            self.assertRaises(TypeError, encode_value, value)
        self.assertRaises(ValueError, encode_value, "\ud800")

    def test_endless_nesting_is_refused(self) -> None:
        """A list that holds itself must not end in a RecursionError, which stops the node."""
        value: list[Any] = []
        value.append(value)
        self.assertRaises(TypeError, encode_value, value)

    def test_a_reply_is_one_line(self) -> None:
        """No text can smuggle in a second reply."""
        self.assertEqual(encode_error("ERR a\r\n+OK\nx\ry"), b"-ERR a +OK x y\r\n")
        self.assertEqual(Simple("a\r\nb").encoded, b"+a b\r\n")
        self.assertEqual(encode_error(""), b"-ERR\r\n")

    def test_push(self) -> None:
        """A push has its own sign."""
        self.assertEqual(encode_push(["invalidate", None]), b">2\r\n$10\r\ninvalidate\r\n_\r\n")

    def test_nulls_follow_the_protocol(self) -> None:
        """EXEC's null is an array in RESP2."""
        self.assertEqual(replies.null_reply(False), b"$-1\r\n")
        self.assertEqual(replies.null_array_reply(False), b"*-1\r\n")
        self.assertEqual(replies.null_array_reply(True), b"_\r\n")

    def test_simples_compare_by_text(self) -> None:
        """A test can say what it expects."""
        self.assertEqual(Simple("OK"), OK)
        self.assertNotEqual(Simple("NO"), OK)
        self.assertEqual(len({Simple("OK"), OK}), 1)


plain = st.recursive(
    st.none() | st.binary() | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4),
)


class ParseReplyTests(SynchronousTestCase):
    @given(plain)
    def test_round_trip(self, value: Any) -> None:
        """What a machine returns is what ``Node.execute`` gives."""
        self.assertEqual(parse_reply(encode_value(value)), value)
        self.assertEqual(parse_reply(encode_value(value, True)), value)

    def test_types(self) -> None:
        """RESP3's types are Python's; False is not mistaken for nothing."""
        for value in (True, False, 1.5, {b"a": 1}):
            self.assertEqual(parse_reply(encode_value(value, True)), value)
        self.assertEqual(parse_reply(b"+OK\r\n"), b"OK")

    def test_errors_are_returned(self) -> None:
        """An error is a value with its text, inside lists too."""
        error = parse_reply(b"-TRY :7481\r\n")
        self.assertIsInstance(error, CommandError)
        self.assertEqual(str(error), "TRY :7481")
        self.assertIsInstance(parse_reply(b"*1\r\n-ERR x\r\n")[0], CommandError)

    def test_exactly_one_reply(self) -> None:
        """Less, more, or nonsense is an error."""
        for data in (b"", b"$3\r\nab", b"*2\r\n:1\r\n", b"x\r\n", b":1\r\n:"):
            self.assertRaises(ProtocolError, parse_reply, data)

    def test_pack_command(self) -> None:
        """A command is packed as clients send it."""
        self.assertEqual(pack_command([b"GET", b"\r\n"]), b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n")
        self.assertEqual(encode_integer(0), b":0\r\n")
