"""The core's view of the log: terms of all of it, the entries of its newest part.

Older entries are in the store only; ``entries`` answers None for them. What has to be done to the
store is collected here and handed over by ``take``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

from finn.errors import LogError
from finn.raft.configuration import Configuration
from finn.raft.entries import CONFIGURATION, HEADER_SIZE, Entry
from finn.raft.settings import MIB

ENTRY_OVERHEAD = 200  # bytes of the Python objects around a record, measured on 3.11


class RaftLog:
    """A log that may begin behind a snapshot.

    Args:
        snapshot_index: last index of the newest snapshot, 0 for none.
        snapshot_term: term of that entry.
        snapshot_configuration: the members as of that entry.
        first_index: oldest entry of the store.
        last_index: newest entry of the store, ``first_index - 1`` when it holds none.
        terms: ``(first index, term)`` of each run of entries of one term.
        configurations: the configuration entries of the log, oldest first.
        last_time: time of the newest entry (or of the snapshot), ms.

    Raises:
        LogError: entries between the snapshot and the log are missing.

    Attributes:
        first_index: oldest entry that can still be sent.
        last_index: newest entry; the snapshot's when there is none.
        last_term: its term.
        persisted_index: everything up to here is durable, in the log or in the snapshot.
        last_time: newest time seen in an entry, ms.
        memory_bytes: durable entries beyond this leave the memory.
    """

    def __init__(
        self,
        snapshot_index: int = 0,
        snapshot_term: int = 0,
        snapshot_configuration: Configuration | None = None,
        first_index: int = 1,
        last_index: int = 0,
        terms: Sequence[tuple[int, int]] = (),
        configurations: Iterable[Entry] = (),
        last_time: int = 0,
    ) -> None:
        if first_index > snapshot_index + 1:
            raise LogError(
                f"the log begins at {first_index}, the newest snapshot ends at {snapshot_index}: "
                "entries between them are missing"
            )
        self.snapshot_index = snapshot_index
        self.snapshot_term = snapshot_term
        self.snapshot_configuration = snapshot_configuration or Configuration()
        self.first_index = first_index
        self.last_index = max(last_index, first_index - 1)
        self.last_time = last_time
        self.memory_bytes = 16 * MIB
        self._firsts = [first for first, _ in terms]
        self._terms = [term for _, term in terms]
        base = first_index - 1
        if base == snapshot_index:
            self._firsts.insert(0, base)
            self._terms.insert(0, snapshot_term)
        self.last_term = self._terms[-1] if self._terms else 0
        self._configurations = [
            Configuration.decode(e.payload, e.index)
            for e in configurations
            if snapshot_index < e.index <= self.last_index
        ]
        self.persisted_index = self.last_index
        self._held: dict[int, Entry] = {}
        self._held_first = self.last_index + 1
        self._held_bytes = 0
        self._fresh: list[Entry] = []  # appended, not handed to the store yet
        self._handed = self.last_index
        self._truncate_from = 0
        self._reset_to: tuple[int, int] | None = None
        self._ticket = 0
        self._tickets: deque[tuple[int, int]] = deque()
        # A crash between the installing of a snapshot and the reset of the log is legal: the
        # snapshot counts (figure 13, rule 7).
        if self._stored_term(snapshot_index) != snapshot_term:
            self.reset(snapshot_index, snapshot_term, self.snapshot_configuration, last_time)

    def __repr__(self) -> str:
        return f"<RaftLog {self.first_index}..{self.last_index}^{self.last_term}>"

    # -- looking up -------------------------------------------------------------------------------

    def _stored_term(self, index: int) -> int | None:
        if index > self.last_index or index < self.first_index - 1:
            return None
        if self._firsts and index >= self._firsts[-1]:
            return self.last_term  # nearly always
        at = bisect_right(self._firsts, index) - 1
        return self._terms[at] if at >= 0 else None

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, None when there is no such entry or it is compacted."""
        if index == self.last_index:
            return self.last_term
        if index == self.snapshot_index:
            return self.snapshot_term
        return self._stored_term(index)

    def may_hold(self, index: int, term: int) -> bool:
        """Say whether the entry at ``index`` may be, or have been, of that term.

        Of entries that are compacted only so much is known: terms never fall along a log.
        """
        known = self.term_at(index)
        if known is not None:
            return known == term
        return not self._terms or term <= self._terms[0]

    def run_start(self, index: int) -> int:
        """Return the first index held of the run of entries of one term that ``index`` is in."""
        at = bisect_right(self._firsts, index) - 1
        return max(self._firsts[at] if at >= 0 else 0, self.first_index)

    def last_of_term(self, term: int) -> int:
        """Return the newest index of that term or of the newest one below it; 0 for none."""
        at = bisect_right(self._terms, term)
        if at == 0:
            return 0
        return self.last_index if at == len(self._terms) else self._firsts[at] - 1

    def entries(self, first: int, last: int, max_bytes: int) -> list[Entry] | None:
        """Return entries, at least one and up to a bound; None: read them from the store."""
        if first < self._held_first:
            return None
        held = self._held
        if first == last <= self.last_index:
            return [held[first]]
        found: list[Entry] = []
        size = 0
        for index in range(first, min(last, self.last_index) + 1):
            entry = held[index]
            size += len(entry.record)
            if found and size > max_bytes:
                break
            found.append(entry)
        return found

    # -- members ----------------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The newest configuration, committed or not: it holds from its append (thesis 4.1)."""
        return self._configurations[-1] if self._configurations else self.snapshot_configuration

    def configuration_at(self, index: int) -> Configuration:
        """Return the configuration as of an index, which must not lie below the snapshot."""
        for configuration in reversed(self._configurations):
            if configuration.index <= index:
                return configuration
        return self.snapshot_configuration

    def configurations_in(self, above: int, last: int) -> list[Configuration]:
        """Return the configurations of ``above + 1 .. last``, oldest first."""
        return [c for c in self._configurations if above < c.index <= last]

    # -- changing ---------------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Add one entry at the end."""
        index = entry.index
        assert index == self.last_index + 1, (index, self.last_index)
        term = entry.term
        if term != self.last_term:
            assert term > self.last_term, (term, self.last_term)
            self._firsts.append(index)
            self._terms.append(term)
            self.last_term = term
        self.last_index = index
        self._held[index] = entry
        self._held_bytes += len(entry.record) + ENTRY_OVERHEAD
        self._fresh.append(entry)
        if entry.time > self.last_time:
            self.last_time = entry.time
        if entry.kind == CONFIGURATION:
            configuration = Configuration.decode(entry.record[HEADER_SIZE:], index)
            self._configurations.append(configuration)

    def truncate(self, index: int) -> None:
        """Remove ``index`` and all above it."""
        assert self.snapshot_index < index <= self.last_index, (index, self.last_index)
        for at in range(max(index, self._held_first), self.last_index + 1):
            self._held_bytes -= len(self._held.pop(at).record) + ENTRY_OVERHEAD
        self._held_first = min(self._held_first, index)
        while self._firsts[-1] >= index:
            self._firsts.pop()
            self._terms.pop()
        self.last_index = index - 1
        self.last_term = self._terms[-1]
        # BUGS 5.4: a configuration that is truncated is rolled back.
        while self._configurations and self._configurations[-1].index >= index:
            self._configurations.pop()
        while self._fresh and self._fresh[-1].index >= index:
            self._fresh.pop()
        if index <= self._handed:
            self._handed = index - 1
            self._truncate_from = min(self._truncate_from or index, index)
        self._lower_tickets(index - 1)

    def _lower_tickets(self, index: int) -> None:
        """Keep what older tickets cover from counting entries that will replace it as durable."""
        self.persisted_index = min(self.persisted_index, index)
        self._tickets = deque((ticket, min(last, index)) for ticket, last in self._tickets)

    def reset(self, index: int, term: int, configuration: Configuration, time: int) -> None:
        """Throw everything away: the log begins anew behind a durable snapshot."""
        self._held.clear()
        self._held_bytes = 0
        self._held_first = index + 1
        self._fresh.clear()
        self._firsts, self._terms = [index], [term]
        self.first_index = index + 1
        self.last_index = self._handed = index
        self.last_term = term
        self.last_time = max(self.last_time, time)
        self._configurations.clear()
        self._truncate_from = 0
        self._reset_to = (index, term)
        self._tickets.clear()
        self.persisted_index = index
        self._set_snapshot(index, term, configuration)

    def _set_snapshot(self, index: int, term: int, configuration: Configuration) -> None:
        self.snapshot_index = index
        self.snapshot_term = term
        self.snapshot_configuration = configuration
        self._configurations = [c for c in self._configurations if c.index > index]

    def snapshot_taken(self, index: int, term: int, configuration: Configuration) -> None:
        """Note a durable snapshot of a prefix; the entries stay until they are compacted."""
        if index <= self.snapshot_index:
            return
        assert self.term_at(index) == term, (index, term)
        self._set_snapshot(index, term, configuration)
        self.persisted_index = max(self.persisted_index, index)

    def compacted(self, first_index: int) -> None:
        """Forget the entries below ``first_index``: the store dropped them."""
        if first_index <= self.first_index:
            return
        base = first_index - 1
        assert base <= self.snapshot_index, (first_index, self.snapshot_index)
        at = bisect_right(self._firsts, base) - 1
        if at >= 0:
            del self._firsts[:at]
            del self._terms[:at]
            self._firsts[0] = base
        self.first_index = first_index
        while self._held_first < first_index:
            self._drop_oldest()

    # -- memory and disk --------------------------------------------------------------------------

    def _drop_oldest(self) -> None:
        entry = self._held.pop(self._held_first, None)
        if entry is not None:
            self._held_bytes -= len(entry.record) + ENTRY_OVERHEAD
        self._held_first += 1

    def persisted(self, ticket: int) -> bool:
        """Note that the appends up to a ticket are durable; True when that brought news."""
        covered = self.persisted_index
        while self._tickets and self._tickets[0][0] <= ticket:
            covered = max(covered, self._tickets.popleft()[1])
        news = covered > self.persisted_index
        self.persisted_index = covered
        # Entries that are not durable stay: the store could not be asked for them in every case.
        while self._held_bytes > self.memory_bytes and self._held_first <= covered:
            self._drop_oldest()
        return news

    @property
    def has_news(self) -> bool:
        """Whether ``take`` has something for the store."""
        return bool(self._fresh or self._truncate_from or self._reset_to)

    def take(self) -> tuple[tuple[int, int] | None, int, list[Entry], int]:
        """Hand over the store's duties: reset to, truncate from, entries to append, ticket."""
        reset_to, truncate_from, entries = self._reset_to, self._truncate_from, self._fresh
        self._reset_to, self._truncate_from = None, 0
        if not entries:
            return reset_to, truncate_from, entries, 0
        self._fresh = []
        self._handed = entries[-1].index
        self._ticket += 1
        self._tickets.append((self._ticket, self._handed))
        return reset_to, truncate_from, entries, self._ticket
