"""The wall clock is set back: Twisted's timers follow it, elections and heartbeats must not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import OutcomeUnknown
from finn.machines.kv import KV
from finn.testing.cluster import MemoryCluster


class ClockSetBack(SynchronousTestCase):
    def cluster(self) -> MemoryCluster:
        cluster = MemoryCluster(KV)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def test_all_clocks_an_hour(self) -> None:
        """A cluster that is asked for something finds its timers again."""
        cluster = self.cluster()
        leader = cluster.leader()
        for computer in cluster.computers:
            computer.jump(-3600)
        cluster.advance(10)
        # Nobody heard of anybody for too long, as far as they know: this one is lost on them.
        reply = cluster.computers[leader].node.execute("SET", "a", "1", timeout=5)
        reply.addErrback(lambda failure: failure.trap(OutcomeUnknown))
        cluster.advance(5)
        self.assertEqual(cluster.execute("SET", "a", "2", timeout=5), b"OK")

    def test_a_follower_still_stands_for_election(self) -> None:
        """Messages of the leader keep its timer alive: when they end, it fires in time."""
        cluster = self.cluster()
        leader = cluster.leader()
        others = [m for m in range(3) if m != leader]
        for member in others:
            cluster.computers[member].jump(-3600)
        cluster.advance(1)
        cluster.cut_power(leader)
        cluster.wait_until(lambda: any(cluster.computers[m].leads for m in others), 5)
