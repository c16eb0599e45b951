"""The identity of a node and the lock of its directory."""

from __future__ import annotations

import errno
import json
import os
from random import Random
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog, DataDirectoryError
from finn.storage.files import OSFiles
from finn.storage.identity import DirectoryLock, Identity, read_boot_id
from finn.testing.faulty import FaultyFiles, PowerCut


def identity_in(files: FaultyFiles) -> Identity:
    """Make one with a value in every field."""
    identity = Identity(files, "d", 0xABC, "fastlog", address=":7481")
    identity.cluster_id = (1 << 64) - 1
    return identity


class IdentityTests(SynchronousTestCase):
    """On files in memory."""

    def setUp(self) -> None:
        self.files = FaultyFiles()

    def test_fields_come_back(self) -> None:
        """What was saved is loaded."""
        self.assertIsNone(Identity.load(self.files, "d"))
        identity = identity_in(self.files)
        identity.began("boot", weak=True, dropped_tail=True, level="low")
        identity.removed = True
        identity.save()
        found = Identity.load(self.files, "d")
        assert found is not None
        for field in (
            "node_id", "cluster_id", "backend", "address", "level", "weak", "boot_id", "clean",
            "amnesic", "removed",
        ):  # fmt: skip
            self.assertEqual(getattr(found, field), getattr(identity, field), field)
        self.assertIsNone(found.end)
        identity.stopped_cleanly(12, 3)
        identity.save()
        found = Identity.load(self.files, "d")
        assert found is not None
        self.assertEqual((found.clean, found.end), (True, (12, 3)))

    def test_who_said_that_it_was_removed(self) -> None:
        """The log, or a leader; earlier versions take both for true."""
        for told in (False, True):
            identity = identity_in(self.files)
            identity.removed, identity.told_removed = True, told
            identity.save()
            found = Identity.load(self.files, "d")
            assert found is not None
            self.assertEqual((found.removed, found.told_removed), (True, told))
            self.assertTrue(json.loads(self.files.read("d/node.json"))["removed"])

    def test_a_log_that_is_shorter_than_at_the_stop(self) -> None:
        """Fewer entries, or an older term at the end, is a loss, until the next run begins."""
        identity = identity_in(self.files)
        self.assertEqual(identity.lost_since(0, 0), "")
        identity.began("boot", weak=True)
        identity.stopped_cleanly(12, 3)
        for index, term, lost in ((12, 3, False), (13, 4, False), (11, 3, True), (13, 2, True)):
            self.assertEqual(bool(identity.lost_since(index, term)), lost, (index, term))
        identity.began("boot", weak=True)
        self.assertEqual(identity.lost_since(0, 0), "")

    def test_ids_are_hexadecimal_text(self) -> None:
        """JSON readers that have floats only cannot harm them."""
        identity_in(self.files).save()
        self.assertIn(b'"node_id": "0000000000000abc"', self.files.read("d/node.json"))

    def test_saves_of_two_threads_take_turns(self) -> None:
        """The reactor adopts a cluster while the disk thread saves: neither disturbs the other."""
        directory = self.mktemp()
        other: list[Thread] = []

        class Interrupted(OSFiles):
            def rename(self, old: str, new: str) -> None:
                if not other:
                    other.append(Thread(target=identity.save, daemon=True))
                    other[0].start()
                    other[0].join(0.2)  # with nothing to keep it back it has ended by then
                super().rename(old, new)

        identity = Identity(Interrupted(), directory, 1, "fastlog")
        identity.save()
        other[0].join(10)
        self.assertFalse(other[0].is_alive())
        self.assertIsNotNone(Identity.load(OSFiles(), directory))

    def test_in_memory_writes_nothing(self) -> None:
        """A node without a disk has an identity for one life."""
        Identity(self.files, "d", 1, "inmem", in_memory=True).save()
        self.assertFalse(self.files.exists("d"))

    def test_unknown_version_and_damage(self) -> None:
        """Both are refused, in one line each."""
        self.files.makedirs("d")
        for data, error in (
            (b'{"version": 7}', DataDirectoryError),
            (b"{", CorruptLog),
            (b"[]", CorruptLog),
            (b'{"version": 1}', CorruptLog),
            (b"\xff", CorruptLog),
        ):
            if self.files.exists("d/node.json"):
                self.files.unlink("d/node.json")
            self.files.create("d/node.json").write(data)
            raised = self.assertRaises(error, Identity.load, self.files, "d")
            self.assertIn("d/node.json", str(raised))
            self.assertNotIn("\n", str(raised))

    def test_a_flipped_bit_is_noticed(self) -> None:
        """Wherever it is: another id would be another member, or none."""
        identity_in(self.files).save()
        data = self.files.read("d/node.json")
        for position in range(len(data)):
            self.files.unlink("d/node.json")
            flipped = data[position] ^ 1 << position % 8
            damaged = data[:position] + bytes([flipped]) + data[position + 1 :]
            self.files.create("d/node.json").write(damaged)
            self.assertRaises((CorruptLog, DataDirectoryError), Identity.load, self.files, "d")

    def test_one_without_a_checksum(self) -> None:
        """It is of an earlier version, and good."""
        identity_in(self.files).save()
        fields = json.loads(self.files.read("d/node.json"))
        del fields["crc"]
        self.files.unlink("d/node.json")
        self.files.create("d/node.json").write(json.dumps(fields).encode())
        found = Identity.load(self.files, "d")
        assert found is not None
        self.assertEqual(found.node_id, 0xABC)

    def test_save_survives_any_power_cut(self) -> None:
        """After a cut at any change there is the old content or the new one."""
        for cut in range(1, 20):
            for seed in range(5):
                files = FaultyFiles()
                identity = identity_in(files)
                identity.save()
                identity.address = ":7482"
                files.cut_at(files.operations + cut)
                try:
                    identity.save()
                except PowerCut:
                    pass
                found = Identity.load(files.power_cut(Random(seed)), "d")
                assert found is not None
                self.assertIn(found.address, (":7481", ":7482"))

    def test_saved_is_durable(self) -> None:
        """Once save returns no power cut takes it back."""
        identity_in(self.files).save()
        for seed in range(10):
            self.assertIsNotNone(Identity.load(self.files.power_cut(Random(seed)), "d"))
        files = FaultyFiles()
        identity = identity_in(files)
        identity.save()
        identity.address = ":7482"
        identity.save()
        for seed in range(10):
            found = Identity.load(files.power_cut(Random(seed)), "d")
            assert found is not None
            self.assertEqual(found.address, ":7482")

    def began(self, weak: bool, clean: bool, boot: str, again: str, dropped: bool = False) -> bool:
        """Run once, end, and begin again."""
        identity = identity_in(self.files)
        self.assertFalse(identity.began(boot, weak=weak))
        if clean:
            identity.stopped_cleanly(0, 0)
        identity.save()
        found = Identity.load(self.files, "d")
        assert found is not None
        # The level of the run that ended counts, not that of the one that begins.
        return found.began(again, weak=not weak, dropped_tail=dropped)

    def test_amnesia(self) -> None:
        """Unclean and another boot at a weak level, or a dropped tail: amnesic."""
        self.assertTrue(self.began(weak=True, clean=False, boot="a", again="b"))
        self.assertTrue(self.began(weak=True, clean=False, boot="", again=""))
        self.assertFalse(self.began(weak=True, clean=False, boot="a", again="a"))
        self.assertFalse(self.began(weak=True, clean=True, boot="a", again="b"))
        self.assertFalse(self.began(weak=False, clean=False, boot="a", again="b"))
        for weak in (True, False):
            for clean in (True, False):
                self.assertTrue(self.began(weak, clean, "a", "a", dropped=True))

    def test_amnesia_lasts(self) -> None:
        """A clean stop does not make an amnesic node remember."""
        identity = identity_in(self.files)
        self.assertTrue(identity.began("a", weak=False, dropped_tail=True))
        identity.stopped_cleanly(0, 0)
        self.assertTrue(identity.began("a", weak=False))
        identity.amnesic = False
        identity.stopped_cleanly(0, 0)
        self.assertFalse(identity.began("a", weak=False))

    def test_boot_id(self) -> None:
        """It is read from where the system says, and empty elsewhere."""
        self.assertEqual(read_boot_id(self.files), "")
        self.files.makedirs("proc")
        self.files.create("proc/boot").write(b"1234-5678\n")
        self.assertEqual(read_boot_id(self.files, "proc/boot"), "1234-5678")

    def test_set_aside(self) -> None:
        """All data move, node.json last; what is not the node's stays."""
        identity = identity_in(self.files)
        identity.removed = True
        identity.save()
        self.files.makedirs("d/log")
        self.files.makedirs("d/snapshots/1-1-1")
        self.files.create("d/twistd.pid")
        operations = self.files.operations
        self.assertEqual(identity.set_aside(99), "d/removed-99")
        self.assertEqual(self.files.listdir("d"), ["removed-99", "twistd.pid"])
        self.assertEqual(self.files.listdir("d/removed-99"), ["log", "node.json", "snapshots"])
        for cut in range(1, self.files.operations - operations + 1):
            files = FaultyFiles()
            identity = identity_in(files)
            identity.removed = True
            identity.save()
            files.makedirs("d/log")
            files.cut_at(files.operations + cut)
            try:
                identity.set_aside(99)
            except PowerCut:
                pass
            for seed in range(60):
                after = files.power_cut(Random(seed))
                if not after.exists("d/node.json"):
                    self.assertFalse(after.exists("d/log"))


class DirectoryLockTests(SynchronousTestCase):
    """On the real file system, and on one that fails."""

    def test_second_process_gets_one_line(self) -> None:
        """The directory is made, locked, and free again after release."""
        directory = os.path.join(self.mktemp(), "data")
        first, second = (DirectoryLock(OSFiles(), directory) for _ in range(2))
        first.acquire()
        error = self.assertRaises(DataDirectoryError, second.acquire)
        self.assertEqual(str(error), f"{directory} is in use by another process")
        second.release()
        first.release()
        second.acquire()
        second.release()

    def test_unusable_directory(self) -> None:
        """A file in its place, or a place that cannot be written: one line."""
        path = self.mktemp()
        OSFiles().create(path).close()
        for directory in (path, os.path.join(path, "data"), "/proc/finn"):
            lock = DirectoryLock(OSFiles(), directory)
            error = self.assertRaises(DataDirectoryError, lock.acquire)
            self.assertIn(f"cannot use {directory}: ", str(error))
            self.assertNotIn("\n", str(error))

    def test_the_directory_made_before_a_crash_is_durable(self) -> None:
        """The next start syncs its parents, all of them, before anything counts on it."""
        for cut in range(1, 8):
            files = FaultyFiles()
            files.cut_at(cut)
            self.assertRaises(PowerCut, DirectoryLock(files, "a/b/d").acquire)
            found = files.crash()
            DirectoryLock(found, "a/b/d").acquire()
            Identity(found, "a/b/d", 0xABC, "fastlog").save()
            for seed in range(10):
                after = found.power_cut(Random(seed))
                self.assertTrue(after.exists("a/b/d/node.json"), f"cut {cut} seed {seed}")

    def test_a_directory_that_keeps_nothing(self) -> None:
        """It needs no durable name, nor a disk that gives one."""
        files = FaultyFiles()
        files.makedirs("a/d")
        files.fail("sync_directory", times=100)
        DirectoryLock(files, "a/d", kept=False).acquire()

    def test_parents_of_others(self) -> None:
        """Those who may not read a parent did not make the directory; a broken disk is told."""
        for code, text in ((errno.EACCES, ""), (errno.EIO, "cannot use a/d: Input/output error")):
            files = FaultyFiles()
            files.makedirs("a/d")
            files.fail("sync_directory", error=code, times=2)
            lock = DirectoryLock(files, "a/d")
            if text:
                error = self.assertRaises(DataDirectoryError, lock.acquire)
                self.assertEqual(str(error), text)
            else:
                lock.acquire()
