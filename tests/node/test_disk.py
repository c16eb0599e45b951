"""What the node waits for the disk with, and what it does when the disk fails."""

from __future__ import annotations

import errno
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog, DiskFailed
from finn.options import Durability
from finn.raft.messages import RequestVote, VoteReply
from finn.storage.identity import Identity
from finn.testing.cluster import MemoryCluster
from tests.node.peers import Peer
from tests.node.support import Client, Journal


class DiskTests(SynchronousTestCase):
    """Three nodes, and the disks of some in trouble."""

    def setUp(self) -> None:
        self.start()

    def start(self, **options: Any) -> None:
        self.cluster = MemoryCluster(Journal, **options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.others = [m for m in range(3) if m != self.leader]

    def raft(self, member: int) -> Any:
        raft = self.cluster.nodes[member].raft
        assert raft is not None
        return raft

    def ask_for_a_vote(self, member: int) -> tuple[int, Peer]:
        """Let another member ask it for its vote in the next term, after a hand-over."""
        candidate = int(self.raft(next(m for m in self.others if m != member)).node_id)
        peer = Peer(self.cluster, member, candidate)
        term = self.raft(member).current_term
        peer.send(RequestVote(term + 1, 99, term, transfer=True))
        return candidate, peer

    def test_a_vote_waits_for_the_disk(self) -> None:
        """No answer leaves before term and vote are written (PySyncObj#84)."""
        member = self.others[0]
        self.cluster.partition([member])
        self.cluster.computers[member].disk.hang()
        _, peer = self.ask_for_a_vote(member)
        self.cluster.advance(0.1)
        self.assertEqual(peer.received(VoteReply), [])
        self.cluster.computers[member].disk.resume()
        self.cluster.advance(0.1)
        self.assertEqual([reply.granted for reply in peer.received(VoteReply)], [True])

    def test_term_and_vote_survive_a_restart(self) -> None:
        """A node that comes back knows for whom it voted (PySyncObj PR#202)."""
        member = self.others[0]
        self.cluster.partition([member])
        candidate, _ = self.ask_for_a_vote(member)
        self.cluster.advance(0.1)
        term = self.raft(member).current_term
        self.cluster.restart(member)
        self.cluster.wait_until(lambda: self.cluster.nodes[member].raft)
        raft = self.raft(member)
        self.assertEqual((raft.current_term, raft.voted_for), (term, candidate))

    def test_a_leader_whose_disk_hangs_makes_way(self) -> None:
        """It could go on with the others' disks, and would never again have its own."""
        self.start(durability=Durability.HIGH)
        self.cluster.computers[self.leader].disk.hang()
        self.cluster.submit("PUT", "a", "1", on=self.leader).addErrback(lambda _: None)
        self.cluster.wait_until(lambda: not self.cluster.computers[self.leader].leads, 5)
        self.assertNotEqual(self.cluster.leader(), self.leader)
        self.assertEqual(self.cluster.execute("PUT", "a", "2"), b"OK")

    def test_a_full_disk_stops_the_node(self) -> None:
        """One clear error, and the others go on."""
        computer = self.cluster.computers[self.leader]
        computer.files.fail("write", error=errno.ENOSPC, path="log")
        self.cluster.submit("PUT", "a", "1", on=self.leader).addErrback(lambda _: None)
        self.cluster.wait_until(lambda: computer.failure, 5)
        self.assertIsInstance(computer.failure, DiskFailed)
        self.assertIn("No space left", str(computer.failure))
        self.assertEqual(self.cluster.execute("PUT", "a", "2"), b"OK")

    def test_a_failing_sync_stops_the_node(self) -> None:
        """It is not tried again: what it should have synced may be gone (fsyncgate)."""
        self.start(durability=Durability.HIGH)
        computer = self.cluster.computers[self.leader]
        computer.files.fail("datasync", path="log")
        self.cluster.submit("PUT", "a", "1", on=self.leader).addErrback(lambda _: None)
        self.cluster.wait_until(lambda: computer.failure, 5)
        self.assertIsInstance(computer.failure, DiskFailed)
        self.assertEqual(self.cluster.execute("PUT", "a", "2"), b"OK")

    def test_power_loss_makes_amnesic_until_cured(self) -> None:
        """At medium a node that lost power does not vote until a leader has brought it up."""
        member = self.others[0]
        computer = self.cluster.computers[member]
        self.cluster.execute("PUT", "a", "1")
        self.cluster.cut_power(member)
        self.cluster.partition([member])
        computer.start()
        self.cluster.wait_until(lambda: computer.node.raft)
        self.cluster.advance(0.5)
        self.assertTrue(self.raft(member).amnesic)
        self.cluster.heal()
        self.cluster.wait_until(lambda: not self.raft(member).amnesic)
        self.cluster.wait_until(lambda: not computer.node.identity.amnesic)

    def test_a_damaged_log_stops_the_node_and_harms_nobody(self) -> None:
        """It neither leads nor deletes anything; the others have the data."""
        member = self.others[0]
        computer = self.cluster.computers[member]
        for n in range(5):
            self.cluster.execute("PUT", f"k{n}", "x")
            self.cluster.advance(1.5)
        self.cluster.stop(member)
        path = "data/log/00000001.log"
        size = computer.files.open_readonly(path).size()
        computer.files.flip_bit(path, size // 2)
        computer.start()
        self.cluster.wait_until(lambda: computer.failure, 5)
        self.assertIsInstance(computer.failure, CorruptLog)
        self.assertIn(path, str(computer.failure))
        self.assertEqual(computer.files.open_readonly(path).size(), size)
        self.assertEqual(self.cluster.execute("TAKE", "k4"), b"x")

    def test_an_acknowledged_write_is_on_a_majority_of_disks(self) -> None:
        """At high a write waits until one of the two others has it on its disk."""
        self.start(durability=Durability.HIGH)
        client = Client(self.cluster, self.leader)
        for member in self.others:
            self.cluster.computers[member].disk.hang()
        client.send("PUT a 1")
        self.cluster.advance(0.5)
        self.assertEqual(client.received, b"")
        self.cluster.computers[self.others[0]].disk.resume()
        self.cluster.advance(0.1)
        self.assertEqual(client.received, b"+OK\r\n")

    def stopped(self, member: int) -> Identity:
        """Stop a member, and return what its node.json says then."""
        self.cluster.stop(member)
        identity = Identity.load(self.cluster.computers[member].files, "data")
        assert identity is not None
        return identity

    def test_a_stop_with_a_failing_disk_is_not_clean(self) -> None:
        """The next start must not trust what the last sync did not reach."""
        member = self.others[0]
        computer = self.cluster.computers[member]
        self.cluster.execute("PUT", "a", "1")
        self.cluster.advance(0.01)
        computer.files.fail("datasync", path="log")
        self.assertFalse(self.stopped(member).clean)

    def test_a_stop_that_cannot_read_the_end_of_the_log_is_not_clean(self) -> None:
        """What cannot be noted cannot be missed at the next start, which is as after a crash."""
        member = self.others[0]
        computer = self.cluster.computers[member]
        self.cluster.execute("PUT", "a", "1")
        self.cluster.advance(2)
        computer.files.fail("pread", path="log")
        identity = self.stopped(member)
        self.assertEqual((identity.clean, identity.end), (False, None))
        self.cluster.restart(member)
        self.cluster.wait_until(self.cluster.settled)
        self.assertIsNone(computer.failure)
