"""Commands that applications give: their words, and how large they may be."""

from __future__ import annotations

import enum
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.resp.reader import CommandReader
from finn.resp.replies import pack_command
from finn.resp.request import encode_words
from finn.resp.strict import ReaderLimits


class RequestTests(SynchronousTestCase):
    """The same rule for all who ask."""

    def test_words(self) -> None:
        """Text is UTF-8 and numbers are digits."""
        words = [b"SET", "\N{SNOWMAN}", -5, 1.5, 2.0]
        self.assertEqual(encode_words(words), [b"SET", b"\xe2\x98\x83", b"-5", b"1.5", b"2"])
        self.assertEqual(encode_words([]), [])

        class Named(str, enum.Enum):
            ONE = "one"

        class Tag(bytes):
            def __bytes__(self) -> bytes:
                return b"tag"

            def __getitem__(self, where: Any) -> Any:
                return b"part"

        class Number(float):
            def __repr__(self) -> str:
                return f"Number({float(self)})"

        self.assertEqual(encode_words([Named.ONE, True, Number(2.5)]), [b"one", b"1", b"2.5"])
        (word,) = encode_words([Tag(b"word")])
        self.assertEqual((type(word), word), (bytes, b"word"))

    def test_what_is_no_word(self) -> None:
        """It is refused, not made text of."""
        for word in (None, bytearray(b"x"), object(), "\udcff"):
            with self.assertRaises(ValueError):
                encode_words(["GET", word])  # type: ignore[list-item]

    def test_the_limits_of_clients(self) -> None:
        """A command is too large, or too long, exactly where a client's is."""
        limits = ReaderLimits(arguments=4, command_bytes=64)
        for words in (
            *(["SET", "key", b"x" * size] for size in range(25, 50)),
            *(["DEL", *"abcdef"[:count]] for count in range(6)),
        ):
            reader = CommandReader(limits)
            command = [word if isinstance(word, bytes) else word.encode() for word in words]
            reader.feed(pack_command(command))
            if reader.error is None:
                self.assertEqual(encode_words(words, limits), command)
            else:
                with self.assertRaisesRegex(ValueError, "a command of .* at most"):
                    encode_words(words, limits)

    def test_a_command_of_64_mib(self) -> None:
        """Beyond it clients are refused, and so are applications."""
        with self.assertRaisesRegex(ValueError, "67108897 bytes, 67108864 at most"):
            encode_words(["SET", "k", b"x" * (64 << 20)])
