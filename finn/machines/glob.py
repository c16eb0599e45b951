"""Glob patterns, as KEYS and SCAN take them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import lru_cache

from finn.errors import CommandError

MAX_PATTERN_BYTES = 4096
"""Compiling a longer one would take milliseconds."""


def anything(_key: bytes) -> bool:
    """Match every key: what ``matcher`` returns for ``*``."""
    return True


@lru_cache(maxsize=64)
def matcher(pattern: bytes) -> Callable[[bytes], object]:
    """Return a function that says whether a key matches a pattern.

    ``*`` is any run of bytes, ``?`` any byte, ``[a-c]`` one of some, ``[^a-c]`` one of the others;
    a backslash takes the meaning from the byte behind it.

    Raises:
        CommandError: the pattern is too long.
    """
    if len(pattern) > MAX_PATTERN_BYTES:
        raise CommandError("ERR pattern is too long")
    if not pattern.strip(b"*"):
        return anything if pattern else operator.not_
    first, *middle = _segments(pattern)
    last = middle.pop() if middle else None
    parts = [first]
    # What a run between two stars matches first is kept for good (a group in a look-ahead is never
    # tried again): without that the time grows exponentially with the number of stars.
    for number, segment in enumerate(filter(None, middle)):
        parts.append(b"(?=(?P<s%d>.*?%b))(?P=s%d)" % (number, segment, number))
    if last is not None:
        parts.append(b".*" + last)
    return re.compile(b"".join(parts), re.DOTALL).fullmatch


def _segments(pattern: bytes) -> list[bytes]:
    """Return the regular expressions of what lies between the stars."""
    segments = [b""]
    place = 0
    while place < len(pattern):
        byte = pattern[place : place + 1]
        place += 1
        if byte == b"*":
            segments.append(b"")
            continue
        if byte == b"?":
            expression = b"."
        elif byte == b"[":
            expression, place = _choice(pattern, place)
        else:
            if byte == b"\\" and place < len(pattern):
                byte = pattern[place : place + 1]
                place += 1
            expression = re.escape(byte)
        segments[-1] += expression
    return segments


def _choice(pattern: bytes, place: int) -> tuple[bytes, int]:
    """Read what follows a ``[``; one that is not closed reaches to the end, as in Redis."""
    negated = pattern[place : place + 1] == b"^"
    place += negated
    ranges = []
    while place < len(pattern):
        left = len(pattern) - place
        first = last = pattern[place]
        if first == ord("\\") and left >= 2:
            place += 1
            first = last = pattern[place]
        elif first == ord("]"):
            place += 1
            break
        elif left >= 3 and pattern[place + 1] == ord("-"):
            first, last = sorted((first, pattern[place + 2]))
            place += 2
        ranges.append(b"\\x%02x-\\x%02x" % (first, last))
        place += 1
    if not ranges:
        return (b"." if negated else b"(?!)"), place
    return b"[%b%b]" % (b"^" if negated else b"", b"".join(ranges)), place
