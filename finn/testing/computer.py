"""One computer of a simulated world: files, a disk, clocks, and the process of a ``Node``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from finn.node.service import Node
from finn.node.steady import LOOK
from finn.options import NodeOptions, split_address
from finn.testing.disks import SimulatedDisk
from finn.testing.faulty import FaultyFiles
from finn.testing.reactor import SimulatedReactor
from finn.testing.world import World


class _DiskClock:
    """What a disk takes its time from: it does not mind jumps of the wall clock."""

    def __init__(self, reactor: SimulatedReactor) -> None:
        self.callLater = reactor.later


class _Batch:
    """Stands for a poller that always handles several events, for so many seconds."""

    crowded = True

    def __init__(self, reactor: SimulatedReactor, seconds: float) -> None:
        self.at_end = partial(reactor.later, seconds)
        self.soon = partial(reactor.callLater, 0)


class Computer:
    """Runs one node, again and again; what it keeps between runs is its files.

    Args:
        world: where it stands.
        options: of its node; the address says which host this is.
        machine: makes the machine of each process.
        latency: of the disk, as for ``SimulatedDisk``.
        rate: seconds of its monotonic clock per second of the world.
        offset: error of its wall clock, seconds.
        gather: seconds for which its node gathers what clients send; 0: it never does.

    Attributes:
        node: of the running process, or of the last one.
        reactor: the same.
        files: what is on the disk.
        runs: processes started so far.
        failure: why the node gave up, None while it has not.
        failure_expected: somebody broke its disk on purpose.
    """

    node: Node
    reactor: SimulatedReactor
    disk: SimulatedDisk

    def __init__(
        self,
        world: World,
        options: NodeOptions,
        machine: Callable[[], Any],
        latency: Callable[[Random], float] | None = None,
        rate: float = 1.0,
        offset: float = 0.0,
        gather: float = 0.0,
    ) -> None:
        self.world = world
        self.options = options
        self.files = FaultyFiles()
        self.runs = 0
        self.boots = 0
        self.running = False
        self.powered = True
        self.failure: BaseException | None = None
        self.failure_expected = False
        self.rate = rate
        self.offset = offset
        self._machine = machine
        self._latency = latency
        self._gather = gather
        self._name = options.address
        self._random = world.random(self._name)

    @property
    def address(self) -> str:
        """How its node is called."""
        return self.options.address

    @property
    def host(self) -> str:
        """Its IP address."""
        return split_address(self.options.address)[0]

    @property
    def machine(self) -> Any:
        """The machine of its node."""
        return self.node.host.machine

    @property
    def leads(self) -> bool:
        """Whether its node believes that it is the leader."""
        return self.running and self.node.raft is not None and self.node.raft.leader is not None

    def start(self) -> None:
        """Start a process with the node; the power is switched on if need be.

        Raises:
            StartFailed: as ``Node.startService``.
        """
        assert not self.running
        self.switch_on()
        self.runs += 1
        name = f"{self._name}/{self.runs}"
        world = self.world
        reactor = self.reactor = world.reactor(self.host, self.rate, self.offset)
        reactor.owner = self
        disk = self.disk = SimulatedDisk(
            _DiskClock(reactor), world.random(name + "/disk"), self._latency
        )
        self.files.on_slow = disk.delay
        boot_id = f"boot {self.boots} of {self._name}"
        self.failure = None
        self.node = Node(
            reactor,
            self._machine(),
            self.options,
            files=self.files,
            disk=disk,
            random=world.random(name),
            monotonic=reactor.monotonic,
            wall=reactor.seconds,
            boot_id=lambda: boot_id,
        )
        if self._gather:
            self.node.server.batch = _Batch(reactor, self._gather)
            self.node.server.crowds.few = 1
        self.running = True
        self.node.when_failed().addCallback(self._failed)
        try:
            self.node.startService()
        except BaseException:
            self.kill()
            raise

    def _failed(self, error: BaseException) -> None:
        self.failure = error

    def switch_on(self) -> None:
        """Give it power again; the node is not started yet."""
        if not self.powered:
            self.powered = True
            self.boots += 1
            network = self.world.network
            network.down.discard(self.host)
            for pipe in list(network.pipes):
                if pipe.target.gone and pipe.target_host == self.host:
                    pipe.sender.power_is_back()

    def kill(self) -> None:
        """Kill the process (SIGKILL): what it wrote to files is there for the next one."""
        if self.running:
            self._end(silently=False)
            self.files = self.files.crash()

    def cut_power(self) -> None:
        """Cut the power: what was not synced may be lost, and nobody is told."""
        if self.powered:
            self.powered = False
            self.world.network.down.add(self.host)
            if self.running:
                self._end(silently=True)
            self.files = self.files.power_cut(self._random)

    def _end(self, silently: bool) -> None:
        self.running = False
        self.offset = self.reactor.offset
        self.disk.kill()
        self.reactor.die(silently)

    def pause(self) -> None:
        """Stop the process (SIGSTOP)."""
        self.reactor.paused = True

    def resume(self) -> None:
        """Let it go on (SIGCONT): what should have happened happens now."""
        if self.reactor.paused:
            self.reactor.paused = False
            self.world.scheduler.release(self.reactor)

    def stop(self) -> Deferred[Any]:
        """Stop the node in order (SIGTERM); the process ends when it is done.

        Returns:
            Fires when it has ended.
        """
        run = self.runs

        def ended(result: Any) -> Any:
            # A process that was killed meanwhile is not this one's to end.
            if self.running and self.runs == run:
                self._end(silently=False)
                self.files = self.files.crash()
            return result

        return self.node.stopService().addBoth(ended)

    def move(self, address: str) -> None:
        """Give the computer another address; its node must not run."""
        assert not self.running
        host, port = split_address(address)
        self.options = replace(self.options, address=address, listen=f"tcp:{port}:interface={host}")

    def jump(self, seconds: float) -> None:
        """Set its wall clock forward, or back."""
        self.offset += seconds
        if self.running:
            self.reactor.jump(seconds)
            # A thread of the node notices (``SteadyReactor.watch``); here there are none.
            self.reactor.later(self._random.uniform(0.0, LOOK), self.node.reactor.look)
