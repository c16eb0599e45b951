"""What machines raise where nothing changes is an error of one client, whatever it is."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import finn
from finn.errors import NotLeader, OutcomeUnknown
from finn.interfaces import IMachine
from finn.node.proposals import Batch
from finn.node.reads import Reads
from finn.options import Consistency
from finn.testing.cluster import MemoryCluster
from tests.node.cores import make_leader, settle
from tests.node.support import Client
from tests.node.test_failure import make_run

EXITS = (SystemExit, KeyboardInterrupt, asyncio.CancelledError, ValueError)
ENDS = (SystemExit, asyncio.CancelledError, GeneratorExit)


@implementer(IMachine)
class Exits:
    """WRITE and READ raise as they respond, ASK before it asks, EXIT as it writes; SET does not."""

    def __init__(self) -> None:
        self.written = 0

    def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """Run a command."""

        def respond(value: Any) -> None:
            raise EXITS[int(cmd[1])]

        if cmd[0] == b"WRITE":
            return applier.apply(conn, cmd, self.write, respond)
        if cmd[0] == b"READ":
            return applier.apply(conn, cmd, None, respond)
        if cmd[0] == b"EXIT":
            return applier.apply(conn, cmd, lambda: self.leave(cmd[1]), respond)
        if cmd[0] == b"ASK":
            respond(None)
        return applier.apply(conn, cmd, self.write, lambda value: conn.write_string("OK"))

    def write(self) -> None:
        """Change something."""
        self.written += 1

    def leave(self, number: bytes) -> None:
        """Change something, and call for the end."""
        self.written += 1
        raise ENDS[int(number)]

    def snapshot(self, file: Any) -> None:
        """Write nothing."""
        raise SystemExit

    def restore(self, file: Any) -> None:
        """Read nothing."""


class Ticks(finn.Machine):
    """Cannot say whether a key has expired."""

    next_expiry = 0

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    @finn.write("PUT")
    def put(self, call: finn.Call, key: bytes, value: bytes) -> Any:
        """Set a value."""
        self.values[key] = value
        return finn.OK

    @finn.read("TAKE")
    def take(self, call: finn.Call, key: bytes) -> bytes | None:
        """Get a value."""
        return self.values.get(key)

    @finn.write("EXIT")
    def leave(self, call: finn.Call, number: int) -> None:
        """Call for the end, as a parser of arguments may."""
        raise ENDS[number]

    @finn.local("HERE")
    def here(self, call: finn.Call) -> None:
        """Do not answer either."""
        raise SystemExit

    def needs_tick(self, commands: Any, applied_ms: int, wall_ms: int) -> bool:
        """Raise."""
        raise SystemExit


class ExitTests(SynchronousTestCase):
    """A leader with two clients."""

    def start(self, machine: type, **options: Any) -> None:
        """Start a cluster."""
        self.cluster = MemoryCluster(machine, **options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.clients = [Client(self.cluster, self.leader) for _ in range(2)]

    def assert_all_serve(self) -> None:
        """No node has failed."""
        self.assertEqual([node.failure for node in self.cluster.nodes], [None] * 3)

    def test_commands_of_the_style_of_the_original(self) -> None:
        """Alone and behind a write, and those of others go on."""
        self.start(Exits)
        first, second = self.clients
        for number, kind in enumerate(EXITS):
            error = f"-ERR internal error: {kind.__name__}\r\n".encode()
            for name in ("WRITE", "READ", "ASK"):
                second.transport.clear()
                second.send("SET")
                commands = [f"{name} {number}", "SET", f"{name} {number}", "PING"]
                self.assertEqual(
                    first.ask(*commands), error + b"+OK\r\n" + error + b"+PONG\r\n", commands
                )
                self.assertEqual(second.received, b"+OK\r\n")
            self.flushLoggedErrors(kind)
        self.cluster.advance(0.5)
        self.assert_all_serve()
        self.assertEqual({self.cluster.machine(m).written for m in range(3)}, {len(EXITS) * 8})

    def test_writes_that_call_for_the_end(self) -> None:
        """All nodes would end, and end again where they read of it at each start."""
        for machine, (number, end) in product((Exits, Ticks), enumerate(ENDS)):
            self.start(machine)
            reply = self.clients[0].ask(f"EXIT {number}")
            self.assertEqual(reply, f"-ERR internal error: {end.__name__}\r\n".encode())
            self.cluster.advance(1)
            self.assert_all_serve()
            self.assertEqual(len(self.flushLoggedErrors(end)), 3)
            for member in range(3):
                self.cluster.restart(member)
            self.cluster.wait_until(self.cluster.settled)
            self.assert_all_serve()
            self.flushLoggedErrors(end)

    def test_a_snapshot(self) -> None:
        """It is refused, each time that it is asked for."""
        self.start(Exits)
        for _ in range(2):
            reply = self.clients[0].ask("SET", "RAFTSNAPSHOT", "SET")
            self.assertEqual(reply, b"+OK\r\n-ERR snapshot failed: \r\n+OK\r\n")
            self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.assert_all_serve()

    def test_reads_that_may_see_an_expired_key(self) -> None:
        """They are answered behind an entry of their own, as are those behind them."""
        for level in (Consistency.MEDIUM, Consistency.HIGH):
            self.start(Ticks, consistency=level)
            first, second = self.clients
            self.assertEqual(first.ask("PUT a 1", "TAKE a"), b"+OK\r\n$1\r\n1\r\n")
            first.transport.clear()
            first.send("PUT a 2")
            self.cluster.advance(0.0002)
            first.send("TAKE a")
            self.assertEqual(second.ask("TAKE a", "PUT b 3"), b"$1\r\n2\r\n+OK\r\n")
            self.assertEqual(first.received, b"+OK\r\n$1\r\n2\r\n")
            self.assert_all_serve()
            self.assertGreater(len(self.flushLoggedErrors(SystemExit)), 0)

    def test_local_commands(self) -> None:
        """Their connection goes on."""
        self.start(Ticks)
        reply = self.clients[0].ask("HERE", "PING")
        self.assertEqual(reply, b"-ERR internal error: SystemExit\r\n+PONG\r\n")
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)


class EndTests(SynchronousTestCase):
    """A run that raises as it ends has neighbours."""

    def raises(self, *_: object) -> None:
        """Stand for what waits for a run."""
        raise SystemExit

    def test_entries(self) -> None:
        """All its neighbours are told, and all forget what they held."""
        batch = Batch(0.0)
        runs = [make_run() for _ in range(3)]
        batch.runs.extend(run for run, _ in runs)
        for run, _ in runs[:2]:
            run.then(self.raises)
        batch.end(OutcomeUnknown("gone"))
        self.assertEqual([slot.data for _, slot in runs], [[b"-UNKNOWN gone\r\n"]] * 3)
        self.assertEqual([run.commands for run, _ in runs], [()] * 3)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 2)

    def test_reads(self) -> None:
        """They are served, or refused, and the one that raises gets an error."""
        served: list[Any] = []

        def serve(run: Any) -> None:
            served.append(run)
            if len(served) == 1:
                raise SystemExit

        reads, raft = Reads(serve), make_leader()
        runs = [make_run() for _ in range(2)]
        for run, _ in runs:
            reads.confirm(run, 0.0)
        reads.submit(raft, 0.0)
        ((token, index),) = settle(raft)
        reads.confirmed(token, index, NotLeader())
        reads.applied(index)
        self.assertEqual(served, [run for run, _ in runs])
        error = b"-ERR internal error: SystemExit\r\n"
        self.assertEqual([slot.data for _, slot in runs], [[error], []])
        for end in (lambda: reads.fail_all(NotLeader()), lambda: reads.expire(1.0)):
            runs = [make_run() for _ in range(2)]
            for run, _ in runs:
                run.then(self.raises)
                reads.confirm(run, 0.0)
            reads.submit(raft, 0.0)
            end()
            self.assertEqual([run.ended for run, _ in runs], [True, True])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 5)
