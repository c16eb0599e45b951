"""The real file system behind ``IFiles``."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable

from zope.interface import implementer

from finn.interfaces import IFile, IFiles

# What is rewritten at a time.
REWRITE_BYTES = 1 << 20
# macOS has no fdatasync, and its fsync does not reach the platter either: F_FULLFSYNC does.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def _sync(descriptor: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


@implementer(IFile)
class OSFile:
    """An open file of the operating system.

    Args:
        descriptor: opened with ``O_APPEND`` where it is written.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        written = os.write(self._descriptor, data)
        if written == len(data):
            return
        view = memoryview(data)
        while written < len(data):
            written += os.write(self._descriptor, view[written:])

    def pread(self, size: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if len(data) == size or not data:
            return data
        # One call moves at most 2 GiB; only an empty answer is the end of the file.
        parts = [data]
        got = len(data)
        while got < size:
            data = os.pread(self._descriptor, size - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def datasync(self) -> None:
        _sync(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@implementer(IFiles)
class OSFiles:
    """The file system of the operating system; stateless."""

    def create(self, path: str) -> OSFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return OSFile(os.open(path, flags, 0o600))

    def open(self, path: str) -> OSFile:
        return OSFile(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))

    def open_readonly(self, path: str) -> OSFile:
        return OSFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def rewrite(self, path: str, offset: int) -> None:
        # Not with O_APPEND, with which Linux writes at the end, whatever the offset.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            while data := os.pread(descriptor, REWRITE_BYTES, offset):
                offset += os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def exists(self, path: str) -> bool:
        # Not ``lexists``: it takes a disk that fails for a file that is not there.
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def makedirs(self, path: str) -> None:
        missing = []
        while path and not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                if not os.path.isdir(directory):
                    raise
            self.sync_directory(os.path.dirname(directory) or ".")

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmtree(self, path: str) -> None:
        shutil.rmtree(path)

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A directory has metadata only, which fdatasync may leave out.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> Callable[[], None] | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return _Release(descriptor)


class _Release:
    """Gives a lock back, once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
