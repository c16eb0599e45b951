"""The processor is offered to others where nobody waits for this node, and only there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.node.applying import COMMANDS_PER_LOOK, SLICE, Applying
from finn.node.courtesy import CONTENDED, INTERVAL, LONGEST_INTERVAL, Courtesy
from finn.node.host import Host
from finn.node.proposals import Proposals
from finn.raft.entries import COMMANDS, make_entry
from finn.raft.messages import AppendEntries
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.node.cores import follow, make_follower, make_leader, settle
from tests.node.peers import Peer


class Counting:
    """Counts what is offered."""

    def __init__(self) -> None:
        self.offers = 0

    def __call__(self) -> None:
        """Nobody takes it."""
        self.offers += 1


class CourtesyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.given = 0
        self.takes: Iterator[float] = cycle([0.0])  # seconds for which others keep the processor
        self.courtesy = Courtesy(lambda: self.now, self.give_way)

    def give_way(self) -> None:
        """Let others run."""
        self.given += 1
        self.now += next(self.takes)

    def share(self, seconds: float, *takes: float) -> float:
        """Work for a time, with offers that are taken so in turns; return which part is left."""
        self.takes = cycle(takes)
        begin = self.now
        worked = 0.0
        while self.now < begin + seconds:
            self.now += 10e-6
            worked += 10e-6
            self.assertEqual(self.courtesy.offer(self.now), self.now)
        return worked / (self.now - begin)

    def test_nobody_wants_it(self) -> None:
        """It is offered often."""
        self.share(0.1, 0.0)
        self.assertApproximates(self.given, 0.1 / INTERVAL, 0.02 / INTERVAL)

    def test_who_gives_it_back_soon(self) -> None:
        """They get half of the time at most."""
        for takes in (INTERVAL, 10 * INTERVAL, CONTENDED):
            self.assertApproximates(self.share(0.5, takes), 0.5, 0.1)

    def test_who_keeps_it(self) -> None:
        """They get ever less; later, when they are gone, it is offered as before."""
        for takes in ([3 * CONTENDED], [20 * CONTENDED], [3 * CONTENDED, 0.0]):
            self.share(1.0, *takes)
            self.assertGreater(self.share(5.0, *takes), 0.8)
        self.share(10 * INTERVAL, 0.0)
        self.assertGreater(self.share(LONGEST_INTERVAL / 2, 3 * CONTENDED), 0.8)
        self.share(10 * LONGEST_INTERVAL, 0.0)
        self.given = 0
        self.share(0.1, 0.0)
        self.assertApproximates(self.given, 0.1 / INTERVAL, 0.02 / INTERVAL)

    def test_the_real_one(self) -> None:
        """It comes back."""
        courtesy = Courtesy(time.perf_counter)
        for _ in range(100):
            begin = time.perf_counter()
            self.assertGreaterEqual(courtesy.offer(begin), begin)


class ApplyingTests(SynchronousTestCase):
    """The clock moves with each look at it."""

    def setUp(self) -> None:
        self.now = 0.0
        self.look = INTERVAL / 10
        self.taken = 0.0
        fetch: Deferred[Any] = Deferred()
        errors: list[BaseException] = []
        self.applying = Applying(
            Host(KV(), errors.append), Proposals(), lambda first, size: fetch, lambda: None,
            errors.append, self.clock,
        )  # fmt: skip
        self.counting = Counting()
        self.offered_behind: list[int] = []  # indexes
        self.applying.courtesy = Courtesy(self.clock, self.give_way)

    def give_way(self) -> None:
        """Count, and let others have what they take."""
        self.counting()
        self.offered_behind.append(self.applying.last_applied)
        self.now += self.taken

    def clock(self) -> float:
        """Return a later time."""
        self.now += self.look
        return self.now

    def commit(self, entries: int, commands: int = 1) -> None:
        """Commit entries of so many commands."""
        raft = self.applying.raft
        assert raft is not None
        for _ in range(entries):
            index = raft.commit_index + 1
            payload = pack_command([b"SET", b"k", b"%d" % index]) * commands
            if raft.leader is not None:
                raft.propose([payload], commands, 0, 0.0)
                settle(raft)
            else:
                entry = make_entry(index, 1, COMMANDS, 0, 0, commands, [payload])
                follow(raft, (index - 1, raft.log.last_term), index, entry)
            self.assertEqual(raft.commit_index, index)

    def test_a_follower(self) -> None:
        """Before it applies, and after each fraction of a millisecond."""
        self.applying.raft = make_follower()
        self.commit(1)
        self.assertFalse(self.applying.run())
        self.assertEqual(self.offered_behind, [0])
        self.commit(100)
        self.assertFalse(self.applying.run())
        self.assertIn(self.counting.offers - 2, range(7, 12))
        self.assertFalse(self.applying.run())
        self.assertIn(self.counting.offers - 2, range(7, 12))

    def test_within_a_large_entry(self) -> None:
        """As between small ones."""
        self.applying.raft = make_follower()
        self.look = 2 * INTERVAL
        self.commit(1, 10 * COMMANDS_PER_LOOK)
        self.assertFalse(self.applying.run())
        self.assertEqual(self.counting.offers, 1 + 10)

    def test_what_others_took_counts(self) -> None:
        """The slice ends when it is over, whoever used it."""
        self.applying.raft = make_follower()
        self.look = INTERVAL
        self.commit(200)
        self.taken = SLICE  # once, and not again for long
        self.assertTrue(self.applying.run())
        first = self.applying.last_applied
        self.assertLess(first, 100)
        self.assertGreater(first, SLICE / INTERVAL / 3)
        self.applying.courtesy = Courtesy(self.clock, self.give_way)
        self.taken = 0.9 * CONTENDED  # half of the time
        self.assertTrue(self.applying.run())
        second = self.applying.last_applied - first
        self.assertGreater(self.counting.offers, 2)
        self.assertLess(second, 0.7 * SLICE / INTERVAL)
        self.assertGreater(second, SLICE / INTERVAL / 3)

    def test_a_leader(self) -> None:
        """Its clients wait."""
        self.applying.raft = make_leader()
        self.commit(100)
        self.commit(1, 10 * COMMANDS_PER_LOOK)
        while self.applying.run():
            pass
        self.assertEqual((self.applying.last_applied, self.counting.offers), (102, 0))


class LinkTests(SynchronousTestCase):
    def test_what_others_have_committed(self) -> None:
        """Nobody waits for this node's answer to it."""
        cluster = MemoryCluster(KV)
        self.addCleanup(cluster.close)
        cluster.start()
        member = (cluster.leader() + 1) % 3
        cluster.partition([member])
        node = cluster.nodes[member]
        raft = node.raft
        assert raft is not None
        leader = Peer(cluster, member, raft.leader_id)
        counting = Counting()
        node.applying.courtesy = Courtesy(node.now, counting)
        for committed in (0, 1):
            term, last = raft.current_term, raft.log.last_index
            entries = [
                make_entry(last + i, term, COMMANDS, 0, 0, 1, [pack_command([b"PING"])])
                for i in (1, 2)
            ]
            message = AppendEntries(term, last, raft.log.last_term, last + committed, 1, entries)
            leader.send(message)
            self.assertEqual(raft.log.last_index, last + 2)
            self.assertEqual(counting.offers, committed)
