"""The links of a node: one dialled to each peer, those that peers dialled, and what comes on them.

Requests go out on the link this node dialled, replies on the one they came by; either will do when
the other is down. Only ``raft`` links count for the core; snapshots have links of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from finn.errors import ProtocolError
from finn.node.status import state_of
from finn.protocols.dialer import Dialer
from finn.protocols.handshake import LinkIdentity, PeerHello
from finn.protocols.link import ILinkHandler, MemberLink, accept_link, probe
from finn.protocols.wire import (
    Forward,
    ForwardReply,
    SnapshotOffer,
    Status,
    StatusRequest,
    encode,
    encode_cached,
)
from finn.raft.messages import (
    AppendEntries,
    AppendReply,
    RequestVote,
    TimeoutNow,
    VoteReply,
)

if TYPE_CHECKING:
    from finn.node.service import Node
    from finn.raft.configuration import Member

_RAFT_TYPES = frozenset((AppendEntries, AppendReply, RequestVote, TimeoutNow, VoteReply))
_TERMED = _RAFT_TYPES | {SnapshotOffer}
# Large messages of leaders, which heartbeats wait behind: AppendEntries, ForwardReply. What else
# comes from there a former leader sends, too: it asks for votes.
_LEADING = frozenset((b"A", b"f"))
# A peer whose status is older than this is shown as ``Timeout``, seconds.
STATUS_AGE = 2.5
# What a leader tells a former member that dials it.
REMOVED = "you were removed from the cluster"
# What a former member tells whoever dials it, when it knows that from a leader.
LEFT = "the node was removed from the cluster"
# Terms are elections: so many do not happen while a member is away, not in a lifetime.
TERM_LEAP = 1 << 32


class Links:
    """All member links of a node."""

    log: ClassVar[Logger] = Logger(namespace="finn.protocols")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._dialers: dict[int, Dialer] = {}
        self._incoming: dict[int, MemberLink] = {}
        self._all: dict[MemberLink, None] = {}  # in order of their making
        self._statuses: dict[int, tuple[float, Status]] = {}
        self._polls = 0
        self._stopped = False

    # -- who this node is ---------------------------------------------------------------------

    def identity(self) -> LinkIdentity:
        node = self._node
        identity = node.identity
        return LinkIdentity(
            identity.node_id,
            identity.cluster_id,
            node.options.address,
            node.instance,
            node.options.secret,
            node.standing.is_fresh,
            node.tls is not None and node.options.tls_ca is not None,
        )

    def accept_link(self, hello: PeerHello) -> str | None:
        node = self._node
        if self._stopped or (node.raft is None and node.stopping):
            return "the node has failed" if node.failure is not None else "the node is stopping"
        if node.raft is None:
            return "the node is still starting"
        if hello.kind == "probe":
            return None
        if node.raft.told_removed:
            return LEFT
        if node.standing.has_removed(hello):
            node.membership.told(hello.node_id)
            return REMOVED
        if node.identity.cluster_id == 0 and not node.standing.adopt_cluster(hello.cluster_id):
            return "the node has failed"
        return None

    def link_refused(self, hello: PeerHello, reason: str) -> None:
        self._node.standing.looked_for(hello, reason)

    def complain(self, text: str, **fields: Any) -> None:
        self._node.server.complain(text, **fields)

    # -- life of links ------------------------------------------------------------------------

    def follow(self, peers: Iterable[Member]) -> None:
        """Keep a link up to each of these members, and to nobody else."""
        if self._stopped:
            return  # the disk failed in the very turn that changed the members
        node = self._node
        wanted = {member.id: member.address for member in peers}
        if node.raft is not None and node.raft.told_removed:
            wanted = {}
        for peer_id in sorted(set(self._dialers) - set(wanted)):
            self._dialers.pop(peer_id).stop()
            self._statuses.pop(peer_id, None)
            if node.raft is not None:
                node.raft.peer_lost(peer_id, node.now())
        for peer_id, address in sorted(wanted.items()):
            dialer = self._dialers.get(peer_id)
            if dialer is not None:
                dialer.set_address(address)
                continue
            dialer = Dialer(
                node.reactor, peer_id, address, self, node.random, tls=node.tls, nonces=node.nonces
            )
            self._dialers[peer_id] = dialer
            dialer.start()

    def accept(self, connection: Any, command: list[bytes], rest: bytes) -> None:
        """A client connection asked to become a link."""
        node = self._node
        accept_link(connection, command, rest, self, node.reactor, nonces=node.nonces)

    def probe(self, address: str, timeout: float) -> Deferred[PeerHello]:
        """Ask who answers at an address."""
        node = self._node
        return probe(node.reactor, address, self.identity(), timeout, node.tls, nonces=node.nonces)

    def link_made(self, link: MemberLink) -> None:
        self._all[link] = None
        node = self._node
        if link.kind != "raft":
            return
        raft = node.raft
        assert raft is not None
        now = node.now()
        if link.incoming:
            old = self._incoming.get(link.peer_id)
            self._incoming[link.peer_id] = link
            if old is not None:
                old.abort("replaced by a newer link")
            self._dial(link.peer_id)
        else:
            raft.peer_connected(link.peer_id, now)
            if link.instance_changed and link.peer_id == raft.leader_id:
                raft.leader_suspect(now)
            node.forwarding.leader_known()
        node.wake()

    def link_lost(self, link: MemberLink, reason: Failure) -> None:
        self._all.pop(link, None)
        node = self._node
        if link.kind != "raft" or node.raft is None or self._stopped:
            return
        peer = link.peer_id
        if link.incoming:
            if self._incoming.get(peer) is link:
                del self._incoming[peer]
        else:
            node.raft.peer_lost(peer, node.now())
        if peer == node.raft.leader_id:
            # Crash detection: whoever answers there now tells whether the leader lives.
            self._dial(peer)
        node.wake()
        if not link.incoming:
            node.forwarding.link_lost(peer)  # what applications do then may end the node

    def _dial(self, peer_id: int) -> None:
        dialer = self._dialers.get(peer_id)
        if dialer is not None:
            dialer.dial_now()

    def dial_failed(self, peer_id: int, address: str, refused: bool) -> None:
        node = self._node
        raft = node.raft
        if raft is None:
            return
        if refused and peer_id == raft.leader_id and peer_id not in self._incoming:
            # While its own link is up it lives, and may hold a lease: it stops, or something
            # between refuses for it. When that link is lost too, it is dialled again.
            raft.leader_suspect(node.now())
            node.wake()
        elif (dialer := self._dialers.get(peer_id)) and dialer.problem == REMOVED:
            raft.learn_of_removal(node.now())
            node.wake()
        elif dialer is not None and dialer.problem == LEFT:
            # For good, as ids are never used again; this node will read or be told of it.
            self._dialers.pop(peer_id).stop()

    def stop(self) -> Deferred[Any]:
        """Close all links and dial no more; fires when those that were dialled are lost."""
        self._stopped = True
        dialers, self._dialers = self._dialers, {}
        stopping = [dialer.stop() for dialer in dialers.values()]
        for link in list(self._all):
            link.close()
        return gatherResults(stopping)

    def hellos(self) -> list[PeerHello]:
        """Return what the peers say of themselves that have a link to this node."""
        return [link.peer for link in self._incoming.values() if link.peer is not None]

    def note_progress(self, now: float) -> None:
        """Tell the core which peers take what is sent to them (called before its clock ticks)."""
        raft = self._node.raft
        for peer_id, dialer in self._dialers.items():
            link = dialer.link
            if link is not None and link.progress != dialer.progress:
                dialer.progress = link.progress
                if raft is not None:
                    raft.peer_takes(peer_id, now)

    # -- messages -----------------------------------------------------------------------------

    def bytes_received(self, link: MemberLink, begun: bytes) -> None:
        raft = self._node.raft
        if raft is not None and link.peer_id == raft.leader_id and begun in _LEADING:
            raft.leader_contact(link.peer_id, raft.current_term, self._node.now())

    def message_received(self, link: MemberLink, message: Any) -> None:
        node = self._node
        kind = type(message)
        raft = node.raft
        if raft is None or self._stopped:
            return
        if kind in _TERMED and message.term > raft.current_term + TERM_LEAP:
            # To believe it would bring all terms near their end.
            raise ProtocolError(f"term {message.term} makes no sense")
        if kind in _RAFT_TYPES:
            if link.kind != "raft":
                return
            if kind is RequestVote and link.peer and node.standing.is_outsider(link.peer):
                link.abort("the peer is no member")  # as ``poll`` does
            else:
                now = node.now()
                raft.receive(link.peer_id, message, now)
                if kind is AppendEntries and message.leader_commit > message.prev_log_index:
                    # Others are a majority for what it brings: nobody waits for the answer.
                    node.applying.courtesy.offer(now)
                if raft.has_output:
                    node.wake()
        elif kind is Forward:
            node.forwarding.received(link, message)
        elif kind is ForwardReply:
            node.forwarding.answered(message)
            node.wake()
        elif kind is StatusRequest:
            link.send(encode(self._own_status(message.request_id)))
        elif kind is Status:
            self._statuses[link.peer_id] = (node.now(), message)
        elif kind is SnapshotOffer and link.kind == "snapshot":
            node.snapshots.transfers.offered(link, message)

    def send(self, peer_id: int, message: Any) -> None:
        """Send one of the core's messages; it is lost when there is no link."""
        kind = type(message)
        replies = kind is AppendReply or kind is VoteReply
        link = self._link(peer_id, replies)
        if link is not None:
            link.send(encode_cached(message))

    def send_frame(self, peer_id: int, data: bytes) -> bool:
        """Send a request to a peer; False when there is no link of ours to it."""
        dialer = self._dialers.get(peer_id)
        if dialer is None or dialer.link is None:
            return False
        dialer.link.send(data)
        return True

    def _link(self, peer_id: int, replies: bool) -> MemberLink | None:
        dialer = self._dialers.get(peer_id)
        outgoing = dialer.link if dialer is not None else None
        incoming = self._incoming.get(peer_id)
        if replies:
            return incoming or outgoing
        return outgoing or incoming

    # -- how the peers are --------------------------------------------------------------------

    def _own_status(self, request_id: int) -> Status:
        node = self._node
        raft = node.raft
        assert raft is not None
        return Status(
            state_of(node),
            node.options.address,
            raft.current_term,
            raft.leader_address or "",
            raft.log.last_index,
            raft.commit_index,
            node.applying.last_applied,
            request_id,
        )

    def poll(self) -> None:
        """Ask the peers how they are, about once a second (called twice as often)."""
        for link in list(self._incoming.values()):
            if link.peer is not None and self._node.standing.is_outsider(link.peer):
                # It dials again, says whether it is fresh still, and is told if it is not.
                link.abort("the peer is no member")
        self._polls += 1
        if self._polls % 2 == 0:
            self.ask_statuses()

    def ask_statuses(self) -> int:
        """Ask the peers how they are; returns how many could be asked."""
        request = encode(StatusRequest(self._polls))
        links = [dialer.link for dialer in self._dialers.values() if dialer.link is not None]
        for link in links:
            link.send(request)
        return len(links)

    def statuses_since(self, moment: float) -> dict[int, Status]:
        """Return what peers have told after a moment, by id."""
        return {peer: status for peer, (at, status) in self._statuses.items() if at >= moment}

    def peer_states(self) -> list[tuple[str, str]]:
        """Return address and state of every member, sorted by address."""
        node = self._node
        raft = node.raft
        if raft is None:
            return []
        states = []
        for member in raft.configuration.members:
            if member.id == node.identity.node_id:
                states.append((member.address, state_of(node)))
            else:
                states.append((member.address, self._state_of(member.id)))
        if raft.removed:
            states = [(node.options.address, state_of(node))]
        return sorted(states)

    def _state_of(self, peer_id: int) -> str:
        dialer = self._dialers.get(peer_id)
        if dialer is None or dialer.link is None:
            return "Invalid"
        seen, status = self._statuses.get(peer_id, (None, None))
        if seen is None or status is None:
            return "Leader" if self._is_leader(peer_id) else "Follower"
        if self._node.now() - seen > STATUS_AGE:
            return "Timeout"
        return status.state

    def _is_leader(self, peer_id: int) -> bool:
        raft = self._node.raft
        return raft is not None and raft.leader_id == peer_id


classImplements(Links, ILinkHandler)
