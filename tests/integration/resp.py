"""A small blocking Redis client, and one that follows ``TRY`` and tells three outcomes apart."""

from __future__ import annotations

import enum
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

TIMEOUT = 60.0
LOOPBACK = "127.0.0.1"

# How long a client waits before it asks again when nobody would serve it, seconds.
RETRY = 0.002


class ErrorReply(Exception):
    """An error reply; returned, never raised."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErrorReply) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


@dataclass
class Access:
    """What a client needs to be let in.

    Attributes:
        secret: for AUTH, or None.
        tls: for TLS, or None.
    """

    secret: str | None = None
    tls: ssl.SSLContext | None = None


class Client:
    """One connection.

    Args:
        port: on loopback.
        timeout: seconds for connecting and for each reply.
        access: how to be let in.
    """

    def __init__(self, port: int, timeout: float = TIMEOUT, access: Access | None = None) -> None:
        self.port = port
        self.socket = socket.create_connection((LOOPBACK, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._nothing = object()
        self._reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=self._nothing)
        if access is not None:
            self._enter(access)

    def _enter(self, access: Access) -> None:
        try:
            if access.tls is not None:
                self.socket = access.tls.wrap_socket(self.socket)
            if access.secret is not None and self.do("AUTH", access.secret) != b"OK":
                raise ConnectionError("the secret is wrong")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def do(self, *words: Any) -> Any:
        """Send one command and return its reply; an error reply is returned too."""
        self.send(pack(words))
        return self.read()

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send many commands at once and return their replies."""
        self.send(b"".join(pack(words) for words in commands))
        return [self.read() for _ in commands]

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def read(self) -> Any:
        """Return the next reply.

        Raises:
            ConnectionError: the server closed before it was complete.
            TimeoutError: it took too long.
        """
        while True:
            reply = self._reader.gets()
            if reply is not self._nothing:
                return reply
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed by the server")
            self._reader.feed(data)

    def read_to_end(self) -> bytes:
        """Return all bytes until the server closes."""
        parts = []
        while data := self.socket.recv(65536):
            parts.append(data)
        return b"".join(parts)


def pack(words: Sequence[Any]) -> bytes:
    """Return a command as RESP."""
    return hiredis.pack_command(tuple(words))


def ask(port: int, *words: Any, timeout: float = TIMEOUT, access: Access | None = None) -> Any:
    """Send one command on a connection of its own. Raises OSError when nobody answers."""
    with Client(port, timeout, access) as client:
        return client.do(*words)


def port_of(address: str) -> int:
    """Return the port of ``:7481`` or ``127.0.0.1:7481``."""
    return int(address.rpartition(":")[2])


class Outcome(enum.Enum):
    """What a client knows of a command."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass
class Answer:
    """The end of one command.

    Attributes:
        outcome: done, certainly not applied, or unknown.
        reply: what the server said last, or what was wrong with the connection.
    """

    outcome: Outcome
    reply: Any

    @property
    def done(self) -> bool:
        """Whether it was applied and answered."""
        return self.outcome is Outcome.DONE


# What errors of a node begin with that has not appended the command.
NOT_APPLIED = (
    "ERR leader not known",
    "ERR raft not ready",
    "ERR node is stopping",
    "ERR server is overloaded",
    "ERR request timed out",
    "ERR max number of clients",
    "raft is already shutdown",
)


class FollowingClient:
    """A client of a cluster: goes where ``TRY`` says, and to the next node when one is gone.

    Args:
        ports: of the nodes.
        timeout: of one attempt, seconds; when it passes, the outcome is unknown.
        access: how to be let in.
    """

    def __init__(
        self, ports: Sequence[int], timeout: float = 5.0, access: Access | None = None
    ) -> None:
        self.ports = list(ports)
        self.timeout = timeout
        self.access = access
        self._port = self.ports[0]
        self._client: Client | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def attempt(self, *words: Any) -> Answer:
        """Ask once, and decide where to ask next."""
        try:
            if self._client is None:
                self._client = Client(self._port, self.timeout, self.access)
        except OSError as e:
            self.turn()
            return Answer(Outcome.REFUSED, e)
        try:
            reply = self._client.do(*words)
        except OSError as e:
            self.turn()
            return Answer(Outcome.UNKNOWN, e)
        if not isinstance(reply, ErrorReply):
            return Answer(Outcome.DONE, reply)
        text = str(reply)
        if text.startswith("TRY "):
            self._go(port_of(text[4:]))
        elif text.startswith("UNKNOWN"):
            return Answer(Outcome.UNKNOWN, reply)
        elif text.startswith(NOT_APPLIED):
            self.turn()
        else:
            return Answer(Outcome.DONE, reply)
        return Answer(Outcome.REFUSED, reply)

    def do(self, *words: Any, deadline: float = TIMEOUT) -> Answer:
        """Ask until the command is done, its outcome is unknown, or time is up."""
        end = time.monotonic() + deadline
        while True:
            answer = self.attempt(*words)
            if answer.outcome is not Outcome.REFUSED or time.monotonic() > end:
                return answer
            if not str(answer.reply).startswith("TRY "):
                time.sleep(RETRY)

    def insist(self, *words: Any, deadline: float = TIMEOUT) -> Any:
        """Ask until the command is done, whatever became of attempts before; for idempotent ones.

        Raises:
            TimeoutError: it did not work in time.
        """
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            answer = self.attempt(*words)
            if answer.done:
                return answer.reply
            if not str(answer.reply).startswith("TRY "):
                time.sleep(RETRY)
        raise TimeoutError(f"{words[0]} was not served in {deadline} s: {answer.reply!r}")

    def _go(self, port: int) -> None:
        if port != self._port:
            self.close()
            self._port = port

    def turn(self, steps: int = 1) -> None:
        """Ask another node from now on."""
        self.close()
        known = self._port in self.ports
        at = self.ports.index(self._port) if known else -1
        self._port = self.ports[(at + steps) % len(self.ports)]
