"""The exact grammar of requests, in Python: for what hiredis does not know or must not be given.

Inline commands, commands split over several chunks, and everything malformed come here; whether
bytes are a command, and the error text if not, is decided by this module alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INVALID_MULTIBULK = "Protocol error: invalid multibulk length"
INVALID_BULK = "Protocol error: invalid bulk length"
UNBALANCED = "Protocol error: unbalanced quotes in request"
TOO_BIG_MULTIBULK = "Protocol error: too big mbulk count string"
TOO_BIG_BULK = "Protocol error: too big bulk count string"
TOO_BIG_INLINE = "Protocol error: too big inline request"
TOO_BIG_COMMAND = "Protocol error: too big command"

HEADER_BYTES = 24
"""Longest ``*N`` or ``$N`` line: what 64 bits can take, its line end included."""

_SPACE = b" \t\n\v\f\r"
_WORD_END = b" \t\n\r"  # Redis skips more kinds of space than it lets end a word
_UNUSUAL = re.compile(rb"[\"'\v\f]")
_LINES = re.compile(rb"[^ \t\r\n][^\n]*")  # but blank ones
_ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
_HEX = b"0123456789abcdefABCDEF"


@dataclass(frozen=True)
class ReaderLimits:
    """Bounds on one command; beyond them is a protocol error.

    Attributes:
        arguments: its words, the name included.
        command_bytes: all of it.
        inline_bytes: an inline command's line.
    """

    arguments: int = 1024 * 1024
    command_bytes: int = 64 * 1024 * 1024
    inline_bytes: int = 64 * 1024


class StrictParser:
    """Commands from bytes in any pieces.

    Attributes:
        error: text of the protocol error, after which nothing is parsed any more.
        inline: whether an inline command or a blank line was met since the last ``feed``.
        idle: everything was parsed and no command is incomplete.
    """

    def __init__(self, limits: ReaderLimits) -> None:
        self.limits = limits
        self.error: str | None = None
        self.inline = False
        self.idle = True
        self._pieces: list[bytes] = []  # not parsed yet
        self._size = 0  # of the pieces
        self._needed = 1  # no progress is possible before so many bytes are there
        self._args: list[bytes] = []  # of the multibulk command that is incomplete
        self._missing = 0  # how many arguments it lacks; 0 between commands
        self._bulk = -1  # length of the bulk whose header was read, or -1
        self._command_size = 0  # bytes of the incomplete command that were parsed

    @property
    def multibulk(self) -> bool:
        """Whether the incomplete command is not an inline one."""
        if self._missing or not self._pieces:
            return self._missing > 0
        return self._pieces[0].startswith(b"*")

    def take_rest(self) -> bytes:
        """Return and forget the bytes behind the last complete command."""
        parts = []
        if self._missing:
            parts.append(b"*%d\r\n" % (len(self._args) + self._missing))
            parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in self._args]
        if self._bulk >= 0:
            parts.append(b"$%d\r\n" % self._bulk)
        parts.append(self._take_pieces())
        self._args, self._missing, self._bulk = [], 0, -1
        self.idle = True
        return b"".join(parts)

    def _take_pieces(self) -> bytes:
        pieces = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._needed = 1
        return pieces

    def feed(self, data: bytes, at_most: int = -1) -> list[list[bytes]]:
        """Take bytes and return the commands that are complete, ``at_most`` so many.

        With ``at_most`` reached the bytes behind are left for ``take_rest``. Inline commands that
        stand together count as one.
        """
        self.inline = False
        if self.error is not None or not data:
            return []
        self._pieces.append(data)
        self._size += len(data)
        self.idle = False
        if self._size < self._needed:
            return []
        buffer = self._take_pieces()
        commands: list[list[bytes]] = []
        at = 0
        while at_most < 0 or len(commands) < at_most:
            before = at
            at = self._step(buffer, at, commands)
            if at == before or self.error is not None:
                break
        rest = buffer[at:]
        self._needed = max(self._needed - at, 1)
        if rest:
            self._pieces.append(rest)
            self._size = len(rest)
        self.idle = not rest and not self._missing
        return commands

    def _step(self, buffer: bytes, at: int, commands: list[list[bytes]]) -> int:
        """Parse what is at ``at``; returns where the next begins, ``at`` if it is incomplete."""
        if at == len(buffer):
            self._needed = at + 1
            return at
        if not self._missing:
            if buffer[at] == 0x2A:  # *
                return self._begin(buffer, at)
            return self._inline(buffer, at, commands)
        if self._bulk < 0:
            if buffer[at] != 0x24:  # $
                got = chr(buffer[at]) if 32 <= buffer[at] < 127 else "?"
                return self._fail(at, f"Protocol error: expected '$', got '{got}'")
            length, after = self._header(buffer, at, INVALID_BULK, TOO_BIG_BULK)
            if after == at:
                return at
            if length < 0 or self._command_size + after - at + length > self.limits.command_bytes:
                return self._fail(at, INVALID_BULK)
            self._command_size += after - at
            self._bulk = length
            return after
        return self._finish_bulk(buffer, at, commands)

    def _begin(self, buffer: bytes, at: int) -> int:
        count, after = self._header(buffer, at, INVALID_MULTIBULK, TOO_BIG_MULTIBULK)
        if after == at:
            return at
        if not 0 < count <= self.limits.arguments:
            return self._fail(at, INVALID_MULTIBULK)
        self._missing = count
        self._command_size = after - at
        return after

    def _finish_bulk(self, buffer: bytes, at: int, commands: list[list[bytes]]) -> int:
        end = at + self._bulk
        if end + 2 > len(buffer):
            self._needed = end + 2
            return at
        if buffer[end : end + 2] != b"\r\n":
            return self._fail(at, INVALID_BULK)
        self._args.append(buffer[at:end])
        self._command_size += end + 2 - at
        if self._command_size > self.limits.command_bytes:
            return self._fail(at, TOO_BIG_COMMAND)
        self._bulk = -1
        self._missing -= 1
        if not self._missing:
            commands.append(self._args)
            self._args = []
        return end + 2

    def _header(self, buffer: bytes, at: int, error: str, too_big: str) -> tuple[int, int]:
        """Read ``*N`` or ``$N``; returns N and where the next line begins.

        Only the shortest form of a number is one: leader and follower must read the same from the
        same bytes, whoever parses them.
        """
        end = buffer.find(b"\r", at, at + HEADER_BYTES)
        if end < 0:
            if len(buffer) - at >= HEADER_BYTES:
                return 0, self._fail(at, too_big)
            self._needed = len(buffer) + 1
            return 0, at
        if end + 1 == len(buffer):
            self._needed = end + 2
            return 0, at
        digits = buffer[at + 1 : end]
        if (
            buffer[end + 1] != 0x0A
            or not digits.isdigit()
            or (digits[0] == 0x30 and len(digits) > 1)
        ):
            return 0, self._fail(at, error)
        return int(digits), end + 2

    def _inline(self, buffer: bytes, at: int, commands: list[list[bytes]]) -> int:
        """Parse lines up to the next multibulk command.

        A chunk can hold 65,536 blank ones: one by one they would take tens of milliseconds.
        """
        self.inline = True
        limits = self.limits
        bound = at + limits.inline_bytes  # a line that ends before it is not too long
        end = buffer.find(b"\n*", at, bound) + 1 or buffer.rfind(b"\n", at, bound) + 1
        if not end:
            if len(buffer) >= bound:
                return self._fail(at, TOO_BIG_INLINE)
            self._needed = len(buffer) + 1
            return at
        split = split_inline if _UNUSUAL.search(buffer, at, end) else bytes.split
        for line in _LINES.findall(buffer, at, end):
            args = split(line)
            if args is None:
                return self._fail(at, UNBALANCED)
            if len(args) > limits.arguments:
                return self._fail(at, INVALID_MULTIBULK)
            if args:
                commands.append(args)
        return end

    def _fail(self, at: int, error: str) -> int:
        self.error = error
        return at


def split_inline(line: bytes) -> list[bytes] | None:
    r"""Split a line as Redis does: words, ``'single \' quotes'``, ``"double \x00 \n quotes"``.

    Returns:
        The words, or None when quotes are unbalanced or a closing one is followed by a word.
    """
    if not _UNUSUAL.search(line):
        return line.split()
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _SPACE:
            at += 1
        if at == len(line):
            return words
        word, at = _word(line, at)
        if at < 0:
            return None
        words.append(word)


def _word(line: bytes, at: int) -> tuple[bytes, int]:
    """Read one word; returns it and where it ends, -1 when it is malformed."""
    word = bytearray()
    while at < len(line) and line[at] not in _WORD_END:
        byte = line[at]
        if byte in b"\"'":
            at = _quoted(line, at + 1, byte, word)
            if at < 0 or (at < len(line) and line[at] not in _SPACE):
                return b"", -1
            break
        word.append(byte)
        at += 1
    return bytes(word), at


def _quoted(line: bytes, at: int, quote: int, word: bytearray) -> int:
    """Read up to the closing quote into ``word``; returns the place behind it, -1 without one."""
    while at < len(line):
        byte = line[at]
        if byte == quote:
            return at + 1
        following = line[at + 1 : at + 2]
        if byte == 0x5C and quote == 0x22 and following:  # \ in double quotes
            digits = line[at + 2 : at + 4]
            if following == b"x" and len(digits) == 2 and all(d in _HEX for d in digits):
                word.append(int(digits, 16))
                at += 4
                continue
            word.append(_ESCAPES.get(following[0], following[0]))
            at += 2
        elif byte == 0x5C and following == b"'" and quote == 0x27:
            word.append(quote)
            at += 2
        else:
            word.append(byte)
            at += 1
    return -1
