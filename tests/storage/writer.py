"""A process that writes a log and says what is acknowledged; its tests kill it.

Usage: python -m tests.storage.writer BACKEND DIRECTORY [ENTRIES]

Prints a line for each acknowledgement, ``state TERM`` or ``entry INDEX``, and ``failed TEXT`` when
the disk fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from finn.errors import DiskFailed
from finn.options import Durability
from finn.raft.ready import HardState
from finn.storage.bolt import BoltStore
from finn.storage.disk import ImmediateDisk
from finn.storage.fastlog import FastLog
from finn.storage.files import OSFiles
from finn.storage.leveldb import LevelDBStore
from finn.testing.contract import sample_entry

STORES: dict[str, Callable[[str], Any]] = {
    "fastlog-low": lambda directory: FastLog(
        OSFiles(), ImmediateDisk(), Clock(), directory, Durability.LOW, 10_000
    ),
    "fastlog-high": lambda directory: FastLog(
        OSFiles(), ImmediateDisk(), Clock(), directory, Durability.HIGH, 10_000
    ),
    "bolt": lambda directory: BoltStore(directory, ImmediateDisk(), Clock(), map_size=1 << 16),
    "leveldb-low": lambda directory: LevelDBStore(
        directory, ImmediateDisk(), Clock(), Durability.LOW
    ),
    "leveldb-medium": lambda directory: LevelDBStore(
        directory, ImmediateDisk(), Clock(), Durability.MEDIUM
    ),
    "leveldb-high": lambda directory: LevelDBStore(
        directory, ImmediateDisk(), Clock(), Durability.HIGH
    ),
}
PAYLOAD = b"x" * 300


def make_store(backend: str, directory: str) -> Any:
    """Make a store, closed."""
    return STORES[backend](directory)


def done(deferred: Deferred[Any]) -> Any:
    """Return the result of a call that is over, or raise what it failed with."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def write(backend: str, directory: str, entries: int) -> None:
    """Append entries for ever, now and then cut off the last few or compact."""
    store = make_store(backend, directory)
    done(store.open())
    say("open")
    for _ in range(entries):
        index = store.last_index + 1
        term = store.state.term + 1
        if index % 7 == 0:
            done(store.save_state(HardState(term, index)))
            say(f"state {term}")
        if index % 50 == 0:
            store.compact(index - 40)
        store.append([sample_entry(index, 1, PAYLOAD)])
        if index % 11 == 0:
            store.truncate_suffix(index)
            store.append([sample_entry(index, 1, PAYLOAD), sample_entry(index + 1, 1, PAYLOAD)])
        done(store.sync())
        say(f"entry {store.last_index}")
    done(store.close())


def say(line: str) -> None:
    """Tell the parent."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        write(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1 << 60)
    except DiskFailed as error:
        say(f"failed {error}")
        sys.exit(3)
