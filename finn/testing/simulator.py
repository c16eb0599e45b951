"""One simulated run: a cluster, clients, faults, and a watch on every promise."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from finn.options import Consistency, Durability, NodeOptions
from finn.raft.core import Raft
from finn.testing.clients import Client, Request, Violation
from finn.testing.computer import Computer
from finn.testing.drawing import DISKS, Drawn, draw
from finn.testing.faults import TIDY, Faults
from finn.testing.history import Operation, Outcome
from finn.testing.invariants import Invariants, Seen
from finn.testing.linearizability import Verdict, check
from finn.testing.reactor import SimulatedReactor
from finn.testing.workload import RegisterWorkload, Workload
from finn.testing.world import World

PORT = 7000
STRETCH = 60.0
"""Seconds of faults before everything has to come right again."""
ELECTION_BOUND = 25.0
"""Seconds after which the healed cluster serves."""
SETTLE_BOUND = 120.0
"""Seconds after which all nodes are equal."""
_STEP = struct.Struct("<dI")


class Simulation:
    """A run; everything in it comes of the seed.

    Args:
        seed: of the run.
        drawn: its options; drawn from the seed if None.
        log: told in words what happens, for people.
        workload: what is served and asked; registers if None.

    Attributes:
        computers: all of them, the spares too.
        weak: computers that lost power and have not been brought up to date since.
        outcomes: how many operations ended how.
    """

    def __init__(
        self,
        seed: int,
        drawn: Drawn | None = None,
        log: Callable[[str], None] | None = None,
        workload: Workload | None = None,
    ) -> None:
        self.seed = seed
        self.drawn = drawn if drawn is not None else draw(Random(f"{seed}/options"))
        self.world = World(seed, self.drawn.network_settings)
        self.workload = workload or RegisterWorkload(self.drawn.keys)
        self.invariants = Invariants(self.workload)
        self.weak: dict[Computer, None] = {}
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.longest_gap = 0.0
        self._log = log
        self._trace = hashlib.blake2b(digest_size=16)
        self._random = self.world.random("simulation")
        self._seen: dict[Computer, Seen] = {}
        self._stretch = 0
        self._history: list[Operation] = []
        self._last_ok = 0.0
        self.computers = [self._computer(n) for n in range(self.drawn.size + self.drawn.spares)]
        self.faults = Faults(self, self.world.random("faults"))
        self._admin = self.world.reactor("10.0.2.1")
        self._clients = [self._client(n) for n in range(self.drawn.clients)]
        self.world.scheduler.after = self._after
        self.world.network.tap = self._tap

    # -- building -----------------------------------------------------------------------------

    def _computer(self, n: int) -> Computer:
        drawn = self.drawn
        address = f"10.0.0.{n + 1}:{PORT}"
        founders = [f"10.0.0.{m + 1}:{PORT}" for m in range(drawn.size)]
        options = NodeOptions(
            address=address,
            listen=f"tcp:{PORT}:interface=10.0.0.{n + 1}",
            directory="data",
            join=founders,
            durability=drawn.durability,
            consistency=drawn.consistency,
            snapshot_bytes=drawn.snapshot_bytes,
            trailing_bytes=drawn.trailing_bytes,
        )
        mean = DISKS[drawn.disk]

        def latency(random: Random) -> float:
            return mean * (0.5 + random.random() + (20.0 if random.random() < 0.01 else 0.0))

        random = self._random
        rate = 1.0 + drawn.drift * random.uniform(-1, 1)
        offset = random.choice((0.0, random.uniform(-1, 1), random.uniform(-3600, 3600)))

        def machine() -> Any:
            return self.workload.machine(self.invariants.witness)

        return Computer(self.world, options, machine, latency, rate, offset, drawn.gather)

    def _client(self, n: int) -> Client:
        drawn = self.drawn
        return Client(
            f"c{n}",
            self.world.reactor(f"10.0.1.{n + 1}"),
            self.world.random(f"client {n}"),
            lambda: [c.address for c in self.computers if c.runs],
            self._operation,
            self._told,
            drawn.clients / drawn.rate,
            self.workload,
        )

    def _operation(self, random: Random, operation_id: bytes) -> list[bytes]:
        return self.workload.draw(random, operation_id, self._stretch, self._history)

    # -- watching -----------------------------------------------------------------------------

    def _after(self, process: SimulatedReactor) -> None:
        self._trace.update(_STEP.pack(self.world.scheduler.now, process.number))
        computer = process.owner
        if computer is not None and computer.running:
            self.invariants.look(computer, self._seen[computer])
            if computer.failure is not None:
                self._check_failure(computer)
            if self.weak and computer in self.weak:
                raft = computer.node.raft
                if raft is not None and not raft.amnesic:
                    del self.weak[computer]

    def _check_failure(self, computer: Computer) -> None:
        if computer in self.faults.broken:
            del self.faults.broken[computer]
            computer.failure_expected = True
            self.faults.failed(computer)
        if not computer.failure_expected:
            raise Violation(f"{computer.address} failed: {computer.failure!r}")

    def _tap(self, pipe: Any, piece: Any) -> None:
        self._trace.update(piece if type(piece) is bytes else piece.encode())

    def _told(self, operation_id: bytes, operation: Operation) -> None:
        self.outcomes[operation.outcome] += 1
        self._history.append(operation)
        now = self.world.now
        if operation.outcome is Outcome.OK:
            self.longest_gap = max(self.longest_gap, now - self._last_ok)
            self._last_ok = now
        self.invariants.told(operation_id, operation)

    def say(self, text: str) -> None:
        """Note what happens."""
        self._trace.update(text.encode())
        if self._log is not None:
            self._log(f"{self.world.now:11.6f} {text}")

    # -- what faults and operators do ---------------------------------------------------------

    def start(self, computer: Computer) -> None:
        """Start a node."""
        self._seen[computer] = Seen()
        self.faults.broken.pop(computer, None)
        computer.failure_expected = False
        computer.start()

    def cut_power(self, computer: Computer) -> None:
        """Cut the power of a computer."""
        computer.cut_power()
        if self.drawn.durability is not Durability.HIGH:
            self.weak[computer] = None

    def request(self, address: str, *words: str) -> Deferred[Any]:
        """Ask one member something as an administrator."""
        request = Request(self._admin, address, [word.encode() for word in words])
        return request.deferred.addCallback(self._answered)

    def _answered(self, reply: Any) -> Any:
        self.say(f"answer: {reply!r}")
        return reply

    def _cores(self) -> list[Raft]:
        nodes = [c.node for c in self.computers if c.running]
        return [n.raft for n in nodes if n.raft is not None]

    def _last_cores(self) -> list[Raft | None]:
        """Return the core of each node, as it was last where the node is down; None: not yet."""
        drivers = [c.node.driver for c in self.computers if c.runs]
        return [None if driver is None else driver.raft for driver in drivers]

    def _newest(self) -> Raft | None:
        """Return the core with the newest configuration of those that run, or did.

        None where nobody knows any: a newcomer that waits has an empty one.
        """
        for cores in (self._cores(), self._last_cores()):
            known = [core for core in cores if core is not None and core.configuration.members]
            if known:
                return max(known, key=lambda core: core.configuration.index)
        return None

    def members(self) -> list[Computer]:
        """Return the computers whose nodes are members, by the newest configuration."""
        newest = self._newest()
        if newest is None:
            return []
        member = newest.configuration.get
        return [c for c in self.computers if c.runs and member(c.node.identity.node_id)]

    def has_removed(self, computer: Computer) -> bool:
        """Whether the members are committed, as far as anybody knows, and a node is none."""
        newest = self._newest()
        node = computer.node
        return node.identity.removed or (
            newest is not None
            and self.invariants.has_committed(newest.log, newest.configuration.index)
            and newest.configuration.get(node.identity.node_id) is None
        )

    def all_remember(self) -> bool:
        """Whether no node may have forgotten anything, or is about to."""
        sound = all(raft is not None and not raft.amnesic for raft in self._last_cores())
        return sound and not self.weak and not self.faults.broken

    def is_agreed(self) -> bool:
        """Whether all running nodes have the same members in their configuration."""
        members = {frozenset(m.id for m in raft.configuration.members) for raft in self._cores()}
        return len(members) == 1 and self.addresses_known()

    def addresses_known(self) -> bool:
        """Whether all nodes run, and every one knows all members by their addresses."""
        if not all(c.running for c in self.computers if c.runs):
            return False
        where = {c.node.identity.node_id: c.address for c in self.computers if c.running}
        return all(
            where.get(m.id) == m.address
            for raft in self._cores()
            for m in raft.configuration.members
        )

    def quorum(self) -> int:
        """Return the majority of the smallest configuration that any running node knows."""
        return self.fewest_voters() // 2 + 1

    def fewest_voters(self) -> int:
        """Return the number of voters of that configuration."""
        known = [raft.configuration for raft in self._cores()]
        return min([len(c.voters) for c in known if c.members], default=1)

    # -- the course of a run ------------------------------------------------------------------

    def run(self, seconds: float) -> str:
        """Run for so long, and until everything came right again.

        Returns:
            The hash of everything that happened.

        Raises:
            Violation: a promise was broken.
        """
        for computer in self.computers[: self.drawn.size]:
            self.start(computer)
        self._wait(lambda: len(self.members()) == self.drawn.size and self._equal(), 60, "founding")
        while True:
            self._run_stretch(min(STRETCH, seconds - self.world.now))
            if self.world.now >= seconds:
                break
        if self.drawn.finale:
            self._finale()
        return self.trace

    @property
    def trace(self) -> str:
        """Hash of everything that happened up to now."""
        return self._trace.copy().hexdigest()

    def _run_stretch(self, seconds: float) -> None:
        self._stretch += 1
        self._history.clear()
        self.say(f"stretch {self._stretch}")
        self._resume_clients()
        self.faults.begin()
        self._advance(max(seconds, 1.0))
        self.say("everything heals")
        self._heal()
        self._settle(ELECTION_BOUND)
        # At low a read may be stale; the writes alone must fit in any case.
        low = self.drawn.consistency is Consistency.LOW
        history = [op for op in self._history if not low or not self.workload.is_read(op.input)]
        result = check(history, self.workload.model)
        if result.verdict is Verdict.VIOLATED:
            raise Violation(str(result))
        self.invariants.forget()

    def _heal(self) -> None:
        self.faults.end()
        for computer in list(self.faults.removed):
            self.faults.rejoin(computer)
        for computer in self.computers:
            computer.files.heal()
            if computer.runs and (computer.failure is not None or not computer.running):
                computer.kill()
                self.start(computer)

    def _settle(self, bound: float) -> None:
        """Wait for a leader and progress, then for all nodes to be equal; check what they have."""
        healed = self.world.now
        self._wait(lambda: self._last_ok > healed, bound, "progress after healing")
        for client in self._clients:
            client.idle = True
        self._wait(lambda: not any(c.busy for c in self._clients), 60, "end of operations")
        self.world.scheduler.later(TIDY, self.faults.tidy)
        self._wait(self._equal, SETTLE_BOUND, "equality of all nodes")
        equal = self.members() if self.invariants.lenient else self.computers
        self.invariants.settled([c for c in equal if c.runs])

    def _resume_clients(self) -> None:
        for client in self._clients:
            client.idle = False
            client.start()

    def _finale(self) -> None:
        """All lose power at once, at a durability that does not promise to survive that."""
        self.say("everybody loses power")
        self.invariants.lenient = True
        for computer in self.computers:
            if computer.running:
                self.cut_power(computer)
        self._resume_clients()
        self._advance(3.0)
        self._heal()
        self._settle(60.0)

    def _equal(self) -> bool:
        """Whether all nodes that were ever started are voters and have applied the same."""
        computers = [c for c in self.computers if c.runs]
        if self.invariants.lenient:
            # Additions may be among what was lost.
            computers = self.members()
        nodes = [c.node for c in computers]
        if not all(n.running and n.raft is not None and not n.raft.amnesic for n in nodes):
            return False
        last = {n.raft.log.last_index for n in nodes if n.raft is not None}
        applied = {n.applying.last_applied for n in nodes}
        return (
            last == applied
            and len(last) == 1
            and sum(n.raft.leader is not None for n in nodes if n.raft is not None) == 1
            and all(n.raft is not None and n.raft.is_voter for n in nodes)
        )

    def _advance(self, seconds: float) -> None:
        self.world.scheduler.run_until(self.world.now + seconds)

    def _wait(self, condition: Callable[[], bool], bound: float, what: str) -> None:
        end = self.world.now + bound
        while not condition():
            if self.world.now >= end:
                raise Violation(f"no {what} within {bound:g} s: {self.describe()}")
            self._advance(0.05)

    def describe(self) -> str:
        """Say how every node is."""
        return "\n" + "\n".join(_describe(c) for c in self.computers if c.runs)


def _describe(computer: Computer) -> str:
    node = computer.node
    raft = node.raft
    state = "runs" if computer.running else "is down"
    if raft is None:
        return f"  {computer.address} {state}, no core, failure {computer.failure!r}"
    members = " ".join(
        m.address + ("" if m.voter else " (learner)") for m in raft.configuration.members
    )
    return (
        f"  {computer.address} {state} as {node.identity.node_id:x} {raft.role.value} of term "
        f"{raft.current_term}, log {raft.log.first_index}..{raft.log.last_index}, "
        f"commit {raft.commit_index}, applied {node.applying.last_applied}, "
        f"leader {raft.leader_address}, amnesic {raft.amnesic}, removed {raft.removed}, "
        f"failure {computer.failure!r}; members {members}"
    )
