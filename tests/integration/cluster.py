"""Clusters of node processes, and the test case that starts and reaps them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.itrial import IReporter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.integration.ports import free_port
from tests.integration.process import DEADLINE, NodeProcess, until
from tests.integration.resp import Access, ErrorReply, FollowingClient

START_ATTEMPTS = 5
TAIL_LINES = 60


class Cluster:
    """Nodes in one folder, as in some terminals.

    Args:
        folder: of all of them.
        flags: of all of them.

    Attributes:
        access: how clients are let in, None when anybody is.
    """

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self.folder = folder
        self.flags = list(flags)
        self.access: Access | None = None
        self.nodes: list[NodeProcess] = []

    def add(self, *flags: str, port: int = 0, runner: Sequence[str] = ()) -> NodeProcess:
        """Make a node; it is not started."""
        node = NodeProcess(
            self.folder,
            port or free_port(),
            [*self.flags, *flags],
            runner or ("twistd", "-n"),
        )
        node.access = self.access
        self.nodes.append(node)
        return node

    def found(self, *flags: str) -> NodeProcess:
        """Start the first node of a new cluster, on another port when its own was just taken."""
        for attempt in range(START_ATTEMPTS):
            node = self.add(*flags).start()
            try:
                return node.wait_for("Leader")
            except AssertionError:
                if attempt == START_ATTEMPTS - 1 or "cannot listen" not in node.log():
                    raise
                self.nodes.remove(node)
        raise AssertionError

    def start(self, count: int = 3) -> Cluster:
        """Start nodes of which the first leads, and wait until all vote."""
        first = self.found()
        for _ in range(count - 1):
            self.add("--join", first.address).start()
        return self.wait_ready()

    def wait_ready(self, deadline: float = DEADLINE) -> Cluster:
        """Wait until every running node is a ready voter."""
        for node in self.running:
            node.wait_ready(deadline)
        return self

    @property
    def running(self) -> list[NodeProcess]:
        """The nodes whose process is there."""
        return [node for node in self.nodes if node.running]

    @property
    def ports(self) -> list[int]:
        """Where clients may ask."""
        return [node.port for node in self.nodes]

    def client(self, timeout: float = 5.0) -> FollowingClient:
        """Return a client that follows ``TRY``."""
        return FollowingClient(self.ports, timeout, self.access)

    def leader(self, deadline: float = DEADLINE) -> NodeProcess:
        """Wait until the running nodes agree on a leader, and return it."""

        def agreed() -> NodeProcess | None:
            leaders = {node.leader() for node in self.running}
            return self.by_address(leaders.pop() or "") if len(leaders) == 1 else None

        found = until(agreed, "a leader all know", deadline)
        assert found is not None
        return found

    def by_address(self, address: str) -> NodeProcess | None:
        """Return the node called so."""
        return next((node for node in self.nodes if node.address == address), None)

    def followers(self) -> list[NodeProcess]:
        """Return the running nodes that do not lead."""
        leader = self.leader()
        return [node for node in self.running if node is not leader]

    def wait_equal(self, deadline: float = DEADLINE) -> None:
        """Wait until all running nodes have applied the same, all there is."""

        def equal() -> bool:
            seen = [node.stats() for node in self.running]
            applied = {stats["applied_index"] for stats in seen}
            return len(applied) == 1 and applied == {stats["last_log_index"] for stats in seen}

        until(equal, "all nodes have applied the same", deadline)

    def peers(self) -> dict[str, str]:
        """Return RAFTPEERS of the leader."""
        words = [word.decode() for word in self.leader().do("RAFTPEERS")]
        return dict(zip(words[::2], words[1::2], strict=True))

    def reap(self) -> None:
        """No process is left."""
        for node in self.nodes:
            node.reap()

    def tails(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(
            f"---- log of {node.address} ({node.log_path})\n{node.tail(TAIL_LINES)}"
            for node in self.nodes
        )


@implementer(IReporter)
class _Watch:
    """Passes everything to a reporter, and remembers whether a test failed."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    def addError(self, *args: Any) -> None:
        self.failed = True
        self._result.addError(*args)

    def addFailure(self, *args: Any) -> None:
        self.failed = True
        self._result.addFailure(*args)


class IntegrationTestCase(SynchronousTestCase):
    """Starts clusters, reaps them, and shows their logs when a test fails.

    Blocking is fine here: no reactor runs in this process.
    """

    def setUp(self) -> None:
        self._clusters: list[Cluster] = []

    def tearDown(self) -> None:
        for cluster in self._clusters:
            cluster.reap()

    def run(self, result: Any) -> Any:
        """Run the test; its cleanup is done when the logs are shown."""
        watch = _Watch(result)
        outcome = super().run(watch)
        if watch.failed:
            for cluster in self._clusters:
                print(f"\n{self.id()}:\n{cluster.tails()}", file=sys.stderr)
        return outcome

    def cluster(self, *flags: str) -> Cluster:
        """Make a cluster in a folder of its own; nothing is started."""
        cluster = Cluster(Path(self.mktemp()).resolve(), flags)
        self._clusters.append(cluster)
        return cluster

    def assertError(self, reply: Any, text: str) -> None:
        """Check an error reply."""
        self.assertEqual(reply, ErrorReply(text))

    def report(self, text: str) -> None:
        """Tell a measurement."""
        print(f"\n  {self.id().rpartition('.')[2]}: {text}", file=sys.stderr)
