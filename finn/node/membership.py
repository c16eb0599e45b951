"""Changes of membership: probe first, change one thing at a time, answer when it is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from finn.errors import MembershipBusy, MembershipError
from finn.node.runs import Run, Waiter
from finn.options import split_address
from finn.raft.configuration import Configuration, Member

if TYPE_CHECKING:
    from finn.node.service import Node

# A newcomer that does not answer within this time is refused, seconds.
PROBE_TIMEOUT = 2.0
# How often a change that has to wait for another one is tried again, seconds.
RETRY = 0.05


class Membership:
    """Adds, removes and renames members; runs on the leader."""

    log = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node

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
        self._require_leader()
        if hello.node_id == node.identity.node_id:
            raise MembershipError("peer already known")
        if hello.cluster_id not in (0, node.identity.cluster_id):
            raise MembershipError(f"ERR {address} belongs to another cluster")
        member = self._members().get(hello.node_id)
        if member is not None and member.address == address:
            raise MembershipError("peer already known")
        if member is None and not hello.fresh:
            raise MembershipError(
                f"ERR {address} was removed from this cluster: restart it with --join"
            )
        holder = self._members().by_address(address)
        if holder is not None and holder.id != hello.node_id:
            # A wiped disk or an inmem restart: the old id is gone for ever, remove it first.
            await self._change(lambda c: c.without(holder.id))
        voter = member.voter if member is not None else False
        newcomer = Member(hello.node_id, address, voter)
        await self._change(lambda c: c.with_member(newcomer))
        self.log.info("node {address} added successfully", address=address)
        return "OK"

    async def remove(self, address: str) -> str:
        """Remove the member at ``address``, the leader itself too.

        Raises:
            NotLeader: ask the leader.
            MembershipError: nobody there is a member, or it is the last voter.
            OutcomeUnknown: leadership was lost in between.
        """
        self._require_leader()
        member = self._members().by_address(address)
        if member is None:
            raise MembershipError("peer is unknown")
        self.log.info("received remove peer request from {address}", address=address)
        await self._change(lambda c: c.without(member.id))
        self.log.info("node {address} detached successfully", address=address)
        return "OK"

    async def rename(self, member_id: int, address: str) -> None:
        """A member came back under another address."""
        member = self._members().get(member_id)
        if member is None or member.address == address:
            return
        renamed = Member(member.id, address, member.voter)
        await self._change(lambda c: c.with_member(renamed))

    def _members(self) -> Configuration:
        raft = self._node.raft
        assert raft is not None
        return raft.configuration

    def _require_leader(self) -> None:
        refusal = self._node.dispatch.refusal()
        if refusal is not None:
            raise refusal

    async def _change(self, change: Any) -> None:
        """Propose a change and wait until it is committed; wait while another is in flight."""
        node = self._node
        deadline = node.now() + node.options.request_timeout
        while True:
            self._require_leader()
            raft = node.raft
            assert raft is not None
            try:
                entry = raft.change_membership(
                    change(raft.configuration), node.wall_ms(), node.now()
                )
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
