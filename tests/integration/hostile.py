"""What hostile clients and members send, and what a node has to make of it."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from finn.protocols.handshake import Dialling, HandshakeReader, LinkIdentity
from finn.protocols.wire import encode, frame
from finn.raft.entries import COMMANDS, make_entry
from finn.raft.messages import AppendEntries, AppendReply, RequestVote, TimeoutNow, VoteReply
from tests.integration.resp import Client

MIB = 1024 * 1024
GOOD = b"*3\r\n$3\r\nSET\r\n$5\r\nfuzz1\r\n$5\r\nvalue\r\n"
COMMANDS_SEEN = [
    GOOD,
    b"*2\r\n$3\r\nGET\r\n$5\r\nfuzz1\r\n",
    b"*1\r\n$5\r\nMULTI\r\n",
    b"*1\r\n$4\r\nEXEC\r\n",
    b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n",
    b"*2\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n",
    b"*2\r\n$5\r\nWATCH\r\n$5\r\nfuzz1\r\n",
    b"PING\r\n",
    b"SET fuzz2 'a \\' b'\r\n",
    b"*4\r\n$5\r\nLPUSH\r\n$5\r\nfuzz3\r\n$1\r\na\r\n$1\r\nb\r\n",
]


@dataclass
class Attack:
    """Bytes of a client.

    Attributes:
        name: for messages.
        data: what it sends; maybe in pieces.
        error: what the last line begins with that it gets, before the connection is closed.
    """

    name: str
    data: list[bytes]
    error: bytes


#: Each is answered with an error and a closed connection, at once.
ATTACKS = [
    Attack("huge array", [b"*100000000\r\n"], b"-ERR Protocol error: invalid multibulk length"),
    Attack("negative array", [b"*-7\r\n"], b"-ERR Protocol error: invalid multibulk length"),
    Attack("64-bit array", [b"*99999999999999999999999\r\n"], b"-ERR Protocol error: too big"),
    Attack("huge bulk", [b"*2\r\n$3\r\nGET\r\n$4294967296\r\n"], b"-ERR Protocol error: inv"),
    Attack("negative bulk", [b"*1\r\n$-1\r\n"], b"-ERR Protocol error: invalid bulk length"),
    Attack("too much in all", [b"*2\r\n$1048576\r\n", bytes(MIB), b"\r\n$67108000\r\n"],
           b"-ERR Protocol error: invalid bulk length"),
    Attack("nested", [b"*1\r\n" * 5000], b"-ERR Protocol error: expected '$', got '*'"),
    Attack("map", [b"*1\r\n%1\r\n+a\r\n+b\r\n"], b"-ERR Protocol error: expected '$', got '%'"),
    Attack("set", [b"*1\r\n~1\r\n:1\r\n"], b"-ERR Protocol error: expected '$', got '~'"),
    Attack("false", [b"*1\r\n#f\r\n"], b"-ERR Protocol error: expected '$', got '#'"),
    Attack("null", [b"*1\r\n_\r\n"], b"-ERR Protocol error: expected '$', got '_'"),
    Attack("number", [b"*1\r\n:12\r\n"], b"-ERR Protocol error: expected '$', got ':'"),
    Attack("no line end", [b"*1\r\n$4\r\nPINGPING"], b"-ERR Protocol error: invalid bulk length"),
    Attack("endless line", [b"x" * 4096] * 40, b"-ERR Protocol error: too big inline request"),
    Attack("quotes", [b'SET a "b\r\n'], b"-ERR Protocol error: unbalanced quotes in request"),
    Attack("browser", [b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"], b"-"),
    Attack("form", [b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nSET a evil\r\n"], b""),
    Attack("link, too few words", [frame([b"RAFTLINK", b"1"])], b"-ERR RAFTLINK has a wrong"),
    Attack("link, other version", [frame([b"RAFTLINK", b"9"] + [b""] * 8)], b"-ERR link format"),
    Attack("link and more", [frame([b"RAFTLINK", b"1"]) + GOOD], b"-ERR Protocol error: nothing"),
]  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """Return commands with some bytes changed, taken out, doubled or cut off."""
    data = bytearray(b"".join(chance.choices(COMMANDS_SEEN, k=chance.randint(1, 8))))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data)) if data else 0
        way = chance.randrange(5)
        if way == 0 and data:
            data[at] = chance.randrange(256)
        elif way == 1:
            del data[at : at + chance.randint(1, 9)]
        elif way == 2:
            data[at:at] = chance.randbytes(chance.randint(1, 9))
        elif way == 3:
            data[at:at] = data[at : at + chance.randint(1, 40)]
        else:
            data[at:at] = chance.choice([b"\r\n", b"*", b"$", b"\0", b"99999999", b"-1", b'"'])
    return bytes(data)


# -- members ----------------------------------------------------------------------------------


class FakeMember:
    """A connection that is, or nearly is, a link; made by hand.

    Args:
        client: a fresh connection.
        stats: RAFTSTATS of the node.
        secret: of the cluster.
        node_id: whom to claim to be.
        cluster_id: whose member to claim to be; the node's own cluster if None.
        kind: of the link.
    """

    def __init__(
        self,
        client: Client,
        stats: dict[str, str],
        secret: str | None = None,
        node_id: int = 0xABCDEF,
        cluster_id: int | None = None,
        kind: str = "raft",
    ) -> None:
        cluster = int(stats["cluster_id"], 16) if cluster_id is None else cluster_id
        # One that is not fresh, and that nobody knows, would be told that it was removed.
        identity = LinkIdentity(node_id, cluster, ":1", random.getrandbits(60), secret, fresh=True)
        to = int(stats["node_id"], 16)
        self.client = client
        self._dialling = Dialling(identity, to, kind, os.urandom(32), lambda: b"")
        self.hello = self._dialling.hello
        self._reader = HandshakeReader()

    def shake(self) -> str:
        """Do the handshake; returns the status line that ends it."""
        self.client.send(frame(self.hello))
        got = self._next()
        if isinstance(got, str):
            return got
        self.client.send(frame(self._dialling.receive(got)))
        last = self._next()
        assert isinstance(last, str)
        return last

    def _next(self) -> list[bytes] | str:
        while True:
            got = self._reader.next()
            if got is not None:
                return got
            data = self.client.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed in the handshake")
            self._reader.feed(data)


def nonsense(term: int) -> Iterator[tuple[str, bytes]]:
    """Yield what no member says, for a link to a node in this term: it ends the link."""
    entry = make_entry(1, term, COMMANDS, 1, 1, 1, [GOOD])
    record = bytearray(entry.record)
    record[-3] ^= 1
    good = struct.pack("<QQQQQB", term, 0, 0, 0, 1, 0)
    yield "no frame", b"PING\r\n"
    yield "empty frame", b"*0\r\n"
    yield "unknown type", frame([b"Z", b""])
    yield "short header", frame([b"A", good[:-1]])
    yield "wrong checksum", frame([b"A", good, bytes(record)])
    yield "half a record", frame([b"A", good, entry.record[:-1]])
    yield "huge record", b"*3\r\n$1\r\nA\r\n$41\r\n" + good + b"\r\n$999999999\r\n"
    yield "too many parts", b"*2000000\r\n"
    yield "typed frame", b"*2\r\n$1\r\nT\r\n:5\r\n"
    yield "term 0", encode(TimeoutNow(0))
    yield "term of the far future", encode(AppendEntries(1 << 50, 0, 0, 0, 1, []))
    yield "term far ahead", encode(RequestVote((1 << 48) - 1, 5, 1))
    yield "vote reply far ahead", encode(VoteReply((1 << 47), True))
    yield "append far ahead", encode(AppendEntries((1 << 40), 0, 0, 0, 1, []))
    yield "index of no log", encode(AppendEntries(term, 1 << 61, term, 0, 1, []))
    yield "term 0 at an index", encode(AppendEntries(term, 7, 0, 0, 1, []))
    yield (
        "entry out of place",
        frame([b"A", struct.pack("<QQQQQB", term, 7, term, 0, 1, 0), entry.record]),
    )
    yield "match of no log", encode(AppendReply(term, True, 1, 1 << 61))
    yield "unknown flags", frame([b"v", struct.pack("<QB", term, 0xF0)])
