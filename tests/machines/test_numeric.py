"""Numbers and patterns, as Redis reads them."""

from __future__ import annotations

import time
from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CommandError
from finn.machines.glob import MAX_PATTERN_BYTES, matcher
from finn.machines.numeric import add_floats, parse_float, parse_int


class NumberTests(SynchronousTestCase):
    """Integers and floats."""

    def test_integers_are_strict(self) -> None:
        """There is one way to write an integer of 64 bits."""
        for good in (b"0", b"-1", b"9223372036854775807", b"-9223372036854775808"):
            self.assertEqual(b"%d" % parse_int(good), good)
        for bad in (
            b"",
            b"-",
            b"-0",
            b"+1",
            b"01",
            b" 1",
            b"1_0",
            b"9223372036854775808",
            b"1" * 99,
        ):
            self.assertRaises(CommandError, parse_int, bad)

    def test_sums_are_those_of_long_double(self) -> None:
        """Known replies of a redis-server."""
        for left, right, total in (
            (b"10.50", b"0.1", b"10.6"), (b"5.0e3", b"2.0e2", b"5200"), (b"0.1", b"0.2", b"0.3"),
            (b"3", b"-3", b"0"), (b"1e17", b"0.1", b"100000000000000000.1015625"),
            (b"0", b"-1e-18", b"0"), (b"-0", b"0", b"0"), (b"1e-3000", b"1", b"1"),
        ):  # fmt: skip
            self.assertEqual(add_floats(parse_float(left), parse_float(right)), total)

    def test_what_is_no_float(self) -> None:
        """Out of range, not a number, or not finite."""
        for bad in (
            b"",
            b"x",
            b"nan",
            b" 1",
            b"1 ",
            b"1e5000",
            b"1e-5000",
            b"1e9999999",
            b"1" * 6000,
        ):
            self.assertRaises(CommandError, parse_float, bad)
        self.assertRaises(CommandError, add_floats, parse_float(b"inf"), Fraction(1))
        largest = parse_float(b"1.1e4932")
        self.assertRaises(CommandError, add_floats, largest, largest)
        self.assertEqual(len(add_floats(largest, Fraction(0))), 4933)


class GlobTests(SynchronousTestCase):
    """Patterns."""

    def test_patterns(self) -> None:
        """Each pattern matches what it should and nothing else."""
        for pattern, yes, no in (
            (b"h?llo", [b"hello", b"h\nllo"], [b"hllo", b"heello"]),
            (b"h*llo", [b"hllo", b"heeello"], [b"hell", b"xhllo"]),
            (b"h[ae]llo", [b"hallo", b"hello"], [b"hillo"]),
            (b"h[^e]llo", [b"hallo"], [b"hello", b"hllo"]),
            (b"h[b-a]llo", [b"hallo", b"hbllo"], [b"hcllo"]),
            (b"*a*b*", [b"ab", b"xaxbx"], [b"ba", b""]),
            (b"\\*", [b"*"], [b"a"]),
            (b"[]", [], [b"a", b""]),
            (b"", [b""], [b"a"]),
        ):
            match = matcher(pattern)
            self.assertTrue(all(map(match, yes)), pattern)
            self.assertFalse(any(map(match, no)), pattern)

    def test_many_stars_take_no_time(self) -> None:
        """A pattern made to be slow is not."""
        began = time.process_time()
        self.assertFalse(matcher(b"*a" * 30 + b"*b")(b"a" * 5000))
        self.assertLess(time.process_time() - began, 1)
        self.assertRaises(CommandError, matcher, b"a" * (MAX_PATTERN_BYTES + 1))
