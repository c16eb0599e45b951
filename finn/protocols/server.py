"""The side of the clients: who may connect, for how long, and what is kept for all of them.

What happens at the bounds: a client that does not read its replies is no longer read from, and
dropped when it takes nothing for ``stall_timeout``; one that is silent for ``idle_timeout``, or
does not authenticate within ``handshake_timeout`` where it has to, is dropped; one too many is
told so. One timer serves all connections, and counts its own turns: a clock that jumps drops
nobody.

A connection whose first command is RAFTLINK is a member's and is handed over
(``finn.protocols.link``). Members are not locked out by clients: some connections beyond
``max_clients`` may say first which they are.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from finn.protocols.connection import ClientConnection
from finn.protocols.crowd import Crowds
from finn.protocols.transport import peer_name
from finn.resp.reader import ReaderLimits

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

    from finn.options import NodeOptions
    from finn.protocols.replies import ReplyPipeline

__all__ = ["ClientConnection", "ClientFactory", "ClientLimits", "client_limits"]

SWEEP_INTERVAL = 1.0
TURN = 0.01  # seconds of postponed work before other events are looked at
UNDECIDED = 64  # connections above max_clients that may still turn out to be members


@dataclass
class ClientLimits:
    """Bounds on clients; seconds and bytes.

    Attributes:
        max_clients: more are refused politely.
        idle_timeout: a client silent for longer is dropped; 0 means never.
        auth_required: connections begin unauthenticated.
        certificate_required: clients need a certificate of the CA, where no secret is asked of
            them.
        handshake_timeout: time to authenticate where it is required, TLS included.
        stall_timeout: a client that takes nothing of its output for longer is dropped.
        pending_replies: commands without reply per connection before reading pauses.
        output_bytes: unsent replies per connection before reading pauses.
        owed_bytes: unsent replies of all clients together; beyond, whoever is owed most is dropped.
        partial_bytes: of incomplete commands, of all clients together; whose next bytes do not fit
            is dropped, unless it is a small command.
        partial_timeout: a client silent for longer in the middle of a command is dropped.
        close_timeout: for a piece of the last bytes of a connection that is being closed.
        answer_timeout: for the last open slots of a connection that is being closed.
        reader: bounds on one command.
    """

    max_clients: int = 10_000
    idle_timeout: float = 0.0
    auth_required: bool = False
    certificate_required: bool = False
    handshake_timeout: float = 10.0
    stall_timeout: float = 60.0
    pending_replies: int = 100_000
    output_bytes: int = 256 * 1024
    owed_bytes: int = 1024 * 1024 * 1024
    partial_bytes: int = 1024 * 1024 * 1024
    partial_timeout: float = 60.0
    close_timeout: float = 5.0
    answer_timeout: float = 60.0
    reader: ReaderLimits = field(default_factory=ReaderLimits)

    @property
    def guarded(self) -> bool:
        """Whether connections begin unauthenticated."""
        return self.auth_required or self.certificate_required


def client_limits(options: NodeOptions) -> ClientLimits:
    """Return the bounds that a node's options ask for."""
    return ClientLimits(
        max_clients=options.max_clients,
        idle_timeout=options.idle_timeout,
        auth_required=options.secret is not None,
        certificate_required=options.tls_ca is not None,
    )


class _Alone:
    """Stands for the ``Poller`` where there is none: every event is a batch of its own."""

    crowded = False


class ClientFactory(Factory):
    """Makes the connections of clients and keeps account of them.

    Args:
        dispatcher: an ``IDispatcher``: gets the commands.
        limits: bounds.
        clock: for timeouts.

    Attributes:
        connections: admitted clients by id, in order of their arrival.
        batch: the ``Poller`` that brings the clients' bytes.
        crowds: gathers what comes in one batch.
        dirty: connections with replies to write.
        partial_bytes: of incomplete commands.
        owed_bytes: of unsent replies.
        accepted, refused: counts since the start.
        tick: turns of the sweep.
    """

    noisy = False
    log = Logger()

    def __init__(self, dispatcher: Any, limits: ClientLimits, clock: IReactorTime) -> None:
        self.dispatcher = dispatcher
        self.limits = limits
        self.clock = clock
        self.connections: dict[int, ClientConnection] = {}
        self.dirty: list[ReplyPipeline] = []
        self.partial_bytes = 0
        self.owed_bytes = 0
        self.accepted = 0
        self.refused = 0
        self.tick = 0
        self._complained = -math.inf
        self._all: dict[ClientConnection, None] = {}  # in order of their arrival
        self._ids = itertools.count(1)
        self._sweeping: IDelayedCall | None = None
        self._emptied: list[Deferred[None]] = []
        self._later: deque[ClientConnection] = deque()
        self._running: IDelayedCall | None = None
        self.batch: Any = getattr(clock, "poller", None) or _Alone()
        self.crowds = Crowds(self)
        self._flushing = False

    def buildProtocol(self, addr: IAddress | None) -> ClientConnection:  # type: ignore[override]
        return ClientConnection(self, next(self._ids), peer_name(addr))

    def flush_soon(self, connection: ReplyPipeline) -> None:
        """Write what a connection has with what others get in the same batch of events.

        A client with many connections is woken once for all of them, not once for each.
        """
        connection.mark_dirty()
        if not self._flushing:
            self._flushing = True
            self.batch.soon(self.flush)

    def flush(self) -> None:
        """Write the replies of all connections that have new ones."""
        self._flushing = False
        if self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                try:
                    connection.flush()
                except Exception:
                    connection.cannot_write()

    def age(self, tick: int) -> float:
        """Return how many seconds ago a tick was, to a second."""
        return (self.tick - tick) * SWEEP_INTERVAL

    def complain(self, text: str, **fields: Any) -> None:
        """Log what anybody can cause as often as they like, once a second at most.

        By the clock, as the turns stand still while there are no clients; it may be set back.
        """
        now = self.clock.seconds()
        if abs(now - self._complained) >= SWEEP_INTERVAL:
            self._complained = now
            self.log.warn(text, **fields)

    # -- turns --------------------------------------------------------------------------------

    def run_later(self, connection: ClientConnection) -> None:
        """Let a connection go on with what it postponed, when it is its turn."""
        self._later.append(connection)
        if self._running is None:
            self._running = self.clock.callLater(0, self._run)

    def _run(self) -> None:
        self._running = None
        later = self._later
        now = self.clock.seconds
        end = now() + TURN
        for _ in range(len(later)):
            later.popleft().run_postponed()
            if now() > end:
                break
        if later and self._running is None:
            self._running = self.clock.callLater(0, self._run)

    # -- account ------------------------------------------------------------------------------

    def admit(self, connection: ClientConnection) -> bool:
        """Count a new connection; False when there are too many even to listen to it."""
        self._all[connection] = None
        if self._sweeping is None:
            self._sweeping = self.clock.callLater(SWEEP_INTERVAL, self._sweep)
        if len(self.connections) < self.limits.max_clients:
            connection.admitted = True
            self.connections[connection.id] = connection
            self.accepted += 1
            return True
        self.refused += 1
        return len(self._all) - len(self.connections) <= UNDECIDED

    def forget(self, connection: ClientConnection) -> None:
        """A connection is lost, or no client any more."""
        self._all.pop(connection, None)
        self.connections.pop(connection.id, None)
        connection.admitted = False
        if not self._all:
            if self._running is not None:
                self._running.cancel()
                self._running = None
            self._later.clear()
            if self._sweeping is not None:
                self._sweeping.cancel()
                self._sweeping = None
            emptied, self._emptied = self._emptied, []
            for deferred in emptied:
                deferred.callback(None)

    def _sweep(self) -> None:
        self.tick += 1
        self._sweeping = self.clock.callLater(SWEEP_INTERVAL, self._sweep)
        for connection in list(self._all):
            reason = connection.overdue()
            if reason is not None:
                self.log.info("dropping {peer}: {reason}", peer=connection.peer, reason=reason)
                connection.abandon()

    def owe(self, change: int) -> None:
        """Account for replies to clients that were made, or taken."""
        self.owed_bytes += change
        while self.owed_bytes > self.limits.owed_bytes:
            most = max(self._all, key=lambda connection: connection.owed, default=None)
            if most is None or not most.owed:
                return
            self.log.warn(
                "dropping {peer}: {total} bytes are owed to all clients, most of it to this one",
                peer=most.peer,
                total=self.owed_bytes,
            )
            most.abandon()

    # -- the end ------------------------------------------------------------------------------

    def close_all(self, too_late: bytes = b"", refusal: bytes = b"") -> Deferred[None]:
        """Close every connection after its replies; those that do not close are dropped.

        Args:
            too_late: the reply of commands that wait for theirs; without it they go on waiting.
            refusal: the reply of those that were postponed.

        Returns:
            Fires when none is left.
        """
        self.crowds.run()
        for connection in list(self._all):
            if too_late:
                connection.answer_open(too_late)
                connection.refuse_postponed(refusal)
            connection.close_after_flush()
            connection.flush()
        if not self._all:
            return succeed(None)
        emptied: Deferred[None] = Deferred()
        self._emptied.append(emptied)
        return emptied

    def abandon_all(self) -> None:
        """Drop every connection at once."""
        for connection in list(self._all):
            connection.abandon()
