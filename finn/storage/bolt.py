"""The bolt backend: the log in LMDB, the store that Bolt is a port of.

Every transaction is synced before it counts, whatever the level asked for: LMDB without sync may
corrupt itself. The map, which bounds the size of the database, grows by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from struct import Struct
from typing import Any

from twisted.internet.interfaces import IReactorTime

from finn.errors import CommandError, CorruptLog, DataDirectoryError, DiskFailed, MissingExtra
from finn.interfaces import IDisk
from finn.options import Durability
from finn.storage.files import OSFiles
from finn.storage.kvengine import Batch, Translated, report
from finn.storage.kvstore import KeyValueStore

NAME = "bolt"
FIRST_MAP = 1 << 26
"""64 MiB: the trailing log and a snapshot's worth of entries fit without growing."""
MOST_GROWTH = 1 << 30
"""A larger map doubles no more, it grows by 1 GiB; address space only, the file grows as used."""

_KEY = Struct(">Q")


def _import() -> Any:
    try:
        import lmdb
    except ImportError:
        raise MissingExtra("the bolt backend", "lmdb", "bolt") from None
    return lmdb


class LMDBEngine:
    """An LMDB environment with the databases ``logs`` and ``conf``.

    Args:
        path: directory of the environment.
        map_size: bytes of address space to begin with.
        readonly: change nothing, not even a lock.
    """

    def __init__(self, path: str, map_size: int = FIRST_MAP, readonly: bool = False) -> None:
        self.path = path
        self._map_size = map_size
        self._readonly = readonly
        self._lmdb: Any = None
        self._env: Any = None
        self._logs: Any = None
        self._conf: Any = None

    def open(self) -> None:
        self._lmdb = _import()
        try:
            if not self._readonly:
                OSFiles().makedirs(self.path)
            fresh = not os.path.exists(os.path.join(self.path, "data.mdb"))
            with self._errors():
                self._open_environment()
            if fresh:
                OSFiles().sync_directory(self.path)
        except OSError as error:
            raise DataDirectoryError(f"{self.path} cannot be used: {error.strerror}") from None

    def _open_environment(self) -> None:
        self._env = self._lmdb.open(
            self.path,
            map_size=self._map_size,
            max_dbs=2,
            max_readers=8,
            mode=0o600,
            readonly=self._readonly,
            lock=not self._readonly,
            create=not self._readonly,
        )
        create = not self._readonly
        try:
            self._logs = self._env.open_db(b"logs", create=create)
            self._conf = self._env.open_db(b"conf", create=create)
        except BaseException:
            self._env.close()
            raise

    def get(self, name: str) -> bytes | None:
        with self._errors(), self._env.begin() as transaction:
            value: bytes | None = transaction.get(name.encode(), db=self._conf)
            return value

    def scan(self, first: int) -> Generator[tuple[int, bytes], None, None]:
        with self._errors(), self._env.begin(buffers=True) as transaction:
            cursor = transaction.cursor(self._logs)
            found = cursor.set_range(_KEY.pack(first))
            while found:
                key, value = cursor.item()
                yield _KEY.unpack(key)[0], bytes(value)
                found = cursor.next()

    def write(self, batch: Batch) -> None:
        with self._errors():
            self._transact(lambda transaction: self._put(transaction, batch))

    def _put(self, transaction: Any, batch: Batch) -> None:
        if batch.delete is not None:
            for index in range(batch.delete[0], batch.delete[1] + 1):
                transaction.delete(_KEY.pack(index), db=self._logs)
        for index, record in batch.puts:
            transaction.put(_KEY.pack(index), record, db=self._logs)
        for name, value in batch.values.items():
            transaction.put(name.encode(), value, db=self._conf)

    def _transact(self, change: Callable[[Any], None]) -> None:
        """Run ``change`` in a transaction, again in a larger map when this one is full."""
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    change(transaction)
                return
            except self._lmdb.MapFullError:
                # Nothing was written, and no other transaction is open: this thread makes all.
                size = self._env.info()["map_size"]
                self._env.set_mapsize(size + min(size, MOST_GROWTH))

    def shrink(self, first: int) -> None:
        raise CommandError("ERR log is not shrinkable")

    def close(self) -> None:
        with self._errors():
            self._env.close()

    def _errors(self) -> Translated:
        return Translated(self._ours)

    def _ours(self, error: BaseException) -> Exception | None:
        lmdb = self._lmdb
        damages = (
            lmdb.CorruptedError,
            lmdb.InvalidError,
            lmdb.PageNotFoundError,
            lmdb.VersionMismatchError,
        )
        if isinstance(error, damages):
            return CorruptLog(os.path.join(self.path, "data.mdb"), 0, str(error))
        return DiskFailed(str(error)) if isinstance(error, lmdb.Error) else None


class BoltStore(KeyValueStore):
    """A log store on LMDB, always at high durability.

    Args:
        directory: data directory of the node; the database is in its folder ``bolt``.
        disk: does all the work.
        clock: for ``busy_since``.
        map_size: address space to begin with; grows when it is used up.
    """

    def __init__(
        self, directory: str, disk: IDisk, clock: IReactorTime, map_size: int = FIRST_MAP
    ) -> None:
        engine = LMDBEngine(os.path.join(directory, NAME), map_size)
        super().__init__(engine, disk, clock, Durability.HIGH)


def check_report(directory: str) -> list[str]:
    """Describe the log in a data directory without changing anything; the first fault is last."""
    engine = LMDBEngine(os.path.join(directory, NAME), readonly=True)
    try:
        engine.open()
    except (CorruptLog, DataDirectoryError, DiskFailed) as error:
        return [f"first fault: {error}"]
    try:
        return report(engine)
    finally:
        engine.close()
