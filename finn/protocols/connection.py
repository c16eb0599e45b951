"""One client: commands in, replies out in order, and what the client is owed kept within bounds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.protocols.output import Output
from finn.protocols.slots import Slot
from finn.resp.reader import CommandReader

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IProtocol

    from finn.protocols.server import ClientFactory

CLOSE_TIMEOUT = 5.0  # for the last bytes of a connection that is being closed
ANSWER_TIMEOUT = 60.0  # for open slots of a connection that is being closed
DECIDE_TIMEOUT = 1.0  # for a connection beyond max_clients to turn out a member
UNPROVEN_BYTES = 128 * 1024  # before authentication, where it is required
MEMBER = b"RAFTLINK"
HTTP = (b"post", b"host:")
TOO_MANY = b"-ERR max number of clients reached\r\n"
INTERNAL = b"-ERR internal error\r\n"


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class ClientConnection(Protocol):
    """One client.

    Attributes:
        id: unique while the process lives.
        peer: address of the client, for people.
        context: the machine's, shared by all commands of the connection.
        transaction, last_run: the node's.
        restricted: authenticated with the client secret: may not change the cluster.
        resp3: replies in RESP3, after HELLO 3.
        authenticated: may run commands; set by the node.
        name, library, library_version: as the client told with CLIENT.
        created_at, last_active: clock seconds, exact to a second.
        commands_count: commands received.
        closing: QUIT or an error came: what follows is neither run nor answered.
    """

    log = Logger()
    factory: ClientFactory

    def __init__(self, factory: ClientFactory, number: int, peer: str) -> None:
        self.factory = factory
        self.id = number
        self.peer = peer
        self.context: Any = None
        self.transaction: Any = None
        self.last_run: Any = None
        self.resp3 = False
        self.authenticated = not factory.limits.auth_required
        self.restricted = False
        self.name = b""
        self.library = b""
        self.library_version = b""
        self.created_at = self.last_active = factory.now
        self.commands_count = 0
        self.closing = False
        self.handshaken = False
        self._admitted = False
        self._undecided = True
        self._out: list[bytes] = []
        self._queued = 0
        self._slots: deque[Slot | bytes | None] = deque()  # None: the end, nothing follows it
        self._pending = 0
        self._dirty = False
        self._reading = True
        self._paused: set[str] = set()
        self._postponed: list[list[bytes]] = []
        self._again: IDelayedCall | None = None
        self._output: Any = None
        self._progress = -1
        self._closed_at: float | None = None
        self._partial = 0
        self._unproven = 0
        self._successor: IProtocol | None = None
        self._reader = CommandReader(factory.limits.reader)
        self._dispatcher = factory.dispatcher

    # -- life ---------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        self._output = Output(transport, self._drained)
        if not self.factory.admit(self):
            self._refuse(TOO_MANY)
            return
        if self._admitted:
            self._announce()

    def _announce(self) -> None:
        try:
            welcome = self._dispatcher.connection_made(self)
        except Exception:
            self.log.failure("connection {id} of {peer} failed", id=self.id, peer=self.peer)
            welcome = False
        if not welcome:
            self.abandon()

    def _refuse(self, data: bytes) -> None:
        self.close_after_flush(data)
        self.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._note_partial(0)
        announced = self._admitted
        self.factory.forget(self)
        self._end()
        if announced:
            try:
                self._dispatcher.connection_lost(self, reason)
            except Exception:
                self.log.failure("connection {id} of {peer} failed", id=self.id, peer=self.peer)

    def _end(self) -> None:
        """Nothing is written any more: what slots bring goes nowhere."""
        self.closing = True
        self._slots.clear()
        self._slots.append(None)
        self._out.clear()
        self._postponed.clear()

    def abandon(self) -> None:
        """Drop the connection at once, whatever is unsent."""
        self._end()
        transport: Any = self.transport
        transport.abortConnection()

    def readConnectionLost(self) -> None:
        # A client that ends its side after a pipeline still gets the replies.
        if self._successor is not None:
            self.transport.loseConnection()  # type: ignore[union-attr]
        else:
            self.close_after_flush()
            self.flush()

    def writeConnectionLost(self) -> None:
        """Only we end the writing side, and then by closing."""

    def handshakeCompleted(self) -> None:
        self.handshaken = True

    @property
    def certified(self) -> bool:
        """The client showed a certificate that TLS verified."""
        get = getattr(self.transport, "getPeerCertificate", None)
        return self.handshaken and get is not None and get() is not None

    # -- in -----------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self.last_active = self.factory.now
        if self.closing:
            return
        if not self.authenticated and not self._is_allowed_yet(data):
            return
        commands, raw = self._reader.feed(data)
        if not commands or self._partial:
            self._note_partial(0 if commands else len(data))
        if commands:
            if self._undecided and not self._decide(commands):
                return
            if self._postponed:
                self._postponed.extend(commands)
            else:
                self._dispatch(commands, raw)
        if self._reader.error is not None and not self._postponed:
            self._protocol_error()
        self.flush()
        if self._pending or self._output.unsent:
            self._bound()

    def _is_allowed_yet(self, data: bytes) -> bool:
        """Count the bytes of a client that has not authenticated; False when they are too many."""
        self._unproven += len(data)
        if self._unproven <= UNPROVEN_BYTES:
            return True
        self._refuse(b"-NOAUTH Too much was sent before authentication\r\n")
        return False

    def _note_partial(self, size: int) -> None:
        """Account for the bytes of a command that is not complete; 0: it is now."""
        factory = self.factory
        if not size:
            factory.partial_bytes -= self._partial
            self._partial = 0
            return
        self._partial += size
        factory.partial_bytes += size
        if factory.partial_bytes > factory.limits.partial_bytes:
            self._refuse(b"-ERR too many large commands at a time, try again later\r\n")

    def _decide(self, commands: list[list[bytes]]) -> bool:
        """Learn from the first command whether this is a client; False when it ends here."""
        self._undecided = False
        first = commands[0]
        if first[0] == MEMBER:
            if len(commands) > 1 or self._reader.error is not None:
                self._refuse(b"-ERR Protocol error: nothing may follow RAFTLINK\r\n")
            else:
                self._hand_over(first)
            return False
        if not self._admitted:
            self._refuse(TOO_MANY)
            return False
        return True

    def _hand_over(self, command: list[bytes]) -> None:
        try:
            self._dispatcher.link_requested(self, command, self._reader.take_rest())
        except Exception:
            self.log.failure("link of {peer} failed", peer=self.peer)
            self.abandon()

    def _dispatch(self, commands: list[list[bytes]], raw: bytes | None) -> None:
        end = self._http(commands) if raw is None else None
        if end is not None:
            commands = commands[:end]
        self.commands_count += len(commands)
        try:
            if commands:
                self._dispatcher.commands_received(self, commands, raw)
        except Exception:
            self.log.failure("a command of connection {id} failed", id=self.id)
            self.close_after_flush(INTERNAL)
        if end is not None and not self._postponed:
            self.close_after_flush()

    def _http(self, commands: list[list[bytes]]) -> int | None:
        """Find what a browser was tricked to send: it is not run, and ends the connection."""
        for position, command in enumerate(commands):
            if command[0].lower() in HTTP:
                self.log.warn("HTTP from {peer}: possible cross-protocol attack", peer=self.peer)
                return position
        return None

    def _protocol_error(self) -> None:
        text = str(self._reader.error)
        self.log.debug("connection {id} of {peer}: {text}", id=self.id, peer=self.peer, text=text)
        self.close_after_flush(b"-ERR " + text.encode("utf-8", "replace") + b"\r\n")

    def _bound(self) -> None:
        """Stop reading from a client that is owed too much."""
        limits = self.factory.limits
        if self._pending > limits.pending_replies or self._waiting > limits.output_bytes:
            self.pause("pending")

    @property
    def _waiting(self) -> int:
        return self._queued + int(self._output.unsent)

    # -- out ----------------------------------------------------------------------------------

    def reply(self, data: bytes) -> None:
        """Give the reply of the next command or commands."""
        self._queued += len(data)
        if self._slots:
            self._pending += 1
            self._slots.append(data)
        else:
            self._out.append(data)

    def reserve(self, count: int = 1) -> Slot:
        """Keep the place of the replies of the next ``count`` commands."""
        slot = Slot(self, count)
        self._pending += count
        self._slots.append(slot)
        return slot

    def slot_filled(self, slot: Slot, size: int) -> None:
        """Note that a slot has its data (called by the slot)."""
        self._queued += size
        if self._slots[0] is slot and not self._dirty:
            self._dirty = True
            self.factory.dirty.append(self)

    @property
    def has_pending(self) -> bool:
        """There are open slots."""
        return bool(self._slots)

    @property
    def full(self) -> bool:
        """The client is owed as many bytes as are kept for it: better ``postpone`` the rest."""
        limit = self.factory.limits.output_bytes
        if self._queued < limit:
            return False
        if not self._slots:
            self._write_out()
        return self._waiting >= limit

    def postpone(self, commands: list[list[bytes]]) -> None:
        """Take back commands, the last of those handed over, until the client has read more.

        They come again in a later call of ``commands_received``, with None for ``raw``.
        """
        self.commands_count -= len(commands)
        self._postponed.extend(commands)
        self.pause("postponed")

    def flush(self) -> None:
        """Write what is ready, in one piece."""
        self._dirty = False
        if self._slots:
            self._settle()
        if self._out:
            self._write_out()
        if self._slots and self._slots[0] is None:
            self._output.close()
        elif self._paused:
            self._relieve()

    def _write_out(self) -> None:
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._queued -= len(data)
        self._output.write(data)

    def _settle(self) -> None:
        """Move the replies before the first open slot to the output."""
        slots = self._slots
        out = self._out
        while slots:
            head = slots[0]
            if isinstance(head, bytes):
                out.append(head)
                self._pending -= 1
            elif head is None or head.data is None:
                return
            else:
                out.append(head.data)
                self._pending -= head.count
            slots.popleft()

    def close_after_flush(self, data: bytes = b"") -> None:
        """Close when all replies up to now, and ``data``, are written; nothing is read any more."""
        if self.closing and self._slots and self._slots[-1] is None:
            return
        if data:
            self.reply(data)
        self.closing = True
        self._closed_at = self.factory.now
        self._postponed.clear()
        self._slots.append(None)
        self.pause("closing")
        if not self._dirty:
            self._dirty = True
            self.factory.dirty.append(self)

    # -- reading, paused and resumed ----------------------------------------------------------

    def pause(self, reason: str) -> None:
        """Read no more until each reason given is resumed."""
        self._paused.add(reason)
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume(self, reason: str) -> None:
        """Take back one reason for not reading."""
        self._paused.discard(reason)
        if not self._paused and not self._reading and not self.closing:
            self._reading = True
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def _drained(self) -> None:
        """The transport has taken everything."""
        if self._paused:
            self._relieve()

    def _relieve(self) -> None:
        limits = self.factory.limits
        waiting = self._waiting
        if "pending" in self._paused and (
            self._pending <= limits.pending_replies // 2 and waiting <= limits.output_bytes // 2
        ):
            self.resume("pending")
        # In a turn of its own: this one may be the dispatcher's, in the middle of something.
        if self._postponed and self._again is None and waiting <= limits.output_bytes // 2:
            self._again = self.factory.clock.callLater(0, self._dispatch_postponed)

    def _dispatch_postponed(self) -> None:
        self._again = None
        commands, self._postponed = self._postponed, []
        self._dispatch(commands, None)
        if not self._postponed:
            if self._reader.error is not None:
                self._protocol_error()
            self.resume("postponed")
        self.flush()
        if self._pending or self._waiting:
            self._bound()

    # -- turning into a link ------------------------------------------------------------------

    def become(self, successor: IProtocol) -> None:
        """Give the transport to another protocol, from here on.

        A transport keeps the protocol it was made with, and behind TLS nobody else can reach it:
        so this object stays between them and passes on.
        """
        self._successor = successor
        self.factory.forget(self)
        self._end()
        self._output.detach()
        self.dataReceived = successor.dataReceived  # type: ignore[method-assign]
        self.connectionLost = successor.connectionLost  # type: ignore[method-assign,assignment]
        successor.makeConnection(self.transport)  # type: ignore[arg-type]

    # -- the sweep ----------------------------------------------------------------------------

    def sweep(self, now: float) -> str | None:
        """Say why the connection has to be dropped, or None. Called about once a second."""
        limits = self.factory.limits
        output: Any = self._output
        if self._closed_at is not None:
            waited = ANSWER_TIMEOUT if self._slots and self._slots[0] is not None else CLOSE_TIMEOUT
            return "not closed in time" if now - self._closed_at > waited else None
        if self._undecided and not self._admitted:
            if now - self.created_at > DECIDE_TIMEOUT:
                self._refuse(TOO_MANY)
            return None
        if output.congested:
            if output.progress != self._progress:
                self._progress = output.progress
                self.last_active = now
            elif now - self.last_active > limits.stall_timeout:
                return "it does not read its replies"
            return None
        silent = now - self.last_active
        if self._partial and silent > limits.partial_timeout:
            return "its command was not finished in time"
        if limits.idle_timeout and silent > limits.idle_timeout and not self._slots:
            return "idle"
        if not self.authenticated and now - self.created_at > limits.handshake_timeout:
            return "not authenticated in time"
        return None
