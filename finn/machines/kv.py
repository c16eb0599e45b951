"""The bundled key-value machine: the commands of Redis on strings, hashes, lists and sets."""

from __future__ import annotations

from collections.abc import Generator

from finn.interfaces import IReader, IWriter
from finn.machines.hashes import Hashes
from finn.machines.keyspace import Keyspace
from finn.machines.lifetimes import Lifetimes
from finn.machines.lists import Lists
from finn.machines.sets import Sets
from finn.machines.snapshots import VERSION, read_snapshot, write_snapshot
from finn.machines.strings import Strings


class KV(Strings, Hashes, Lists, Sets, Keyspace, Lifetimes):
    """A key-value store that answers as Redis 7 does, replicated.

    Keys expire by the replicated clock. A node that serves this machine asks ``needs_tick``
    before a read, so that keys expire on time while nobody writes.
    """

    machine_name = "kv"
    snapshot_version = VERSION

    def snapshot(self, file: IWriter) -> Generator[None, None, None]:
        """Write the state; the moment is that of the first ``next``."""
        return write_snapshot(self, file)

    def restore(self, file: IReader) -> Generator[None, None, None]:
        """Replace the state by a snapshot."""
        return read_snapshot(self, file)
