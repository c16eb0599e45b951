"""A command as an application gives it: words of several types, made what a client sends."""

from __future__ import annotations

from collections.abc import Sequence

from finn.resp.replies import format_float
from finn.resp.strict import ReaderLimits

Word = bytes | str | int | float

_LIMITS = ReaderLimits()


def encode_words(words: Sequence[Word], limits: ReaderLimits = _LIMITS) -> list[bytes]:
    """Return the words of a command as bytes: text in UTF-8, numbers in digits.

    Args:
        words: name and arguments.
        limits: those of clients, by default. More would keep links and disks busy for so long that
            leaders lose their place.

    Raises:
        ValueError: a word is none of these, or it is more than a client may send.
    """
    command = [_encoded(word) for word in words]
    if len(command) > limits.arguments:
        raise ValueError(f"a command of {len(command)} words, {limits.arguments} at most")
    size = len(b"*%d\r\n" % len(command))
    size += sum(len(b"$%d\r\n\r\n" % len(word)) + len(word) for word in command)
    if size > limits.command_bytes:
        raise ValueError(f"a command of {size} bytes, {limits.command_bytes} at most")
    return command


def _encoded(word: object) -> bytes:
    # Of a subclass its value, whatever it makes of itself: followers get nothing else.
    if isinstance(word, bytes):
        return word if type(word) is bytes else bytes.__getitem__(word, slice(None))
    if isinstance(word, str):
        return str.encode(word)
    if isinstance(word, int):
        return b"%d" % word
    if isinstance(word, float):
        return format_float(word)
    kind = type(word).__name__
    raise ValueError(f"a word of a command is bytes, str, int or float, not {kind}")
