"""One client: its bytes to commands, its life and its attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ISSLTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.protocols import tls
from finn.protocols.output import Output
from finn.protocols.replies import SMALL_REPLIES, ReplyPipeline
from finn.protocols.transport import plain
from finn.resp.reader import CommandReader

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from finn.protocols.server import ClientFactory

UNPROVEN_BYTES = 16 * 1024  # before authentication, where it is required
MODEST_BYTES = 64 * 1024  # of an incomplete command, kept whatever others have
QUANTUM = 256  # commands of one client in a turn that are no burden to the others
MIN_READ = 2048
FIRST_READ = 8 * 1024  # until it is known how small the client's commands are
MAX_READ = 64 * 1024
AGAIN = 512  # postponed commands that are looked at in a turn
MEMBER = b"RAFTLINK"
HTTP = (b"post", b"host:")
TOO_MANY = b"-ERR max number of clients reached\r\n"
INTERNAL = b"-ERR internal error\r\n"


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class ClientConnection(ReplyPipeline):
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
        created_at: clock seconds.
        commands_count: commands received.
        admitted: counted as a client, and known to the dispatcher.
        undecided: no command came yet: it may be a member.
        is_gathered: its bytes wait in a crowd, or are being run with one.
        gathers: they may: a command came, and not lately what only looked like those of others.
    """

    __slots__ = (
        "admitted", "authenticated", "commands_count", "context", "created_at", "gathers", "id",
        "is_gathered", "last_run", "library", "library_version", "name", "peer", "restricted",
        "resp3", "transaction", "undecided",
        "_active", "_again", "_command_size", "_dispatcher", "_handshaken", "_made", "_partial",
        "_postponed", "_progress", "_reader", "_reads_little", "_successor", "_unproven",
    )  # fmt: skip
    log = Logger()

    def __init__(self, factory: ClientFactory, number: int, peer: str) -> None:
        super().__init__(factory)
        self.id = number
        self.peer = peer
        self.context: Any = None
        self.transaction: Any = None
        self.last_run: Any = None
        self.resp3 = False
        self.authenticated = not factory.limits.guarded
        self.restricted = False
        self.name = b""
        self.library = b""
        self.library_version = b""
        self.created_at = factory.clock.seconds()
        self.commands_count = 0
        self.admitted = False
        self.undecided = True
        self.is_gathered = self.gathers = False
        self._handshaken = True  # nothing to wait for but over TLS
        self._active = self._made = factory.tick
        self._postponed: list[list[bytes]] = []
        self._again = False  # waits for its turn to go on with them
        self._progress = -1
        self._partial = 0  # bytes of the command that is not complete
        self._unproven = 0  # bytes received before authentication
        self._reads_little = True
        self._command_size = 0  # for which the size of reads was chosen
        self._successor: IProtocol | None = None
        self._reader = CommandReader(factory.limits.reader)
        self._dispatcher = factory.dispatcher

    # -- life ---------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        # Not every transport is TCP, and not every one that says so can do this.
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._handshaken = not ISSLTransport.providedBy(transport)
        self._set_read_size(FIRST_READ)
        self._output = Output(transport, self._drained)
        if not self.factory.admit(self):
            self._refuse(TOO_MANY)
        elif self.admitted and not self._is_welcome():
            self._refuse(b"")

    def _is_welcome(self) -> bool:
        try:
            return bool(self._dispatcher.connection_made(self))
        except Exception:
            self.log.failure("connection {id} of {peer} failed", id=self.id, peer=self.peer)
            return False

    def _refuse(self, data: bytes) -> None:
        self.close_after_flush(data)
        self.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._handshaken:
            broken = tls.explain(reason)
            if broken:
                text = "TLS with {peer} failed: {reason}"
                self.factory.complain(text, peer=self.peer, reason=broken)
        self._note_partial(0)
        was_known = self.admitted
        self.factory.forget(self)
        self._end()
        if was_known:
            try:
                self._dispatcher.connection_lost(self, reason)
            except Exception:
                self.log.failure("connection {id} of {peer} failed", id=self.id, peer=self.peer)

    def readConnectionLost(self) -> None:
        # A client that ends its side after a pipeline still gets the replies.
        if self.is_gathered:
            self.factory.crowds.finish(self, self._refuse, b"")
        elif self._successor is not None:
            # A member never ends one side alone: it is gone, and who writes to it would wait.
            self.transport.abortConnection()  # type: ignore[union-attr]
        else:
            self._refuse(b"")

    def writeConnectionLost(self) -> None:
        """Only we end the writing side, and then by closing."""

    def handshakeCompleted(self) -> None:
        self._handshaken = True
        if self.factory.limits.certificate_required and not self.factory.limits.auth_required:
            self.authenticated = self.certified

    @property
    def certified(self) -> bool:
        """The client showed a certificate that TLS verified."""
        return self._handshaken and tls.peer_certified(self.transport)

    @property
    def last_active(self) -> float:
        """Clock seconds when bytes came last, exact to a second."""
        factory = self.factory
        return max(self.created_at, factory.clock.seconds() - factory.age(self._active))

    def become(self, successor: IProtocol) -> None:
        """Give the transport to another protocol, from here on.

        A transport keeps the protocol it was made with, and behind TLS nobody else can reach it:
        so this object stays between them and passes on.
        """
        self._successor = successor
        self.factory.forget(self)
        self._end()
        self._set_read_size(MAX_READ)
        self._output.detach()
        self.dataReceived = successor.dataReceived  # type: ignore[method-assign]
        self.connectionLost = successor.connectionLost  # type: ignore[method-assign,assignment]
        successor.makeConnection(self.transport)  # type: ignore[arg-type]

    # -- in -----------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        factory = self.factory
        self._active = factory.tick
        if factory.batch.crowded or self.is_gathered:
            self._receive_among_others(data)
        else:
            self.receive(data, False)

    def _receive_among_others(self, data: bytes) -> None:
        crowds = self.factory.crowds
        if self.is_gathered:
            # TLS hands over each of its records; or this is a nested turn of the reactor.
            crowds.finish(self, self.receive, data)
        elif not (
            self.gathers
            and not self._slots
            and not self._out
            and not self._paused
            and not self.owed
            and self.transaction is None
            and self.authenticated
            and self._reader.idle
            and crowds.take(self, data)
        ):
            self.receive(data)

    def receive(self, data: bytes, crowded: bool = True) -> None:
        """Read commands from the next bytes, and run them; ``crowded``: others sent some too."""
        if self.closing:
            return
        commands, raw = self._reader.feed(data)
        if not commands or self._partial:
            self._note_partial(0 if commands else len(data))
        if commands:
            if self.undecided and not self._decide(commands):
                return
            if self._postponed:
                self._postponed.extend(commands)
            else:
                self._dispatch(commands, raw)
            count = len(commands)
            size = len(data) // count
            if size != self._command_size and (count > QUANTUM or self._reads_little):
                self._balance(size)
        elif self._reads_little:
            self._balance(1 if self._reader.inline else len(data))
        if raw is not data and self._reader.error is not None and not self._postponed:
            self._protocol_error()  # what was read as a whole has none
        if not self.authenticated:
            self._count_unproven(len(data))
        if crowded and raw is not None:
            self.factory.crowds.learn(commands[0], raw)
        if self._out or self._dirty or self._paused:
            if crowded and self._queued < SMALL_REPLIES:
                self.factory.flush_soon(self)
            else:
                self.flush()
        elif self._pending:
            self._account()
            self._bound()

    def fail(self) -> None:
        """Close: a command failed, and with it whatever was to follow."""
        self.close_after_flush(INTERNAL)
        self.flush()

    def _count_unproven(self, size: int) -> None:
        """Count the bytes of a client that has not authenticated, and end it at the bound.

        The piece with which it does authenticate may be of any size: a pipeline may follow AUTH.
        """
        self._unproven += size
        if self._unproven > UNPROVEN_BYTES:
            self._refuse(b"-NOAUTH Too much was sent before authentication\r\n")

    def _note_partial(self, size: int) -> None:
        """Account for the bytes of a command that is not complete; 0: it is now."""
        factory = self.factory
        if not size:
            factory.partial_bytes -= self._partial
            self._partial = 0
            return
        self._partial += size
        factory.partial_bytes += size
        if factory.partial_bytes > factory.limits.partial_bytes and self._partial > MODEST_BYTES:
            self._refuse(b"-ERR too many large commands at a time, try again later\r\n")

    def _decide(self, commands: Sequence[list[bytes]]) -> bool:
        """Learn from the first command whether this is a client; False when it ends here."""
        self.undecided = False
        self.gathers = True
        first = commands[0]
        if first[0] == MEMBER:
            # A member waits for the answer.
            if len(commands) > 1 or self._reader.error is not None:
                self._refuse(b"-ERR Protocol error: nothing may follow RAFTLINK\r\n")
            else:
                self._hand_over(first)
            return False
        if not self.admitted:
            self._refuse(TOO_MANY)
            return False
        return True

    def _hand_over(self, command: list[bytes]) -> None:
        try:
            self._dispatcher.link_requested(self, command, self._reader.take_rest())
        except Exception:
            self.log.failure("link of {peer} failed", peer=self.peer)
            self.abandon()

    def _dispatch(self, commands: Sequence[list[bytes]], raw: bytes | None) -> None:
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
        if end is not None:
            self._postponed.clear()
            self.close_after_flush()

    def _http(self, commands: Sequence[list[bytes]]) -> int | None:
        """Find what a browser was tricked to send: it is not run, and ends the connection."""
        for position, command in enumerate(commands):
            if command[0].lower() in HTTP:
                text = "HTTP from {peer}: possible cross-protocol attack"
                self.factory.complain(text, peer=self.peer)
                return position
        return None

    def _protocol_error(self) -> None:
        text = str(self._reader.error)
        self.log.debug("connection {id} of {peer}: {text}", id=self.id, peer=self.peer, text=text)
        self.close_after_flush(b"-ERR " + text.encode("utf-8", "replace") + b"\r\n")

    def _balance(self, size: int) -> None:
        """Read so much at a time that the commands in it do not keep other clients waiting.

        ``size``: bytes of a command.
        """
        self._command_size = size
        fair = max(MIN_READ, min(MAX_READ, size * QUANTUM))
        self._reads_little = fair < MAX_READ
        self._set_read_size(fair)

    def _set_read_size(self, size: int) -> None:
        transport = plain(self.transport)
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = size

    # -- postponed commands -------------------------------------------------------------------

    def postpone(self, commands: Sequence[list[bytes]]) -> None:
        """Take back commands, the last of those handed over, until the client has read more.

        They come again in a later call of ``commands_received``, with None for ``raw``.
        """
        self.commands_count -= len(commands)
        self._postponed[:0] = commands
        self.pause("postponed")

    def _relieve(self) -> None:
        super()._relieve()
        # In a turn of its own: this one may be the dispatcher's, in the middle of something.
        if self._postponed and not self._again and self._is_relieved and not self._slots:
            self._again = True
            self.factory.run_later(self)

    def run_postponed(self) -> None:
        """Go on with postponed commands (called by the factory)."""
        self._again = False
        if self.closing:
            self._postponed.clear()
            return
        commands, self._postponed = self._postponed[:AGAIN], self._postponed[AGAIN:]
        self._dispatch(commands, None)
        if not self._postponed:
            if self._reader.error is not None:
                self._protocol_error()
            self.resume("postponed")
        self.flush()

    def refuse_postponed(self, data: bytes) -> None:
        """Reply with ``data`` to every command that was not run yet, and forget it."""
        if not self.closing:
            for _ in self._postponed:
                self.reply(data)
        self._postponed.clear()

    # -- the sweep ----------------------------------------------------------------------------

    def overdue(self) -> str | None:
        """Say why the connection has to be dropped, or None. Called about once a second."""
        self.gathers = not self.undecided
        limits = self.factory.limits
        age = self.factory.age
        output: Any = self._output
        if self._closed_at >= 0:
            if output.congested and output.progress != self._progress:
                # It reads on, and is owed all that came before its end.
                self._progress = output.progress
                self._closed_at = self.factory.tick
            is_answering = bool(self._slots) and self._slots[0] is not None
            patience = limits.answer_timeout if is_answering else limits.close_timeout
            return "it does not close" if age(self._closed_at) > patience else None
        if self.undecided and not self.admitted:
            self._refuse(TOO_MANY)
            return None
        if output.congested:
            if output.progress != self._progress:
                self._progress = output.progress
                self._active = self.factory.tick
            elif age(self._active) > limits.stall_timeout:
                return "it does not read its replies"
            return None
        silent = age(self._active)
        if self._partial and silent > limits.partial_timeout:
            return "its command was not finished in time"
        if limits.idle_timeout and silent > limits.idle_timeout and not self._slots:
            return "idle"
        if not self._handshaken and age(self._made) > limits.handshake_timeout:
            return "its TLS handshake was not finished in time"
        if not self.authenticated and age(self._made) > limits.handshake_timeout:
            return "not authenticated in time"
        return None
