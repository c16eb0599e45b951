"""A member that the test plays: it dials a node, and both sides' bytes are in memory."""

from __future__ import annotations

from typing import TypeVar

from finn.protocols.frames import FrameReader
from finn.protocols.handshake import Dialling, HandshakeReader, LinkIdentity
from finn.protocols.link import MAX_FRAME_BYTES, MAX_FRAME_PARTS
from finn.protocols.wire import LinkMessage, decode, encode, frame
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

M = TypeVar("M")


class Peer:
    """A link of some member to a node.

    Args:
        cluster: of both.
        member: which node is dialled.
        node_id: whom the test plays.
        kind: of link.
        fresh: it holds no data of any cluster.

    Attributes:
        status: what the handshake ended with: ``+OK``, or why the node refused.
    """

    def __init__(
        self, cluster: MemoryCluster, member: int, node_id: int, kind: str = "raft",
        fresh: bool = False,
    ) -> None:  # fmt: skip
        node = cluster.nodes[member]
        identity = LinkIdentity(node_id, node.identity.cluster_id, ":1", 1, fresh=fresh)
        dialling = Dialling(identity, node.identity.node_id, kind, b"n" * 32, lambda: b"")
        self._client = Client(cluster, member)
        self._frames = FrameReader(MAX_FRAME_BYTES, MAX_FRAME_PARTS)
        self._received: list[LinkMessage] = []
        reader = HandshakeReader()
        self._feed(frame(dialling.hello))
        reader.feed(self._take())
        answer = reader.next()
        assert isinstance(answer, list)
        self._feed(frame(dialling.receive(answer)))
        reader.feed(self._take())
        self.status = reader.next()

    def _feed(self, data: bytes) -> None:
        self._client.protocol.dataReceived(data)

    def _take(self) -> bytes:
        data = self._client.received
        self._client.transport.clear()
        return data

    def send(self, message: LinkMessage) -> None:
        """Send a message; the node has it when this returns."""
        self._feed(encode(message))

    def received(self, kind: type[M]) -> list[M]:
        """Return all messages of a kind that have come up to now."""
        self._received += map(decode, self._frames.feed(self._take()))
        return [message for message in self._received if isinstance(message, kind)]
