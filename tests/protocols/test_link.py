"""Tests for finn.protocols.link."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.errors import ProtocolError
from finn.protocols import link as link_module
from finn.protocols.link import ILinkHandler, LinkRefused, MemberLink, dial, probe
from finn.protocols.transport import peer_name
from finn.protocols.wire import Ping, Pong, StatusRequest, TimeoutNow, encode
from tests.protocols.support import NotingHandler, Server, Transport, Wire, settled


class Handshakes(SynchronousTestCase):
    """Two nodes come to a link, or are told why not."""

    def wire(self, *args: Any, **kwargs: Any) -> Wire:
        wire = Wire(*args, **kwargs)
        wire.pump()
        return wire

    def refused(self, wire: Wire, text: str) -> None:
        self.assertIn(text, wire.refusal)
        self.assertIsInstance(wire.outcome[0].value, LinkRefused)
        self.assertTrue(wire.far.lost)
        self.assertEqual((wire.dialer.links, wire.acceptor.links), ([], []))
        self.assertEqual((wire.dialer.lost, wire.acceptor.lost), ([], []))
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_the_stub_is_a_handler(self) -> None:
        """What the stub of these tests offers is what links want."""
        verifyObject(ILinkHandler, NotingHandler(1))

    def test_both_sides_know_each_other_afterwards(self) -> None:
        """After the handshake each side has the other's id, address and instance."""
        wire = self.wire(NotingHandler(1), NotingHandler(2))
        (near,), (far,) = wire.dialer.links, wire.acceptor.links
        self.assertEqual(
            (near.peer_id, near.peer_address, near.peer_instance), (2, "host2:7481", 200)
        )
        self.assertEqual((far.peer_id, far.peer_address, far.peer_instance), (1, "host1:7481", 100))
        self.assertEqual((near.incoming, far.incoming), (False, True))
        self.assertEqual((near.kind, far.kind), ("raft", "raft"))
        self.assertEqual((bool(near.connected), bool(far.connected)), (True, True))
        self.assertEqual(wire.outcome, [near])
        self.assertEqual(wire.server.factory.connections, {})

    def test_one_byte_at_a_time(self) -> None:
        """The handshake, and messages right behind it, in the smallest pieces."""
        wire = Wire(NotingHandler(1, secret="x"), NotingHandler(2, secret="x"))
        wire.acceptor.link_made = lambda link: link.send(  # type: ignore[method-assign]
            encode(StatusRequest(4))
        )
        moved = True
        while moved:
            near, far = wire.near.value(), wire.far.value()
            wire.near.clear()
            wire.far.clear()
            for byte in near:
                wire.connection.dataReceived(bytes([byte]))
            for byte in far:
                wire.link.dataReceived(bytes([byte]))
            moved = bool(near or far)
        self.assertEqual(len(wire.dialer.links), 1)
        self.assertEqual(wire.dialer.messages, [StatusRequest(4)])

    def test_members_are_preferred_to_clients(self) -> None:
        """Once they have proved to be some, and where the consensus waits for an answer."""
        preferred: list[Any] = []
        self.patch(link_module.transport_module, "prefer", preferred.append)
        wire = self.wire(NotingHandler(1, secret="a"), NotingHandler(2, secret="b"))
        wire.pump()
        self.assertEqual(preferred, [])
        wire = self.wire(NotingHandler(1), NotingHandler(2))
        wire.pump()
        ends = [wire.dialer.links[0].transport, wire.acceptor.links[0].transport]
        self.assertCountEqual(preferred, ends)
        wire = self.wire(NotingHandler(1), NotingHandler(2), kind="snapshot")
        wire.pump()
        self.assertEqual(len(preferred), 2)

    def test_messages_behind_the_acceptance_are_not_lost(self) -> None:
        """The acceptor may send at once; it arrives with its OK in one piece."""
        wire = Wire(NotingHandler(1), NotingHandler(2))
        wire.acceptor.link_made = lambda link: link.send(  # type: ignore[method-assign]
            encode(StatusRequest(4))
        )
        wire.pump()
        self.assertEqual(wire.dialer.messages, [StatusRequest(4)])

    def test_secrets_must_be_the_same(self) -> None:
        """Neither node hears of a link that was not proved."""
        wire = self.wire(NotingHandler(1, secret="a"), NotingHandler(2, secret="b"))
        self.refused(wire, "the secrets (--auth-file) differ")
        self.assertEqual(wire.acceptor.hellos, [])
        self.assertEqual(wire.acceptor.strangers, [])

    def test_who_was_refused_is_told_by_the_node(self) -> None:
        """The acceptor has the node log it, which bounds how often: anybody can be refused."""
        wire = Wire(NotingHandler(1, secret="a"), NotingHandler(2, secret="b"))
        with capturedLogs() as logs:
            wire.pump()
        peer = peer_name(wire.far.getPeer())
        reason = "the secrets (--auth-file) differ"
        self.assertEqual(wire.acceptor.complaints, [f"link from {peer} refused: {reason}"])
        self.assertEqual(wire.dialer.complaints, [])
        self.assertEqual(logs, [])

    def test_another_cluster_is_refused_and_the_node_told(self) -> None:
        """A bootstrapped twin has to learn that an older cluster looks for it."""
        wire = self.wire(NotingHandler(1, 7, "s"), NotingHandler(2, 8, "s"))
        self.refused(wire, "node is in cluster")
        ((hello, reason),) = wire.acceptor.strangers
        self.assertEqual((hello.cluster_id, hello.node_id), (7, 1))
        self.assertIn("in cluster 0000000000000008", reason)
        self.assertEqual(wire.acceptor.hellos, [])

    def test_another_id_is_refused(self) -> None:
        """Whoever lives at the address now is not taken for who lived there."""
        wire = self.wire(NotingHandler(1), NotingHandler(2), to_id=3)
        self.refused(wire, "node 0000000000000002 answers here, not 0000000000000003")

    def test_the_node_may_refuse(self) -> None:
        """With its own words, after everything else is in order."""
        acceptor = NotingHandler(2)
        acceptor.veto = "the node was removed\r\nfrom the cluster"
        wire = self.wire(NotingHandler(1), acceptor)
        self.refused(wire, "the node was removed from the cluster")
        self.assertEqual([hello.node_id for hello in acceptor.hellos], [1])

    def test_a_certificate_may_be_demanded(self) -> None:
        """Without TLS there is none."""
        wire = self.wire(NotingHandler(1), NotingHandler(2, certificates=True))
        self.refused(wire, "certificate of the cluster's CA")
        wire = self.wire(NotingHandler(1, certificates=True), NotingHandler(2))
        self.refused(wire, "certificate of the cluster's CA")

    def test_an_unfinished_handshake_ends(self) -> None:
        """On either side, whoever falls silent."""
        wire = Wire(NotingHandler(1), NotingHandler(2))
        wire.to_acceptor()
        wire.clock.advance(link_module.HANDSHAKE_TIMEOUT)
        self.assertTrue(wire.far.aborted)
        self.assertTrue(wire.near.aborted)
        self.assertIn("not finished in time", wire.refusal)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_a_server_that_is_no_member(self) -> None:
        """Whatever answers instead, the dialer says what it looks like."""
        for answer, text in (
            (b"-ERR unknown command 'RAFTLINK'\r\n", "unknown command 'RAFTLINK'"),
            (b"HTTP/1.1 400 Bad Request\r\n", "is it a finn node?"),
            (b"+OK\r\n", "accepted before it proved itself"),
            (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "is it a finn node?"),
            (b"*1\r\n$9999\r\n", "too large"),
            (b"-" + b"x" * 5000, "too long"),
        ):
            link = MemberLink(NotingHandler(1), Clock(), 2)
            outcome = settled(link.opened)
            transport = Transport()
            transport.protocol = link
            link.makeConnection(transport)
            link.dataReceived(answer)
            self.assertIn(text, str(outcome[0].value))
            self.assertTrue(transport.lost)

    def test_a_hello_that_makes_no_sense(self) -> None:
        """The stranger is told, and gone."""
        for hello in (b"*1\r\n$8\r\nRAFTLINK\r\n", b"*2\r\n$8\r\nRAFTLINK\r\n$1\r\n9\r\n"):
            wire = Wire(NotingHandler(1), NotingHandler(2))
            wire.connection.dataReceived(hello)
            self.assertTrue(wire.far.value().startswith(b"-ERR "))
            self.assertTrue(wire.far.lost)
            self.assertEqual(wire.server.factory.connections, {})

    def test_no_message_before_the_proof(self) -> None:
        """A message instead of a proof ends the link unheard."""
        wire = Wire(NotingHandler(1, secret="s"), NotingHandler(2, secret="s"))
        wire.to_acceptor()
        wire.connection.dataReceived(encode(TimeoutNow(9)))
        self.assertEqual((wire.acceptor.messages, wire.acceptor.links), ([], []))
        self.assertTrue(wire.far.lost)

    def test_a_replayed_dialogue_is_refused(self) -> None:
        """Everything a dialer once sent, sent again, makes no link."""
        wire = Wire(NotingHandler(1, secret="s"), NotingHandler(2, secret="s"))
        recorded = []
        while data := wire.near.value():
            recorded.append(data)
            wire.to_acceptor()
            wire.to_dialer()
        self.assertEqual(len(wire.acceptor.links), 1)
        again, transport = wire.server.connect()
        for data in recorded:
            if not transport.lost:
                wire_data = transport.value()
                again.dataReceived(data)
                self.assertNotIn(b"+OK", transport.value()[len(wire_data) :])
        self.assertEqual(len(wire.acceptor.links), 1)
        self.assertIn(b"-ERR the secrets", transport.value())

    def test_a_connection_lost_on_the_way(self) -> None:
        """The dialer's Deferred fails, no handler hears of it."""
        wire = Wire(NotingHandler(1), NotingHandler(2))
        wire.near.loseConnection()
        wire.far.loseConnection()
        wire.outcome[0].trap(ConnectionDone)
        self.assertEqual((wire.dialer.lost, wire.clock.getDelayedCalls()), ([], []))

    def test_the_end_of_the_other_side_ends_a_link(self) -> None:
        """A half-closed member link is of no use."""
        wire = self.wire(NotingHandler(1), NotingHandler(2))
        wire.connection.readConnectionLost()
        self.assertTrue(wire.far.lost)
        self.assertEqual(len(wire.acceptor.lost), 1)


class Messages(SynchronousTestCase):
    """After the handshake."""

    def setUp(self) -> None:
        self.wire = Wire(NotingHandler(1), NotingHandler(2))
        self.wire.pump()
        (self.near,), (self.far,) = self.wire.dialer.links, self.wire.acceptor.links

    def test_messages_go_both_ways(self) -> None:
        """Messages arrive at the other side's handler."""
        self.near.send(encode(StatusRequest(5)))
        self.far.send(encode(StatusRequest(6)))
        self.wire.pump()
        self.assertEqual(self.wire.acceptor.messages, [StatusRequest(5)])
        self.assertEqual(self.wire.dialer.messages, [StatusRequest(6)])

    def test_parts_of_a_message_count_as_contact(self) -> None:
        """A large message must not starve heartbeats while it is under way; its type is told."""
        data = encode(StatusRequest(5))
        for byte in data[:-1]:
            self.wire.connection.dataReceived(bytes([byte]))
        behind_type = len(data) - 1 - data.index(b"S\r\n") - 2
        before_type = len(data) - 1 - behind_type
        self.assertEqual(self.wire.acceptor.partial, [b""] * before_type + [b"S"] * behind_type)
        self.assertEqual(self.wire.acceptor.messages, [])
        self.wire.connection.dataReceived(data[-1:])
        self.assertEqual(self.wire.acceptor.messages, [StatusRequest(5)])

    def test_signs_of_life_are_no_contact(self) -> None:
        """A node that is alive need not lead: pings must not hold off an election."""
        self.wire.connection.dataReceived(encode(Ping()) + encode(Pong()))
        self.assertEqual((self.wire.acceptor.partial, self.wire.acceptor.messages), ([], []))

    def test_another_receiver_may_take_over(self) -> None:
        """Transfers of snapshots do; the handler is told of the loss all the same."""
        other = NotingHandler(9)
        lost: list[Failure] = []
        self.far.receiver = other
        self.far.on_lost = lost.append
        self.near.send(encode(StatusRequest(5)))
        self.wire.pump()
        self.assertEqual((other.messages, self.wire.acceptor.messages), ([StatusRequest(5)], []))
        self.wire.far.loseConnection()
        self.assertEqual((len(lost), len(self.wire.acceptor.lost)), (1, 1))

    def test_nonsense_ends_the_link(self) -> None:
        """Broken framing or a message that cannot be: what came before is still received."""
        for junk, text in (
            (b"PING\r\n", "no frame"),
            (b"*1\r\n$1\r\nA\r\n", "wrong form"),
            (encode(TimeoutNow(1 << 50)), "makes no sense"),
            (b"*1\r\n$999999999\r\n", "too large"),
        ):
            wire = Wire(NotingHandler(1), NotingHandler(2))
            wire.pump()
            wire.connection.dataReceived(encode(StatusRequest(5)) + junk + encode(StatusRequest(6)))
            self.assertEqual(wire.acceptor.messages, [StatusRequest(5)])
            ((_, reason),) = wire.acceptor.lost
            reason.trap(ProtocolError)
            self.assertIn(text, str(reason.value))
            self.assertTrue(wire.far.aborted)
            self.assertEqual(wire.acceptor.links[0].connected, 0)

    def test_a_failing_node_costs_the_link(self) -> None:
        """The failure is logged, and nothing else is received."""
        self.wire.acceptor.messages = None  # type: ignore[assignment]
        self.wire.connection.dataReceived(encode(StatusRequest(5)) * 2)
        self.assertTrue(self.wire.far.aborted)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_a_closed_link_receives_nothing_more(self) -> None:
        """Also what came in the same piece."""
        self.wire.acceptor.message_received = (  # type: ignore[method-assign]
            lambda link, message: link.close()
        )
        self.wire.far.stuck = True
        self.wire.connection.dataReceived(encode(StatusRequest(5)) * 2)
        self.wire.connection.dataReceived(encode(StatusRequest(5)))
        self.assertEqual(self.wire.acceptor.messages, [])

    def test_closing_ends(self) -> None:
        """A link that does not close is aborted after a moment."""
        self.wire.near.stuck = True
        self.near.close()
        self.near.send(encode(StatusRequest(5)))
        self.assertFalse(self.wire.near.lost)
        self.wire.clock.advance(link_module.CLOSE_TIMEOUT)
        self.assertTrue(self.wire.near.aborted)
        self.assertEqual(self.wire.near.value(), b"")

    def test_sending_on_a_lost_link_does_nothing(self) -> None:
        """The node may not know yet."""
        self.wire.near.loseConnection()
        self.near.send(encode(StatusRequest(5)))
        self.assertEqual(self.wire.near.value(), b"")
        ((link, reason),) = self.wire.dialer.lost
        self.assertIs(link, self.near)
        reason.trap(ConnectionDone)


class Backlogs(SynchronousTestCase):
    """What a peer does not read is bounded."""

    def setUp(self) -> None:
        self.wire = Wire(NotingHandler(1), NotingHandler(2))
        self.wire.pump()
        (self.link,) = self.wire.dialer.links

    def test_the_backlog_is_told(self) -> None:
        """Bytes that the transport has not been given."""
        self.wire.near.fill()
        self.assertTrue(self.link.congested)
        self.link.send(b"x" * 1000)
        self.assertEqual(self.link.backlog, 1000)
        self.wire.near.drain()
        self.assertEqual((self.link.backlog, self.link.congested), (0, False))

    def test_a_peer_that_does_not_read_is_dropped(self) -> None:
        """Above the bound; one message of any size fits below it."""
        self.wire.near.fill()
        self.link.send(bytes(link_module.MAX_BACKLOG + 1))
        self.assertFalse(self.wire.near.lost)
        self.link.send(b"x")
        self.assertTrue(self.wire.near.aborted)


class SignsOfLife(SynchronousTestCase):
    """A link over a dead network ends, one over a living network does not."""

    def setUp(self) -> None:
        self.wire = Wire(NotingHandler(1), NotingHandler(2))
        self.wire.pump()

    def test_a_quiet_link_lives(self) -> None:
        """The dialer asks, the acceptor answers."""
        self.wire.keep_alive(60)
        self.assertFalse(self.wire.near.lost or self.wire.far.lost)

    def test_a_busy_link_asks_nothing(self) -> None:
        """Traffic both ways is sign enough."""
        for _ in range(10):
            self.wire.dialer.links[0].send(encode(StatusRequest(1)))
            self.wire.acceptor.links[0].send(encode(StatusRequest(1)))
            self.wire.pump()
            self.wire.clock.advance(1)
            self.assertEqual(self.wire.near.value(), b"")

    def test_silence_ends_both_sides(self) -> None:
        """Neither waits for TCP to notice."""
        for _ in range(link_module.SILENCE + 1):
            self.wire.clock.advance(1)
        for handler in (self.wire.dialer, self.wire.acceptor):
            ((_, reason),) = handler.lost
            self.assertIn("nothing heard for 5 seconds", str(reason.value))
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_a_large_message_under_way_is_life(self) -> None:
        """While the transport drains the peer takes bytes, though it says nothing."""
        link = self.wire.dialer.links[0]
        self.wire.near.fill()
        link.send(bytes(40 * 1024 * 1024))
        for _ in range(30):
            self.wire.near.drain()
            self.wire.near.fill()
            self.wire.near.clear()
            self.wire.clock.advance(1)
            # the other side receives
            self.wire.acceptor.links[0]._heard = True
        self.assertFalse(self.wire.near.lost)

    def test_a_paused_link_is_not_silent(self) -> None:
        """Who does not read cannot hear."""
        link = self.wire.acceptor.links[0]
        link.pause()
        self.assertTrue(self.wire.far.paused)
        for _ in range(20):
            self.wire.clock.advance(1)
        self.assertFalse(self.wire.far.lost)
        link.resume()
        self.assertFalse(self.wire.far.paused)


class Network:
    """Connects as ``transport.connect`` does, to servers in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, int]] = []
        self.waiting: list[tuple[Any, Deferred[Any]]] = []

    def connect(
        self, reactor: Any, host: str, port: int, factory: Any, timeout: float, tls: Any
    ) -> Deferred[Any]:
        self.asked.append((host, port))
        result: Deferred[Any] = Deferred()
        self.waiting.append((factory, result))
        return result

    def answer(self, acceptor: NotingHandler) -> None:
        """Let the oldest attempt arrive at a node, and carry what both say."""
        factory, result = self.waiting.pop(0)
        server = Server()
        server.factory.clock = self.clock
        dispatcher: Any = server.dispatcher
        dispatcher.link_requested = lambda connection, command, rest: link_module.accept_link(
            connection, command, rest, acceptor, self.clock
        )
        connection, far = server.connect()
        link = factory.buildProtocol(None)
        near = Transport()
        near.protocol = link
        link.makeConnection(near)
        result.callback(link)
        moved = True
        while moved:
            one, other = near.value(), far.value()
            near.clear()
            far.clear()
            if one and not far.lost:
                connection.dataReceived(one)
            if other and not near.lost:
                link.dataReceived(other)
            moved = bool(one or other)


class Dials(SynchronousTestCase):
    """One link, made once."""

    def setUp(self) -> None:
        self.network = Network()
        self.handler = NotingHandler(1)

    def dial(self, address: str = ":7482", to_id: int = 2) -> list[Any]:
        self.dialing = dial(
            self.network.clock, address, self.handler, to_id, connect=self.network.connect
        )
        return settled(self.dialing)

    def test_a_link_is_made(self) -> None:
        """To the address as it is read now."""
        outcome = self.dial("[::1]:7482")
        self.assertEqual(self.network.asked, [("::1", 7482)])
        self.network.answer(NotingHandler(2))
        self.assertEqual(outcome, self.handler.links)

    def test_an_address_that_is_none(self) -> None:
        """Nobody is dialled."""
        outcome = self.dial("nowhere")
        self.assertIn("has no port", str(outcome[0].value))
        self.assertEqual(self.network.asked, [])

    def test_cancelling_while_connecting(self) -> None:
        """The attempt ends."""
        outcome = self.dial()
        self.dialing.cancel()
        outcome[0].trap(CancelledError)

    def test_cancelling_during_the_handshake(self) -> None:
        """The connection is dropped."""
        outcome = self.dial()
        factory, result = self.network.waiting.pop()
        link = factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = link
        link.makeConnection(transport)
        result.callback(link)
        self.dialing.cancel()
        outcome[0].trap(CancelledError)
        self.assertTrue(transport.aborted)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])


class Probes(SynchronousTestCase):
    """Who is there?"""

    def setUp(self) -> None:
        self.network = Network()
        self.asker = NotingHandler(1, secret="s")

    def probe(self) -> list[Any]:
        return settled(
            probe(self.network.clock, ":7482", self.asker.me, connect=self.network.connect)
        )

    def test_a_node_says_who_it_is(self) -> None:
        """Id, cluster, address, instance, and whether it is fresh; then the link is closed."""
        outcome = self.probe()
        node = NotingHandler(5, 0, secret="s", fresh=True)
        self.network.answer(node)
        (hello,) = outcome
        self.assertEqual(
            (hello.node_id, hello.cluster_id, hello.address, hello.instance, hello.fresh),
            (5, 0, "host5:7481", 500, True),
        )
        self.assertEqual([link.kind for link in node.links], ["probe"])
        for _ in range(10):
            self.network.clock.advance(1)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_a_stranger_learns_nothing_and_is_not_believed(self) -> None:
        """Both sides prove the secret."""
        outcome = self.probe()
        self.network.answer(NotingHandler(5, secret="other"))
        outcome[0].trap(LinkRefused)

    def test_nobody_there(self) -> None:
        """A probe does not wait for ever."""
        outcome = self.probe()
        self.network.clock.advance(2)
        self.assertEqual(len(outcome), 1)
        self.assertIsInstance(outcome[0], Failure)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])
