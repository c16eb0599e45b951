"""Tests for finn.protocols.tls: certificates on the one port, in memory but with real TLS."""

from __future__ import annotations

import os
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from finn.errors import StartFailed
from finn.protocols import server as server_module
from finn.protocols.link import LinkRefused, MemberLink, accept_link
from finn.protocols.tls import TLSMaterial, channel_binding, explain, peer_certified
from finn.protocols.wire import StatusRequest, encode
from tests.protocols.certificates import Authority
from tests.protocols.support import NotingHandler, Server, Transport

PING = b"*1\r\n$4\r\nPING\r\n"
PIECE = 16 * 1024


class LateTransport(Transport):
    """Loses its connection in a later turn, as sockets do and as TLS relies on."""

    ending = False

    def loseConnection(self) -> None:
        self.ending = True

    def abortConnection(self) -> None:
        self.aborted = self.ending = True


class Channel:
    """A client protocol and a server connection with TLS between them, carried by hand."""

    def __init__(self, server: Server, server_tls: TLSMaterial, client_tls: Any, client: Any):
        self.server = server
        clock: Any = MemoryReactorClock()
        accepting: Any = server_tls.server_factory(server.factory, clock)

        class Dialing:
            def buildProtocol(self, addr: Any) -> Any:
                return client

            def doStart(self) -> None:
                pass

        dialing: Any = client_tls.client_factory(Dialing(), clock)
        self.near_tls = dialing.buildProtocol(None)
        self.far_tls = accepting.buildProtocol(None)
        self.connection = self.far_tls.wrappedProtocol
        self.near, self.far = LateTransport(), LateTransport()
        self.clock = clock
        self.near.protocol, self.far.protocol = self.near_tls, self.far_tls
        self.wire = b""
        self.near_tls.makeConnection(self.near)
        self.far_tls.makeConnection(self.far)
        self.pump()

    def pump(self) -> None:
        """Carry bytes both ways until nothing moves; who does not read gets none."""
        moved = True
        while moved:
            self.clock.advance(0)
            one, other = self._take(self.near, self.far), self._take(self.far, self.near)
            if one and not self.far.lost:
                self.far_tls.dataReceived(one)
            if other and not self.near.lost:
                self.near_tls.dataReceived(other)
            moved = bool(one or other)
            for end in (self.near, self.far):
                if end.ending:
                    end._lose()

    def _take(self, source: LateTransport, target: LateTransport) -> bytes:
        """Take what is to be carried now, a piece at a time."""
        if target.paused:
            return b""
        data: bytes = source.value()
        source.clear()
        source.io.write(data[PIECE:])
        self.wire += data[:PIECE]
        return data[:PIECE]


class Client:
    """A client's protocol, as little as that."""

    def __init__(self) -> None:
        self.received = b""

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason


class Certificates(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.ca = Authority(self.directory)
        self.one = TLSMaterial(*self.ca.issue("one"), self.ca.path)
        self.two = TLSMaterial(*self.ca.issue("two"), self.ca.path)
        self.server = Server()


class Clients(Certificates):
    """Clients on the TLS port."""

    def test_a_client_without_a_certificate_is_served(self) -> None:
        """It has the secret, or none is needed; what it says is not on the wire."""
        bare = Bare()
        client = Client()
        channel = Channel(self.server, self.one, bare, client)
        client.transport.write(PING)
        channel.pump()
        self.assertEqual(client.received, b"+PING\r\n")
        self.assertNotIn(b"PING", channel.wire)
        self.assertFalse(channel.connection.certified)

    def test_a_client_with_a_certificate_of_the_ca(self) -> None:
        """Is known to have one."""
        channel = Channel(self.server, self.one, self.two, Client())
        self.assertTrue(channel.connection.certified)

    def test_a_certificate_of_another_ca_is_refused(self) -> None:
        """By TLS; no command is read."""
        other = Authority(self.directory, "other")
        foreign = Bare(other.issue("stranger"))
        client = Client()
        channel = Channel(self.server, self.one, foreign, client)
        client.transport.write(PING)
        channel.pump()
        self.assertEqual(self.server.dispatcher.commands, [])
        self.assertFalse(channel.connection.certified)

    def test_plaintext_is_no_tls(self) -> None:
        """A client that does not speak TLS is gone before any command."""
        clock: Any = MemoryReactorClock()
        factory: Any = self.one.server_factory(self.server.factory, clock)
        protocol = factory.buildProtocol(None)
        transport = LateTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(PING)
        self.assertTrue(transport.ending)
        self.assertEqual(self.server.dispatcher.commands, [])

    def test_a_handshake_that_is_not_finished_is_dropped(self) -> None:
        """Where authentication is required its deadline covers TLS."""
        server = Server(auth_required=True)
        clock: Any = MemoryReactorClock()
        factory: Any = self.one.server_factory(server.factory, clock)
        protocol = factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        for _ in range(11):
            server.clock.advance(1)
        self.assertTrue(transport.aborted)


class Closing(Certificates):
    """Connections that the server closes: gone when the client has answered that."""

    def setUp(self) -> None:
        super().setUp()
        self.server.dispatcher.run = lambda connection, _: connection.close_after_flush(b"+OK\r\n")
        self.client = Client()

    def test_quit(self) -> None:
        """The client counts no more, and no clock had to advance for that."""
        channel = Channel(self.server, self.one, self.two, self.client)
        self.assertEqual(len(self.server.factory.connections), 1)
        self.client.transport.write(PING)
        channel.pump()
        self.assertEqual(self.client.received, b"+OK\r\n")
        self.assertEqual(len(self.server.factory.connections), 0)
        self.assertEqual((channel.far.lost, channel.far.aborted), (True, False))

    def test_what_is_sent_behind_quit(self) -> None:
        """Is read and thrown away: left unread it would reset the connection under the reply."""
        channel = Channel(self.server, self.one, self.two, self.client)
        for _ in range(20):
            self.client.transport.write(PING * 1000)
        channel.pump()
        self.assertEqual(self.client.received, b"+OK\r\n")
        self.assertEqual(len(self.server.dispatcher.received), 1)
        self.assertEqual((channel.far.lost, channel.far.aborted), (True, False))

    def test_a_client_that_goes_without_an_answer(self) -> None:
        """Its end of TCP is enough."""
        channel = Channel(self.server, self.one, self.two, self.client)
        self.patch(channel.near_tls, "dataReceived", lambda data: channel.near.abortConnection())
        self.client.transport.write(PING)
        channel.pump()
        self.assertFalse(channel.far.paused)
        channel.far._lose()
        self.assertEqual(len(self.server.factory.connections), 0)

    def test_a_client_that_stays(self) -> None:
        """Is dropped after a while."""
        channel = Channel(self.server, self.one, self.two, self.client)
        self.patch(channel.near_tls, "dataReceived", lambda data: None)
        self.client.transport.write(PING)
        channel.pump()
        self.server.clock.pump([1] * 5)
        self.assertFalse(channel.far.aborted)
        self.server.clock.advance(1)
        self.assertTrue(channel.far.aborted)

    def test_one_too_many(self) -> None:
        """It is refused before its handshake is done, and learns why."""
        self.patch(server_module, "UNDECIDED", 0)
        server = Server(max_clients=0)
        channel = Channel(server, self.one, self.two, self.client)
        self.assertEqual(self.client.received, b"-ERR max number of clients reached\r\n")
        self.assertEqual((channel.far.lost, channel.far.aborted), (True, False))

    def test_large_replies_come_first(self) -> None:
        """Who quits behind them gets all of them, at its own pace, and is not read meanwhile."""
        reply = b"x" * 500_000
        self.server.dispatcher.run = lambda connection, _: connection.close_after_flush(reply)
        channel = Channel(self.server, self.one, self.two, self.client)
        channel.far.full_at = 100_000
        self.client.transport.write(PING)
        channel.pump()
        self.assertTrue(channel.far.paused)
        for _ in range(10):
            channel.far.drain()
            channel.pump()
        self.assertEqual(self.client.received, reply)
        self.assertTrue(channel.far.lost)


@implementer(IOpenSSLContextFactory)
class Unproven(Certificates):
    """Where the certificate is all that is asked of clients."""

    def setUp(self) -> None:
        super().setUp()
        self.server = Server(certificate_required=True)

    def test_without_a_certificate(self) -> None:
        """A client is not authenticated, and dropped if it stays."""
        channel = Channel(self.server, self.one, Bare(), Client())
        self.assertFalse(channel.connection.authenticated)
        for _ in range(11):
            self.server.clock.advance(1)
        self.assertTrue(channel.far.aborted)

    def test_with_a_certificate(self) -> None:
        """That is enough; a CA alone is none."""
        channel = Channel(self.server, self.one, self.two, Client())
        self.assertTrue(channel.connection.authenticated)
        only_ca = TLSMaterial(None, None, self.ca.path)
        channel = Channel(self.server, self.one, only_ca, Client())
        self.assertFalse(channel.connection.authenticated)

    def test_a_secret_is_asked_for_besides(self) -> None:
        """With a secret the certificate is not enough."""
        server = Server(auth_required=True, certificate_required=True)
        channel = Channel(server, self.one, self.two, Client())
        self.assertTrue(channel.connection.certified)
        self.assertFalse(channel.connection.authenticated)

    def test_a_handshake_that_is_not_finished(self) -> None:
        """Is dropped where nothing is asked of clients, too, and told of once a second."""
        server = Server()
        clock: Any = MemoryReactorClock()
        factory: Any = self.one.server_factory(server.factory, clock)
        transports = [Transport() for _ in range(3)]
        for transport in transports:
            transport.protocol = factory.buildProtocol(None)
            transport.protocol.makeConnection(transport)
        with capturedLogs() as logs:
            transports[0].protocol.dataReceived(PING)
            transports[1].protocol.dataReceived(PING)
        told = [event for event in logs if "TLS with" in event["log_format"]]
        self.assertEqual([event["reason"] for event in told], ["wrong version number"])
        for _ in range(11):
            server.clock.advance(1)
        self.assertTrue(transports[2].aborted)

    def test_a_client_checks_the_server(self) -> None:
        """With the CA it knows, and says nothing to another."""
        other = Authority(self.directory, "other")
        client = Client()
        channel = Channel(self.server, self.one, TLSMaterial(None, None, other.path), client)
        self.assertIn("certificate verify failed", explain(client.reason))
        self.assertFalse(channel.connection.authenticated)


class Bare:
    """A client's TLS: no CA to check, and a certificate only if one is given."""

    def __init__(self, files: tuple[str, str] | None = None) -> None:
        self._files = files

    def client_factory(self, factory: Any, clock: Any) -> Any:
        return TLSMemoryBIOFactory(self, True, factory, clock)

    def getContext(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        if self._files is not None:
            context.use_certificate_file(self._files[0])
            context.use_privatekey_file(self._files[1])
        return context


class Members(Certificates):
    """Links over TLS."""

    def link(
        self,
        near: TLSMaterial,
        far: TLSMaterial,
        certificates: bool = True,
        secret: str | None = None,
    ) -> tuple[NotingHandler, NotingHandler, list[Any], Channel]:
        """Dial from node 1 to node 2."""
        dialer = NotingHandler(1, secret=secret, certificates=certificates)
        acceptor = NotingHandler(2, secret=secret, certificates=certificates)
        dispatcher: Any = self.server.dispatcher
        dispatcher.link_requested = lambda connection, command, rest: accept_link(
            connection, command, rest, acceptor, self.server.clock
        )
        link = MemberLink(dialer, self.server.clock, 2)
        outcome: list[Any] = []
        link.opened.addBoth(outcome.append)
        channel = Channel(self.server, far, near, link)
        return dialer, acceptor, outcome, channel

    def test_members_with_certificates_of_the_ca(self) -> None:
        """Come together, and their messages are not on the wire."""
        dialer, acceptor, _, channel = self.link(self.one, self.two)
        self.assertTrue(peer_certified(dialer.links[0].transport))
        dialer.links[0].send(encode(StatusRequest(0x4142434445464748)))
        channel.pump()
        self.assertEqual(acceptor.messages, [StatusRequest(0x4142434445464748)])
        self.assertNotIn(b"HGFEDCBA", channel.wire)
        self.assertNotIn(b"RAFTLINK", channel.wire)

    def test_a_member_without_a_certificate_is_none(self) -> None:
        """Though a client may come without."""
        dialer, acceptor, outcome, _ = self.link(Bare(), self.two)  # type: ignore[arg-type]
        self.assertEqual((dialer.links, acceptor.links), ([], []))
        outcome[0].trap(LinkRefused)
        self.assertIn("certificate of the cluster's CA", str(outcome[0].value))

    def test_an_acceptor_of_another_ca_is_none(self) -> None:
        """The dialer checks too."""
        other = Authority(self.directory, "other")
        foreign = TLSMaterial(*other.issue("stranger"), other.path)
        dialer, acceptor, outcome, _ = self.link(self.one, foreign)
        self.assertEqual((dialer.links, acceptor.links), ([], []))
        self.assertEqual(len(outcome), 1)

    def test_without_a_ca_the_secret_proves_members(self) -> None:
        """Over a value of the channel."""
        one = TLSMaterial(*self.ca.issue("one"))
        self.assertFalse(one.verifies)
        dialer, acceptor, _, channel = self.link(one, one, certificates=False, secret="s")
        self.assertEqual((len(dialer.links), len(acceptor.links)), (1, 1))
        near = channel_binding(dialer.links[0].transport)
        self.assertEqual(len(near), 32)
        self.assertEqual(near, channel_binding(channel.connection.transport))

    def test_every_channel_has_its_own_value(self) -> None:
        """So a relay between two of them cannot pass proofs on."""
        values = {
            channel_binding(self.link(self.one, self.two)[0].links[0].transport) for _ in range(3)
        }
        self.assertEqual(len(values), 3)

    def test_a_plain_channel_has_none(self) -> None:
        """And shows no certificate."""
        self.assertEqual(channel_binding(Transport()), b"")
        self.assertFalse(peer_certified(Transport()))


class Files(Certificates):
    """Loading and loading again."""

    def test_files_that_cannot_be_used(self) -> None:
        """One line that names them."""
        certificate, key = self.ca.issue("three")
        _, other_key = self.ca.issue("four")
        for cert, private, ca in (
            ("missing", key, None),
            (certificate, "missing", None),
            (certificate, other_key, None),
            (certificate, key, "missing"),
            (key, certificate, None),
        ):
            with self.assertRaises(StartFailed) as caught:
                TLSMaterial(cert, private, ca)
            self.assertIn(cert, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))

    def test_reload_is_for_new_connections(self) -> None:
        """A renewed certificate is shown from then on; connections go on."""
        client = Client()
        before = Channel(self.server, self.one, self.two, client)
        self.ca.issue("renewed", "one")
        self.one.reload()
        after = Channel(self.server, self.one, self.two, Client())
        names = [
            channel.near_tls.getPeerCertificate().get_subject().CN for channel in (before, after)
        ]
        self.assertEqual(names, ["one", "renewed"])
        client.transport.write(PING)
        before.pump()
        self.assertEqual(client.received, b"+PING\r\n")

    def test_a_failed_reload_changes_nothing(self) -> None:
        """What was loaded stays in use."""
        with open(os.path.join(self.directory, "one.crt"), "wb") as file:
            file.write(b"junk")
        self.assertRaises(StartFailed, self.one.reload)
        channel = Channel(self.server, self.one, self.two, Client())
        self.assertTrue(channel.connection.certified)
