"""Listening and connecting in a simulated world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, ConnectionRefusedError, TimeoutError, UserError
from twisted.internet.interfaces import IConnector, IListeningPort
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.testing.transports import SimulatedTransport

if TYPE_CHECKING:
    from finn.testing.reactor import SimulatedReactor

# TCP asks again for a connection when it hears nothing, seconds.
SYN_AGAIN = 1.0


@implementer(IListeningPort)
class SimulatedPort:
    """A port that a process listens on."""

    def __init__(self, reactor: SimulatedReactor, host: str, number: int, factory: Any) -> None:
        self.reactor = reactor
        self.host = host
        self.number = number
        self.factory = factory

    def startListening(self) -> None:
        """Listen."""
        network = self.reactor.network
        if self.number == 0:
            self.number = network.free_port()
        network.bind(self)
        self.reactor.ports[self] = None
        self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        """Listen no more."""
        self.reactor.network.unbind(self)
        if self.reactor.ports.pop(self, self) is None:
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address:
        """Address."""
        return IPv4Address("TCP", self.host, self.number)

    def accept(self, transport: SimulatedTransport) -> None:
        """The process takes a connection that its system has made."""
        if transport.lost:
            return
        protocol = None
        if self in self.reactor.ports:
            protocol = self.factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()
        else:
            transport.use(protocol)


@implementer(IConnector)
class SimulatedConnector:
    """An attempt to connect, and the connection that comes of it."""

    def __init__(
        self, reactor: SimulatedReactor, host: str, port: int, factory: Any, timeout: float
    ) -> None:
        self.reactor = reactor
        self.host = host
        self.port = port
        self.factory = factory
        self.state = "disconnected"
        self._timeout = timeout
        self._timer: Any = None
        self._transport: SimulatedTransport | None = None
        self._started = False

    def connect(self) -> None:
        """Try."""
        assert self.state == "disconnected"
        self.state = "connecting"
        if not self._started:
            self._started = True
            self.factory.doStart()
        if self._timeout is not None:
            self._timer = self.reactor.callLater(self._timeout, self._fail, TimeoutError())
        self.factory.startedConnecting(self)
        self._ask()

    def _ask(self) -> None:
        """Send a SYN."""
        if self.state != "connecting" or self.reactor.dead:
            return
        network = self.reactor.network
        scheduler = network.scheduler
        due = scheduler.now + network.latency(self.reactor.host, self.host)
        scheduler.at(due, None, self._asked)

    def _asked(self) -> None:
        """The SYN reaches the other host's system, which answers whatever its processes do."""
        if self.state != "connecting" or self.reactor.dead:
            return
        network = self.reactor.network
        scheduler = network.scheduler
        own = self.reactor.host
        if network.is_cut(own, self.host) or network.is_cut(self.host, own):
            scheduler.at(scheduler.now + SYN_AGAIN, None, self._ask)
            return
        due = scheduler.now + network.latency(self.host, own)
        port = network.port_at(self.host, self.port)
        if port is None:
            scheduler.at(due, self.reactor, self._fail, ConnectionRefusedError())
            return
        local, remote = (own, network.free_port()), (self.host, self.port)
        near = SimulatedTransport(self.reactor, local, remote)
        far = SimulatedTransport(port.reactor, remote, local)
        near.join(far, network)
        scheduler.at(due, self.reactor, self._connected, near)
        scheduler.at(due, port.reactor, port.accept, far)

    def _connected(self, transport: SimulatedTransport) -> None:
        if self.state != "connecting":
            transport.abortConnection()
            return
        if transport.lost:
            self._fail(ConnectionRefusedError())
            return
        self.state = "connected"
        self._stop_timer()
        protocol = self.factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()
            return
        self._transport = transport
        transport.use(protocol)

    def _fail(self, why: Exception) -> None:
        if self.state != "connecting":
            return
        self.state = "disconnected"
        self._stop_timer()
        self.factory.clientConnectionFailed(self, Failure(why))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def stopConnecting(self) -> None:
        """Give up."""
        if self.state != "connecting":
            raise UserError("not connecting")
        self._fail(ConnectError("connection attempt was stopped"))

    def disconnect(self) -> None:
        """Give up or close."""
        if self.state == "connecting":
            self.stopConnecting()
        elif self._transport is not None:
            self._transport.loseConnection()

    def getDestination(self) -> IPv4Address:
        """Where to."""
        return IPv4Address("TCP", self.host, self.port)
