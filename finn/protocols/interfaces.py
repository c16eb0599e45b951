"""What links want of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from finn.protocols.handshake import LinkIdentity, PeerHello
    from finn.protocols.link import MemberLink


class ILinkHandler(Interface):
    """What links want of the node."""

    def identity() -> LinkIdentity:
        """Who this node is now."""

    def accept_link(hello: PeerHello) -> str | None:
        """Say why an authenticated link is not wanted, or None to accept it."""

    def link_refused(hello: PeerHello, reason: str) -> None:
        """A node that proved the secret looked for another id or cluster here."""

    def complain(text: str, **fields: Any) -> None:
        """Log what anybody can cause as often as they like, once a second at most."""

    def link_made(link: MemberLink) -> None:
        """The handshake is complete, on either side."""

    def link_lost(link: MemberLink, reason: Failure) -> None:
        """A link that was made is gone."""

    def message_received(link: MemberLink, message: Any) -> None:
        """A message of ``finn.protocols.wire`` came, checked."""

    def bytes_received(link: MemberLink, begun: bytes) -> None:
        """Part of a message came that is not complete yet; ``begun``: its type, if that came."""

    def dial_failed(peer_id: int, address: str, refused: bool) -> None:
        """A dialer could not make its link; ``refused``: nobody listens there (ECONNREFUSED)."""
