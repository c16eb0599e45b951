"""``Node.execute`` ends in one of its outcomes, in time, whatever is asked and of whom."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import finn
from finn.errors import CommandError, DeadlinePassed, NotReady, OutcomeUnknown
from finn.interfaces import IMachine
from finn.node.host import FEW_EXPECTED
from finn.node.service import Node
from finn.options import Consistency, Durability
from finn.protocols.replies import FEW
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

LATE = "ERR request timed out"
SILENT = "UNKNOWN the machine did not answer in time"
APPENDED = "UNKNOWN request timed out after it was appended"
SENT = "UNKNOWN the leader did not answer in time"


class Odd(finn.Machine):
    """Local commands that do what they should not, and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    @finn.write("INCR")
    def incr(self, call: finn.Call) -> int:
        """Count."""
        self.number += 1
        return self.number

    @finn.local("RAISES")
    def raises(self, call: finn.Call) -> None:
        """Raise at once."""
        raise KeyError("inside")

    @finn.local("FAILS")
    async def fails(self, call: finn.Call) -> None:
        """Raise as a coroutine does."""
        raise KeyError("inside")

    @finn.local("STRANGE")
    def strange(self, call: finn.Call) -> object:
        """Return what is no reply."""
        return object()

    @finn.local("LATER")
    async def later(self, call: finn.Call) -> object:
        """The same, as a coroutine."""
        return object()

    @finn.local("NEVER")
    def never(self, call: finn.Call) -> Deferred[int]:
        """Take for ever, or until the test ends it."""
        self.promised: Deferred[int] = Deferred()
        return self.promised

    @finn.read("NUMBER")
    def get_number(self, call: finn.Call) -> int:
        """Tell the number."""
        return self.number

    @finn.local("REFUSES")
    async def refuses(self, call: finn.Call) -> None:
        """Say no."""
        raise CommandError("NO not today")


@implementer(IMachine)
class Counting:
    """Counts the calls of each connection.

    SILENT, ASKS and QUIET do not answer, HALF begins an answer, LATE and
    DEFER leave it to the test. BEGIN does so before it fails: as a write, a read, or a local
    command, now or later. THROWS fails when it has asked.
    """

    def __init__(self) -> None:
        self.late: list[Any] = []

    def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """Run a command."""
        if cmd[0] == b"SILENT":
            return applier.apply(conn, cmd, lambda: None, lambda value: None)
        if cmd[0] == b"LATE":
            return applier.apply(conn, cmd, lambda: None, lambda value: self.late.append(conn))
        if cmd[0] == b"DEFER":
            self.late.append(Deferred())
            return self.late[-1]
        if cmd[0] == b"THROWS":
            applier.apply(conn, cmd, lambda: self.late.append(cmd), lambda value: None)
            return self.refuse() if conn is not None else None
        if cmd[0] == b"ASKS":
            return applier.apply(conn, cmd, None, lambda value: None)
        if cmd[0] == b"QUIET":
            return None
        if cmd[0] == b"BEGIN":
            return self.begin(applier, conn, cmd)
        if cmd[0] == b"HALF":
            return applier.apply(conn, cmd, lambda: None, lambda value: conn.write_array(2))
        conn.context = (conn.context or 0) + 1
        return conn.context

    def begin(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """Begin a reply, then fail."""
        if conn is not None:
            conn.write_array(2)
            conn.write_integer(1)
        if cmd[1] == b"write":
            return applier.apply(conn, cmd, self.refuse, None)
        if cmd[1] == b"read":
            return applier.apply(conn, cmd, None, None)
        if cmd[1] == b"later":
            return fail(CommandError("NO not today"))
        return self.refuse()

    def refuse(self) -> Any:
        """Say no."""
        raise CommandError("NO not today")

    def snapshot(self, file: Any) -> None:
        """Write nothing."""

    def restore(self, file: Any) -> None:
        """Read nothing."""


class ExecuteTests(SynchronousTestCase):
    """On the leader and on a follower."""

    def start(self, machine: type) -> None:
        """Start a cluster."""
        self.cluster = MemoryCluster(machine)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.nodes = [self.cluster.nodes[(self.leader + i) % 3] for i in range(3)]

    def test_wrong_arguments(self) -> None:
        """They are refused before anything is done."""
        self.start(Odd)
        for node in self.nodes[:2]:
            for timeout in (-1, -0.001, float("nan"), float("-inf")):
                with self.assertRaisesRegex(ValueError, "a timeout of .* seconds"):
                    node.execute("INCR", timeout=timeout)
            for word in ("\udcff", bytearray(b"x"), None, 1j):
                with self.assertRaises(ValueError):
                    node.execute("INCR", word)  # type: ignore[arg-type]
            with self.assertRaisesRegex(ValueError, "bytes, 67108864 at most"):
                node.execute("INCR", b"x" * (64 << 20))
            with self.assertRaises(ValueError):
                node.execute("INCR", timeout="1")  # type: ignore[arg-type]
            for level in ("high", Durability.HIGH, 2):
                with self.assertRaisesRegex(ValueError, "consistency must be one of Consistency.L"):
                    node.execute("INCR", consistency=level)  # type: ignore[arg-type]
            self.cluster.result(node.execute("INCR", consistency=Consistency.HIGH))
        self.assertEqual(self.cluster.machine(self.leader).number, 2)

    def test_endless_timeouts(self) -> None:
        """They are a month, which the wire to the leader can tell."""
        self.start(Odd)
        for node in self.nodes[:2]:
            for timeout in (float("inf"), 1e20, 10**400):
                self.cluster.result(node.execute("INCR", timeout=timeout))
        self.assertEqual(self.cluster.machine(self.leader).number, 6)

    def test_local_commands(self) -> None:
        """Their errors are replies, as they are for a client, and what is inside is not told."""
        self.start(Odd)
        for name, text, logged in (
            ("RAISES", "ERR internal error: KeyError", KeyError),
            ("FAILS", "ERR internal error: KeyError", KeyError),
            ("STRANGE", "ERR internal error: a object cannot be a reply", TypeError),
            ("LATER", "ERR internal error: a object cannot be a reply", TypeError),
            ("REFUSES", "NO not today", None),
        ):
            node = self.nodes[1]
            error = self.failureResultOf(node.execute(name), CommandError).value
            self.assertEqual(str(error), text)
            client = Client(self.cluster, self.cluster.nodes.index(node))
            self.assertEqual(client.ask(name), f"-{text}\r\n".encode())
            self.assertEqual(len(self.flushLoggedErrors()), 2 if logged else 0)

    def test_a_client_whose_local_command_never_answers(self) -> None:
        """It is told so after the time of a request, and what it sent behind is answered."""
        self.start(Odd)
        client = Client(self.cluster, self.leader)
        client.send("NEVER", "NUMBER", "PING")
        self.cluster.advance(9)
        self.assertEqual(client.received, b"")
        self.cluster.advance(2)
        answers = b"-ERR internal error: TimeoutError\r\n:0\r\n+PONG\r\n"
        self.assertEqual(client.received, answers)
        (logged,) = self.flushLoggedErrors(TimeoutError)
        self.assertEqual(str(logged.value), "the machine did not answer")
        self.cluster.machine(self.leader).promised.callback(7)
        self.cluster.advance(0.1)
        self.assertEqual(client.received, answers)

    def test_a_local_command_that_answers_late(self) -> None:
        """Its reply is written at once, and nothing is said of it later."""
        self.start(Odd)
        client = Client(self.cluster, self.leader)
        client.send("NEVER", "PING")
        self.cluster.advance(1)
        self.cluster.machine(self.leader).promised.callback(7)
        self.cluster.advance(0.001)
        self.assertEqual(client.received, b":7\r\n+PONG\r\n")
        self.cluster.advance(20)

    def test_a_local_command_that_never_answers(self) -> None:
        """It has begun, so it may have done anything."""
        self.start(Odd)
        waiting = self.nodes[0].execute("NEVER", timeout=0.5)
        self.cluster.advance(0.6)
        error = self.failureResultOf(waiting, OutcomeUnknown).value
        self.assertEqual(str(error), "UNKNOWN the machine did not answer in time")

    def test_a_machine_that_answers_late(self) -> None:
        """Its reply is taken, in its place."""
        self.start(Counting)
        client = Client(self.cluster, self.leader)
        client.send("LATE", "COUNT")
        self.cluster.advance(0.1)
        machine = self.cluster.machine(self.leader)
        self.assertEqual(client.received, b"")
        machine.late.pop().write_integer(7)
        self.cluster.advance(0.1)
        self.assertEqual(client.received, b":7\r\n:1\r\n")
        deferred = self.nodes[0].execute("LATE")
        self.cluster.advance(0.1)
        machine.late.pop().write_integer(8)
        self.assertEqual(self.successResultOf(deferred), 8)
        self.cluster.advance(20)

    def test_a_machine_that_does_not_answer(self) -> None:
        """Whoever asked is told so after the time of a request, and its log says why."""
        self.start(Counting)
        for name in ("SILENT", "HALF", "ASKS", "QUIET"):
            client = Client(self.cluster, self.leader)
            client.send(name)
            deferred = self.nodes[0].execute(name, timeout=3)
            self.cluster.advance(4)
            # A read has changed nothing, whatever became of it.
            self.failureResultOf(deferred, DeadlinePassed if name == "ASKS" else OutcomeUnknown)
            self.assertEqual(client.received, b"")
            self.cluster.advance(7)
            self.assertEqual(client.received, b"-ERR internal error: TimeoutError\r\n")
            logged = self.flushLoggedErrors(TimeoutError)
            self.assertEqual(str(logged[0].value), "the machine did not answer")

    def test_a_command_that_asks_and_fails(self) -> None:
        """It is not applied, within a transaction neither."""
        self.start(Counting)
        client = Client(self.cluster, self.leader)
        self.assertEqual(client.ask("THROWS"), b"-NO not today\r\n")
        reply = client.ask("MULTI", "THROWS", "COUNT", "EXEC")
        self.assertTrue(reply.endswith(b"*2\r\n-NO not today\r\n:1\r\n"), reply)
        self.cluster.advance(0.5)
        self.assertEqual([self.cluster.machine(m).late for m in range(3)], [[]] * 3)

    def test_a_reply_that_was_begun(self) -> None:
        """The error comes in its place, and what is behind it is answered."""
        self.start(Counting)
        client = Client(self.cluster, self.leader)
        for kind in ("now", "later", "write"):
            reply = client.ask(f"BEGIN {kind}", "PING")
            self.assertEqual(reply, b"-NO not today\r\n+PONG\r\n", kind)
        for kind in ("read", "write"):
            reply = Client(self.cluster, (self.leader + 1) % 3).ask(f"BEGIN {kind}", "PING")
            self.assertEqual(reply[:5] + reply[-7:], b"-TRY +PONG\r\n", kind)
        reply = client.ask("MULTI", "BEGIN now", "BEGIN later", "BEGIN write", "EXEC")
        self.assertTrue(reply.endswith(b"*3\r\n" + b"-NO not today\r\n" * 3), reply)

    def test_late_answers_are_written_at_once(self) -> None:
        """Also where nothing else happens, as in a cluster of one."""
        self.cluster = MemoryCluster(Counting, size=1)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        late = self.cluster.machine(0).late
        for name, answer in (("DEFER", "callback"), ("LATE", "write_integer")):
            client = Client(self.cluster, 0)
            client.send(name)
            self.cluster.wait_until(lambda: bool(late))
            getattr(late.pop(), answer)(7)
            self.cluster.advance(0.001)
            self.assertEqual(client.received, b":7\r\n")

    def test_a_value_that_is_no_reply(self) -> None:
        """It is an error at once, also where it comes late."""
        self.start(Counting)
        client = Client(self.cluster, self.leader)
        client.send("DEFER", "PING")
        self.cluster.advance(0.1)
        self.cluster.machine(self.leader).late.pop().callback(object())
        self.cluster.advance(0.001)
        self.assertEqual(client.received, b"-ERR internal error: TypeError\r\n+PONG\r\n")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_what_fails_late(self) -> None:
        """The machine's log has it; clients are told no more than what kind of error it is."""
        self.start(Counting)
        client = Client(self.cluster, self.leader)
        for error, text in (
            (KeyError("inside"), b"ERR internal error: KeyError"),
            (CommandError("NO not today"), b"NO not today"),
        ):
            client.transport.clear()
            client.send("DEFER")
            self.cluster.advance(0.1)
            self.cluster.machine(self.leader).late.pop().errback(error)
            self.cluster.advance(0.001)
            self.assertEqual(client.received, b"-%b\r\n" % text)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_answers_that_came_are_forgotten(self) -> None:
        """However many come behind one that does not."""
        self.start(Counting)
        silent = [Client(self.cluster, self.leader) for _ in range(2 * FEW_EXPECTED)]
        client = Client(self.cluster, self.leader)
        host, late = self.nodes[0].host, self.cluster.machine(self.leader).late
        silent[0].send("QUIET")
        for _ in range(5 * FEW_EXPECTED):
            client.send("DEFER")
            late.pop().callback(1)
            self.assertLessEqual(len(host._expected), FEW_EXPECTED)
        for other in silent[1:]:
            other.send("QUIET")
        self.cluster.advance(11)
        self.assertEqual(len(host._expected), 0)
        error = b"-ERR internal error: TimeoutError\r\n"
        self.assertEqual({other.received for other in silent}, {error})
        self.flushLoggedErrors(TimeoutError)

    def test_a_client_that_closes_meanwhile(self) -> None:
        """It is owed what it asked for before QUIT, or before it ended its side."""
        self.start(Counting)
        for name in ("SILENT", "QUIET"):
            for ending, end in (("QUIT", b"+OK\r\n"), ("", b"")):
                client = Client(self.cluster, self.leader)
                client.send(name, "COUNT", *filter(None, [ending]))
                if not ending:
                    client.protocol.readConnectionLost()
                self.cluster.advance(11)
                self.assertEqual(
                    client.received, b"-ERR internal error: TimeoutError\r\n:1\r\n" + end
                )
        self.assertEqual(len(self.flushLoggedErrors(TimeoutError)), 4)

    def test_within_a_transaction(self) -> None:
        """EXEC's array cannot wait: what is not answered by then is an error."""
        self.start(Counting)
        client = Client(self.cluster, self.leader)
        reply = client.ask("MULTI", "LATE", "HALF", "QUIET", "COUNT", "EXEC")
        error = b"-ERR internal error: RuntimeError\r\n"
        self.assertTrue(reply.endswith(b"*4\r\n" + 3 * error + b":1\r\n"), reply)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)

    def test_a_client_that_is_gone(self) -> None:
        """Nothing is said of what it asked for, nor of what no client asked for."""
        self.start(Counting)
        client = Client(self.cluster, self.leader)
        client.send("SILENT")
        self.cluster.advance(0.1)
        client.protocol.connectionLost()
        deferred = self.nodes[0].execute("SILENT", timeout=30)
        self.cluster.advance(20)
        self.assertNoResult(deferred)
        self.cluster.advance(11)
        self.failureResultOf(deferred, OutcomeUnknown)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_node_that_stops(self) -> None:
        """Whoever waits for what never comes is told, and no timer is left."""
        self.start(Odd)
        waiting = self.nodes[0].execute("NEVER")
        self.cluster.result(self.nodes[0].stopService())
        self.failureResultOf(waiting, OutcomeUnknown)
        for name, error in (("SILENT", OutcomeUnknown), ("ASKS", NotReady)):
            self.start(Counting)
            waiting = self.nodes[0].execute(name)
            self.cluster.advance(0.1)
            self.cluster.result(self.nodes[0].stopService())
            self.failureResultOf(waiting, error)

    def late(self, node: Node, name: str, level: Consistency) -> str:
        """Return how a command ends that nobody answers in time."""
        outcome = node.execute(name, consistency=level, timeout=0.3)
        self.cluster.advance(0.31)
        return str(self.failureResultOf(outcome, DeadlinePassed, OutcomeUnknown).value)

    def test_what_was_not_appended(self) -> None:
        """Nothing is called so that only read, or never asked for it."""
        self.start(Counting)
        self.cluster.partition([self.leader])
        high = Consistency.HIGH
        self.assertEqual(self.late(self.nodes[0], "ASKS", high), LATE)
        self.assertEqual(self.late(self.nodes[0], "QUIET", high), SILENT)
        self.assertEqual(self.late(self.nodes[0], "SILENT", high), APPENDED)

    def test_what_was_forwarded(self) -> None:
        """Only the leader knows what a command asks for: once it was sent, it may be a write."""
        self.start(Counting)
        self.cluster.partition([self.leader])
        for name in ("ASKS", "QUIET", "SILENT"):
            self.assertEqual(self.late(self.nodes[1], name, Consistency.LOW), SENT)
        self.cluster.partition([0], [1], [2])
        self.cluster.wait_until(lambda: not self.nodes[1].raft.leader_id)
        self.assertEqual(self.late(self.nodes[1], "SILENT", Consistency.LOW), LATE)

    def test_who_was_to_forward_leads(self) -> None:
        """It runs the command itself then, and knows as much of it as of any other."""
        for name, text in (("ASKS", LATE), ("QUIET", SILENT), ("SILENT", APPENDED)):
            self.start(Counting)
            self.cluster.crash(self.leader)
            for node in self.nodes[1:]:
                node.applying.paused = True
            self.cluster.wait_until(lambda: not any(n.raft.leader_id for n in self.nodes[1:]))
            high = Consistency.HIGH
            outcomes = [n.execute(name, consistency=high, timeout=9) for n in self.nodes[1:]]
            self.cluster.advance(8.99)
            leads = [node.raft.leader is not None for node in self.nodes[1:]].index(True)
            self.assertNoResult(outcomes[leads])
            self.cluster.advance(0.02)
            error = self.failureResultOf(outcomes[leads], DeadlinePassed, OutcomeUnknown).value
            self.assertEqual(str(error), text)
            outcomes[1 - leads].addErrback(lambda _: None)

    def test_clients_of_a_node_that_stops(self) -> None:
        """So are they, before they are closed, and what comes behind it; later replies are lost."""
        self.stop_with_clients(Odd, "NEVER")
        self.stop_with_clients(Counting, "LATE", "QUIET")

    def stop_with_clients(self, machine: type, *commands: str) -> None:
        """Send commands that nobody answers, and stop their node."""
        self.start(machine)
        client, other = (Client(self.cluster, self.leader) for _ in range(2))
        client.send(*commands, "PING")
        other.send(*commands, "QUIT")
        many = Client(self.cluster, self.leader)
        many.send(*commands, *["PING"] * 9)
        self.cluster.advance(0.1)
        stopped = self.nodes[0].stopService()
        self.cluster.wait_until(lambda: client.transport.disconnecting)
        for reply in getattr(self.cluster.machine(self.leader), "late", []):
            reply.write_integer(7)
        self.cluster.result(stopped)
        unknown = b"-UNKNOWN node is stopping\r\n" * len(commands)
        self.assertEqual(client.received, unknown + b"+PONG\r\n")
        self.assertEqual(other.received, unknown + b"+OK\r\n")
        # Those that were postponed have not run.
        done = FEW - len(commands)
        refused = b"-ERR node is stopping\r\n" * (9 - done)
        self.assertEqual(many.received, unknown + b"+PONG\r\n" * done + refused)

    def test_contexts(self) -> None:
        """What a command keeps for its connection is seen by no other, and by no other node."""
        self.start(Counting)
        for node in self.nodes:
            self.assertEqual(self.cluster.result(node.execute("COUNT")), 1)
