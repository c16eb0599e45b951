"""Asking another node as a client would: one command on a connection of its own (txredisapi)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from finn.errors import CommandError
from finn.options import split_address
from finn.protocols.transport import connect

# A node that does not connect or answer for so long is given up, seconds.
ASK_TIMEOUT = 3.0


def ask(
    reactor: Any, address: str, words: Sequence[bytes], secret: str | None, tls: Any
) -> Deferred[Any]:
    """Send one command.

    Returns:
        Fires with the reply; fails with CommandError for an error reply, else with what went wrong.
    """
    return Deferred.fromCoroutine(_ask(reactor, address, words, secret, tls))


async def _ask(
    reactor: Any, address: str, words: Sequence[bytes], secret: str | None, tls: Any
) -> Any:
    # Importing txredisapi installs a reactor; by now the application has chosen its own.
    import txredisapi

    class Asking(txredisapi.RedisProtocol):  # type: ignore[misc]
        callLater = reactor.callLater

    def build() -> Any:
        return Asking(charset=None, convertNumbers=True, replyTimeout=ASK_TIMEOUT)

    host, port = split_address(address)
    protocol: Any = await connect(reactor, host, port, _Factory(build), ASK_TIMEOUT, tls)
    try:
        if secret is not None:
            await protocol.execute_command("AUTH", secret)
        return await protocol.execute_command(*words)
    except txredisapi.ResponseError as e:
        raise CommandError(str(e)) from None
    finally:
        protocol.transport.loseConnection()


class _Factory(Factory):
    """Builds one protocol; what txredisapi expects of its own factory and no more."""

    noisy = False

    def __init__(self, build: Any) -> None:
        self._build = build
        self.isConnected = False
        self.continueTrying = False

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self._build()
        protocol.factory = self
        return protocol

    def addConnection(self, protocol: Any) -> None:
        """Called by txredisapi when connected."""

    def delConnection(self, protocol: Any) -> None:
        """Called by txredisapi when the connection is lost."""

    def connectionError(self, why: Any) -> None:
        """Called by txredisapi when its connection set-up failed."""
