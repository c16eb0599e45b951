"""A member whose committed past is not the cluster's: it takes everything anew, for good."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.cluster import MemoryCluster
from tests.node.support import Journal

SEED = 4  # the two that elect have lost more than half of what only their page cache had


class Reinstall(SynchronousTestCase):
    """All lose power; the leader's fresh snapshots are durable, its followers' logs are not.

    So at medium the followers elect without what was lost (DESIGN section 4), and the old leader
    comes back with snapshots of a past that is not theirs.
    """

    def lose_power(self) -> None:
        self.cluster = cluster = MemoryCluster(Journal, seed=SEED)
        self.addCleanup(cluster.close)
        cluster.start()
        for i in range(10):
            cluster.execute("PUT", f"old{i}", "a")
        cluster.advance(5)
        self.odd = cluster.leader()
        for part in "ab":
            for i in range(10):
                cluster.execute("PUT", f"lost{part}{i}", "b")
            cluster.result(cluster.nodes[self.odd].snapshots.take())
        self.index = cluster.nodes[self.odd].snapshots.newest.index  # type: ignore[union-attr]
        for member in range(3):
            cluster.cut_power(member)
        self.others = [m for m in range(3) if m != self.odd]
        for member in self.others:
            cluster.computers[member].start()
        cluster.wait_until(self.leads, 60)
        cluster.advance(0.5)
        self.assertLess(self.raft(self.leads()).log.last_index, self.index - 12)
        for i in range(3):
            cluster.execute("PUT", f"new{i}", "c")

    def leads(self) -> int | None:
        for member in self.others:
            if self.cluster.computers[member].leads:
                return member + 1
        return None

    def raft(self, member: int | None) -> Any:
        assert member
        return self.cluster.nodes[member - 1].raft

    def snapshots(self) -> list[int]:
        return [meta.index for meta in self.cluster.nodes[self.odd].snapshots.store.snapshots]

    def check_equal(self) -> None:
        cluster = self.cluster
        cluster.wait_until(cluster.settled)
        odd = cluster.machine(self.odd)
        cluster.wait_until(lambda: odd.values == cluster.machine(self.others[0]).values, 60)
        self.assertEqual(odd.values, cluster.machine(self.others[1]).values)

    def test_found_out_though_the_log_is_behind_its_snapshot(self) -> None:
        """Its log is compacted where the leader's ends: terms that fall give it away."""
        self.lose_power()
        cluster = self.cluster
        cluster.computers[self.odd].start()
        self.check_equal()
        # Its own snapshots, of higher indexes, are gone: they would win at every start.
        raft = self.raft(self.odd + 1)
        self.assertEqual(len(self.snapshots()), 1)
        self.assertLess(self.snapshots()[0], self.index)
        for i in range(30):
            cluster.execute("PUT", f"newer{i}", "d")
        cluster.advance(2)
        last = raft.log.last_index
        self.assertGreater(last, self.index)
        cluster.crash(self.odd)
        cluster.partition([self.odd])
        cluster.restart(self.odd)
        cluster.advance(1)
        self.assertEqual(self.raft(self.odd + 1).log.last_index, last)
        cluster.heal()
        self.check_equal()

    def test_killed_at_any_moment_of_it(self) -> None:
        """Every start finds either past whole, and ends with the cluster's."""
        for step in range(12):
            self.lose_power()
            self.kill_and_restart(step)
            self.check_equal()
            self.assertIsNone(self.cluster.computers[self.odd].failure)
            self.cluster.close()

    def kill_and_restart(self, step: int) -> None:
        """Begin to reinstall, and be killed or without power a moment later."""
        cluster = self.cluster
        computer = cluster.computers[self.odd]
        computer.start()
        cluster.wait_until(lambda: computer.node.snapshots.store and len(self.snapshots()) == 2)
        indexes = self.snapshots()
        scheduler = cluster.world.scheduler
        while self.snapshots() == indexes:
            scheduler.run_until(scheduler.now + 0.0002)
        scheduler.run_until(scheduler.now + 0.0004 * step)
        if step % 2:
            cluster.crash(self.odd)
        else:
            cluster.cut_power(self.odd)
        computer.start()
