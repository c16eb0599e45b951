"""Tests for finn.protocols.transport: over real sockets, and with a reactor of memory."""

from __future__ import annotations

import io
import select
import socket
from types import SimpleNamespace
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import (
    CannotListenError,
    ConnectingCancelledError,
    ConnectionRefusedError,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.basic import FileSender
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from finn.protocols.tls import TLSMaterial
from finn.protocols.transport import (
    BACKLOG,
    WriteThroughClient,
    WriteThroughReactor,
    WriteThroughServer,
    connect,
    listen,
    peer_name,
    prefer,
    write_through,
)
from tests.protocols.certificates import Authority


class Noting(Protocol):
    """Notes what it receives."""

    def __init__(self) -> None:
        self.received = b""
        self.wanted = 0
        self.got: Deferred[bytes] = Deferred()
        self.lost: Deferred[Any] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= self.wanted and not self.got.called:
            self.got.callback(self.received)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class Pair:
    """A write-through transport on one end of a socket pair; the test holds the other."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.reactor: Any = MemoryReactorClock()
        near, self.far = socket.socketpair()
        self.far.setblocking(False)
        case.addCleanup(self.far.close)
        case.addCleanup(near.close)
        self.protocol = Noting()
        self.transport: Any = WriteThroughServer(
            near, self.protocol, ("127.0.0.1", 1), None, 1, self.reactor
        )
        self.transport.repstr = "pair"
        self.protocol.makeConnection(self.transport)

    def read(self) -> bytes:
        """Return what has arrived at the other end."""
        data = b""
        while True:
            try:
                more = self.far.recv(1 << 20)
            except BlockingIOError:
                return data
            if not more:
                return data
            data += more

    @property
    def is_writing(self) -> bool:
        """Whether the transport waits for the socket."""
        return self.transport in self.reactor.writers


class WriteThrough(SynchronousTestCase):
    """Bytes leave at once when they may, and only then."""

    def setUp(self) -> None:
        self.pair = Pair(self)
        self.transport = self.pair.transport

    def drain(self) -> bytes:
        """Let the transport write what it queued, as a reactor would."""
        data = self.pair.read()
        while self.pair.is_writing:
            self.assertIs(self.transport.doWrite(), None)
            data += self.pair.read()
        return data

    def test_bytes_leave_at_once(self) -> None:
        """Without a turn of the reactor, and without asking it for one."""
        self.transport.write(b"hello")
        self.assertEqual(self.pair.read(), b"hello")
        self.assertFalse(self.pair.is_writing)

    def test_what_the_kernel_does_not_take_is_queued(self) -> None:
        """In order, behind it whatever is written later."""
        data = bytes(range(256)) * 40_000
        self.transport.write(data)
        self.assertTrue(self.pair.is_writing)
        self.transport.write(b"end")
        self.assertTrue(self.drain() == data + b"end")
        self.transport.write(b"again")
        self.assertEqual(self.pair.read(), b"again")

    def test_only_bytes_are_written(self) -> None:
        """As on any transport."""
        self.assertRaises(TypeError, self.transport.write, "text")

    def test_nothing_is_written_through_a_tls_layer(self) -> None:
        """After startTLS plaintext must not reach the wire (guard 1 of DESIGN section 9)."""
        from finn.protocols.tls import TLSMaterial

        certificate, key = Authority(self.mktemp()).issue("node")
        self.transport.startTLS(TLSMaterial(certificate, key))
        self.transport.write(b"secret")
        self.assertNotIn(b"secret", self.drain())

    def test_a_pull_producer_is_fed_by_the_queue(self) -> None:
        """It is asked for more when the queue drains, so it must be queued (guard 2)."""
        data = bytes(range(256)) * 1000
        done = FileSender().beginFileTransfer(io.BytesIO(data), self.transport)
        self.assertTrue(self.pair.is_writing)
        self.assertTrue(self.drain() == data)
        self.successResultOf(done)

    def test_a_push_producer_is_paused_and_resumed(self) -> None:
        """Write-through does not hide a full transport from it."""
        calls: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                calls.append("pause")

            def resumeProducing(self) -> None:
                calls.append("resume")

            def stopProducing(self) -> None:
                calls.append("stop")

        self.transport.registerProducer(Producer(), True)
        self.transport.write(b"small")
        self.assertEqual(self.pair.read(), b"small")
        self.transport.write(bytes(10_000_000))
        self.assertEqual(calls, ["pause"])
        self.drain()
        self.assertEqual(calls, ["pause", "resume"])

    def test_a_lost_connection_is_noticed_outside_of_write(self) -> None:
        """``write`` calls no protocol; the reactor's next turn does."""
        self.pair.far.close()
        self.transport.write(b"x")
        self.assertTrue(self.pair.is_writing)
        self.assertNoResult(self.pair.protocol.lost)
        self.assertIsNot(self.transport.doWrite(), None)

    def test_nothing_is_written_after_the_writing_side_closed(self) -> None:
        """Nor after the loss."""
        self.transport.loseWriteConnection()
        self.drain()
        self.transport.write(b"late")
        self.assertEqual(self.drain(), b"")


class Loopback(TestCase):
    """Real connections."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.accepted: Deferred[Noting] = Deferred()

    async def listen(self, where: str = "tcp:0:interface=127.0.0.1", tls: Any = None) -> int:
        case = self

        class Server(Noting):
            def connectionMade(self) -> None:
                case.addCleanup(lambda: self.lost)
                case.addCleanup(self.transport.abortConnection)  # type: ignore[union-attr]
                case.accepted.callback(self)

        port = await listen(self.reactor, where, Factory.forProtocol(Server), tls)
        self.addCleanup(port.stopListening)
        self.port = port
        number: int = port.getHost().port
        return number

    async def connect(self, host: str, port: int, tls: Any = None) -> Noting:
        client: Noting = await connect(
            self.reactor, host, port, Factory.forProtocol(Noting), tls=tls
        )
        self.addCleanup(lambda: client.lost)
        self.addCleanup(client.transport.abortConnection)  # type: ignore[union-attr]
        return client

    async def talk(self, client: Noting) -> Any:
        server: Any = await self.accepted
        client.transport.write(b"ping")  # type: ignore[union-attr]
        self.assertEqual(await server.got, b"ping")
        server.transport.write(b"pong")
        self.assertEqual(await client.got, b"pong")
        return server

    async def test_both_ends_write_through(self) -> None:
        """TCP_NODELAY and keepalive are set, and the backlog is long."""
        number = await self.listen()
        client = await self.connect("127.0.0.1", number)
        server = await self.talk(client)
        for end, kind in ((client, WriteThroughClient), (server, WriteThroughServer)):
            self.assertIsInstance(end.transport, kind)
            self.assertTrue(end.transport.getTcpNoDelay())
            self.assertTrue(end.transport.getTcpKeepAlive())
        self.assertEqual(self.port.backlog, BACKLOG)

    async def test_a_preferred_end(self) -> None:
        """The poller knows the transport that it watches, over TLS too; others know nothing."""
        authority = Authority(self.mktemp())
        tls = TLSMaterial(*authority.issue("one"), authority.path)
        client = await self.connect("127.0.0.1", await self.listen(tls=tls), tls)
        await self.talk(client)
        poller = write_through(self.reactor).poller
        if poller is None:
            raise SkipTest("there is no epoll here")
        socket_end: Any = client.transport.transport  # type: ignore[union-attr]
        self.assertNotIn(socket_end, poller._preferred)
        prefer(client.transport)
        self.assertIn(socket_end, poller._preferred)
        unwatched = Pair(self).transport
        prefer(unwatched)
        self.assertNotIn(unwatched, poller._preferred)

    async def test_names_are_looked_up(self) -> None:
        """At every call."""
        client = await self.connect("localhost", await self.listen())
        await self.talk(client)
        self.assertIsInstance(client.transport, WriteThroughClient)

    async def test_ipv6(self) -> None:
        """By number."""
        try:
            number = await self.listen(r"tcp6:0:interface=\:\:1")
        except CannotListenError:
            self.skipTest("no IPv6 here")
        client = await self.connect("::1", number)
        await self.talk(client)
        self.assertIsInstance(client.transport, WriteThroughClient)

    async def test_nobody_listens(self) -> None:
        """A refused connection is told as such."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number = probe.getsockname()[1]
            with self.assertRaises(ConnectionRefusedError):
                await self.connect("127.0.0.1", number)

    async def test_a_busy_port(self) -> None:
        """Cannot be listened on."""
        number = await self.listen()
        with self.assertRaises(CannotListenError):
            await listen(self.reactor, f"tcp:{number}:interface=127.0.0.1", Factory())

    async def test_an_attempt_can_be_cancelled(self) -> None:
        """It leaves nothing behind."""
        number = await self.listen()
        attempt = connect(self.reactor, "127.0.0.1", number, Factory.forProtocol(Noting))
        attempt.cancel()
        with self.assertRaises(ConnectingCancelledError):
            await attempt

    async def test_a_unix_socket_takes_twisteds_own_way(self) -> None:
        """Any endpoint works; those that are not TCP are as they were."""
        path = self.mktemp()
        await_port = listen(self.reactor, f"unix:{path}", Factory.forProtocol(Noting))
        port = await await_port
        await port.stopListening()


class Memory(SynchronousTestCase):
    """Reactors that are not made of sockets keep their own transports."""

    def test_only_socket_reactors_are_wrapped(self) -> None:
        """A test reactor is used as it is."""
        from twisted.internet import reactor

        memory = MemoryReactorClock()
        self.assertIs(write_through(memory), memory)
        self.assertIsInstance(write_through(reactor), WriteThroughReactor)

    @skipUnless(hasattr(select, "epoll"), "there is no epoll here")
    def test_only_a_reactor_that_knows_all_lingers(self) -> None:
        """Others have timers, and calls from threads, that are not in their lists."""
        from twisted.internet.asyncioreactor import AsyncioSelectorReactor
        from twisted.internet.epollreactor import EPollReactor

        def adds_timers(self: Any) -> None: ...

        other = type("Other", (EPollReactor,), {"run": adds_timers})
        for cls, lingers in ((EPollReactor, True), (other, False), (AsyncioSelectorReactor, False)):
            reactor = WriteThroughReactor(object.__new__(cls))
            self.assertEqual(reactor.poller._lingers, lingers, cls)  # type: ignore[union-attr]

    def test_listening_and_connecting(self) -> None:
        """By the endpoints' own means."""
        memory = MemoryReactorClock()
        factory = Factory.forProtocol(Noting)
        self.successResultOf(listen(memory, "tcp:7481:interface=127.0.0.1", factory))
        self.assertEqual(memory.tcpServers[0][0], 7481)
        attempt = connect(memory, "127.0.0.1", 7482, factory, 3)
        self.assertEqual(memory.tcpClients[0][:2], ("127.0.0.1", 7482))
        self.assertEqual(memory.tcpClients[0][3], 3)
        self.assertNoResult(attempt)

    def test_whoever_listens_finds_what_was_taken_from_the_reactor(self) -> None:
        """At endpoints of any kind: calls from threads would wait for ever."""
        memory: Any = MemoryReactorClock()
        checks: list[bool] = []
        memory.poller = SimpleNamespace(check=lambda: checks.append(True))
        endpoint = UNIXServerEndpoint(memory, "/run/finn")
        self.successResultOf(listen(memory, endpoint, Factory.forProtocol(Noting)))
        self.assertEqual(checks, [True])

    def test_the_wrapped_reactor_is_the_reactor(self) -> None:
        """In all that is not TCP."""
        from twisted.internet import reactor
        from twisted.internet.interfaces import IReactorTime

        wrapped: Any = write_through(reactor)
        self.assertTrue(IReactorTime.providedBy(wrapped))
        self.assertEqual(wrapped.callLater, reactor.callLater)  # type: ignore[attr-defined]


class Names(SynchronousTestCase):
    def test_addresses_for_people(self) -> None:
        """Hosts, IPv6 hosts, paths, and nothing."""
        from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

        self.assertEqual(peer_name(IPv4Address("TCP", "10.0.0.1", 5)), "10.0.0.1:5")
        self.assertEqual(peer_name(IPv6Address("TCP", "::1", 5)), "[::1]:5")
        self.assertEqual(peer_name(UNIXAddress("/run/finn")), "/run/finn")
        self.assertEqual(peer_name(None), "")
