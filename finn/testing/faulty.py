"""A file system in memory that fails as real ones do: ``IFiles`` for tests of what must survive.

Everything is deterministic: what is lost at a power cut comes from the ``random.Random`` that is
passed in, everything else happens when it was told to::

    files = FaultyFiles()
    files.cut_at(17)                      # the power goes at the 17th change
    try:
        run_script(files)
    except PowerCut:
        pass
    for seed in range(20):                # the same moment, twenty outcomes
        check(files.power_cut(Random(seed)))

What a power cut does to un-synced data and names is described in ``finn.testing.platter``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from zope.interface import implementer

from finn.interfaces import IFile, IFiles
from finn.testing.platter import Directory, Inode, Node, Place, Platter

ANY = "any"
"""As the kind of an operation: any that changes something."""


class PowerCut(Exception):
    """The machine is off, or the process dead: no operation has an effect any more."""


@dataclass
class _Rule:
    kind: str
    path: str
    at: int
    times: int
    error: int

    def hit(self) -> bool:
        """Count a call; say whether it is one of those that fail."""
        self.at -= 1
        return self.at <= 0 < self.at + self.times


@implementer(IFiles)
class FaultyFiles:
    """Files in memory with a volatile and a durable layer, and faults on demand.

    Kinds of operations are the names of the methods of ``IFiles`` and ``IFile``. Those that change
    something (syncs too) are counted.

    Args:
        capacity: bytes that fit on the disk; None: no bound.

    Attributes:
        operations: number of changes so far.
        used: bytes in files.
        capacity: may be changed at any time, for instance to give back space.
        on_slow: called with the seconds that an operation takes beyond its time (``slow``).
        dead: power was cut, the process killed.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.operations = 0
        self.used = 0
        self.dead = False
        self.on_slow: Callable[[float], None] | None = None
        self._platter = Platter()
        self._rules: list[_Rule] = []
        self._delays: list[tuple[str, str, float]] = []
        self._locks: set[str] = set()
        self._cut: tuple[int, float] | None = None

    # -- faults -------------------------------------------------------------------------------

    def cut_at(self, number: int, written: float = 1.0) -> None:
        """Raise PowerCut at the ``number``-th change from the start, and ever after.

        The change is made (in memory), but for syncs; of a write the part ``written``.
        """
        self._cut = (number, written)

    def fail(
        self, kind: str, at: int = 1, error: int = errno.EIO, times: int = 1, path: str = ""
    ) -> None:
        """Let the ``at``-th operation of a kind from now fail, and the ``times - 1`` after it.

        A failing write leaves half of its bytes. A failing datasync loses what it should have
        synced: a later one that succeeds does not make it durable.

        Args:
            kind: name of the method, or ``ANY``.
            at: 1 is the next one.
            error: errno.
            times: how many fail.
            path: only operations on paths that contain this.
        """
        self._rules.append(_Rule(kind, path, at, times, error))

    def slow(self, kind: str, seconds: float, path: str = "") -> None:
        """Report ``seconds`` to ``on_slow`` at each operation of a kind; 0 ends it."""
        self._delays = [d for d in self._delays if d[:2] != (kind, path)]
        if seconds:
            self._delays.append((kind, path, seconds))

    def heal(self) -> None:
        """End all faults that were asked for and have not happened yet, and all slowness."""
        self._rules.clear()
        self._delays.clear()

    def flip_bit(self, path: str, offset: int, bit: int = 0) -> None:
        """Damage a byte, on the platter and in the cache."""
        inode = self._file(path)
        for content in (inode.data, inode.durable):
            if offset < len(content):
                content[offset] ^= 1 << bit

    def crash(self) -> FaultyFiles:
        """Kill the process: all that was written is there. This object is dead afterwards.

        Returns:
            The files that the next process finds.
        """
        self.dead = True
        return self._successor(self._platter.after_crash())

    def power_cut(self, random: Random) -> FaultyFiles:
        """Cut the power. This object is dead afterwards, but may be cut again with another random.

        Returns:
            The files that are found when power is back.
        """
        self.dead = True
        return self._successor(self._platter.after_power_cut(random))

    def _successor(self, platter: Platter) -> FaultyFiles:
        twin = FaultyFiles(self.capacity)
        twin._platter = platter
        twin._delays = list(self._delays)
        twin.on_slow = self.on_slow
        twin.used = sum(len(inode.data) for inode in _inodes(platter.root))
        return twin

    def _begin(self, kind: str, path: str, change: bool = True) -> None:
        """Every operation starts here: count it, delay it, fail it."""
        if self.dead:
            raise PowerCut(f"{kind} {path}: the power is off")
        self.operations += change
        for wanted, part, seconds in self._delays:
            if wanted in (kind, ANY) and part in path and self.on_slow:
                self.on_slow(seconds)
        for rule in self._rules:
            matches = rule.kind == kind or (rule.kind == ANY and change)
            if matches and rule.path in path and rule.hit():
                raise OSError(rule.error, os.strerror(rule.error), path)

    @property
    def _cut_now(self) -> bool:
        return self._cut is not None and self.operations >= self._cut[0]

    def _end(self, kind: str, path: str) -> None:
        """Every change ends here: it is the last one when the power goes."""
        if self._cut_now:
            self.dead = True
            raise PowerCut(f"power cut at operation {self.operations}: {kind} {path}")

    # -- IFiles -------------------------------------------------------------------------------

    def create(self, path: str) -> FaultyFile:
        """Create an empty file."""
        directory, name = self._place(path)
        self._begin("create", path)
        if name in directory.names:
            raise _error(errno.EEXIST, path)
        inode = Inode()
        self._platter.change(None, (directory, name), inode)
        self._end("create", path)
        return FaultyFile(self, path, inode)

    def open(self, path: str) -> FaultyFile:
        """Open for appending and reading."""
        self._begin("open", path, change=False)
        return FaultyFile(self, path, self._file(path))

    def open_readonly(self, path: str) -> FaultyFile:
        """Open for reading."""
        self._begin("open_readonly", path, change=False)
        return FaultyFile(self, path, self._file(path), writable=False)

    def rewrite(self, path: str, offset: int) -> None:
        """Write the end of a file once more."""
        inode = self._file(path)
        self._begin("rewrite", path)
        inode.rewrite(offset)
        self._end("rewrite", path)

    def read(self, path: str) -> bytes:
        """Return the whole content."""
        self._begin("read", path, change=False)
        return bytes(self._file(path).data)

    def exists(self, path: str) -> bool:
        """Say whether there is something of that name."""
        self._begin("exists", path, change=False)
        return self._lookup(path) is not None

    def listdir(self, path: str) -> list[str]:
        """Sorted names."""
        self._begin("listdir", path, change=False)
        return sorted(self._directory(path).names)

    def makedirs(self, path: str) -> None:
        """Create directories; each new name is synced."""
        parts = _split(path)
        for length in range(1, len(parts) + 1):
            part = "/".join(parts[:length])
            node = self._lookup(part)
            if isinstance(node, Inode):
                raise _error(errno.EEXIST, part)
            if node is None:
                self._begin("makedirs", part)
                self._platter.change(None, self._place(part), Directory())
                self._end("makedirs", part)
                self.sync_directory("/".join(parts[: length - 1]))

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing a file (or an empty directory by a directory)."""
        self._begin("rename", new)
        source, target = self._place(old), self._place(new)
        node = source[0].names.get(source[1])
        if node is None:
            raise _error(errno.ENOENT, old)
        replaced = target[0].names.get(target[1])
        if isinstance(replaced, Directory):
            if isinstance(node, Inode):
                raise _error(errno.EISDIR, new)
            if replaced.names:
                raise _error(errno.ENOTEMPTY, new)
        elif replaced is not None and replaced is not node:
            if isinstance(node, Directory):
                raise _error(errno.ENOTDIR, new)
            self.used -= len(replaced.data)
        if replaced is not node:
            self._platter.change(source, target, node)
        self._end("rename", new)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self._begin("unlink", path)
        self.used -= len(self._file(path).data)
        self._platter.change(self._place(path), None)
        self._end("unlink", path)

    def rmtree(self, path: str) -> None:
        """Remove a directory and what is in it, one name after the other."""
        directory = self._directory(path)
        for name in sorted(directory.names):
            inner = f"{path}/{name}"
            if isinstance(directory.names[name], Directory):
                self.rmtree(inner)
            else:
                self.unlink(inner)
        self._begin("rmtree", path)
        self._platter.change(self._place(path), None)
        self._end("rmtree", path)

    def sync_directory(self, path: str) -> None:
        """Make names in a directory durable."""
        directory = self._directory(path)
        self._begin("sync_directory", path)
        self._end("sync_directory", path)
        self._platter.sync(directory)

    def lock(self, path: str) -> Callable[[], None] | None:
        """Take a lock, held until released or the process is dead."""
        key = "/".join(_split(path))
        if self._lookup(path) is None:
            self.create(path)
        self._begin("lock", path, change=False)
        if key in self._locks:
            return None
        self._locks.add(key)
        return lambda: self._locks.discard(key)

    # -- the tree -----------------------------------------------------------------------------

    def _walk(self, path: str) -> Node:
        node: Node | None = self._platter.root
        for name in _split(path):
            if not isinstance(node, Directory):
                raise _error(errno.ENOTDIR, path)
            node = node.names.get(name)
            if node is None:
                raise _error(errno.ENOENT, path)
        assert node is not None
        return node

    def _lookup(self, path: str) -> Node | None:
        try:
            return self._walk(path)
        except OSError:
            return None

    def _file(self, path: str) -> Inode:
        node = self._walk(path)
        if isinstance(node, Directory):
            raise _error(errno.EISDIR, path)
        return node

    def _directory(self, path: str) -> Directory:
        node = self._walk(path)
        if isinstance(node, Inode):
            raise _error(errno.ENOTDIR, path)
        return node

    def _place(self, path: str) -> Place:
        parts = _split(path)
        if not parts:
            raise _error(errno.EINVAL, path)
        return self._directory("/".join(parts[:-1])), parts[-1]

    # -- for FaultyFile -----------------------------------------------------------------------

    def _write(self, path: str, inode: Inode, data: bytes) -> None:
        try:
            self._begin("write", path)
        except OSError:
            self._take(inode, data[: len(data) // 2])
            raise
        if self._cut_now and self._cut is not None:
            data = data[: int(len(data) * self._cut[1])]
        if self._take(inode, data) < len(data):
            raise _error(errno.ENOSPC, path)
        self._end("write", path)

    def _take(self, inode: Inode, data: bytes) -> int:
        if self.capacity is not None:
            data = data[: max(0, self.capacity - self.used)]
        if data:
            inode.append(bytes(data))
            self.used += len(data)
        return len(data)

    def _sync(self, path: str, inode: Inode) -> None:
        try:
            self._begin("datasync", path)
        except OSError:
            inode.forget_pending()
            raise
        self._end("datasync", path)
        inode.sync()

    def _truncate(self, path: str, inode: Inode, size: int) -> None:
        self._begin("truncate", path)
        self.used += size - len(inode.data)
        inode.truncate(size)
        self._end("truncate", path)


@implementer(IFile)
class FaultyFile:
    """An open file of FaultyFiles; it outlives its name, as on Unix."""

    def __init__(self, files: FaultyFiles, path: str, inode: Inode, writable: bool = True) -> None:
        self._files = files
        self._path = path
        self._inode = inode
        self._writable = writable
        self._open = True

    def write(self, data: bytes) -> None:
        """Append."""
        self._check(write=True)
        self._files._write(self._path, self._inode, data)

    def pread(self, size: int, offset: int) -> bytes:
        """Read at an offset."""
        self._check()
        self._files._begin("pread", self._path, change=False)
        return bytes(self._inode.data[offset : offset + size])

    def datasync(self) -> None:
        """Make the content durable."""
        self._check()
        self._files._sync(self._path, self._inode)

    def truncate(self, size: int) -> None:
        """Cut."""
        self._check(write=True)
        self._files._truncate(self._path, self._inode, size)

    def size(self) -> int:
        """Size in bytes."""
        self._check()
        return len(self._inode.data)

    def close(self) -> None:
        """Close."""
        self._open = False

    def _check(self, write: bool = False) -> None:
        if self._files.dead:
            raise PowerCut(f"{self._path}: the power is off")
        if not self._open or (write and not self._writable):
            raise _error(errno.EBADF, self._path)


def _split(path: str) -> list[str]:
    return [part for part in os.path.normpath(path).split("/") if part not in ("", ".")]


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _inodes(directory: Directory) -> Iterator[Inode]:
    for node in directory.names.values():
        if isinstance(node, Inode):
            yield node
        else:
            yield from _inodes(node)
