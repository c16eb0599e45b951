"""What is kept of a command of a machine in the original's style once it is answered: nothing."""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakSet

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import finn
from finn.node.slot import SlotConnection
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client


class Value:
    """What a command results in."""


@implementer(finn.IMachine)
class Large:
    """Commands whose values are large, if you will."""

    def __init__(self) -> None:
        self.values: WeakSet[Value] = WeakSet()
        self.most = 0
        self.late: list[Any] = []

    def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """WRITE, READ, and LATE, which answers when the test wants it."""

        def make() -> Value:
            self.most = max(self.most, len(self.values))
            value = Value()
            self.values.add(value)
            return value

        def respond(value: Any) -> None:
            if cmd[0] == b"LATE":
                self.late.append(conn)
            else:
                conn.write_string("done")

        return applier.apply(conn, cmd, None if cmd[0] == b"READ" else make, respond)

    def snapshot(self, file: Any) -> None:
        """Nothing."""

    def restore(self, file: Any) -> None:
        """Nothing."""


class KeptTests(SynchronousTestCase):
    """The value, and the reply made of it, may be megabytes each."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(Large, size=1)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.client = Client(self.cluster, 0)
        self.machine = self.cluster.machine(0)

    def replies(self) -> int:
        """Count what the node has of replies to the client."""
        gc.collect()
        connections = [item for item in gc.get_objects() if type(item) is SlotConnection]
        return sum(item._connection is self.client.protocol for item in connections)

    def test_within_a_transaction(self) -> None:
        """Each value is gone before the next is made."""
        reply = self.client.ask("MULTI", *["WRITE"] * 50, "EXEC")
        self.assertTrue(reply.endswith(b"*50\r\n" + b"+done\r\n" * 50))
        self.assertEqual((self.machine.most, len(self.machine.values)), (0, 0))

    def test_by_a_client_that_sends_nothing_more(self) -> None:
        """Its last command is done."""
        for command in ("WRITE", "READ"):
            self.assertEqual(self.client.ask(command), b"+done\r\n")
            self.assertEqual((len(self.machine.values), self.replies()), (0, 0))

    def send_late(self) -> None:
        """Send a command that the machine does not answer yet."""
        self.client.send("LATE")
        self.cluster.advance(0.1)
        self.assertEqual((self.client.received, len(self.machine.values)), (b"", 0))

    def test_an_answer_that_comes_later(self) -> None:
        """It is waited for all the same, and forgotten with the time of a request."""
        self.send_late()
        self.machine.late.pop().write_string("late")
        self.cluster.advance(30)
        self.assertEqual((self.client.received, self.replies()), (b"+late\r\n", 0))

    def test_an_answer_that_does_not_come(self) -> None:
        """It is missed after the time of a request."""
        self.send_late()
        self.cluster.advance(30)
        self.machine.late.clear()
        text = b"-ERR internal error: TimeoutError\r\n"
        self.assertEqual((self.client.received, self.replies()), (text, 0))
        self.assertEqual(len(self.flushLoggedErrors(TimeoutError)), 1)
