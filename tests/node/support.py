"""What the node's tests share: machines, and a client whose bytes are at hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import StringTransport
from zope.interface import implementer

import finn
from finn.errors import CommandError, Disabled, UnknownCommand, WrongArity
from finn.interfaces import IConnectionObserver, IMachine
from finn.testing.cluster import MemoryCluster


class Journal(finn.Machine):
    """Notes what it is given, with the replicated clock and chance."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.values: dict[bytes, bytes] = {}

    @finn.write("NOTE")
    def note(self, call: Any, text: bytes) -> int:
        """Append a row."""
        self.rows.append([text, call.now, call.random.getrandbits(64), call.random.random()])
        return len(self.rows)

    @finn.write("PUT", keys=(1, 1, 1))
    def put(self, call: Any, key: bytes, value: bytes) -> Any:
        """Set a value."""
        self.values[key] = value
        return finn.OK

    @finn.read("TAKE", keys=(1, 1, 1))
    def take(self, call: Any, key: bytes) -> bytes | None:
        """Get a value."""
        return self.values.get(key)

    @finn.write("BREAK")
    def break_(self, call: Any, how: bytes) -> None:
        """Change something, then raise."""
        self.values[b"broken"] = how
        if how == b"memory":
            raise MemoryError
        if how == b"command":
            raise CommandError("WRONG that cannot be done")
        raise ValueError(how)

    @finn.local("HERE")
    def here(self, call: Any) -> int:
        """Count the rows of this node."""
        return len(self.rows)


@implementer(IMachine, IConnectionObserver)
class Opaque:
    """A machine in the original's style."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.connections: list[Any] = []
        self.welcome = True

    def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """SET, GET, WHO (local), LATER (answers by its Deferred)."""
        name = cmd[0].upper()
        if name == b"SET":
            if len(cmd) != 3:
                raise WrongArity(cmd[0])

            def mutate() -> int:
                self.values[cmd[1]] = cmd[2]
                return len(self.values)

            return applier.apply(conn, cmd, mutate, lambda v: conn.write_integer(v))
        if name == b"GET":
            return applier.apply(conn, cmd, None, lambda _: self._get(conn, cmd[1]))
        if name == b"FAIL":

            def fail() -> None:
                raise ValueError("no")

            return applier.apply(conn, cmd, fail, lambda _: conn.write_string("unreached"))
        if name == b"WHO":
            conn.context = (conn.context or 0) + 1
            conn.write_array(2)
            conn.write_integer(conn.id)
            conn.write_integer(conn.context)
            return None
        raise UnknownCommand(cmd[0])

    def _get(self, conn: Any, key: bytes) -> None:
        value = self.values.get(key)
        if value is None:
            conn.write_null()
        else:
            conn.write_bulk(value)

    def snapshot(self, file: Any) -> None:
        """Take none."""
        raise Disabled

    def restore(self, file: Any) -> None:
        """Never called."""

    def connection_made(self, conn: Any) -> bool:
        """Refuse when told to."""
        if self.welcome:
            self.connections.append(conn.id)
        return self.welcome

    def connection_lost(self, conn: Any, reason: Any) -> None:
        """Forget it."""
        if conn.id in self.connections:
            self.connections.remove(conn.id)


class Client:
    """A client connection of a node, its bytes in memory."""

    def __init__(self, cluster: MemoryCluster, member: int) -> None:
        self._cluster = cluster
        self.protocol = cluster.nodes[member].server.buildProtocol(None)
        self.transport = StringTransport()
        self.transport.abortConnection = lambda: None  # type: ignore[attr-defined,method-assign]
        self.protocol.makeConnection(self.transport)

    def send(self, *lines: str) -> None:
        """Send inline commands, all in one piece."""
        self.protocol.dataReceived("".join(line + "\r\n" for line in lines).encode())

    @property
    def received(self) -> bytes:
        """Everything received up to now."""
        return self.transport.value()

    def ask(self, *lines: str, replies: int | None = None) -> bytes:
        """Send commands and let time pass until as many replies are there; return their bytes."""
        self.transport.clear()
        self.send(*lines)
        wanted = len(lines) if replies is None else replies
        self._cluster.wait_until(lambda: count_replies(self.received) >= wanted)
        return self.received


def count_replies(data: bytes) -> int:
    """Count the complete replies in bytes."""
    import hiredis

    nothing = object()
    reader = hiredis.Reader(notEnoughData=nothing)
    reader.feed(data)
    count = 0
    while reader.gets() is not nothing:
        count += 1
    return count
