"""Stopping while the disk hangs: every wait has a deadline (DESIGN P6)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.cluster import MemoryCluster
from tests.node.support import Journal


class HungDisk(SynchronousTestCase):
    def test_a_node_stops_without_its_disk(self) -> None:
        """It says so, keeps its directory locked, and its next start does not trust the tail."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        member = (leader + 1) % 3
        computer = cluster.computers[member]
        released: list[bool] = []
        self.patch(computer.node.lock, "release", lambda: released.append(True))
        computer.disk.hang()
        cluster.execute("PUT", "a", "1")
        stopped: list[object] = []
        computer.stop().addBoth(stopped.append)
        cluster.wait_until(lambda: stopped, 15)
        self.assertEqual((stopped, released), ([None], []))
        self.assertFalse(computer.node.identity.clean)
        computer.start()
        cluster.wait_until(cluster.settled)

    def test_one_that_answers_again_in_time(self) -> None:
        """A disk that is only slow gets the last sync and the mark of a clean stop."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        computer = cluster.computers[(cluster.leader() + 1) % 3]
        computer.disk.hang()
        cluster.execute("PUT", "a", "1")
        stopped: list[object] = []
        computer.stop().addBoth(stopped.append)
        cluster.advance(5)
        self.assertEqual(stopped, [])
        computer.disk.resume()
        cluster.wait_until(lambda: stopped, 2)
        self.assertTrue(computer.node.identity.clean)
