"""Snapshots on their way, and what they say of the leader that sends them."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DiskFailed, NotReady
from finn.interfaces import SnapshotMeta
from finn.node import snapshotting
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


class Rotten(SynchronousTestCase):
    """A follower needs a snapshot of a leader on whose disk the newest one has gone bad."""

    def start(self, keeps_log: bool = False) -> SnapshotMeta:
        """Crash a follower, and return the newest snapshot of a leader that is idle then.

        Args:
            keeps_log: the older snapshot is of use, as the log behind it is there.
        """
        cluster = self.cluster = MemoryCluster(Journal, trailing_bytes=0)
        self.addCleanup(cluster.close)
        cluster.start()
        self.leader = cluster.leader()
        self.member = (self.leader + 1) % 3
        cluster.crash(self.member)
        node: Any = cluster.nodes[self.leader]
        self.node, self.snapshots = node, node.snapshots
        for name in ("a", "b"):
            cluster.execute("PUT", name, "x" * 1000)
            meta: SnapshotMeta = cluster.result(self.snapshots.take())
        cluster.result(self.snapshots.shrink())
        if not keeps_log:
            # As it is where the newest one was received.
            cluster.result(self.snapshots.store.discard(self.snapshots.store.snapshots[:1]))
            cluster.result(self.snapshots.shrink())
            self.assertEqual(node.store.first_index, node.applying.last_applied + 1)
        self.files = cluster.computers[self.leader].files
        self.path = f"data/snapshots/{meta.id}"
        self.checks: list[str] = []
        check = self.snapshots.store.check

        def note(meta: SnapshotMeta) -> Any:
            self.checks.append(meta.id)
            return check(meta)

        self.patch(self.snapshots.store, "check", note)
        return meta

    def sent(self) -> int:
        """Start the follower, and count the transfers of some time."""
        transfers = self.snapshots.transfers
        send, count = transfers._send, [0]

        def counted(peer_id: int) -> Any:
            count[0] += 1
            return send(peer_id)

        self.patch(transfers, "_send", counted)
        if not self.cluster.computers[self.member].running:
            self.cluster.computers[self.member].start()
        self.cluster.advance(20)
        return count[0]

    def assert_caught_up(self) -> None:
        self.assertEqual(set(self.cluster.machine(self.member).values), {b"a", b"b"})
        self.assertIsNone(self.cluster.computers[self.leader].failure)

    def test_a_look_that_fails_tells_nothing(self) -> None:
        """There are too many open files for the moment; the next look finds what is wrong."""
        meta = self.start()
        self.files.flip_bit(f"{self.path}/state.bin", 100)
        check = self.snapshots.store.check

        def fail_once(meta: SnapshotMeta) -> Any:
            if not self.checks:
                self.files.fail("open_readonly", 1, errno.EMFILE, 1, meta.id)
            return check(meta)

        self.patch(self.snapshots.store, "check", fail_once)
        self.sent()
        self.assertEqual(self.checks, [meta.id, meta.id])
        self.assert_caught_up()

    def test_it_is_replaced(self) -> None:
        """What was flipped, cut short, lost, or cannot be read, is set aside for a new one."""
        for keeps_log in (False, True):
            for damage in ("flip", "cut", "unlink", "pread", "open_readonly"):
                meta = self.start(keeps_log)
                state = f"{self.path}/state.bin"
                if damage == "flip":
                    self.files.flip_bit(state, 100)
                elif damage == "cut":
                    self.files.open(state).truncate(10)
                elif damage == "unlink":
                    self.files.unlink(state)
                else:
                    self.files.fail(damage, times=10**9, path=meta.id)
                self.assertEqual(self.sent(), 2, damage)
                self.flushLoggedErrors(DiskFailed)
                self.assert_caught_up()
                self.assertEqual(self.checks, [meta.id])
                names = self.files.listdir("data/snapshots")
                self.assertIn(meta.id + ".bad", names)
                self.assertNotIn(meta.id, names)
                newest = self.snapshots.newest
                self.assertEqual(
                    (newest.index, len(self.snapshots.store.snapshots)),
                    (self.node.applying.last_applied, 1 + keeps_log),
                )
                # And the leader itself can start again.
                self.cluster.restart(self.leader)
                self.cluster.wait_until(self.cluster.settled)
                self.assert_caught_up()
                self.cluster.close()

    def test_the_only_one_stays_until_there_is_another(self) -> None:
        """Without it, and without log before it, the node could not start again."""
        meta = self.start()
        self.files.flip_bit(f"{self.path}/state.bin", 100)

        def refuse(file: Any) -> None:
            raise ValueError("not now")

        machine = self.cluster.machine(self.leader)
        self.patch(self.node.host, "snapshot", refuse)
        self.assertLess(self.sent(), 50)
        self.assertGreater(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.files.listdir("data/snapshots"), [meta.id])
        self.assertEqual(self.checks, [meta.id])
        self.assertEqual(self.cluster.machine(self.member).values, {})
        del self.node.host.snapshot
        self.sent()
        self.assert_caught_up()
        self.assertIs(self.cluster.machine(self.leader), machine)
        self.assertIn(meta.id + ".bad", self.files.listdir("data/snapshots"))

    def test_a_receiver_that_is_broken(self) -> None:
        """A good snapshot that cannot be used is read through once in a while, and stays."""
        self.patch(snapshotting, "TRUST", 40.0)
        meta = self.start()

        async def broken(meta: SnapshotMeta, sender: int) -> None:
            raise NotReady

        self.cluster.computers[self.member].start()
        self.patch(self.cluster.nodes[self.member].snapshots.transfers, "_install", broken)
        sent = self.sent()
        self.assertTrue(5 < sent < 50, sent)
        self.assertEqual(self.checks, [meta.id])
        self.cluster.advance(40)
        self.assertEqual(self.checks, [meta.id] * 2)
        self.assertEqual([m.id for m in self.snapshots.store.snapshots], [meta.id])

    def test_a_leader_that_cannot_look(self) -> None:
        """It is no reason to throw the snapshot away, nor to fail."""
        meta = self.start()
        self.files.fail("open_readonly", error=errno.EMFILE, times=5, path=meta.id)
        with capturedLogs() as logs:
            self.sent()
        lines = [formatEvent(event) for event in logs if event["log_level"] is LogLevel.error]
        self.assertEqual(len(lines), 2)  # each look between two transfers
        for line in lines:
            self.assertRegex(line, r"^snapshot failed: .*Too many open files")
        self.assert_caught_up()
        self.assertEqual([m.id for m in self.snapshots.store.snapshots], [meta.id])

    def test_a_leader_that_is_deposed_meanwhile(self) -> None:
        """Whoever waits for the check does not any more; the bad one is replaced all the same."""
        meta = self.start()
        self.files.flip_bit(f"{self.path}/state.bin", 100)
        waiting = self.snapshots.doubt(meta)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.cluster.wait_until(lambda: self.snapshots.newest.id != meta.id)
        self.cluster.advance(1)
        self.assertIn(meta.id + ".bad", self.files.listdir("data/snapshots"))
