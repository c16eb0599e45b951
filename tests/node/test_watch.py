"""WATCH and EXEC have their places among what their connection sends, which may wait for them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.options import Consistency
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

NULL = b"*-1\r\n"


class WatchTests(SynchronousTestCase):
    """Reads at high wait for a majority, and so does all that one connection sends behind them."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(KV, consistency=Consistency.HIGH)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.client = Client(self.cluster, self.leader)
        self.other = Client(self.cluster, self.leader)

    def tearDown(self) -> None:
        self.assertFalse(self.cluster.nodes[self.leader].transactions.watching)

    def finish(self) -> bytes:
        """Let all be answered, and return what the client has got."""
        self.cluster.advance(0.1)
        return self.client.received

    def test_a_write_before_it(self) -> None:
        """It is no reason for null, however late it is proposed."""
        for write in ("SET k 1", "GETDEL k", "FLUSHALL"):
            self.client.transport.clear()
            self.client.send("GET a", write, "WATCH k", "MULTI", "GET k", "EXEC")
            self.assertNotIn(NULL, self.finish())
        self.client.transport.clear()
        self.client.send("GET a", "WATCH k", "SET k 2", "MULTI", "GET k", "EXEC")
        self.assertTrue(self.finish().endswith(NULL))

    def test_a_write_before_the_place_of_a_transaction(self) -> None:
        """It is seen even where EXEC came before it, but has to wait."""
        for inside in ("SET k mine", "GET k"):
            self.assertEqual(self.client.ask("WATCH k"), b"+OK\r\n")
            self.client.transport.clear()
            self.client.send("GET a", "MULTI", inside, "EXEC")
            self.other.send("SET k other")
            self.assertTrue(self.finish().endswith(NULL))
            self.assertEqual(self.other.ask("GET k"), b"$5\r\nother\r\n")

    def test_a_write_behind_it(self) -> None:
        """Whatever comes behind the transaction's place does not count."""
        for before in ("GET a", "SET a 1"):
            for inside in ("SET j 1", "GET k"):
                self.client.ask("WATCH k")
                self.client.transport.clear()
                self.client.send(before, "MULTI", inside, "EXEC", "SET k 2")
                self.assertNotIn(NULL, self.finish())

    def test_a_transaction_without_commands_of_the_machine(self) -> None:
        """It has its place too, and what is in it is done if it is not null."""
        for inside in (["PING"], []):
            self.client.transport.clear()
            self.client.send("GET a", "WATCH k", "SET k 2", "MULTI", *inside, "EXEC")
            self.assertTrue(self.finish().endswith(NULL))
        self.client.transport.clear()
        self.client.send("GET a", "WATCH k", "MULTI", "PING", "EXEC")
        self.assertTrue(self.finish().endswith(b"*1\r\n+PONG\r\n"))

    def test_what_changes_something_is_no_part_of_it(self) -> None:
        """EXEC may still be null, or refused, when such a command has run."""
        refused = b"-ERR Command not allowed inside a transaction\r\n"
        for command in ("SETNAME bob", "setinfo LIB-NAME x", "Kill TYPE normal SKIPME no"):
            reply = self.client.ask("MULTI", f"CLIENT {command}", "EXEC")
            self.assertEqual(reply[5 : 5 + len(refused)], refused)
            self.assertTrue(reply[5 + len(refused) :].startswith(b"-EXECABORT "))
        self.assertEqual(self.client.ask("CLIENT GETNAME"), b"$-1\r\n")

    def test_commands_of_the_node_in_their_place(self) -> None:
        """What comes behind EXEC changes nothing in it, however long it waits."""
        self.client.send("GET a", "WATCH k", "MULTI", "CLIENT GETNAME", "GET k", "EXEC")
        self.client.send("CLIENT SETNAME bob", "HELLO 3")
        self.assertIn(b"*2\r\n$-1\r\n$-1\r\n+OK\r\n%7\r\n", self.finish())

    def test_unwatch_inside(self) -> None:
        """It does not end a watch that begins behind EXEC."""
        self.client.ask("WATCH k")
        self.client.send("GET a", "MULTI", "UNWATCH", "SET k 1", "EXEC", "WATCH j")
        self.assertTrue(self.finish().endswith(b"*2\r\n+OK\r\n+OK\r\n+OK\r\n"))
        self.other.ask("SET j 1")
        self.assertTrue(self.client.ask("MULTI", "GET j", "EXEC").endswith(NULL))

    def test_commands_that_fail_inside(self) -> None:
        """However they do, nothing is watched any more."""
        for number in ("9" * 5000, "1"):
            self.client.ask("WATCH k")
            reply = self.client.ask("MULTI", f"SELECT {number}", "SET k 1", "EXEC")
            self.assertTrue(reply.endswith(b"*2\r\n-ERR DB index is out of range\r\n+OK\r\n"))

    def test_it_ends_while_it_waits(self) -> None:
        """What is not to be watched any more is not registered when its turn comes."""
        self.client.send("GET a", "WATCH k", "UNWATCH", "SET k 1", "MULTI", "GET k", "EXEC")
        self.assertTrue(self.finish().endswith(b"*1\r\n$1\r\n1\r\n"))
        self.client.send("GET a", "WATCH k")
        self.client.protocol.connectionLost()
        self.cluster.advance(0.1)

    def test_it_fails(self) -> None:
        """A client that does not look at its answer does not write either."""
        self.cluster.partition([self.leader])
        self.client.send("GET a", "WATCH k", "MULTI", "SET k mine", "EXEC")
        self.cluster.wait_until(lambda: self.client.received.count(b"\r\n") >= 5, 5)
        self.cluster.heal()
        self.cluster.wait_until(self.cluster.settled)
        self.assertEqual(self.cluster.execute("EXISTS", "k"), 0)

    def test_it_is_refused(self) -> None:
        """The next transaction is refused, even if it would be run, and those after it are not."""
        member = (self.leader + 1) % 3
        other = Client(self.cluster, member)
        self.assertTrue(other.ask("WATCH k").startswith(b"-TRY "))
        transfer = f"RAFTTRANSFER {self.cluster.nodes[member].options.address}"
        self.assertEqual(self.client.ask(transfer), b"+OK\r\n")
        self.cluster.wait_until(lambda: self.cluster.leader() == member)
        refused = b"-EXECABORT Transaction discarded because a WATCH before it was refused\r\n"
        for end in (refused, b"*1\r\n+OK\r\n"):
            reply = other.ask("MULTI", "SET k 1", "EXEC")
            self.assertTrue(reply.endswith(end), reply)

    def test_a_leader_that_fails_before_the_place(self) -> None:
        """The transaction is refused, and its watch forgotten."""
        self.client.ask("WATCH k")
        self.cluster.partition([self.leader])
        self.client.transport.clear()
        self.client.send("GET a", "MULTI", "SET k mine", "EXEC")
        self.cluster.wait_until(lambda: self.client.received.count(b"-") == 2, 5)
        self.assertIn(b"+QUEUED\r\n-", self.client.received)


class LowTests(SynchronousTestCase):
    """Reads at low tell of what is applied, which may be less than a new leader's log holds."""

    def test_what_was_proposed_before(self) -> None:
        """WATCH answers when it is applied: no value from before comes behind it."""
        cluster = MemoryCluster(KV, consistency=Consistency.LOW)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        first = Client(cluster, leader)
        first.ask("SET k 1")
        cluster.advance(0.3)
        member = (leader + 1) % 3
        to = cluster.nodes[member]
        assert to.raft is not None
        raft = to.raft
        first.send("SET k 100", f"RAFTTRANSFER {to.options.address}")
        scheduler = cluster.world.scheduler
        while raft.leader is None:
            scheduler.run_until(scheduler.now + 0.0001)
        self.assertLess(to.applying.last_applied, raft.log.last_index - 1)  # behind the write
        second = Client(cluster, member)
        second.send("WATCH k", "GET k", "MULTI", "SET k 2", "EXEC")
        cluster.advance(0.5)
        self.assertEqual(second.received.split(b"\r\n")[:3], [b"+OK", b"$3", b"100"])
