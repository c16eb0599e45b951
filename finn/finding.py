"""Finding the leader: a connection to the member that leads, looked for while somebody needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from finn.errors import CommandError, DeadlinePassed, FinnError, NotApplied
from finn.options import split_address
from finn.protocols.outside import ConnectionGone, RedisConnection, connect_redis

# Pauses while no member leads, seconds: doubling from first to last.
FIRST_PAUSE = 0.01
LAST_PAUSE = 0.25
# One member is waited for so long before the next one is asked, seconds.
CONNECT_TIMEOUT = 1.0
# A connection that owes a reply for so long gets no new requests, seconds.
STALL = 2.0
# A connection that gets no new requests may take so long for the replies it owes, seconds.
ABANDON = 30.0

_NO_LEADER = "ERR no leader was found in time"
# What no other member will see differently.
_REFUSALS = ("WRONGPASS", "NOAUTH", "ERR AUTH")


class Member:
    """A connection to the member that led when it was made.

    Attributes:
        retired: gets no new requests; it is closed when the last reply is there.
    """

    def __init__(self, connection: RedisConnection, clock: Any) -> None:
        self.connection = connection
        self.retired = False
        self._clock = clock
        self._owed = 0
        self._since = 0.0
        self._abandon: Any = None

    @property
    def usable(self) -> bool:
        """Whether requests may be sent: it is connected, and replies keep coming."""
        stalls = self._owed and self._clock.seconds() - self._since > STALL
        return self.connection.connected and not self.retired and not stalls

    def send(self, words: Sequence[bytes]) -> Deferred[Any]:
        """Send a command.

        Raises:
            ConnectionGone: it was not sent.
        """
        reply = self.connection.execute(*words)
        if not self._owed:
            self._since = self._clock.seconds()
        self._owed += 1
        return reply.addBoth(self._replied)

    def _replied(self, result: Any) -> Any:
        self._owed -= 1
        self._since = self._clock.seconds()
        if self.retired and not self._owed:
            self.close()
        return result

    def retire(self) -> None:
        """Send nothing more; the replies that are owed are still waited for."""
        if self.retired:
            return
        self.retired = True
        if self._owed:
            self._abandon = self._clock.callLater(ABANDON, self.connection.abort)
        else:
            self.close()

    def close(self) -> None:
        """Close the connection; requests without a reply fail."""
        if self._abandon is not None and self._abandon.active():
            self._abandon.cancel()
        self.connection.close()


class LeaderFinder:
    """Keeps one connection to the leader.

    Args:
        reactor: the reactor.
        addresses: of members, in the order in which to ask; more are learned from the cluster.
        secret: the cluster's, or a client's.
        tls: a ``finn.protocols.tls.TLSMaterial``, or None.

    Attributes:
        hint: address at which to look first.
        harmless: names of commands that may be sent twice, learned from the cluster.
    """

    def __init__(
        self, reactor: Any, addresses: Sequence[str], secret: str | None, tls: Any
    ) -> None:
        if not addresses:
            raise ValueError("a client needs at least one address")
        for address in addresses:
            split_address(address)
        self.hint: str | None = None
        self.harmless: frozenset[bytes] = frozenset()
        self._reactor = reactor
        self._given = list(dict.fromkeys(addresses))
        self._learned: list[str] = []
        self._secret = secret
        self._tls = tls
        self._member: Member | None = None
        self._retired: set[Member] = set()
        self._waiters: list[Deferred[None]] = []
        self._search: Deferred[None] | None = None
        self._next = 0
        self._closed = False

    # -- the connection -----------------------------------------------------------------------

    async def connected(self, deadline: float) -> Member:
        """Return a usable connection, found meanwhile if need be.

        Raises:
            DeadlinePassed: there is none in time.
            CommandError: the secret is wrong.
        """
        while True:
            if self._closed:
                raise NotApplied("ERR the client is closed")
            member = self._member
            if member is not None:
                if member.usable:
                    return member
                self.retire(member)
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            if self._search is None:
                search = self._search = Deferred.fromCoroutine(self._find())
                search.addErrback(lambda failure: failure.trap(CancelledError))
                if search.called:
                    self._search = None
            try:
                await self.until(waiter, deadline, DeadlinePassed(_NO_LEADER))
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    async def _find(self) -> None:
        """Ask one member after another for the leader, as long as somebody waits for it."""
        pause = FIRST_PAUSE
        asked = 0
        refusal: CommandError | None = None
        try:
            while self._waiters and not self._closed and not await self._ask():
                asked += 1
                if asked > len(self._addresses):
                    asked = 0
                    await self.sleep(pause, float("inf"))
                    pause = min(pause * 2, LAST_PAUSE)
        except CommandError as e:
            refusal = e
        finally:
            self._search = None
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                _fire(waiter, Failure(refusal) if refusal is not None else None)

    @property
    def _addresses(self) -> list[str]:
        return list(dict.fromkeys([*self._given, *self._learned]))

    async def _ask(self) -> bool:
        """Connect to a member; False when it cannot be reached or does not lead.

        Raises:
            CommandError: the secret is wrong or missing.
        """
        address, self.hint = self.hint, None
        if address is None:
            addresses = self._addresses
            address = addresses[self._next % len(addresses)]
            self._next += 1
        connection = None
        try:
            connection = await connect_redis(
                self._reactor, address, CONNECT_TIMEOUT, self._secret, self._tls, patient=True
            )
            limit = self._reactor.seconds() + CONNECT_TIMEOUT
            leads = await self.until(
                Deferred.fromCoroutine(self._learn(connection)), limit, ConnectionGone("no reply")
            )
        except Exception as e:
            # Whatever it is, the next one may be better; but no other secret will be tried.
            if connection is not None:
                connection.close()
            if isinstance(e, CommandError) and str(e).startswith(_REFUSALS):
                raise
            return False
        if not leads or self._closed:
            connection.close()
            return False
        self._member = Member(connection, self._reactor)
        return True

    async def _learn(self, connection: RedisConnection) -> bool:
        """Learn who the members are, which commands only read, and whether this one leads."""
        asked = ["RAFTSTATE", "RAFTLEADER", "RAFTPEERS"] + ["COMMAND"] * (not self.harmless)
        replies = gatherResults([connection.execute(name) for name in asked], consumeErrors=True)
        try:
            state, leader, peers, *commands = await replies
        except FirstError as e:
            e.subFailure.raiseException()
        for rows in commands:
            self.harmless = frozenset(bytes(row[0]).upper() for row in rows if _is_harmless(row))
        self._learned = [_text(address) for address in peers[::2]] or self._learned
        if state == b"Leader":
            return True
        if leader is not None and _text(leader) != connection.address:
            self.hint = _text(leader)
        return False

    def retire(self, member: Member) -> None:
        """Send a member nothing more; look for the leader again when it is needed."""
        if self._member is member:
            self._member = None
        self._retired = {m for m in self._retired if m.connection.connected}
        self._retired.add(member)
        member.retire()

    def close(self) -> None:
        """Close everything; who waits is told."""
        self._closed = True
        if self._member is not None:
            self.retire(self._member)
        for member in self._retired:
            member.close()
        if self._search is not None:
            self._search.cancel()

    # -- waiting ------------------------------------------------------------------------------

    async def until(self, waited: Deferred[Any], limit: float, late: FinnError) -> Any:
        """Wait for a Deferred until a time; it is left alone when that passes, or on cancel."""
        outcome: Deferred[Any] = Deferred()
        left = max(0.0, limit - self._reactor.seconds())
        call = self._reactor.callLater(left, _fire, outcome, Failure(late))
        waited.addBoth(lambda result: _fire(outcome, result))
        try:
            return await outcome
        finally:
            if call.active():
                call.cancel()

    async def sleep(self, seconds: float, deadline: float) -> None:
        """Pause.

        Raises:
            DeadlinePassed: the deadline comes first.
        """
        until = self._reactor.seconds() + seconds
        never: Deferred[None] = Deferred()
        try:
            await self.until(never, min(until, deadline), _Paused())
        except _Paused:
            if until >= deadline:
                raise DeadlinePassed(_NO_LEADER) from None


class _Paused(FinnError):
    """A pause is over."""


def _fire(deferred: Deferred[Any], result: Any) -> None:
    if not deferred.called:
        deferred.callback(result)


def _text(address: bytes) -> str:
    return address.decode("utf-8", "replace")


def _is_harmless(row: list[Any]) -> bool:
    """Say of a row of COMMAND whether the command may be sent twice."""
    flags = set(row[2])
    return b"readonly" in flags or (b"fast" in flags and not flags & {b"write", b"stale"})
