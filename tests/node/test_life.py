"""A node's life: it is started once, and stopped once, however often and whenever that is asked."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from threading import Event
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

import finn
from finn.errors import DataDirectoryError, NotReady, StartFailed
from finn.machines.kv import KV
from finn.node.service import Node
from finn.node.waiters import Waiters
from finn.options import Backend, Durability, NodeOptions
from finn.storage.disk import ImmediateDisk
from finn.testing.cluster import MemoryCluster
from finn.testing.faulty import FaultyFiles


class LifeTests(SynchronousTestCase):
    """Nodes of a cluster in memory."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(KV)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.node = self.cluster.nodes[self.leader]

    def test_it_is_started_once(self) -> None:
        """To start it again is refused, while it runs and after its end, and does no harm."""
        with self.assertRaisesRegex(StartFailed, "this node is started already"):
            self.node.startService()
        self.assertEqual(self.cluster.execute("SET", "a", "1", on=self.leader), b"OK")
        self.cluster.result(self.node.stopService())
        with self.assertRaisesRegex(StartFailed, "make another one to start it again"):
            self.node.startService()

    def test_it_has_no_status_before(self) -> None:
        """It says so, in one of the errors that it documents."""
        with self.assertRaisesRegex(NotReady, "^ERR node was not started$"):
            Node(Clock(), KV()).status()

    def test_every_stop_waits_for_the_end(self) -> None:
        """Also one that comes when another is under way; the parent's, say."""
        fired: list[str] = []
        for name in "ab":
            self.node.stopService().addCallback(lambda _, name=name: fired.append(name))
        self.assertEqual(fired, [])
        self.cluster.wait_until(lambda: "a" in fired)
        self.assertEqual(fired, ["a", "b"])
        self.assertTrue(self.node.identity.clean)
        self.successResultOf(self.node.stopService())

    def test_who_waits_for_the_end_may_give_up(self) -> None:
        """The node stops all the same, and tells the others."""
        given_up = self.node.stopService()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.cluster.result(self.node.stopService())
        self.assertTrue(self.node.identity.clean)
        self.assertIsNone(self.node.raft)
        self.cluster.wait_until(lambda: self.cluster.leader() != self.leader)

    def test_who_waits_for_what_will_not_come(self) -> None:
        """A stop fails them; what was given up is kept nowhere."""
        other = self.cluster.nodes[(self.leader + 1) % 3]
        errors: list[str] = []
        for waiting in (other.when_leader(), other.when_leader()):
            waiting.addErrback(lambda failure: errors.append(failure.getErrorMessage()))
        cancelled = other.when_failed()
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertNotIn(cancelled, other._failing._waiting)
        self.cluster.result(other.stopService())
        self.assertEqual(errors, ["ERR node is stopping"] * 2)
        for question in (other.when_leader, other.when_ready):
            self.failureResultOf(question(), NotReady)
        self.assertFalse(other.is_ready)

    def test_a_failed_node_is_not_ready(self) -> None:
        """Whatever it was before."""
        self.cluster.computers[self.leader].failure_expected = True
        self.assertTrue(self.node.is_ready)
        self.node.fatal(StartFailed("no more"))
        self.assertFalse(self.node.is_ready)
        self.failureResultOf(self.node.when_ready(), StartFailed)

    def test_it_does_not_forget_that_it_forgot(self) -> None:
        """A node that lost power and is stopped while it opens is amnesic the next time, too."""
        for steps in range(10):
            cluster = MemoryCluster(KV)
            self.addCleanup(cluster.close)
            cluster.start()
            for member in range(3):
                cluster.cut_power(member)
            computer = cluster.computers[0]
            computer.start()
            cluster.advance(steps * 0.0003)
            cluster.result(computer.stop())
            computer.start()
            cluster.advance(0.5)
            self.assertTrue(computer.node.identity.amnesic, steps)

    def test_stopped_while_it_becomes_a_member(self) -> None:
        """That is no failure, at whatever point it comes."""
        for steps in range(24):
            for how in ("founds", "renames itself", "joins"):
                cluster = MemoryCluster(KV, size=1)
                self.addCleanup(cluster.close)
                computer = cluster.computers[0]
                if how == "founds":
                    computer.start()
                else:
                    cluster.start()
                if how == "renames itself":
                    cluster.result(computer.stop())
                    computer.move("10.0.0.9:7481")
                    computer.start()
                elif how == "joins":
                    computer = cluster.computers[cluster.add()]
                cluster.advance(steps * 0.0004)
                cluster.result(computer.stop())
                self.assertIsNone(computer.node.failure, (how, steps))
                self.assertTrue(computer.node.identity.clean, (how, steps))

    def test_an_error_while_it_opens_and_stops(self) -> None:
        """It is said, and the stop is none in order."""
        for member in range(3):
            self.cluster.crash(member)
        computer = self.cluster.computers[0]
        computer.failure_expected = True
        computer.start()
        error = DataDirectoryError("it cannot be kept")

        def save() -> None:
            raise error

        self.patch(computer.node.identity, "save", save)
        self.cluster.result(computer.node.stopService())
        self.assertIs(computer.node.failure, error)
        self.assertFalse(computer.node.identity.clean)

    def test_one_who_waits_cancels_another(self) -> None:
        """That one is left out, and those behind it are told."""
        for end in ("fire", "fail"):
            waiters = Waiters()
            first, second, third = waiters.add(), waiters.add(), waiters.add()
            first.addBoth(lambda _, second=second: second.cancel())
            getattr(waiters, end)(StartFailed("over"))
            self.failureResultOf(second, CancelledError)
            (self.failureResultOf if end == "fail" else self.successResultOf)(third)

    def test_who_looks_later(self) -> None:
        """The failure is still there, and it is no unhandled error where nobody does."""
        other = self.cluster.nodes[(self.leader + 1) % 3]
        waiting = other.when_leader()
        other.when_leader().addCallback(lambda node: node.execute("PING"))
        self.cluster.result(other.stopService())
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.failureResultOf(waiting, NotReady)

    def test_who_looks_and_fails(self) -> None:
        """An application's own error is logged, as one that nobody looked at."""
        other = self.cluster.nodes[(self.leader + 1) % 3]

        def look(failure: Failure) -> None:
            raise NameError("a bug")

        other.when_leader().addErrback(look)
        self.cluster.result(other.stopService())
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(NameError)), 1)

    def test_a_failure_while_it_stops_is_told(self) -> None:
        """To whoever waits for one: the process must not end as if all was well."""
        self.cluster.computers[self.leader].failure_expected = True
        waiting = self.node.when_failed()
        stopped = self.node.stopService()
        error = StartFailed("the disk is gone")
        self.node.fatal(error)
        self.assertIs(self.successResultOf(waiting), error)
        self.cluster.result(stopped)
        self.assertFalse(self.node.identity.clean)

    def test_a_failure_while_it_asks_for_a_cluster(self) -> None:
        """It founds none: that nobody has answered says nothing."""
        cluster = self.cluster
        address = cluster.nodes[self.leader].options.address
        for steps in range(60):
            computer = cluster._build()
            computer.failure_expected = True
            computer.options.join = [computer.options.address, address]
            computer.start()
            cluster.advance(steps * 0.0001)
            if computer.node.identity.cluster_id:
                break
            computer.node.fatal(StartFailed("no more"))
            cluster.advance(0.2)
            self.assertEqual(computer.node.identity.cluster_id, 0, steps)
        else:
            self.fail("it never became a member")

    def test_a_failure_before_the_address_is_told(self) -> None:
        """It is not noted as told."""
        member = (self.leader + 1) % 3
        computer = self.cluster.computers[member]
        for steps in range(8):
            before = computer.node.identity.address
            self.cluster.result(computer.stop())
            computer.move(f"10.0.1.{steps + 1}:7481")
            computer.start()
            self.cluster.advance(0.0005 * steps)
            told = computer.node.identity.address != before
            computer.failure_expected = True
            computer.node.fatal(StartFailed("no more"))
            self.cluster.advance(0.2)
            if not told:
                self.assertEqual(computer.node.identity.address, before)
            self.cluster.result(computer.stop())
            computer.start()
            self.cluster.wait_until(lambda: computer.node.identity.address == computer.address)


class Part(Service):
    """A child of a node."""

    starts = 0
    fails = False

    def startService(self) -> None:
        """Start, unless it fails."""
        if self.fails:
            raise ValueError("not today")
        self.starts += 1
        super().startService()


@implementer(IStreamServerEndpoint)
class Late:
    """An endpoint that tells later what came of it."""

    def __init__(self) -> None:
        self.listening: Deferred[Any] = Deferred()

    def listen(self, factory: Any) -> Deferred[Any]:
        """Listen, in a while."""
        return self.listening


class Port:
    """Notes that it was closed."""

    closed = False

    def stopListening(self) -> Deferred[None]:
        """Close."""
        self.closed = True
        return succeed(None)


class Endless(finn.Machine):
    """Takes for ever to be restored."""

    @finn.write("NOTE")
    def note(self, call: finn.Call) -> None:
        """Change nothing."""

    def snapshot(self, file: Any) -> None:
        """Write a little."""
        file.write(b"state")

    def restore(self, file: Any) -> Iterator[None]:
        """Never end."""
        while True:
            yield


class StartTests(SynchronousTestCase):
    """A node at an endpoint that takes its time."""

    def test_a_start_that_fails_before_it_listens(self) -> None:
        """What comes of its endpoint is undone, and is no matter of the next start."""
        late, part, ports = Late(), Part(), [Port() for _ in range(3)]
        options = NodeOptions(directory="data", listen=late)
        node = Node(Clock(), KV(), options, files=FaultyFiles(), disk=ImmediateDisk())
        part.setServiceParent(node)
        part.fails = True
        attempts = []
        for _ in range(3):
            self.assertRaises(ValueError, node.startService)
            attempts.append(late.listening)
            late.listening = Deferred()
        attempts[0].callback(ports[0])
        part.fails = False
        node.startService()
        late.listening.callback(ports[1])
        attempts[1].errback(OSError("no such interface"))
        attempts[2].callback(ports[2])
        self.assertIsNone(node.failure)
        self.assertIs(node.port, ports[1])
        self.assertEqual([port.closed for port in ports], [True, False, True])
        node.stopService()
        self.assertTrue(ports[1].closed)


class ArgumentTests(SynchronousTestCase):
    """What a node is made of."""

    def test_what_is_in_the_wrong_place(self) -> None:
        """It is told by its name, and no option, which may be a secret."""
        for arguments, text in (
            ((Clock(), KV(), {"secret": "x"}), "options must be finn.NodeOptions, not dict"),
            ((Clock(), KV(), {}), "options must be finn.NodeOptions, not dict"),
            ((KV(), Clock()), "KV is no reactor: it comes before the machine"),
            ((KV(), NodeOptions()), "KV is no reactor: it comes before the machine"),
        ):
            error = self.assertRaises(TypeError, Node, *arguments)
            self.assertEqual(str(error), text)


class RealTests(TestCase):
    """Nodes on the real reactor and real files."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.directory = self.mktemp()

    def make(self, machine: Any = None, **options: Any) -> Node:
        """Return a node of one, in the test's folder."""
        options.setdefault("listen", "tcp:0:interface=127.0.0.1")
        return Node(self.reactor, machine or KV(), NodeOptions(directory=self.directory, **options))

    def open_files(self) -> list[str]:
        """Return what the process has open in the node's folder."""
        folder = os.path.abspath(self.directory)
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{name}"))
            except FileNotFoundError:
                pass  # of the listing itself
        return [path for path in found if path.startswith(folder)]

    async def test_a_snapshot_whose_disk_hangs(self) -> None:
        """Writes go on: those that are synced do not wait for it."""
        node = self.make(durability=Durability.HIGH)
        node.startService()
        await node.when_ready()
        await node.execute("SET", "a", "1")
        released = Event()
        node.snapshot_disk.run(released.wait)
        try:
            taken = node.snapshots.take()
            for value in range(5):
                await node.execute("SET", "a", str(value))
            self.assertFalse(taken.called)
        finally:
            released.set()
        meta: Any = await taken
        self.assertEqual(meta.index, 3)  # what came meanwhile is behind it
        await node.stopService()

    async def test_stopped_while_it_opens(self) -> None:
        """Nothing stays open, at whatever point it comes, and the next start finds all in order."""
        for backend in (Backend.FASTLOG, Backend.BOLT, Backend.LEVELDB):
            node = self.make(backend=backend)
            node.startService()
            await node.when_ready()
            await node.execute("SET", "a", "1")
            await node.stopService()
            for turns in range(12):
                node = self.make(backend=backend)
                node.startService()
                for _ in range(turns):
                    await deferLater(self.reactor, 0)
                await node.stopService()
                self.assertEqual(self.open_files(), [])
            node = self.make(backend=backend)
            node.startService()
            await node.when_ready()
            self.assertEqual(await node.execute("GET", "a"), b"1")
            await node.stopService()
            os.rename(self.directory, self.mktemp())

    async def test_parts_of_a_node(self) -> None:
        """They are started with it, and not where it cannot be."""
        first, second = self.make(), self.make()
        part = Part()
        part.setServiceParent(second)
        first.startService()
        for _ in range(2):
            with self.assertRaisesRegex(StartFailed, "in use"):
                second.startService()
            self.assertEqual((part.starts, part.running, second.running), (0, 0, 0))
        await first.stopService()
        part.fails = True
        with self.assertRaisesRegex(ValueError, "not today"):
            second.startService()
        self.assertEqual(second.running, 0)
        await second.stopService()
        part.fails = False
        second.startService()
        await second.when_ready()
        self.assertEqual((part.starts, part.running), (1, 1))
        await second.stopService()
        self.assertEqual(part.running, 0)

    async def test_stopped_while_it_restores(self) -> None:
        """It waits for no end of that, and the directory is free."""
        node = self.make(machine=Endless())
        node.startService()
        await node.when_ready()
        await node.execute("NOTE")
        await node.snapshots.take()
        await node.stopService()
        node = self.make(machine=Endless())
        node.startService()
        while not node.snapshots.restoring:
            await deferLater(self.reactor, 0)
        await node.stopService().addTimeout(2, self.reactor)
        self.assertEqual(self.open_files(), [])
        self.assertTrue(node.identity.clean)
        node = self.make(machine=Endless())
        node.startService()
        await node.stopService()

    async def test_stopped_while_it_asks_others(self) -> None:
        """It does not wait for an answer of theirs."""
        silent = self.reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(silent.stopListening)
        node = self.make(join=[":7481", f":{silent.getHost().port}"])
        node.startService()
        while node.joining._asking is None:
            await deferLater(self.reactor, 0)
        await deferLater(self.reactor, 0.05)
        await node.stopService().addTimeout(1, self.reactor)
        self.assertEqual(self.open_files(), [])

    def test_it_listens_on_the_port_of_its_address(self) -> None:
        """Where it is told of nothing else: a port that another has is refused."""
        other = self.reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(other.stopListening)
        port = other.getHost().port
        node = self.make(address=f":{port}", listen=None)
        error = self.assertRaises(StartFailed, node.startService)
        self.assertIn(f"cannot listen on tcp:{port}:interface=127.0.0.1", str(error))

    async def test_an_endpoint_that_fails_late(self) -> None:
        """The node fails with one line that says so."""
        late = Late()
        node = self.make(listen=late)
        node.startService()
        await node.when_ready()
        late.listening.errback(OSError("no such interface"))
        error = await node.when_failed()
        self.assertIsInstance(error, StartFailed)
        self.assertRegex(str(error), "cannot listen on .*: no such interface")
        await node.stopService()

    async def test_an_endpoint_that_listens_too_late(self) -> None:
        """Its port is closed again."""
        late = Late()
        node = self.make(listen=late)
        node.startService()
        await node.stopService()
        port = Port()
        late.listening.callback(port)
        self.assertTrue(port.closed)
