"""A data directory in which something is missing: nothing of the rest is deleted or forgotten."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog, DataDirectoryError
from finn.options import Durability
from finn.storage.identity import Identity
from finn.storage.records import MARK, SEGMENT_HEADER_SIZE, scan
from finn.storage.recovery import load_segments
from finn.testing.cluster import MemoryCluster
from finn.testing.computer import Computer
from tests.node.support import Client, Journal


class MissingTests(SynchronousTestCase):
    def start(self, size: int = 1, snapshot: bool = False) -> Computer:
        """Return the first member, which was stopped in order, of a cluster with some data."""
        self.cluster = MemoryCluster(Journal, size=size, durability=Durability.HIGH)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.cluster.execute("PUT", "a", "1")
        if snapshot:
            self.assertEqual(Client(self.cluster, 0).ask("RAFTSNAPSHOT"), b"+OK\r\n")
        self.cluster.advance(2)
        computer = self.cluster.computers[0]
        self.cluster.result(computer.stop())
        return computer

    def assert_refuses(self, computer: Computer, error: type[Exception], text: str) -> None:
        """It does not start, says why, and leaves all that is there; again and again."""
        had = self.contents(computer)
        for _ in range(2):
            computer.start()
            self.cluster.advance(5)
            self.assertIsInstance(computer.failure, error)
            self.assertIn(text, str(computer.failure))
            computer.kill()
        self.assertEqual(had - self.contents(computer), set())

    def contents(self, computer: Computer) -> set[str]:
        """Return the names of what a data directory has, but for node.json."""
        files = computer.files
        folders = ("log", "snapshots")
        return {f"{at}/{name}" for at in folders for name in files.listdir(f"data/{at}")}

    def test_node_json(self) -> None:
        """Its log is not that of a founding that was cut short."""
        computer = self.start()
        computer.files.unlink("data/node.json")
        self.assert_refuses(computer, DataDirectoryError, "no node.json that says of which")

    def test_node_json_and_the_log(self) -> None:
        """A snapshot is left: it is not the beginning of a new cluster."""
        computer = self.start(snapshot=True)
        computer.files.unlink("data/node.json")
        computer.files.rmtree("data/log")
        computer.files.makedirs("data/log")
        self.assert_refuses(computer, DataDirectoryError, "no node.json that says of which")

    def test_the_log(self) -> None:
        """It would vote without what it acknowledged, and nobody else may have."""
        computer = self.start(size=3)
        computer.files.rmtree("data/log")
        computer.files.makedirs("data/log")
        self.assert_refuses(computer, CorruptLog, "the log is missing")

    def test_the_log_of_one_that_was_removed(self) -> None:
        """It may have been added again, and would be asked for a vote that it has given.

        It was set aside, perhaps, when a crash cut that short: the next start with --join goes on.
        """
        computer = self.start(size=3)
        join, computer.options.join = computer.options.join, []
        identity = Identity.load(computer.files, "data")
        assert identity is not None
        identity.removed = True
        identity.save()
        computer.files.rmtree("data/log")
        computer.files.makedirs("data/log")
        text = "not whole (the log is missing, and with it the vote): start it with --join"
        self.assert_refuses(computer, DataDirectoryError, text)
        computer.options.join = join
        computer.start()
        self.cluster.advance(1)
        self.assertIsNone(computer.failure)

    def lose_power(self, computer: Computer) -> None:
        """Leave traces of a power loss in a run whose writes were not synced."""
        computer.options.durability = Durability.LOW
        identity = Identity.load(computer.files, "data")
        assert identity is not None
        identity.weak, identity.clean, identity.boot_id = True, False, "before"
        identity.end = None
        identity.save()

    def test_the_vote_at_a_power_loss(self) -> None:
        """It is synced at every level: no power loss explains it, and no leader brings it back."""
        computer = self.start(size=3)
        self.lose_power(computer)
        computer.files.rmtree("data/log")
        computer.files.makedirs("data/log")
        self.assert_refuses(computer, CorruptLog, "the log is missing")

    def test_the_entries_at_a_power_loss(self) -> None:
        """Where writes are not synced they may be lost: the node is brought up to date."""
        self.start(size=3)
        computer = self.cluster.computers[1]
        self.cluster.crash(1)
        self.cluster.crash(2)
        self.lose_power(computer)
        computer.files.open("data/log/00000001.log").truncate(SEGMENT_HEADER_SIZE)
        for computer in self.cluster.computers:
            computer.start()
        self.cluster.wait_until(self.cluster.settled)
        self.cluster.wait_until(lambda: self.cluster.machine(1).values == {b"a": b"1"})

    def cut(self, computer: Computer) -> None:
        """Take the last entry, and the mark behind it: the log ends between two records."""
        (segment,) = load_segments(computer.files, "data/log").segments
        file = computer.files.open(segment.path)
        header = segment.header
        records = list(scan(file, file.size(), SEGMENT_HEADER_SIZE, header.nonce, 0, 0))
        file.truncate([offset for offset, _, kind, *_ in records if kind != MARK][-1])

    def test_the_end_of_the_log_after_a_stop(self) -> None:
        """All of it was synced, at every level: what is gone was not lost with the power."""
        computer = self.start(size=3)
        self.cut(computer)
        for level in Durability:
            computer.options.durability = level
            self.assert_refuses(computer, CorruptLog, "when the node was stopped in order it ended")

    def test_the_end_of_the_log_that_an_earlier_version_did_not_note(self) -> None:
        """Such a node starts as before."""
        computer = self.start(size=3)
        self.cut(computer)
        identity = Identity.load(computer.files, "data")
        assert identity is not None and identity.end is not None
        identity.end = None
        identity.save()
        computer.start()
        self.cluster.wait_until(self.cluster.settled)
        self.assertIsNone(computer.failure)
