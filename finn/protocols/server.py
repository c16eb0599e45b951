"""The protocol of clients: commands in, replies out in order, with a bound on everything.

The connection parses, keeps the order of replies and guards the edge; what a command means is the
dispatcher's business. A connection whose first command is RAFTLINK is a member's and is handed
over (``finn.protocols.link``).

What happens at the bounds: a client that does not read its replies is no longer read from, and
dropped when it takes nothing for ``stall_timeout``; one that is silent for ``idle_timeout``, or
does not authenticate within ``handshake_timeout`` where it has to, is dropped; one too many is
told so. One timer serves all connections.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory
from twisted.logger import Logger

from finn.protocols.connection import ClientConnection
from finn.protocols.transport import peer_name
from finn.resp.reader import ReaderLimits

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

__all__ = ["ClientConnection", "ClientFactory", "ClientLimits"]

SWEEP_INTERVAL = 1.0
UNDECIDED = 64  # connections above max_clients that may still turn out to be members


@dataclass
class ClientLimits:
    """Bounds on clients; seconds and bytes.

    Attributes:
        max_clients: more are refused politely.
        idle_timeout: a client silent for longer is dropped; 0 means never.
        auth_required: connections begin unauthenticated.
        handshake_timeout: time to authenticate where it is required, and for a TLS handshake.
        stall_timeout: a client that takes nothing of its output for longer is dropped.
        pending_replies: commands without reply per connection before reading pauses.
        output_bytes: unsent replies per connection before reading pauses.
        partial_bytes: of incomplete commands, of all clients together; whose next bytes do not fit
            is dropped.
        partial_timeout: a client silent for longer in the middle of a command is dropped.
        reader: bounds on one command.
    """

    max_clients: int = 10_000
    idle_timeout: float = 0.0
    auth_required: bool = False
    handshake_timeout: float = 10.0
    stall_timeout: float = 60.0
    pending_replies: int = 100_000
    output_bytes: int = 256 * 1024
    partial_bytes: int = 1024 * 1024 * 1024
    partial_timeout: float = 60.0
    reader: ReaderLimits = field(default_factory=ReaderLimits)


class ClientFactory(Factory):
    """Makes the connections of clients and keeps account of them.

    Args:
        dispatcher: an ``IDispatcher``: gets the commands.
        limits: bounds.
        clock: for timeouts.

    Attributes:
        connections: admitted clients by id, in order of their arrival.
        dirty: connections with slots filled since they were last flushed.
        partial_bytes: of incomplete commands.
        accepted, refused: counts since the start.
        now: clock seconds, renewed once a second.
    """

    noisy = False
    log = Logger()

    def __init__(self, dispatcher: Any, limits: ClientLimits, clock: IReactorTime) -> None:
        self.dispatcher = dispatcher
        self.limits = limits
        self.clock = clock
        self.connections: dict[int, ClientConnection] = {}
        self.dirty: list[ClientConnection] = []
        self.partial_bytes = 0
        self.accepted = 0
        self.refused = 0
        self.now = clock.seconds()
        self._all: dict[ClientConnection, None] = {}  # in order of their arrival
        self._ids = itertools.count(1)
        self._sweeping: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> ClientConnection:  # type: ignore[override]
        self.now = self.clock.seconds()
        return ClientConnection(self, next(self._ids), peer_name(addr))

    def flush(self) -> None:
        """Write the replies of all connections that have new ones."""
        if self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                connection.flush()

    def admit(self, connection: ClientConnection) -> bool:
        """Count a new connection; False when there are too many even to listen to it."""
        self._all[connection] = None
        if self._sweeping is None:
            self._sweeping = self.clock.callLater(SWEEP_INTERVAL, self._sweep)
        if len(self.connections) < self.limits.max_clients:
            connection._admitted = True
            self.connections[connection.id] = connection
            self.accepted += 1
            return True
        self.refused += 1
        # It may be a member, which must not be locked out by clients: its first command tells.
        return len(self._all) - len(self.connections) <= UNDECIDED

    def forget(self, connection: ClientConnection) -> None:
        """A connection is lost, or no client any more."""
        self._all.pop(connection, None)
        self.connections.pop(connection.id, None)
        connection._admitted = False
        if not self._all and self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def close_all(self) -> None:
        """Close every connection after its replies (the node stops)."""
        for connection in list(self._all):
            connection.close_after_flush()
            connection.flush()

    def abandon_all(self) -> None:
        """Drop every connection at once."""
        for connection in list(self._all):
            connection.abandon()

    def _sweep(self) -> None:
        self.now = now = self.clock.seconds()
        self._sweeping = self.clock.callLater(SWEEP_INTERVAL, self._sweep)
        for connection in list(self._all):
            reason = connection.sweep(now)
            if reason is not None:
                self.log.info(
                    "dropping {peer}: {reason}",
                    peer=connection.peer,
                    reason=reason,
                )
                connection.abandon()
