"""The test file of the original, case by case, on every backend at each consistency level."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.integration.cluster import Cluster, IntegrationTestCase
from tests.integration.process import need_package
from tests.integration.resp import ErrorReply

LEVELS = ("low", "medium", "high")

# LevelDB too gives space back here, where the original refused: ours compacts its range of keys.
SHRINKABLE = ("fastlog", "inmem", "leveldb")


class OriginalCases:
    """The cases, on a cluster of three whose first node leads, in the original's order."""

    def __init__(self, test: IntegrationTestCase, cluster: Cluster, backend: str) -> None:
        self.test = test
        self.cluster = cluster
        self.backend = backend
        self.base = cluster.nodes[0].address
        self.try_base = ErrorReply(f"TRY {self.base}")

    def expect(self, number: int, expected: str | ErrorReply, *words: str) -> None:
        """Send one command to a node and compare."""
        reply = self.cluster.nodes[number].do(*words)
        if isinstance(expected, str):
            expected = expected.encode()  # type: ignore[assignment]
        self.test.assertEqual(reply, expected, f"node {number}: {words}")

    def leader(self) -> None:
        """Every node names the same leader."""
        for number in range(3):
            self.expect(number, self.base, "raftleader")

    def set(self) -> None:
        """The leader takes a write, followers name it."""
        self.expect(0, "OK", "set", "hello", "world")
        self.expect(1, self.try_base, "set", "hello", "world")
        self.expect(2, self.try_base, "set", "hello", "world")

    def get(self) -> None:
        """The leader has what was written."""
        self.expect(0, "world", "get", "hello")
        self.expect(1, self.try_base, "set", "hello", "world")
        self.expect(2, self.try_base, "set", "hello", "world")

    def snapshot(self) -> None:
        """A thousand writes, then a snapshot on every node."""
        commands = [("set", f"key:{number}", f"val:{number}") for number in range(1000)]
        with self.cluster.nodes[0].client() as client:
            self.test.assertEqual(set(client.pipeline(commands)), {b"OK"})
        for number in range(3):
            self.expect(number, "OK", "raftsnapshot")

    def ping(self) -> None:
        """PING with none, one and too many arguments."""
        wrong = ErrorReply("ERR wrong number of arguments for 'ping' command")
        for number in range(3):
            self.expect(number, "PONG", "ping")
            self.expect(number, "HELLO", "ping", "HELLO")
            self.expect(number, wrong, "ping", "HELLO", "WORLD")

    def raft_shrink_log(self) -> None:
        """The log is shrunk where the backend can."""
        wrong = ErrorReply("ERR wrong number of arguments for 'raftshrinklog' command")
        expected: str | ErrorReply = "OK"
        if self.backend not in SHRINKABLE:
            expected = ErrorReply("ERR log is not shrinkable")
        for number in range(3):
            self.expect(number, expected, "raftshrinklog")
            self.expect(number, wrong, "raftshrinklog", "abc")

    def raft_stats(self) -> None:
        """RAFTSTATS has the keys of old."""
        wrong = ErrorReply("ERR wrong number of arguments for 'raftstats' command")
        for number in range(3):
            stats = self.cluster.nodes[number].stats()
            self.test.assertIn("applied_index", stats)
            self.test.assertEqual(stats["num_peers"], "2")
            self.expect(number, wrong, "raftstats", "abc")

    def raft_state(self) -> None:
        """The first node leads, the others follow."""
        wrong = ErrorReply("ERR wrong number of arguments for 'raftstate' command")
        for number in range(3):
            self.expect(number, "Follower" if number else "Leader", "raftstate")
            self.expect(number, wrong, "raftstate", "abc")

    def add_peer(self) -> None:
        """A fourth node joins, follows and takes a snapshot of its own."""
        self.cluster.add("--join", self.base).start().wait_ready()
        self.expect(3, self.base, "raftleader")
        self.expect(3, self.try_base, "set", "hello", "world")
        self.expect(3, "OK", "raftsnapshot")

    def remove_peer(self) -> None:
        """The leader removes it, once."""
        address = self.cluster.nodes[3].address
        self.expect(1, self.try_base, "raftremovepeer", address)
        self.expect(0, "OK", "raftremovepeer", address)
        self.expect(0, ErrorReply("peer is unknown"), "raftremovepeer", address)

    def consistency(self, level: str) -> None:
        """A read on a follower is served at low, and sent to the leader above (ours)."""
        self.cluster.wait_equal()
        expected: str | ErrorReply = "world" if level == "low" else self.try_base
        self.expect(1, expected, "get", "hello")

    def run(self, level: str) -> None:
        """Run all in order."""
        self.leader()
        self.set()
        self.get()
        self.snapshot()
        self.ping()
        self.raft_shrink_log()
        self.raft_stats()
        self.raft_state()
        self.add_peer()
        self.remove_peer()
        self.consistency(level)


class OriginalTests(IntegrationTestCase):
    """One cluster of three, later four, processes for each combination.

    The levels of a backend run side by side: most of the time is that of processes that start.
    """

    def run_cases(self, backend: str) -> None:
        """Run all cases on a backend, on a cluster for each level of consistency."""
        clusters = {
            level: self.cluster("--backend", backend, "--consistency", level) for level in LEVELS
        }

        def run(level: str) -> None:
            OriginalCases(self, clusters[level].start(), backend).run(level)

        with ThreadPoolExecutor(len(LEVELS)) as pool:
            running = {level: pool.submit(run, level) for level in LEVELS}
        for level, future in running.items():
            error = future.exception()
            if error is not None:
                raise self.failureException(f"{backend} at {level}: {error}") from error

    def test_fastlog(self) -> None:
        """All cases on fastlog."""
        self.run_cases("fastlog")

    def test_inmem(self) -> None:
        """All cases on inmem."""
        self.run_cases("inmem")

    def test_bolt(self) -> None:
        """All cases on bolt."""
        need_package("lmdb")
        self.run_cases("bolt")

    def test_leveldb(self) -> None:
        """All cases on leveldb."""
        need_package("plyvel")
        self.run_cases("leveldb")
