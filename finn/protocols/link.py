"""A link between two members: handshake first, then messages both ways.

One object serves both sides. The dialer makes it for a new connection (``dial``), the acceptor out
of a client connection whose first command was RAFTLINK (``accept_link``). Until the handshake is
complete only its few small frames are read, within a deadline; after that a link that brings
nothing for ``SILENCE`` is dropped: the dialer asks for a sign of life every second when there is
no other traffic. TCP alone would notice a lost peer after many minutes, and come back from a
healed partition as late.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import ProtocolError
from finn.options import split_address
from finn.protocols import tls as tls_module
from finn.protocols import transport as transport_module
from finn.protocols.frames import FrameReader
from finn.protocols.handshake import (
    NONCE_SIZE,
    Accepting,
    Dialling,
    HandshakeReader,
    LinkIdentity,
    LinkRefused,
    PeerHello,
    WrongPeer,
)
from finn.protocols.interfaces import ILinkHandler
from finn.protocols.output import Output
from finn.protocols.wire import OPENINGS, Ping, Pong, decode, encode, frame

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime

__all__ = [
    "ILinkHandler",
    "LinkIdentity",
    "LinkRefused",
    "MemberLink",
    "PeerHello",
    "accept_link",
    "dial",
    "probe",
]

HANDSHAKE_TIMEOUT = 5.0
CLOSE_TIMEOUT = 2.0
BEAT = 1.0
SILENCE = 5  # beats without a byte
MAX_BACKLOG = 64 * 1024 * 1024
MAX_FRAME_BYTES = 512 * 1024 * 1024
MAX_FRAME_PARTS = 100_000
_PING = encode(Ping())
_PONG = encode(Pong())


class MemberLink(Protocol):
    """One side of a link.

    Attributes:
        kind: ``raft``, ``snapshot`` or ``probe``.
        incoming: the other side dialled.
        peer: what the other side said of itself, None before the handshake is complete.
        peer_id, peer_address, peer_instance: of ``peer``.
        connected: the handshake is complete and the link is not lost.
        instance_changed: another process than on the dialer's link before answers.
        receiver: gets the messages; the handler, unless somebody takes over.
        on_lost: told of the loss besides the handler.
        opened: fires with the link when the handshake is complete (outgoing links only).
    """

    log = Logger()

    def __init__(
        self,
        handler: Any,
        clock: IReactorTime,
        to_id: int = 0,
        kind: str = "raft",
        hello: list[bytes] | None = None,
        nonces: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.handler = handler
        self.receiver: Any = handler
        self.on_lost: Callable[[Failure], None] | None = None
        self.kind = kind
        self.incoming = hello is not None
        self.peer: PeerHello | None = None
        self.peer_id = to_id
        self.peer_address = ""
        self.peer_instance = 0
        self.instance_changed = False
        self.opened: Deferred[MemberLink] = Deferred(self._cancelled)
        self._clock = clock
        self._hello = hello
        self._nonces = nonces
        self._dialling: Dialling | None = None
        self._accepting: Accepting | None = None
        self._shake = HandshakeReader()
        self._reader = FrameReader(MAX_FRAME_BYTES, MAX_FRAME_PARTS, OPENINGS)
        self._output: Any = None
        self._timer: IDelayedCall | None = None
        self._reason: Failure | None = None
        self._closing = False
        self._paused = False
        self._heard = True
        self._sent = True
        self._silent = 0
        self._progress = 0

    # -- life ---------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self.connected = 0
        transport: Any = self.transport
        self._output = Output(transport, lambda: None)
        self._timer = self._clock.callLater(
            HANDSHAKE_TIMEOUT, self.abort, "the handshake was not finished in time"
        )
        identity = self.handler.identity()
        nonce = self._nonces(NONCE_SIZE)
        try:
            if self._hello is None:
                self._dialling = Dialling(identity, self.peer_id, self.kind, nonce, self._channel)
                self._output.write(frame(self._dialling.hello))
                return
            self._check_certificate(identity)
            self._accepting = Accepting(identity, self._hello, nonce, self._channel)
            self.kind = self._accepting.peer.kind
            self._output.write(frame(self._accepting.answer))
        except LinkRefused as e:
            self._refused(e)

    def _channel(self) -> bytes:
        return tls_module.channel_binding(self.transport)

    def _check_certificate(self, identity: LinkIdentity) -> None:
        if identity.certificates and not tls_module.peer_certified(self.transport):
            raise LinkRefused("a member needs a certificate of the cluster's CA")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timer()
        was_made, self.connected = self.connected, 0
        self._closing = True
        broken = tls_module.explain(reason)
        if broken:
            reason = Failure(LinkRefused(f"TLS failed: {broken}"))
        why = self._reason or reason
        if was_made:
            if self.on_lost is not None:
                self.on_lost(why)
            self.handler.link_lost(self, why)
        elif not self.incoming and not self.opened.called:
            self.opened.errback(why)

    def _cancelled(self, _: Deferred[MemberLink]) -> None:
        self._reason = Failure(CancelledError())
        self.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def close(self) -> None:
        """Close once everything is sent, or after a moment."""
        if not self._closing and self._output is not None:
            self._closing = True
            self._stop_timer()
            self._timer = self._clock.callLater(CLOSE_TIMEOUT, self.abort, "closed")
            self._output.close()

    def abort(self, reason: str = "aborted") -> None:
        """Drop the link at once, whatever is unsent."""
        self._closing = True
        if self._reason is None:
            self._reason = Failure(ConnectionAborted(reason))
        self._stop_timer()
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _refuse(self, error: Exception) -> None:
        """Tell the other side why, and close."""
        self._reason = Failure(error)
        if not self._closing:
            text = " ".join(str(error).split())
            self._output.write(b"-ERR %s\r\n" % text.encode())
            self.close()

    # -- handshake ----------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        if self.connected:
            self._heard = True
            self._receive(data)
            return
        self._shake.feed(data)
        try:
            while not self.connected and not self._closing:
                got = self._shake.next()
                if got is None:
                    return
                if isinstance(got, str):
                    self._status(got)
                elif self._accepting is not None:
                    self._proved(self._accepting.receive(got))
                elif self._dialling is not None:
                    proof = self._dialling.receive(got)
                    self._check_certificate(self.handler.identity())
                    self._output.write(frame(proof))
        except WrongPeer as e:
            self.handler.link_refused(e.hello, str(e))
            self._refused(e)
        except LinkRefused as e:
            self._refused(e)

    def _refused(self, error: LinkRefused) -> None:
        if self.incoming:
            peer = transport_module.peer_name(self.transport.getPeer())  # type: ignore[union-attr]
            text = "link from {peer} refused: {reason}"
            self.handler.complain(text, peer=peer, reason=str(error))
        self._refuse(error)

    def _status(self, line: str) -> None:
        if self._dialling is None or not line.startswith("+"):
            raise LinkRefused(line.lstrip("-").removeprefix("ERR "))
        self._open(self._dialling.accepted())

    def _proved(self, peer: PeerHello) -> None:
        refusal = self.handler.accept_link(peer)
        if refusal is not None:
            raise LinkRefused(refusal)
        self._output.write(b"+OK\r\n")
        self._open(peer)

    def _open(self, peer: PeerHello) -> None:
        self.peer = peer
        self.peer_id = peer.node_id
        self.peer_address = peer.address
        self.peer_instance = peer.instance
        self.connected = 1
        if self.kind == "raft":
            # An answer that waits for its turn among thousands of clients looks like none.
            transport_module.prefer(self.transport)
        self._stop_timer()
        self._timer = self._clock.callLater(BEAT, self._beat)
        self.handler.link_made(self)
        if not self.incoming and not self.opened.called:
            self.opened.callback(self)
        rest = self._shake.rest()
        if rest and not self._closing:
            self._receive(rest)

    # -- messages -----------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        frames = self._reader.feed(data)
        if not frames:
            self.receiver.bytes_received(self, self._reader.begun)
        try:
            for parts in frames:
                message = decode(parts)
                if type(message) is Ping:
                    self.send(_PONG)
                elif type(message) is not Pong:
                    self.receiver.message_received(self, message)
                if self._closing:
                    return
            if self._reader.error is not None:
                raise ProtocolError(self._reader.error)
        except ProtocolError as e:
            self.log.error(
                "link with {peer_id:016x} broken: {reason}", peer_id=self.peer_id, reason=str(e)
            )
            self._reason = Failure(e)
            self.abort(str(e))
        except Exception:
            self.log.failure("a message of {peer_id:016x} failed", peer_id=self.peer_id)
            self.abort("internal error")

    def send(self, data: bytes) -> None:
        """Send a frame made by ``finn.protocols.wire``; nothing happens on a lost link."""
        if not self.connected or self._closing:
            return
        output = self._output
        if output.unsent > MAX_BACKLOG:
            self.abort("the peer does not read")
            return
        self._sent = True
        output.write(data)

    @property
    def backlog(self) -> int:
        """Bytes not yet handed to the transport."""
        return self._output.unsent if self._output is not None else 0

    @property
    def progress(self) -> int:
        """Changes whenever the peer has taken some of a backlog."""
        return self._output.progress if self._output is not None else 0

    @property
    def congested(self) -> bool:
        """The transport is full."""
        return self._output is not None and self._output.congested

    def pause(self) -> None:
        """Read no more until ``resume``."""
        self._paused = True
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        self.transport.resumeProducing()  # type: ignore[union-attr]

    def _beat(self) -> None:
        """Once a second: ask for a sign of life, or give up."""
        output = self._output
        alive = self._heard or self._paused or output.progress != self._progress
        self._silent = 0 if alive else self._silent + 1
        self._progress = output.progress
        if self._silent >= SILENCE:
            self.abort(f"nothing heard for {SILENCE * BEAT:.0f} seconds")
            return
        self._timer = self._clock.callLater(BEAT, self._beat)
        if not self.incoming and not (self._heard and self._sent) and not output.congested:
            self.send(_PING)
        self._heard = self._sent = False


# -- making links -----------------------------------------------------------------------------


class _LinkFactory(Factory):
    noisy = False

    def __init__(self, link: MemberLink) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:  # type: ignore[override]
        return self._link


def dial(
    reactor: Any,
    address: str,
    handler: Any,
    to_id: int,
    kind: str = "raft",
    tls: Any = None,
    timeout: float = transport_module.CONNECT_TIMEOUT,
    connect: Callable[..., Deferred[Any]] = transport_module.connect,
    nonces: Callable[[int], bytes] = os.urandom,
) -> Deferred[MemberLink]:
    """Make one link; the address is looked up now.

    Returns:
        Fires with the link, after ``handler.link_made``; fails with LinkRefused, or what kept it
        from connecting. Cancelling it gives up.
    """
    try:
        host, port = split_address(address)
    except ValueError as e:
        return fail(LinkRefused(str(e)))
    link = MemberLink(handler, reactor, to_id, kind, nonces=nonces)
    connecting = connect(reactor, host, port, _LinkFactory(link), timeout, tls)
    return connecting.addCallback(lambda _: link.opened)


def accept_link(
    connection: Any,
    command: list[bytes],
    rest: bytes,
    handler: Any,
    clock: IReactorTime,
    nonces: Callable[[int], bytes] = os.urandom,
) -> MemberLink:
    """Turn a client connection that asked with RAFTLINK into the accepting side of a link.

    The handler learns of it by ``link_made`` once the other side has proved itself.
    """
    link = MemberLink(handler, clock, hello=command, nonces=nonces)
    connection.become(link)
    if rest:
        link.dataReceived(rest)
    return link


class _Probing:
    """The handler of a probe: it knows who asks, and lets nothing else happen."""

    def __init__(self, identity: LinkIdentity) -> None:
        self._identity = identity

    def identity(self) -> LinkIdentity:
        return self._identity

    def link_made(self, link: MemberLink) -> None:
        pass

    def link_lost(self, link: MemberLink, reason: Failure) -> None:
        pass

    def message_received(self, link: MemberLink, message: Any) -> None:
        pass

    def bytes_received(self, link: MemberLink, begun: bytes) -> None:
        pass


def probe(
    reactor: Any,
    address: str,
    identity: LinkIdentity,
    timeout: float = 2.0,
    tls: Any = None,
    connect: Callable[..., Deferred[Any]] = transport_module.connect,
    nonces: Callable[[int], bytes] = os.urandom,
) -> Deferred[PeerHello]:
    """Ask who answers at an address; both sides prove the secret.

    Returns:
        Fires with what it says of itself; fails with LinkRefused, or what kept it from connecting.
    """

    def asked(link: MemberLink) -> PeerHello:
        link.close()
        assert link.peer is not None
        return link.peer

    handler = _Probing(identity)
    dialled = dial(reactor, address, handler, 0, "probe", tls, timeout, connect, nonces)
    dialled.addTimeout(timeout, reactor)
    return dialled.addCallback(asked)
