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

    def read_on(self, node: Single, gap: int, trips: dict[int, int], count: int) -> list[int]:
        """Read every so often, with peers that answer after so long; return how long each took.

        All in tenths of a millisecond; who is not in ``trips`` never answers.
        """
        began: dict[int, int] = {}
        took: dict[int, int] = {}
        answers: list[tuple[int, int, AppendReply]] = []
        tick = 0
        while len(took) < count:
            if tick % gap == 0 and len(began) < count:
                began[len(began)] = tick
                node.raft.read_index(len(began) - 1, node.now)
                node.drain()
            for peer, message in node.sent:
                if isinstance(message, AppendEntries) and peer in trips:
                    last = message.prev_log_index + len(message.entries)
                    reply = AppendReply(message.term, True, message.round, last)
                    answers.append((tick + trips[peer], peer, reply))
            node.sent.clear()
            for at, peer, reply in list(answers):
                if at == tick:
                    node.gets(peer, reply)
            answers = [answer for answer in answers if answer[0] > tick]
            for token, _ in node.host.reads[len(took) :]:
                took[token] = tick - began[token]
            node.wait(0.0001)
            tick += 1
            self.assertLess(tick, 40 * count)
        return [took[n] for n in range(count)]

    def test_reads_that_overlap(self) -> None:
        """The fastest is found, and one that stalls given up, though more is asked meanwhile."""
        for trip in (25, 39, 45, 59, 100):
            took = self.read_on(self.lead(3), 10, {2: trip, 3: 14}, 8 * RACE)
            self.assertEqual(took[-RACE:], [14] * RACE)
        for gap, trip in ((10, 10), (19, 20), (30, 32)):
            took = self.read_on(self.lead(3), gap, {3: trip}, RACE - 5)
            self.assertLessEqual(max(took), trip + HEDGE / 0.0001)
            self.assertLess(sum(n > trip for n in took), 7)

    def test_a_successor_does_not_wait(self) -> None:
        """Whom leadership is handed to is no spare."""
        node = self.lead(3)
        node.propose()
        self.answer(node, 2)
        node.sent.clear()
        node.raft.transfer_leadership(3, node.now)
        node.drain()
        self.assertEqual(self.asked(node), [3])

    def test_no_deadline_of_the_past(self) -> None:
        """A driver would take it for a timer that fires late."""
        node = self.lead(3)
        node.raft.peer_lost(3, node.now)
        node.raft.peer_connected(3, node.now)
        node.drain()
        probe = node.said(AppendEntries, 3)[-1]
        node.propose()
        node.propose()
        first = node.said(AppendEntries, 2)[0]
        node.gets(2, AppendReply(1, True, first.round, first.prev_log_index + 1))
        node.wait(5 * HEDGE)  # for the second; there was no spare to put off
        node.gets(3, AppendReply(1, True, probe.round, probe.prev_log_index))
        node.propose()
        self.assertLess(node.raft.commit_index, node.raft.log.last_index)
        self.assertGreaterEqual(node.raft.next_deadline(), node.now)

    def test_reads_are_asked_of_who_fell_out_of_step_meanwhile(self) -> None:
        """An answer to a question says the same, whatever the log holds."""
        node = self.lead(3)
        node.raft.read_index("a", node.now)
        node.drain()
        self.assertEqual(self.asked(node), [2])
        node.gets(3, AppendReply(1, False, 2, 0, 1, 0, 0))
        node.sent.clear()
        node.wait(HEDGE + 0.0001)
        for message in node.said(AppendEntries, 3):
            node.gets(3, AppendReply(1, True, message.round, 0))
        self.assertEqual(len(node.host.reads), 1)

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
            first = 0
            for _ in range(2 * RACE):
                self.ask(node, reads)
                asked = self.asked(node)
                first = asked[0] if len(asked) == 1 else first  # but for a race
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
            # Every 100 ms a heartbeat, and news of commits where no entries will tell them.
            self.assertLess(count, 110 if kind == "probed" else 10, kind)

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
