"""How the node runs machines: replicated clock and chance, errors, both styles, transactions."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CommandError, NotApplied
from finn.options import Consistency
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal, Opaque


class ReplicatedTests(SynchronousTestCase):
    """``call.now`` and ``call.random`` are equal on every node for the same command."""

    def cluster(self, machine: Any = Journal, **options: Any) -> MemoryCluster:
        cluster = MemoryCluster(machine, **options)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def assert_equal_everywhere(self, cluster: MemoryCluster, rows: int) -> None:
        cluster.wait_until(lambda: all(len(cluster.machine(m).rows) == rows for m in range(3)))
        first = cluster.machine(0).rows
        self.assertEqual(cluster.machine(1).rows, first)
        self.assertEqual(cluster.machine(2).rows, first)

    def test_clock_and_chance_survive_a_change_of_leader(self) -> None:
        """What a command saw is the same on all, whoever led; the clock never goes back."""
        cluster = self.cluster()
        for n in range(5):
            cluster.execute("NOTE", f"a{n}")
        old = cluster.leader()
        # The next leader's clock is an hour behind: entries must not go back in time.
        for member in range(3):
            if member != old:
                cluster.computers[member].jump(-3600)
        cluster.crash(old)
        for n in range(5):
            cluster.execute("NOTE", f"b{n}")
        cluster.restart(old)
        self.assert_equal_everywhere(cluster, 10)
        times = [row[1] for row in cluster.machine(0).rows]
        self.assertEqual(times, sorted(times))
        chance = [row[2] for row in cluster.machine(0).rows]
        self.assertEqual(len(set(chance)), 10)

    def test_clock_and_chance_survive_snapshot_and_restart(self) -> None:
        """A node that restores a snapshot and replays the rest sees the same as the others."""
        cluster = self.cluster()
        for n in range(4):
            cluster.execute("NOTE", f"a{n}")
        for member in range(3):
            cluster.result(cluster.nodes[member].snapshots.take())
        for n in range(4):
            cluster.execute("NOTE", f"b{n}")
        for member in range(3):
            cluster.crash(member)
        for member in range(3):
            cluster.restart(member)
        cluster.wait_until(cluster.settled)
        cluster.execute("NOTE", "c")
        self.assert_equal_everywhere(cluster, 9)

    def test_commands_of_one_entry_draw_differently(self) -> None:
        """A pipeline becomes one entry, yet each of its commands has chance of its own."""
        cluster = self.cluster()
        client = Client(cluster, cluster.leader())
        before = cluster.nodes[cluster.leader()].raft.log.last_index
        self.assertEqual(client.ask("NOTE a", "NOTE b", "NOTE c"), b":1\r\n:2\r\n:3\r\n")
        self.assertEqual(cluster.nodes[cluster.leader()].raft.log.last_index, before + 1)
        self.assert_equal_everywhere(cluster, 3)
        self.assertEqual(len({row[2] for row in cluster.machine(0).rows}), 3)

    def test_an_error_in_a_machine_is_a_reply_and_all_nodes_stay_equal(self) -> None:
        """The traceback is in every node's log, the change before it on every node."""
        cluster = self.cluster()
        client = Client(cluster, cluster.leader())
        self.assertEqual(
            client.ask("BREAK command", "BREAK value", "TAKE broken"),
            b"-WRONG that cannot be done\r\n-ERR internal error: ValueError\r\n$5\r\nvalue\r\n",
        )
        cluster.advance(1)
        self.assertEqual([cluster.machine(m).values for m in range(3)], [{b"broken": b"value"}] * 3)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)
        self.assertEqual([computer.failure for computer in cluster.computers], [None] * 3)

    def test_memory_error_stops_the_node(self) -> None:
        """After a MemoryError while applying the state cannot be trusted."""
        cluster = self.cluster()
        leader = cluster.leader()
        failed = cluster.nodes[leader].when_failed()
        deferred = cluster.submit("BREAK", "memory")
        deferred.addErrback(lambda _: None)
        cluster.advance(2)
        self.assertIsInstance(self.successResultOf(failed), MemoryError)
        self.flushLoggedErrors(MemoryError)

    def test_local_commands_stay_local(self) -> None:
        """A local command is answered by the node that got it, and not logged."""
        cluster = self.cluster()
        cluster.execute("NOTE", "x")
        cluster.advance(1)
        before = cluster.nodes[0].raft.log.last_index
        for member in range(3):
            self.assertEqual(Client(cluster, member).ask("HERE"), b":1\r\n")
        self.assertEqual(cluster.nodes[0].raft.log.last_index, before)


class ExecuteTests(SynchronousTestCase):
    """``Node.execute`` on every member."""

    def test_every_member_executes(self) -> None:
        """A follower forwards to the leader; values are what a client would see."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        for n, member in enumerate(range(3), 1):
            self.assertEqual(cluster.execute("NOTE", "x", on=member), n)
            self.assertEqual(cluster.execute("PUT", "k", str(n), on=member), b"OK")
            self.assertEqual(cluster.execute("TAKE", "k", on=member), b"%d" % n)
            with self.assertRaisesRegex(CommandError, "WRONG that"):
                cluster.execute("BREAK", "command", on=member)
            with self.assertRaisesRegex(CommandError, "unknown command 'NOPE'"):
                cluster.execute("NOPE", on=member)
        self.assertEqual(cluster.execute("TAKE", "k", on=1, consistency=Consistency.HIGH), b"3")

    def test_without_a_leader_it_is_not_applied(self) -> None:
        """What was never sent is certainly not applied, and says so in time."""
        cluster = MemoryCluster(Journal, request_timeout=2.0)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        others = [m for m in range(3) if m != leader]
        cluster.crash(leader)
        cluster.crash(others[0])
        cluster.advance(5)
        with self.assertRaises(NotApplied):
            cluster.execute("NOTE", "x", on=others[1])

    def test_forwarded_command_finds_the_next_leader(self) -> None:
        """A command that waits for a leader goes to the next one."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        cluster.crash(leader)
        cluster.advance(0.02)
        deferred = cluster.submit("NOTE", "x", on=(leader + 1) % 3)
        outcome = cluster.result(deferred.addErrback(lambda f: f.value))
        self.assertTrue(outcome == 1 or isinstance(outcome, Exception), outcome)


class OpaqueTests(SynchronousTestCase):
    """Machines in the original's style."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(Opaque)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()

    def test_replies_keep_their_order(self) -> None:
        """Writes, reads, local commands and errors of one pipeline are answered in order."""
        client = Client(self.cluster, self.leader)
        number = client.protocol.id
        self.assertEqual(
            client.ask("SET a 1", "GET a", "WHO", "NOPE", "SET b", "GET zz", "WHO", "PING"),
            b":1\r\n$1\r\n1\r\n*2\r\n:%d\r\n:1\r\n-ERR unknown command 'NOPE'\r\n"
            b"-ERR wrong number of arguments for 'SET' command\r\n$-1\r\n"
            b"*2\r\n:%d\r\n:2\r\n+PONG\r\n" % (number, number),
        )
        self.cluster.advance(1)
        self.assertEqual([self.cluster.machine(m).values for m in range(3)], [{b"a": b"1"}] * 3)

    def test_follower_says_where_the_leader_is(self) -> None:
        """Arity first, then TRY; local commands are served."""
        client = Client(self.cluster, (self.leader + 1) % 3)
        address = self.cluster.nodes[self.leader].options.address.encode()
        self.assertEqual(
            client.ask("SET a 1", "GET a", "SET a"),
            b"-TRY %s\r\n-TRY %s\r\n" % (address, address)
            + b"-ERR wrong number of arguments for 'SET' command\r\n",
        )

    def test_mutate_that_raises(self) -> None:
        """The client gets an error, the nodes stay equal."""
        client = Client(self.cluster, self.leader)
        self.assertEqual(client.ask("FAIL"), b"-ERR internal error: ValueError\r\n")
        self.cluster.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)

    def test_transaction(self) -> None:
        """EXEC runs all in one entry; reads within see the writes before them."""
        client = Client(self.cluster, self.leader)
        before = self.cluster.nodes[self.leader].raft.log.last_index
        self.assertEqual(
            client.ask("MULTI", "SET a 1", "GET a", "SET b 2", "EXEC"),
            b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n:1\r\n$1\r\n1\r\n:2\r\n",
        )
        self.assertEqual(self.cluster.nodes[self.leader].raft.log.last_index, before + 1)
        self.cluster.advance(1)
        self.assertEqual(self.cluster.machine(0).values, {b"a": b"1", b"b": b"2"})
        self.assertEqual(self.cluster.machine(1).values, {b"a": b"1", b"b": b"2"})

    def test_execute(self) -> None:
        """``Node.execute`` gives what the machine wrote, on the leader and elsewhere."""
        self.assertEqual(self.cluster.execute("SET", "a", "1", on=self.leader), 1)
        self.assertEqual(self.cluster.execute("SET", "b", "1", on=(self.leader + 1) % 3), 2)
        self.assertEqual(self.cluster.execute("GET", "a", on=(self.leader + 2) % 3), b"1")

    def test_snapshots_may_be_refused(self) -> None:
        """A machine that raises Disabled has none."""
        client = Client(self.cluster, self.leader)
        self.assertEqual(
            client.ask("SET a 1", "RAFTSNAPSHOT"), b":1\r\n-ERR snapshots are disabled\r\n"
        )

    def test_observer_refuses_connections(self) -> None:
        """``connection_made`` may say no; ``connection_lost`` comes for those it let in."""
        machine = self.cluster.machine(self.leader)
        client = Client(self.cluster, self.leader)
        self.assertIn(client.protocol.id, machine.connections)
        self.assertEqual(client.ask("WHO")[:4], b"*2\r\n")
        client.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertNotIn(client.protocol.id, machine.connections)
        machine.welcome = False
        refused = Client(self.cluster, self.leader)
        refused.send("WHO")
        self.cluster.advance(1)
        self.assertEqual(refused.received, b"")
        self.assertNotIn(refused.protocol.id, machine.connections)
