"""The leveldb backend: the log in LevelDB.

LevelDB is opened with its paranoid checks: it refuses to start over a damaged file rather than to
leave out what it cannot read. A log of its own that is merely cut short ends there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from struct import Struct
from typing import Any

from twisted.internet.interfaces import IReactorTime

from finn.errors import CorruptLog, DataDirectoryError, DiskFailed, MissingExtra
from finn.interfaces import IDisk
from finn.options import Durability
from finn.storage.files import OSFiles
from finn.storage.kvengine import Batch, Translated, report
from finn.storage.kvstore import KeyValueStore

NAME = "leveldb"
WRITE_BUFFER = 16 << 20
"""16 MiB in memory before a table is written; the log in front of it is as large."""

_KEY = Struct(">4sQ")
_LOGS = b"logs"
_CONF = b"conf"


def _import() -> Any:
    try:
        import plyvel
    except ImportError:
        raise MissingExtra("the leveldb backend", "plyvel", "leveldb") from None
    return plyvel


class LevelDBEngine:
    """A LevelDB database with the prefixes ``logs`` and ``conf``.

    Args:
        path: directory of the database.
        always_synced: every write is a sync.
    """

    def __init__(self, path: str, always_synced: bool) -> None:
        self.path = path
        self._always_synced = always_synced
        self._plyvel: Any = None
        self._db: Any = None
        self._known: set[str] = set()

    def open(self) -> None:
        self._plyvel = _import()
        try:
            OSFiles().makedirs(self.path)
        except OSError as error:
            raise DataDirectoryError(f"{self.path} cannot be used: {error.strerror}") from None
        with self._errors():
            self._db = self._plyvel.DB(
                self.path,
                create_if_missing=True,
                paranoid_checks=True,
                write_buffer_size=WRITE_BUFFER,
                compression=None,
            )
            self._sync_names()

    def get(self, name: str) -> bytes | None:
        with self._errors():
            value: bytes | None = self._db.get(_CONF + name.encode(), verify_checksums=True)
            return value

    def scan(self, first: int) -> Generator[tuple[int, bytes], None, None]:
        with (
            self._errors(),
            self._db.iterator(
                start=_KEY.pack(_LOGS, first), prefix=None, verify_checksums=True, fill_cache=False
            ) as items,
        ):
            for key, record in items:
                yield _KEY.unpack(key)[1], record

    def write(self, batch: Batch) -> None:
        with self._errors():
            if batch.sync and not self._always_synced:
                self._sync_logs()
            writes = self._db.write_batch(sync=batch.sync)
            if batch.delete is not None:
                for index in range(batch.delete[0], batch.delete[1] + 1):
                    writes.delete(_KEY.pack(_LOGS, index))
            for index, record in batch.puts:
                writes.put(_KEY.pack(_LOGS, index), record)
            for name, value in batch.values.items():
                writes.put(_CONF + name.encode(), value)
            writes.write()
            if batch.sync:
                self._sync_names()

    def _sync_logs(self) -> None:
        """Sync LevelDB's own logs: its sync write covers only the newest, not one just ended."""
        for name in self._own_logs():
            try:
                file = OSFiles().open_readonly(os.path.join(self.path, name))
            except FileNotFoundError:
                continue  # its content is in a table by now, and those are synced
            try:
                file.datasync()
            finally:
                file.close()

    def _sync_names(self) -> None:
        """Sync the directory when LevelDB has begun a log: it does not do that itself."""
        names = self._own_logs()
        if not names <= self._known:
            OSFiles().sync_directory(self.path)
        self._known = names

    def _own_logs(self) -> set[str]:
        return {name for name in os.listdir(self.path) if name.endswith(".log")}

    def shrink(self, first: int) -> None:
        with self._errors():
            self._db.compact_range(start=_KEY.pack(_LOGS, 0), stop=_KEY.pack(_LOGS, first))

    def close(self) -> None:
        with self._errors():
            self._db.close()

    def _errors(self) -> Translated:
        return Translated(self._ours)

    def _ours(self, error: BaseException) -> Exception | None:
        plyvel = self._plyvel
        if not isinstance(error, (plyvel.Error, OSError)):
            return None
        text = _text(error)
        if isinstance(error, plyvel.CorruptionError):
            return CorruptLog(self.path, 0, text)
        if not isinstance(error, plyvel.IOError):
            return DiskFailed(f"{self.path}: {text}")
        if "lock " in str(error):
            return DataDirectoryError(f"{self.path} is in use: {text}")
        return DiskFailed(text)


def _text(error: Exception) -> str:
    """LevelDB's text, which plyvel hands over as bytes."""
    text = error.args[0] if error.args else ""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(error)


class LevelDBStore(KeyValueStore):
    """A log store on LevelDB.

    At low the operating system has what is acknowledged, at medium it is synced once a second, at
    high before it is acknowledged. Term and vote are always synced.

    Args:
        directory: data directory of the node; the database is in its folder ``leveldb``.
        disk: does all the work.
        clock: for the sync once a second.
        durability: what a write survives.
    """

    def __init__(
        self, directory: str, disk: IDisk, clock: IReactorTime, durability: Durability
    ) -> None:
        engine = LevelDBEngine(
            os.path.join(directory, NAME), always_synced=durability is Durability.HIGH
        )
        super().__init__(engine, disk, clock, durability)


def check_report(directory: str) -> list[str]:
    """Describe the log in a data directory without changing anything; the first fault is last.

    Opening a LevelDB database changes it, so that a copy is opened.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = os.path.join(scratch, NAME)
        engine = LevelDBEngine(copy, always_synced=True)
        try:
            shutil.copytree(os.path.join(directory, NAME), copy)
            engine.open()
        except (OSError, CorruptLog, DataDirectoryError, DiskFailed) as error:
            return [f"first fault: {error}"]
        try:
            return report(engine)
        finally:
            engine.close()
