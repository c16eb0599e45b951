"""Nodes inside applications: a .tac with a service of its own, and several in one process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

import finn
from examples.ticket import Tickets
from finn.errors import StartFailed
from tests.integration.cluster import IntegrationTestCase
from tests.integration.ports import free_port
from tests.integration.process import DEADLINE, ROOT, NodeProcess, environment, need, until
from tests.integration.resp import LOOPBACK

EXAMPLE = ROOT / "examples" / "tickets.tac"


class Application(NodeProcess):
    """The example as a process."""

    def __init__(self, folder: Path, join: str = "") -> None:
        super().__init__(folder, free_port())
        self.join = join
        self.web = free_port()

    def start(self, *flags: str) -> NodeProcess:
        """Start it as its docstring says."""
        variables = {"PORT": str(self.port), "WEB": str(self.web), "JOIN": self.join}
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [need("twistd"), "--pidfile=", "-ny", str(EXAMPLE)],
                cwd=self.folder,
                env={**environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def draw(self, queue: str) -> int:
        """Draw a ticket by HTTP."""
        request = Request(f"http://{LOOPBACK}:{self.web}/{queue}", method="POST")
        with urlopen(request, timeout=DEADLINE) as response:
            return int(response.read())


class ApplicationTests(IntegrationTestCase):
    """``examples/tickets.tac``."""

    def test_three_applications(self) -> None:
        """Each member draws, whichever leads; the numbers go on without the first leader."""
        cluster = self.cluster()
        first = Application(cluster.folder)
        others = [Application(cluster.folder, first.address) for _ in range(2)]
        applications = [first, *others]
        cluster.nodes += applications
        for application in applications:
            application.start()
        cluster.wait_ready()
        numbers = [application.draw("bakery") for application in applications * 2]
        self.assertEqual(numbers, [1, 2, 3, 4, 5, 6])
        self.assertEqual(others[0].draw("butcher"), 1)
        first.kill()

        def draw() -> int:
            try:
                return others[0].draw("bakery")
            except HTTPError as error:
                self.assertEqual(error.code, 503)
                return 0

        self.assertEqual(until(draw, "another leader"), 7)
        self.assertEqual(others[1].draw("bakery"), 8)


class OneProcessTests(TestCase):
    """Several nodes and a real reactor in one process."""

    timeout = 4 * DEADLINE

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.nodes: list[finn.Node] = []

    @inlineCallbacks
    def tearDown(self) -> Generator[Deferred[Any], Any, None]:
        for node in reversed(self.nodes):
            yield node.stopService()

    def make(self, *join: str, **options: Any) -> finn.Node:
        port = free_port()
        node = finn.Node(
            self.reactor,
            Tickets(),
            finn.NodeOptions(
                address=f":{port}",
                listen=f"tcp:{port}:interface={LOOPBACK}",
                directory=self.mktemp(),
                join=list(join),
                **options,
            ),
        )
        self.nodes.append(node)
        return node

    @inlineCallbacks
    def start_three(self, **options: Any) -> Generator[Deferred[Any], Any, None]:
        first = self.make(**options)
        first.startService()
        yield first.when_leader()
        for _ in range(2):
            self.make(first.options.address, **options).startService()
        yield gatherResults([node.when_ready() for node in self.nodes])
        yield self.poll(lambda: len(first.raft.configuration.voters) == 3)

    @inlineCallbacks
    def poll(self, condition: Any) -> Generator[Deferred[Any], Any, None]:
        end = time.monotonic() + DEADLINE
        while not condition():
            self.assertLess(time.monotonic(), end)
            yield deferLater(self.reactor, 0.01)

    @inlineCallbacks
    def test_execute_on_each_member(self) -> Generator[Deferred[Any], Any, None]:
        """Writes and reads are forwarded to the leader; values and errors come back."""
        yield self.start_three()
        for number, node in enumerate(self.nodes, 1):
            drawn = yield node.execute("TICKET", "bakery")
            self.assertEqual(drawn, number)
            last = yield node.execute(b"LAST", b"bakery", consistency=finn.Consistency.HIGH)
            self.assertEqual(last[0], number)
            yield self.assertFailure(node.execute("TICKET", "bakery", 0), finn.CommandError)
            yield self.assertFailure(node.execute("NOSUCH"), finn.CommandError)
            yield self.assertFailure(node.execute("TICKET"), finn.CommandError)

    @inlineCallbacks
    def test_many_at_once(self) -> Generator[Deferred[Any], Any, None]:
        """Commands of all members at the same time are applied once each."""
        yield self.start_three()
        drawn = yield gatherResults(
            [node.execute("TICKET", "q") for _ in range(200) for node in self.nodes]
        )
        self.assertEqual(sorted(drawn), list(range(1, 601)))

    @inlineCallbacks
    def test_without_a_majority(self) -> Generator[Deferred[Any], Any, None]:
        """The outcome is unknown, or nothing was applied: never a Deferred that does not fire."""
        yield self.start_three(election_timeout=0.5)
        first, *others = self.nodes
        yield first.execute("TICKET", "q")
        for node in others:
            yield node.stopService()
        for _ in range(2):
            yield self.assertFailure(
                first.execute("TICKET", "q", timeout=1), finn.NotApplied, finn.OutcomeUnknown
            )

    @inlineCallbacks
    def test_stop_and_start_again(self) -> Generator[Deferred[Any], Any, None]:
        """A stopped node leaves its folder free for another one."""
        first = self.make()
        first.startService()
        yield first.when_ready()
        self.assertEqual((yield first.execute("TICKET", "q")), 1)
        yield first.stopService()
        again = finn.Node(self.reactor, Tickets(), first.options)
        self.nodes.append(again)
        again.startService()
        yield again.when_ready()
        self.assertEqual((yield again.execute("TICKET", "q")), 2)

    @inlineCallbacks
    def test_start_failed(self) -> Generator[Deferred[Any], Any, None]:
        """A folder in use is told by ``startService``, and harms nobody."""
        first = self.make()
        first.startService()
        yield first.when_ready()
        other = finn.Node(self.reactor, Tickets(), first.options)
        self.assertRaises(StartFailed, other.startService)
        self.assertEqual((yield first.execute("TICKET", "q")), 1)
