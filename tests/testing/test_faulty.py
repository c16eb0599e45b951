"""Tests of the file system that fails: faults come when told, losses are those of real disks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.interfaces import IFile, IFiles
from finn.storage.files import OSFiles
from finn.testing.faulty import ANY, FaultyFiles, PowerCut
from finn.testing.platter import PAGE


def outcomes(files: FaultyFiles, look: Callable[[FaultyFiles], object], seeds: int = 200) -> set:
    """All that ``look`` sees after power cuts with many seeds."""
    return {look(files.power_cut(Random(seed))) for seed in range(seeds)}


def content(path: str) -> Callable[[FaultyFiles], object]:
    return lambda files: files.read(path) if files.exists(path) else None


class FilesTests(SynchronousTestCase):
    """Without faults it is a file system."""

    def setUp(self) -> None:
        self.files = FaultyFiles()
        self.files.makedirs("d/e")

    def test_interfaces(self) -> None:
        """It provides IFiles and its files IFile."""
        verifyObject(IFiles, self.files)
        verifyObject(IFile, self.files.create("d/f"))

    def test_write_and_read(self) -> None:
        """Writes append; reads see them at once."""
        file = self.files.create("d/f")
        file.write(b"hello ")
        file.write(b"world")
        self.assertEqual(file.pread(5, 6), b"world")
        self.assertEqual(self.files.read("d/f"), b"hello world")
        self.assertEqual(self.files.open("d/f").size(), 11)

    def test_truncate_cuts_and_extends(self) -> None:
        """Truncation works both ways, with zeros."""
        file = self.files.create("d/f")
        file.write(b"abcdef")
        file.truncate(2)
        file.truncate(4)
        file.write(b"x")
        self.assertEqual(self.files.read("d/f"), b"ab\0\0x")

    def test_names(self) -> None:
        """Names are listed sorted, renamed over files, removed."""
        self.files.create("d/b").write(b"new")
        self.files.create("d/a").write(b"old")
        self.assertEqual(self.files.listdir("d"), ["a", "b", "e"])
        self.files.rename("d/b", "d/a")
        self.assertEqual(self.files.listdir("d"), ["a", "e"])
        self.assertEqual(self.files.read("d/a"), b"new")
        self.files.unlink("d/a")
        self.files.rmtree("d")
        self.assertFalse(self.files.exists("d"))

    def test_errors_are_those_of_the_system(self) -> None:
        """Misuse raises what the operating system raises."""
        self.files.create("d/f")
        with self.assertRaises(FileExistsError):
            self.files.create("d/f")
        with self.assertRaises(FileNotFoundError):
            self.files.open("d/g")
        with self.assertRaises(FileNotFoundError):
            self.files.create("x/f")
        with self.assertRaises(IsADirectoryError):
            self.files.read("d/e")
        with self.assertRaises(NotADirectoryError):
            self.files.listdir("d/f")
        with self.assertRaises(FileExistsError):
            self.files.makedirs("d/f/g")
        readonly = self.files.open_readonly("d/f")
        self.assertEqual(self.assertRaises(OSError, readonly.write, b"x").errno, errno.EBADF)

    def test_closed_file(self) -> None:
        """A closed file is no longer usable."""
        file = self.files.create("d/f")
        file.close()
        self.assertEqual(self.assertRaises(OSError, file.write, b"x").errno, errno.EBADF)

    def test_open_file_outlives_its_name(self) -> None:
        """An unlinked file can be read by who has it open."""
        file = self.files.create("d/f")
        file.write(b"x")
        self.files.unlink("d/f")
        self.assertEqual(file.pread(1, 0), b"x")

    def test_lock(self) -> None:
        """A lock is held once, until released or the process is dead."""
        release = self.files.lock("d/lock")
        assert release is not None
        self.assertIsNone(self.files.lock("d/lock"))
        release()
        self.assertIsNotNone(self.files.lock("d/lock"))
        self.assertIsNotNone(self.files.crash().lock("d/lock"))


class SameAsTheSystemTests(SynchronousTestCase):
    """Without faults it answers as the operating system does, errors included."""

    NAMES = ("a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "x/a")

    def attempt(
        self, files: IFiles, root: str, act: str, one: str, two: str, data: bytes
    ) -> object:
        """Do something; returns what came of it, an error as its name."""
        path, other = f"{root}/{one}", f"{root}/{two}"
        try:
            if act == "write":
                file = files.open(path) if files.exists(path) else files.create(path)
                file.write(data)
                file.datasync()
                result: object = file.size(), file.pread(4, 2)
                file.close()
                return result
            if act == "truncate":
                file = files.open(path)
                file.truncate(len(data))
                file.close()
                return files.read(path)
            if act == "rename":
                return files.rename(path, other)
            return getattr(files, act)(path)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def test_same_answers(self) -> None:
        """A long random script has the same results on both."""
        random = Random(11)
        root = self.mktemp()
        faulty, system = FaultyFiles(), OSFiles()
        acts = ("write", "write", "truncate", "rename", "rename", "read", "exists", "listdir")
        acts += ("makedirs", "makedirs", "unlink", "rmtree", "sync_directory")
        for files in (faulty, system):
            files.makedirs(root)
        for number in range(1500):
            act = random.choice(acts)
            one, two = random.choice(self.NAMES), random.choice(self.NAMES)
            data = random.randbytes(random.randint(0, 9))
            if act == "rename" and (two.startswith(one) or one.startswith(two)):
                continue  # into itself
            if act == "sync_directory" and not os.path.isdir(f"{root}/{one}"):
                continue  # the system syncs files, too
            ours = self.attempt(faulty, root, act, one, two, data)
            theirs = self.attempt(system, root, act, one, two, data)
            self.assertEqual(ours, theirs, f"{number}: {act} {one} {two}")


class PowerCutTests(SynchronousTestCase):
    """What was not synced may be lost, in every way in which disks lose things."""

    def setUp(self) -> None:
        self.files = FaultyFiles()
        self.files.makedirs("d")
        self.file = self.files.create("d/f")
        self.files.sync_directory("d")

    def test_synced_data_survives(self) -> None:
        """What was synced is always there."""
        self.file.write(b"abc")
        self.file.datasync()
        self.assertEqual(outcomes(self.files, content("d/f")), {b"abc"})

    def test_unsynced_data_is_lost_kept_or_torn_at_any_byte(self) -> None:
        """Every prefix of an un-synced write is a possible outcome."""
        self.file.write(b"ab")
        self.file.datasync()
        self.file.write(b"cde")
        seen = outcomes(self.files, content("d/f"))
        self.assertLessEqual({b"ab", b"abc", b"abcd", b"abcde"}, seen)
        grown = {b"ab\0", b"ab\0\0", b"ab\0\0\0"}  # the size was saved, the page was not
        self.assertEqual(seen - {b"ab", b"abc", b"abcd", b"abcde"}, grown)

    def test_later_pages_may_survive_earlier_ones(self) -> None:
        """A hole before valid data reads as zeros."""
        for letter in b"abc":
            self.file.write(bytes([letter]) * PAGE)
        seen = outcomes(self.files, lambda files: files.read("d/f")[PAGE - 1 :: PAGE], 300)
        self.assertLessEqual({b"\0bc", b"a\0c", b"\0\0c", b"\0b"}, seen)

    def test_unsynced_truncation_may_be_undone(self) -> None:
        """Data that was cut off can come back, also below what was written after the cut."""
        self.file.write(b"a" * 8)
        self.file.datasync()
        self.file.truncate(2)
        self.file.write(b"bb")
        seen = outcomes(self.files, content("d/f"))
        self.assertLessEqual({b"a" * 8, b"aa", b"aab", b"aabb"}, seen)
        self.assertIn(b"aabb\0\0\0\0", seen)

    def test_synced_truncation_is_final(self) -> None:
        """After a sync the cut holds."""
        self.file.write(b"a" * 8)
        self.file.datasync()
        self.file.truncate(2)
        self.file.datasync()
        self.assertEqual(outcomes(self.files, content("d/f")), {b"aa"})

    def test_unsynced_name_may_be_lost_with_synced_data(self) -> None:
        """fdatasync of a new file does not save its name."""
        file = self.files.create("d/g")
        file.write(b"x")
        file.datasync()
        self.assertEqual(outcomes(self.files, content("d/g")), {None, b"x"})
        files = self.files.crash()
        files.sync_directory("d")
        self.assertEqual(outcomes(files, content("d/g")), {b"x"})

    def test_unsynced_rename_is_done_or_not(self) -> None:
        """Never both names, never none; each of two independent renames by itself."""
        for name in ("g", "h"):
            self.files.create(f"d/{name}.new")
        self.files.sync_directory("d")
        self.files.rename("d/g.new", "d/g")
        self.files.rename("d/h.new", "d/h")
        seen = outcomes(self.files, lambda files: tuple(files.listdir("d")))
        self.assertEqual(seen, {("f", a, b) for a in ("g", "g.new") for b in ("h", "h.new")})

    def test_unsynced_removal_may_be_undone(self) -> None:
        """A removed file can come back, with its content."""
        self.file.write(b"x")
        self.file.datasync()
        self.files.unlink("d/f")
        self.assertEqual(outcomes(self.files, content("d/f")), {None, b"x"})

    def test_changes_of_one_name_keep_their_order(self) -> None:
        """Renames that build on each other cannot lose a file."""
        self.file.write(b"old")
        self.file.datasync()
        self.files.create("d/g").datasync()
        self.files.sync_directory("d")
        self.files.rename("d/f", "d/f.old")
        self.files.rename("d/g", "d/f")
        seen = outcomes(self.files, lambda files: tuple(files.listdir("d")))
        self.assertEqual(seen, {("f", "g"), ("f.old", "g"), ("f", "f.old")})

    def test_sync_brings_what_it_builds_on(self) -> None:
        """Syncing the target of a move between directories makes the older names durable too."""
        self.files.makedirs("e")
        self.files.create("d/g")
        self.files.rename("d/g", "e/g")
        self.files.sync_directory("e")
        self.assertEqual(outcomes(self.files, content("e/g")), {b""})
        self.assertEqual(outcomes(self.files, content("d/g")), {None})

    def test_new_directory_needs_no_sync(self) -> None:
        """makedirs syncs what it makes."""
        self.files.makedirs("x/y/z")
        self.assertEqual(outcomes(self.files, lambda files: files.exists("x/y/z")), {True})

    def test_same_seed_same_outcome(self) -> None:
        """A power cut is a function of the random that is passed."""
        self.file.write(b"x" * 5 * PAGE)
        self.files.create("d/g")

        def look(seed: int) -> object:
            after = self.files.power_cut(Random(seed))
            return after.listdir("d"), after.read("d/f")

        self.assertEqual([look(n) for n in range(20)], [look(n) for n in range(20)])

    def test_the_dead_write_no_more(self) -> None:
        """After a cut the old object and its files do nothing."""
        after = self.files.power_cut(Random(1))
        for call in (
            lambda: self.file.write(b"x"),
            lambda: self.file.pread(1, 0),
            lambda: self.files.create("d/g"),
            lambda: self.files.listdir("d"),
        ):
            with self.assertRaises(PowerCut):
                call()
        self.assertEqual(after.listdir("d"), ["f"])

    def test_what_survived_is_durable(self) -> None:
        """A second cut right after the first changes nothing."""
        self.file.write(b"abc" * PAGE)
        self.files.create("d/g")
        for seed in range(20):
            after = self.files.power_cut(Random(seed))
            seen = outcomes(after, content("d/f"), 10)
            self.assertEqual(seen, {after.power_cut(Random(0)).read("d/f")})


class CrashTests(SynchronousTestCase):
    """A killed process loses nothing that it wrote, but a later power cut may."""

    def test_everything_written_is_there(self) -> None:
        """Un-synced data and names survive a crash, and are still un-synced after it."""
        files = FaultyFiles()
        files.create("f").write(b"abc")
        after = files.crash()
        self.assertEqual(after.read("f"), b"abc")
        self.assertIn(None, outcomes(after, content("f")))
        second = after.crash()
        second.open("f").datasync()
        second.sync_directory("")
        self.assertEqual(outcomes(second, content("f")), {b"abc"})


class FaultTests(SynchronousTestCase):
    """Faults happen where they were ordered."""

    def setUp(self) -> None:
        self.files = FaultyFiles()
        self.file = self.files.create("f")

    def test_cut_at_each_operation(self) -> None:
        """A script is cut at the operation asked for; a sync is not done any more."""

        def script(files: FaultyFiles) -> None:
            file = files.create("f")
            file.write(b"a")
            file.datasync()
            files.sync_directory("")

        whole = FaultyFiles()
        script(whole)
        self.assertEqual(whole.operations, 4)
        for number, written in ((1, b""), (2, b"a"), (3, b"a"), (4, b"a")):
            files = FaultyFiles()
            files.cut_at(number)
            self.assertRaises(PowerCut, script, files)
            self.assertEqual(files.operations, number)
            self.assertEqual(files.crash().read("f"), written)
            self.assertIn(None, outcomes(files, content("f")))

    def test_cut_within_a_write(self) -> None:
        """A process may die in the middle of a write."""
        self.files.cut_at(self.files.operations + 1, written=0.5)
        self.assertRaises(PowerCut, self.file.write, b"abcd")
        self.assertEqual(self.files.crash().read("f"), b"ab")

    def test_error_at_the_nth_call(self) -> None:
        """The n-th operation of a kind fails, as often as asked."""
        self.files.fail("write", at=2, times=2)
        self.file.write(b"1")
        for _ in range(2):
            self.assertEqual(self.assertRaises(OSError, self.file.write, b"xy").errno, errno.EIO)
        self.file.write(b"2")
        self.assertEqual(self.files.read("f"), b"1xx2")

    def test_error_on_a_path(self) -> None:
        """Only what was meant fails."""
        other = self.files.create("g")
        self.files.fail("datasync", path="g")
        self.file.datasync()
        self.assertRaises(OSError, other.datasync)

    def test_error_of_any_kind(self) -> None:
        """ANY means every change, and no read."""
        self.files.fail(ANY, times=1000)
        for call in (
            lambda: self.files.create("g"),
            lambda: self.file.write(b""),
            lambda: self.file.truncate(0),
            lambda: self.file.datasync(),
            lambda: self.files.rename("f", "g"),
            lambda: self.files.unlink("f"),
            lambda: self.files.makedirs("d"),
            lambda: self.files.sync_directory(""),
        ):
            with self.assertRaises(OSError):
                call()
        self.assertEqual(self.files.listdir(""), ["f"])

    def test_failed_sync_loses_data_for_ever(self) -> None:
        """A sync that succeeds after one that failed proves nothing."""
        self.files.sync_directory("")
        self.file.write(b"a")
        self.files.fail("datasync")
        self.assertRaises(OSError, self.file.datasync)
        self.file.write(b"b")
        self.file.datasync()
        self.assertEqual(self.files.read("f"), b"ab")
        self.assertEqual(outcomes(self.files, content("f")), {b"\0b"})

    def test_full_disk(self) -> None:
        """What fits is written, the rest is ENOSPC; removed files give space back."""
        self.files.capacity = 5
        self.file.write(b"abc")
        error = self.assertRaises(OSError, self.file.write, b"defg")
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertEqual(self.files.read("f"), b"abcde")
        self.files.unlink("f")
        self.files.create("g").write(b"12345")
        self.assertEqual(self.files.crash().used, 5)

    def test_slow_operations_are_reported(self) -> None:
        """The hook learns how long an operation takes."""
        delays: list[float] = []
        self.files.on_slow = delays.append
        self.files.slow("datasync", 0.5)
        self.file.write(b"x")
        self.file.datasync()
        self.files.slow("datasync", 0)
        self.file.datasync()
        self.assertEqual(delays, [0.5])

    def test_bit_flip(self) -> None:
        """A flipped bit is there, before and after a power cut."""
        self.file.write(b"abc")
        self.file.datasync()
        self.files.sync_directory("")
        self.files.flip_bit("f", 1)
        self.assertEqual(self.files.read("f"), b"acc")
        self.assertEqual(outcomes(self.files, content("f")), {b"acc"})
