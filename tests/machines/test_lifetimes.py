"""Keys expire on the replicated clock."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.deadlines import NEVER, Deadlines
from finn.machines.lifetimes import TICK_MS
from finn.machines.shards import REAPED_PER_WRITE
from tests.machines.kvclient import START, KVClient


class ExpiryTests(SynchronousTestCase):
    """A key is gone from the moment of its deadline on, for every command."""

    def setUp(self) -> None:
        self.client = KVClient()
        self.run_ = self.client.run

    def in_memory(self) -> int:
        """Return the number of keys in memory, expired or not."""
        return sum(map(len, self.client.machine.shards))

    def test_gone_at_the_deadline(self) -> None:
        """A key lives until just before its deadline."""
        self.run_("SET", "k", "x", "PX", "100")
        self.client.now += 99
        self.assertEqual(self.run_("GET", "k"), b"x")
        self.client.now += 1
        self.assertEqual(self.run_("GET", "k"), None)

    def test_gone_for_all_reads(self) -> None:
        """No read sees an expired key, and none removes it."""
        self.run_("RPUSH", "k", "x")
        self.run_("PEXPIRE", "k", "100")
        self.client.now += 100
        for words, reply in (
            ("EXISTS k", 0), ("TYPE k", None), ("KEYS *", []), ("SCAN 0", [b"0", []]),
            ("DBSIZE", 0), ("RANDOMKEY", None), ("LLEN k", 0), ("GET k", None), ("TTL k", -2),
            ("MGET k", [None]), ("STRLEN k", 0), ("PEXPIRETIME k", -2), ("SCARD k", 0),
        ):  # fmt: skip
            found = self.run_(*words.split())
            self.assertEqual(getattr(found, "text", found), reply or getattr(found, "text", reply))
        self.assertEqual(self.in_memory(), 1)

    def test_gone_for_all_writes(self) -> None:
        """A write finds nothing of an expired key, not even its type or deadline."""
        for words, reply in (
            ("APPEND k y", 1), ("INCR k", 1), ("LPUSH k y", 1), ("SADD k y", 1), ("HSET k y z", 1),
            ("SETNX k y", 1), ("PERSIST k", 0), ("EXPIRE k 10", 0), ("DEL k", 0),
            ("GETSET k y", None), ("GETDEL k", None), ("SETRANGE k 1 y", 2), ("MSETNX k y", 1),
            ("LPUSHX k y", 0), ("SPOP k", None), ("RENAMENX other k", 1), ("COPY other k", 1),
            ("SMOVE other2 k y", 1), ("RPOPLPUSH other3 k", b"y"), ("HSETNX k y z", 1),
            ("SINTERSTORE k other2", 1),
        ):  # fmt: skip
            client = KVClient()
            client.run("HSET", "k", "f", "x")
            client.run("SET", "other", "y")
            client.run("SADD", "other2", "y")
            client.run("RPUSH", "other3", "y")
            client.run("PEXPIRE", "k", "100")
            client.now += 100
            self.assertEqual(client.run(*words.split()), reply, words)
            self.assertIn(client.run("TTL", "k"), (-1, -2), words)

    def test_memory_is_given_back(self) -> None:
        """Writes of other keys remove expired ones, a few at a time."""
        for n in range(100):
            self.run_("SET", n, "x", "PX", 100 + n)
        self.client.now += 5000
        before = self.in_memory()
        self.run_("SET", "k", "x")
        self.assertEqual(self.in_memory(), before + 1 - REAPED_PER_WRITE)
        for _ in range(10):
            self.run_("SET", "k", "x")
        self.assertEqual(self.in_memory(), 1)
        self.assertEqual(self.client.machine.next_expiry, NEVER)

    def test_overwriting_removes_the_deadline(self) -> None:
        """SET without KEEPTTL, and what makes a new value, let a key live for ever."""
        for words, left in (
            ("SET k y", -1), ("SET k y KEEPTTL", 100), ("GETSET k y", -1), ("APPEND k y", 100),
            ("INCR k", 100), ("MSET k y", -1), ("SETRANGE k 0 y", 100), ("RENAME k k", 100),
        ):  # fmt: skip
            self.run_("SET", "k", "1", "PX", "100")
            self.run_(*words.split())
            self.assertEqual(self.run_("PTTL", "k"), left, words)

    def test_deadlines_move_with_the_key(self) -> None:
        """RENAME and COPY take the deadline along, and drop that of the key they replace."""
        self.run_("SET", "a", "x", "PX", "100")
        self.run_("SET", "b", "x", "PX", "200")
        self.run_("RENAME", "a", "b")
        self.run_("COPY", "b", "c")
        self.assertEqual([self.run_("PTTL", key) for key in "abc"], [-2, 100, 100])
        self.run_("SET", "d", "x")
        self.run_("RENAME", "d", "b")
        self.assertEqual(self.run_("PTTL", "b"), -1)

    def test_a_past_deadline_removes_at_once(self) -> None:
        """EXPIRE with a time that is past is DEL."""
        for words in ("EXPIRE k -1", "PEXPIREAT k 1", "GETEX k PXAT 1", "SET k x PXAT 1"):
            self.run_("SET", "k", "x")
            self.run_(*words.split())
            self.assertEqual(self.in_memory(), 0, words)


class NeedsTickTests(SynchronousTestCase):
    """The machine tells when a read must move the clock first."""

    def setUp(self) -> None:
        self.client = KVClient()
        self.client.run("SET", "k", "x", "PX", "1000")
        self.client.run("SET", "other", "x")

    def needs(self, words: str, applied: int, wall: int) -> bool:
        """Ask for one read; times are in ms after the start."""
        return self.client.machine.needs_tick(
            [words.encode().split()], START + applied, START + wall
        )

    def test_a_key_that_expired_meanwhile(self) -> None:
        """A read of a key that has expired by the leader's clock only needs a tick."""
        for words in ("GET k", "mget other k", "EXISTS k", "KEYS *", "DBSIZE", "SCAN 0", "TTL k"):
            self.assertFalse(self.needs(words, 990, 999), words)
            self.assertTrue(self.needs(words, 990, 1000), words)
            self.assertFalse(self.needs(words, 1000, 5000), words)
        for words in ("GET other", "GET none", "NONSENSE k", "MGET"):
            self.assertFalse(self.needs(words, 990, 1000), words)

    def test_a_time_to_live_needs_a_fresh_clock(self) -> None:
        """TTL of a key with a deadline needs a tick when the clock stood still for a while."""
        self.assertFalse(self.needs("TTL k", 0, TICK_MS - 1))
        self.assertTrue(self.needs("TTL k", 0, TICK_MS))
        self.assertFalse(self.needs("GET k", 0, TICK_MS))
        self.assertFalse(self.needs("PTTL other", 0, 900))

    def test_next_expiry_is_a_lower_bound(self) -> None:
        """Before ``next_expiry`` nothing expires; without deadlines it is NEVER."""
        machine = self.client.machine
        self.assertLessEqual(machine.next_expiry, START + 1000)
        self.assertGreater(machine.next_expiry, START - 1024)
        self.client.run("FLUSHALL")
        self.assertEqual(machine.next_expiry, NEVER)


class DeadlinesTests(SynchronousTestCase):
    """The index of deadlines."""

    def test_keys_come_out_when_their_bucket_is_past(self) -> None:
        """Oldest first, no more than asked for."""
        deadlines = Deadlines()
        for n in range(10):
            deadlines.add(b"%d" % n, n * 1024)
        self.assertEqual(deadlines.take_past(1024, 5), [b"0"])
        self.assertEqual(deadlines.take_past(1024 * 8, 5), [b"1", b"2", b"3", b"4", b"5"])
        self.assertEqual(deadlines.first(), 6 * 1024)
        deadlines.discard(b"6", 6 * 1024)
        self.assertEqual(deadlines.first(), 7 * 1024)

    def test_changing_deadlines_leaves_nothing_behind(self) -> None:
        """Setting one key's deadline over and over takes no memory."""
        deadlines = Deadlines()
        deadlines.add(b"k", 0)
        for n in range(10_000):
            deadlines.discard(b"k", n * 1024)
            deadlines.add(b"k", (n + 1) * 1024)
        self.assertLess(len(deadlines._heap), 100)
        self.assertEqual(len(deadlines._buckets), 1)

    def test_near(self) -> None:
        """Keys whose bucket touches a time, however long."""
        deadlines = Deadlines()
        for n in range(10):
            deadlines.add(b"%d" % n, n * 1024)
        self.assertEqual(set(deadlines.near(1030, 2100)), {b"1", b"2"})
        self.assertEqual(set(deadlines.near(8 * 1024, 10**9)), {b"8", b"9"})
