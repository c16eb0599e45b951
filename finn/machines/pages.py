"""What the commands share that walk a collection page by page: SCAN, HSCAN, SSCAN.

HSCAN and SSCAN answer with everything in one page, as Redis does for small collections: it is what
HGETALL and SMEMBERS cost, and it keeps the promise of SCAN (who is there all the time is found)
without an index that every write would have to keep.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from finn.errors import CommandError
from finn.machines.glob import matcher
from finn.machines.numeric import parse_int
from finn.machines.words import SYNTAX_ERROR

_CURSOR = re.compile(rb"[+-]?[0-9]{1,19}")


def check_cursor(cursor: bytes) -> None:
    """Refuse what is no cursor.

    Raises:
        CommandError: it is not a number.
    """
    if not _CURSOR.fullmatch(cursor):
        raise CommandError("ERR invalid cursor")


def page_options(options: Sequence[bytes], known: Collection[bytes]) -> dict[bytes, bytes]:
    """Read options of which each has an argument; whatever is wrong first is told.

    Raises:
        CommandError: unknown word, missing argument, or a count that is none.
    """
    found: dict[bytes, bytes] = {}
    rest = iter(options)
    for word in rest:
        name, argument = word.upper(), next(rest, None)
        if argument is None or name not in known:
            raise CommandError(SYNTAX_ERROR)
        if name == b"COUNT" and parse_int(argument) < 1:
            raise CommandError(SYNTAX_ERROR)
        found[name] = argument
    return found


def page_matcher(options: Sequence[bytes]) -> Callable[[bytes], object] | None:
    """Read the options of HSCAN and SSCAN.

    Returns:
        Says whether a name is wanted; None when all are.
    """
    found = page_options(options, (b"MATCH", b"COUNT"))
    return matcher(found[b"MATCH"]) if b"MATCH" in found else None
