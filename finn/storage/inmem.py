"""The log store that keeps nothing on the disk: everything in memory, all of it gone at the end."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from finn.errors import Compacted, LogError
from finn.interfaces import ILogStore
from finn.raft.entries import Entry
from finn.raft.ready import HardState


@implementer(ILogStore)
class InMemLog:
    """``ILogStore`` in memory: every operation is done when it returns.

    Attributes:
        notice: always empty, as nothing can be dropped.
        base_term: term of the entry before ``first_index``, 0 when there is none.
        last_time: 0, as a log in memory is empty when it is opened.
    """

    def __init__(self) -> None:
        self.first_index = 1
        self.base_term = 0
        self.state = HardState()
        self.terms: list[tuple[int, int]] = []
        self.configurations: list[Entry] = []
        self.dropped_tail = False
        self.notice = ""
        self.last_time = 0
        self.log_bytes = 0
        self.busy_since: float | None = None
        self._entries: list[Entry] = []

    @property
    def last_index(self) -> int:
        return self.first_index + len(self._entries) - 1

    @property
    def durable_index(self) -> int:
        """As durable as it gets."""
        return self.last_index

    def open(self) -> Deferred[None]:
        return succeed(None)

    def append(self, entries: Sequence[Entry]) -> None:
        for place, entry in enumerate(entries, self.last_index + 1):
            assert entry.index == place, (entry, place)
        self.log_bytes += sum(entry.size for entry in entries)
        self._entries += entries

    def sync(self, durable: bool = False) -> Deferred[None]:
        return succeed(None)

    def truncate_suffix(self, index: int) -> None:
        assert index >= self.first_index, (index, self.first_index)
        self._remove(index - self.first_index, len(self._entries))

    def compact(self, index: int) -> None:
        count = min(index, self.last_index) - self.first_index + 1
        if count > 0:
            self.base_term = self._entries[count - 1].term
            self.first_index += count
            self._remove(0, count)

    def _remove(self, begin: int, end: int) -> None:
        self.log_bytes -= sum(entry.size for entry in self._entries[begin:end])
        del self._entries[begin:end]

    def reset(self, index: int, term: int) -> None:
        self._entries.clear()
        self.log_bytes = 0
        self.first_index = index + 1
        self.base_term = term

    def save_state(self, state: HardState) -> Deferred[None]:
        self.state = state
        return succeed(None)

    def read(self, first: int, max_bytes: int) -> Deferred[list[Entry]]:
        if first < self.first_index:
            return fail(Compacted(f"entry {first} is gone, the log begins at {self.first_index}"))
        if first > self.last_index:
            return fail(LogError(f"entry {first} is not in the log, it ends at {self.last_index}"))
        found: list[Entry] = []
        for place in range(first - self.first_index, len(self._entries)):
            entry = self._entries[place]
            max_bytes -= entry.size
            if max_bytes < 0 and found:
                break
            found.append(entry)
        return succeed(found)

    def shrink(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)
