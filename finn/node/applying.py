"""The apply loop: runs committed entries on the machine in slices, and answers who waits for them.

Invariant: entries are applied once each, in order, without a gap; ``last_applied`` moves only when
a whole entry is done. Between two commands, but never within MULTI ... EXEC, the loop may yield to
the reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from finn.errors import CommandError, Compacted, OutcomeUnknown
from finn.node.courtesy import Courtesy
from finn.node.runs import OpaqueCall, OpaqueRun, Placed, Run, Transaction
from finn.node.slot import NOBODY, SlotConnection
from finn.raft.configuration import Configuration
from finn.raft.entries import COMMANDS, CONFIGURATION, HEADER_SIZE, Entry
from finn.resp.commands import UniformCommands
from finn.resp.reader import parse_commands
from finn.resp.replies import OK_REPLY, encode_error

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from finn.declarative import Call
    from finn.node.host import Host
    from finn.node.proposals import Batch, Proposals
    from finn.raft.core import Raft

# How long the loop keeps the reactor before it yields, seconds (DESIGN P4: 10 ms at most).
SLICE = 0.004
# The clock is looked at after so many commands: about 0.3 ms of cheap ones.
COMMANDS_PER_LOOK = 256
# Entries read back from the store at a time. Small ones come in thousands, and take the disk thread
# 10 ms to decode: votes and the sync once a second, and so acknowledgements, wait behind them.
FETCH_BYTES = 256 * 1024

_NO_STEPS: Iterator[None] = iter(())


class Applying:
    """Applies committed entries.

    Args:
        fetch: ``fetch(first, max_bytes)`` reads entries that are no longer in memory.
        wake: asks for another turn.
        fatal: told of an error after which this node must not go on.
        now: monotonic seconds.

    Attributes:
        reached: index of the entry being applied, or of the last.
        courtesy: offers the processor to others where nobody waits for what is applied.
    """

    def __init__(
        self,
        host: Host,
        proposals: Proposals,
        fetch: Callable[[int, int], Deferred[list[Entry]]],
        wake: Callable[[], None],
        fatal: Callable[[BaseException], None],
        now: Callable[[], float],
    ) -> None:
        self.host = host
        self._proposals = proposals
        self._fetch = fetch
        self._wake = wake
        self._fatal = fatal
        self._now = now
        self.courtesy = Courtesy(now)
        self.raft: Raft | None = None
        self.last_applied = 0
        self.last_term = 0
        self.last_time = 0
        self.reached = 0
        self.configuration = Configuration()
        self.commands_applied = 0
        self.bytes_applied = 0
        self.paused = False
        self._ahead: deque[Entry] = deque()
        self._batch: Batch | None = None  # of the entry that is being applied
        self._fetching = False
        self._steps: Iterator[None] | None = None
        self._slice_end = 0.0
        self._is_running = self._nobody_waits = False
        self._between: deque[Callable[[], None]] = deque()

    def start_at(self, index: int, term: int, time: int, configuration: Configuration) -> None:
        """The machine holds the state as of ``index``: go on behind it."""
        self.last_applied = index
        self.last_term = term
        self.last_time = time
        self.reached = index
        self.configuration = configuration
        self._ahead.clear()
        self._steps = None
        self.paused = False
        self._proposals.overtaken(index)

    def pause(self) -> None:
        """Stop at once, in the middle of an entry if need be: a snapshot replaces the state."""
        self.paused = True
        self._steps = None
        self._ahead.clear()
        self.abandon(OutcomeUnknown("a snapshot of the leader came in between"))

    def abandon(self, error: BaseException) -> None:
        """Fail whoever waits for the entry that is half applied: it will never be done here.

        Who waits for its end is told by the one that ends what they asked for.
        """
        self._between.clear()
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.fail(error)

    def between_entries(self, action: Callable[[], None]) -> None:
        """Call ``action`` as soon as no entry is half applied."""
        if self._steps is None:
            action()
        else:
            self._between.append(action)

    def run(self) -> bool:
        """Apply for one slice.

        Returns:
            Whether there is more to do in another turn.
        """
        raft = self.raft
        if raft is None or self.paused:
            return False
        if self._steps is None and self.last_applied >= raft.commit_index:
            return False
        if self._is_running:
            return False  # a nested turn of the reactor, within an entry: the outer one goes on
        now = self._now()
        self._nobody_waits = raft.leader is None  # not even the leader: it was answered before
        if self._nobody_waits:
            now = self.courtesy.offer(now)
        self._slice_end = now + SLICE
        before = self.last_applied
        self._is_running = True
        try:
            more = self._run(raft)
        except Exception as e:
            self.paused = True
            self._fatal(e)
            return False
        finally:
            self._is_running = False
        if self.last_applied > before:
            raft.applied(self.last_applied)
        return more

    def _run(self, raft: Raft) -> bool:
        while True:
            steps = self._steps
            if steps is None:
                if self.last_applied >= raft.commit_index:
                    return False
                entry = self._next_entry(raft)
                if entry is None:
                    return False
                if entry.count <= COMMANDS_PER_LOOK and self.host.declarative:
                    steps = self._steps = _NO_STEPS  # half applied, for who asks meanwhile
                    self._apply_at_once(entry)
                else:
                    steps = self._steps = self._apply(entry)
            for _ in steps:
                return True
            self._steps = None
            while self._between:
                self._between.popleft()()
            if self._is_time_up():
                return self.last_applied < raft.commit_index

    def _is_time_up(self) -> bool:
        """Offer the processor if that is due, and say whether the slice is over."""
        now = self._now()
        if self._nobody_waits:
            now = self.courtesy.offer(now)
        return now >= self._slice_end

    def _next_entry(self, raft: Raft) -> Entry | None:
        if not self._ahead:
            first = self.last_applied + 1
            entries = raft.log.entries(first, raft.commit_index, FETCH_BYTES)
            if entries is None:
                self._fetch_more(first)
                return None
            self._ahead.extend(entries)
        entry = self._ahead.popleft()
        assert entry.index == self.last_applied + 1, (entry, self.last_applied)
        return entry

    def _fetch_more(self, first: int) -> None:
        if self._fetching:
            return
        self._fetching = True

        def fetched(entries: list[Entry]) -> None:
            self._fetching = False
            raft = self.raft
            self._wake()
            if raft is None or self.paused or self.last_applied + 1 != first or self._ahead:
                return  # a snapshot came in between
            # Only what the log still says: some may have been replaced while they were read,
            # and what replaced them be committed.
            commit, term_at = raft.commit_index, raft.log.term_at
            self._ahead.extend(
                e for e in entries if e.index <= commit and term_at(e.index) == e.term
            )

        def failed(failure: Any) -> None:
            self._fetching = False
            if self.paused or (self.last_applied >= first and failure.check(Compacted)):
                self._wake()  # a snapshot came in between
            else:
                self._fatal(failure.value)

        self._fetch(first, FETCH_BYTES).addCallbacks(fetched, failed)

    # -- one entry ----------------------------------------------------------------------------

    def _apply(self, entry: Entry) -> Generator[None, None, None]:
        """Apply an entry, with pauses."""
        batch = self._begin(entry)
        if entry.kind == COMMANDS and entry.count:
            if batch is not None:
                yield from self._apply_batch(entry, batch)
            else:
                yield from self._apply_record(entry)
        self._end(entry, batch)

    def _apply_at_once(self, entry: Entry) -> None:
        """Apply an entry of too few commands for a look at the clock, of a declarative machine."""
        batch = self._begin(entry)
        if entry.kind == COMMANDS and entry.count:
            call = self.host.call(entry.time, entry.seed)
            if batch is None:
                commands = parse_commands(entry.record, HEADER_SIZE, entry.count)
                self.host.execute(commands, call, 0, None, False)
            else:
                position = 0
                for run in batch.runs:
                    position = self._apply_run(run, call, position)
        self._end(entry, batch)

    def _begin(self, entry: Entry) -> Batch | None:
        self._batch = self._proposals.take(entry)
        self.last_time = entry.time
        self.reached = entry.index
        return self._batch

    def _end(self, entry: Entry, batch: Batch | None) -> None:
        has_commands = entry.kind == COMMANDS and entry.count
        if has_commands:
            self.commands_applied += entry.count
        elif entry.kind == CONFIGURATION:
            self.configuration = Configuration.decode(entry.payload, entry.index)
        self.last_applied = entry.index
        self.last_term = entry.term
        self.bytes_applied += len(entry.record)
        if batch is not None and not has_commands:
            for run in batch.runs:
                run.complete([OK_REPLY])
        self._batch = None

    def _apply_run(self, run: Run | Placed, call: Call, position: int) -> int:
        """Apply commands of our own, and answer; returns the position behind them."""
        commands = run.commands
        replies: list[bytes] = []
        if not isinstance(run, Transaction):
            self.host.execute(commands, call, position, replies, run.resp3, run.parts)
            run.complete(replies)
            return position + len(commands)
        position += 1  # MULTI and EXEC have positions of their own
        execute = self.host.execute
        done = execute(commands, call, position, replies, run.resp3, None, run.room)
        if done < len(commands):
            execute(commands[done:], call, position + done, None, run.resp3)
        run.complete(replies)
        return position + len(commands) + 1

    def _apply_batch(self, entry: Entry, batch: Batch) -> Generator[None, None, None]:
        """Apply an entry of our own: the parsed commands are here, and who waits for them."""
        host = self.host
        position = 0
        look = COMMANDS_PER_LOOK
        call = host.call(entry.time, entry.seed) if host.declarative else None
        for run in batch.runs:
            count = len(run.commands)
            is_transaction = isinstance(run, Transaction)
            if call is None:
                self._apply_opaque(run, entry, position + is_transaction)
            elif count <= COMMANDS_PER_LOOK or is_transaction:
                self._apply_run(run, call, position)
            else:
                yield from self._apply_long(run, call, position)
            position += count + 2 * is_transaction
            look -= count
            if look <= 0:
                look = COMMANDS_PER_LOOK
                if self._is_time_up():
                    yield

    def _apply_long(
        self, run: Run | Placed, call: Any, position: int
    ) -> Generator[None, None, None]:
        assert run.parts is None, "commands of several clients are never so many"
        replies: list[bytes] = []
        commands = run.commands
        for i in range(0, len(commands), COMMANDS_PER_LOOK):
            part = commands[i : i + COMMANDS_PER_LOOK]
            self.host.execute(part, call, position + i, replies, run.resp3)
            if self._is_time_up():
                yield
        run.complete(replies)

    def _apply_opaque(self, run: Run | Placed, entry: Entry, position: int) -> None:
        if isinstance(run, Transaction) and run.calls is not None:
            self._apply_calls(run, run.calls, entry, position)
            return
        values = [
            self.host.mutate(cmd, entry.time, entry.seed, position + i)
            for i, cmd in enumerate(run.commands)
        ]
        if isinstance(run, OpaqueRun):
            value, ok = values[0]
            if ok:
                call = run.call
                run.complete_with(value)
                self.host.expect(call, run.created)
            else:
                run.fail(CommandError(value))
                run.drop()
            return
        parts: list[bytes] = []
        for value, ok in values:
            if ok:
                SlotConnection(NOBODY, parts.append).write_value(value)
            else:
                parts.append(encode_error(value))
        run.complete(parts)

    def _apply_calls(
        self, run: Transaction, calls: list[OpaqueCall], entry: Entry, position: int
    ) -> None:
        """Apply a transaction of an ``IMachine``; its reads and local commands run in between.

        Whoever was told that the outcome is unknown is told nothing more.
        """
        commands = iter(run.commands)
        replies: list[bytes] = []
        for call in calls:
            value, ok = None, True
            if call.mutate is not None:
                value, ok = self.host.mutate(next(commands), entry.time, entry.seed, position)
                position += 1
            if not run.ended:
                run.ask(replies, call, value, None if ok else CommandError(value))
        run.complete(replies)

    def _apply_record(self, entry: Entry) -> Generator[None, None, None]:
        """Apply an entry nobody waits for here: parse its record, drop the replies."""
        host = self.host
        commands = parse_commands(entry.record, HEADER_SIZE, entry.count)
        call = host.call(entry.time, entry.seed) if host.declarative else None
        start = 0
        for end in self._cuts(commands):
            if call is not None:
                host.execute(commands[start:end], call, start, None, False)
            else:
                for i in range(start, end):
                    if commands[i][0] not in (b"MULTI", b"EXEC"):
                        host.mutate(commands[i], entry.time, entry.seed, i)
            start = end
            if end < len(commands) and self._is_time_up():
                yield

    def _cuts(self, commands: Sequence[list[bytes]]) -> Iterator[int]:
        """Yield where the loop may pause: every so many commands, outside transactions."""
        inside = False
        room = COMMANDS_PER_LOOK
        total = len(commands)
        if total <= room or type(commands) is UniformCommands:
            yield from (*range(room, total, room), total)
            return
        for i, cmd in enumerate(commands, 1):
            if cmd[0] == b"MULTI":
                inside = True
            elif cmd[0] == b"EXEC":
                inside = False
            room -= 1
            if room <= 0 and not inside:
                room = COMMANDS_PER_LOOK
                yield i
        yield total
