"""Messages between members as bytes: this text is the specification.

After the handshake (``finn.protocols.handshake``) a link carries messages both ways, in order. A
message is a RESP array of bulk strings, ``*N CRLF`` and N times ``$length CRLF bytes CRLF``: its
type, one byte, then its header, packed little endian, then what the table says. Flags not
named are zero.

====  ===============  ======================================================  ==================
type  message          header                                                  further bulks
====  ===============  ======================================================  ==================
V     RequestVote      term, last_log_index, last_log_term u64; flags u8:      --
                       1 pre-vote, 2 transfer, 4 amnesic
v     VoteReply        term u64; flags u8: 1 pre-vote, 4 amnesic, 8 granted    --
A     AppendEntries    term, prev_log_index, prev_log_term, leader_commit,     one record for each
                       round u64; flags u8: 4 amnesic                          entry
a     AppendReply      term, round, match_index, rejected_index,               --
                       conflict_index, conflict_term u64; flags u8:
                       4 amnesic, 8 success
T     TimeoutNow       term u64                                                --
F     Forward          request_id u64, deadline_ms u32, consistency u8         command, as RESP
f     ForwardReply     request_id u64, outcome u8: 0 applied, 1 not applied,   reply as RESP, or
                       2 unknown                                               text of the error
S     StatusRequest    request_id u64                                          --
s     Status           request_id, term, last_log_index, commit_index,         state, address,
                       last_applied u64                                        leader's address
O     SnapshotOffer    term u64                                                meta, as JSON
o     SnapshotAccept   offset u64, refused u8                                  --
C     SnapshotChunk    offset u64, CRC-32 of the data u32                      data
c     SnapshotAck      offset u64: bytes taken so far                          --
D     SnapshotDone     ok u8                                                   --
P     Ping             --  (the header is empty)                               --
p     Pong             --  (the header is empty)                               --
====  ===============  ======================================================  ==================

Records are those of ``finn.raft.entries``; their indexes follow ``prev_log_index`` without a
gap and their terms do not fall and are not above the message's. Terms stay below 2**48 and
indexes below 2**60: more is nonsense, which could not be undone once believed. Whoever receives
anything else loses the link.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any

from finn.errors import ProtocolError
from finn.interfaces import SnapshotMeta
from finn.protocols.messages import (
    APPLIED,
    NOT_APPLIED,
    UNKNOWN,
    Forward,
    ForwardReply,
    LinkMessage,
    Ping,
    Pong,
    SnapshotAccept,
    SnapshotAck,
    SnapshotChunk,
    SnapshotDone,
    SnapshotOffer,
    Status,
    StatusRequest,
)
from finn.raft.configuration import Configuration
from finn.raft.entries import decode_entry
from finn.raft.messages import AppendEntries, AppendReply, RequestVote, TimeoutNow, VoteReply

__all__ = [
    "APPLIED",
    "NOT_APPLIED",
    "UNKNOWN",
    "OPENINGS",
    "VERSION",
    "Forward",
    "ForwardReply",
    "LinkMessage",
    "Ping",
    "Pong",
    "SnapshotAccept",
    "SnapshotAck",
    "SnapshotChunk",
    "SnapshotDone",
    "SnapshotOffer",
    "Status",
    "StatusRequest",
    "decode",
    "decode_meta",
    "encode",
    "encode_cached",
    "encode_meta",
    "frame",
]

VERSION = 1
TERM_LIMIT = 1 << 48
INDEX_LIMIT = 1 << 60

PRE_VOTE = 1
TRANSFER = 2
AMNESIC = 4
YES = 8

_VOTE = struct.Struct("<QQQB")
_VOTE_REPLY = struct.Struct("<QB")
_APPEND = struct.Struct("<QQQQQB")
_APPEND_REPLY = struct.Struct("<QQQQQQB")
_U64 = struct.Struct("<Q")
_FORWARD = struct.Struct("<QIB")
_FORWARD_REPLY = struct.Struct("<QB")
_STATUS = struct.Struct("<QQQQQ")
_ACCEPT = struct.Struct("<QB")
_CHUNK = struct.Struct("<QI")
_FLAG = struct.Struct("<B")
_SNAPSHOT_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}-[0-9]{1,20}")


# What most frames begin with, so they are put together and taken apart in a few steps:
# AppendEntries with no entry or one, its answer. The value is what a ``FrameReader`` needs to know:
# the kind, how many parts follow it, and the size of the first.
_APPEND_OPENING = b"*2\r\n$1\r\nA\r\n$%d\r\n" % _APPEND.size
_APPEND_ONE_OPENING = b"*3\r\n$1\r\nA\r\n$%d\r\n" % _APPEND.size
_APPEND_REPLY_OPENING = b"*2\r\n$1\r\na\r\n$%d\r\n" % _APPEND_REPLY.size
OPENINGS: dict[bytes, tuple[bytes, int, int]] = {
    _APPEND_OPENING: (b"A", 1, _APPEND.size),
    _APPEND_ONE_OPENING: (b"A", 2, _APPEND.size),
    _APPEND_REPLY_OPENING: (b"a", 1, _APPEND_REPLY.size),
}


# -- to bytes ---------------------------------------------------------------------------------


def frame(parts: list[bytes]) -> bytes:
    """Encode bulk strings as one RESP array."""
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        pieces.append(b"$%d\r\n" % len(part))
        pieces.append(part)
        pieces.append(b"\r\n")
    return b"".join(pieces)


def _frame_append(m: AppendEntries) -> bytes:
    flags = AMNESIC if m.amnesic else 0
    header = _APPEND.pack(
        m.term, m.prev_log_index, m.prev_log_term, m.leader_commit, m.round, flags
    )
    if not m.entries:
        return b"%b%b\r\n" % (_APPEND_OPENING, header)
    if len(m.entries) == 1:
        record = m.entries[0].record
        return b"%b%b\r\n$%d\r\n%b\r\n" % (_APPEND_ONE_OPENING, header, len(record), record)
    return frame([b"A", header, *[entry.record for entry in m.entries]])


def _frame_append_reply(m: AppendReply) -> bytes:
    flags = (AMNESIC if m.amnesic else 0) | (YES if m.success else 0)
    header = _APPEND_REPLY.pack(
        m.term, m.round, m.match_index, m.rejected_index, m.conflict_index, m.conflict_term, flags
    )
    return b"%b%b\r\n" % (_APPEND_REPLY_OPENING, header)


def _encode_vote(m: RequestVote) -> list[bytes]:
    flags = (
        (PRE_VOTE if m.pre_vote else 0)
        | (TRANSFER if m.transfer else 0)
        | (AMNESIC if m.amnesic else 0)
    )
    return [b"V", _VOTE.pack(m.term, m.last_log_index, m.last_log_term, flags)]


def _encode_vote_reply(m: VoteReply) -> list[bytes]:
    flags = (
        (PRE_VOTE if m.pre_vote else 0) | (AMNESIC if m.amnesic else 0) | (YES if m.granted else 0)
    )
    return [b"v", _VOTE_REPLY.pack(m.term, flags)]


def _encode_status(m: Status) -> list[bytes]:
    header = _STATUS.pack(m.request_id, m.term, m.last_log_index, m.commit_index, m.last_applied)
    return [b"s", header, m.state.encode(), m.address.encode(), m.leader.encode()]


_ENCODERS: dict[type, Callable[[Any], list[bytes]]] = {
    RequestVote: _encode_vote,
    VoteReply: _encode_vote_reply,
    TimeoutNow: lambda m: [b"T", _U64.pack(m.term)],
    Forward: lambda m: [
        b"F",
        _FORWARD.pack(m.request_id, m.deadline_ms, m.consistency),
        m.command,
    ],
    ForwardReply: lambda m: [b"f", _FORWARD_REPLY.pack(m.request_id, m.outcome), m.payload],
    StatusRequest: lambda m: [b"S", _U64.pack(m.request_id)],
    Status: _encode_status,
    SnapshotOffer: lambda m: [b"O", _U64.pack(m.term), encode_meta(m.meta)],
    SnapshotAccept: lambda m: [b"o", _ACCEPT.pack(m.offset, m.refused)],
    SnapshotChunk: lambda m: [b"C", _CHUNK.pack(m.offset, m.crc), m.data],
    SnapshotAck: lambda m: [b"c", _U64.pack(m.offset)],
    SnapshotDone: lambda m: [b"D", _FLAG.pack(m.ok)],
    Ping: lambda m: [b"P", b""],
    Pong: lambda m: [b"p", b""],
}
_FRAMERS: dict[type, Callable[[Any], bytes]] = {
    AppendEntries: _frame_append,
    AppendReply: _frame_append_reply,
}


def encode(message: LinkMessage) -> bytes:
    """Encode a message as one frame."""
    kind = type(message)
    framer = _FRAMERS.get(kind)
    return framer(message) if framer is not None else frame(_ENCODERS[kind](message))


_KEPT = 4
_cache: list[tuple[Any, bytes]] = []


def encode_cached(message: LinkMessage) -> bytes:
    """Encode a message, or return the frame made when it was last asked for.

    Messages are never altered, and one object goes to several peers in the same turn. A few of
    the newest are kept; holding the message itself keeps its identity from being used again.
    """
    for kept, data in _cache:
        if kept is message:
            return data
    data = encode(message)
    if len(_cache) >= _KEPT:
        del _cache[0]
    _cache.append((message, data))
    return data


_META_NUMBERS = ("index", "term", "time", "size", "crc", "version", "configuration_index")


def encode_meta(meta: SnapshotMeta) -> bytes:
    """Encode what a snapshot says of itself as JSON."""
    return json.dumps(
        {
            "index": meta.index,
            "term": meta.term,
            "time": meta.time,
            "configuration": json.loads(meta.configuration.encode()),
            "configuration_index": meta.configuration.index,
            "size": meta.size,
            "crc": meta.crc,
            "machine": meta.machine,
            "version": meta.version,
            "id": meta.id,
        },
        separators=(",", ":"),
    ).encode()


# -- from bytes -------------------------------------------------------------------------------


def _check(term: int, indexes: int = 0) -> None:
    """``indexes``: all bits of several, as the limit is one bit."""
    if not 0 < term < TERM_LIMIT:
        raise ProtocolError(f"term {term} makes no sense")
    if indexes >= INDEX_LIMIT:
        raise ProtocolError("an index makes no sense")


def _check_position(index: int, term: int, highest: int) -> None:
    """The term at an index: 0 for index 0 and only there, and never above ``highest``."""
    if (index == 0) != (term == 0) or term > highest:
        raise ProtocolError(f"term {term} at index {index} makes no sense")


def _decode_append(parts: list[bytes]) -> AppendEntries:
    term, prev_index, prev_term, commit, round_, flags = _APPEND.unpack(parts[1])
    _check(term, prev_index | commit | round_)
    if flags & ~AMNESIC:
        raise ProtocolError("append request makes no sense")
    _check_position(prev_index, prev_term, term)
    entries = []
    index = prev_index
    newest = prev_term
    for record in parts[2:]:
        entry = decode_entry(record)
        index += 1
        if entry.index != index or not newest <= entry.term <= term:
            raise ProtocolError(f"entry {entry.index}^{entry.term} is out of place at {index}")
        newest = entry.term
        entries.append(entry)
    return AppendEntries(term, prev_index, prev_term, commit, round_, entries, flags != 0)


def _decode_append_reply(parts: list[bytes]) -> AppendReply:
    term, round_, match, rejected, conflict, conflict_term, flags = _APPEND_REPLY.unpack(parts[1])
    _check(term, round_ | match | rejected | conflict)
    if conflict_term >= TERM_LIMIT or flags & ~(AMNESIC | YES):
        raise ProtocolError("append reply makes no sense")
    return AppendReply(
        term,
        bool(flags & YES),
        round_,
        match,
        rejected,
        conflict,
        conflict_term,
        bool(flags & AMNESIC),
    )


def _decode_vote(parts: list[bytes]) -> RequestVote:
    term, index, last_term, flags = _VOTE.unpack(parts[1])
    _check(term, index)
    _check_position(index, last_term, term)
    if flags & ~(PRE_VOTE | TRANSFER | AMNESIC):
        raise ProtocolError("vote request makes no sense")
    return RequestVote(
        term,
        index,
        last_term,
        bool(flags & PRE_VOTE),
        bool(flags & TRANSFER),
        bool(flags & AMNESIC),
    )


def _decode_vote_reply(parts: list[bytes]) -> VoteReply:
    term, flags = _VOTE_REPLY.unpack(parts[1])
    _check(term)
    if flags & ~(PRE_VOTE | AMNESIC | YES):
        raise ProtocolError("vote reply makes no sense")
    return VoteReply(term, bool(flags & YES), bool(flags & PRE_VOTE), bool(flags & AMNESIC))


def _decode_timeout_now(parts: list[bytes]) -> TimeoutNow:
    (term,) = _U64.unpack(parts[1])
    _check(term)
    return TimeoutNow(term)


def _decode_forward(parts: list[bytes]) -> Forward:
    request_id, deadline_ms, consistency = _FORWARD.unpack(parts[1])
    if consistency > 2 or not parts[2]:
        raise ProtocolError("forwarded command makes no sense")
    return Forward(request_id, consistency, deadline_ms, parts[2])


def _decode_forward_reply(parts: list[bytes]) -> ForwardReply:
    request_id, outcome = _FORWARD_REPLY.unpack(parts[1])
    if outcome > UNKNOWN:
        raise ProtocolError("outcome makes no sense")
    return ForwardReply(request_id, outcome, parts[2])


def _decode_status(parts: list[bytes]) -> Status:
    request_id, term, last, commit, applied = _STATUS.unpack(parts[1])
    state, address, leader = (part.decode() for part in parts[2:])
    return Status(state, address, term, leader, last, commit, applied, request_id)


def _decode_offer(parts: list[bytes]) -> SnapshotOffer:
    (term,) = _U64.unpack(parts[1])
    _check(term)
    meta = decode_meta(parts[2])
    if meta.term > term:
        raise ProtocolError("snapshot is of a later term than its leader")
    return SnapshotOffer(term, meta)


def _decode_accept(parts: list[bytes]) -> SnapshotAccept:
    offset, refused = _ACCEPT.unpack(parts[1])
    return SnapshotAccept(offset, bool(refused))


def _decode_chunk(parts: list[bytes]) -> SnapshotChunk:
    offset, crc = _CHUNK.unpack(parts[1])
    return SnapshotChunk(offset, crc, parts[2])


# type byte -> (decoder, header size, count of bulks; 0: any from two on)
_DECODERS: dict[bytes, tuple[Callable[[list[bytes]], LinkMessage], int, int]] = {
    b"A": (_decode_append, _APPEND.size, 0),
    b"a": (_decode_append_reply, _APPEND_REPLY.size, 2),
    b"V": (_decode_vote, _VOTE.size, 2),
    b"v": (_decode_vote_reply, _VOTE_REPLY.size, 2),
    b"T": (_decode_timeout_now, _U64.size, 2),
    b"F": (_decode_forward, _FORWARD.size, 3),
    b"f": (_decode_forward_reply, _FORWARD_REPLY.size, 3),
    b"S": (lambda parts: StatusRequest(_U64.unpack(parts[1])[0]), _U64.size, 2),
    b"s": (_decode_status, _STATUS.size, 5),
    b"O": (_decode_offer, _U64.size, 3),
    b"o": (_decode_accept, _ACCEPT.size, 2),
    b"C": (_decode_chunk, _CHUNK.size, 3),
    b"c": (lambda parts: SnapshotAck(_U64.unpack(parts[1])[0]), _U64.size, 2),
    b"D": (lambda parts: SnapshotDone(parts[1] != b"\x00"), _FLAG.size, 2),
    b"P": (lambda parts: Ping(), 0, 2),
    b"p": (lambda parts: Pong(), 0, 2),
}


def decode(parts: list[bytes]) -> LinkMessage:
    """Decode and check the bulk strings of one frame.

    Raises:
        ProtocolError: it is no message, or one that makes no sense.
    """
    known = _DECODERS.get(parts[0]) if parts else None
    if known is None:
        raise ProtocolError("unknown type of message")
    decoder, header, count = known
    if len(parts) < 2 or len(parts[1]) != header or (count and len(parts) != count):
        raise ProtocolError(f"message {parts[0].decode()} has a wrong form")
    try:
        return decoder(parts)
    except UnicodeDecodeError:
        raise ProtocolError(f"message {parts[0].decode()} has undecodable text") from None


def decode_meta(data: bytes) -> SnapshotMeta:
    """Decode and check ``encode_meta``'s bytes; the id becomes a name on the disk.

    Raises:
        ProtocolError: when they are something else.
    """
    try:
        fields = json.loads(data)
        members = json.dumps(fields["configuration"]).encode()
        numbers = [fields[name] for name in _META_NUMBERS]
        machine, name = fields["machine"], fields["id"]
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise ProtocolError(f"snapshot meta cannot be read: {e}") from None
    if not (isinstance(machine, str) and isinstance(name, str)):
        raise ProtocolError("snapshot meta has names that are no text")
    if not all(type(number) is int for number in numbers):
        raise ProtocolError("snapshot meta has numbers that are none")
    index, term, time, size, crc, version, configuration_index = numbers
    configuration = Configuration.decode(members, configuration_index)
    if not _SNAPSHOT_ID.fullmatch(name):
        raise ProtocolError("snapshot id makes no sense")
    _check(term, index | configuration.index | size)
    if index < 1 or min(numbers) < 0 or configuration.index > index or crc >> 32:
        raise ProtocolError("snapshot meta makes no sense")
    return SnapshotMeta(index, term, time, configuration, size, crc, machine, version, name)
