"""Snapshots of the key-value machine."""

from __future__ import annotations

import io
import subprocess
import sys
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.machines.shards import SHARDS, shard_of
from finn.machines.snapshots import BLOCK_BYTES, BadSnapshot, read_snapshot
from tests.machines.kvclient import START, KVClient, dump, load
from tests.machines.sequences import sequences

EVERYTHING = [
    ["SET", "s", "x"], ["SET", "t", "x", "EX", "100"], ["SET", "", ""],
    ["SET", b"\x00\xff", b"\r\n"],
    ["HSET", "h", "f", "1", "g", ""], ["RPUSH", "l", "a", "b", "a"], ["SADD", "m", "z", "y", "x"],
    ["PEXPIRE", "h", "5000"],
]  # fmt: skip


class SnapshotTests(SynchronousTestCase):
    """What is written is what was there at the freeze, and comes back."""

    def filled(self) -> KVClient:
        """Return a client with a key of every type."""
        client = KVClient()
        for words in EVERYTHING:
            client.run(*words)
        return client

    def test_every_type_comes_back(self) -> None:
        """Values, their order and their deadlines survive."""
        client = self.filled()
        copy = KVClient(machine=load(client.dump()))
        self.assertEqual(copy.dump(), client.dump())
        self.assertEqual(copy.run("DBSIZE"), 7)
        self.assertEqual(copy.run("GET", b"\x00\xff"), b"\r\n")
        self.assertEqual(copy.run("HGETALL", "h"), {b"f": b"1", b"g": b""})
        self.assertEqual(copy.run("LRANGE", "l", 0, -1), [b"a", b"b", b"a"])
        self.assertEqual(copy.run("SMEMBERS", "m"), {b"x", b"y", b"z"})
        self.assertEqual(copy.run("PTTL", "h"), 5000)
        copy.now += 5000
        self.assertEqual(copy.run("EXISTS", "h", "t"), 1)

    def test_random_choices_go_on_alike(self) -> None:
        """SPOP picks the same members on a node that was restored."""
        client = KVClient()
        client.run("SADD", "s", *range(100))
        client.run("SREM", "s", *range(0, 100, 3))
        copy = KVClient(machine=load(client.dump()))
        copy.seed = client.seed
        self.assertEqual(client.run("SPOP", "s", 10), copy.run("SPOP", "s", 10))
        self.assertEqual(client.dump(), copy.dump())

    def test_equal_states_give_equal_bytes(self) -> None:
        """The order in which keys came does not matter."""
        client, other = KVClient(), KVClient()
        for words in EVERYTHING:
            client.run(*words)
        for words in reversed(EVERYTHING[:-1]):
            other.run(*words)
        other.run(*EVERYTHING[-1])
        self.assertEqual(client.dump(), other.dump())

    def test_expired_keys_are_left_out(self) -> None:
        """A key that has expired is not in the snapshot, though it is still in memory."""
        client = self.filled()
        client.now += 5000
        client.run("SET", "other", "x")
        self.assertIn(b"h", client.machine.shards[shard_of(b"h")])
        copy = KVClient(machine=load(client.dump()))
        self.assertNotIn(b"h", copy.machine.shards[shard_of(b"h")])

    def test_large_values_are_cut_into_blocks(self) -> None:
        """Blocks stay small unless one string is large, and containers may take several."""
        client = KVClient()
        client.run("SET", "large", b"x" * 3 * BLOCK_BYTES)
        client.run("RPUSH", "l", *[b"%d" % n * 100 for n in range(5000)])
        client.run("HSET", "h", *[b"%d" % n for n in range(10_000)])
        client.run("SADD", "s", *[b"%d" % n for n in range(5000)])
        pieces: list[int] = []

        class Sizes(io.BytesIO):
            def write(self, data: bytes) -> int:  # type: ignore[override]
                pieces.append(len(data))
                return super().write(data)

        file = Sizes()
        for _ in client.machine.snapshot(file):
            pass
        self.assertEqual(len([size for size in pieces if size > 2 * BLOCK_BYTES]), 1)
        self.assertGreater(len(pieces), 10)
        self.assertEqual(dump(load(file.getvalue())), client.dump())

    def test_the_freeze_is_the_moment(self) -> None:
        """What is written after the first step is not in the snapshot."""
        client = self.filled()
        before = client.dump()
        file = io.BytesIO()
        steps = client.machine.snapshot(file)
        next(steps)
        for words in (
            ["SET", "s", "new"], ["DEL", "t"], ["HSET", "h", "f", "2"], ["LPUSH", "l", "new"],
            ["SREM", "m", "x"], ["RENAME", "h", "h2"], ["HSET", "h2", "f", "3"], ["PERSIST", "h2"],
            ["SET", "new", "x"], ["EXPIRE", "l", "10"],
        ):  # fmt: skip
            client.run(*words)
        for _ in steps:
            pass
        self.assertEqual(file.getvalue(), before)

    def test_flushing_does_not_disturb(self) -> None:
        """FLUSHALL during a snapshot, and writes after it, stay out of it."""
        client = self.filled()
        before = client.dump()
        file = io.BytesIO()
        steps = client.machine.snapshot(file)
        next(steps)
        client.run("FLUSHALL")
        for words in EVERYTHING:
            client.run(*words)
        client.run("HSET", "h", "f", "new")
        for _ in steps:
            pass
        self.assertEqual(file.getvalue(), before)
        client.run("HSET", "h", "f", "newer")
        self.assertEqual(client.run("HGET", "h", "f"), b"newer")

    def test_flushed_state_is_freed_with_later_writes(self) -> None:
        """FLUSHALL takes no time for many keys; their memory is given back by and by."""
        client = self.filled()
        client.run("FLUSHALL")
        self.assertEqual(client.run("DBSIZE"), 0)
        self.assertGreater(len(client.machine.trash), SHARDS)
        for n in range(3 * SHARDS):
            client.run("SET", n, "x")
        self.assertEqual(client.machine.trash, [])

    def test_an_abandoned_snapshot_lets_go(self) -> None:
        """After it is closed, nothing is copied any more."""
        client = self.filled()
        steps = client.machine.snapshot(io.BytesIO())
        next(steps)
        self.assertEqual(client.machine.writable, [None] * SHARDS)
        steps.close()
        self.assertEqual(client.machine.held, [0] * SHARDS)
        self.assertEqual(client.machine.writable, client.machine.shards)

    def test_damaged_snapshots_are_refused(self) -> None:
        """A cut snapshot, or one of something else, changes nothing."""
        data = self.filled().dump()
        client = KVClient()
        client.run("SET", "kept", "x")
        for bad in (
            b"",
            data[:-1],
            data[: len(data) // 2],
            b"\x01" + data[1:],
            data[:20] + data[40:],
        ):
            with self.assertRaises(BadSnapshot):
                for _ in read_snapshot(client.machine, io.BytesIO(bad)):
                    pass
        self.assertEqual(client.run("GET", "kept"), b"x")

    def test_a_file_may_give_less_than_asked(self) -> None:
        """Reading goes on until a block is whole."""

        class Dribble(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                return super().read(min(size or 0, 7))

        data = self.filled().dump()
        machine = KV()
        for _ in machine.restore(Dribble(data)):
            pass
        self.assertEqual(dump(machine), data)


class ConcurrentSnapshotTests(SynchronousTestCase):
    """Commands go on while snapshots are written."""

    def test_writes_between_the_steps(self) -> None:
        """Snapshots begun at any moments, written in any pieces, hold their moments."""

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(sequences, sequences, sequences, st.integers(0, 2**32))
        def check(first: list, second: list, third: list, seed: int) -> None:  # type: ignore[type-arg]
            random = Random(seed)
            client = KVClient()
            running = []
            for words in first:
                client.run(*words)
            for commands in (second, third):
                file = io.BytesIO()
                steps = client.machine.snapshot(file)
                running.append((client.dump(), file, steps))
                next(steps)
                for words in commands:
                    client.run(*words)
                    client.now += random.randrange(3)
                    for _ in range(random.randrange(300)):
                        next(random.choice(running)[2], None)
            for expected, file, steps in running:
                for _ in steps:
                    pass
                self.assertEqual(file.getvalue(), expected)
            self.assertEqual(client.machine.held, [0] * SHARDS)
            self.assertEqual(dump(load(client.dump())), client.dump())

        check()


_SCRIPT = """
import zlib
from random import Random
from tests.machines.kvclient import KVClient
random = Random(7)
client = KVClient()
for n in range(3000):
    key = f"s{random.randrange(20)}"
    words = random.choice((
        ("SADD", key, random.randrange(1000), random.randrange(1000)), ("SPOP", key),
        ("SUNIONSTORE", key, "s1", "s2", "s3"), ("SINTERSTORE", key, "s4", "s5"), ("SPOP", key, 2),
        ("HSET", f"h{key}", random.randrange(50), n), ("SET", n, n, "PX", 1 + n),
        ("HDEL", f"h{key}", random.randrange(50)), ("SDIFFSTORE", key, key, "s6"),
    ))
    client.run(*words)
    client.now += random.randrange(5)
print(zlib.crc32(client.dump()))
"""


class DeterminismTests(SynchronousTestCase):
    """Nodes that apply the same commands have the same state."""

    def test_the_hash_seed_does_not_matter(self) -> None:
        """Processes with different hash seeds write equal snapshots."""
        found = {
            subprocess.run(
                [sys.executable, "-c", _SCRIPT],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                check=True,
                capture_output=True,
            ).stdout
            for seed in ("1", "2", "3")
        }
        self.assertEqual(len(found), 1)
        self.assertNotEqual(found, {b""})

    def test_shards_do_not_depend_on_the_process(self) -> None:
        """SCAN cursors mean the same on every node."""
        self.assertEqual(shard_of(b"key"), 937)
        self.assertEqual(START, KVClient().now)
