"""Commands from a client's bytes, at the speed of hiredis and with the strictness of a server.

hiredis is a parser of replies. Left alone it takes ``+PING`` and nested arrays for arguments,
reserves memory for ``*100000000``, does not look at the CR LF behind a bulk, and knows no inline
commands. So a chunk goes through hiredis only if nothing in it can make it reserve much, and what
comes out is believed only if it is proven to be the canonical reading of the chunk. All else is
parsed anew by ``StrictParser``.

The proof matters beyond good manners: the very bytes of a chunk become the payload of a log entry,
which followers parse, and replays in years, with other versions of hiredis. Only bytes that can be
read in one way may get there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import hiredis

from finn.errors import ProtocolError
from finn.resp.commands import UniformCommands
from finn.resp.strict import ReaderLimits, StrictParser
from finn.resp.uniform import LastCommand, LastShape

__all__ = ["CommandReader", "ReaderLimits", "parse_commands"]

WINDOW = 8 * 1024
"""Bytes fed to hiredis at a time. It moves its whole buffer after each kilobyte it consumed, which
made a 1 MiB payload twenty times as dear as in pieces of this size."""

SINGLE_BYTES = 4 * 1024
"""Up to this a chunk that may be one command is split in Python, faster than hiredis is set up and
its result proven."""

FEW_COMMANDS = 3
"""Up to so many, or with more bytes per command than the next, packing again is the cheaper proof.
"""

LARGE_COMMAND = 256

ALIKE = 4
"""Commands of a chunk that are read faster as a row of equals, the proof included."""

ALIKE_PROVEN = 16
"""The same of a payload, which hiredis alone would read."""

SPARSE = 1024
"""Where no more signs than one in so many bytes stand, ``find`` is the fastest way from one to the
next, where there are more a regular expression is."""

FEW_ARGUMENTS = 32
"""hiredis grows its buffer as it packs: megabytes of few arguments are joined faster in Python."""

_END = object()  # hiredis' own sentinel is False, which is also how it reads "#f"
_pack: Callable[..., bytes] = hiredis.pack_command
_LINE_ENDS = {b"*%d\r\n" % n: 2 * n + 1 for n in range(1, 10)}
# One for each sign: a literal beginning is searched for many times as fast as a set of them.
_BIG_LISTS = [
    (sign, re.compile(re.escape(sign) + rb"([0-9]{3,})")) for sign in (b"*", b"~", b"|", b">")
]
_BIG_ARRAYS = _BIG_LISTS[:1]
_ARGUMENT_BYTES = 6  # of the shortest one, "$0\r\n\r\n"

Commands = Sequence[list[bytes]]


class CommandReader:
    """Commands of one connection.

    Attributes:
        error: text of a protocol error (without ``ERR``), after which nothing more is read; the
            commands before it have been returned.
    """

    def __init__(self, limits: ReaderLimits | None = None) -> None:
        limits = limits or ReaderLimits()
        self._hiredis = _new_reader()
        self._strict = StrictParser(limits)
        self._last = LastShape(ALIKE)
        self.set_limits(limits)

    @property
    def error(self) -> str | None:
        return self._strict.error

    @property
    def idle(self) -> bool:
        """No command is incomplete."""
        return self._strict.idle

    @property
    def inline(self) -> bool:
        """Inline commands or blank lines were among the bytes that were read last."""
        return self._strict.inline

    def set_limits(self, limits: ReaderLimits) -> None:
        """Change the bounds, for instance once a client has authenticated."""
        self._strict.limits = limits
        # A chunk up to this cannot hold a command beyond the limits.
        self._safe_bytes = min(limits.command_bytes, limits.arguments * _ARGUMENT_BYTES)
        self._alone = LastCommand()  # it says nothing of these limits

    def feed(self, data: bytes) -> tuple[Commands, bytes | None]:
        """Take received bytes.

        Returns:
            The commands that are complete now, each a non-empty list of bytes, and the bytes that
            are exactly their encoding if these are at hand, else None.
        """
        strict = self._strict
        if not strict.idle:
            return self._feed_rest(data)
        size = len(data)
        if size == self._alone.size:
            command = self._alone.read(data)
            if command is not None:
                return [command], data
        if size <= self._safe_bytes and data[:1] == b"*":
            if size >= self._last.least:
                uniform = self._last.read(data)
                if uniform is not None:
                    return self._with_tail(uniform, data, len(uniform) * self._last.size)
            line_ends = _LINE_ENDS.get(data[:4])
            if line_ends is not None and size <= SINGLE_BYTES:
                lines = data.split(b"\r\n", line_ends)
                if not lines.pop():
                    args = lines[2::2]
                    if _pack(tuple(args)) == data:
                        self._alone.learn(args, size)
                        return [args], data
            parsed = self._parse(data)
            if parsed is not None:
                return parsed
        found = strict.feed(data)
        if found and not strict.inline:
            self._learn(found, size if strict.idle else 0)
        return found, None

    def take_rest(self) -> bytes:
        """Return and forget what was received behind the last complete command.

        For a connection that becomes something else.
        """
        return self._strict.take_rest()

    def _feed_rest(self, data: bytes) -> tuple[Commands, bytes | None]:
        """Complete the command that is incomplete, then go on in the fast way."""
        strict = self._strict
        if not strict.multibulk:
            return strict.feed(data), None
        first = strict.feed(data, 1)
        if not first:
            return first, None
        raw = _pack_few(first[0]) if len(first[0]) <= FEW_ARGUMENTS else _pack(tuple(first[0]))
        rest = strict.take_rest()
        commands, raw_rest = self.feed(rest) if rest else ([], None)
        if not commands:
            return first, raw
        together = None
        if isinstance(commands, UniformCommands):
            together = commands.behind(first[0])
        return together or [*first, *commands], None if raw_rest is None else raw + raw_rest

    def _with_tail(
        self, commands: UniformCommands, data: bytes, end: int
    ) -> tuple[Commands, bytes | None]:
        """Return commands whose encoding ends at ``end``, and those that follow in the chunk."""
        if end == len(data):
            return commands, data
        rest = data[end:]
        more: Commands
        raw: bytes | None
        if self._last.may_begin(rest):
            more, raw = self._strict.feed(rest), None
        else:
            more, raw = self.feed(rest)
        if not more:
            return commands, data[:end]
        return [*commands, *more], None if raw is None else data[:end] + raw

    def _learn(self, commands: list[list[bytes]], size: int) -> None:
        """Expect the like of what was read from ``size`` bytes, 0 if nobody knows."""
        if len(commands) > 1:
            self._last.learn(commands, size)
        elif size:
            self._alone.learn(commands[0], size)

    def _parse(self, data: bytes) -> tuple[Commands, bytes | None] | None:
        """Parse a chunk by hiredis; None when strict parsing is needed."""
        odd = _has_odd_signs(data)
        if _is_hostile(data, odd):
            return None
        reader = self._hiredis
        try:
            commands = _drain(reader, data, 0)
            if not odd and _is_proven(commands, data):
                if _at_boundary(reader):
                    self._learn(commands, len(data))
                    return commands, data
                self._hiredis = _new_reader()
            # The other proof holds for a chunk that ends within a command, too: packing the
            # commands again gives the bytes they came from.
            raw = b"".join([_pack(tuple(command)) for command in commands])
        except Exception:
            # What hiredis, or packing, chokes on. Which error it is, the strict parser says.
            self._hiredis = _new_reader()
            return None
        if len(raw) == len(data) and raw == data and all(commands):
            self._learn(commands, len(data))
            return commands, data
        self._hiredis = _new_reader()
        if not data.startswith(raw) or not all(commands):
            return None
        if commands:
            self._learn(commands, len(raw))
        # Usually the beginning of one command; more of them only when something is wrong.
        more = self._strict.feed(data[len(raw) :])
        if more or self._strict.inline:
            return commands + more, None
        return commands, raw or None


def parse_commands(record: bytes, offset: int, count: int) -> Commands:
    """Parse the payload of an entry, on a follower or at replay.

    Args:
        record: bytes that end with the payload.
        offset: where the payload begins.
        count: how many commands it holds.

    Raises:
        ProtocolError: it is not exactly so many commands.
    """
    global _payload_reader
    size = len(record) - offset
    if count == 1 and size == _payload.size:
        command = _payload.read(record, offset)
        if command is not None:
            return [command]
    if size >= _payloads.least and size == count * _payloads.size:
        uniform = _payloads.read(record, offset)
        if uniform is not None:
            return uniform
    try:
        commands = _drain(_payload_reader, record, offset)
        if len(commands) == count and _at_boundary(_payload_reader):
            if count == 1:
                # Whether it is one must not depend on what was learned before.
                if not all(type(arg) is bytes for arg in commands[0]) or not commands[0]:
                    raise ValueError
                _payload.learn(commands[0], size)
            else:
                _payloads.learn(commands, size)
            return commands  # type: ignore[no-any-return]
    except (hiredis.HiredisError, TypeError, ValueError):
        pass  # the latter two where it is no commands at all
    _payload_reader = _new_reader()
    raise ProtocolError(f"a payload is not {count} commands")


def _pack_few(args: list[bytes]) -> bytes:
    """Encode a command with one copy of its arguments."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        parts += (b"$%d\r\n" % len(arg), arg, b"\r\n")
    return b"".join(parts)


def _new_reader() -> hiredis.Reader:
    return hiredis.Reader(notEnoughData=_END)


_payload_reader = _new_reader()
_payload = LastCommand()
_payloads = LastShape(ALIKE_PROVEN)


def _drain(reader: hiredis.Reader, data: bytes, offset: int) -> Any:
    """Feed bytes in windows and return what is complete."""
    size = len(data)
    if size - offset <= WINDOW:
        reader.feed(data, offset, size - offset)
        return list(iter(reader.gets, _END))
    found: list[Any] = []
    for at in range(offset, size, WINDOW):
        reader.feed(data, at, min(WINDOW, size - at))
        found += iter(reader.gets, _END)
    return found


def _at_boundary(reader: hiredis.Reader) -> bool:
    """Say whether a drained reader is between two commands: only there an array is read as one.

    Otherwise the reader is of no more use.
    """
    try:
        reader.feed(b"*0\r\n")
        return bool(reader.gets() == [])
    except hiredis.HiredisError:
        return False


def _has_odd_signs(data: bytes) -> bool:
    """Look for the signs of what hiredis would also read as lists, dicts or bytes."""
    return (
        b"+" in data
        or b"=" in data
        or b"(" in data
        or b"~" in data
        or b"|" in data
        or b">" in data
        or b"%" in data
    )


def _is_hostile(data: bytes, odd: bool) -> bool:
    """Say whether hiredis would reserve more memory for a chunk than honest bytes can ask for.

    It makes a list as long as the header says before it sees the members; nested, many of them.
    Honest arrays of a chunk have members in this chunk, or are incomplete and better left to the
    strict parser.
    """
    counts: list[bytes] = []
    for sign, sizes in _BIG_LISTS if odd else _BIG_ARRAYS:
        at = data.find(sign)
        for _ in range(len(data) // SPARSE):
            if at < 0:
                break
            number = sizes.match(data, at)
            if number is not None:
                counts.append(number[1])
            at = data.find(sign, at + 1)
        if at >= 0:
            counts += sizes.findall(data, at)
    if not counts:
        return False
    return max(map(len, counts)) > 7 or sum(map(int, counts)) * _ARGUMENT_BYTES > len(data)


def _is_proven(commands: Any, data: bytes) -> bool:
    """Prove cheaply that commands are the canonical reading of a chunk without odd signs.

    1. All members are bytes (``join`` refuses others), which without odd signs only bulks are, and
       so all commands are arrays, and not empty.
    2. No argument has a CR, so every CR LF of the chunk ends a header or a bulk: there must be one
       for each command and two for each argument.

    Returns:
        False says nothing: use the other proof.

    Raises:
        TypeError: a member is not bytes.
    """
    count = len(commands)
    if count <= FEW_COMMANDS or len(data) > LARGE_COMMAND * count:
        return False
    arguments = list(chain.from_iterable(commands))
    return (
        b"\r" not in b"".join(arguments)
        and data.count(b"\r\n") == count + 2 * len(arguments)
        and all(commands)
    )
