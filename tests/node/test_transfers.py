"""Snapshots on their way, and what they say of the leader that sends them."""

from __future__ import annotations

import errno

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DiskFailed
from finn.raft.core import Raft
from finn.testing.cluster import MemoryCluster
from finn.testing.network import NetworkSettings
from tests.node.support import Journal


class FullDisk(SynchronousTestCase):
    def test_no_space_for_a_received_snapshot(self) -> None:
        """The node stops, as it does when its log cannot be written."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        member = (leader + 1) % 3
        cluster.crash(member)
        snapshots = cluster.nodes[leader].snapshots
        for i in range(2):
            cluster.execute("PUT", f"large{i}", "x" * 500_000)
            cluster.result(snapshots.take())
        cluster.result(snapshots.shrink())
        computer = cluster.computers[member]
        computer.files.fail("write", 1, errno.ENOSPC, times=99, path="snapshots")
        computer.start()
        cluster.wait_until(lambda: computer.failure)
        self.assertIsInstance(computer.failure, DiskFailed)
        self.assertIn("No space left", str(computer.failure))


class LeaderThatLeaves(SynchronousTestCase):
    def test_a_transfer_ends_with_leadership(self) -> None:
        """Chunks count as contact: going on with them, nobody would get the receiver's vote."""
        cluster = MemoryCluster(Journal, seed=1, network=NetworkSettings(bandwidth=200_000))
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        receiver, other = (m for m in range(3) if m != leader)
        cluster.crash(receiver)
        for i in range(50):
            cluster.execute("PUT", f"large{i}", "x" * 100_000)
        snapshots = cluster.nodes[leader].snapshots
        for _ in range(2):
            cluster.result(snapshots.take())
            cluster.execute("PUT", "small", "x")
        cluster.result(snapshots.shrink())
        cluster.computers[receiver].start()
        transfers = cluster.nodes[receiver].snapshots.transfers
        cluster.wait_until(lambda: transfers._inbox and transfers._inbox.receiver)
        cluster.advance(2)
        raft = cluster.nodes[leader].raft
        assert isinstance(raft, Raft)
        # It cannot win again, and its vote does not reach the other one: the receiver's is needed.
        hosts = [computer.host for computer in cluster.computers]
        cluster.world.network.cut_both(hosts[leader], hosts[other])
        raft.hold_off = True
        raft.step_down(cluster.nodes[leader].now(), "the disk hangs")
        cluster.nodes[leader].wake()
        cluster.wait_until(lambda: cluster.computers[other].leads, 8)

    def test_a_snapshot_outlives_whoever_waits_for_it(self) -> None:
        """A transfer that is given up while it waits for a snapshot leaves it to the others."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        snapshots = cluster.nodes[0].snapshots
        first, second = snapshots.take(), snapshots.take()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        meta = cluster.result(second)
        self.assertEqual([m.index for m in snapshots.store.snapshots], [meta.index])
        self.assertFalse(snapshots.in_progress)
