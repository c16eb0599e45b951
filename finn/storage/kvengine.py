"""A database under the log: what bolt and leveldb must offer, and how its content is checked.

Keys of the database: the records under their index, and beside them ``format``, ``state`` (term and
vote), ``base`` (index that the log stands on) and ``synced`` (an index known durable when it was
written). The last three carry a checksum, as the records do.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

from twisted.internet.defer import Deferred

from finn.errors import CorruptLog, DataDirectoryError, DiskFailed, ProtocolError
from finn.raft.entries import CONFIGURATION, Entry, decode_entry
from finn.raft.ready import HardState

FORMAT = b"1"

_PAIR = struct.Struct("<QQ")
_CRC = struct.Struct("<I")


@dataclass
class Batch:
    """Changes written atomically: deletions first, then the rest.

    Attributes:
        delete: first and last index of entries to remove; they need not exist.
        puts: index and record.
        values: settings by name.
        sync: durable when the write returns, with all that was written before.
        last: last index of the log after this batch, less what was cut off since.
        waiting: fired when it is written.
    """

    delete: tuple[int, int] | None = None
    puts: list[tuple[int, bytes]] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)
    sync: bool = False
    last: int = 0
    waiting: list[Deferred[None]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Nothing to write."""
        return not (self.delete or self.puts or self.values or self.sync)


class Engine(Protocol):
    """A database. Called on the disk thread; raises LogErrors only."""

    path: str

    def open(self) -> None:
        """Open or create."""

    def get(self, name: str) -> bytes | None:
        """Return a setting."""

    def scan(self, first: int) -> Generator[tuple[int, bytes], None, None]:
        """Yield index and record from ``first`` on, in order."""

    def write(self, batch: Batch) -> None:
        """Write atomically."""

    def shrink(self, first: int) -> None:
        """Give back the space of entries below ``first``; CommandError if that is impossible."""

    def close(self) -> None:
        """Close."""


class Translated:
    """Turns a database's errors into ours, around whatever is asked of it.

    No generator: when a scan ends early, contextlib's managers leave a cycle of references behind
    in Python 3.10. It keeps what the database read from, and LMDB has few places for readers.

    Args:
        translate: returns our error for one of the database's, None for any other.
    """

    def __init__(self, translate: Callable[[BaseException], Exception | None]) -> None:
        self._translate = translate

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        ours = None if error is None else self._translate(error)
        if ours is not None:
            raise ours from None


class ByteCount:
    """Bytes of the log by index: a total, and a mark every 64 KiB to estimate a part of it."""

    STEP = 1 << 16

    def __init__(self) -> None:
        self._marks: list[tuple[int, int]] = []  # index, bytes before it
        self._end = 0  # index behind the last
        self._total = 0
        self._below = 0

    @property
    def bytes(self) -> int:
        """Bytes held; what was cut off or dropped is estimated."""
        return self._total - self._below

    def add(self, index: int, size: int) -> None:
        """Count an entry at the end."""
        if not self._marks or self._total - self._marks[-1][1] >= self.STEP:
            self._marks.append((index, self._total))
        self._total += size
        self._end = index + 1

    def cut(self, index: int) -> None:
        """Forget ``index`` and all above."""
        if index < self._end:
            self._total = max(self._before(index), self._below)
            del self._marks[bisect_left(self._marks, (index, 0)) :]
            self._end = index

    def drop(self, index: int) -> None:
        """Forget all below ``index``."""
        self._below = self._before(index)
        del self._marks[: max(0, bisect_left(self._marks, (index, 0)) - 1)]

    def _before(self, index: int) -> int:
        if index >= self._end:
            return self._total
        at = bisect_left(self._marks, (index + 1, 0))
        if at == 0:
            return self._below
        low, low_bytes = self._marks[at - 1]
        high, high_bytes = [*self._marks[at : at + 1], (self._end, self._total)][0]
        return low_bytes + (high_bytes - low_bytes) * (index - low) // (high - low)


@dataclass
class Content:
    """What ``load`` found.

    Attributes:
        base: index that the log stands on.
        synced: the sync mark.
        lowest: oldest entry there is, ``base + 1`` or a leftover below.
        hole: first missing entry when others follow it, else 0.
        fresh: the database was just made.
    """

    state: HardState
    base: int
    synced: int
    lowest: int
    last: int = 0
    last_time: int = 0
    terms: list[tuple[int, int]] = field(default_factory=list)
    configurations: list[Entry] = field(default_factory=list)
    sizes: ByteCount = field(default_factory=ByteCount)
    hole: int = 0
    fresh: bool = False


def pack_pair(first: int, second: int = 0) -> bytes:
    """Encode two numbers with a checksum."""
    body = _PAIR.pack(first, second)
    return _CRC.pack(crc32(body)) + body


def _pair(engine: Engine, name: str) -> tuple[int, int]:
    data = engine.get(name)
    if data is None:
        return 0, 0
    if len(data) != 20 or _CRC.unpack_from(data)[0] != crc32(data[4:]):
        raise CorruptLog(engine.path, 0, f"checksum of {name} is wrong")
    first, second = _PAIR.unpack_from(data, 4)
    return first, second


def decode(engine: Engine, index: int, record: bytes) -> Entry:
    """Decode a record found under ``index``. Raises CorruptLog."""
    try:
        entry = decode_entry(record)
    except ProtocolError as error:
        raise CorruptLog(engine.path, 0, f"entry {index}: {error}") from None
    if entry.index != index:
        raise CorruptLog(engine.path, 0, f"entry {index} calls itself {entry.index}")
    return entry


def load(engine: Engine) -> Content:
    """Read and check everything.

    Raises:
        CorruptLog: something is damaged that had been synced.
        DataDirectoryError: the format is not known.
    """
    version = engine.get("format")
    if version not in (None, FORMAT):
        raise DataDirectoryError(f"{engine.path} has a format this version does not know")
    state = HardState(*_pair(engine, "state"))
    base = _pair(engine, "base")[0]
    content = Content(state, base, _pair(engine, "synced")[0], base + 1, base)
    content.fresh = version is None
    lowest = None
    with closing(engine.scan(0)) as entries:
        for index, record in entries:
            lowest = index if lowest is None else lowest
            if index <= base:
                continue
            if index != content.last + 1:
                content.hole = content.last + 1
                break
            _take(content, decode(engine, index, record))
    content.lowest = base + 1 if lowest is None else min(lowest, base + 1)
    if content.last < content.synced:
        raise CorruptLog(engine.path, 0, f"entry {content.last + 1} is missing")
    return content


def _take(content: Content, entry: Entry) -> None:
    content.last = entry.index
    content.last_time = max(content.last_time, entry.time)
    content.sizes.add(entry.index, entry.size)
    if not content.terms or content.terms[-1][1] != entry.term:
        content.terms.append((entry.index, entry.term))
    if entry.kind == CONFIGURATION:
        content.configurations.append(entry)


def report(engine: Engine) -> list[str]:
    """Describe an open database in a few lines, the first fault last."""
    try:
        content = load(engine)
    except (CorruptLog, DataDirectoryError, DiskFailed) as error:
        return [f"first fault: {error}"]
    lines = [
        f"entries: {content.base + 1} to {content.last}, {content.sizes.bytes} bytes",
        f"term {content.state.term}, vote {content.state.voted_for:016x}",
    ]
    if content.hole:
        lines.append(f"first fault: entry {content.hole} is missing, it was never synced")
    return lines
