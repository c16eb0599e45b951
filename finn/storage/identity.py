"""Who a node is, across restarts: ``node.json`` in the data directory, and the directory's lock."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import Any

from finn.errors import CorruptLog, DataDirectoryError
from finn.interfaces import IFiles
from finn.options import Backend, Durability
from finn.storage.aside import replace_file

IDENTITY_NAME = "node.json"
LOCK_NAME = "lock"
FORMAT_VERSION = 1
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"


def read_boot_id(path: str = BOOT_ID_PATH) -> str:
    """Return what names this run of the operating system, empty where that is not known."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


class Identity:
    """The content of ``node.json``; set the fields, then ``save``.

    Args:
        files: the file system.
        directory: data directory of the node.
        node_id: drawn at the first start, never changed.
        backend: where the log is.

    Attributes:
        cluster_id: 0 until the node bootstraps or joins.
        durability: of the run that is going on, or was.
        boot_id: of the operating system in that run.
        clean: that run ended in order: everything was synced.
        amnesic: the node may have forgotten what it acknowledged.
        address: how the node was last called.
        removed: the node found itself removed from its cluster.
    """

    def __init__(self, files: IFiles, directory: str, node_id: int, backend: Backend) -> None:
        self.node_id = node_id
        self.cluster_id = 0
        self.backend = backend
        self.durability = Durability.HIGH
        self.boot_id = ""
        self.clean = True
        self.amnesic = False
        self.address = ""
        self.removed = False
        self._files = files
        self._directory = directory

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
            identity = cls(files, directory, int(fields["node_id"], 16), Backend(fields["backend"]))
            identity._take(fields)
        except (ValueError, TypeError, KeyError) as e:
            raise CorruptLog(path, 0, f"it is not what finn writes ({e})") from e
        return identity

    def _take(self, fields: dict[str, Any]) -> None:
        self.cluster_id = int(fields["cluster_id"], 16)
        self.durability = Durability[fields["durability"].upper()]
        self.boot_id = str(fields["boot_id"])
        self.clean = bool(fields["clean"])
        self.amnesic = bool(fields["amnesic"])
        self.address = str(fields["address"])
        self.removed = bool(fields["removed"])

    def save(self) -> None:
        """Write atomically and sync. Blocks: run it on the disk thread.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        fields = {
            "version": FORMAT_VERSION,
            "node_id": format(self.node_id, "016x"),
            "cluster_id": format(self.cluster_id, "016x"),
            "backend": self.backend.value,
            "durability": self.durability.name.lower(),
            "boot_id": self.boot_id,
            "clean": self.clean,
            "amnesic": self.amnesic,
            "address": self.address,
            "removed": self.removed,
        }
        data = json.dumps(fields, indent=1).encode() + b"\n"
        path = os.path.join(self._directory, IDENTITY_NAME)
        try:
            self._files.makedirs(self._directory)
            replace_file(self._files, path, data)
        except OSError as e:
            raise DataDirectoryError(f"cannot write {path}: {e.strerror or e}") from e

    def began(self, boot_id: str, durability: Durability, dropped_tail: bool = False) -> bool:
        """Take note of a start, between the store's ``open`` and its first change; ``save`` then.

        What was acknowledged at low or medium before the operating system started anew is gone,
        unless the node had stopped in order; a tail that was dropped may have been acknowledged
        at any level. Once amnesic, a node stays so until it is told otherwise.

        Args:
            boot_id: of this start; empty when unknown, which counts as another one.
            durability: of this run.
            dropped_tail: the store's.

        Returns:
            Whether the node is amnesic.
        """
        same_boot = bool(boot_id) and boot_id == self.boot_id
        forgot = self.durability < Durability.HIGH and not self.clean and not same_boot
        self.amnesic = self.amnesic or dropped_tail or forgot
        self.boot_id = boot_id
        self.durability = durability
        self.clean = False
        return self.amnesic

    def ended(self) -> None:
        """Take note of a stop in order, after the store was closed; ``save`` then."""
        self.clean = True


class DirectoryLock:
    """Keeps a second process out of a data directory; the system frees it when the process ends.

    Args:
        files: the file system.
        directory: data directory, created if missing.
    """

    def __init__(self, files: IFiles, directory: str) -> None:
        self._files = files
        self._directory = directory
        self._release: Callable[[], None] | None = None

    def acquire(self) -> None:
        """Take the lock, or say in one line why not.

        Raises:
            DataDirectoryError: another process has it, or the directory cannot be used.
        """
        try:
            self._files.makedirs(self._directory)
            release = self._files.lock(os.path.join(self._directory, LOCK_NAME))
        except OSError as e:
            reason = e.strerror or str(e)
            if e.errno in (errno.EEXIST, errno.ENOTDIR):
                reason = "there is a file of that name"
            raise DataDirectoryError(f"cannot use {self._directory}: {reason}") from e
        if release is None:
            raise DataDirectoryError(f"{self._directory} is in use by another process")
        self._release = release

    def release(self) -> None:
        """Give it back; harmless without."""
        release, self._release = self._release, None
        if release is not None:
            release()
