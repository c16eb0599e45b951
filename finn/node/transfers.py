"""Transfers: snapshots sent to peers that are too far behind, and those received."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from finn.node.service import Node


class Transfers:
    """The running transfers of a node."""

    log = Logger(namespace="finn.node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pins: dict[int, int] = {}

    def pinned(self, index: int) -> int:
        """Return up to where the log may be dropped while transfers run, at most ``index``."""
        return min([index, *self._pins.values()])

    def send(self, peer_id: int) -> None:
        """The core wants a peer to get a snapshot."""

    def offered(self, link: Any, offer: Any) -> None:
        """A leader offers a snapshot."""

    def stop(self) -> None:
        """Abort all."""
