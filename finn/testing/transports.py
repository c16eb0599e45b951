"""TCP connections of a simulated world, as Twisted transports."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from finn.testing.network import Network
    from finn.testing.reactor import SimulatedReactor

# What system and transport hold of a connection before a producer is asked to wait, bytes.
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024

END = "end"
"""In a pipe: the sender closed, nothing follows (FIN)."""
RESET = "reset"
"""In a pipe: the sender knows nothing of the connection any more (RST)."""


class Pipe:
    """One direction of a connection: pieces arrive in the order in which they were sent.

    Attributes:
        stalled: what arrived at a cut and waits for it to heal.
    """

    __slots__ = (
        "_busy_until", "_last", "_network", "closed", "sender", "source_host", "stalled",
        "target", "target_host",
    )  # fmt: skip

    def __init__(
        self, network: Network, sender: SimulatedTransport, target: SimulatedTransport
    ) -> None:
        self._network = network
        self.sender = sender
        self.target = target
        self.source_host = sender.local[0]
        self.target_host = target.local[0]
        self.stalled: deque[Any] = deque()
        self.closed = False
        self._last = 0.0
        self._busy_until = 0.0
        network.pipes[self] = None

    def send(self, piece: Any, delay: float = 0.0) -> None:
        """Send bytes, END or RESET."""
        network = self._network
        scheduler = network.scheduler
        now = scheduler.now + delay
        due = now + network.latency(self.source_host, self.target_host)
        settings = network.settings
        if type(piece) is bytes:
            if settings.bandwidth:
                self._busy_until = max(self._busy_until, now) + len(piece) / settings.bandwidth
                due += self._busy_until - now
            if settings.split and len(piece) > 1 and network.random.random() < settings.split:
                cut = network.random.randrange(1, len(piece))
                due = self._last = max(due, self._last)
                scheduler.at(due, self.target.reactor, self.arrive, piece[:cut])
                piece = piece[cut:]
                due += network.settings.jitter
        due = self._last = max(due, self._last)
        scheduler.at(due, self.target.reactor, self.arrive, piece)

    def arrive(self, piece: Any) -> None:
        """A piece reaches the target's host, unless there is a cut."""
        if self.stalled or self._network.is_cut(self.source_host, self.target_host):
            self.stalled.append(piece)
            return
        self._deliver(piece)

    def _deliver(self, piece: Any) -> None:
        tap = self._network.tap
        if tap is not None:
            tap(self, piece)
        self.target.arrived(piece)

    def try_again(self) -> None:
        """TCP sends again: what stalled gets through if the cut is gone."""
        network = self._network
        if self.stalled and not network.is_cut(self.source_host, self.target_host):
            network.scheduler.at(network.scheduler.now, self.target.reactor, self._flush)

    def _flush(self) -> None:
        while self.stalled:
            self._deliver(self.stalled.popleft())

    def break_connection(self) -> None:
        """Reset both ends."""
        self.send(RESET)
        back = self.target.out
        if back is not None:
            back.send(RESET)

    def close(self) -> None:
        """Nothing of this connection matters any more."""
        self.closed = True
        self._network.pipes.pop(self, None)


@implementer(ITCPTransport, IPushProducer)
class SimulatedTransport:
    """One end of a connection.

    Args:
        reactor: of the process.
        local, remote: address and port of both ends.

    Attributes:
        protocol: gets the bytes; None before the process has accepted.
        out: the way to the other end.
        lost: ``connectionLost`` was called, or never will be.
        gone: the power went on this side: the other one was told nothing.
    """

    disconnecting = False

    def __init__(
        self, reactor: SimulatedReactor, local: tuple[str, int], remote: tuple[str, int]
    ) -> None:
        self.reactor = reactor
        self.local = local
        self.remote = remote
        self.protocol: Any = None
        self.out: Pipe | None = None
        self.peer: SimulatedTransport | None = None
        self.connected = True
        self.lost = False
        self.gone = False
        self.producer: Any = None
        self.unread = 0  # bytes written and not yet taken by the other end
        self._full = False
        self._reading = True
        self._inbox: deque[Any] = deque()
        self._closing = False  # loseConnection was called
        self._accepted = False
        reactor.transports[self] = None

    def join(self, peer: SimulatedTransport, network: Network) -> None:
        """Connect both ends."""
        self.peer, peer.peer = peer, self
        self.out = Pipe(network, self, peer)
        peer.out = Pipe(network, peer, self)

    def use(self, protocol: Any) -> None:
        """The process takes the connection."""
        self.protocol = protocol
        self._accepted = True
        protocol.makeConnection(self)
        self._read()

    # -- writing ------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not data or self.lost or self._closing or self.reactor.dead:
            return
        peer = self.peer
        assert peer is not None and self.out is not None
        self.unread += len(data)
        if peer.gone:
            self._meet_nobody()
        elif peer.lost:
            # The other side has closed: its system answers with a reset.
            assert peer.out is not None
            peer.out.send(RESET, self.reactor.network.settings.latency)
        else:
            self.out.send(bytes(data))
        if self.unread > HIGH_WATER and self.producer is not None and not self._full:
            self._full = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Send pieces."""
        self.write(b"".join(data))

    def _meet_nobody(self) -> None:
        """The other computer lost power since: when it is up again, it answers with a reset."""
        network = self.reactor.network
        peer = self.peer
        assert peer is not None and peer.out is not None
        if peer.local[0] not in network.down:
            peer.out.send(RESET, network.settings.latency)

    def power_is_back(self) -> None:
        """The other computer is up again: it resets the connection if anything is sent there."""
        if self.unread and not self.lost:
            self._meet_nobody()

    def taken(self, size: int) -> None:
        """The other end took bytes."""
        self.unread -= size
        if self._full and self.unread <= LOW_WATER:
            self._full = False
            reactor = self.reactor
            reactor.scheduler.at(
                reactor.scheduler.now + reactor.network.settings.latency, reactor, self._drained
            )

    def _drained(self) -> None:
        if self.producer is not None and not self.lost:
            self.producer.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell a push producer when to wait."""
        assert streaming, "a simulated transport has push producers only"
        if self.lost:
            producer.stopProducing()
            return
        self.producer = producer

    def unregisterProducer(self) -> None:
        """No producer any more."""
        self.producer = None
        if self._closing:
            self._finish()

    # -- closing ------------------------------------------------------------------------------

    def loseConnection(self, *reason: Any) -> None:
        """Close, behind all that was written."""
        if self.lost or self._closing or self.reactor.dead:
            return
        self._closing = self.disconnecting = True
        if self.producer is None:
            self._finish()

    def _finish(self) -> None:
        if self.lost or self.out is None:
            return
        self.out.send(END)
        self._lose_soon(ConnectionDone())

    def abortConnection(self) -> None:
        """Close at once."""
        if self.lost or self.reactor.dead:
            return
        assert self.out is not None
        self.out.send(RESET)
        self._closing = self.disconnecting = True
        self._lose_soon(ConnectionAborted())

    def loseWriteConnection(self) -> None:
        """Close the writing side."""
        if not self.lost and not self._closing and self.out is not None:
            self._closing = True
            self.out.send(END)

    def _lose_soon(self, why: Exception) -> None:
        """The process learns of the end in a turn of its own, as from a real reactor."""
        reactor = self.reactor
        reactor.scheduler.at(reactor.scheduler.now, reactor, self._lose, why)

    def _lose(self, why: Exception) -> None:
        if self.lost:
            return
        self.lost = True
        self.connected = False
        self.reactor.transports.pop(self, None)
        if self.peer is not None and self.peer.lost:
            self._forget()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        if self._accepted:
            self.protocol.connectionLost(Failure(why))

    def _forget(self) -> None:
        for end in (self, self.peer):
            if end is not None and end.out is not None:
                end.out.close()

    def vanish(self, silently: bool) -> None:
        """The process is dead; its system closes the connection unless the power went."""
        if not self.lost:
            self.lost = True
            self.gone = silently
            if not silently and self.out is not None:
                self.out.send(RESET if self._inbox else END)
            if self.peer is not None and self.peer.lost:
                self._forget()

    # -- reading ------------------------------------------------------------------------------

    def arrived(self, piece: Any) -> None:
        """A piece has arrived at this host."""
        if self.lost:
            if type(piece) is bytes and self.out is not None and not self.gone:
                self.out.send(RESET)
            return
        if piece is RESET:
            self._inbox.clear()
            self._lose(ConnectionLost())
        elif self._reading and self._accepted and not self._inbox:
            self._take(piece)
        else:
            self._inbox.append(piece)

    def _take(self, piece: Any) -> None:
        if piece is END:
            self._end()
            return
        peer = self.peer
        assert peer is not None
        peer.taken(len(piece))
        if not self._closing:
            self.protocol.dataReceived(piece)

    def _end(self) -> None:
        if IHalfCloseableProtocol.providedBy(self.protocol) and not self._closing:
            self.protocol.readConnectionLost()
        else:
            if self.out is not None and not self._closing:
                self.out.send(END)
            self._lose(ConnectionDone())

    def _read(self) -> None:
        while self._inbox and self._reading and not self.lost:
            piece = self._inbox.popleft()
            while type(piece) is bytes and self._inbox and type(self._inbox[0]) is bytes:
                piece += self._inbox.popleft()
            self._take(piece)

    def pauseProducing(self) -> None:
        """Read no more for now."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read on, in a turn of its own."""
        if not self._reading:
            self._reading = True
            if self._inbox:
                reactor = self.reactor
                reactor.scheduler.at(reactor.scheduler.now, reactor, self._read)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # -- the rest of ITCPTransport ------------------------------------------------------------

    def getHost(self) -> IPv4Address:
        """Own address."""
        return IPv4Address("TCP", *self.local)

    def getPeer(self) -> IPv4Address:
        """Address of the other end."""
        return IPv4Address("TCP", *self.remote)

    def getTcpNoDelay(self) -> bool:
        """Nothing is ever held back here."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def getTcpKeepAlive(self) -> bool:
        """There is none."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""
