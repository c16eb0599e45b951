"""MemoryCluster: whole clusters on fake time, and what can be done to them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.errors import NotApplied
from finn.options import Consistency, Durability
from finn.testing.cluster import MemoryCluster


class Counter(finn.Machine):
    """One number."""

    def __init__(self) -> None:
        self.number = 0

    @finn.write("ADD")
    def add(self, call: finn.Call, by: int = 1) -> int:
        """Add to the number."""
        self.number += by
        return self.number

    @finn.read("SHOW")
    def show(self, call: finn.Call) -> int:
        """Return the number."""
        return self.number


class TestCluster(SynchronousTestCase):
    def cluster(self, **options: object) -> MemoryCluster:
        cluster = MemoryCluster(Counter, **options)  # type: ignore[arg-type]
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def test_it_serves_on_every_member(self) -> None:
        """Writes and reads work wherever they are given, and all machines end up equal."""
        cluster = self.cluster()
        for member in range(3):
            self.assertEqual(cluster.execute("ADD", on=member), member + 1)
        self.assertEqual(cluster.execute("SHOW", on=1, consistency=Consistency.HIGH), 3)
        cluster.advance(1)
        self.assertEqual([cluster.machine(member).number for member in range(3)], [3, 3, 3])

    def test_a_crash_is_survived(self) -> None:
        """Another member takes over in a moment, the crashed one comes back and catches up."""
        cluster = self.cluster()
        cluster.execute("ADD")
        old = cluster.leader()
        cluster.crash(old)
        before = cluster.world.now
        self.assertEqual(cluster.execute("ADD"), 2)
        self.assertLess(cluster.world.now - before, 0.3)
        cluster.restart(old)
        cluster.wait_until(lambda: cluster.machine(old).number == 2)

    def test_a_loss_of_power_is_survived_at_high(self) -> None:
        """With durability high all may lose power at once."""
        cluster = self.cluster(durability=Durability.HIGH)
        cluster.execute("ADD", 5)
        for member in range(3):
            cluster.cut_power(member)
        cluster.start()
        self.assertEqual(cluster.execute("SHOW"), 5)

    def test_a_minority_does_not_serve(self) -> None:
        """A leader that is cut off steps down; the majority goes on; both meet again."""
        cluster = self.cluster()
        old = cluster.leader()
        cluster.partition([old])
        cluster.advance(3)
        self.assertNotEqual(cluster.leader(), old)
        self.assertRaises(NotApplied, cluster.execute, "SHOW", on=old)
        self.assertEqual(cluster.execute("ADD"), 1)
        cluster.heal()
        cluster.wait_until(lambda: cluster.machine(old).number == 1)

    def test_a_paused_leader_is_replaced(self) -> None:
        """A process that stands still loses leadership, and sees that when it goes on."""
        cluster = self.cluster()
        old = cluster.leader()
        cluster.pause(old)
        cluster.advance(4)
        self.assertNotEqual(cluster.leader(), old)
        self.assertEqual(cluster.execute("ADD"), 1)
        cluster.resume(old)
        cluster.advance(0.001)
        self.assertFalse(cluster.computers[old].leads)

    def test_a_stop_hands_over(self) -> None:
        """An orderly stop takes less than a tenth of a second of service."""
        cluster = self.cluster()
        old = cluster.leader()
        done = cluster.computers[old].stop()
        before = cluster.world.now
        self.assertEqual(cluster.execute("ADD"), 1)
        self.assertLess(cluster.world.now - before, 0.1)
        cluster.result(done)
        cluster.restart(old)
        cluster.wait_until(lambda: cluster.machine(old).number == 1)

    def test_a_member_can_be_added(self) -> None:
        """One more node joins, catches up and votes."""
        cluster = self.cluster()
        cluster.execute("ADD")
        member = cluster.add()
        cluster.wait_until(cluster.settled)
        self.assertEqual(cluster.machine(member).number, 1)
        self.assertEqual(len(cluster.nodes[0].raft.configuration.voters), 4)  # type: ignore[union-attr]

    def test_the_same_seed_is_the_same_run(self) -> None:
        """Ids, terms and times depend on the seed alone."""

        def run(seed: int) -> tuple[object, ...]:
            cluster = MemoryCluster(Counter, seed=seed)
            self.addCleanup(cluster.close)
            cluster.start()
            cluster.crash(cluster.leader())
            cluster.execute("ADD")
            scheduler = cluster.world.scheduler
            return scheduler.now, scheduler.steps, [n.identity.node_id for n in cluster.nodes]

        self.assertEqual(run(1), run(1))
        self.assertNotEqual(run(1), run(2))

    def test_an_unknown_option_is_refused(self) -> None:
        """A misspelled option does not go unnoticed."""
        self.assertRaises(TypeError, MemoryCluster, Counter, durable=True)
