"""A client of a cluster: finds the leader, follows TRY, reconnects, and never lies about a write.

    client = ClusterClient(reactor, [":7481", ":7482", ":7483"])
    await client.execute("SET", "greeting", "hello")
    value = await client.execute("GET", "greeting")
    old, new = await client.transaction([("GET", "n"), ("INCR", "n")])

A command is sent again only when it is certainly not applied (no connection, ``TRY``, no leader,
not ready), or when it only reads. When its outcome cannot be known it fails with OutcomeUnknown:
whoever sent it decides. Commands of one client run in no particular order unless each is awaited.

As a command line: ``python -m finn.client ADDR... COMMAND [ARG...]`` (``finn.commandline``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults

from finn.errors import (
    AGAIN,
    CommandError,
    DeadlinePassed,
    FinnError,
    OutcomeUnknown,
    printable,
)
from finn.finding import FIRST_PAUSE, LAST_PAUSE, STALL, LeaderFinder, Member
from finn.options import checked_timeout, split_address
from finn.protocols.outside import ConnectionGone
from finn.resp.request import Word, encode_words

# Commands that change the connection, which all requests share.
_STATEFUL = frozenset(
    b"MULTI EXEC DISCARD WATCH UNWATCH AUTH HELLO QUIT RESET SELECT RAFTLINK".split()
)


class ClusterClient:
    """Runs commands on the leader of a cluster, over one connection, pipelined.

    Args:
        reactor: the reactor.
        addresses: of members, in the order in which to ask; more are learned from the cluster.
        secret: the cluster's, or a client's.
        tls: a ``finn.protocols.tls.TLSMaterial``, or None.
        timeout: default deadline of a request, seconds.

    Raises:
        ValueError: there is no address, or one is none, or the timeout is none.
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
        self._reactor = reactor
        self._timeout = checked_timeout(timeout)
        self._finder = LeaderFinder(reactor, addresses, secret, tls)

    async def execute(self, *words: Word, timeout: float | None = None) -> Any:
        """Run one command on the leader.

        Args:
            words: name and arguments, 64 MiB in all at most; text is encoded as UTF-8, numbers in
                digits.
            timeout: deadline, seconds, a month at most; the client's if None.

        Returns:
            The reply: bytes, int, list or None.

        Raises:
            ValueError: an argument is none of these, or too large; nothing was sent.
            CommandError: the command was refused, with the server's text.
            DeadlinePassed: no leader was found in time; certainly not applied.
            OutcomeUnknown: it was sent, and the answer got lost or was late.
        """
        return (await self._run([_checked(words)], timeout))[0]

    async def transaction(
        self, commands: Sequence[Sequence[Word]], timeout: float | None = None
    ) -> list[Any]:
        """Run commands as one atomic piece (MULTI, EXEC), with no other in between.

        Returns:
            One reply for each; a command that failed has a CommandError there, and the others
            have been applied all the same.

        Raises:
            As ``execute``; a command that is refused when it is queued refuses all of them.
        """
        packed = [_checked(words) for words in commands]
        return list((await self._run([[b"MULTI"], *packed, [b"EXEC"]], timeout))[-1])

    async def _run(self, commands: list[list[bytes]], timeout: float | None) -> list[Any]:
        """Send commands in one piece, again and again as long as that does no harm."""
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        deadline = self._reactor.seconds() + seconds
        pause = FIRST_PAUSE
        while True:
            member = await self._finder.connected(deadline)
            harmless = all(words[0].upper() in self._finder.harmless for words in commands)
            try:
                return await self._send(member, commands, deadline, harmless)
            except ConnectionGone as e:
                self._finder.retire(member)
                if not harmless and e.args != ("not connected",):
                    raise OutcomeUnknown("connection lost before the reply came") from None
            except CommandError as e:
                text = str(e)
                if text.startswith("UNKNOWN "):
                    raise OutcomeUnknown(text.removeprefix("UNKNOWN ")) from None
                leader = _leader_told(text)
                if leader is not None:
                    self._finder.hint = leader
                elif text not in AGAIN:
                    raise
                self._finder.retire(member)
            if self._finder.hint is None or pause > FIRST_PAUSE:
                await self._finder.sleep(pause, deadline)
            pause = min(pause * 2, LAST_PAUSE)

    async def _send(
        self, member: Member, commands: list[list[bytes]], deadline: float, harmless: bool
    ) -> list[Any]:
        """Send commands and wait for all replies.

        A late reply is left to come, as those of other requests lie behind it.
        """
        replies: Deferred[list[Any]] = gatherResults(
            [member.send(words) for words in commands], consumeErrors=True
        )
        late: FinnError = DeadlinePassed() if harmless else OutcomeUnknown("request timed out")
        limit = deadline
        if harmless and deadline - self._reactor.seconds() > STALL:
            limit = self._reactor.seconds() + STALL
            late = ConnectionGone("no reply")
        try:
            found: list[Any] = await self._finder.until(replies, limit, late)
            return found
        except FirstError as e:
            e.subFailure.raiseException()
        except (DeadlinePassed, OutcomeUnknown):
            self._finder.retire(member)
            raise

    def close(self) -> None:
        """Close the connection; requests under way fail."""
        self._finder.close()


def _leader_told(text: str) -> str | None:
    """Return whom ``TRY host:port`` names; None for another text, one of a machine say."""
    address = text.removeprefix("TRY ")
    if address == text:
        return None
    try:
        split_address(address)
    except ValueError:
        return None
    return address


def _checked(words: Sequence[Word]) -> list[bytes]:
    """Encode a command.

    Raises:
        ValueError: a word is none, or it is too large.
        CommandError: there is nothing to send, or it would change the shared connection.
    """
    packed = encode_words(words)
    if not packed:
        raise CommandError("ERR empty command")
    if packed[0].upper() in _STATEFUL:
        name = printable(packed[0]).upper()
        raise CommandError(f"ERR {name} would change the connection that all requests share")
    return packed


if __name__ == "__main__":
    from finn.commandline import main

    main(sys.argv[1:])
