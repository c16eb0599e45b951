"""Whole nodes in memory, to throw bytes at: what every session of a client or member must keep."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from finn.errors import NotApplied, OutcomeUnknown
from finn.machines.kv import KV
from finn.protocols.wire import frame
from finn.testing.cluster import MemoryCluster
from tests.node.peers import shake_hands

SECRET = "secret"
TURN = 0.002
#: Sessions after which a fresh cluster is made: what was written does not add up.
LIFE = 2000
#: How often a command is tried.
LEADERS = 5
_NOTHING = object()


class Broken(AssertionError):
    """A promise was not kept."""


class Transport(StringTransport):
    """A transport that notes its end."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False

    def abortConnection(self) -> None:
        self.lost = True

    def loseConnection(self) -> None:
        self.lost = True


class Target:
    """A cluster under attack.

    Attributes:
        sessions: how many it has seen.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self._failures: list[LogEvent] = []
        self._cluster: MemoryCluster | None = None
        globalLogPublisher.addObserver(self._observe)

    def close(self) -> None:
        """Leave nothing behind."""
        globalLogPublisher.removeObserver(self._observe)
        if self._cluster is not None:
            self._cluster.close()

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical or "log_failure" in event:
            self._failures.append(event)

    @property
    def cluster(self) -> MemoryCluster:
        """The cluster; a fresh one now and then."""
        if self._cluster is None or self.sessions % LIFE == LIFE - 1:
            if self._cluster is not None:
                self._cluster.close()
            self.sessions += 1
            self._cluster = MemoryCluster(KV, secret=SECRET, trailing_bytes=1 << 16)
            self._cluster.start()
        return self._cluster

    # -- sessions -----------------------------------------------------------------------------

    def client(self, chunks: Sequence[bytes], authenticated: bool) -> None:
        """Let a client send chunks; its replies are RESP, and the others are served after it."""
        cluster = self.cluster
        node = cluster.nodes[cluster.leader()]
        term = node.raft.current_term  # type: ignore[union-attr]
        protocol, transport = self._connect(node)
        if authenticated:
            self._feed(protocol, transport, [b"AUTH " + SECRET.encode() + b"\r\n"])
            transport.clear()
        self._feed(protocol, transport, chunks)
        cluster.advance(TURN)
        received = transport.value()
        self._end(protocol, transport)
        self._check_replies(received, authenticated)
        self._check_alive(lambda event: False)
        if node.raft is None or node.raft.current_term != term:
            raise Broken("a client ended a term")

    def member(self, chunks: Sequence[bytes], known: bool, to_leader: bool, kind: str) -> None:
        """Let a member with the secret send chunks; the cluster goes on, or goes on again."""
        cluster = self.cluster
        leader = cluster.leader()
        other = (leader + 1) % 3
        target, source = (leader, other) if to_leader else (other, leader)
        node = cluster.nodes[target]
        claimed = cluster.nodes[source].identity.node_id if known else 0xABCDEF
        protocol, transport = self._connect(node)
        shake_hands(node, protocol, transport, claimed, kind, SECRET, fresh=not known)
        self._feed(protocol, transport, chunks)
        cluster.advance(TURN)
        self._end(protocol, transport)
        self._check_alive(lambda event: False)

    def _connect(self, node: Any) -> tuple[Any, Transport]:
        self.sessions += 1
        protocol = node.server.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        return protocol, transport

    def _feed(self, protocol: Any, transport: Transport, chunks: Sequence[bytes]) -> None:
        assert self._cluster is not None
        for chunk in chunks:
            if transport.lost:
                return
            if transport.producerState == "producing":
                protocol.dataReceived(chunk)
            self._cluster.advance(TURN)

    def _end(self, protocol: Any, transport: Transport) -> None:
        assert self._cluster is not None
        protocol.connectionLost(Failure(ConnectionDone()))
        transport.lost = True
        self._cluster.advance(TURN)

    # -- promises -----------------------------------------------------------------------------

    def _check_replies(self, received: bytes, authenticated: bool) -> None:
        reader = hiredis.Reader(notEnoughData=_NOTHING)
        reader.feed(received)
        try:
            while (reply := reader.gets()) is not _NOTHING:
                if not authenticated and not isinstance(reply, (Exception, bytes)):
                    raise Broken(f"answered without AUTH: {reply!r}")
        except hiredis.ProtocolError as e:
            raise Broken(f"replies are no RESP: {received[-300:]!r}") from e

    def _check_alive(self, tolerated: Callable[[LogEvent], bool]) -> None:
        failures, self._failures = self._failures, []
        for event in failures:
            if "log_failure" not in event or not tolerated(event):
                failure = event.get("log_failure")
                raise Broken(f"logged: {event.get('log_format')} {failure and failure.value!r}")
        cluster = self._cluster
        assert cluster is not None
        for node in cluster.nodes:
            if node.failure is not None:
                raise Broken(f"a node failed: {node.failure!r}")
            server = node.server
            if server.partial_bytes or server.owed_bytes:
                raise Broken(f"bytes left over: {server.partial_bytes} {server.owed_bytes}")
        value = str(self.sessions).encode()
        if self._execute("SET", "alive", value) != b"OK":
            raise Broken("SET is not answered")
        if self._execute("GET", "alive") != value:
            raise Broken("GET is wrong")

    def _execute(self, *words: bytes | str) -> Any:
        """Run a command; the leader may fall by a lie told before, but then another follows."""
        assert self._cluster is not None
        for _ in range(LEADERS):
            try:
                return self._cluster.execute(*words)
            except (NotApplied, OutcomeUnknown):
                self._cluster.advance(1.0)
        raise Broken(f"{words[0]!r} was not done by {LEADERS} leaders")


def lie(kind: bytes, numbers: Sequence[int], flags: int, records: Sequence[bytes]) -> bytes:
    """Return a frame of any message with any numbers."""
    counts = {b"A": 5, b"a": 6, b"V": 3, b"v": 1, b"T": 1, b"S": 1, b"O": 1}
    flagged = kind not in (b"T", b"S", b"O")
    count = counts[kind]
    header = struct.pack(f"<{count}Q", *(list(numbers) + [0] * count)[:count])
    return frame([kind, header + (bytes([flags]) if flagged else b""), *records])
