"""Listening and connecting with a shorter way for bytes: write-through TCP transports.

Twisted's ``transport.write`` only queues: the bytes leave one turn of the loop later, after two
``epoll_ctl`` calls. The transports here first try to send at once when nothing is queued, which
takes a third off a round trip. Two guards keep that correct: not when TLS was started on the
transport (it would put plaintext on the wire), and not while a pull producer feeds it (the
producer is asked for more only by the queue's draining).

``WriteThroughReactor`` puts them behind any endpoint: it is the reactor, but for ``listenTCP`` and
``connectTCP``, and where there is epoll its connections wait in a ``Poller``. A reactor whose TCP
is not made of ``twisted.internet.tcp`` is left as it is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet import abstract, main, tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    serverFromString,
)
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
    IStreamServerEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from finn.protocols.poller import IS_POSSIBLE, Poller

BACKLOG = 511
CONNECT_TIMEOUT = 5.0
KEEPALIVE = (("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4))


class _WriteThrough(tcp.Connection):
    """A TCP connection whose ``write`` sends at once when it may.

    Attributes:
        takes_views: what is written may be a memoryview, and is copied only where it has to wait.
    """

    takes_views = True

    def write(self, data: bytes | memoryview) -> None:
        """Send what the kernel takes now, queue the rest."""
        if (
            not self.TLS
            and (self.producer is None or self.streamingProducer)
            and self.connected
            and not self.dataBuffer
            and not self._tempDataLen
            and not self._writeDisconnected
        ):
            # An error is left to the queue: the next doWrite meets it again, outside of any
            # protocol's method, and loses the connection in the usual way.
            size = len(data)
            sent = 0
            try:
                sent = self.socket.send(data)
                while sent < size:
                    sent += self.socket.send(memoryview(data)[sent:])
            except OSError:
                pass
            if sent == size:
                return
            data = data[sent:]
        super().write(bytes(data))  # no copy of what is bytes already

    def doRead(self) -> Any:
        """Read once and hand over, as ``tcp.Connection`` does, without its layers between."""
        try:
            data = self.socket.recv(self.bufferSize)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None


def _tune(skt: socket.socket) -> None:
    """Send small segments at once; notice a client whose host vanished."""
    try:
        skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if hasattr(socket, name):
                skt.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:
        pass  # the other side is gone already; the first read says so


class WriteThroughServer(_WriteThrough, tcp.Server):
    """An accepted connection."""

    def __init__(self, sock: socket.socket, *args: Any) -> None:
        _tune(sock)
        super().__init__(sock, *args)


class WriteThroughClient(_WriteThrough, tcp.Client):
    """An outgoing connection."""

    def _connectDone(self) -> None:
        _tune(self.socket)
        super()._connectDone()


class WriteThroughPort(tcp.Port):
    """A listening port of write-through connections."""

    transport = WriteThroughServer  # type: ignore[assignment]


class WriteThroughConnector(tcp.Connector):
    """Makes a write-through connection."""

    def _makeTransport(self) -> WriteThroughClient:
        return WriteThroughClient(self.host, self.port, self.bindAddress, self, self.reactor)


class ReactorProxy:
    """The reactor given, but for what a subclass does in its own way."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class _Watch(ReactorProxy):
    """The reactor as transports know it: a poller watches them."""

    def __init__(self, reactor: Any, poller: Poller) -> None:
        super().__init__(reactor)
        self.addReader = poller.addReader
        self.addWriter = poller.addWriter
        self.removeReader = poller.removeReader
        self.removeWriter = poller.removeWriter
        self.prefer = poller.prefer


def _is_plain(reactor: Any) -> bool:
    """Say whether a reactor knows itself of all timers and calls from threads: others do not."""
    from twisted.internet.epollreactor import EPollReactor

    return type(reactor) is EPollReactor


class WriteThroughReactor(ReactorProxy):
    """A reactor whose TCP ports and connectors are write-through; otherwise the one given.

    Attributes:
        poller: watches the connections, where there is epoll.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.callLater = reactor.callLater
        self.seconds = reactor.seconds
        self.poller = Poller(reactor, _is_plain(reactor)) if IS_POSSIBLE else None
        if self.poller is not None:
            self.callFromThread = self.poller.callFromThread

    def soon(self, action: Callable[[], None]) -> Any:
        """Call ``action`` behind the events that are being handled now.

        Returns:
            The delayed call that it became if there are none, else None.
        """
        if self.poller is not None and self.poller.handling:
            self.poller.soon(action)
            return None
        return self.callLater(0, action)

    def _watch(self) -> Any:
        """Return what a new transport is to take for its reactor."""
        if self.poller is None:
            return self._reactor
        self.poller.check()
        return _Watch(self._reactor, self.poller)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = BACKLOG, interface: str = ""
    ) -> IListeningPort:
        """Listen as IReactorTCP does."""
        listening = WriteThroughPort(port, factory, max(backlog, BACKLOG), interface, self._watch())
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: Any = None,
    ) -> tcp.Connector:
        """Connect as IReactorTCP does."""
        connector = WriteThroughConnector(host, port, factory, timeout, bindAddress, self._watch())
        connector.connect()
        return connector


_wrapped: WeakKeyDictionary[Any, WriteThroughReactor] = WeakKeyDictionary()


def write_through(reactor: Any) -> Any:
    """Return the reactor in its write-through form, or itself where that is not possible.

    There is one such form of a reactor.
    """
    # The selectable transports belong to reactors that watch file descriptors; test reactors and
    # IOCP bring their own.
    from twisted.internet.posixbase import PosixReactorBase

    if isinstance(reactor, PosixReactorBase) and IReactorFDSet.providedBy(reactor):
        wrapped = _wrapped.get(reactor)
        if wrapped is None:
            wrapped = _wrapped[reactor] = WriteThroughReactor(reactor)
        return wrapped
    return reactor


def listen(
    reactor: Any, where: str | IStreamServerEndpoint, factory: IProtocolFactory, tls: Any = None
) -> Deferred[IListeningPort]:
    """Listen for clients and members.

    Args:
        reactor: the reactor.
        where: a Twisted server endpoint description, or an endpoint.
        factory: makes the protocols.
        tls: a ``finn.protocols.tls.TLSMaterial`` when every connection is TLS.

    Returns:
        Fires with the port; fails with CannotListenError.
    """
    poller = getattr(reactor, "poller", None)
    if poller is not None:
        poller.check()  # it may have no connections of this endpoint, but calls from threads
    endpoint: Any = where
    if isinstance(where, str):
        endpoint = serverFromString(write_through(reactor), where)
    if tls is not None:
        factory = tls.server_factory(factory, reactor)
    listening: Deferred[IListeningPort] = endpoint.listen(factory)
    return listening


def connect(
    reactor: Any,
    host: str,
    port: int,
    factory: IProtocolFactory,
    timeout: float = CONNECT_TIMEOUT,
    tls: Any = None,
) -> Deferred[Any]:
    """Connect to a host by number or name.

    Args:
        reactor: the reactor.
        host: IPv4 or IPv6 address, or a name, looked up now.
        port: TCP port.
        factory: makes the protocol.
        timeout: seconds for the whole attempt.
        tls: a ``finn.protocols.tls.TLSMaterial`` for a TLS connection.

    Returns:
        Fires with the protocol; cancelling it gives up.
    """
    through = write_through(reactor)
    endpoint: Any
    if abstract.isIPAddress(host):
        endpoint = TCP4ClientEndpoint(through, host, port, timeout)
    elif abstract.isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(through, host, port, timeout)
    else:
        endpoint = HostnameEndpoint(through, host, port, timeout)
    if tls is not None:
        factory = tls.client_factory(factory, reactor)
    connecting: Deferred[Any] = endpoint.connect(factory)
    # The endpoint's own timer counts for each address of a name, and Twisted's connectors know no
    # reactor but Twisted's: it comes late when the clock is set back.
    connecting.addTimeout(timeout, reactor, lambda *_: Failure(TimeoutError()))
    if tls is not None:
        connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)
    return connecting


def plain(transport: Any) -> Any:
    """Return the transport below TLS, or itself where there is none."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def prefer(transport: Any) -> None:
    """Let the other side be heard before those that are not preferred, however many they are."""
    transport = plain(transport)
    watch = getattr(transport, "reactor", None)
    if isinstance(watch, _Watch):
        watch.prefer(transport)


def peer_name(address: Any) -> str:
    """Render an address for people: ``host:port``, a path, or nothing."""
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", None)
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
