"""Bounds of what an application may have under way, and of what strangers may have logged."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import NotApplied, OutcomeUnknown, Overloaded
from finn.node import introspection, runs, transactions
from finn.node.commands import BUILTINS
from finn.node.proposals import MAX_PENDING_BYTES
from finn.protocols.replies import MANY
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal, Opaque, count_replies
from tests.node.test_builtin import BuiltinTestCase, parse


class ExecuteBound(SynchronousTestCase):
    def test_a_leader_without_a_majority(self) -> None:
        """Beyond the bound it is told at once that nothing was appended."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        node = cluster.nodes[leader]
        cluster.partition([leader])
        value = b"x" * 500_000
        waiting: list[Deferred[object]] = []
        while not node.proposals.full:
            waiting.append(node.execute("PUT", "k", value))
        self.failureResultOf(node.execute("PUT", "k", value), Overloaded)
        self.assertLess(node.proposals.pending_bytes, MAX_PENDING_BYTES + 1_000_000)
        cluster.advance(3)
        for deferred in waiting:
            self.failureResultOf(deferred, OutcomeUnknown, NotApplied)
        self.assertEqual(node.proposals.pending_bytes, 0)


class LogBound(SynchronousTestCase):
    def test_links_that_are_refused(self) -> None:
        """One line a second says who and why, however many come, and when nobody stays."""
        cluster = MemoryCluster(Journal, size=1, secret="hush")
        self.addCleanup(cluster.close)
        cluster.start()
        with capturedLogs() as logs:
            for _ in range(3):
                for _ in range(100):
                    client = Client(cluster, 0)
                    client.send("RAFTLINK nonsense")
                    self.assertTrue(client.received.startswith(b"-ERR "))
                    client.protocol.connectionLost(Failure(ConnectionDone()))
                cluster.advance(1.1)
        told = [event for event in logs if "refused" in event["log_format"]]
        self.assertEqual(len(told), 3)
        self.assertTrue(told[0]["peer"])
        self.assertIn(told[0]["reason"].encode(), client.received)


class Values(dict[bytes, bytes]):
    """Counts how often somebody looks."""

    taken = 0

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the same value for every key."""
        self.taken += 1
        return b"x" * 90


class TransactionBound(SynchronousTestCase):
    """EXEC is one piece, so what it costs is bounded as its commands are queued, or as it runs."""

    aborted = b"-EXECABORT Transaction discarded because of previous errors.\r\n"

    def client(self, machine: Any = Journal, size: int = 1) -> Client:
        self.cluster = MemoryCluster(machine, size=size)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        return Client(self.cluster, self.cluster.leader())

    def test_slow_commands(self) -> None:
        """Few of them may be part of one; any number of those that take microseconds."""
        client = self.client()
        slow = ["INFO", "CLIENT LIST", "COMMAND DOCS", "RAFTSTATS"] * 2
        reply = client.ask("MULTI", *["PING"] * 100, *slow, "EXEC", replies=110)
        self.assertNotIn(b"\r\n-", reply)
        self.assertIn(b"*108\r\n", reply)
        reply = client.ask("MULTI", *slow, "CLIENT ID", "PING", "EXEC")
        refused = b"-ERR transactions are limited to 8 commands like CLIENT\r\n"
        self.assertEqual(
            reply, b"+OK\r\n" + b"+QUEUED\r\n" * 8 + refused + b"+QUEUED\r\n" + self.aborted
        )

    def test_the_same_words(self) -> None:
        """Of fast commands each is run once in an EXEC, and again in the next one."""
        client = self.client()
        for name in ("TIME", "ECHO", "INFO"):
            asked: list[bytes] = []

            def run(*args: Any, asked: list[bytes] = asked) -> int:
                asked.append(args[2][-1])
                return len(asked)

            self.patch(BUILTINS[name.encode()], "run", run)
        reply = client.ask("MULTI", "TIME", "ECHO a", "TIME", "ECHO b", "ECHO a", "EXEC")
        self.assertEqual(reply.partition(b"*")[2], b"5\r\n:1\r\n:1\r\n:1\r\n:2\r\n:1\r\n")
        reply = client.ask("MULTI", "TIME", "INFO", "CONFIG RESETSTAT", "INFO", "EXEC")
        self.assertEqual(reply.partition(b"*")[2], b"4\r\n:2\r\n:1\r\n+OK\r\n:2\r\n")

    def test_replies(self) -> None:
        """Beyond the bound a reply is left out, and its command is run all the same."""
        self.patch(runs, "MAX_REPLY_BYTES", 100)
        client = self.client(size=3)
        value = "x" * 40
        left_out = runs.LEFT_OUT
        bulk = b"$40\r\n" + value.encode() + b"\r\n"
        client.ask(f"PUT k {value}")
        reply = client.ask("MULTI", "TAKE k", "TAKE k", "PING", "TAKE k", "TAKE k", "PING", "EXEC")
        wanted = bulk * 2 + b"+PONG\r\n" + bulk + left_out + b"+PONG\r\n"
        self.assertTrue(reply.endswith(b"*6\r\n" + wanted), reply)
        reply = client.ask("MULTI", *["TAKE k"] * 3, "NOTE a", "PUT k 1", "NOTE b", "PING", "EXEC")
        wanted = b"*7\r\n" + bulk * 3 + left_out * 3 + b"+PONG\r\n"
        self.assertTrue(reply.endswith(wanted), reply)
        self.assertEqual(client.ask("TAKE k"), b"$1\r\n1\r\n")
        machines = [self.cluster.machine(n) for n in range(3)]
        self.cluster.wait_until(lambda: all(len(m.rows) == 2 for m in machines))
        self.assertEqual(machines[0].rows, machines[1].rows)
        self.assertEqual(machines[0].rows, machines[2].rows)

    def test_replies_are_not_made_in_vain(self) -> None:
        """What only reads is not run where its reply has no room."""
        self.patch(runs, "MAX_REPLY_BYTES", 100)
        client = self.client()
        values = self.cluster.machine(0).values = Values()
        reply = client.ask("MULTI", *["TAKE k"] * 500, "EXEC")
        self.assertEqual(reply.count(runs.LEFT_OUT), 498)
        self.assertEqual(values.taken, 2)

    def test_replies_of_other_machines(self) -> None:
        """A machine in the original's style writes them itself, local ones as they are queued."""
        self.patch(runs, "MAX_REPLY_BYTES", 30)
        self.patch(transactions, "MAX_REPLY_BYTES", 30)
        client = self.client(Opaque)
        client.ask("SET k " + "x" * 10)
        bulk, left_out = b"$10\r\nxxxxxxxxxx\r\n", runs.LEFT_OUT
        reply = client.ask("MULTI", *["GET k"] * 4, "EXEC")
        self.assertTrue(reply.endswith(b"*4\r\n" + bulk * 2 + left_out * 2), reply)
        reply = client.ask("MULTI", "GET k", "GET k", "SET k 1", "GET k", "EXEC")
        self.assertTrue(reply.endswith(b"*4\r\n" + bulk * 2 + left_out * 2), reply)
        self.assertEqual(client.ask("GET k"), b"$1\r\n1\r\n")
        reply = client.ask("MULTI", "WHO", "WHO", "WHO", "EXEC")
        self.assertEqual(reply.count(b"*2\r\n"), 2)
        self.assertEqual(reply.count(left_out), 1)

    def test_replies_of_other_machines_that_are_left_out_are_not_kept(self) -> None:
        """Neither those that they give at once nor those of writes."""
        self.patch(transactions, "MAX_REPLY_BYTES", 30)
        client = self.client(Opaque)
        node: Any = client.protocol.factory.dispatcher._node
        *_, local = node.transactions._ask(client.protocol, [[b"WHO"]] * 3)
        self.assertEqual(local.early, [runs.LEFT_OUT])
        self.assertIs(local.reply._fill.__self__, local.early)
        (write,) = node.transactions._ask(client.protocol, [[b"SET", b"k", b"1"]])
        run = runs.Transaction(runs.Waiter(bytes), [], False, 0.0, [write])
        run.room = 0
        replies: list[bytes] = []
        run.ask(replies, write, 1)
        self.assertEqual((replies, write.early), ([], []))


class PortionBound(SynchronousTestCase):
    def test_slow_commands_end_a_portion(self) -> None:
        """A pipeline of them is run a few milliseconds at a time, and others come in between."""
        cluster = MemoryCluster(Journal, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        node: Any = cluster.nodes[0]
        client = Client(cluster, 0)
        now, spent = node.now, [0.0]
        node.now = lambda: now() + spent[0]

        def run(*_: Any) -> int:
            spent[0] += 0.002
            return 1

        for name, done in (("ROLE", 2), ("ECHO", MANY)):
            self.patch(BUILTINS[name.encode()], "run", run)
            client.protocol.portion = MANY
            spent[0] = 0.0
            client.transport.clear()
            client.send(*[name + " x" * (name == "ECHO")] * MANY)
            self.assertEqual(round(spent[0] / 0.002), done)
            cluster.wait_until(lambda: count_replies(client.received) == MANY)


class KeptReplies(BuiltinTestCase):
    def test_what_never_changes_is_made_once(self) -> None:
        """COMMAND, its INFO and DOCS, and RAFTHELP are kept, as they take milliseconds to make."""
        commands = ("COMMAND", "COMMAND DOCS", "COMMAND INFO get nothing", "RAFTHELP")
        replies = {}
        for protocol in "23":
            self.client.ask(f"HELLO {protocol}")
            replies[protocol] = [self.client.ask(command) for command in commands]
        docs = parse(replies["3"][1])
        self.assertEqual(docs[b"get"][b"summary"], b"Return the string at a key.")
        self.patch(introspection, "encode_value", None)
        self.patch(introspection, "_rows", None)
        for protocol in "23":
            self.client.ask(f"HELLO {protocol}")
            self.assertReplies(*zip(commands, replies[protocol], strict=True))
        self.assertEqual(self.ask("COMMAND DOCS get get"), {b"get": docs[b"get"]})
