"""How runs end with their node, or after their deadline: each once, and nothing after it."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DeadlinePassed, FinnError, error_text
from finn.machines.kv import KV
from finn.node.proposals import MAX_PENDING_BYTES
from finn.options import Consistency
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal, Opaque


class Ending(Opaque):
    """Has a command that ends the node, and waits for its outcome."""

    told: list[str] = []

    def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """END, and what it knows besides."""
        if cmd[0] != b"END":
            return super().command(applier, conn, cmd)

        def end() -> None:
            raise MemoryError

        applied = applier.apply(conn, cmd, end, None)
        applied.addErrback(lambda failure: self.told.append(error_text(failure.value)))
        return applied


class EndingTests(SynchronousTestCase):
    """A cluster whose leader has a client."""

    def start(self, machine: type = KV, **options: object) -> Client:
        """Return a client of the leader."""
        self.cluster = MemoryCluster(machine, **options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        return Client(self.cluster, self.leader)

    def logged(self) -> set[object]:
        """Return the types of the errors that were logged."""
        return {failure.type for failure in self.flushLoggedErrors()}

    def queue_behind_a_read(self) -> Client:
        """Return a client whose write waits for a read that waits for a write in flight."""
        client = self.start()
        for member in range(3):
            if member != self.leader:
                self.cluster.crash(member)
        client.send("SET a 1", "GET a")
        self.cluster.advance(0.0003)
        client.send("SET b 1")
        self.cluster.advance(0.0001)
        self.assertEqual(client.received, b"")
        return client

    def test_a_node_that_fails(self) -> None:
        """What waits for what fails is refused in the same moment, not queued for nobody."""
        client = self.queue_behind_a_read()
        self.cluster.computers[self.leader].failure_expected = True
        self.cluster.nodes[self.leader].fatal(FinnError("the disk is gone"))
        self.cluster.advance(0.01)
        self.assertEqual(
            client.received,
            b"-UNKNOWN node failed\r\n" + b"-ERR node has failed\r\n" * 2,
        )

    def test_a_node_that_stops(self) -> None:
        """So it is when a node ends in order."""
        client = self.queue_behind_a_read()
        stopped: list[object] = []
        self.cluster.computers[self.leader].stop().addBoth(stopped.append)
        self.cluster.wait_until(lambda: bool(stopped))
        self.assertEqual(
            client.received,
            b"-UNKNOWN node is stopping\r\n" + b"-ERR node is stopping\r\n" * 2,
        )

    def test_what_waits_for_a_node_that_fails_while_it_stops(self) -> None:
        """It has failed, for who waited and for who comes then."""
        client = self.queue_behind_a_read()
        self.cluster.computers[self.leader].failure_expected = True
        node = self.cluster.nodes[self.leader]
        stopped = node.stopService()
        other = Client(self.cluster, self.leader)
        other.send("SET c 1")
        node.fatal(FinnError("the disk is gone"))
        client.send("GET a")
        self.assertEqual(other.received, b"-ERR node has failed\r\n")
        self.assertEqual(
            client.received,
            b"-UNKNOWN node failed\r\n" + b"-ERR node has failed\r\n" * 3,
        )
        self.cluster.wait_until(lambda: bool(stopped.called))

    def test_nobody_sees_half_a_transaction(self) -> None:
        """A read at low behind one that ends its node on the way is refused."""
        client = self.start(Journal, consistency=Consistency.LOW)
        client.send("MULTI", "PUT a half", "BREAK memory", "PUT b half", "EXEC")
        self.cluster.advance(0.0003)
        client.transport.clear()
        client.send("TAKE a")
        self.cluster.computers[self.leader].failure_expected = True
        self.cluster.advance(0.1)
        self.assertEqual(client.received, b"-UNKNOWN node failed\r\n-ERR node has failed\r\n")
        self.flushLoggedErrors(MemoryError)

    def test_a_transaction_that_ends_its_node(self) -> None:
        """EXEC is answered, whichever of its commands does; whoever waits in a machine is told."""
        for lines in (["END", "SET a 1"], ["SET a 1", "END"], ["GET a", "WHO", "END", "SET a 1"]):
            client = self.start(Ending, size=1)
            told: list[str] = []
            self.patch(Ending, "told", told)
            client.send("MULTI", *lines, "EXEC", "PING")
            self.cluster.computers[self.leader].failure_expected = True
            self.cluster.advance(0.1)
            head = b"+OK\r\n" + b"+QUEUED\r\n" * len(lines)
            self.assertEqual(client.received, head + b"-UNKNOWN node failed\r\n+PONG\r\n", lines)
            self.assertEqual(told, ["UNKNOWN node failed"])
            self.assertEqual(self.logged(), {MemoryError})
            self.cluster.close()

    def test_nothing_is_said_after_unknown(self) -> None:
        """A transaction that is applied after its deadline does not answer once more."""
        client = self.start(Opaque, request_timeout=0.6, election_timeout=3.0)
        self.cluster.advance(0.5)
        self.cluster.partition([self.leader])
        client.send("MULTI", "SET k late", "GET k", "EXEC")
        self.cluster.advance(1.3)
        answer = client.received
        self.assertTrue(answer.endswith(b"-UNKNOWN request timed out after it was appended\r\n"))
        self.cluster.heal()
        self.cluster.advance(3)
        self.assertEqual(self.cluster.machine(self.leader).values, {b"k": b"late"})
        self.assertEqual(client.received, answer)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_write_after_its_deadline(self) -> None:
        """Its commands are kept until then: it is the same on every node."""
        client = self.start(request_timeout=0.6, election_timeout=3.0)
        self.cluster.advance(0.5)
        self.cluster.partition([self.leader])
        client.send("SET k late")
        self.cluster.advance(1.3)
        self.assertEqual(client.received, b"-UNKNOWN request timed out after it was appended\r\n")
        self.cluster.heal()
        self.cluster.advance(3)
        for member in range(3):
            self.assertEqual(self.cluster.machine(member).look(0, b"k"), b"late")

    def test_a_client_keeps_nothing_of_its_last_run(self) -> None:
        """Idle connections hold no values, whoever runs the commands."""
        transaction = ["MULTI", "SET k value", "GET k", "EXEC"]
        for machine in (KV, Opaque):
            client = self.start(machine, consistency=Consistency.HIGH)
            for commands in (["SET k value"], ["GET k"], ["FAIL value"], transaction):
                client.ask(*commands)
                self.assert_keeps_nothing(client)
        self.assertGreater(len(self.flushLoggedErrors(ValueError)), 0)

    def assert_keeps_nothing(self, client: Client) -> None:
        """The client's last run has ended, and holds nothing that it was given."""
        run = client.protocol.last_run
        self.assertTrue(run.ended)
        self.assertFalse(run.commands)
        for name, nothing in (("calls", None), ("watch", None), ("extras", ()), ("keys", [])):
            self.assertEqual(getattr(run, name, nothing), nothing, name)
        call = getattr(run, "call", None)
        if call is not None:
            self.assertEqual((call.mutate, call.respond), (None, None))

    def test_nor_of_what_was_refused(self) -> None:
        """By a follower, or where nobody answered in time."""
        transaction = ["MULTI", "SET k value", "GET k", "PING", "EXEC"]
        for machine in (KV, Opaque):
            self.start(machine, consistency=Consistency.HIGH, request_timeout=0.6)
            client = Client(self.cluster, (self.leader + 1) % 3)
            for commands in (["SET k value"], ["GET k"], ["WATCH k"], transaction):
                client.protocol.last_run = None
                client.ask(*commands)
                if client.protocol.last_run is not None:
                    self.assert_keeps_nothing(client)
        client = self.start(consistency=Consistency.HIGH, request_timeout=0.6)
        for before, transaction in (
            ("GET a", ["MULTI", "SET k value", "EXEC"]),
            ("GET a", ["WATCH k"]),
            ("WATCH a", ["MULTI", "GET a", "EXEC"]),
        ):
            self.cluster.partition([self.leader])
            client.ask(before, *transaction)
            self.assert_keeps_nothing(client)
            self.cluster.heal()
            self.cluster.advance(3)
            client = Client(self.cluster, self.cluster.leader())
            self.leader = self.cluster.leader()

    def test_a_transaction_behind_a_read_that_is_null(self) -> None:
        """As a key that it watched was written meanwhile, it keeps nothing either."""
        client = self.start(consistency=Consistency.HIGH)
        other = Client(self.cluster, self.leader)
        self.assertEqual(client.ask("WATCH a"), b"+OK\r\n")
        client.transport.clear()
        client.send("GET a", "MULTI", "SET k value", "EXEC")
        other.send("SET a 1")
        self.cluster.advance(0.1)
        self.assertTrue(client.received.endswith(b"*-1\r\n"), client.received)
        self.assert_keeps_nothing(client)

    def test_a_lost_leader_keeps_nothing_either(self) -> None:
        """What was in flight there may be applied, but not for its client."""
        client = self.start()
        self.cluster.partition([self.leader])
        client.send("SET k value")
        self.cluster.wait_until(lambda: client.received.startswith(b"-UNKNOWN"))
        self.assertEqual(client.protocol.last_run.commands, ())

    def test_a_membership_change_behind_a_deadline(self) -> None:
        """It begins when the write before it is given up, and others are given up all the same."""
        client = self.start(request_timeout=0.6, election_timeout=3.0)
        other = Client(self.cluster, self.leader)
        self.cluster.partition([self.leader])
        client.send("SET k 1")
        self.cluster.advance(0.0003)
        member = self.cluster.nodes[(self.leader + 1) % 3]
        client.send(f"RAFTREMOVEPEER {member.options.address}")
        other.send("SET k 2")
        self.cluster.advance(1.2)
        unknown = b"-UNKNOWN request timed out after it was appended\r\n"
        self.assertTrue(client.received.startswith(unknown))
        self.assertEqual(other.received, unknown)

    def test_a_read_of_an_expired_key(self) -> None:
        """Without its entry it says who leads now, or that the time is over."""
        client = self.start(request_timeout=0.6, election_timeout=3.0)
        client.ask("SET k value PX 50")
        self.cluster.advance(0.5)
        self.cluster.partition([self.leader])
        client.transport.clear()
        client.send("GET k")
        self.cluster.advance(1.3)
        self.assertEqual(client.received, b"-ERR request timed out\r\n")
        client = self.start()
        client.ask("SET k value PX 50")
        self.cluster.advance(0.3)
        client.transport.clear()
        self.cluster.partition([self.leader])
        client.send("GET k")
        self.cluster.advance(0.0002)
        self.cluster.pause(self.leader)
        self.cluster.advance(3)
        address = self.cluster.nodes[self.cluster.leader()].options.address
        self.cluster.heal()
        self.cluster.advance(0.5)
        self.cluster.resume(self.leader)
        self.cluster.advance(2)
        self.assertEqual(client.received, f"-TRY {address}\r\n".encode())

    def test_what_waits_behind_a_read_is_bounded(self) -> None:
        """Writes that wait for their place count as pending: the client is not read any more."""
        client = self.start(consistency=Consistency.HIGH)
        self.cluster.partition([self.leader])
        node = self.cluster.nodes[self.leader]
        client.send("GET a")
        value = b"x" * (MAX_PENDING_BYTES // 4)
        for _ in range(4):
            client.protocol.dataReceived(pack_command([b"SET", b"k", value]))
        self.assertGreater(node.proposals.pending_bytes, MAX_PENDING_BYTES)
        self.assertIn("proposals", client.protocol._paused)
        self.cluster.wait_until(lambda: client.received.count(b"\r\n") == 5)
        self.assertEqual(node.proposals.pending_bytes, 0)
        self.cluster.advance(0.1)
        self.assertNotIn("proposals", client.protocol._paused)

    def test_a_client_that_is_not_read_when_its_node_fails(self) -> None:
        """It is read again, and refused like any other."""
        client = self.start()
        self.cluster.partition([self.leader])
        value = b"x" * (MAX_PENDING_BYTES // 2)
        for _ in range(2):
            client.protocol.dataReceived(pack_command([b"SET", b"k", value]))
        self.assertIn("proposals", client.protocol._paused)
        self.cluster.computers[self.leader].failure_expected = True
        self.cluster.nodes[self.leader].fatal(FinnError("the disk is gone"))
        self.assertNotIn("proposals", client.protocol._paused)
        self.assertTrue(client.ask("SET k 1").endswith(b"-ERR node has failed\r\n"))

    def test_a_node_that_fails_while_it_stops(self) -> None:
        """Nobody sees half of what it was doing, and its stop is none in order."""
        client = self.start(Journal, consistency=Consistency.LOW)
        for member in range(3):
            if member != self.leader:
                route = self.cluster.nodes[member].host.route(b"BREAK")
                assert route is not None
                route.run = lambda call, how: None
        other = Client(self.cluster, self.leader)
        client.send("MULTI", "PUT a half", "BREAK memory", "PUT b half", "EXEC")
        node = self.cluster.nodes[self.leader]
        computer = self.cluster.computers[self.leader]
        computer.failure_expected = True
        stopped: list[object] = []
        computer.stop().addBoth(stopped.append)
        while not stopped:
            if not other.protocol.closing:
                other.transport.clear()
                other.send("TAKE a", "TAKE b")
            self.cluster.advance(0.0005)
            self.assertFalse(other.received.startswith(b"$4\r\nhalf\r\n$-1"), other.received)
        self.assertIsInstance(node.failure, MemoryError)
        self.assertFalse(node.identity.clean)
        self.assertTrue(client.received.endswith(b"-UNKNOWN node failed\r\n"), client.received)
        self.flushLoggedErrors(MemoryError)

    def test_an_empty_entry_that_is_withdrawn(self) -> None:
        """A read of a key that expired fails with it: it does not see the key."""
        client = self.start()
        client.ask("SET k value PX 50")
        self.cluster.advance(0.2)
        client.transport.clear()
        client.send("GET k")
        scheduler = self.cluster.world.scheduler
        node = self.cluster.nodes[self.leader]
        while not node.proposals.queued:
            scheduler.run_until(scheduler.now + 0.00001)
        node.proposals.withdraw(DeadlinePassed())
        self.cluster.advance(0.1)
        self.assertTrue(client.received.startswith(b"-"), client.received)

    def test_an_application_that_stops_a_follower(self) -> None:
        """It may do so as it is told of a command whose leader is gone; all others end, too."""
        self.start()
        follower = (self.leader + 1) % 3
        node = self.cluster.nodes[follower]
        told: list[str] = []

        def stop(failure: Failure) -> None:
            told.append(str(failure.value))
            if len(told) == 1:
                self.cluster.computers[follower].stop()

        for number in range(3):
            node.execute("SET", f"k{number}", "1").addErrback(stop)
        self.cluster.crash(self.leader)
        self.cluster.advance(1)
        lost, stopping = "UNKNOWN the link to the leader was lost", "UNKNOWN node is stopping"
        self.assertEqual(told, [lost, stopping, stopping])
