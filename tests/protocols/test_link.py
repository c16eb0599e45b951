"""Tests for finn.protocols.link and the handshake as links use it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.protocols.wire import StatusRequest, encode
from tests.protocols.support import NotingHandler, Wire


class Handshakes(SynchronousTestCase):
    def test_both_sides_know_each_other_afterwards(self) -> None:
        """After the handshake each side has the other's id, address and instance."""
        wire = Wire(NotingHandler(1), NotingHandler(2))
        wire.pump()
        (near,), (far,) = wire.dialer.links, wire.acceptor.links
        self.assertEqual(
            (near.peer_id, near.peer_address, near.peer_instance), (2, "host2:7481", 200)
        )
        self.assertEqual((far.peer_id, far.peer_address, far.peer_instance), (1, "host1:7481", 100))
        self.assertEqual((near.incoming, far.incoming), (False, True))
        self.assertEqual(wire.outcome, [near])

    def test_messages_go_both_ways(self) -> None:
        """Messages arrive at the other side's handler."""
        wire = Wire(NotingHandler(1), NotingHandler(2))
        wire.pump()
        wire.dialer.links[0].send(encode(StatusRequest(5)))
        wire.acceptor.links[0].send(encode(StatusRequest(6)))
        wire.pump()
        self.assertEqual(wire.acceptor.messages, [StatusRequest(5)])
        self.assertEqual(wire.dialer.messages, [StatusRequest(6)])
