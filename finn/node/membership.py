"""Changes of membership: probe first, change one thing at a time, answer when it is committed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import FinnError, MembershipBusy, MembershipError, NotLeader
from finn.node.runs import Run, Waiter
from finn.options import split_address
from finn.protocols.handshake import PeerHello
from finn.raft.configuration import Configuration, Member
from finn.raft.core import Role

if TYPE_CHECKING:
    from finn.node.service import Node

# A newcomer that does not answer within this time is refused, seconds.
PROBE_TIMEOUT = 2.0
# How often a change that has to wait for another one is tried again, seconds.
RETRY = 0.05
# After addresses were corrected, or could not be, the next look, seconds: of an id that two nodes
# have, as one's data was copied, there is no right one.
CORRECTION_REST = 5.0


class Membership:
    """Adds, removes and renames members; runs on the leader."""

    log = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._removed: set[tuple[int, int]] = set()  # terms and ids, of those removed or told so
        self._next_look = 0.0

    async def add(self, address: str) -> str:
        """Add the node at ``address`` as a learner; the core promotes it when it has caught up.

        Returns:
            ``"OK"`` when the change is committed.

        Raises:
            NotLeader: ask the leader.
            MembershipError: refused; the cluster is as it was.
            OutcomeUnknown: leadership was lost in between.
        """
        node = self._node
        self._require_leader()
        try:
            split_address(address)
        except ValueError as e:
            raise MembershipError(f"ERR {e}") from None
        self.log.info("received add peer request from {address}", address=address)
        known = self._members().by_address(address)
        if known is not None and known.id == node.identity.node_id:
            raise MembershipError("peer already known")
        try:
            hello = await node.links.probe(address, PROBE_TIMEOUT)
        except Exception as e:
            if known is not None:
                raise MembershipError("peer already known") from None
            reason = str(e) or type(e).__name__
            raise MembershipError(f"ERR {address} cannot be reached: {reason}") from None
        term = self._require_leader()
        if hello.node_id == node.identity.node_id:
            raise MembershipError("peer already known")
        if hello.cluster_id not in (0, node.identity.cluster_id):
            raise MembershipError(f"ERR {address} belongs to another cluster")
        member = self._members().get(hello.node_id)
        if member is not None and member.address == address:
            raise MembershipError("peer already known")
        if member is not None:
            await self._move(member.id, address, term)
            self.log.info("node {address} is known by its new address", address=address)
            return "OK"
        if not hello.fresh:
            raise _removed_before(address)
        holder = self._members().by_address(address)
        if holder is not None:
            if any(linked.node_id == holder.id for linked in node.links.hellos()):
                raise _left(address)
            # A wiped disk or an inmem restart: the old id is gone for ever, remove it first.
            await self._remove(holder.id, term, address)

        def added(c: Configuration) -> Configuration:
            if (term, hello.node_id) in self._removed:
                raise _removed_before(address)
            if c.get(hello.node_id) is not None:
                raise MembershipError("peer already known")
            return c.with_member(Member(hello.node_id, address, voter=False))

        await self._change(added, term)
        self.log.info("node {address} added successfully", address=address)
        return "OK"

    async def remove(self, address: str) -> str:
        """Remove the member at ``address``, the leader itself too.

        Raises:
            NotLeader: ask the leader.
            MembershipError: nobody there is a member, or it is the last voter.
            OutcomeUnknown: leadership was lost in between.
        """
        term = self._require_leader()
        member = self._members().by_address(address)
        if member is None:
            raise MembershipError("peer is unknown")
        self.log.info("received remove peer request from {address}", address=address)
        says = self._says(member.id)
        if says not in ("", address) and await self._answers(member.id, says):
            # Who is meant is whoever is there, and not the one that would be removed.
            raise MembershipError(
                f"ERR the member known at {address} lives at {says}: remove it by that address"
            )
        await self._remove(member.id, term, address)
        self.log.info("node {address} detached successfully", address=address)
        return "OK"

    def told(self, member_id: int) -> None:
        """A former member was told that it is removed: it is not added in this term any more.

        It may have said that it is fresh just before, and waits to be added.
        """
        raft = self._node.raft
        assert raft is not None
        self._removed.add((raft.current_term, member_id))

    async def rename(self, address: str) -> None:
        """This leader came back under another address.

        Raises:
            FinnError: it is not noted, or not known to be.
        """
        own = self._node.identity.node_id
        term = self._require_leader()
        holder = self._members().by_address(address)
        displaces = holder is not None and holder.id != own
        # About itself it may be mistaken: only what answers there says that it is not.
        if displaces and not await self._answers(own, address):
            raise MembershipError(f"ERR {address} is where another member is, or was")
        await self._move(own, address, term)

    def look(self) -> None:
        """Correct the addresses of members that are linked, but noted elsewhere (twice a second).

        They need not know that, this leader neither, where another one was noted at its address
        while it was down. An older move of a member that was made after a newer one ends here, too.
        """
        node = self._node
        raft = node.raft
        if raft is None or raft.role is not Role.LEADER or node.now() < self._next_look:
            return
        if raft.configuration.index > raft.commit_index:
            return
        wrong = [h for h in node.links.hellos() if self._is_misplaced(h.node_id, h.address)]
        if not (wrong or self._is_misplaced(node.identity.node_id, node.options.address)):
            return
        self._next_look = inf

        def over(result: Any) -> None:
            self._next_look = node.now() + CORRECTION_REST
            if isinstance(result, Failure) and not result.check(FinnError):
                self.log.failure("an address could not be noted", result)

        Deferred.fromCoroutine(self._correct(wrong)).addBoth(over)

    def _says(self, member_id: int) -> str:
        """Return where a member says that it is; empty when it has no link to this leader."""
        node = self._node
        if member_id == node.identity.node_id:
            return node.options.address
        return next((h.address for h in node.links.hellos() if h.node_id == member_id), "")

    def _is_misplaced(self, member_id: int, address: str) -> bool:
        member = self._members().get(member_id)
        return member is not None and member.address != address

    async def _correct(self, wrong: list[PeerHello]) -> None:
        """Note where members are that answer there, and not this leader or another one."""
        node = self._node
        term = self._require_leader()
        for hello in wrong:
            if await self._answers(hello.node_id, hello.address):
                await self._move(hello.node_id, hello.address, term)
                self.log.info("node {address} is known by its address again", address=hello.address)
        if self._is_misplaced(node.identity.node_id, node.options.address):
            await self.rename(node.options.address)

    async def _answers(self, member_id: int, address: str) -> bool:
        """Whether that member is found at an address; silence and errors are nobody."""
        with suppress(Exception):
            hello = await self._node.links.probe(address, PROBE_TIMEOUT)
            return hello.node_id == member_id
        return False

    async def _move(self, member_id: int, address: str, term: int) -> None:
        def moved(c: Configuration) -> Configuration:
            if c.get(member_id) is None:
                raise _removed_before(address)
            return c.moved(member_id, address)

        await self._change(moved, term)

    async def _remove(self, member_id: int, term: int, only_at: str) -> None:
        def removed(c: Configuration) -> Configuration:
            if self._is_misplaced(member_id, only_at):
                raise _left(only_at)  # while this change waited
            return c.without(member_id)

        await self._change(removed, term, lambda: self._removed.add((term, member_id)))

    def _members(self) -> Configuration:
        raft = self._node.raft
        assert raft is not None
        return raft.configuration

    def _require_leader(self) -> int:
        """Return the term in which this node leads."""
        refusal = self._node.dispatch.refusal()
        if refusal is not None:
            raise refusal
        raft = self._node.raft
        assert raft is not None
        return raft.current_term

    async def _change(
        self,
        change: Callable[[Configuration], Configuration],
        term: int,
        made: Callable[[], None] = lambda: None,
    ) -> None:
        """Propose a change and wait until it is committed; wait while another is in flight.

        Invariant: ids are never used again (DESIGN section 5). So a change is made in the term in
        which it was asked for, or not at all: no other leader can have removed a member meanwhile.

        Args:
            change: made of the configuration that holds then.
            term: in which it was asked for.
            made: called when it is proposed.
        """
        node = self._node
        deadline = node.now() + node.options.request_timeout
        while True:
            if self._require_leader() != term:
                raise NotLeader()
            raft = node.raft
            assert raft is not None
            try:
                entry = raft.change_membership(
                    change(raft.configuration), node.wall_ms(), node.now()
                )
                made()
                break
            except MembershipBusy:
                if node.now() + RETRY > deadline:
                    raise
            await node.sleep(RETRY)
        waiter = Waiter(lambda data: data)
        run = Run(waiter, [[b"RAFTADDPEER"]], False, node.now())
        node.proposals.wait_for(entry, run, node.now())
        node.wake()
        await waiter.deferred


def _left(address: str) -> MembershipError:
    return MembershipError(f"ERR the member known at {address} lives elsewhere: try again")


def _removed_before(address: str) -> MembershipError:
    return MembershipError(f"ERR {address} was removed from this cluster: restart it with --join")
