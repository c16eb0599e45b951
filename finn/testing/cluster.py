"""A whole cluster in memory, for tests of your own service: real nodes, fake time.

::

    class TestTickets(SynchronousTestCase):
        def test_numbers_survive_the_leader(self) -> None:
            cluster = MemoryCluster(Tickets)
            self.addCleanup(cluster.close)
            cluster.start()
            self.assertEqual(cluster.execute("TICKET", "q"), 1)
            cluster.crash(cluster.leader())
            self.assertEqual(cluster.execute("TICKET", "q"), 2)

Nothing happens until the test lets time pass; then everything happens that would in that time, with
real stores on simulated disks and real protocols on a simulated network, and the same way in every
run. No threads, sockets or files, and no waiting: a second takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from finn.errors import NotApplied
from finn.node.service import Node
from finn.options import Consistency, NodeOptions
from finn.resp.request import Word
from finn.testing.computer import Computer
from finn.testing.network import NetworkSettings
from finn.testing.world import World

PORT = 7481
STEP = 0.005


class MemoryCluster:
    """Nodes in memory on one fake clock.

    Members are told by their position, 0 to ``size - 1``.

    Args:
        machine: makes the machine of each node, for instance its class; called again whenever a
            node is started anew.
        size: how many.
        seed: of all that is drawn; the same seed gives the same run.
        network: how the network is.
        options: further fields of ``NodeOptions``, for all nodes.

    Attributes:
        computers: one per member; see ``finn.testing.computer`` for all one can do to them.
        world: the time and the network.
    """

    def __init__(
        self,
        machine: Callable[[], Any],
        size: int = 3,
        seed: int = 0,
        network: NetworkSettings | None = None,
        **options: Any,
    ) -> None:
        self.world = World(seed, network)
        self.computers: list[Computer] = []
        self._machine = machine
        self._options = options
        self._addresses = [f"10.0.0.{n + 1}:{PORT}" for n in range(size)]
        for _ in range(size):
            self._build()

    def _build(self) -> Computer:
        n = len(self.computers)
        options = NodeOptions(
            address=f"10.0.0.{n + 1}:{PORT}",
            listen=f"tcp:{PORT}:interface=10.0.0.{n + 1}",
            directory="data",
            join=list(self._addresses),
        )
        for name, value in self._options.items():
            if not hasattr(options, name):
                raise TypeError(f"NodeOptions has no {name}")
            setattr(options, name, value)
        computer = Computer(self.world, options, self._machine)
        self.computers.append(computer)
        return computer

    # -- time ---------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.world.scheduler.run_until(self.world.now + seconds)

    def wait_until(self, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Let time pass until a condition holds, and return its value.

        Raises:
            TimeoutError: it does not within so many fake seconds.
        """
        scheduler = self.world.scheduler
        end = scheduler.now + timeout
        while not (value := condition()):
            if scheduler.now >= end:
                raise TimeoutError(f"{condition} does not hold after {timeout} s")
            scheduler.run_until(min(scheduler.now + STEP, end))
        return value

    def result(self, deferred: Deferred[Any], timeout: float = 30.0) -> Any:
        """Let time pass until a Deferred fires; return its value or raise its exception."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.wait_until(lambda: results, timeout)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    # -- life ---------------------------------------------------------------------------------

    def start(self, timeout: float = 30.0) -> None:
        """Start all nodes and wait until they are one cluster and ready to serve."""
        for computer in self.computers:
            if not computer.running:
                computer.start()
        self.wait_until(self.settled, timeout)

    def settled(self) -> bool:
        """Whether all running nodes are voters, ready, and agree on a leader."""
        running = [c.node for c in self.computers if c.running]
        leaders = {n.raft.leader_id for n in running if n.raft is not None}
        return len(leaders) == 1 and all(
            n.is_ready and n.raft is not None and n.raft.node_id in n.raft.configuration.voters
            for n in running
        )

    def close(self) -> None:
        """Kill everything: nothing of the cluster is left. For ``addCleanup``."""
        for computer in self.computers:
            computer.kill()

    def crash(self, member: int) -> None:
        """Kill a process (``kill -9``)."""
        self.computers[member].kill()

    def cut_power(self, member: int) -> None:
        """Cut the power of a computer: what was not synced may be lost."""
        self.computers[member].cut_power()

    def stop(self, member: int) -> None:
        """Stop a node in order, as SIGTERM does, and wait until it is done."""
        self.result(self.computers[member].stop())

    def restart(self, member: int) -> None:
        """Start a node again, with the options that it had; it is killed if it runs."""
        self.computers[member].kill()
        self.computers[member].start()

    def pause(self, member: int) -> None:
        """Stop a process for a while (SIGSTOP)."""
        self.computers[member].pause()

    def resume(self, member: int) -> None:
        """Let it go on (SIGCONT)."""
        self.computers[member].resume()

    def add(self) -> int:
        """Start one more node, which joins the cluster by itself; return its position."""
        self._build().start()
        return len(self.computers) - 1

    # -- network ------------------------------------------------------------------------------

    def partition(self, *groups: Iterable[int]) -> None:
        """Cut the groups off from each other; a member in two groups is a bridge between them.

        Members that are not named are a group of their own.
        """
        sides = [list(group) for group in groups]
        named = {member for side in sides for member in side}
        rest = [member for member in range(len(self.computers)) if member not in named]
        hosts = [[self.computers[m].host for m in side] for side in (*sides, rest) if side]
        self.world.network.partition(*hosts)

    def heal(self) -> None:
        """End all cuts."""
        self.world.network.heal()

    # -- asking -------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Node]:
        """The node of each member's latest process."""
        return [computer.node for computer in self.computers]

    def machine(self, member: int) -> Any:
        """Return the machine of a member."""
        return self.computers[member].machine

    def leader(self, timeout: float = 30.0) -> int:
        """Return the member that leads, in the newest term; wait until there is one that can.

        Raises:
            TimeoutError: there is none within so many fake seconds.
        """
        return int(self.wait_until(self._leader, timeout)) - 1

    def _leader(self) -> int:
        best = 0, 0
        for n, computer in enumerate(self.computers, 1):
            raft = computer.node.raft if computer.running else None
            if raft is not None and raft.leader is not None and raft.lease_valid(raft.now):
                best = max(best, (raft.current_term, n))
        return best[1]

    def submit(
        self,
        *words: Word,
        on: int | None = None,
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> Deferred[Any]:
        """Call ``execute`` of a node, the leader for None; lets no time pass for it."""
        member = self.leader() if on is None else on
        node = self.computers[member].node
        return node.execute(*words, consistency=consistency, timeout=timeout)

    def execute(
        self,
        *words: Word,
        on: int | None = None,
        consistency: Consistency | None = None,
        timeout: float = 30.0,
    ) -> Any:
        """Run a command and let time pass until its result is there.

        Without ``on`` it is tried on the leader until it is applied or its outcome is unknown,
        with one, just once on that member.

        Raises:
            CommandError, NotApplied, OutcomeUnknown: as ``Node.execute``.
        """
        end = self.world.now + timeout
        while True:
            deferred = self.submit(*words, on=on, consistency=consistency)
            try:
                return self.result(deferred, timeout)
            except NotApplied:
                if on is not None or self.world.now >= end:
                    raise
                self.advance(STEP)
