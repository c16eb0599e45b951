"""A reply tells the truth: applied, certainly not applied, or unknown (DESIGN P2)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DiskFailed, OutcomeUnknown
from finn.options import Consistency
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal
from tests.node.test_failure import make_run


class OutcomeTests(SynchronousTestCase):
    """Three nodes, one of them with clients."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(Journal)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.others = [m for m in range(3) if m != self.leader]
        self.client = Client(self.cluster, self.leader)
        self.hosts = [computer.host for computer in self.cluster.computers]

    def raft(self, member: int) -> Any:
        return self.cluster.nodes[member].raft

    def rows(self) -> list[int]:
        """Let the cluster come to rest, and count the rows of each machine."""
        self.cluster.heal()
        for computer in self.cluster.computers:
            if not computer.running:
                computer.start()
        self.cluster.wait_until(self.cluster.settled)
        self.cluster.execute("PUT", "end", "1")
        self.cluster.advance(2)
        return [len(self.cluster.machine(m).rows) for m in range(3)]

    # -- leaders that lose their leadership ---------------------------------------------------

    def test_lost_leadership_is_told_at_once(self) -> None:
        """Whoever waits need not wait for the deadline of the request."""
        self.cluster.partition([self.leader])
        self.client.send("PUT a 1")
        self.cluster.wait_until(lambda: self.client.received, 3)
        self.assertEqual(self.client.received, b"-UNKNOWN leadership lost while committing log\r\n")

    def test_what_is_committed_is_answered_after_stepping_down(self) -> None:
        """A write that is committed is applied, whoever leads: its reply is the result."""
        node = self.cluster.nodes[self.leader]
        raft = self.raft(self.leader)
        before = raft.commit_index
        node.applying.paused = True
        self.client.send("NOTE a")
        self.cluster.wait_until(lambda: raft.commit_index > before)
        raft.step_down(node.now(), "the test wants it")
        node.wake()
        self.cluster.advance(0.01)
        self.assertEqual(self.client.received, b"")
        node.applying.paused = False
        node.wake()
        self.cluster.advance(0.01)
        self.assertEqual(self.client.received, b":1\r\n")

    def hand_over(self) -> None:
        """Begin to hand leadership over, and queue a write behind that."""
        raft = self.raft(self.leader)
        raft.transfer_leadership(self.raft(self.others[0]).node_id, raft.now)
        self.cluster.nodes[self.leader].wake()
        self.client.send("NOTE a")

    def test_what_waits_learns_the_next_leader(self) -> None:
        """There is a leader in a moment: nobody is told that there is none (redisraft#21)."""
        self.hand_over()
        self.cluster.wait_until(lambda: self.client.received, 5)
        address = self.cluster.computers[self.others[0]].address
        self.assertEqual(self.client.received, f"-TRY {address}\r\n".encode())
        self.assertEqual(self.rows(), [0, 0, 0])

    def test_without_a_next_leader_the_wait_ends(self) -> None:
        """Long before the deadline of the request."""
        self.cluster.partition([self.leader])
        self.hand_over()
        self.cluster.advance(0.01)
        self.raft(self.leader).step_down(self.raft(self.leader).now, "the test wants it")
        self.cluster.nodes[self.leader].wake()
        self.cluster.wait_until(lambda: self.client.received, 4)
        self.assertEqual(self.client.received, b"-ERR leader not known\r\n")

    def test_a_write_in_flight_that_times_out_is_unknown(self) -> None:
        """It was appended: it may be applied later."""
        self.cluster.partition([self.leader])
        outcome = self.cluster.submit("NOTE", "a", on=self.leader, timeout=0.3)
        self.assertRaises(OutcomeUnknown, self.cluster.result, outcome, 0.5)

    def test_a_failed_node_tells_the_truth(self) -> None:
        """What was in flight when it failed is of unknown outcome."""
        self.cluster.partition([self.leader])
        self.client.send("NOTE a")
        self.cluster.advance(0.05)
        self.cluster.nodes[self.leader].fatal(DiskFailed("cannot sync"))
        self.cluster.advance(0.05)
        self.assertEqual(self.client.received, b"-UNKNOWN node failed\r\n")

    def test_an_outcome_is_told_once(self) -> None:
        """Whatever comes after the first word is not said (redisraft PR#27)."""
        run, slot = make_run()
        run.fail(OutcomeUnknown())
        run.complete([b"+OK\r\n"])
        run.fail(OutcomeUnknown())
        self.assertEqual(slot.data, [b"-UNKNOWN leadership lost while committing log\r\n"])

    def test_a_leader_that_stops_waits_for_the_next_one(self) -> None:
        """While it stops it still names its successor, and no client finds nobody."""
        computer = self.cluster.computers[self.leader]
        raft = self.raft(self.leader)
        done = computer.stop()
        others = [self.cluster.computers[m] for m in self.others]
        self.cluster.wait_until(lambda: any(other.leads for other in others), 5)
        self.assertTrue(computer.running)
        self.assertNotEqual(raft.leader_id, raft.node_id)
        self.cluster.result(done)

    # -- forwarding ---------------------------------------------------------------------------

    def test_a_forwarded_command_follows_the_leader(self) -> None:
        """A member that is told TRY waits until it knows the next leader itself."""
        successor, asker = self.others
        network = self.cluster.world.network
        network.cut_both(self.hosts[successor], self.hosts[asker])
        raft = self.raft(self.leader)
        raft.transfer_leadership(self.raft(successor).node_id, raft.now)
        self.cluster.nodes[self.leader].wake()
        self.cluster.wait_until(lambda: raft.leader_id == self.raft(successor).node_id)
        self.assertEqual(self.raft(asker).leader_id, raft.node_id)
        outcome = self.cluster.submit("NOTE", "a", on=asker)
        self.cluster.advance(0.1)
        network.heal()
        self.assertEqual(self.cluster.result(outcome), 1)

    def test_who_refused_is_not_asked_again_at_once(self) -> None:
        """A former leader would say the same again; the next one is asked once it is known."""
        successor, asker = self.others
        network = self.cluster.world.network
        network.cut(self.hosts[successor], self.hosts[asker])
        raft = self.raft(self.leader)
        raft.transfer_leadership(self.raft(successor).node_id, raft.now)
        self.cluster.nodes[self.leader].wake()
        self.cluster.wait_until(lambda: raft.leader_id == self.raft(successor).node_id)
        forwarding = self.cluster.nodes[self.leader].forwarding
        asked: list[Any] = []
        received = forwarding.received

        def count(link: Any, message: Any) -> None:
            asked.append(message)
            received(link, message)

        self.patch(forwarding, "received", count)
        outcome = self.cluster.submit("NOTE", "a", on=asker)
        self.cluster.advance(0.9)
        self.assertEqual(self.raft(asker).leader_id, raft.node_id)
        self.assertIn(len(asked), (2, 3))
        network.heal()
        known = self.raft(successor).node_id
        self.cluster.wait_until(lambda: self.raft(asker).leader_id == known)
        # Before a sweep, though the network may lose a segment.
        self.assertEqual(self.cluster.result(outcome, 0.3), 1)

    def test_a_forwarded_write_is_not_sent_twice(self) -> None:
        """Its answer got lost: nobody but the sender may decide to try again."""
        asker = self.others[0]
        outcome = self.cluster.submit("NOTE", "a", on=asker)
        network = self.cluster.world.network
        machine = self.cluster.machine(self.leader)
        network.cut(self.hosts[self.leader], self.hosts[asker])
        self.cluster.wait_until(lambda: machine.rows)
        self.cluster.crash(self.leader)
        self.assertRaises(OutcomeUnknown, self.cluster.result, outcome, 9.0)
        self.assertEqual(self.rows(), [1, 1, 1])

    def test_a_long_pipeline_fails_at_once(self) -> None:
        """However many commands wait for each other: no stack is as deep as a pipeline is long."""
        count = 2000
        cluster = MemoryCluster(Journal, consistency=Consistency.HIGH)
        self.addCleanup(cluster.close)
        cluster.start()
        leader = cluster.leader()
        cluster.partition([leader])
        client = Client(cluster, leader)
        for n in range(count):
            client.send("TAKE a")
            client.send(f"PUT a {n}")
        cluster.wait_until(lambda: client.received.count(b"\r\n") == 2 * count, 10)
        self.assertIsNone(cluster.nodes[leader].failure)
        self.assertEqual(set(client.received.split(b"\r\n")), {b"-ERR leader not known", b""})
