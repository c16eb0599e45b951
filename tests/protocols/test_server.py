"""Tests for finn.protocols.server, connection and replies: the edge towards clients."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.interfaces import IDispatcher, ISlot
from finn.protocols import connection as connection_module
from finn.protocols.server import UNDECIDED
from finn.resp.reader import ReaderLimits
from tests.protocols.support import Batch, NotingDispatcher, Server

PING = b"*1\r\n$4\r\nPING\r\n"
TOO_MANY = b"-ERR max number of clients reached\r\n"


class Pipelines(SynchronousTestCase):
    """Commands in, replies out, in order."""

    def setUp(self) -> None:
        self.server = Server()
        self.dispatcher = self.server.dispatcher
        self.connection, self.transport = self.server.connect()

    def test_commands_are_handed_over_with_their_bytes(self) -> None:
        """A chunk of whole commands comes with the raw bytes, and is answered in one write."""
        self.connection.dataReceived(PING * 3)
        self.assertEqual(self.dispatcher.received, [([[b"PING"]] * 3, PING * 3)])
        self.assertEqual(self.transport.value(), b"+PING\r\n" * 3)
        self.assertEqual(self.transport.writes, 1)

    def test_one_byte_at_a_time(self) -> None:
        """However the bytes are cut, the same commands arrive."""
        for byte in PING + b"PING\r\n" + PING:
            self.connection.dataReceived(bytes([byte]))
        self.assertEqual(self.dispatcher.commands, [[b"PING"]] * 3)
        self.assertEqual(self.transport.value(), b"+PING\r\n" * 3)
        self.assertEqual(self.server.factory.partial_bytes, 0)

    def test_replies_keep_order_behind_open_slots(self) -> None:
        """Nothing overtakes a reply that is not there yet, in whatever order slots are filled."""
        slots = []

        def run(connection: Any, commands: list[list[bytes]]) -> None:
            slots.append(connection.reserve())
            connection.reply(b"+2\r\n")
            slots.append(connection.reserve(2))
            connection.reply(b"+5\r\n")

        self.dispatcher.run = run
        self.connection.dataReceived(PING * 5)
        self.assertTrue(self.connection.has_pending)
        slots[1].fill(b"+3\r\n+4\r\n")
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"")
        slots[0].fill(b"+1\r\n")
        self.assertEqual(self.transport.value(), b"")
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"+1\r\n+2\r\n+3\r\n+4\r\n+5\r\n")
        self.assertEqual(self.transport.writes, 1)
        self.assertFalse(self.connection.has_pending)
        slots.clear()
        self.transport.clear()
        self.connection.dataReceived(PING * 5)
        slots[0].fill(b"+1\r\n")
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"+1\r\n+2\r\n")
        slots[1].fill(b"+3\r\n+4\r\n")
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"+1\r\n+2\r\n+3\r\n+4\r\n+5\r\n")

    def test_a_slot_filled_at_once_needs_no_flush(self) -> None:
        """What the dispatcher fills before it returns is written with the chunk's replies."""
        verifyObject(ISlot, self.connection.reserve())
        self.connection._slots.clear()
        self.dispatcher.run = lambda connection, commands: connection.reserve().fill(b"+OK\r\n")
        self.connection.dataReceived(PING)
        self.assertEqual(self.transport.value(), b"+OK\r\n")

    def test_a_slot_is_filled_once(self) -> None:
        """A second reply would shift all that follow."""
        slot = self.connection.reserve()
        slot.fill(b"+1\r\n")
        self.assertRaises(RuntimeError, slot.fill, b"+2\r\n")

    def test_filling_after_the_loss_has_no_effect(self) -> None:
        """Slots outlive their connection."""
        slot = self.connection.reserve()
        self.transport.loseConnection()
        slot.fill(b"+1\r\n")
        self.connection.reply(b"+2\r\n")
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"")
        self.assertEqual(self.dispatcher.lost, [self.connection])

    def test_an_error_is_sent_behind_the_replies_before_it(self) -> None:
        """A protocol error ends the connection, but what came before it is answered first."""
        slots = []
        self.dispatcher.run = lambda connection, _: slots.append(connection.reserve())
        self.connection.dataReceived(PING + b"*1\r\n+PING\r\n" + PING)
        self.assertEqual(self.dispatcher.commands, [[b"PING"]])
        self.assertEqual(self.transport.value(), b"")
        slots[0].fill(b"+1\r\n")
        self.server.factory.flush()
        self.assertEqual(
            self.transport.value(), b"+1\r\n-ERR Protocol error: expected '$', got '+'\r\n"
        )
        self.assertTrue(self.transport.lost)

    def test_nothing_is_run_or_answered_after_quit(self) -> None:
        """Commands behind QUIT are dropped, in the same chunk and in later ones."""

        def run(connection: Any, commands: list[list[bytes]]) -> None:
            connection.reply(b"+1\r\n")
            connection.close_after_flush(b"+OK\r\n")
            connection.reply(b"+never\r\n")
            connection.reserve().fill(b"+never\r\n")

        self.transport.stuck = True
        self.dispatcher.run = run
        self.connection.dataReceived(PING * 4)
        self.assertEqual(self.transport.value(), b"+1\r\n+OK\r\n")
        self.assertTrue(self.transport.paused)
        self.connection.dataReceived(PING)
        self.assertEqual(len(self.dispatcher.received), 1)
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"+1\r\n+OK\r\n")

    def test_a_client_that_ends_its_side_gets_its_replies(self) -> None:
        """``printf ... | nc``: the replies still come, then the connection closes."""
        slot = self.connection.reserve()
        self.connection.readConnectionLost()
        self.assertFalse(self.transport.lost)
        slot.fill(b"+1\r\n")
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"+1\r\n")
        self.assertTrue(self.transport.lost)

    def test_http_closes(self) -> None:
        """A browser tricked into sending commands gets nowhere; no reply either."""
        for line in (b"POST / HTTP/1.1\r\n", b"Host: example\r\n", b"hOsT: x\r\n"):
            connection, transport = self.server.connect()
            before = len(self.dispatcher.commands)
            connection.dataReceived(b"PING\r\n" + line + PING)
            self.assertEqual(self.dispatcher.commands[before:], [[b"PING"]])
            self.assertEqual(transport.value(), b"+PING\r\n")
            self.assertTrue(transport.lost)

    def test_a_failing_dispatcher_costs_one_connection(self) -> None:
        """An exception is logged, its client told, and the others served on."""

        def run(connection: Any, commands: list[list[bytes]]) -> None:
            connection.reply(b"+1\r\n")
            raise ZeroDivisionError

        self.dispatcher.run = run
        self.connection.dataReceived(PING)
        self.assertEqual(self.transport.value(), b"+1\r\n-ERR internal error\r\n")
        self.assertTrue(self.transport.lost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.dispatcher.run = None
        other, transport = self.server.connect()
        other.dataReceived(PING)
        self.assertEqual(transport.value(), b"+PING\r\n")

    def test_the_dispatcher_promises_what_it_should(self) -> None:
        """The stub of these tests is an IDispatcher."""
        verifyObject(IDispatcher, NotingDispatcher())

    def test_works_on_a_plain_string_transport(self) -> None:
        """Nothing of TCP is demanded of a transport."""
        connection = self.server.factory.buildProtocol(None)
        transport = StringTransport()
        connection.makeConnection(transport)
        connection.dataReceived(PING)
        self.assertEqual(transport.value(), b"+PING\r\n")
        connection.connectionLost(Failure(ConnectionDone()))


class Backpressure(SynchronousTestCase):
    """What a client is owed is bounded."""

    def setUp(self) -> None:
        self.server = Server(pending_replies=10, output_bytes=1000)
        self.dispatcher = self.server.dispatcher
        self.connection, self.transport = self.server.connect()

    def test_small_replies_of_a_crowd_leave_together(self) -> None:
        """Large ones do not wait: sixty-four of them would be more than is kept for all clients."""
        batch = self.server.factory.batch = Batch()
        self.connection.dataReceived(PING)
        other, its_transport = self.server.connect()
        other.dataReceived(PING)
        self.assertEqual((self.transport.value(), len(batch.after)), (b"", 1))
        batch.end()
        self.assertEqual(self.transport.value(), b"+PING\r\n")
        self.assertEqual(its_transport.value(), b"+PING\r\n")
        self.dispatcher.run = lambda connection, commands: connection.reply(b"x" * 100_000)
        other.dataReceived(PING + PING)
        self.assertEqual(len(its_transport.value()), 100_007)

    def test_replies_that_cannot_be_written(self) -> None:
        """They end their own connection, and nobody else's."""
        batch = self.server.factory.batch = Batch()
        other, its_transport = self.server.connect()
        self.patch(self.transport, "write", lambda data: 1 / 0)
        self.connection.dataReceived(PING)
        other.dataReceived(PING)
        batch.end()
        self.assertTrue(self.transport.lost)
        self.assertEqual(its_transport.value(), b"+PING\r\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reading_pauses_for_pending_commands(self) -> None:
        """Too many commands without reply: not read from until half are answered."""
        slots = []
        self.dispatcher.run = lambda connection, commands: slots.extend(
            connection.reserve() for _ in commands
        )
        self.connection.dataReceived(PING * 10)
        self.assertFalse(self.transport.paused)
        self.connection.dataReceived(PING)
        self.assertTrue(self.transport.paused)
        for slot in slots[:5]:
            slot.fill(b"+\r\n")
        self.server.factory.flush()
        self.assertTrue(self.transport.paused)
        slots[5].fill(b"+\r\n")
        self.server.factory.flush()
        self.assertFalse(self.transport.paused)

    def test_reading_pauses_while_replies_are_not_read(self) -> None:
        """A client that does not read is not read from; what it is owed is kept, not the rest."""
        self.dispatcher.run = lambda connection, commands: connection.reply(b"x" * 400)
        self.transport.fill()
        for _ in range(3):
            self.connection.dataReceived(PING)
        self.assertTrue(self.transport.paused)
        self.assertEqual(self.transport.value(), b"")
        self.transport.drain()
        self.assertFalse(self.transport.paused)
        self.assertEqual(self.transport.value(), b"x" * 1200)

    def test_a_large_reply_is_handed_on_in_pieces(self) -> None:
        """The transport never holds more than one piece beyond its mark."""
        reply = bytes(range(256)) * 4096
        self.dispatcher.run = lambda connection, commands: connection.reply(reply)
        self.transport.full_at = 100_000
        self.connection.dataReceived(PING)
        got = self.transport.value()
        self.assertLess(len(got), 300_000)
        rounds = 0
        while len(got) < len(reply):
            self.transport.clear()
            self.transport.drain()
            got += self.transport.value()
            rounds += 1
        self.assertEqual(got, reply)
        self.assertGreater(rounds, 3)

    def test_reasons_to_pause_are_counted(self) -> None:
        """Reading goes on when the last reason is gone."""
        self.connection.pause("node")
        self.connection.pause("node")
        self.connection.pause("pending")
        self.connection.resume("node")
        self.assertTrue(self.transport.paused)
        self.connection.resume("pending")
        self.assertFalse(self.transport.paused)

    def test_commands_can_be_postponed(self) -> None:
        """A dispatcher stops in the middle of a pipeline whose replies are large."""

        def run(connection: Any, commands: list[list[bytes]]) -> None:
            for position, _ in enumerate(commands):
                if connection.full:
                    connection.postpone(commands[position:])
                    return
                connection.reply(b"x" * 600)

        self.dispatcher.run = run
        self.transport.fill()
        self.connection.dataReceived(PING * 5)
        self.connection.dataReceived(PING + b"*x\r\n")  # read before the pause took effect
        self.assertEqual(self.connection.waiting, 1200)
        self.assertTrue(self.transport.paused)
        self.transport.drain()
        self.transport.fill()
        self.server.clock.advance(0)
        self.assertEqual(self.connection.waiting, 1200)
        self.transport.drain()
        self.server.clock.advance(0)
        self.assertEqual(
            self.transport.value(),
            b"x" * 3600 + b"-ERR Protocol error: invalid multibulk length\r\n",
        )
        self.assertEqual(self.connection.commands_count, 6)
        self.assertTrue(self.transport.lost)

    def test_full_means_that_the_transport_takes_no_more(self) -> None:
        """While the transport takes everything a connection is never full."""
        for _ in range(10):
            self.connection.reply(b"x" * 600)
            self.assertFalse(self.connection.full)

    def test_postponed_commands_are_dropped_with_the_connection(self) -> None:
        """No call remains, and nothing is run for a client that is gone."""
        self.dispatcher.run = lambda connection, commands: connection.postpone(commands)
        self.connection.dataReceived(PING)
        self.assertEqual(len(self.server.clock.getDelayedCalls()), 2)
        self.transport.loseConnection()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_small_commands_in_bulk_are_read_in_smaller_chunks(self) -> None:
        """A flood of tiny commands does not hold the reactor for a whole chunk at a time."""
        self.transport.bufferSize = 64 * 1024
        self.connection.dataReceived(PING * 4000)
        self.assertLess(self.transport.bufferSize, 4096)
        self.connection.dataReceived(b"*2\r\n$4\r\nECHO\r\n$4000\r\n" + b"x" * 4000 + b"\r\n")
        self.assertEqual(self.transport.bufferSize, connection_module.MAX_READ)

    def test_blank_lines_are_read_in_smaller_chunks(self) -> None:
        """They are no commands, and take as long as if they were."""
        self.transport.bufferSize = 64 * 1024
        self.connection.dataReceived(b"\v\r\n" + b"\n" * 4000)
        self.assertEqual(self.transport.bufferSize, connection_module.MIN_READ)
        self.connection.dataReceived(b"*2\r\n$4\r\nECHO\r\n$40000\r\n" + b"x" * 20_000)
        self.assertEqual(self.transport.bufferSize, connection_module.MAX_READ)


class Deadlines(SynchronousTestCase):
    """Every wait of or for a client ends."""

    def serve(self, **limits: Any) -> None:
        self.server = Server(**limits)
        self.connection, self.transport = self.server.connect()

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.server.clock.advance(1)

    def test_no_timer_without_connections(self) -> None:
        """One timer serves all connections, and none is left behind."""
        self.serve()
        _, other = self.server.connect()
        self.assertEqual(len(self.server.clock.getDelayedCalls()), 1)
        self.transport.loseConnection()
        other.loseConnection()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_an_idle_client_is_dropped(self) -> None:
        """Where an idle time is set; any byte starts it anew."""
        self.serve(idle_timeout=5)
        self.wait(4)
        self.connection.dataReceived(PING)
        self.wait(5)
        self.assertFalse(self.transport.lost)
        self.wait(1)
        self.assertTrue(self.transport.aborted)

    def test_a_client_that_waits_is_not_idle(self) -> None:
        """An open slot is our debt, not its silence."""
        self.serve(idle_timeout=5)
        self.connection.reserve()
        self.wait(20)
        self.assertFalse(self.transport.lost)

    def test_without_an_idle_time_clients_may_be_silent(self) -> None:
        """The default."""
        self.serve()
        self.wait(10_000)
        self.assertFalse(self.transport.lost)

    def test_a_clock_that_jumps_drops_nobody(self) -> None:
        """The reactor's seconds are wall time, which may leap by hours."""
        self.serve(idle_timeout=5, auth_required=True)
        self.server.clock.advance(7200)
        self.assertFalse(self.transport.lost)

    def test_a_client_that_takes_nothing_is_dropped(self) -> None:
        """Progress, however small, keeps it; none for the stall time ends it."""
        self.serve(stall_timeout=10)
        self.transport.fill()
        self.connection.reply(b"x" * 1_000_000)
        self.connection.flush()
        self.wait(8)
        self.transport.drain()
        self.transport.fill()
        self.connection.reply(b"x")
        self.wait(10)
        self.assertFalse(self.transport.lost)
        self.wait(3)
        self.assertTrue(self.transport.aborted)

    def test_a_command_has_to_be_finished(self) -> None:
        """A client that stops in the middle of a command does not hold its memory for ever."""
        self.serve(partial_timeout=5)
        self.connection.dataReceived(PING[:-3])
        self.wait(5)
        self.assertFalse(self.transport.lost)
        self.wait(1)
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.server.factory.partial_bytes, 0)

    def test_authentication_has_to_be_in_time(self) -> None:
        """Where it is required."""
        self.serve(auth_required=True, handshake_timeout=5)
        friend, friends = self.server.connect()
        friend.authenticated = True
        self.assertFalse(self.connection.authenticated)
        self.wait(6)
        self.assertTrue(self.transport.aborted)
        self.assertFalse(friends.lost)

    def test_a_connection_that_does_not_close_is_dropped(self) -> None:
        """A client that does not take the last bytes cannot keep its connection."""
        self.serve()
        self.transport.stuck = True
        self.connection.close_after_flush(b"+OK\r\n")
        self.connection.flush()
        self.wait(5)
        self.assertFalse(self.transport.lost)
        self.wait(1)
        self.assertTrue(self.transport.aborted)

    def test_a_client_that_takes_its_last_bytes_slowly(self) -> None:
        """Each piece that it takes begins the time to close anew, and none ends it."""
        for takes in (True, False):
            self.serve()
            self.transport.full_at = 1  # it takes one piece at a time
            self.transport.fill()
            self.connection.reply(b"x" * 1_000_000)
            self.connection.close_after_flush(b"+OK\r\n")
            self.connection.flush()
            for _ in range(4):
                self.wait(4)
                self.assertFalse(self.transport.lost)
                self.transport.drain()
            self.wait(4)
            while takes and not self.transport.lost:
                self.transport.drain()
                self.wait(4)
            self.wait(3)
            self.assertTrue(self.transport.lost)
            self.assertEqual(self.transport.aborted, not takes)
            self.assertEqual(self.transport.value().endswith(b"x+OK\r\n"), takes)

    def test_open_slots_get_more_time_to_close(self) -> None:
        """They have a deadline of their own, which is longer."""
        self.serve()
        slot = self.connection.reserve()
        self.connection.close_after_flush()
        self.wait(30)
        self.assertFalse(self.transport.lost)
        slot.fill(b"+OK\r\n")
        self.server.factory.flush()
        self.assertEqual(self.transport.value(), b"+OK\r\n")
        self.assertTrue(self.transport.lost)
        connection, transport = self.server.connect()
        connection.reserve()
        connection.close_after_flush()
        self.wait(61)
        self.assertTrue(transport.aborted)

    def test_close_all_says_when_all_are_gone(self) -> None:
        """Those that do not close are dropped."""
        self.serve()
        _, other = self.server.connect()
        other.stuck = True
        closed = self.server.factory.close_all()
        self.assertTrue(self.transport.lost)
        self.assertNoResult(closed)
        self.wait(6)
        self.successResultOf(closed)
        self.successResultOf(self.server.factory.close_all())
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_abandon_all_drops_at_once(self) -> None:
        """Without a last word."""
        self.serve()
        self.server.factory.abandon_all()
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.server.factory.connections, {})


class Admission(SynchronousTestCase):
    """Who may connect, and what may be sent before it is clear who it is."""

    def test_the_dispatcher_may_refuse(self) -> None:
        """A client that is not welcome is closed and counted as lost."""
        server = Server()
        server.dispatcher.welcome = False
        connection, transport = server.connect()
        self.assertTrue(transport.lost)
        self.assertEqual(server.dispatcher.lost, [connection])

    def test_a_dispatcher_that_fails_refuses(self) -> None:
        """And is not hidden."""
        server = Server()
        server.dispatcher.made = None  # type: ignore[assignment]
        _, transport = server.connect()
        self.assertTrue(transport.lost)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_one_too_many_is_told_so(self) -> None:
        """At its first command, or when it says nothing for a second; others are not disturbed."""
        server = Server(max_clients=2)
        first, _ = server.connect()
        server.connect()
        third, transport = server.connect()
        third.dataReceived(PING)
        self.assertEqual(transport.value(), TOO_MANY)
        self.assertTrue(transport.lost)
        self.assertNotIn(third, server.dispatcher.made)
        _, fourth = server.connect()
        server.clock.advance(1)
        self.assertEqual(fourth.value(), TOO_MANY)
        self.assertEqual(server.factory.refused, 2)
        first.transport.loseConnection()
        _, fifth = server.connect()
        server.clock.advance(2)
        self.assertEqual(fifth.value(), b"")
        self.assertEqual((server.factory.accepted, len(server.factory.connections)), (3, 2))

    def test_a_member_gets_in_when_clients_fill_the_server(self) -> None:
        """Clients cannot lock out the cluster."""
        server = Server(max_clients=0)
        member, transport = server.connect()
        member.dataReceived(b"*2\r\n$8\r\nRAFTLINK\r\n$1\r\n1\r\n")
        self.assertEqual(transport.value(), b"")
        self.assertEqual(server.dispatcher.links, [(member, [b"RAFTLINK", b"1"], b"")])

    def test_the_undecided_are_bounded_too(self) -> None:
        """Beyond some that may still be members, everybody is refused at once."""
        server = Server(max_clients=0)
        for _ in range(UNDECIDED):
            self.assertEqual(server.connect()[1].value(), b"")
        _, transport = server.connect()
        self.assertEqual(transport.value(), TOO_MANY)

    def test_nothing_may_follow_raftlink(self) -> None:
        """A member waits for the answer; who does not is none."""
        server = Server()
        connection, transport = server.connect()
        connection.dataReceived(b"*1\r\n$8\r\nRAFTLINK\r\n" + PING)
        self.assertEqual(server.dispatcher.links, [])
        self.assertTrue(transport.value().startswith(b"-ERR Protocol error"))

    def test_raftlink_later_is_an_ordinary_command(self) -> None:
        """Only the first command makes a link."""
        server = Server()
        connection, _ = server.connect()
        connection.dataReceived(PING + b"*1\r\n$8\r\nRAFTLINK\r\n")
        self.assertEqual(server.dispatcher.links, [])
        self.assertEqual(server.dispatcher.commands, [[b"PING"], [b"RAFTLINK"]])

    def test_a_failing_link_costs_its_connection(self) -> None:
        """The failure is logged."""
        server = Server()
        server.dispatcher.links = None  # type: ignore[assignment]
        connection, transport = server.connect()
        connection.dataReceived(b"*1\r\n$8\r\nRAFTLINK\r\n")
        self.assertTrue(transport.aborted)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_little_may_be_sent_before_authentication(self) -> None:
        """Memory is not given to strangers."""
        server = Server(auth_required=True)
        connection, transport = server.connect()
        connection.dataReceived(b"*2\r\n$4\r\nAUTH\r\n$1000000\r\n")
        for _ in range(3):
            connection.dataReceived(b"x" * 50_000)
        self.assertTrue(transport.value().startswith(b"-NOAUTH"))
        self.assertTrue(transport.lost)
        self.assertEqual(server.factory.partial_bytes, 0)
        known, transport = server.connect()
        known.authenticated = True
        known.dataReceived(b"*2\r\n$4\r\nECHO\r\n$200000\r\n" + b"x" * 200_000 + b"\r\n")
        self.assertEqual(transport.value(), b"+ECHO\r\n")

    def test_incomplete_commands_are_bounded_together(self) -> None:
        """The client whose bytes do not fit any more is dropped, unless they are few."""
        server = Server(partial_bytes=100_000)
        begin = b"*1\r\n$90000\r\n"
        first, one = server.connect()
        second, two = server.connect()
        third, three = server.connect()
        first.dataReceived(begin + b"x" * 80_000)
        second.dataReceived(begin + b"x" * 70_000)
        third.dataReceived(begin + b"x" * 30_000)
        self.assertEqual((one.lost, two.lost, three.lost), (False, True, False))
        self.assertIn(b"-ERR too many large commands", two.value())
        first.dataReceived(b"x" * 10_000 + b"\r\n")
        three.loseConnection()
        self.assertEqual(server.factory.partial_bytes, 0)

    def test_a_command_is_bounded(self) -> None:
        """The reader's limits come from the limits of clients."""
        server = Server(reader=ReaderLimits(arguments=3, command_bytes=100, inline_bytes=50))
        for data in (b"*4\r\n", b"*1\r\n$101\r\n", b"x" * 51):
            connection, transport = server.connect()
            connection.dataReceived(data)
            self.assertTrue(transport.value().startswith(b"-ERR Protocol error"), data)
            self.assertTrue(transport.lost)


class Attributes(SynchronousTestCase):
    """What CLIENT LIST shows."""

    def test_times_and_counts(self) -> None:
        """Age, silence and commands of a connection."""
        server = Server()
        server.clock.advance(1000)
        connection, _ = server.connect()
        for _ in range(10):
            server.clock.advance(1)
        connection.dataReceived(PING * 3)
        for _ in range(4):
            server.clock.advance(1)
        self.assertEqual(connection.created_at, 1000)
        self.assertEqual(connection.last_active, 1010)
        self.assertEqual(connection.commands_count, 3)
        self.assertFalse(connection.certified)

    def test_ids_are_not_used_again(self) -> None:
        """Also after the loss."""
        server = Server()
        first, transport = server.connect()
        transport.loseConnection()
        second, _ = server.connect()
        self.assertEqual((first.id, second.id), (1, 2))

    def test_the_limits_are_sane(self) -> None:
        """A quantum of the smallest commands fits the smallest read."""
        self.assertLess(connection_module.MIN_READ, connection_module.MAX_READ)


class Complaints(SynchronousTestCase):
    """What anybody can have logged."""

    def test_one_line_a_second(self) -> None:
        """Of all complaints together, with clients or without, and when the clock is set back."""
        server = Server()
        told = []
        with capturedLogs() as logs:
            for step in (0.0, 0.5, 0.5, 0.9, 0.1, -3600.0, 0.5, 0.5):
                server.clock.rightNow += step
                server.factory.complain("who: {who}", who=server.clock.rightNow)
                told.append(len(logs))
        self.assertEqual(told, [1, 1, 2, 2, 3, 4, 4, 5])
        self.assertEqual(logs[0]["who"], 0.0)
