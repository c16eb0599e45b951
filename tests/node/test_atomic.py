"""Transactions are one piece for everybody who looks, and WATCH misses no write."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.node import applying
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal

MANY = 700  # more than the apply loop runs between two looks at the clock


class AtomicTests(SynchronousTestCase):
    """Three nodes whose apply loop yields whenever it may."""

    def setUp(self) -> None:
        self.patch(applying, "SLICE", 0.0)
        self.cluster = MemoryCluster(Journal)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.client = Client(self.cluster, self.leader)

    def rows_seen(self, member: int, *lines: str, until: int) -> set[int]:
        """Send commands and return how many rows a member had between any two steps."""
        self.client.send(*lines)
        machine = self.cluster.machine(member)
        seen = {0}
        while until not in seen:
            self.cluster.world.scheduler.step()
            seen.add(len(machine.rows))
        return seen

    def test_the_loop_yields(self) -> None:
        """Without MULTI parts are seen, or the other tests would show nothing."""
        seen = self.rows_seen(self.leader, *["NOTE x"] * MANY, until=MANY)
        self.assertGreater(len(seen), 2)
        follower = (self.leader + 1) % 3
        self.client.send(*["NOTE x"] * MANY)
        seen = self.rows_seen(follower, until=2 * MANY)
        self.assertGreater(len(seen), 3)

    def test_a_long_transaction_is_one_piece(self) -> None:
        """Nobody on the leader sees half of it."""
        seen = self.rows_seen(self.leader, "MULTI", *["NOTE x"] * MANY, "EXEC", until=MANY)
        self.assertEqual(seen, {0, MANY})

    def test_a_long_transaction_is_one_piece_on_followers(self) -> None:
        """Nor on the others, which parse it out of the entry."""
        follower = (self.leader + 1) % 3
        seen = self.rows_seen(follower, "MULTI", *["NOTE x"] * MANY, "EXEC", until=MANY)
        self.assertEqual(seen, {0, MANY})

    def test_watch_waits_for_the_writes_before_it(self) -> None:
        """A write that was proposed before is seen by the reads behind WATCH."""
        other = Client(self.cluster, self.leader)
        other.send("PUT a theirs")
        self.client.send("WATCH a")
        self.client.send("TAKE a")
        self.cluster.advance(0.5)
        self.assertEqual(self.client.received, b"+OK\r\n$6\r\ntheirs\r\n")

    def test_a_write_that_names_no_keys_makes_watches_dirty(self) -> None:
        """Nobody knows what it wrote."""
        self.client.ask("WATCH a")
        Client(self.cluster, self.leader).ask("NOTE x")
        self.assertTrue(self.client.ask("MULTI", "PUT a 1", "EXEC").endswith(b"*-1\r\n"))
