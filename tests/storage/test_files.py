"""OSFiles: the real file system keeps the promises of IFiles."""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.interfaces import IFile, IFiles
from finn.storage.files import REWRITE_BYTES, OSFiles


class OSFilesTests(SynchronousTestCase):
    """In a directory of their own."""

    def setUp(self) -> None:
        self.files = OSFiles()
        self.directory = self.mktemp()
        self.files.makedirs(self.directory)
        self.path = os.path.join(self.directory, "file")

    def test_provides_the_interfaces(self) -> None:
        """OSFiles provides IFiles and its files IFile."""
        verifyObject(IFiles, self.files)
        file = self.files.create(self.path)
        verifyObject(IFile, file)
        file.close()

    def test_writes_append_and_reads_are_at_offsets(self) -> None:
        """A file opened again goes on at its end."""
        file = self.files.create(self.path)
        file.write(b"abc")
        file.close()
        file = self.files.open(self.path)
        file.write(b"def")
        file.datasync()
        self.assertEqual(file.size(), 6)
        self.assertEqual(file.pread(3, 2), b"cde")
        self.assertEqual(file.pread(9, 4), b"ef")
        self.assertEqual(file.pread(9, 6), b"")
        file.close()
        file.close()

    def test_writes_append_after_truncate(self) -> None:
        """After truncate a write goes to the new end, never behind a hole."""
        file = self.files.create(self.path)
        file.write(b"abcdef")
        file.truncate(2)
        file.write(b"xy")
        file.close()
        self.assertEqual(self.files.read(self.path), b"abxy")

    def test_rewrite_changes_nothing(self) -> None:
        """It writes in place, from any offset, more than at a time; also while the file is open."""
        content = os.urandom(REWRITE_BYTES + 1000)
        file = self.files.create(self.path)
        file.write(content)
        for offset in (0, 5, len(content) - 1, len(content)):
            self.files.rewrite(self.path, offset)
            self.assertEqual(self.files.read(self.path), content)
        file.write(b"more")
        self.assertEqual(file.size(), len(content) + 4)
        file.close()

    def test_create_refuses_an_existing_file(self) -> None:
        """Create never opens what is there."""
        self.files.create(self.path).close()
        self.assertRaises(FileExistsError, self.files.create, self.path)

    def test_open_refuses_a_missing_file(self) -> None:
        """Open never creates."""
        self.assertRaises(FileNotFoundError, self.files.open, self.path)
        self.assertRaises(FileNotFoundError, self.files.open_readonly, self.path)

    def test_readonly_cannot_write(self) -> None:
        """A file opened for reading cannot be written."""
        self.files.create(self.path).close()
        file = self.files.open_readonly(self.path)
        self.assertRaises(OSError, file.write, b"x")
        file.close()

    def test_makedirs_makes_parents_and_accepts_what_is_there(self) -> None:
        """Makedirs works twice, and refuses a file in the way."""
        deep = os.path.join(self.directory, "a", "b", "c")
        self.files.makedirs(deep)
        self.files.makedirs(deep)
        self.assertEqual(self.files.listdir(os.path.join(self.directory, "a")), ["b"])
        self.files.create(self.path).close()
        self.assertRaises(OSError, self.files.makedirs, self.path)
        self.assertRaises(OSError, self.files.makedirs, os.path.join(self.path, "x"))

    def test_names(self) -> None:
        """Rename replaces, unlink and rmtree remove, listdir is sorted."""
        for name in ("b", "a", "c"):
            self.files.create(os.path.join(self.directory, name)).close()
        self.assertEqual(self.files.listdir(self.directory), ["a", "b", "c"])
        self.files.rename(os.path.join(self.directory, "b"), os.path.join(self.directory, "a"))
        self.files.unlink(os.path.join(self.directory, "c"))
        self.files.sync_directory(self.directory)
        self.assertEqual(self.files.listdir(self.directory), ["a"])
        self.files.rmtree(self.directory)
        self.assertFalse(self.files.exists(self.directory))

    def test_a_disk_that_fails_is_not_a_missing_file(self) -> None:
        """Whoever takes it for one begins anew, over all that is there."""
        self.assertFalse(self.files.exists(os.path.join(self.directory, "none")))
        self.files.create(self.path).close()
        self.assertFalse(self.files.exists(os.path.join(self.path, "none")))

        def fails(path: str) -> None:
            raise OSError(errno.EIO, "Input/output error", path)

        self.patch(os, "lstat", fails)
        self.assertRaises(OSError, self.files.exists, self.path)

    def test_lock_excludes(self) -> None:
        """A lock is held once, and free again after its release."""
        release = self.files.lock(self.path)
        assert release is not None
        self.assertIsNone(self.files.lock(self.path))
        release()
        release()
        again = self.files.lock(self.path)
        assert again is not None
        again()
