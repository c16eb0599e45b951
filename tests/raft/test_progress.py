"""Tests of what a leader knows of a peer, and of rounds and waiting reads."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from finn.raft.progress import Progress, ProgressState
from finn.raft.reads import Rounds, WaitingReads


class ProgressTests(SynchronousTestCase):
    """Progress."""

    def test_match_never_moves_back(self) -> None:
        """Answers that come late or twice change nothing."""
        pr = Progress(2, 10, 0.0)
        self.assertTrue(pr.matched(5, 3))
        self.assertFalse(pr.matched(5, 3))
        self.assertFalse(pr.matched(4, 2))
        self.assertEqual((pr.match_index, pr.next_index), (5, 10))

    def test_window(self) -> None:
        """What is acknowledged leaves the window, the rest stays."""
        pr = Progress(2, 1, 0.0)
        for last in (3, 6, 9):
            pr.sent_entries(last, 100)
        self.assertEqual((pr.next_index, len(pr.inflight), pr.inflight_bytes), (10, 3, 300))
        pr.matched(7, 1)
        self.assertEqual((len(pr.inflight), pr.inflight_bytes), (1, 100))

    def test_probe_clears_the_window(self) -> None:
        """A probe begins anew, never below what is known to match."""
        pr = Progress(2, 1, 0.0)
        pr.sent_entries(9, 100)
        pr.matched(4, 1)
        pr.probe(2, 7)
        self.assertEqual((pr.state, pr.next_index), (ProgressState.PROBE, 5))
        self.assertEqual((len(pr.inflight), pr.inflight_bytes), (0, 0))

    def test_acknowledged_beyond_next(self) -> None:
        """The next entry is never one that the peer is known to have."""
        pr = Progress(2, 3, 0.0)
        pr.matched(7, 1)
        self.assertEqual(pr.next_index, 8)


class RoundsTests(SynchronousTestCase):
    """Rounds."""

    def test_never_used_twice(self) -> None:
        """Each number is new, and its time is known until a later one is asked for."""
        rounds = Rounds()
        self.assertEqual([rounds.next(t) for t in (1.0, 2.0, 2.0)], [1, 2, 3])
        self.assertEqual(rounds.sent_at(0), -math.inf)
        self.assertEqual(rounds.sent_at(2), 2.0)
        self.assertEqual(rounds.sent_at(2), 2.0)
        self.assertEqual(rounds.sent_at(3), 2.0)


class WaitingReadsTests(SynchronousTestCase):
    """WaitingReads."""

    def test_reads_of_a_turn_share_a_round(self) -> None:
        """All that wait are bound to one round and served together."""
        reads = WaitingReads()
        reads.fresh += ["a", "b"]
        reads.sent(5, 10)
        reads.fresh.append("c")
        reads.sent(6, 11)
        self.assertEqual(reads.answered(4), [])
        self.assertEqual(reads.answered(5), [("a", 10), ("b", 10)])
        self.assertEqual(reads.answered(9), [("c", 11)])
        self.assertFalse(reads.is_waiting)

    def test_lost(self) -> None:
        """Every token gets an answer when leadership is lost, wherever it waits."""
        reads = WaitingReads()
        reads.fresh.append("a")
        reads.sent(1, 1)
        reads.fresh.append("b")
        self.assertEqual(reads.lost(), [("a", -1), ("b", -1)])
