"""When spares, the voters that no majority needs, are asked: see also ``traces/spares.txt``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.raft import RaftOptions
from finn.raft.messages import AppendEntries, AppendReply
from finn.raft.progress import ProgressState
from finn.raft.replication import RACE
from tests.raft.host import members
from tests.raft.single import Single

DELAY = 0.010
HEDGE = 0.004


class SpareTests(SynchronousTestCase):
    """A leader whose followers the test plays."""

    def lead(self, voters: int, **options: int) -> Single:
        """Return a leader of so many voters, in step with all of them."""
        node = Single(
            members(*range(1, voters + 1)),
            options=RaftOptions(spare_delay=DELAY, hedge_delay=HEDGE, **options),
        )
        node.lead_on()
        node.wait(0.11)
        for peer in range(2, voters + 1):
            node.acknowledge(peer)
        node.sent.clear()
        return node

    def answer(self, node: Single, *peers: int) -> None:
        """Let peers answer all that they were sent."""
        for peer in peers:
            for message in node.said(AppendEntries, peer):
                last = message.prev_log_index + len(message.entries)
                node.gets(peer, AppendReply(message.term, True, message.round, last))

    def asked(self, node: Single) -> list[int]:
        return [peer for peer, message in node.sent if isinstance(message, AppendEntries)]

    def ask(self, node: Single, reads: bool) -> None:
        """Want something of a majority."""
        if reads:
            node.raft.read_index("a", node.now)
            node.drain()
        else:
            node.propose()

    def come_back(self, node: Single, missed: int) -> None:
        """Let 3 miss so many writes, and refuse the probe when its link is there again."""
        node.raft.peer_lost(3, node.now)
        for _ in range(missed):
            node.propose()
            self.answer(node, 2)
        node.raft.peer_connected(3, node.now)
        node.drain()
        probe = node.said(AppendEntries, 3)[-1]
        node.gets(3, AppendReply(1, False, probe.round, 0, probe.prev_log_index, 2))

    def test_as_many_as_make_a_majority(self) -> None:
        """Of any number of voters; the others follow when the delay is over."""
        for voters, needed in ((2, 1), (3, 1), (4, 2), (5, 2), (7, 3)):
            node = self.lead(voters)
            node.propose()
            self.assertEqual(len(self.asked(node)), needed)
            node.wait(DELAY)
            self.assertEqual(sorted(self.asked(node)), list(range(2, voters + 1)))
            node.raft.read_index("a", node.now)
            node.sent.clear()
            node.drain()
            self.assertEqual(len(self.asked(node)), needed)
            node.wait(DELAY)
            self.assertEqual(sorted(self.asked(node)), list(range(2, voters + 1)))

    def test_sooner_where_no_majority_answers(self) -> None:
        """Of entries and reads; what was answered in time leaves the spares their delay."""
        for reads in (False, True):
            node = self.lead(3)
            self.ask(node, reads)
            node.wait(HEDGE)
            self.assertEqual(self.asked(node), [2, 3])
            self.answer(node, 2, 3)
            node.wait(2 * DELAY)  # what followers are told of the commit
            node.sent.clear()
            self.ask(node, reads)
            node.wait(0.003)
            self.ask(node, reads)
            node.wait(0.0005)
            first = node.sent.pop(0)
            self.assertEqual(self.asked(node), [2])
            last = first[1].prev_log_index + len(first[1].entries)
            node.gets(2, AppendReply(1, True, first[1].round, last))
            # The first is answered: the second has its own time, counted from then.
            node.wait(HEDGE - 0.0001)
            self.assertEqual(self.asked(node), [2])
            self.answer(node, 2)
            node.wait(DELAY - HEDGE - 0.0036)
            self.assertNotIn(3, self.asked(node))
            node.wait(0.0003)
            self.assertIn(3, self.asked(node))

    def test_nothing_but_their_entries(self) -> None:
        """Commits are told with what is put off anyway, to others before."""
        node = self.lead(3)
        node.propose()
        self.answer(node, 2)
        self.assertEqual(self.asked(node), [])
        node.wait(DELAY - 0.001)
        self.assertEqual(self.asked(node), [2])  # of the commit
        node.wait(0.002)
        self.assertEqual(self.asked(node), [2, 3])
        self.assertEqual(node.said(AppendEntries, 3)[0].leader_commit, node.raft.commit_index)

    def test_slow_disk_of_the_leader(self) -> None:
        """Where the others' disks are faster, a majority of those is asked at once."""
        node = self.lead(3)
        node.host.slow = True
        for n in range(5):
            node.propose()
            self.answer(node, 2, 3)
            committed = node.raft.commit_index == node.raft.log.last_index
            self.assertEqual(committed, n > 0, n)  # that it is slow shows with the first
            node.wait(DELAY)
            self.answer(node, 2, 3)
        node.host.slow = False
        node.sync()
        node.propose()
        self.assertEqual(len(self.asked(node)), 1)

    def test_one_that_stalls_is_asked_first_once(self) -> None:
        """With nothing but reads, and answers that take longer than the delay."""
        node = self.lead(3)
        first = []
        for n in range(5):
            node.raft.read_index(n, node.now)
            node.drain()
            first.append(self.asked(node)[0])
            node.wait(HEDGE)
            node.said(AppendEntries, 2)
            self.answer(node, 3)
            self.assertEqual(len(node.host.reads), n + 1)
        self.assertEqual(first, [2, 3, 3, 3, 3])

    def test_the_fastest_is_asked(self) -> None:
        """Whoever answers first where all are asked: for writes that do not overlap, and reads."""
        for reads in (False, True):
            node = self.lead(3)
            for _ in range(2 * RACE):
                self.ask(node, reads)
                first = self.asked(node)[0]
                # Of those who were asked 3 answers at once, 2 after a millisecond.
                self.answer(node, 3)
                node.wait(0.001)
                self.answer(node, 2)
                node.wait(0.01)
                self.answer(node, 2, 3)
                node.sent.clear()
            self.assertEqual(first, 3, reads)

    def test_a_probe_is_not_put_off(self) -> None:
        """Where the logs do not agree yet, nothing waits."""
        node = self.lead(3)
        self.come_back(node, 5)
        self.assertEqual(self.asked(node), [3])

    def test_no_storm(self) -> None:
        """Who can take no entries gets none every few milliseconds, but heartbeats as ever."""
        for kind in ("link lost", "probed", "full window"):
            node = self.lead(5, window_messages=4)
            if kind == "link lost":
                node.raft.peer_lost(5, node.now)
            elif kind == "probed":
                node.raft.peer_connected(5, node.now)
            node.sent.clear()
            count = 0
            for _ in range(500):
                node.propose()
                for _ in range(2):
                    self.answer(node, 2, 3, 4)
                count += len(node.said(AppendEntries, 5))
                node.wait(0.001)
            self.assertEqual(node.raft.commit_index, node.raft.log.last_index)
            # Every 100 ms a heartbeat, every 5 ms at most the news of commits.
            self.assertLess(count, 110, kind)

    def test_catching_up_takes_no_delays(self) -> None:
        """A voter that comes back gets what it lacks as fast as it takes it."""
        node = self.lead(3, window_messages=2, max_message_bytes=200)
        self.come_back(node, 50)
        assert node.raft.leader is not None
        progress = node.raft.leader.progress[3]
        for _ in range(100):
            self.answer(node, 3)
        self.assertIs(progress.state, ProgressState.REPLICATE)
        self.assertEqual(progress.match_index, node.raft.log.last_index)
        # Now it is a spare again.
        self.answer(node, 2)
        node.propose()
        self.assertEqual(self.asked(node), [2])
