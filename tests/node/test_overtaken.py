"""A snapshot of the leader comes while this node is in the middle of something."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import Compacted, DiskFailed, NotReady, OutcomeUnknown
from finn.node.applying import Applying
from finn.node.host import Host
from finn.node.proposals import Proposals
from finn.node.runs import Run, Waiter
from finn.raft.configuration import Configuration
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.node.cores import make_leader, settle
from tests.node.support import Journal


class Overtaken(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.proposals = Proposals()
        self.errors: list[BaseException] = []
        self.fetch: Deferred[Any] = Deferred()
        self.asked = False
        self.applying = Applying(
            Host(Journal(), self.errors.append), self.proposals, self.read, lambda: None,
            self.errors.append, self.clock,
        )  # fmt: skip
        self.lead()

    def lead(self, **options: Any) -> None:
        """Have a leader whose first entry is applied."""
        self.raft = self.applying.raft = make_leader(**options)
        self.applying.start_at(1, 1, 0, Configuration())

    def read(self, first: int, size: int) -> Deferred[Any]:
        """Read entries that are no longer in memory."""
        self.asked = True
        return self.fetch

    def clock(self) -> float:
        """Every look at the clock ends a slice."""
        self.now += 1.0
        return self.now

    def propose(self, count: int) -> Deferred[Any]:
        command = [b"PUT", b"k", b"v"]
        waiter = Waiter(lambda data: data)
        run = Run(waiter, [command] * count, False, 0.0)
        self.proposals.add(run, pack_command(command) * count, count, 0.0)
        self.submit()
        return waiter.deferred

    def submit(self) -> None:
        """Append what was proposed, and commit it."""
        self.proposals.submit(self.raft, 0, 0.0)
        settle(self.raft)

    def test_nobody_waits_for_ever(self) -> None:
        """Neither for the entry that is half applied, nor for those behind it."""
        half, next_one = self.propose(1000), self.propose(1)
        self.assertTrue(self.applying.run())
        self.applying.pause()
        self.failureResultOf(half, OutcomeUnknown)
        self.applying.start_at(3, 1, 0, Configuration())
        self.failureResultOf(next_one, OutcomeUnknown)
        self.assertEqual((self.proposals.pending_bytes > 0, self.proposals.idle), (False, True))

    def test_failed_node_answers(self) -> None:
        """So does one that gives up in the middle of an entry."""
        half = self.propose(1000)
        self.applying.run()
        self.applying.abandon(OutcomeUnknown("node failed"))
        self.failureResultOf(half, OutcomeUnknown)

    def test_what_waited_for_a_whole_entry_is_void(self) -> None:
        """A snapshot that was to begin behind the half applied entry does not begin any more."""
        called: list[int] = []
        self.propose(1000).addErrback(lambda _: None)
        self.applying.run()
        self.applying.between_entries(lambda: called.append(1))
        self.applying.pause()
        self.applying.start_at(2, 1, 0, Configuration())
        self.propose(1)
        while self.applying.run():
            pass
        self.assertEqual((self.applying.last_applied, called, self.errors), (3, [], []))

    def test_a_nested_turn_within_an_entry(self) -> None:
        """Who is told of a command may turn the reactor: an entry half applied is no whole one."""
        machine = Journal()
        self.applying.host = Host(machine, self.errors.append)
        noted = 0
        for count in (2, 700):  # applied at once, and with pauses
            before = self.applying.last_applied
            seen: list[Any] = []
            between: list[int] = []

            def nested(_: object, seen: list[Any] = seen, between: list[int] = between) -> None:
                self.applying.between_entries(lambda: between.append(self.applying.last_applied))
                seen.append((self.applying.run(), self.applying.last_applied, list(between)))

            command = [b"NOTE", b"x"]
            waiter = Waiter(lambda data: data)
            waiter.deferred.addCallback(nested)
            for slot, many in ((waiter, 1), (Waiter(lambda data: data), count)):
                run = Run(slot, [command] * many, False, 0.0)
                self.proposals.add(run, pack_command(command) * many, many, 0.0)
            self.submit()
            self.propose(1)
            while self.applying.run():
                pass
            noted += 1 + count
            self.assertEqual(seen, [(False, before, [])])
            self.assertEqual((between, self.applying.last_applied), ([before + 1], before + 2))
            self.assertEqual((len(machine.rows), self.errors), (noted, []))

    def test_entries_read_too_late(self) -> None:
        """What was asked for is compacted when the disk gets to it, and not wanted any more."""
        self.lead(memory_bytes=0)
        self.propose(1).addErrback(lambda _: None)
        self.applying.run()
        self.assertTrue(self.asked)
        self.applying.pause()
        self.applying.start_at(2, 1, 0, Configuration())
        self.fetch.errback(Compacted("gone"))
        self.assertEqual(self.errors, [])

    def test_own_snapshot_that_is_just_being_sealed(self) -> None:
        """It shows a past that is not the cluster's: it must not stay as the newest one."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        snapshots = cluster.nodes[0].snapshots
        taking = snapshots.take()
        store = snapshots.store
        finished: list[Any] = []
        sink: Any = snapshots._sink
        cluster.wait_until(lambda: sink._ended or taking.called)
        snapshots.interrupt()
        taking.addErrback(finished.append)
        cluster.advance(1)
        self.assertEqual((len(finished), store.snapshots), (1, []))


class DiskFails(SynchronousTestCase):
    def test_in_the_turn_that_changes_the_members(self) -> None:
        """A node that gave up dials nobody, whatever its last turn still had to do."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        node = cluster.nodes[cluster.leader()]
        raft = node.raft
        assert raft is not None
        node.fatal(DiskFailed("no space"))
        node.links.follow(raft.peers)
        cluster.advance(5)
        self.assertEqual(node.links._dialers, {})

    def test_the_reason_is_told_once(self) -> None:
        """At the level that is shown even where the log is to be quiet."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        with capturedLogs() as logs:
            for _ in range(2):
                cluster.nodes[0].fatal(DiskFailed("no space"))
        told = [(e["log_level"], eventAsText(e)) for e in logs if "no space" in eventAsText(e)]
        self.assertEqual([level for level, _ in told], [LogLevel.critical])

    def test_while_a_snapshot_is_sealed(self) -> None:
        """Whoever waits for the snapshot is answered; nothing is logged as a bug."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        node = cluster.nodes[0]
        taking = node.snapshots.take()
        sink: Any = node.snapshots._sink
        cluster.wait_until(lambda: sink._ended)
        node.fatal(DiskFailed("no space"))
        cluster.advance(1)
        self.failureResultOf(taking, NotReady)
