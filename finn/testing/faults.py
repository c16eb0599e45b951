"""What goes wrong in a simulated run, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from finn.options import Durability
from finn.testing.computer import Computer
from finn.testing.drawing import FAULTS
from finn.testing.faulty import FaultyFiles

if TYPE_CHECKING:
    from finn.testing.simulator import Simulation

STOP_LIMIT = 30.0
TIDY = 10.0
"""Seconds between two looks of the operator while everything comes right again."""


class Faults:
    """Lets things go wrong at random, and right again.

    Args:
        simulation: the run.
        random: source of what is drawn.
    """

    def __init__(self, simulation: Simulation, random: Random) -> None:
        self._simulation = simulation
        self._random = random
        self._world = simulation.world
        self._ends: dict[int, Callable[[], None]] = {}
        self._number = 0
        self._active = False
        self._generation = 0
        self.removed: dict[Computer, None] = {}
        self._targets: dict[Computer, None] = {}
        self.broken: dict[Computer, None] = {}
        self.counts: dict[str, int] = {}

    # -- the course of things -----------------------------------------------------------------

    def begin(self) -> None:
        """Let the first fault come."""
        self._active = True
        self.broken.clear()
        self._generation += 1
        self._later(self._generation)

    def _later(self, generation: int) -> None:
        pause = self._random.expovariate(1.0 / self._simulation.drawn.pace)
        self._world.scheduler.later(pause, self._happen, generation)

    def _happen(self, generation: int) -> None:
        if not self._active or generation != self._generation:
            return
        kinds = self._simulation.drawn.faults
        if kinds:
            kind = self._random.choices(kinds, [FAULTS[k] for k in kinds])[0]
            if getattr(self, f"_{kind}")() is not False:
                self.counts[kind] = self.counts.get(kind, 0) + 1
        self._later(generation)

    def end(self) -> None:
        """Let everything be well again, now."""
        self._active = False
        ends, self._ends = self._ends, {}
        for end in ends.values():
            end()
        self._world.network.heal()
        self._world.network.settings.loss = self._simulation.drawn.loss

    def _until(self, seconds: float, end: Callable[[], None]) -> None:
        """Call ``end`` after a while, or when everything has to be well."""
        self._number += 1
        number = self._number
        self._ends[number] = end
        self._world.scheduler.later(seconds, self._over, number)

    def _over(self, number: int) -> None:
        end = self._ends.pop(number, None)
        if end is not None:
            end()

    def _duration(self) -> float:
        """Draw how long a fault lasts: mostly seconds, sometimes less than a heartbeat."""
        return self._random.choice((0.05, 0.5, 2.0, 5.0, 10.0)) * self._random.uniform(0.5, 1.5)

    def _victim(self, condition: Callable[[Computer], bool]) -> Computer | None:
        """Draw a computer; the leader is as likely as all others together."""
        found = [c for c in self._simulation.computers if condition(c)]
        leaders = [c for c in found if c.leads]
        if leaders and self._random.random() < 0.5:
            found = leaders
        return self._random.choice(found) if found else None

    def _say(self, text: str) -> None:
        self._simulation.say(text)

    # -- processes and computers --------------------------------------------------------------

    def _crash(self) -> bool:
        victim = self._victim(lambda c: c.running)
        if victim is None:
            return False
        self._say(f"crash of {victim.address}")
        victim.kill()
        self._until(self._duration(), lambda: self._start(victim))
        return True

    def _start(self, computer: Computer) -> None:
        if not computer.running:
            self._say(f"start of {computer.address}")
            self._simulation.start(computer)

    def _power(self) -> bool:
        victim = self._victim(lambda c: c.running and self._may_lose_power(c))
        if victim is None:
            return False
        self._say(f"power of {victim.address} is cut")
        self._simulation.cut_power(victim)
        self._until(self._duration(), lambda: self._start(victim))
        return True

    def _may_lose_power(self, computer: Computer) -> bool:
        """Say whether no promise is broken by it."""
        simulation = self._simulation
        if simulation.drawn.durability is Durability.HIGH:
            return True
        if self.removed or not simulation.is_agreed():
            return False
        weak = {c for c in simulation.computers if c in simulation.weak or c is computer}
        return len(weak) < simulation.quorum()

    def _stop(self) -> bool:
        victim = self._victim(lambda c: c.running and not c.node.stopping)
        if victim is None:
            return False
        self._say(f"stop of {victim.address}")
        run = victim.runs

        def restart() -> None:
            if victim.running and victim.runs == run:
                self._say(f"{victim.address} has not stopped yet and is killed")
                victim.kill()
            self._start(victim)

        victim.stop()
        self._until(STOP_LIMIT if self._random.random() < 0.1 else self._duration(), restart)
        return True

    def _pause(self) -> bool:
        victim = self._victim(lambda c: c.running and not c.reactor.paused)
        if victim is None:
            return False
        self._say(f"pause of {victim.address}")
        victim.pause()
        self._until(self._duration(), victim.resume)
        return True

    def _jump(self) -> bool:
        victim = self._victim(lambda c: True)
        assert victim is not None
        seconds = self._random.choice((-1, 1)) * self._random.choice((0.3, 1.5, 60.0, 4000.0))
        self._say(f"clock of {victim.address} jumps by {seconds}")
        victim.jump(seconds)
        return True

    # -- network ------------------------------------------------------------------------------

    def _hosts(self) -> list[str]:
        hosts = [c.host for c in self._simulation.computers]
        self._random.shuffle(hosts)
        return hosts

    def _partition(self, *groups: list[str]) -> None:
        self._say("partition " + " | ".join(" ".join(group) for group in groups))
        network = self._world.network
        network.partition(*groups)
        self._until(self._duration(), network.heal)

    def _isolate(self) -> bool:
        victim = self._victim(lambda c: True)
        assert victim is not None
        self._partition([victim.host], [h for h in self._hosts() if h != victim.host])
        return True

    def _split(self) -> bool:
        hosts = self._hosts()
        at = self._random.randrange(1, len(hosts)) if len(hosts) > 1 else 1
        self._partition(hosts[:at], hosts[at:])
        return True

    def _bridge(self) -> bool:
        """Two sides that only one host can reach, both."""
        middle, *hosts = self._hosts()
        at = len(hosts) // 2
        self._partition([middle, *hosts[:at]], [middle, *hosts[at:]])
        return True

    def _star(self) -> bool:
        """Nobody reaches anybody but one in the middle."""
        middle, *hosts = self._hosts()
        self._partition(*[[middle, host] for host in hosts])
        return True

    def _one_way(self) -> bool:
        victim = self._victim(lambda c: True)
        assert victim is not None
        network = self._world.network
        others = [h for h in self._hosts() if h != victim.host]
        others = others[: self._random.randint(1, max(1, len(others)))]
        out = self._random.random() < 0.5
        self._say(f"cut {'from' if out else 'to'} {victim.host}, {' '.join(others)}")
        for other in others:
            if out:
                network.cut(victim.host, other)
            else:
                network.cut(other, victim.host)
        self._until(self._duration(), network.heal)
        return True

    def _slow_link(self) -> bool:
        hosts = self._hosts()
        if len(hosts) < 2:
            return False
        one, other = hosts[:2]
        seconds = self._random.choice((0.02, 0.1, 0.5, 2.0))
        self._say(f"{one} to {other} takes {seconds} s")
        network = self._world.network
        network.slow(one, other, seconds)
        self._until(self._duration(), lambda: network.slow(one, other, 0))
        return True

    def _loss(self) -> bool:
        settings = self._world.network.settings
        settings.loss = self._random.choice((0.05, 0.2, 0.4))
        self._say(f"loss of {settings.loss}")

        def end() -> None:
            settings.loss = self._simulation.drawn.loss

        self._until(self._duration(), end)
        return True

    def _reset(self) -> bool:
        hosts = self._hosts()
        if len(hosts) < 2:
            return False
        self._say(f"connections from {hosts[0]} to {hosts[1]} are reset")
        self._world.network.reset_connections(hosts[0], hosts[1])
        return True

    # -- disks --------------------------------------------------------------------------------

    def _slow_disk(self) -> bool:
        victim = self._victim(lambda c: c.running)
        if victim is None:
            return False
        files, seconds = victim.files, self._random.choice((0.02, 0.1, 0.5, 3.0))
        self._say(f"syncs of {victim.address} take {seconds} s")
        files.slow("datasync", seconds)

        def end() -> None:
            files.slow("datasync", 0)
            victim.files.slow("datasync", 0)

        self._until(self._duration(), end)
        return True

    def _hang_disk(self) -> bool:
        victim = self._victim(lambda c: c.running)
        if victim is None:
            return False
        disk = victim.disk
        self._say(f"disk of {victim.address} hangs")
        disk.hang()
        self._until(self._duration(), disk.resume)
        return True

    def _fail_disk(self) -> bool:
        if self.removed or not self._simulation.is_agreed():
            return False  # what is torn makes it amnesic, as a loss of power does
        victim = self._victim(lambda c: c.running)
        if victim is None:
            return False
        kind = self._random.choice(("datasync", "write"))
        self._say(f"a {kind} of {victim.address} will fail")
        self.broken[victim] = None
        victim.files.fail(kind)
        return True

    def failed(self, computer: Computer) -> None:
        """A node gave up as its disk was broken on purpose: somebody starts it again."""

        def replace() -> None:
            if computer.failure is not None:
                computer.kill()
                self._start(computer)

        self._until(self._duration() + 1.0, replace)

    # -- operators ----------------------------------------------------------------------------

    def _ask(self, *words: str) -> Any:
        member = self._victim(lambda c: c.running)
        if member is None:
            return False
        self._say(" ".join(words))
        return self._simulation.request(member.address, *words)

    def _transfer(self) -> bool:
        target = self._victim(lambda c: c.running)
        if target is None:
            return False
        address = [target.address] if self._random.random() < 0.5 else []
        self._ask("RAFTTRANSFER", *address)
        return True

    def _snapshot(self) -> bool:
        return self._ask("RAFTSNAPSHOT") is not False

    def _remove(self) -> bool:
        simulation = self._simulation
        if self.removed or len(simulation.members()) < 3:
            return False
        if not simulation.all_remember() or not simulation.addresses_known():
            # Whoever remembers must stay a majority of those who can reach each other.
            return False
        victim = self._victim(lambda c: c.running and c in simulation.members())
        if victim is None:
            return False
        asked = self._ask("RAFTREMOVEPEER", victim.address)
        if asked is False:
            return False
        self.removed[victim] = self._targets[victim] = None
        self._until(self._duration() + 3.0, lambda: self.rejoin(victim))
        return True

    def rejoin(self, victim: Computer) -> None:
        """An operator starts a removed node again, with its old flags."""
        simulation = self._simulation
        if self.removed.pop(victim, self) is not None:
            return
        removed = simulation.has_removed(victim)
        if not removed:
            self._say(f"{victim.address} was not removed after all, or not yet")
            if victim.running:
                return
        victim.kill()
        if removed and not victim.node.identity.removed:
            self._say(f"{victim.address} does not know of its removal and gets an empty disk")
            victim.files = FaultyFiles()
            victim.options.join = []
        self._tell_addresses(victim)
        self._start(victim)

    def tidy(self) -> None:
        """An operator looks after what did not come out as it should.

        Removals of unknown outcome may have come about, and newcomers may ask for membership where
        nobody is any more.
        """
        simulation = self._simulation
        if self._active or simulation.invariants.lenient:
            return
        self._world.scheduler.later(TIDY, self.tidy)
        members = simulation.members()
        if not any(c.leads for c in members):
            return
        addresses = {c.address for c in members}
        for computer in simulation.computers:
            waits = computer.running and not computer.node.identity.joined
            if waits and not addresses & {*computer.options.join} - {computer.address}:
                self._say(f"{computer.address} asks nobody who is there")
                computer.kill()
                self._tell_addresses(computer)
                self._start(computer)
        for victim in list(self._targets):
            if simulation.has_removed(victim) and victim.node.identity.joined:
                self.removed[victim] = None
                self.rejoin(victim)

    def _tell_addresses(self, computer: Computer) -> None:
        """The operator adds where the members are now to the flags; what was there stays first."""
        options = computer.options
        known = [c.address for c in self._simulation.members() if c is not computer]
        options.join = list(dict.fromkeys([*options.join[:1], *known]))

    def _add(self) -> bool:
        spare = next((c for c in self._simulation.computers if not c.runs), None)
        if spare is None:
            return False
        self._say(f"{spare.address} joins")
        self._tell_addresses(spare)
        self._simulation.start(spare)
        return True

    def _move(self) -> bool:
        """Stop a node and start it under another address."""
        victim = self._victim(lambda c: c.running)
        if victim is None or len(self._simulation.members()) < 2:
            return False
        simulation = self._simulation
        if self.removed or not (simulation.all_remember() and simulation.addresses_known()):
            return False  # two that moved at once could not find each other
        others = [c for c in simulation.members() if c.running and c is not victim]
        # Two that exchange their addresses find a third, and nobody else would find them.
        if simulation.fewest_voters() > 2 and others and self._random.random() < 0.5:
            return self._exchange(victim, self._random.choice(others))
        host, _, port = victim.address.partition(":")
        *head, last = host.split(".")
        moved = ".".join([*head, str(int(last) % 100 + 100 * self._random.randint(0, 1))])
        moved = f"{moved}:{int(port) + 1}"
        self._say(f"{victim.address} moves to {moved}")
        victim.kill()

        def start() -> None:
            if not victim.running:
                victim.move(moved)
                self._start(victim)

        self._until(self._duration(), start)
        return True

    def _exchange(self, one: Computer, other: Computer) -> bool:
        """Stop two members and start each under the address of the other."""
        first, second = one.address, other.address
        self._say(f"{first} and {second} exchange their addresses")
        for computer in (one, other):
            computer.kill()
        one.move(second)
        other.move(first)
        for computer in (one, other):
            self._until(self._duration(), partial(self._start, computer))
        return True
