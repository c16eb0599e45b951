"""Becoming a member: bootstrap a cluster, join one, or wait to be added."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from finn.errors import CommandError, FinnError, NotReady, printable
from finn.options import split_address
from finn.protocols.names import is_unknown
from finn.raft.configuration import Configuration, Member
from finn.raft.core import Role
from finn.raft.entries import CONFIGURATION, Entry, make_entry
from finn.raft.ready import HardState
from finn.storage.identity import ASIDE_PREFIX

if TYPE_CHECKING:
    from finn.node.service import Node

# Pauses between rounds over the join addresses, seconds: doubling from first to last.
FIRST_PAUSE = 0.1
LAST_PAUSE = 2.0
# What keeps a node from founding a cluster is said again after this time, seconds.
SAY_AGAIN = 30.0
# TRY replies followed in a row before the round is over.
MAX_HOPS = 5
KNOWN = "peer already known"
# What the words of a server mean for a member.
_HINTS = {
    "NOAUTH Authentication required.": " It has a secret: see --auth-file",
    "WRONGPASS invalid username-password pair or user is disabled.":
        " Its secret is not that of --auth-file",
}  # fmt: skip
# How a connection fails where nobody is, besides a refusal. Other errors tell nothing: this machine
# may have no network yet, this process no descriptor left, something on the way may be silent; and
# who took the connection is there, whatever came of it.
_UNREACHABLE = (errno.EHOSTUNREACH, errno.EHOSTDOWN)
_OWN = (
    errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM,
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM,
)  # fmt: skip
LOOKUP_TIMEOUT = 5.0


class Joining:
    """Makes a fresh node a member, as its options say."""

    log = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stopped = False
        self._said = ""
        self._asking: Deferred[Any] | None = None

    def stop(self) -> None:
        """Do not try again, and wait for no answer."""
        self._stopped = True
        if self._asking is not None:
            self._asking.cancel()

    async def begin(self) -> Configuration | None:
        """Decide what a fresh node does first.

        Returns:
            The configuration of a new cluster that the node is to found, or None when it has to be
            added to one.
        """
        options = self._node.options
        if options.wait:
            self.log.info("waiting to be added with RAFTADDPEER {address}", address=options.address)
            return None
        if not options.join:
            return self._alone()
        if options.join[0] != options.address or await self._was_removed():
            return None
        return self._alone() if await self._nobody_has_cluster() else None

    async def _nobody_has_cluster(self) -> bool:
        """Ask the others in --join until it is known whether one of them has a cluster.

        Bootstrap is guarded (DESIGN section 5): whoever is there has to say that it has none. One
        that refuses this node, or is silent, may have one; also when it is gone in a later round,
        as it may be restarted to mend what was wrong, or not have been started yet.

        Returns:
            False as well when this node is stopped: that nobody has answered says nothing.
        """
        node = self._node
        others = [a for a in node.options.join if a != node.options.address]
        doubts = _Doubts()
        pause = FIRST_PAUSE
        while not self._stopped:
            for address in others:
                try:
                    if await self._has_cluster(address):
                        self.log.info(
                            "{address} has a cluster already, joining it", address=address
                        )
                        return False
                    doubts.dispel(address)
                except Exception as e:
                    doubts.note(address, e, await self._is_nobody(address, e))
                if self._stopped:
                    return False
            if doubts.none:
                return True
            if doubts.are_news(node.now()):
                self.log.warn(
                    "not founding a cluster, as others may have one and do not tell: {doubts}. "
                    "Asking them again; see that they run, with the same secret and TLS as this "
                    "node and room for one more client, or take them out of --join",
                    doubts=str(doubts),
                )
            await node.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)
        return False

    async def _was_removed(self) -> bool:
        """Whether there is data of a former member here: its cluster exists, somewhere.

        The same flags once made this node found that cluster; it must not found another one
        when nobody answers.
        """
        node = self._node
        names: list[str] = await node.disk.run(node.files.listdir, node.options.directory)
        return any(name.startswith(ASIDE_PREFIX) for name in names)

    def _alone(self) -> Configuration:
        node = self._node
        self.log.info("enable single node")
        return Configuration((Member(node.identity.node_id, node.options.address),))

    async def found(self, configuration: Configuration) -> Entry:
        """Write the first entry of a new cluster: its configuration, at index 1 of term 1.

        The cluster id comes last: it says that the rest is there, over a power loss at any level.
        A crash before it leaves a node that is still fresh; its next start begins again.
        """
        node = self._node
        store = node.store
        await store.save_state(HardState(1, 0))
        payload = configuration.encode()
        entry = make_entry(1, 1, CONFIGURATION, node.wall_ms(), 0, 0, [payload])
        store.append([entry])
        await store.sync(durable=True)
        node.identity.cluster_id = node.standing.new_cluster_id()
        node.identity.joined = True
        await node.standing.save_identity()
        return entry

    async def join(self, addresses: list[str]) -> None:
        """Ask addresses for membership until one adds this node, or it is stopped."""
        node = self._node
        own = node.options.address
        others = [a for a in addresses if a != own]
        pause = FIRST_PAUSE
        if not others:
            self.log.warn(
                "--join names nobody but this node: waiting to be added with RAFTADDPEER {address}",
                address=own,
            )
        while others and not self._stopped and not self._is_settled():
            if node.raft is not None and node.raft.role is Role.LEADER:
                # The others would name the leader: this node, at its old address.
                await self._rename()
                if self._is_settled():
                    return
            elif await self._is_added(others, patient=pause < LAST_PAUSE):
                return
            await node.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)

    async def _is_added(self, addresses: list[str], patient: bool) -> bool:
        """Ask each address once; also true when this node is stopped meanwhile."""
        for address in addresses:
            outcome = await self._ask(address)
            if outcome is None or self._stopped:
                return True
            if outcome != KNOWN:
                hint = _HINTS.get(outcome, "")
                self._warn(f"failed to join node at {address}: {outcome}{hint}, retrying")
            elif not patient:  # it is known to the leader, but that may not be committed
                self._warn(
                    f"{address} knows a member at {self._node.options.address}, and this node is "
                    "not known to be that: see that --advertise is right, retrying"
                )
        return False

    def _warn(self, text: str) -> None:
        """Say what is not the same as before."""
        if text != self._said:
            self._said = text
            self.log.warn("{text}", text=text)

    def _is_settled(self) -> bool:
        """Whether a committed configuration has this node under its address."""
        node = self._node
        member = node.applying.configuration.get(node.identity.node_id)
        return member is not None and member.address == node.options.address

    async def _ask(self, address: str) -> str | None:
        """Ask one address, follow TRY; returns None when added, else why not."""
        own = self._node.options.address.encode()
        for _ in range(MAX_HOPS):
            try:
                await self._ask_node(address, b"RAFTADDPEER", own)
            except CommandError as e:
                text = str(e)
                if text.startswith("TRY "):
                    address = text[4:]
                    continue
                return text
            except Exception as e:
                return str(e) or type(e).__name__
            return None
        return "too many redirections"

    async def _ask_node(self, address: str, *words: bytes) -> Any:
        return await self._answer(Deferred.fromCoroutine(self._node.ask_node(address, *words)))

    async def _answer(self, asking: Deferred[Any]) -> Any:
        """Wait for an answer until this node is stopped."""
        self._asking = asking
        try:
            return await asking
        finally:
            self._asking = None

    async def _is_nobody(self, address: str, e: Exception) -> bool:
        """Say whether asking an address failed because there is certainly nobody."""
        if isinstance(e, error.DNSLookupError):
            host, _ = split_address(address)
            asking = is_unknown(self._node.reactor, host, LOOKUP_TIMEOUT)
            try:
                return bool(await self._answer(asking))
            except Exception:
                return False
        return isinstance(e, error.ConnectionRefusedError) or (
            isinstance(e, error.ConnectError) and e.osError in _UNREACHABLE
        )

    async def _has_cluster(self, address: str) -> bool:
        """Ask one address.

        Raises:
            Exception: nobody is there, or who is does not tell.
        """
        try:
            peers = await self._ask_node(address, b"RAFTPEERS")
        except CommandError as e:
            # A member that is still restoring says so; a fresh node has an empty list at once.
            if str(e) != NotReady.reply:
                raise
            return True
        return bool(peers != [])

    async def rename_alone(self) -> None:
        """The only member has a new address: nobody else has to be told."""
        pause = FIRST_PAUSE
        while not self._stopped and not self._is_settled():
            try:
                await self._node.when_leader()
            except NotReady:
                return  # it is stopped before that
            await self._rename()
            if not (self._stopped or self._is_settled()):
                await self._node.sleep(pause)  # refused, or not known to be committed
                pause = min(pause * 2, LAST_PAUSE)

    async def _rename(self) -> None:
        node = self._node
        try:
            await node.membership.rename(node.options.address)
        except FinnError as e:
            self._warn(f"the new address is not noted yet: {e}")


class _Doubts:
    """Which of the others may have a cluster, and why that is not known."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}  # by address
        self._lasting: set[str] = set()  # of these, who may have been there
        self._gone: set[str] = set()  # and was certainly not there since
        self._said: tuple[set[str], set[str]] = set(), set()
        self._said_at = 0.0

    def __str__(self) -> str:
        return "; ".join(
            f"{address}: {reason}{', and is gone since' if address in self._gone else ''}"
            for address, reason in self._reasons.items()
        )

    @property
    def none(self) -> bool:
        """Whether none is left."""
        return not self._reasons

    def dispel(self, address: str) -> None:
        """Forget about one: it said that it has no cluster."""
        self._reasons.pop(address, None)
        self._lasting.discard(address)
        self._gone.discard(address)

    def note(self, address: str, e: Exception, nobody: bool) -> None:
        """Note how asking one failed. Where somebody may have been, nobody there is none yet."""
        if not nobody:
            text = str(e).rstrip(".") or type(e).__name__
            self._reasons[address] = printable(text.encode("utf-8", "replace"))
            self._gone.discard(address)
            if not _is_own(e):
                self._lasting.add(address)
        elif address in self._lasting:
            self._gone.add(address)
        else:
            self.dispel(address)

    def are_news(self, now: float) -> bool:
        """Whether it is time to tell people of them, who are told no reason again and again."""
        news = {*self._reasons}, {*self._gone}
        if news == self._said and now - self._said_at < SAY_AGAIN:
            return False
        self._said, self._said_at = news, now
        return True


def _is_own(e: Exception) -> bool:
    """Say whether asking failed on this machine: it tells nothing of the other."""
    return isinstance(e, (error.DNSLookupError, error.ConnectBindError)) or (
        isinstance(e, error.ConnectError) and e.osError in _OWN
    )
