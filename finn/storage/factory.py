"""Choosing the log and snapshot stores that the options ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

from twisted.internet.interfaces import IReactorTime

from finn.errors import DataDirectoryError
from finn.interfaces import IDisk, IFiles, ILogStore, ISnapshotStore
from finn.options import Backend, Durability, NodeOptions
from finn.storage.fastlog import LOG_NAME, FastLog
from finn.storage.identity import Identity
from finn.storage.inmem import InMemLog
from finn.storage.snapshots import MemorySnapshotStore, SnapshotStore

# Where each backend keeps its log in the data directory.
PLACES = {Backend.FASTLOG: LOG_NAME, Backend.BOLT: "bolt", Backend.LEVELDB: "leveldb"}


def effective_durability(options: NodeOptions) -> Durability:
    """Return the level that a node really has: bolt is always high."""
    return Durability.HIGH if options.backend is Backend.BOLT else options.durability


def found_backend(files: IFiles, directory: str) -> str:
    """Return the backend whose log is in a data directory, empty when there is no log.

    Raises:
        DataDirectoryError: there are several, or the directory cannot be read.
        CorruptLog: ``node.json`` is damaged.
    """
    identity = Identity.load(files, directory)
    found = []
    try:
        for backend, name in PLACES.items():
            if files.exists(os.path.join(directory, name)):
                found.append(backend.value)
    except OSError as e:
        raise DataDirectoryError(f"cannot use {directory}: {e.strerror or e}") from e
    if identity is not None and identity.backend not in found:
        found.append(identity.backend)
    if len(found) > 1:
        raise DataDirectoryError(
            f"{directory} holds logs of several backends: {' and '.join(found)}"
        )
    return found[0] if found else ""


def open_store(
    options: NodeOptions,
    files: IFiles,
    disk: IDisk,
    clock: IReactorTime,
    random: Random | None = None,
) -> ILogStore:
    """Make the log store, not opened yet. Reads two names and a small file.

    Args:
        random: source of what the store draws; the system's if None.

    Raises:
        DataDirectoryError: the directory has a log of another backend.
        CorruptLog: ``node.json`` is damaged.
    """
    directory, backend = options.directory, options.backend
    found = found_backend(files, directory)
    if found and found != backend.value:
        raise DataDirectoryError(
            f"{directory} has a log of backend {found}, not {backend.value}: "
            f"start with --backend {found}, or with another directory"
        )
    if backend is Backend.INMEM:
        return InMemLog()
    if backend is Backend.BOLT:
        from finn.storage.bolt import BoltStore

        return BoltStore(directory, disk, clock)
    if backend is Backend.LEVELDB:
        from finn.storage.leveldb import LevelDBStore

        return LevelDBStore(directory, disk, clock, options.durability)
    return FastLog(files, disk, clock, directory, options.durability, random=random)


def open_snapshots(
    options: NodeOptions, files: IFiles, disk: IDisk, wall_ms: Callable[[], int]
) -> ISnapshotStore:
    """Make the snapshot store, not opened yet."""
    if options.backend is Backend.INMEM:
        return MemorySnapshotStore()
    return SnapshotStore(files, disk, options.directory, wall_ms)
