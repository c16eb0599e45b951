"""A member that the test plays: it dials a node, and both sides' bytes are in memory."""

from __future__ import annotations

from typing import Any, TypeVar

from finn.protocols.frames import FrameReader
from finn.protocols.handshake import Dialling, HandshakeReader, LinkIdentity
from finn.protocols.link import MAX_FRAME_BYTES, MAX_FRAME_PARTS
from finn.protocols.wire import LinkMessage, decode, encode, frame
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

M = TypeVar("M")


def shake_hands(
    node: Any, protocol: Any, transport: Any, node_id: int, kind: str,
    secret: str | None = None, fresh: bool = False,
) -> Any:  # fmt: skip
    """Dial a node over a connection to it, as a member.

    Returns:
        What it ends with: ``+OK``, why the node refused, or None where it says nothing.
    """
    identity = LinkIdentity(node_id, node.identity.cluster_id, ":1", 1, secret, fresh=fresh)
    dialling = Dialling(identity, node.identity.node_id, kind, b"n" * 32, lambda: b"")
    reader = HandshakeReader()
    protocol.dataReceived(frame(dialling.hello))
    while True:
        reader.feed(transport.value())
        transport.clear()
        answer = reader.next()
        if not isinstance(answer, list):
            return answer
        protocol.dataReceived(frame(dialling.receive(answer)))


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
        self._client = client = Client(cluster, member)
        self._frames = FrameReader(MAX_FRAME_BYTES, MAX_FRAME_PARTS)
        self._received: list[LinkMessage] = []
        self.status = shake_hands(
            cluster.nodes[member], client.protocol, client.transport, node_id, kind, fresh=fresh
        )

    def send(self, message: LinkMessage) -> None:
        """Send a message; the node has it when this returns."""
        self._client.protocol.dataReceived(encode(message))

    def received(self, kind: type[M]) -> list[M]:
        """Return all messages of a kind that have come up to now."""
        self._received += map(decode, self._frames.feed(self._client.received))
        self._client.transport.clear()
        return [message for message in self._received if isinstance(message, kind)]
