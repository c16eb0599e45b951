"""All nodes run the same commands to the same effect, or stop."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import finn
from finn.errors import DiskFailed
from finn.interfaces import IMachine
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal

MANY = 700  # commands of one entry: more than the apply loop runs between two looks at the clock


@implementer(IMachine)
class Hasty:
    """Looks at its state when a command comes, though it may change before it is applied."""

    def __init__(self) -> None:
        self.number = 0

    def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """Run ADD, or BREAK."""
        wanted = self.number + 1

        def add() -> int:
            self.number = wanted
            return wanted

        def fail() -> None:
            raise MemoryError

        mutate = add if cmd[0] == b"ADD" else fail
        return applier.apply(conn, cmd, mutate, lambda value: conn.write_integer(value))

    def snapshot(self, file: Any) -> None:
        """Write nothing."""

    def restore(self, file: Any) -> None:
        """Read nothing."""


class Older(finn.Machine):
    """A machine of the days before NOTE."""

    machine_name = "Journal"

    def __init__(self) -> None:
        self.rows: list[Any] = []

    @finn.write("PUT")
    def put(self, call: Any, key: bytes, value: bytes) -> Any:
        """Accept anything."""
        return finn.OK


class EqualTests(SynchronousTestCase):
    """What would make nodes differ."""

    def start(self, machine: Any = Journal) -> MemoryCluster:
        cluster = MemoryCluster(machine)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def test_chance_in_a_long_pipeline_is_the_same_everywhere(self) -> None:
        """However the leader cuts its work into slices, and followers theirs."""
        cluster = self.start()
        client = Client(cluster, cluster.leader())
        client.send(*["NOTE x"] * MANY)
        cluster.wait_until(lambda: all(len(cluster.machine(n).rows) == MANY for n in range(3)))
        first = cluster.machine(0).rows
        self.assertEqual([cluster.machine(n).rows == first for n in (1, 2)], [True, True])
        self.assertEqual(len({row[2] for row in first}), MANY)

    def test_the_mutation_is_that_of_the_call_at_apply(self) -> None:
        """The leader's first call dates from before the commands in between."""
        cluster = self.start(Hasty)
        client = Client(cluster, cluster.leader())
        self.assertEqual(client.ask("ADD", "ADD", "ADD"), b":1\r\n:2\r\n:3\r\n")
        cluster.advance(1)
        self.assertEqual([cluster.machine(n).number for n in range(3)], [3, 3, 3])

    def test_memory_error_in_an_imachine_stops_the_node(self) -> None:
        """Half of the change may be done."""
        cluster = self.start(Hasty)
        computer = cluster.computers[cluster.leader()]
        Client(cluster, cluster.leader()).send("BREAK")
        cluster.advance(1)
        self.assertIsInstance(computer.failure, MemoryError)
        self.flushLoggedErrors(MemoryError)

    def test_a_committed_command_nobody_knows_stops_the_node(self) -> None:
        """It is never skipped: the node would differ for ever after."""
        cluster = self.start()
        cluster.execute("NOTE", "x")
        computer = cluster.computers[(cluster.leader() + 1) % 3]
        computer.kill()
        self.patch(computer, "_machine", Older)
        computer.start()
        cluster.wait_until(lambda: computer.failure)
        self.assertIn("older than the one that wrote it", str(computer.failure))
        self.assertEqual(cluster.execute("NOTE", "y"), 2)

    def test_an_imachine_that_knows_a_command_at_times(self) -> None:
        """It may be what ends the node: the error says so."""

        class Fickle(Hasty):
            def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
                if conn is None:
                    raise finn.UnknownCommand(cmd[0])
                return super().command(applier, conn, cmd)

        cluster = self.start(Fickle)
        Client(cluster, cluster.leader()).send("ADD")
        cluster.wait_until(lambda: cluster.computers[0].failure)
        self.assertIn(", or not only names are unknown to it", str(cluster.computers[0].failure))

    def test_a_failed_node_serves_nothing(self) -> None:
        """Not even what it still has in memory."""
        cluster = self.start()
        leader = cluster.leader()
        client = Client(cluster, leader)
        self.assertEqual(client.ask("PUT a 1", "TAKE a"), b"+OK\r\n$1\r\n1\r\n")
        cluster.nodes[leader].fatal(DiskFailed("cannot sync"))
        self.assertEqual(client.ask("TAKE a", "PUT a 2"), b"-ERR node has failed\r\n" * 2)
