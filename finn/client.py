"""A client of a cluster: finds the leader, follows TRY, reconnects, and never lies about a write.

    client = ClusterClient(reactor, [":7481", ":7482", ":7483"])
    await client.execute("SET", "greeting", "hello")
    value = await client.execute("GET", "greeting")

A command is sent again only when it is certainly not applied (no connection, ``TRY``, no leader,
not ready), or when it only reads. When its outcome cannot be known it fails with OutcomeUnknown:
whoever sent it decides.

As a command line: ``python -m finn.client ADDR... COMMAND [ARG...]``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from finn.errors import CommandError, DeadlinePassed, FinnError, NotApplied, OutcomeUnknown
from finn.options import split_address
from finn.protocols.outside import ConnectionGone, RedisConnection, connect_redis

# Pauses while no member leads, seconds: doubling from first to last.
FIRST_PAUSE = 0.01
LAST_PAUSE = 0.25
# One member is waited for so long before the next one is asked, seconds.
CONNECT_TIMEOUT = 1.0

# Error replies that say that nothing was applied, and that another try may succeed.
_AGAIN = (
    "ERR leader not known",
    "ERR raft not ready",
    "ERR node is stopping",
    "ERR node has failed",
    "ERR server is overloaded",
    "ERR max number of clients reached",
    "raft is already shutdown",
)


class ClusterClient:
    """Runs commands on the leader of a cluster, over one connection, pipelined.

    Args:
        reactor: the reactor.
        addresses: of members, in the order in which to ask; more are learned from the cluster.
        secret: the cluster's, or a client's.
        tls: a ``finn.protocols.tls.TLSMaterial``, or None.
        timeout: default deadline of a request, seconds.
    """

    def __init__(
        self,
        reactor: Any,
        addresses: Sequence[str],
        *,
        secret: str | None = None,
        tls: Any = None,
        timeout: float = 10.0,
    ) -> None:
        if not addresses:
            raise ValueError("a client needs at least one address")
        for address in addresses:
            split_address(address)
        self._reactor = reactor
        self._addresses = list(addresses)
        self._secret = secret
        self._tls = tls
        self._timeout = timeout
        self._connection: RedisConnection | None = None
        self._connecting: list[Deferred[None]] | None = None
        self._hint: str | None = None
        self._next = 0
        self._readers: frozenset[bytes] = frozenset()
        self._closed = False

    async def execute(self, *words: bytes | str | int | float, timeout: float | None = None) -> Any:
        """Run one command on the leader.

        Args:
            words: name and arguments.
            timeout: deadline, seconds; the client's if None.

        Returns:
            The reply: bytes, int, list or None.

        Raises:
            CommandError: the command was refused, with the server's text.
            DeadlinePassed: no leader was found in time; certainly not applied.
            OutcomeUnknown: it was sent, and the answer got lost or was late.
        """
        deadline = self._reactor.seconds() + (self._timeout if timeout is None else timeout)
        pause = FIRST_PAUSE
        while True:
            connection = await self._connected(deadline)
            sent = self._read_only(words)
            try:
                return await self._send(connection, words, deadline)
            except ConnectionGone as e:
                self._drop(connection)
                if not sent and e.args != ("not connected",):
                    raise OutcomeUnknown("connection lost before the reply came") from None
            except CommandError as e:
                text = str(e)
                if text.startswith("UNKNOWN "):
                    raise OutcomeUnknown(text.removeprefix("UNKNOWN ")) from None
                if text.startswith("TRY "):
                    self._drop(connection)
                    self._hint = text.removeprefix("TRY ")
                elif text.startswith(_AGAIN):
                    self._drop(connection)
                else:
                    raise
            pause = await self._wait(pause, deadline)

    async def _send(
        self, connection: RedisConnection, words: Sequence[Any], deadline: float
    ) -> Any:
        reply = connection.execute(*words)
        left = max(0.001, deadline - self._reactor.seconds())
        late: list[bool] = []
        call = self._reactor.callLater(left, self._give_up, reply, late)
        try:
            return await reply
        except BaseException:
            if not late:
                raise
            if self._read_only(words):
                raise DeadlinePassed from None
            raise OutcomeUnknown("request timed out") from None
        finally:
            if call.active():
                call.cancel()

    @staticmethod
    def _give_up(reply: Deferred[Any], late: list[bool]) -> None:
        late.append(True)
        reply.cancel()

    def _read_only(self, words: Sequence[Any]) -> bool:
        name = words[0] if isinstance(words[0], bytes) else str(words[0]).encode()
        return name.upper() in self._readers

    async def _wait(self, pause: float, deadline: float) -> float:
        """Pause before another try, unless a hint says where to go at once."""
        if self._hint is not None and pause == FIRST_PAUSE:
            return pause * 2
        if self._reactor.seconds() + pause >= deadline:
            raise DeadlinePassed
        waiting: Deferred[None] = Deferred()
        self._reactor.callLater(pause, waiting.callback, None)
        await waiting
        return min(pause * 2, LAST_PAUSE)

    # -- connections --------------------------------------------------------------------------

    async def _connected(self, deadline: float) -> RedisConnection:
        """Return a connection, trying one member after another until the deadline."""
        pause = FIRST_PAUSE
        while True:
            if self._closed:
                raise NotApplied("ERR the client is closed")
            if self._connection is not None and self._connection.connected:
                return self._connection
            if self._connecting is not None:
                waiting: Deferred[None] = Deferred()
                self._connecting.append(waiting)
                await waiting
            elif await self._connect():
                continue
            elif self._reactor.seconds() >= deadline:
                raise DeadlinePassed
            else:
                pause = await self._wait(pause, deadline)

    async def _connect(self) -> bool:
        """Try the next member; False when it cannot be reached."""
        self._connecting = []
        hint, self._hint = self._hint, None
        if hint is not None:
            address = hint
        else:
            address = self._addresses[self._next % len(self._addresses)]
            self._next += 1
        try:
            connection = await connect_redis(
                self._reactor, address, CONNECT_TIMEOUT, self._secret, self._tls
            )
            await self._learn(connection)
            self._connection = connection
            return True
        except (ConnectError, ConnectionGone, CommandError, OSError, TimeoutError) as e:
            if isinstance(e, CommandError) and str(e).startswith(("WRONGPASS", "NOAUTH")):
                raise
            return False
        finally:
            waiting, self._connecting = self._connecting or [], None
            for deferred in waiting:
                deferred.callback(None)

    async def _learn(self, connection: RedisConnection) -> None:
        """Learn which commands only read, and who the members are."""
        if not self._readers:
            rows = await connection.execute("COMMAND")
            self._readers = frozenset(
                bytes(row[0]).upper() for row in rows if b"readonly" in row[2]
            )
        peers = await connection.execute("RAFTPEERS")
        for peer in peers[::2]:
            address = peer.decode("utf-8", "replace")
            if address not in self._addresses:
                self._addresses.append(address)

    def _drop(self, connection: RedisConnection) -> None:
        if self._connection is connection:
            self._connection = None
        connection.close()

    def close(self) -> None:
        """Close the connection; requests under way fail."""
        self._closed = True
        if self._connection is not None:
            self._drop(self._connection)


# -- the command line -------------------------------------------------------------------------


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split ``ADDR... COMMAND [ARG...]``: addresses end at the first word that is none."""
    for i, word in enumerate(words):
        try:
            split_address(word)
        except ValueError:
            return list(words[:i]), list(words[i:])
    return list(words), []


def render(value: Any, indent: str = "") -> str:
    """Render a reply for people, one line per element."""
    if value is None:
        return indent + "(nil)"
    if isinstance(value, bytes):
        return indent + value.decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        if not value:
            return indent + "(empty)"
        return "\n".join(render(item, indent) for item in value)
    return indent + str(value)


def main(argv: Sequence[str]) -> None:
    """Run ``python -m finn.client``: exit code 0, 1 for an error, 2 for an unknown outcome."""
    import os

    from twisted.internet.task import react

    addresses, words = split_words(argv)
    if not addresses or not words:
        raise SystemExit("usage: python -m finn.client ADDR [ADDR...] COMMAND [ARG...]")
    code = 0

    async def run(reactor: Any) -> None:
        nonlocal code
        client = ClusterClient(reactor, addresses, secret=os.environ.get("FINN_SECRET"))
        try:
            print(render(await client.execute(*words)))
        except OutcomeUnknown as e:
            print(e, file=sys.stderr)
            code = 2
        except FinnError as e:
            print(e, file=sys.stderr)
            code = 1
        finally:
            client.close()

    try:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SystemExit as e:
        raise SystemExit(code or e.code) from None


if __name__ == "__main__":
    main(sys.argv[1:])
