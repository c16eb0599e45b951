"""What the node does when disks, leaders and links fail, and at its bounds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DeadlinePassed, NotLeader, OutcomeUnknown
from finn.node.proposals import MAX_BATCH_BYTES, MAX_PENDING_BYTES, Proposals
from finn.node.reads import Reads
from finn.node.runs import Run
from finn.node.status import go_duration
from finn.options import Consistency
from finn.raft.entries import COMMANDS, make_entry
from finn.testing.cluster import MemoryCluster
from tests.node.cores import appended, make_leader, settle
from tests.node.support import Client, Journal


class Slot:
    """Keeps what it is filled with."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def fill(self, data: bytes) -> None:
        """Take the replies."""
        self.data.append(data)


def make_run(count: int = 1) -> tuple[Run, Slot]:
    """Return a run of commands and its slot."""
    slot = Slot()
    return Run(slot, [[b"PUT"]] * count, False, 0.0), slot


class ProposalsTests(SynchronousTestCase):
    """Every run ends once, with a true outcome (DESIGN P2)."""

    def test_one_turn_is_one_entry_up_to_the_bound(self) -> None:
        """Runs share an entry until it is full."""
        proposals, raft = Proposals(), make_leader()
        for _ in range(3):
            proposals.add(make_run()[0], b"x" * (MAX_BATCH_BYTES // 2), 1, 0.0)
        proposals.submit(raft, 0, 0.0)
        self.assertEqual([e.count for e in appended(raft)], [2, 1])

    def test_what_was_not_appended_is_certainly_not_applied(self) -> None:
        """Withdrawn runs get TRY, those in flight UNKNOWN, each once."""
        proposals, raft = Proposals(), make_leader()
        flying, flying_slot = make_run(2)
        proposals.add(flying, b"ab", 2, 0.0)
        proposals.submit(raft, 0, 0.0)
        queued, queued_slot = make_run()
        proposals.add(queued, b"c", 1, 0.0)
        proposals.withdraw(NotLeader(":7482"))
        proposals.forget(OutcomeUnknown())
        self.assertEqual(queued_slot.data, [b"-TRY :7482\r\n"])
        self.assertEqual(
            flying_slot.data, [b"-UNKNOWN leadership lost while committing log\r\n" * 2]
        )
        self.assertTrue(proposals.idle)
        self.assertEqual(proposals.pending_bytes, 0)

    def test_committed_entries_keep_their_runs(self) -> None:
        """Lost leadership does not make an unknown outcome of what is committed already."""
        proposals, raft = Proposals(), make_leader()
        run, slot = make_run()
        proposals.add(run, b"a", 1, 0.0)
        proposals.submit(raft, 0, 0.0)
        settle(raft)
        proposals.forget(OutcomeUnknown(), above=raft.commit_index)
        self.assertEqual(slot.data, [])
        (entry,) = appended(raft)
        batch = proposals.take(entry)
        assert batch is not None
        self.assertEqual(batch.runs, [run])

    def test_overwritten_entry_is_unknown(self) -> None:
        """Another leader's entry at the index is not the one that was proposed."""
        proposals, raft = Proposals(), make_leader()
        run, slot = make_run()
        proposals.add(run, b"a", 1, 0.0)
        proposals.submit(raft, 0, 0.0)
        other = make_entry(raft.log.last_index, raft.current_term + 1, COMMANDS, 0, 0, 0, [])
        self.assertIsNone(proposals.take(other))
        self.assertTrue(slot.data[0].startswith(b"-UNKNOWN "))

    def test_deadlines(self) -> None:
        """Queued runs fail as not applied, those in flight as unknown; both only when due."""
        proposals, raft = Proposals(), make_leader()
        runs = [make_run() for _ in range(3)]
        proposals.add(runs[0][0], b"a", 1, 1.0)
        proposals.submit(raft, 0, 1.0)
        proposals.add(runs[1][0], b"b", 1, 2.0)
        proposals.expire(1.5)
        self.assertTrue(runs[0][1].data[0].startswith(b"-UNKNOWN request timed out"))
        self.assertEqual(runs[1][1].data, [])
        proposals.expire(2.5)
        self.assertEqual(runs[1][1].data, [b"-ERR request timed out\r\n"])

    def test_full_and_room_again(self) -> None:
        """Reading stops at the bound and goes on at half of it."""
        proposals, raft = Proposals(), make_leader()
        for _ in range(MAX_PENDING_BYTES // MAX_BATCH_BYTES):
            proposals.add(make_run()[0], b"x" * MAX_BATCH_BYTES, 1, 0.0)
        self.assertTrue(proposals.full)
        proposals.submit(raft, 0, 0.0)
        entries = appended(raft)
        self.assertFalse(proposals.queued)
        for entry in entries[: len(entries) // 2]:
            proposals.take(entry)
        self.assertFalse(proposals.has_room)
        proposals.take(entries[len(entries) // 2])
        self.assertTrue(proposals.has_room)

    def test_one_run_taken_back(self) -> None:
        """A run that is taken back leaves no bytes in the entry."""
        proposals, raft = Proposals(), make_leader()
        first, second = make_run()[0], make_run()[0]
        proposals.add(first, b"first", 1, 0.0)
        proposals.add(second, b"second", 1, 0.0)
        self.assertTrue(proposals.withdraw_run(first))
        proposals.submit(raft, 0, 0.0)
        (entry,) = appended(raft)
        self.assertEqual((entry.payload, entry.count), (b"second", 1))
        self.assertFalse(proposals.withdraw_run(second))


class ReadsTests(SynchronousTestCase):
    """Waiting reads share a quorum round and wait for the apply loop."""

    def test_one_round_for_all_reads_of_a_turn(self) -> None:
        """Reads are put to the core once, and served when the index is applied."""
        served: list[Run] = []
        reads, raft = Reads(served.append), make_leader()
        runs = [make_run()[0] for _ in range(3)]
        for run in runs:
            reads.confirm(run, 0.0)
        reads.submit(raft, 0.0)
        ((token, index),) = settle(raft)
        reads.confirmed(token, index, NotLeader())
        reads.applied(index - 1)
        self.assertEqual(served, [])
        reads.applied(index)
        self.assertEqual(served, runs)
        self.assertEqual(reads.count, 0)

    def test_lost_leadership(self) -> None:
        """Nothing is served, and the client is told where to go."""
        reads, raft = Reads(lambda run: self.fail("served")), make_leader()
        run, slot = make_run()
        reads.confirm(run, 0.0)
        reads.submit(raft, 0.0)
        raft.step_down(0.0, "test")
        ((token, index),) = settle(raft)
        self.assertEqual(index, -1)
        reads.confirmed(token, index, NotLeader(":7483"))
        self.assertEqual(slot.data, [b"-TRY :7483\r\n"])

    def test_deadline(self) -> None:
        """A read that waited too long fails; it can be repeated."""
        reads, raft = Reads(lambda run: self.fail("served")), make_leader()
        run, slot = make_run()
        reads.confirm(run, 0.0)
        reads.submit(raft, 0.0)
        reads.expire(1.0)
        self.assertEqual(slot.data, [b"-ERR request timed out\r\n"])
        self.assertRaises(DeadlinePassed, self._raise, DeadlinePassed())

    @staticmethod
    def _raise(error: Exception) -> None:
        raise error


class DurationTests(SynchronousTestCase):
    """``last_contact`` is told as Go does."""

    def test_units(self) -> None:
        """The largest unit that fits, without trailing zeros."""
        cases = {
            0.0: "0s", 12e-9: "12ns", 1.5e-6: "1.5µs", 0.041276964: "41.276964ms",
            1.44499573: "1.44499573s", 61.5: "1m1.5s", 3600.0: "1h0m0s",
        }  # fmt: skip
        self.assertEqual({s: go_duration(s) for s in cases}, cases)


class FailureTests(SynchronousTestCase):
    """Whole nodes under faults."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(Journal)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()

    def others(self) -> list[int]:
        return [m for m in range(3) if m != self.leader]

    def test_write_of_a_leader_without_a_majority_is_unknown(self) -> None:
        """It was appended: the outcome is unknown, and TRY is never the answer."""
        client = Client(self.cluster, self.leader)
        self.assertEqual(client.ask("PUT a 1"), b"+OK\r\n")
        self.cluster.partition([self.leader])
        reply = client.ask("PUT a 2")
        self.assertTrue(reply.startswith(b"-UNKNOWN "), reply)
        self.assertEqual(client.ask("PUT a 3"), b"-ERR leader not known\r\n")
        self.assertEqual(self.cluster.execute("PUT", "a", "4"), b"OK")
        self.cluster.heal()
        self.cluster.wait_until(self.cluster.settled)
        self.cluster.advance(1)
        values = {self.cluster.machine(m).values[b"a"] for m in range(3)}
        self.assertEqual(values, {b"4"})

    def test_paused_leader_serves_nothing_stale(self) -> None:
        """After a pause longer than the lease, a medium read is not answered from old state."""
        client = Client(self.cluster, self.leader)
        self.assertEqual(client.ask("PUT a old", "TAKE a"), b"+OK\r\n$3\r\nold\r\n")
        self.cluster.pause(self.leader)
        self.cluster.advance(5)
        self.cluster.execute("PUT", "a", "new")
        # The bytes were there before it goes on: they are the first thing it sees.
        self.cluster.resume(self.leader)
        client.transport.clear()
        client.send("TAKE a")
        self.cluster.advance(1)
        self.assertNotIn(b"old", client.received)

    def test_reads_at_every_level(self) -> None:
        """Low is local, medium and high say TRY on a follower."""
        self.cluster.execute("PUT", "a", "1")
        self.cluster.advance(1)
        follower = self.others()[0]
        low = self.cluster.execute("TAKE", "a", on=follower, consistency=Consistency.LOW)
        self.assertEqual(low, b"1")
        before = self.cluster.nodes[self.leader].raft.log.last_index
        for level in (Consistency.MEDIUM, Consistency.HIGH):
            value = self.cluster.execute("TAKE", "a", on=self.leader, consistency=level)
            self.assertEqual(value, b"1")
        self.assertEqual(self.cluster.nodes[self.leader].raft.log.last_index, before)

    def test_pipeline_in_order(self) -> None:
        """Writes, reads, local commands and errors are answered in their order."""
        client = Client(self.cluster, self.leader)
        self.assertEqual(
            client.ask("PUT p 1", "TAKE p", "FOO", "TAKE", "PING", "PUT p 2", "TAKE p"),
            b"+OK\r\n$1\r\n1\r\n-ERR unknown command 'FOO'\r\n"
            b"-ERR wrong number of arguments for 'TAKE' command\r\n+PONG\r\n+OK\r\n$1\r\n2\r\n",
        )

    def test_watch(self) -> None:
        """A write of another client between WATCH and EXEC makes EXEC null; else it runs."""
        first, second = Client(self.cluster, self.leader), Client(self.cluster, self.leader)
        self.assertEqual(first.ask("WATCH a"), b"+OK\r\n")
        second.ask("PUT a other")
        self.assertEqual(first.ask("MULTI", "PUT a mine", "EXEC"), b"+OK\r\n+QUEUED\r\n*-1\r\n")
        self.assertEqual(
            first.ask("WATCH a", "MULTI", "PUT a mine", "TAKE a", "EXEC"),
            b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$4\r\nmine\r\n",
        )

    def test_removed_leader_hands_over_and_says_so(self) -> None:
        """Its own removal is answered OK; then it serves its status only."""
        client = Client(self.cluster, self.leader)
        address = self.cluster.nodes[self.leader].options.address
        self.assertEqual(client.ask(f"RAFTREMOVEPEER {address}"), b"+OK\r\n")
        self.cluster.advance(1)
        self.assertEqual(
            client.ask("RAFTSTATE", "RAFTLEADER", "PUT a 1", "TAKE a", "RAFTSNAPSHOT"),
            b"$8\r\nShutdown\r\n$-1\r\n-raft is already shutdown\r\n-ERR leader not known\r\n"
            b"-ERR raft is already shutdown\r\n",
        )
        self.assertEqual(self.cluster.execute("PUT", "a", "2"), b"OK")

    def test_a_far_behind_member_gets_a_snapshot(self) -> None:
        """When the log it needs is gone, the snapshot comes, and the rest of the log after it."""
        away = self.others()[0]
        self.cluster.crash(away)
        for n in range(20):
            self.cluster.execute("PUT", f"k{n}", "x")
        node = self.cluster.nodes[self.leader]
        self.cluster.result(node.snapshots.take())
        self.cluster.execute("PUT", "more", "1")
        self.cluster.result(node.snapshots.take())
        self.cluster.result(node.snapshots.shrink())
        self.assertGreater(node.store.first_index, 20)
        self.cluster.restart(away)
        self.cluster.wait_until(lambda: self.cluster.nodes[away].snapshots.installed == 1)
        self.cluster.execute("PUT", "after", "1")
        self.cluster.advance(1)
        self.assertEqual(
            self.cluster.machine(away).values, self.cluster.machine(self.leader).values
        )

    def test_a_client_that_does_not_read_is_owed_little(self) -> None:
        """A chunk that asks for much is served as far as the client takes it, then in order."""
        client = Client(self.cluster, self.leader)
        value = "x" * 50_000
        self.assertEqual(client.ask(f"PUT big {value}", "PUT small 1"), b"+OK\r\n+OK\r\n")
        output = client.protocol._output
        output.pauseProducing()
        client.transport.clear()
        # In multibulk form, as one chunk.
        take = b"*2\r\n$4\r\nTAKE\r\n$3\r\nbig\r\n"
        last = b"*2\r\n$4\r\nTAKE\r\n$5\r\nsmall\r\n"
        client.protocol.dataReceived(take * 1000 + last)
        self.cluster.advance(1)
        self.assertLess(output.unsent, 5_000_000)
        size = len(value) + len(b"$50000\r\n\r\n")
        for _ in range(10_000):
            output.resumeProducing()
            self.cluster.advance(0.001)
            if client.received.endswith(b"$1\r\n1\r\n"):
                break
        self.assertEqual(len(client.received), 1000 * size + len(b"$1\r\n1\r\n"))
