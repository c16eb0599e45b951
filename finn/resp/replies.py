"""From Python values to RESP replies, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import hiredis

from finn.errors import CommandError, ProtocolError, command_error_text
from finn.resp.values import OK, NullArray, Simple, one_line

MAX_DEPTH = 128
"""Nesting of a reply beyond this is refused: hiredis and most clients recurse over replies."""

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


def encode_error(text: str) -> bytes:
    """Encode an error reply; the text begins with its code, for instance ``ERR``."""
    return b"-%b\r\n" % (one_line(text) or "ERR").encode("utf-8", "replace")


def encode_bulk(data: bytes) -> bytes:
    """Encode a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def encode_bulks(values: Sequence[bytes]) -> bytes:
    """Encode bulk strings one behind another."""
    sizes = set(map(len, values))
    if len(sizes) == 1:
        # Of equal sizes, as counters and hashes are: joined at once, without growing on the way.
        head = b"$%d\r\n" % sizes.pop()
        pieces = [b"\r\n" + head] * (2 * len(values) + 1)
        pieces[0] = head
        pieces[1::2] = values
        pieces[-1] = b"\r\n"
        return b"".join(pieces)
    return b"".join([b"$%d\r\n%b\r\n" % (len(value), value) for value in values])


def encode_integer(number: int) -> bytes:
    """Encode an integer; beyond 64 bits, where clients' parsers end, as a bulk string."""
    if INT64_MIN <= number <= INT64_MAX:
        return b":%d\r\n" % number
    return encode_bulk(b"%d" % number)


def encode_array_header(count: int) -> bytes:
    """Encode the beginning of an array of ``count`` replies."""
    return b"*%d\r\n" % count


def encode_push(values: Sequence[Any]) -> bytes:
    """Encode an out-of-band message of RESP3."""
    return b">%d\r\n%b" % (len(values), b"".join([encode_value(value, True) for value in values]))


# What most replies are, encoded once.
OK_REPLY = OK.encoded
PONG_REPLY = b"+PONG\r\n"
QUEUED_REPLY = b"+QUEUED\r\n"
RESET_REPLY = b"+RESET\r\n"
NULL_REPLY = b"$-1\r\n"
NULL_ARRAY_REPLY = b"*-1\r\n"
NULL_REPLY_RESP3 = b"_\r\n"
EMPTY_ARRAY_REPLY = b"*0\r\n"


def null_reply(resp3: bool) -> bytes:
    """Return the null of the connection's protocol."""
    return NULL_REPLY_RESP3 if resp3 else NULL_REPLY


def null_array_reply(resp3: bool) -> bytes:
    """Return the null of commands that answer an array, for instance EXEC."""
    return NULL_REPLY_RESP3 if resp3 else NULL_ARRAY_REPLY


def format_float(number: float) -> bytes:
    """Write a float as Redis does: the shortest digits that read back as the same number."""
    if math.isfinite(number):
        text = float.__repr__(number)  # not that of a subclass
        return (text[:-2] if text.endswith(".0") else text).encode()
    return b"nan" if math.isnan(number) else b"inf" if number > 0 else b"-inf"


def encode_value(value: Any, resp3: bool = False) -> bytes:
    """Encode what a command returned.

    Args:
        value: None, bytes, str, int, bool, float, list, tuple, dict, set, ``Simple`` or a
            ``CommandError``, nested as you like.
        resp3: the client speaks RESP3: null, boolean, double, map and set have types of their own.

    Raises:
        TypeError: the value, or one in it, is something else or nested too deeply.
        ValueError: a string has no UTF-8 form.
    """
    encoder = (_RESP3 if resp3 else _RESP2).get(type(value))
    if encoder is not None:
        return encoder(value)
    return _encode(value, _RESP3 if resp3 else _RESP2, 0)


_Table = dict[type, Callable[[Any], bytes]]


def _encode(value: Any, table: _Table, depth: int) -> bytes:
    """Encode a container, a member of one, or an instance of a subclass."""
    encoder = table.get(type(value))
    if encoder is not None:
        return encoder(value)
    if depth > MAX_DEPTH:
        raise TypeError(f"a reply is nested deeper than {MAX_DEPTH}")
    if isinstance(value, (list, tuple)):
        return _join(b"*", len(value), value, table, depth)
    if isinstance(value, dict):
        members = chain.from_iterable(value.items())
        if table is _RESP3:
            return _join(b"%", len(value), members, table, depth)
        return _join(b"*", 2 * len(value), members, table, depth)
    if isinstance(value, (set, frozenset)):
        # Sorted, so that the reply is the same on every node and in every run.
        encoded = sorted([_encode(member, table, depth + 1) for member in value])
        sign = b"~" if table is _RESP3 else b"*"
        return b"%b%d\r\n%b" % (sign, len(encoded), b"".join(encoded))
    for base in type(value).__mro__:
        if base in table:
            return table[base](value)
    raise TypeError(f"a {type(value).__name__} cannot be a reply")


def _join(sign: bytes, count: int, members: Iterable[Any], table: _Table, depth: int) -> bytes:
    encoded = [_encode(member, table, depth + 1) for member in members]
    return b"%b%d\r\n%b" % (sign, count, b"".join(encoded))


def _encode_text(value: str) -> bytes:
    return encode_bulk(value.encode())


def _encode_command_error(value: CommandError) -> bytes:
    return encode_error(command_error_text(str(value)))


# Containers are not in the tables: they need to know how deep they are.
_RESP2: _Table = {
    type(None): lambda _value: NULL_REPLY,
    bool: lambda value: b":1\r\n" if value else b":0\r\n",
    bytes: encode_bulk,
    str: _encode_text,
    int: encode_integer,
    float: lambda value: encode_bulk(format_float(value)),
    Simple: attrgetter("encoded"),
    NullArray: lambda _value: NULL_ARRAY_REPLY,
    CommandError: _encode_command_error,
}
_RESP3: _Table = {
    **_RESP2,
    type(None): lambda _value: NULL_REPLY_RESP3,
    NullArray: lambda _value: NULL_REPLY_RESP3,
    bool: lambda value: b"#t\r\n" if value else b"#f\r\n",
    float: lambda value: b",%b\r\n" % format_float(value),
}


def pack_command(args: Iterable[bytes]) -> bytes:
    """Encode a command as the multibulk a client sends."""
    return _pack(tuple(args))


_pack: Callable[..., bytes] = hiredis.pack_command
_NOTHING = object()


def parse_reply(data: bytes) -> Any:
    """Read one whole reply, as a client sees it.

    Returns:
        bytes, int, float, bool, None, list or dict; a ``CommandError``, not raised, for an error,
        and inside a list too.

    Raises:
        ProtocolError: it is not exactly one reply.
    """
    reader = hiredis.Reader(
        protocolError=ProtocolError, replyError=CommandError, notEnoughData=_NOTHING
    )
    reader.feed(data)
    value = reader.gets()
    if value is _NOTHING or reader.has_data():
        raise ProtocolError("Protocol error: not exactly one reply")
    return value
