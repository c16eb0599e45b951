"""What several of these tests need: a dispatcher that notes, handlers, and wires between sides."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.interfaces import IDispatcher
from finn.protocols.handshake import LinkIdentity, PeerHello
from finn.protocols.link import ILinkHandler, MemberLink, accept_link
from finn.protocols.server import ClientConnection, ClientFactory, ClientLimits


class Transport(StringTransportWithDisconnection):
    """A transport in memory that can be full, and that loses its connection when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.paused = False
        self.lost = False
        self.stuck = False
        self.writes = 0
        self.full_at = 0

    def write(self, data: bytes) -> None:
        if self.lost:
            return
        super().write(data)
        self.writes += 1
        if self.full_at and len(self.value()) > self.full_at:
            self.fill()

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        if not self.stuck:
            self._lose()

    def abortConnection(self) -> None:
        self.aborted = True
        self._lose()

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            super().loseConnection()

    def fill(self) -> None:
        """Become full, as when the other side does not read."""
        if self.producer is not None:
            self.producer.pauseProducing()

    def drain(self) -> None:
        """Become empty again."""
        if self.producer is not None:
            self.producer.resumeProducing()


class Batch:
    """A poller that is handling several events; ``end`` comes behind the last of them."""

    crowded = True

    def __init__(self) -> None:
        self.last: list[Any] = []
        self.after: list[Any] = []
        self.at_end = self.last.append
        self.soon = self.after.append

    def end(self) -> None:
        """Do what was asked for, as the poller does."""
        for actions in (self.last, self.after):
            while actions:
                actions.pop(0)()


@implementer(IDispatcher)
class NotingDispatcher:
    """Notes every call; answers with the command's name unless ``run`` says otherwise."""

    def __init__(self) -> None:
        self.made: list[ClientConnection] = []
        self.lost: list[ClientConnection] = []
        self.received: list[tuple[list[list[bytes]], bytes | None]] = []
        self.links: list[tuple[ClientConnection, list[bytes], bytes]] = []
        self.crowds: list[tuple[list[Any], list[int], list[list[bytes]], bytes]] = []
        self.alone: set[bytes] = set()
        self.welcome = True
        self.run: Any = None
        self.run_crowd: Any = None

    @property
    def commands(self) -> list[list[bytes]]:
        return [command for commands, _ in self.received for command in commands]

    def connection_made(self, connection: Any) -> bool:
        self.made.append(connection)
        return self.welcome

    def connection_lost(self, connection: Any, reason: Failure) -> None:
        self.lost.append(connection)

    def commands_received(
        self, connection: Any, commands: list[list[bytes]], raw: bytes | None
    ) -> None:
        self.received.append((commands, raw))
        if self.run is not None:
            self.run(connection, commands)
            return
        for command in commands:
            connection.reply(b"+" + command[0] + b"\r\n")

    def gathers(self, command: list[bytes]) -> bool:
        return command[0] not in self.alone

    def crowd_received(self, connections: Any, counts: Any, commands: Any, raw: bytes) -> bool:
        if self.run_crowd is None:
            return False
        self.crowds.append((list(connections), list(counts), list(commands), raw))
        return bool(self.run_crowd(connections, counts))

    def link_requested(self, connection: Any, command: list[bytes], rest: bytes) -> None:
        self.links.append((connection, command, rest))


class Server:
    """A client factory with its clock and dispatcher."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.dispatcher = NotingDispatcher()
        self.factory = ClientFactory(self.dispatcher, ClientLimits(**limits), self.clock)

    def connect(self) -> tuple[Any, Transport]:
        """Return a new connection and its transport."""
        connection: Any = self.factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = connection
        connection.makeConnection(transport)
        return connection, transport


@implementer(ILinkHandler)
class NotingHandler:
    """A node as its links see it."""

    def __init__(
        self,
        node_id: int,
        cluster_id: int = 7,
        secret: str | None = None,
        fresh: bool = False,
        certificates: bool = False,
    ) -> None:
        self.me = LinkIdentity(
            node_id, cluster_id, f"host{node_id}:7481", node_id * 100, secret, fresh, certificates
        )
        self.links: list[MemberLink] = []
        self.lost: list[tuple[MemberLink, Failure]] = []
        self.messages: list[Any] = []
        self.partial: list[bytes] = []
        self.veto: str | None = None
        self.hellos: list[PeerHello] = []
        self.strangers: list[tuple[PeerHello, str]] = []
        self.complaints: list[str] = []
        self.failures: list[tuple[int, str, bool]] = []

    def identity(self) -> LinkIdentity:
        return self.me

    def accept_link(self, hello: PeerHello) -> str | None:
        self.hellos.append(hello)
        return self.veto

    def link_refused(self, hello: PeerHello, reason: str) -> None:
        self.strangers.append((hello, reason))

    def complain(self, text: str, **fields: Any) -> None:
        self.complaints.append(text.format(**fields))

    def link_made(self, link: MemberLink) -> None:
        self.links.append(link)

    def link_lost(self, link: MemberLink, reason: Failure) -> None:
        self.lost.append((link, reason))

    def message_received(self, link: MemberLink, message: Any) -> None:
        self.messages.append(message)

    def bytes_received(self, link: MemberLink, begun: bytes) -> None:
        self.partial.append(begun)

    def dial_failed(self, peer_id: int, address: str, refused: bool) -> None:
        self.failures.append((peer_id, address, refused))


class Wire:
    """A dialing link and a server joined in memory; bytes are carried by hand."""

    def __init__(
        self,
        dialer: NotingHandler,
        acceptor: NotingHandler,
        to_id: int | None = None,
        kind: str = "raft",
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.dialer = dialer
        self.acceptor = acceptor
        self.server = Server()
        self.server.clock = self.server.factory.clock = self.clock
        self.accepted: MemberLink | None = None
        random = Random(1)
        self.nonces = random.randbytes
        dispatcher: Any = self.server.dispatcher
        dispatcher.link_requested = self._link_requested
        self.connection, self.far = self.server.connect()
        to_id = acceptor.me.node_id if to_id is None else to_id
        self.link = MemberLink(dialer, self.clock, to_id, kind, nonces=self.nonces)
        self.outcome: list[Any] = []
        self.link.opened.addBoth(self.outcome.append)
        self.near = Transport()
        self.near.protocol = self.link
        self.link.makeConnection(self.near)

    def _link_requested(self, connection: Any, command: list[bytes], rest: bytes) -> None:
        self.accepted = accept_link(
            connection, command, rest, self.acceptor, self.clock, self.nonces
        )

    def take_near(self) -> bytes:
        """Take what the dialer wrote off the wire."""
        data = self.near.value()
        self.near.clear()
        return data

    def keep_alive(self, seconds: float) -> None:
        """Let time pass in small steps, carrying what is written."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.pump()

    def to_acceptor(self) -> bytes:
        """Carry what the dialer wrote; returns it."""
        data = self.take_near()
        if data and not self.far.lost:
            self.connection.dataReceived(data)
        return data

    def to_dialer(self) -> bytes:
        """Carry what the acceptor wrote; returns it."""
        data = self.far.value()
        self.far.clear()
        if data and not self.near.lost:
            self.link.dataReceived(data)
        return data

    def pump(self) -> None:
        """Carry everything both ways until nothing moves."""
        while self.to_acceptor() or self.to_dialer():
            pass

    @property
    def refusal(self) -> str:
        """Why the dialer's link failed."""
        return str(self.outcome[0].value)


def settled(deferred: Deferred[Any]) -> list[Any]:
    """Return a list that gets the outcome."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    return outcome
