"""The client side of the Redis protocol, on txredisapi: for joining, and for ``finn.client``.

Importing txredisapi installs a reactor, so it is imported when a connection is made: by then the
application has chosen its own. Its connection factories retry and know the global reactor; only its
protocol is used, on our own transports and clock.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from finn.errors import CommandError, FinnError
from finn.options import split_address
from finn.protocols import tls as tls_module
from finn.protocols.transport import connect


class ConnectionGone(FinnError):
    """The connection was lost, or the reply did not come in time, after the command was sent."""


class RedisConnection:
    """One connection to a server; made by ``connect_redis``.

    Attributes:
        address: where it leads.
    """

    def __init__(self, address: str, protocol: Any, errors: tuple[type, type]) -> None:
        self.address = address
        self._protocol = protocol
        self._response_error, self._connection_error = errors

    @property
    def connected(self) -> bool:
        """Whether commands can still be sent."""
        return bool(self._protocol.connected)

    def execute(self, *words: bytes | str | int | float) -> Deferred[Any]:
        """Send one command.

        Returns:
            Fires with the reply: bytes, int, list or None; an error within a list is a
            CommandError. Fails with CommandError for an error reply, with ConnectionGone when no
            reply will come.

        Raises:
            ConnectionGone: it was not sent.
        """
        if not self.connected:
            raise ConnectionGone("not connected")
        reply: Deferred[Any] = self._protocol.execute_command(*words)
        return reply.addCallbacks(self._convert, self._failed)

    def _convert(self, value: Any) -> Any:
        """Let errors within an array, as EXEC's may have, be of our kind too."""
        if isinstance(value, list):
            return [self._convert(item) for item in value]
        return CommandError(str(value)) if isinstance(value, self._response_error) else value

    def _failed(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, self._response_error):
            return Failure(CommandError(str(error)))
        if isinstance(error, self._connection_error):
            return Failure(ConnectionGone(self._protocol.factory.reason or str(error)))
        return failure

    def close(self) -> None:
        """Close it; commands without a reply fail."""
        if self._protocol.transport is not None:
            self._protocol.transport.loseConnection()

    def abort(self) -> None:
        """Drop it at once; commands without a reply fail."""
        if self._protocol.transport is not None:
            self._protocol.transport.abortConnection()


class _Factory(Factory):
    """Builds one protocol and is what txredisapi expects of its own factory.

    Attributes:
        reason: why the connection was lost, where that says more than that it was.
    """

    noisy = False
    isLazy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.factory = self
        self.continueTrying = False
        self.reason = ""
        self._lost = protocol.connectionLost
        protocol.connectionLost = self._connection_lost

    def _connection_lost(self, why: Failure) -> None:
        broken = tls_module.explain(why)
        if broken:
            self.reason = f"TLS failed: {broken}"
        self._lost(why)

    def buildProtocol(self, addr: Any) -> Any:
        return self._protocol

    def addConnection(self, protocol: Any) -> None:
        """Called by txredisapi when it is connected."""

    def delConnection(self, protocol: Any) -> None:
        """Called by txredisapi when the connection is lost."""

    def connectionError(self, why: Any) -> None:
        """Called by txredisapi when its own first commands fail; it sends none here."""

    def stopTrying(self) -> None:
        """Called by txredisapi before ``connectionError``."""


async def connect_redis(
    reactor: Any,
    address: str,
    timeout: float,
    secret: str | None = None,
    tls: Any = None,
    *,
    patient: bool = False,
) -> RedisConnection:
    """Connect and authenticate.

    Args:
        reactor: to connect with, and its clock.
        address: ``host:port`` or ``:port``.
        timeout: seconds for the connection, and for each reply.
        secret: sent with AUTH.
        tls: a ``finn.protocols.tls.TLSMaterial``, or None.
        patient: once connected, wait for replies for as long as it takes.

    Raises:
        CommandError: the secret is wrong.
        Exception: whatever kept it from connecting.
    """
    import txredisapi

    protocol = txredisapi.RedisProtocol(charset=None, convertNumbers=False, replyTimeout=timeout)
    protocol.callLater = reactor.callLater
    host, port = split_address(address)
    await connect(reactor, host, port, _Factory(protocol), timeout, tls)
    errors = (txredisapi.ResponseError, txredisapi.ConnectionError)
    connection = RedisConnection(address, protocol, errors)
    if secret is not None:
        try:
            await connection.execute("AUTH", secret)
        except BaseException:
            connection.close()
            raise
    if patient:
        protocol.replyTimeout = None
    return connection
