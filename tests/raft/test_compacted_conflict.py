"""A leader whose log contradicts what this node has compacted already."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.host import members
from tests.raft.single import Single, entry


class CompactedConflictTests(SynchronousTestCase):
    """Only terms can tell: along a log they never fall."""

    def node(self) -> Single:
        """Up to 9 all is in a snapshot, of terms 1 and 2; the log begins behind it."""
        node = Single()
        entries = [entry(i, 1 if i < 5 else 2) for i in range(1, 10)]
        node.append((0, 0), *entries, term=2, commit=9)
        node.host.take_snapshot()
        return node

    def test_what_may_be_the_same_is_taken_for_it(self) -> None:
        """Late or repeated entries, and a later leader's heartbeat, are no conflict."""
        node = self.node()
        self.assertTrue(node.append((2, 1), entry(3, 1), term=2)[-1].success)
        self.assertTrue(node.append((6, 2), term=3, leader=3)[-1].success)
        self.assertFalse(node.raft.snapshot_offered(3, 3, 6, 2, node.now))
        self.assertFalse(node.raft.reinstalling)

    def test_entry(self) -> None:
        """The entry with which a new term begins, below the snapshot."""
        node = self.node()
        reply = node.append((4, 1), entry(5, 3), term=3, leader=3)[-1]
        self.assertEqual((reply.success, reply.conflict_index), (False, 0))
        self.assertTrue(node.raft.reinstalling)

    def test_entry_before(self) -> None:
        """The same in a probe."""
        node = self.node()
        self.assertFalse(node.append((5, 3), term=3, leader=3)[-1].success)
        self.assertTrue(node.raft.reinstalling)

    def test_snapshot(self) -> None:
        """The same in an offer, which is wanted then."""
        node = self.node()
        self.assertTrue(node.raft.snapshot_offered(3, 3, 5, 3, node.now))
        node.raft.snapshot_installed(5, 3, 0, members(1, 2, 3), 3, node.now)
        self.assertEqual((node.raft.commit_index, node.raft.log.last_index), (5, 5))
