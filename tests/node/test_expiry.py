"""Keys expire on the replicated clock: an idle cluster writes nothing for it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.options import Consistency
from finn.testing.cluster import MemoryCluster
from tests.machines.kvclient import dump
from tests.node.support import Client


class ExpiryTests(SynchronousTestCase):
    """Three nodes, with nobody writing."""

    consistency = Consistency.MEDIUM

    def setUp(self) -> None:
        self.cluster = MemoryCluster(KV, size=3, consistency=self.consistency)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.client = Client(self.cluster, self.cluster.leader())
        self.assertEqual(self.client.ask("SET k v PX 5000", "SET other v"), b"+OK\r\n+OK\r\n")

    @property
    def last_index(self) -> int:
        raft: Any = self.cluster.nodes[self.cluster.leader()].raft
        return int(raft.log.last_index)

    def grows(self, command: str, reply: bytes) -> int:
        """Send a command, check its reply, and return how many entries the log grew by."""
        before = self.last_index
        self.assertEqual(self.client.ask(command), reply, command)
        self.cluster.advance(1.0)
        return self.last_index - before

    def test_one_entry_for_the_read_that_finds_out(self) -> None:
        """The first read of an expired key appends one empty entry; no other read appends any."""
        self.assertEqual(self.grows("GET k", b"$1\r\nv\r\n"), 0)
        before = self.last_index
        self.cluster.advance(10.0)
        self.assertEqual(self.last_index, before)
        self.assertEqual(self.grows("GET other", b"$1\r\nv\r\n"), 0)
        self.assertEqual(self.grows("GET none", b"$-1\r\n"), 0)
        self.assertEqual(self.grows("GET k", b"$-1\r\n"), 1)
        for command, reply in (
            ("GET k", b"$-1\r\n"), ("DBSIZE", b":1\r\n"), ("TTL k", b":-2\r\n"),
            ("EXISTS k other", b":1\r\n"), ("KEYS *", b"*1\r\n$5\r\nother\r\n"),
        ):  # fmt: skip
            self.assertEqual(self.grows(command, reply), 0, command)

    def test_reads_of_all_keys_find_out_too(self) -> None:
        """So do DBSIZE and KEYS, and reads within MULTI."""
        self.cluster.advance(10.0)
        self.assertEqual(self.grows("DBSIZE", b":1\r\n"), 1)
        self.client.ask("SET k v PX 5000")
        self.cluster.advance(10.0)
        self.client.ask("MULTI", "GET k")
        self.assertEqual(self.grows("EXEC", b"*1\r\n$-1\r\n"), 1)

    def test_a_pipeline_finds_out_once(self) -> None:
        """Reads that come together wait for the same entry, or for one already appended."""
        self.cluster.advance(10.0)
        before = self.last_index
        reply = self.client.ask("GET k", "GET k", "DBSIZE", "GET other")
        self.assertEqual(reply, b"$-1\r\n$-1\r\n:1\r\n$1\r\nv\r\n")
        self.assertEqual(self.last_index, before + 1)

    def test_nodes_stay_equal(self) -> None:
        """The entry carries the clock to every node: all forget the key at the same place."""
        self.cluster.advance(10.0)
        self.client.ask("GET k", "SET k2 v")
        last = self.last_index
        self.cluster.wait_until(
            lambda: all(node.applying.last_applied == last for node in self.cluster.nodes)
        )
        machines = [self.cluster.machine(n) for n in range(3)]
        times = {node.applying.last_time for node in self.cluster.nodes}
        self.assertEqual(len(times), 1)
        now = times.pop()
        self.assertEqual([machine.look(now, b"k") for machine in machines], [None] * 3)
        self.assertEqual(len({dump(machine) for machine in machines}), 1)

    def test_leadership_lost_meanwhile(self) -> None:
        """A read whose empty entry cannot be committed is refused when leadership is lost."""
        self.cluster.advance(10.0)
        leader = self.cluster.leader()
        self.cluster.partition([leader])
        before = self.cluster.world.now
        self.assertEqual(self.client.ask("GET k"), b"-ERR leader not known\r\n")
        self.assertLess(self.cluster.world.now - before, 3.0)

    def test_a_time_to_live_is_fresh(self) -> None:
        """TTL after a while of nothing is told by the leader's clock."""
        self.cluster.advance(3.0)
        before = self.last_index
        left = int(self.client.ask("PTTL k")[1:])
        self.assertTrue(1500 < left <= 2000, left)
        self.assertEqual(self.last_index, before + 1)
        self.assertEqual(self.client.ask("PTTL other"), b":-1\r\n")
        self.assertEqual(self.last_index, before + 1)


class HighExpiryTests(ExpiryTests):
    """The same at consistency high."""

    consistency = Consistency.HIGH


class LowExpiryTests(SynchronousTestCase):
    """At consistency low a follower answers with what it has."""

    def test_a_follower_appends_nothing(self) -> None:
        """A read on a follower appends no entry; it sees the clock of the last one."""
        cluster = MemoryCluster(KV, size=3, consistency=Consistency.LOW)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("SET", "k", "v", "PX", "1000")
        leader = cluster.leader()
        follower = Client(cluster, (leader + 1) % 3)
        cluster.advance(5.0)
        raft: Any = cluster.nodes[leader].raft
        before = raft.log.last_index
        self.assertEqual(follower.ask("GET k"), b"$1\r\nv\r\n")
        self.assertEqual(raft.log.last_index, before)
        cluster.execute("SET", "other", "v")
        cluster.wait_until(lambda: follower.ask("GET k") == b"$-1\r\n")
