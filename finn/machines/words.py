"""Option words of commands (``EX 10 NX``), read by tables; and the times they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from finn.errors import CommandError
from finn.machines.numeric import INT_MAX, INT_MIN, parse_int

SYNTAX_ERROR = "ERR syntax error"

EXPIRY_WORDS: Mapping[bytes, tuple[int, bool]] = {
    b"EX": (1000, True),
    b"PX": (1, True),
    b"EXAT": (1000, False),
    b"PXAT": (1, False),
}
"""Word: (milliseconds per unit, counted from now)."""


def read_words(
    words: Sequence[bytes],
    takes: Mapping[bytes, int],
    exclusive: Sequence[Collection[bytes]] = (),
) -> dict[bytes, bytes]:
    """Read option words, in any letter case.

    Args:
        words: the arguments.
        takes: for each known word (upper case), 1 if an argument follows it, else 0.
        exclusive: groups of words of which one at most may be given.

    Returns:
        The words found, with their argument or an empty string. The last of a kind counts.

    Raises:
        CommandError: unknown word, missing argument, or two of a group.
    """
    found: dict[bytes, bytes] = {}
    rest = iter(words)
    for given in rest:
        word = given.upper()
        wants = takes.get(word)
        if wants is None:
            raise CommandError(SYNTAX_ERROR)
        argument = next(rest, None) if wants else b""
        if argument is None:
            raise CommandError(SYNTAX_ERROR)
        found[word] = argument
    for group in exclusive:
        if sum(word in found for word in group) > 1:
            raise CommandError(SYNTAX_ERROR)
    return found


def expiry_in(found: Mapping[bytes, bytes], now: int, command: str) -> int | None:
    """Return the deadline in ms that EX, PX, EXAT or PXAT name, or None without such a word.

    Raises:
        CommandError: no integer, not positive, or beyond 64 bits.
    """
    for word, (unit, relative) in EXPIRY_WORDS.items():
        if word in found:
            number = parse_int(found[word])
            if number <= 0:
                raise invalid_expiry(command)
            return deadline(number, unit, now if relative else 0, command)
    return None


def deadline(number: int, unit: int, base: int, command: str) -> int:
    """Return ``base + number * unit`` ms.

    Raises:
        CommandError: beyond 64 bits.
    """
    at = base + number * unit
    if not INT_MIN <= number * unit <= INT_MAX or at > INT_MAX:
        raise invalid_expiry(command)
    return at


def invalid_expiry(command: str) -> CommandError:
    """Return the error for a time that cannot be."""
    return CommandError(f"ERR invalid expire time in '{command}' command")
