"""What must hold at every moment of a simulated run (figure 3 of the paper, and more)."""

from __future__ import annotations

from typing import Any

from finn.testing.clients import Violation
from finn.testing.computer import Computer
from finn.testing.history import Operation, Outcome
from finn.testing.workload import Workload


class Seen:
    """What was last seen of one process, to look closely only where something changed."""

    __slots__ = ("applied", "commit", "last", "leader", "mark", "term")

    def __init__(self) -> None:
        self.mark: Any = None
        self.term = 0
        self.commit = 0
        self.applied = 0
        self.last = 0
        self.leader: Any = None


class Invariants:
    """Watches all nodes and all writes.

    Args:
        workload: what the machines do.

    Attributes:
        lenient: a majority lost power at a durability that does not promise to survive that: what
            was committed may be replaced; only the elections of leaders are checked.
        newest: highest index that is committed anywhere.
        writes: number of the newest write that any machine has run.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._traced = workload.traced
        self.lenient = False
        self.newest = 0
        self._newest_term = 0
        self.writes = 0
        self._broken: Violation | None = None
        self._leaders: dict[int, str] = {}
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._committed: dict[int, tuple[int, bytes]] = {}
        self._states: dict[int, int] = {}
        self._chains: dict[int, tuple[int, bytes]] = {}
        self._applied: dict[bytes, int] = {}
        self._acknowledged: dict[bytes, Operation] = {}
        self._refused: dict[bytes, Operation] = {}

    # -- writes -------------------------------------------------------------------------------

    def witness(self, number: int, chain: int, operation: bytes) -> None:
        """A machine has run a write; what is wrong is raised later, outside of the machine."""
        if self.lenient:
            return
        try:
            self._ran(number, chain, operation)
        except Violation as e:
            self._broken = self._broken or e

    def _ran(self, number: int, chain: int, operation: bytes) -> None:
        known = self._chains.get(number)
        if known is None:
            self._chains[number] = (chain, operation)
            before = self._applied.setdefault(operation, number)
            if before != number:
                raise Violation(f"operation {operation!r} was applied as {before} and {number}")
            if operation in self._refused:
                raise Violation(f"{operation!r} was applied though its client was told it was not")
            self.writes = max(self.writes, number)
        elif known != (chain, operation):
            raise Violation(f"machines differ at write {number}: {known}, {(chain, operation)}")

    def told(self, operation_id: bytes, operation: Operation) -> None:
        """A client was told an outcome."""
        if not self._traced or self._workload.is_read(operation.input):
            return
        if operation.outcome is Outcome.OK:
            self._acknowledged[operation_id] = operation
            if not self.lenient and operation_id not in self._applied:
                raise Violation(f"{operation_id!r} was acknowledged and no machine has run it")
        elif operation.outcome is Outcome.FAILED:
            self._refused[operation_id] = operation
            if not self.lenient and operation_id in self._applied:
                raise Violation(f"client was told that {operation_id!r} is not applied, but it is")

    # -- nodes --------------------------------------------------------------------------------

    def look(self, computer: Computer, seen: Seen) -> None:
        """Check a node after it did something; cheap when nothing changed."""
        if self._broken is not None:
            raise self._broken
        raft = computer.node.raft
        if raft is None:
            return
        log = raft.log
        applied = computer.node.applying.last_applied
        mark = (raft.current_term, raft.commit_index, applied, log.last_index, raft.leader)
        if mark == seen.mark:
            return
        seen.mark = mark
        term, commit, _, last, leader = mark
        if term < seen.term:
            raise Violation(f"term of {computer.address} went back from {seen.term} to {term}")
        if leader is not None and leader is not seen.leader:
            self._elected(computer, term, raft)
        seen.term, seen.leader = term, leader
        if self.lenient:
            return
        if commit < seen.commit or applied < seen.applied:
            raise Violation(
                f"{computer.address} went back: commit {seen.commit} to {commit}, "
                f"applied {seen.applied} to {applied}"
            )
        if last > seen.last:
            self._appended(raft, log, seen.last + 1, last)
        elif last < seen.last and last < self.newest and last < seen.commit:
            raise Violation(f"{computer.address} removed committed entries behind {last}")
        if commit > seen.commit:
            self._commits(computer, log, seen.commit + 1, commit)
        if applied > seen.applied:
            if applied > commit:
                raise Violation(f"{computer.address} applied {applied}, committed is {commit}")
            if self._traced:
                chain = computer.machine.chain
                if self._states.setdefault(applied, chain) != chain:
                    raise Violation(f"state of {computer.address} differs at {applied}")
        if leader is not None and log.configuration.index > self.newest:
            pending = log.configurations_in(self.newest, last)
            if len(pending) > 1:
                raise Violation(f"{computer.address} has {len(pending)} configurations in flight")
        seen.commit, seen.applied, seen.last = commit, applied, last

    def _elected(self, computer: Computer, term: int, raft: Any) -> None:
        other = self._leaders.setdefault(term, computer.address)
        if other != computer.address:
            raise Violation(f"{other} and {computer.address} both lead in term {term}")
        if self.lenient or term < self._newest_term:
            # Votes that come late make a leader of a term that is over: it commits nothing.
            return
        log = raft.log
        if log.last_index < self.newest:
            raise Violation(
                f"{computer.address} leads in term {term} with a log up to {log.last_index}, "
                f"{self.newest} is committed"
            )
        for index in range(max(log.first_index, self.newest - 200), self.newest + 1):
            known = self._committed.get(index)
            if known is not None and log.term_at(index) not in (None, known[0]):
                raise Violation(f"{computer.address} leads with another entry at {index}")

    def _appended(self, raft: Any, log: Any, first: int, last: int) -> None:
        """Log matching: the same index and term is the same entry behind the same entry."""
        entries = log.entries(max(first, log.first_index), last, 1 << 40)
        for entry in entries or ():
            before = log.term_at(entry.index - 1)
            crc = entry.record[:4]
            known = self._entries.get((entry.index, entry.term))
            if known is None:
                self._entries[entry.index, entry.term] = (crc, -1 if before is None else before)
            elif known[0] != crc or (before is not None and known[1] not in (-1, before)):
                raise Violation(f"two entries {entry.index} of term {entry.term}: {entry}")

    def _commits(self, computer: Computer, log: Any, first: int, last: int) -> None:
        entries = log.entries(max(first, log.first_index), last, 1 << 40)
        committed = self._committed
        for entry in entries or ():
            fact = (entry.term, entry.record[:4])
            if committed.setdefault(entry.index, fact) != fact:
                raise Violation(
                    f"{computer.address} commits {entry}, "
                    f"in term {committed[entry.index][0]} another one was"
                )
            self._newest_term = max(self._newest_term, entry.term)
        self.newest = max(self.newest, last)

    def has_committed(self, log: Any, index: int) -> bool:
        """Say whether the entry that a log has at an index is committed."""
        known = self._committed.get(index)
        return known is not None and log.term_at(index) in (None, known[0])

    # -- the end of a stretch -----------------------------------------------------------------

    def settled(self, computers: list[Computer]) -> None:
        """All is healed and quiet: everything that was acknowledged is there, on every node."""
        states = {self._workload.state(c.machine) for c in computers}
        if len(states) > 1:
            raise Violation(f"machines differ in the end: {sorted(states)}")
        if self.lenient or not self._traced:
            return
        for operation_id in self._acknowledged:
            if operation_id not in self._applied:
                raise Violation(f"acknowledged write {operation_id!r} is lost")
        count, chain = states.pop()
        if count < self.writes or self._chains.get(count, (chain,))[0] != chain:
            raise Violation(f"machines have {count} writes, {self.writes} were applied")

    def forget(self) -> None:
        """All nodes are equal: what is older than the newest entries need not be kept."""
        low = self.newest - 5000
        self._committed = {i: fact for i, fact in self._committed.items() if i > low}
        self._entries = {k: fact for k, fact in self._entries.items() if k[0] > low}
        self._states = {i: chain for i, chain in self._states.items() if i > low}
        self._chains = {n: fact for n, fact in self._chains.items() if n > self.writes - 5000}
        kept = {operation for _, operation in self._chains.values()}
        self._applied = {o: n for o, n in self._applied.items() if o in kept}
        self._acknowledged.clear()
        self._refused.clear()
