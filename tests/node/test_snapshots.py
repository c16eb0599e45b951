"""Snapshots of a node: of whole entries, behind which nothing is missing, whatever breaks."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.errors import CommandError, CorruptLog, DiskFailed, NotReady
from finn.interfaces import SnapshotMeta
from finn.machines.kv import KV
from finn.node import applying, snapshotting, transfers
from finn.testing.cluster import MemoryCluster
from finn.testing.faulty import PowerCut
from tests.node.support import Client, Journal

MANY = 700  # more than the apply loop runs between two looks at the clock


class Stranger(finn.Machine):
    """Another machine."""

    def __init__(self) -> None:
        self.x = 0


class Newer(Journal):
    """The next version of the machine."""

    machine_name = Journal.__name__
    snapshot_version = 2


class SnapshotTests(SynchronousTestCase):
    """Three nodes that keep no more log than they have to."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(Journal, trailing_bytes=0)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.member = (self.leader + 1) % 3

    def node(self, member: int) -> Any:
        return self.cluster.nodes[member]

    def put(self, *names: str) -> None:
        for name in names:
            self.cluster.execute("PUT", name, "x")
        self.cluster.advance(0.5)

    def take(self, member: int) -> SnapshotMeta:
        meta = self.cluster.result(self.node(member).snapshots.take())
        assert isinstance(meta, SnapshotMeta)
        return meta

    def damage(self, member: int, meta: SnapshotMeta) -> None:
        """Stop a member and flip a bit of its snapshot."""
        self.cluster.stop(member)
        files = self.cluster.computers[member].files
        files.flip_bit(f"data/snapshots/{meta.id}/state.bin", meta.size // 2)

    def restart_alone(self, member: int) -> None:
        """Start it where nobody can send it anything."""
        self.cluster.partition([member])
        computer = self.cluster.computers[member]
        if not computer.running:
            computer.start()
        self.cluster.wait_until(lambda: computer.failure or computer.node.raft)

    # -- what survives ------------------------------------------------------------------------

    def test_everything_survives_a_restart_of_all(self) -> None:
        """Killed all at once, they have every acknowledged write (redisraft#14)."""
        self.put("a", "b")
        self.take(self.member)
        self.put("c")
        for member in range(3):
            self.cluster.crash(member)
        self.cluster.start()
        self.put("d")
        wanted = dict.fromkeys([b"a", b"b", b"c", b"d"], b"x")
        self.assertEqual([self.cluster.machine(m).values for m in range(3)], [wanted] * 3)

    def test_a_damaged_newest_snapshot_falls_back_to_the_older(self) -> None:
        """And the log behind the older one is still there (camunda#3573)."""
        self.put("a")
        self.take(self.member)
        self.put("b", "c")
        newest = self.take(self.member)
        self.put("d")
        self.cluster.result(self.node(self.member).snapshots.shrink())
        self.damage(self.member, newest)
        self.restart_alone(self.member)
        self.assertIsNone(self.cluster.computers[self.member].failure)
        self.assertEqual(self.node(self.member).raft.log.last_index, newest.index + 1)
        self.cluster.heal()
        wanted = dict.fromkeys([b"a", b"b", b"c", b"d"], b"x")
        self.cluster.wait_until(lambda: self.cluster.machine(self.member).values == wanted)
        self.assertEqual(self.node(self.member).snapshots.installed, 0)

    def test_a_damaged_only_snapshot_falls_back_to_the_log(self) -> None:
        """So that all of the log stays while there is just one."""
        self.node(self.member).store._segment_bytes = 1
        self.put("a", "b", "c")
        only = self.take(self.member)
        self.put("d")
        self.assertEqual(self.node(self.member).store.first_index, 1)
        self.damage(self.member, only)
        self.restart_alone(self.member)
        self.assertIsNone(self.cluster.computers[self.member].failure)
        self.cluster.heal()
        wanted = dict.fromkeys([b"a", b"b", b"c", b"d"], b"x")
        self.cluster.wait_until(lambda: self.cluster.machine(self.member).values == wanted)
        self.assertEqual(self.node(self.member).snapshots.installed, 0)

    def test_a_gap_behind_the_snapshot_is_refused_with_one_line(self) -> None:
        """A node that lacks entries must not go on as if it had them."""
        self.put("a")
        self.take(self.member)
        self.put("b")
        self.take(self.member)
        self.cluster.result(self.node(self.member).snapshots.shrink())
        self.cluster.stop(self.member)
        computer = self.cluster.computers[self.member]
        computer.files.rmtree("data/snapshots")
        computer.start()
        self.cluster.wait_until(lambda: computer.failure)
        self.assertIsInstance(computer.failure, CorruptLog)
        self.assertIn("the newest snapshot ends at 0", str(computer.failure))

    def test_a_snapshot_of_another_machine_is_refused(self) -> None:
        """Its bytes mean something else."""
        self.put("a")
        self.take(self.member)
        computer = self.cluster.computers[self.member]
        computer.kill()
        self.patch(computer, "_machine", Stranger)
        computer.start()
        self.cluster.wait_until(lambda: computer.failure)
        self.assertIsInstance(computer.failure, DiskFailed)
        self.assertIn("was written by machine", str(computer.failure))

    def leave_behind(self) -> SnapshotMeta:
        """Stop a member, and let the others go on with the next version and without their log."""
        self.put("a")
        self.take(self.member)
        self.put("b")
        self.cluster.stop(self.member)
        for member in range(3):
            if member != self.member:
                self.patch(self.cluster.computers[member], "_machine", Newer)
                self.cluster.restart(member)
                self.cluster.wait_until(self.cluster.settled)
        leader = self.cluster.leader()
        for name in ("c", "d"):
            self.put(name)
            meta = self.take(leader)
        self.cluster.result(self.node(leader).snapshots.shrink())
        self.assertGreater(
            self.node(leader).store.first_index, self.node(self.member).store.last_index
        )
        return meta

    def assert_goes_on_alone(self) -> None:
        """The older version starts with what it has of its own."""
        self.cluster.crash(self.member)
        self.restart_alone(self.member)
        self.assertIsNone(self.cluster.computers[self.member].failure)
        self.assertGreater(self.node(self.member).raft.log.last_index, 0)
        self.cluster.wait_until(lambda: self.cluster.machine(self.member).values)
        self.assertEqual(self.cluster.machine(self.member).values, {b"a": b"x"})

    def test_a_snapshot_of_a_newer_version_is_not_stored(self) -> None:
        """The node fails before the bytes come: there is a way back to the older version."""
        self.leave_behind()
        computer = self.cluster.computers[self.member]
        before = computer.files.listdir("data/snapshots")
        computer.failure_expected = True
        computer.start()
        self.cluster.wait_until(lambda: computer.failure)
        self.assertIn("version 2, not by Journal version 1", str(computer.failure))
        self.assertEqual(computer.files.listdir("data/snapshots"), before)
        self.assert_goes_on_alone()
        self.patch(computer, "_machine", Newer)
        self.cluster.heal()
        self.cluster.restart(self.member)
        self.cluster.wait_until(lambda: b"d" in self.cluster.machine(self.member).values)

    def test_the_log_does_not_give_way_to_a_newer_version(self) -> None:
        """A snapshot of it that is there already is refused before the log is reset to it."""
        meta = self.leave_behind()
        path = f"data/snapshots/{meta.id}"
        source = self.cluster.computers[self.cluster.leader()].files
        files = self.cluster.computers[self.member].files
        files.makedirs(path)
        for name in ("meta.json", "state.bin"):
            files.create(f"{path}/{name}").write(source.read(f"{path}/{name}"))
        self.restart_alone(self.member)
        self.assertIn("version 2, not by", str(self.cluster.computers[self.member].failure))
        self.cluster.crash(self.member)
        self.cluster.computers[self.member].files.rmtree(path)
        self.assert_goes_on_alone()

    def test_a_founding_cut_short_begins_again(self) -> None:
        """Whatever was written when the power went: the next start makes the same cluster."""
        for number in range(1, 60):
            cluster = MemoryCluster(Journal, size=1)
            self.addCleanup(cluster.close)
            computer = cluster.computers[0]
            files = computer.files
            files.cut_at(number)
            try:
                computer.start()
                cluster.advance(1)
            except PowerCut:
                pass
            self.flushLoggedErrors(PowerCut)
            finished = not files.dead
            computer.cut_power()
            cluster.start()
            self.assertEqual(cluster.execute("PUT", "a", "1"), b"OK", number)
            cluster.close()
            if finished:
                return
        self.fail("the founding has no end")

    # -- what a snapshot is of ----------------------------------------------------------------

    def test_a_snapshot_is_of_whole_entries(self) -> None:
        """It says up to which entry it holds the state, and holds just that."""
        self.patch(applying, "SLICE", 0.0)
        client = Client(self.cluster, self.leader)
        machine = self.cluster.machine(self.member)
        client.send(*["NOTE x"] * MANY)
        self.cluster.nodes[self.leader].driver.turn()  # type: ignore[union-attr]
        client.send("NOTE y")
        while not machine.rows:
            self.cluster.world.scheduler.step()
        self.assertLess(len(machine.rows), MANY)
        self.take(self.member)
        self.cluster.restart(self.member)
        self.cluster.wait_until(self.cluster.settled)
        self.cluster.advance(0.5)
        rows = self.cluster.machine(self.leader).rows
        self.assertEqual(len(rows), MANY + 1)
        self.assertTrue(self.cluster.machine(self.member).rows == rows)

    def test_a_snapshot_asked_for_within_an_entry(self) -> None:
        """By whoever is told of one of its commands, before the next one is run."""
        node = self.node(self.leader)
        taken: list[Deferred[SnapshotMeta]] = []
        first = node.execute("NOTE", "a")
        first.addCallback(lambda _: taken.append(node.snapshots.take()))
        second = node.execute("NOTE", "b")
        self.cluster.result(second)
        meta = self.cluster.result(taken[0])
        self.assertEqual(meta.index, node.applying.last_applied)
        self.cluster.restart(self.leader)
        self.cluster.wait_until(self.cluster.settled)
        self.assertEqual(len(self.cluster.machine(self.leader).rows), 2)

    def test_a_node_that_ends_within_an_entry(self) -> None:
        """Whoever waits for a snapshot of what is behind the entry is told so at once."""
        self.patch(applying, "SLICE", 0.0)
        clients = [Client(self.cluster, self.leader) for _ in range(2)]
        clients[0].send(*["NOTE x"] * MANY)
        while not self.cluster.machine(self.leader).rows:
            self.cluster.world.scheduler.step()
        clients[1].send("RAFTSNAPSHOT", "PING")
        node = self.node(self.leader)
        taken = node.snapshots.take()
        self.assertNoResult(taken)
        self.cluster.computers[self.leader].failure_expected = True
        node.fatal(DiskFailed("no space"))
        self.failureResultOf(taken, NotReady)
        self.assertEqual(clients[1].received, b"-ERR node has failed\r\n+PONG\r\n")
        self.cluster.advance(1)
        self.assertFalse(node.snapshots.in_progress)

    def test_a_node_that_stops_meanwhile(self) -> None:
        """Whoever waits for its snapshot is told so before the connections are closed."""
        self.put("a")
        client = Client(self.cluster, self.leader)
        self.cluster.computers[self.leader].disk.hang()
        client.send("RAFTSNAPSHOT", "PING")
        taken = self.node(self.leader).snapshots.take()
        stopped = self.node(self.leader).stopService()
        self.cluster.wait_until(lambda: bool(client.transport.disconnecting))
        self.failureResultOf(taken, NotReady)
        self.assertEqual(client.received, b"-ERR node is stopping\r\n+PONG\r\n")
        self.cluster.computers[self.leader].disk.resume()
        self.cluster.result(stopped)

    # -- when, and how much at a time ---------------------------------------------------------

    def test_members_take_theirs_one_after_another(self) -> None:
        """They apply the same log, but never do all of them write a snapshot of it at a time."""
        cluster = MemoryCluster(Journal, snapshot_bytes=400_000)
        self.addCleanup(cluster.close)
        cluster.start()
        order: list[int] = []
        applied: list[int] = []
        for number in range(100):
            cluster.execute("PUT", f"key{number % 8}", "x" * 10_000)
            cluster.advance(1)
            for member, node in enumerate(cluster.nodes):
                if node.snapshots.taken and member not in order:
                    order.append(member)
                    applied.append(node.applying.bytes_applied)
            if len(order) == 3:
                break
        self.assertEqual(sorted(order), [0, 1, 2])
        ids = [cluster.nodes[member].raft.node_id for member in order]
        self.assertEqual(ids, sorted(ids, reverse=True))
        for size, share in zip(applied, (1, 2, 3), strict=True):
            self.assertTrue(0 < size - 400_000 * share // 3 < 25_000, applied)
        again = [cluster.nodes[member].snapshots.taken for member in order]
        while cluster.nodes[order[0]].snapshots.taken == again[0]:
            cluster.execute("PUT", f"key{number % 8}", "x" * 10_000)
            cluster.advance(1)
        self.assertEqual([cluster.nodes[m].snapshots.taken for m in order[1:]], again[1:])
        size = cluster.nodes[order[0]].applying.bytes_applied - applied[0]
        self.assertTrue(0 < size - 400_000 < 25_000, size)

    def test_commands_go_first(self) -> None:
        """Between two slices of a snapshot there is a rest while commands come, and only then."""
        self.patch(snapshotting, "WRITE_SLICE", 0.0)
        cluster = MemoryCluster(KV)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        shards = 50
        for number in range(shards):
            cluster.execute("SET", f"key{number}", "value")
        cluster.advance(1)
        snapshots = cluster.nodes[leader].snapshots
        client = Client(cluster, leader)
        for busy in (False, True):
            done = snapshots.take()
            slices = 0
            while snapshots.in_progress:
                if busy:
                    client.send(*["SET key0 other"] * 50)
                cluster.advance(snapshotting.WRITE_REST)
                slices += 1
            self.successResultOf(done)
            if busy:
                self.assertGreater(slices, shards - 10)
            else:
                self.assertLess(slices, 5)
                cluster.execute("SET", "key0", "more")

    def test_a_machine_that_cannot_be_noted(self) -> None:
        """Whatever fails before the machine writes, the next snapshot can be taken."""
        self.put("a")
        node = self.node(self.member)
        for target, name in (
            (node.host.machine, "snapshot_version"), (node.snapshots.store, "create"),
        ):  # fmt: skip
            broken = self.patch(target, name, "1.0")
            with self.assertRaisesRegex(CommandError, "ERR snapshot failed"):
                self.take(self.member)
            self.assertEqual(len(self.flushLoggedErrors(ValueError, TypeError)), 1)
            self.assertFalse(node.snapshots.in_progress)
            broken.restore()
        self.take(self.member)

    # -- what comes from the leader -----------------------------------------------------------

    def test_no_second_snapshot_while_one_loads(self) -> None:
        """The machine is between two states (openraft eed681d5)."""
        node = self.node(self.member)
        leader = self.node(self.leader).raft
        meta = SnapshotMeta(
            999, leader.current_term, 0, leader.configuration, machine=node.host.name
        )
        node.snapshots.restoring = True
        wanted = node.snapshots.transfers._wanted
        self.assertFalse(wanted(leader.node_id, leader.current_term, meta))
        node.snapshots.restoring = False
        self.assertTrue(wanted(leader.node_id, leader.current_term, meta))

    def test_a_snapshot_that_was_overtaken_changes_nothing(self) -> None:
        """What came meanwhile by the log is not undone (redisraft#449)."""
        self.put("a")
        meta = self.take(self.member)
        self.put("b")
        node = self.node(self.member)
        before = node.applying.last_applied
        sender = self.node(self.leader).raft.node_id
        self.cluster.result(Deferred.fromCoroutine(node.snapshots.transfers._install(meta, sender)))
        self.assertEqual((node.applying.last_applied, node.snapshots.installed), (before, 0))
        self.assertIn(b"b", self.cluster.machine(self.member).values)

    def test_a_transfer_pins_the_log_within_a_bound(self) -> None:
        """A follower that is ill must not fill the leader's disk (typesense#2821)."""
        transfer = self.node(self.leader).snapshots.transfers
        transfer._pins[self.node(self.member).raft.node_id] = 10
        self.assertEqual((transfer.pinned(20), transfer.pinned(5)), (10, 5))
        self.patch(transfers, "MAX_PINNED_BYTES", 0)
        self.assertEqual(transfer.pinned(20), 20)
