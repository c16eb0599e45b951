"""Simulated clients: they speak RESP over the simulated network, follow TRY, and take notes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from finn.options import split_address
from finn.resp.replies import pack_command
from finn.testing.history import Operation, Outcome
from finn.testing.reactor import SimulatedReactor
from finn.testing.workload import Workload

CONNECT_TIMEOUT = 2.0
# A client that waits for a reply any longer gives up: the outcome is unknown.
REPLY_TIMEOUT = 12.0
# An operation that nobody could take is given up for good after so long.
GIVE_UP = 6.0
# What may be answered instead of a result when nothing was done; anything else is a mistake.
NOT_DONE = (
    "ERR leader not known",
    "ERR raft not ready",
    "ERR node is stopping",
    "ERR node has failed",
    "ERR server is overloaded",
    "ERR request timed out",
    "raft is already shutdown",
    "ERR leadership is being handed over",
)


class Violation(AssertionError):
    """A promise was broken."""


class Requester(Protocol):
    """One connection on which one request at a time is asked."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._reader = hiredis.Reader(notEnoughData=Requester)

    def ask(self, words: list[bytes]) -> None:
        """Send a request."""
        self.transport.write(pack_command(words))  # type: ignore[union-attr]

    def connectionMade(self) -> None:
        self._client.connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not Requester:
            self._client.answered(self, reply)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._client.disconnected(self)


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, client: Any) -> None:
        self._client = client

    def buildProtocol(self, addr: Any) -> Requester:
        return Requester(self._client)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._client.disconnected(None)


class Client:
    """A client that does one operation after the other.

    Args:
        name: of the client, part of the ids of its operations.
        reactor: of its process.
        random: source of what it draws.
        addresses: returns the members' addresses as the client may know them.
        draw: returns the words of the next operation for an id.
        done: told of every operation with its outcome.
        pause: mean seconds between operations.
        workload: tells reads from writes, and whether error replies are results.
    """

    def __init__(
        self,
        name: str,
        reactor: SimulatedReactor,
        random: Random,
        addresses: Callable[[], list[str]],
        draw: Callable[[Random, bytes], list[bytes]],
        done: Callable[[bytes, Operation], None],
        pause: float,
        workload: Workload,
    ) -> None:
        self.name = name
        self.idle = False
        self._reactor = reactor
        self._random = random
        self._addresses = addresses
        self._draw = draw
        self._done = done
        self._pause = pause
        self._workload = workload
        self._connection: Requester | None = None
        self._connecting = False
        self._hint: str | None = None
        self._words: list[bytes] | None = None
        self._id = b""
        self._number = 0
        self._asked_at: float | None = None
        self._give_up_at = 0.0
        self._timer: Any = None
        self._waiting: Any = None

    # -- operations ---------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or go on after ``idle`` was set back."""
        if self._waiting is None and self._words is None:
            pause = self._random.expovariate(1.0 / self._pause)
            self._waiting = self._reactor.callLater(pause, self._next)

    @property
    def busy(self) -> bool:
        """Whether an operation is under way."""
        return self._words is not None

    def _next(self) -> None:
        self._waiting = None
        if self.idle:
            return
        self._number += 1
        self._id = f"{self.name}.{self._number}".encode()
        self._words = self._draw(self._random, self._id)
        self._give_up_at = self._reactor.scheduler.now + GIVE_UP
        self._try()

    def _try(self) -> None:
        """Ask, on a connection that may have to be made first."""
        if self._words is None:
            return
        now = self._reactor.scheduler.now
        if self._connection is not None:
            # What was refused before has certainly not been done: the interval begins anew.
            self._asked_at = now
            self._timer = self._reactor.callLater(REPLY_TIMEOUT, self._timed_out)
            self._connection.ask(self._words)
        elif now >= self._give_up_at:
            self._end(Outcome.FAILED)
        elif not self._connecting:
            self._connecting = True
            hint, self._hint = self._hint, None
            host, port = split_address(hint or self._random.choice(self._addresses()))
            self._reactor.connectTCP(host, port, _Factory(self), CONNECT_TIMEOUT)

    def _again(self) -> None:
        """Try again in a moment, unless that has gone on for too long."""
        if self._reactor.scheduler.now >= self._give_up_at:
            self._end(Outcome.FAILED)
        else:
            self._reactor.callLater(self._random.uniform(0.02, 0.2), self._try)

    def _end(self, outcome: Outcome, output: Any = None) -> None:
        words, self._words = self._words, None
        assert words is not None
        self._stop_timer()
        now = self._reactor.scheduler.now
        asked_at = now if self._asked_at is None else self._asked_at
        self._asked_at = None
        operation = Operation(self.name, asked_at, now, words, output, outcome)
        self._done(self._id, operation)
        self.start()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # -- the connection -----------------------------------------------------------------------

    def connected(self, connection: Requester) -> None:
        """A connection is made."""
        self._connecting = False
        self._connection = connection
        self._try()

    def disconnected(self, connection: Requester | None) -> None:
        """A connection is lost, or (None) could not be made."""
        if connection is None:
            self._connecting = False
            if self._words is not None:
                self._again()
        elif connection is self._connection:
            self._connection = None
            if self._asked_at is not None:
                self._lost_track()

    def _lost_track(self) -> None:
        """No answer will come. A read can be counted as not done."""
        assert self._words is not None
        self._end(Outcome.FAILED if self._workload.is_read(self._words) else Outcome.UNKNOWN)

    def _timed_out(self) -> None:
        self._drop()
        self._lost_track()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport.abortConnection()  # type: ignore[union-attr]

    def answered(self, connection: Requester, reply: Any) -> None:
        """A reply came."""
        if connection is not self._connection:
            return
        if self._asked_at is None:
            raise Violation(f"{self.name} got a reply it did not ask for: {reply!r}")
        self._stop_timer()
        if not isinstance(reply, hiredis.ReplyError):
            self._end(Outcome.OK, reply)
            return
        text = str(reply)
        if text.startswith("UNKNOWN "):
            self._end(Outcome.UNKNOWN)
            return
        if text.startswith("TRY "):
            self._hint = text[4:]
        elif text.startswith(NOT_DONE):
            pass
        elif self._workload.errors:
            self._end(Outcome.OK, ("error", text))
            return
        else:
            raise Violation(f"{self.name} asked {self._words}, unexpected reply: {text}")
        self._asked_at = None
        self._drop()
        self._again()


class Request:
    """One request of an administrator, who follows TRY.

    Attributes:
        deferred: fires with the reply, an error reply too, or None when there is none.
    """

    def __init__(
        self, reactor: SimulatedReactor, address: str, words: list[bytes], timeout: float = 10.0
    ) -> None:
        self.deferred: Deferred[Any] = Deferred()
        self._reactor = reactor
        self._words = words
        self._hops = 4
        self._timer = reactor.callLater(timeout, self._end, None)
        self._connect(address)

    def _connect(self, address: str) -> None:
        host, port = split_address(address)
        self._reactor.connectTCP(host, port, _Factory(self), CONNECT_TIMEOUT)

    def connected(self, connection: Requester) -> None:
        """A connection is made."""
        connection.ask(self._words)

    def answered(self, connection: Requester, reply: Any) -> None:
        """A reply came."""
        connection.transport.loseConnection()  # type: ignore[union-attr]
        text = str(reply)
        if isinstance(reply, hiredis.ReplyError) and text.startswith("TRY ") and self._hops:
            self._hops -= 1
            self._connect(text[4:])
        else:
            self._end(reply)
            connection.transport.loseConnection()  # type: ignore[union-attr]

    def disconnected(self, connection: Requester | None) -> None:
        """A connection is lost, or could not be made."""
        if connection is None or not self._hops:
            self._end(None)

    def _end(self, reply: Any) -> None:
        if not self.deferred.called:
            if self._timer.active():
                self._timer.cancel()
            self.deferred.callback(reply)
