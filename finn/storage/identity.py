"""Who a node is, across restarts: ``node.json`` in the data directory, and the directory's lock."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from threading import Lock
from typing import Any
from zlib import crc32

from finn.errors import CorruptLog, DataDirectoryError
from finn.interfaces import IFiles
from finn.storage.aside import replace_file

IDENTITY_NAME = "node.json"
LOCK_NAME = "lock"
FORMAT_VERSION = 1
# Folders with the data of former lives in the data directory begin so.
ASIDE_PREFIX = "removed-"
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"
# What a node keeps in its data directory besides node.json.
DATA_NAMES = ("bolt", "leveldb", "log", "snapshots")
# Directories that cannot be synced for these were made by somebody else, or never can be.
_FOREIGN = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY,
)  # fmt: skip
# What ``removed`` is when a leader said so; earlier versions take it for true.
_TOLD = "told"
# All of node.json. One without "crc" is of an earlier version; a damaged name is of none.
_FIELDS = {
    "version", "node_id", "cluster_id", "joined", "address", "backend", "level", "weak", "boot_id",
    "clean", "end", "amnesic", "removed", "crc",
}  # fmt: skip


def read_boot_id(files: IFiles, path: str = BOOT_ID_PATH) -> str:
    """Return what names this run of the operating system, empty where that is not known."""
    try:
        return files.read(path).decode("ascii", "replace").strip()
    except OSError:
        return ""


class Identity:
    """The content of ``node.json``; set the fields, then ``save``.

    Args:
        files: the file system.
        directory: data directory of the node.
        node_id: drawn at the first start, never changed.
        backend: where the log is, as the option is spelled.
        address: how the node was last called.
        in_memory: nothing is ever saved.

    Attributes:
        cluster_id: 0 until the node bootstraps or joins.
        joined: a committed configuration has held this node.
        level: durability of the run that is going on, or was.
        weak: in that run, power loss could take what was acknowledged.
        boot_id: of the operating system in that run.
        clean: that run ended in order: everything was synced.
        end: index and term of the last entry of the log then, term 0 where the log was empty; None
            otherwise, and after a run of an earlier version.
        amnesic: the node may have forgotten what it acknowledged.
        removed: the node found itself removed from its cluster.
        told_removed: a leader said so.
    """

    def __init__(
        self,
        files: IFiles,
        directory: str,
        node_id: int,
        backend: str,
        address: str = "",
        in_memory: bool = False,
    ) -> None:
        self.node_id = node_id
        self.cluster_id = 0
        self.joined = False
        self.backend = backend
        self.address = address
        self.level = ""
        self.weak = False
        self.boot_id = ""
        self.clean = True
        self.end: tuple[int, int] | None = None
        self.amnesic = False
        self.removed = self.told_removed = False
        self._files = files
        self._directory = directory
        self._in_memory = in_memory
        self._has_begun = False
        self._saving = Lock()

    @classmethod
    def load(cls, files: IFiles, directory: str) -> Identity | None:
        """Read ``node.json``; None when there is none. Blocks, for the time of a small read.

        Raises:
            DataDirectoryError: it cannot be read, or has an unknown version.
            CorruptLog: it is damaged.
        """
        path = os.path.join(directory, IDENTITY_NAME)
        try:
            if not files.exists(path):
                return None
            data = files.read(path)
        except OSError as e:
            raise DataDirectoryError(f"cannot read {path}: {e.strerror or e}") from e
        try:
            fields = json.loads(data)
            version = fields["version"]
            if version != FORMAT_VERSION:
                raise DataDirectoryError(
                    f"{path} has format version {version}, this finn knows {FORMAT_VERSION} only"
                )
            if set(fields) - _FIELDS or fields.pop("crc", _crc(fields)) != _crc(fields):
                raise CorruptLog(path, 0, "its checksum is wrong")
            identity = cls(files, directory, int(fields["node_id"], 16), str(fields["backend"]))
            identity._take(fields)
        except (ValueError, TypeError, KeyError) as e:
            raise CorruptLog(path, 0, f"it is not what finn writes ({e})") from e
        return identity

    def _take(self, fields: dict[str, Any]) -> None:
        self.cluster_id = int(fields["cluster_id"], 16)
        self.joined = bool(fields["joined"])
        self.address = str(fields["address"])
        self.level = str(fields["level"])
        self.weak = bool(fields["weak"])
        self.boot_id = str(fields["boot_id"])
        self.clean = bool(fields["clean"])
        if fields.get("end") is not None:
            index, term = fields["end"]
            self.end = int(index), int(term)
        self.amnesic = bool(fields["amnesic"])
        self.removed = bool(fields["removed"])
        self.told_removed = fields["removed"] == _TOLD

    def save(self) -> None:
        """Write atomically and sync. Blocks: run it on the disk thread.

        Threads take turns, and each writes the fields as they are in its turn: the reactor adopts a
        cluster while the disk thread may be saving, and both write the same file aside.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        if not self._in_memory:
            with self._saving:
                self._save()

    def _save(self) -> None:
        fields: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "node_id": format(self.node_id, "016x"),
            "cluster_id": format(self.cluster_id, "016x"),
            "joined": self.joined,
            "address": self.address,
            "backend": self.backend,
            "level": self.level,
            "weak": self.weak,
            "boot_id": self.boot_id,
            "clean": self.clean,
            "end": self.end,
            "amnesic": self.amnesic,
            "removed": _TOLD if self.told_removed else self.removed,
        }
        fields["crc"] = _crc(fields)
        data = json.dumps(fields, indent=1).encode() + b"\n"
        path = os.path.join(self._directory, IDENTITY_NAME)
        try:
            self._files.makedirs(self._directory)
            replace_file(self._files, path, data)
        except OSError as e:
            raise DataDirectoryError(f"cannot write {path}: {e.strerror or e}") from e

    def began(self, boot_id: str, weak: bool, dropped_tail: bool = False, level: str = "") -> bool:
        """Take note of a start: between the store's ``open`` and its first change; ``save`` then.

        What a weak run acknowledged is gone when the operating system started anew without a stop
        in order; a tail that was dropped may have been acknowledged by any run. Once amnesic, a
        node stays so until ``amnesic`` is set back.

        Args:
            boot_id: of this start; empty when unknown, which counts as another one.
            weak: power loss can take what this run acknowledges (levels low and medium).
            dropped_tail: the store's.
            level: durability of this run, for whoever reads the file.

        Returns:
            Whether the node is amnesic.
        """
        same_boot = bool(boot_id) and boot_id == self.boot_id
        forgot = self.weak and not self.clean and not same_boot
        self.amnesic = self.amnesic or dropped_tail or forgot
        self.boot_id = boot_id
        self.weak = weak
        self.level = level
        self.clean = False
        self.end = None
        self._has_begun = True
        return self.amnesic

    def stopped_cleanly(self, index: int, term: int) -> None:
        """Take note of a stop in order, after the store was closed without error; then ``save``.

        Invariant: ``began`` was called, or what this node has forgotten would be forgotten, too.

        Args:
            index: of the last entry in the log.
            term: of that entry, 0 where the log holds none.
        """
        assert self._has_begun, "only what began can end"
        self.clean = True
        self.end = index, term

    def lost_since(self, index: int, term: int) -> str:
        """Say what is gone of a log that ends so now: before ``began``, as that changes the log.

        What was there at a stop in order was synced, at every level, and no crash since has
        changed it. Terms never go down in a log, so a shorter one has one of the two lower.

        Returns:
            One line, empty when nothing is gone.
        """
        if self.end is None or (index >= self.end[0] and term >= self.end[1]):
            return ""
        return (
            f"the log ends with entry {index} of term {term}; when the node was stopped in order "
            f"it ended with entry {self.end[0]} of term {self.end[1]}"
        )

    def set_aside(self, now_ms: int) -> str:
        """Move all data of this node into a folder beside it. Blocks.

        ``node.json`` moves last: after a crash in the middle the removed node is found again.

        Args:
            now_ms: wall clock, for the folder's name.

        Returns:
            The folder.

        Raises:
            DataDirectoryError: it did not work.
        """
        files, directory = self._files, self._directory
        aside = os.path.join(directory, f"{ASIDE_PREFIX}{now_ms}")
        try:
            files.makedirs(aside)
            for name in (*DATA_NAMES, IDENTITY_NAME):
                path = os.path.join(directory, name)
                if files.exists(path):
                    files.rename(path, os.path.join(aside, name))
                    files.sync_directory(aside)
                    files.sync_directory(directory)
        except OSError as e:
            raise DataDirectoryError(f"cannot move data to {aside}: {e.strerror or e}") from e
        return aside


def _crc(fields: dict[str, Any]) -> str:
    return format(crc32(json.dumps(fields, sort_keys=True).encode()), "08x")


class DirectoryLock:
    """Keeps a second process out of a data directory; the system frees it when the process ends.

    Args:
        files: the file system.
        directory: data directory, created if missing.
        kept: durably, as what will be in it outlives the process.
    """

    def __init__(self, files: IFiles, directory: str, kept: bool = True) -> None:
        self._files = files
        self._directory = directory
        self._kept = kept
        self._release: Callable[[], None] | None = None

    def acquire(self) -> None:
        """Take the lock, or say in one line why not.

        Raises:
            DataDirectoryError: another process has it, or the directory cannot be used.
        """
        try:
            self._files.makedirs(self._directory)
            name = os.path.join(self._directory, IDENTITY_NAME)
            if self._kept and not self._files.exists(name):
                self._sync_parents()
            release = self._files.lock(os.path.join(self._directory, LOCK_NAME))
        except OSError as e:
            reason = e.strerror or str(e)
            if e.errno in (errno.EEXIST, errno.ENOTDIR):
                reason = "there is a file of that name"
            raise DataDirectoryError(f"cannot use {self._directory}: {reason}") from e
        if release is None:
            raise DataDirectoryError(f"{self._directory} is in use by another process")
        self._release = release

    def _sync_parents(self) -> None:
        """Make the directory's name durable: whoever made it may have died, or not have cared."""
        path = self._directory
        while path and path != (parent := os.path.dirname(path)):
            try:
                self._files.sync_directory(parent or ".")
            except OSError as e:
                if e.errno not in _FOREIGN:
                    raise
            path = parent

    def release(self) -> None:
        """Give it back; harmless without."""
        release, self._release = self._release, None
        if release is not None:
            release()
