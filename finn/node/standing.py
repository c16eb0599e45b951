"""What a node is to its cluster: fresh, a member, amnesic, removed, or there by mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from finn.errors import DataDirectoryError, Removed, StartFailed
from finn.protocols.handshake import PeerHello
from finn.raft.core import Role

if TYPE_CHECKING:
    from finn.node.service import Node


class Standing:
    """The part of a node's identity that changes, and what follows from its changes."""

    log: ClassVar[Logger] = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def is_fresh(self) -> bool:
        """Whether this node has never been a member, as far as is known to be committed.

        A leader that dials a newcomer may lose leadership before the change is committed: the
        newcomer has data of the cluster then, and still has to be added like a new one.
        """
        return not self._node.identity.joined

    def check_joined(self) -> None:
        """Note it when a committed configuration holds this node."""
        identity = self._node.identity
        if self._node.applying.configuration.get(identity.node_id) is not None:
            identity.joined = True
            self.save_identity().addErrback(self._node.failed)

    def new_cluster_id(self) -> int:
        """Draw a cluster id; the older of two clusters has the lower one."""
        return (self._node.wall_ms() << 20 | self._node.random.getrandbits(20)) & (2**63 - 1)

    def save_identity(self) -> Deferred[Any]:
        """Write ``node.json`` on the disk thread."""
        return self._node.disk.run(self._node.identity.save)

    def adopt_cluster(self, cluster_id: int) -> bool:
        """A leader made this fresh node a member of its cluster.

        It is saved before the link is accepted, inline: once in a node's life, with nothing to
        serve yet.

        Returns:
            Whether it could be saved; the node has failed if not.
        """
        self._node.identity.cluster_id = cluster_id
        self._node.identity.address = self._node.options.address
        try:
            self._node.identity.save()
        except DataDirectoryError as e:
            self._node.fatal(e)
            return False
        self.log.info("joined cluster {id}", id=format(cluster_id, "016x"))
        return True

    def cured(self) -> None:
        """A current leader has brought this node up to date: it may vote again."""
        self.log.info("this node is up to date again and votes")
        self._node.identity.amnesic = False
        self.save_identity().addErrback(self._node.failed)

    def has_removed(self, hello: PeerHello) -> bool:
        """Say whether this node knows that another one is no member any more, and never will be.

        It was one once, as it is not fresh; ids are never used again.
        """
        return not hello.fresh and self.is_outsider(hello)

    def is_outsider(self, hello: PeerHello) -> bool:
        """Say whether this node knows that another one is no member.

        The newest configuration of a leader that cannot have been replaced, and that is committed,
        is the truth.
        """
        raft = self._node.raft
        if raft is None or hello.kind != "raft":
            return False
        configuration = raft.configuration
        return (
            configuration.get(hello.node_id) is None
            and configuration.index <= raft.commit_index
            and raft.lease_valid(self._node.now())
        )

    def check_removed(self) -> None:
        """Note it when a committed configuration does not hold this node, or holds it again.

        Invariant: it keeps its links until a leader has told it of its removal: the log may have
        older news than that of an addition, and who leads may be nobody that it knows.
        """
        node = self._node
        raft = node.raft
        assert raft is not None
        removed = raft.removed
        # A leader that is removed still has to hand over, for which it needs its links.
        if removed and raft.role is Role.LEADER:
            return
        identity = node.identity
        changed = removed != identity.removed
        if changed or raft.told_removed != identity.told_removed:
            identity.removed, identity.told_removed = removed, raft.told_removed
            # Whoever reads of both its addition and its removal at once was a member, too.
            identity.joined = identity.joined or removed
            self.save_identity().addErrback(node.failed)
        if changed and removed:
            # It serves status only from here on.
            self.log.warn("removed from the cluster, shutting down")
            node.proposals.withdraw(Removed())
        elif changed:
            self.log.info("added to the cluster again")
        node.links.follow(raft.peers)

    def looked_for(self, hello: PeerHello, reason: str) -> None:
        """A member looked for another node or cluster at this address.

        A sole member that a member of an older cluster looks for here was bootstrapped by mistake,
        on a wiped disk or by ``inmem``: it must not go on as a second cluster of that name.
        """
        raft = self._node.raft
        if raft is None or not self._node.is_member or len(raft.configuration.members) != 1:
            return
        if hello.kind == "raft" and 0 < hello.cluster_id < self._node.identity.cluster_id:
            self._node.fatal(
                StartFailed(
                    f"{hello.address} is a member of an older cluster and looks for its member at "
                    f"{self._node.options.address}: this node founded a cluster of its own by "
                    "mistake. Move its data directory away and start it with --join "
                    f"{hello.address}"
                )
            )
