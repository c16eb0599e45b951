"""The processor is offered to others where nobody waits for this node, and only there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.node.applying import COMMANDS_PER_LOOK, OFFER, SLICE, Applying
from finn.node.courtesy import CONTENDED, LONGEST_PAUSE, PAUSE, Courtesy
from finn.node.host import Host
from finn.node.links import MANY_ENTRIES
from finn.node.proposals import Proposals
from finn.raft.entries import COMMANDS, make_entry
from finn.raft.messages import AppendEntries
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.node.test_overtaken import FakeRaft


class Counting:
    """Counts what is offered."""

    def __init__(self) -> None:
        self.offers = 0

    def offer(self) -> None:
        """Nobody takes it."""
        self.offers += 1


class CourtesyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.given = 0
        self.takes = 0.0  # seconds for which others keep the processor
        self.courtesy = Courtesy(lambda: self.now, self.give_way)

    def give_way(self) -> None:
        """Let others run."""
        self.given += 1
        self.now += self.takes

    def offers_until_given(self) -> int:
        """Return how many offers it takes until the processor is given."""
        before, count = self.given, 0
        while self.given == before:
            self.courtesy.offer()
            count += 1
            self.assertLess(count, 2 * LONGEST_PAUSE)
        return count

    def test_who_gives_it_back_soon(self) -> None:
        """To them it is offered always."""
        self.takes = CONTENDED / 2
        self.assertEqual([self.offers_until_given() for _ in range(100)], [1] * 100)

    def test_who_keeps_it(self) -> None:
        """To them ever more seldom, up to a bound; later, when they are gone, as before."""
        self.takes = 3 * CONTENDED
        waits = [self.offers_until_given() for _ in range(12)]
        doubled = [1, *(min(PAUSE << i, LONGEST_PAUSE) + 1 for i in range(11))]
        self.assertEqual(waits, doubled)
        self.takes = 0.0
        self.assertEqual(self.offers_until_given(), LONGEST_PAUSE + 1)
        self.assertEqual([self.offers_until_given() for _ in range(10)], [1] * 10)
        self.takes = 3 * CONTENDED
        self.assertEqual(
            [self.offers_until_given() for _ in range(3)], [1, PAUSE + 1, 2 * PAUSE + 1]
        )

    def test_the_real_one(self) -> None:
        """It comes back."""
        courtesy = Courtesy()
        for _ in range(3 * PAUSE):
            courtesy.offer()


class ApplyingTests(SynchronousTestCase):
    """The clock moves with each look at it."""

    def setUp(self) -> None:
        self.now = 0.0
        self.look = OFFER / 10
        self.raft = FakeRaft()
        fetch: Deferred[Any] = Deferred()
        errors: list[BaseException] = []
        self.applying = Applying(
            Host(KV(), errors.append), Proposals(), lambda first, size: fetch, lambda: None,
            errors.append, self.clock,
        )  # fmt: skip
        self.applying.raft = self.raft  # type: ignore[assignment]
        self.counting = self.applying.courtesy = Counting()  # type: ignore[assignment]

    def clock(self) -> float:
        """Return a later time."""
        self.now += self.look
        return self.now

    def commit(self, entries: int, commands: int = 1) -> None:
        """Commit entries of so many commands."""
        for _ in range(entries):
            index = self.raft.commit_index + 1
            payload = pack_command([b"SET", b"k", b"%d" % index]) * commands
            self.raft.log.made.append(make_entry(index, 1, COMMANDS, 0, 0, commands, [payload]))
            self.raft.commit_index = index

    def test_a_follower(self) -> None:
        """Before it applies, and after each fraction of a millisecond."""
        self.raft.leader = None
        self.commit(1)
        self.assertFalse(self.applying.run())
        self.assertEqual(self.counting.offers, 1)
        self.commit(100)
        self.assertFalse(self.applying.run())
        self.assertIn(self.counting.offers - 2, range(7, 12))
        self.assertFalse(self.applying.run())
        self.assertIn(self.counting.offers - 2, range(7, 12))

    def test_within_a_large_entry(self) -> None:
        """As between small ones."""
        self.raft.leader = None
        self.look = 2 * OFFER
        self.commit(1, 10 * COMMANDS_PER_LOOK)
        self.assertFalse(self.applying.run())
        self.assertEqual(self.counting.offers, 1 + 10)

    def test_what_others_took_counts(self) -> None:
        """The slice ends when it is over, whoever used it, and the next offer is due later."""
        self.raft.leader = None
        self.look = OFFER

        def takes_all() -> None:
            self.counting.offers += 1
            self.now += SLICE if self.counting.offers > 1 else 0.0

        self.counting.offer = takes_all  # type: ignore[method-assign]
        self.commit(100)
        self.assertTrue(self.applying.run())
        self.assertLess(self.applying.last_applied, 5)

    def test_a_leader(self) -> None:
        """Its clients wait."""
        self.commit(100)
        self.commit(1, 10 * COMMANDS_PER_LOOK)
        while self.applying.run():
            pass
        self.assertEqual((self.applying.last_applied, self.counting.offers), (101, 0))


class LinkTests(SynchronousTestCase):
    def test_many_entries_at_a_time(self) -> None:
        """What comes so is for a member that nobody waits for."""
        cluster = MemoryCluster(KV)
        self.addCleanup(cluster.close)
        cluster.start()
        node = cluster.nodes[(cluster.leader() + 1) % 3]
        raft = node.raft
        assert raft is not None
        counting = node.applying.courtesy = Counting()  # type: ignore[assignment]
        link: Any = SimpleNamespace(kind="raft", peer_id=raft.leader_id)
        for count in (MANY_ENTRIES - 1, MANY_ENTRIES):
            term, last = raft.current_term, raft.log.last_index
            entries = [
                make_entry(last + i, term, COMMANDS, 0, 0, 1, [pack_command([b"PING"])])
                for i in range(1, count + 1)
            ]
            message = AppendEntries(term, last, raft.log.last_term, 0, 1, entries)
            node.links.message_received(link, message)
            self.assertEqual(raft.log.last_index, last + count)
            self.assertEqual(counting.offers, int(count == MANY_ENTRIES))
