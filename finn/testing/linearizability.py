"""Checks that clients saw one copy of the state that did one operation after the other.

Wing and Gong's search with Lowe's memory ("Testing for linearizability", 2017): operations are
ordered one by one, each taking effect between its invocation and its answer; a set of operations
that led to a state once is never tried again. Histories are taken apart by key first, as a history
is linearizable when each key's is.

An operation of unknown outcome may take effect at any time after its invocation, or never. One that
failed for certain never did.

The search may take too long. It has a budget then, and says ``UNDECIDED``, never that all is well.
"""

from __future__ import annotations

import enum
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from finn.testing.history import Operation, Outcome, render

MAX_STEPS = 5_000_000
"""Some ten seconds of search."""
SHOWN = 50
"""Operations in a report; the last ones, where a contradiction comes to light."""
SHRINK_STEPS = 20_000
"""For each attempt to do without some operations: most are decided in hundreds."""
SHRINK_TOTAL = 2_000_000
"""For all attempts: better a long report than none."""


class Model(ABC):
    """What the service should do, one operation after the other."""

    @abstractmethod
    def initial(self) -> Hashable:
        """Return the state at the beginning, of one key if ``key`` takes histories apart."""

    @abstractmethod
    def step(self, state: Any, input: Any) -> tuple[Hashable, Any]:
        """Return the state after an operation and its output; must not change ``state``."""

    def key(self, input: Any) -> Hashable:
        """Return the part of the state that an operation concerns, and that it alone concerns."""
        return None

    def reads(self, input: Any) -> bool:
        """Say whether an operation never changes the state.

        This and ``overwrites`` are hints, which save much time when outcomes are unknown.
        """
        return False

    def overwrites(self, input: Any) -> bool:
        """Say whether the state after an operation is the same whatever it was before."""
        return False

    def matches(self, expected: Any, output: Any) -> bool:
        """Say whether a client may have got ``output`` where the model has ``expected``."""
        return bool(expected == output)


class Verdict(enum.Enum):
    """What a check came to."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNDECIDED = "undecided"


@dataclass
class Result:
    """What a check found.

    Attributes:
        verdict: the outcome.
        steps: steps of the search.
        key: of the first bad (else first undecided) part.
        evidence: operations that suffice for a violation; whatever all others did, these do not
            fit together.
        left_out: number of the others of that key.
    """

    verdict: Verdict
    steps: int = 0
    key: Hashable = None
    evidence: list[Operation] = field(default_factory=list)
    left_out: int = 0

    def __str__(self) -> str:
        where = "" if self.key is None else f" (key {self.key!r})"
        if self.verdict is Verdict.LINEARIZABLE:
            return f"linearizable, {self.steps} steps"
        if self.verdict is Verdict.UNDECIDED:
            return f"undecided after {self.steps} steps{where}"
        return (
            f"not linearizable{where}: no order explains these {len(self.evidence)} operations, "
            f"whatever the {self.left_out} others did\n{render(self.evidence, SHOWN)}"
        )


class _Budget:
    def __init__(self, steps: int, expired: Callable[[], bool]) -> None:
        self.steps = 0
        self._limit = steps
        self._expired = expired

    def spend(self) -> bool:
        """Count a step; False when the budget is used up."""
        self.steps += 1
        if self.steps > self._limit:
            return False
        return bool(self.steps & 1023) or not self._expired()


def check(
    history: Iterable[Operation],
    model: Model,
    max_steps: int = MAX_STEPS,
    max_seconds: float = inf,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Check a history against a model; a violation comes with a shrunk history.

    Args:
        history: all operations on the state, of all clients, in any order.
        model: what the service should do, beginning in its initial state.
        max_steps: bound of the search, for each key.
        max_seconds: bound of all searches together.
        clock: seconds for the latter.
    """
    deadline = clock() + max_seconds

    def expired() -> bool:
        return clock() >= deadline

    total = Result(Verdict.LINEARIZABLE)
    for key, part in _partition(history, model).items():
        budget = _Budget(max_steps, expired)
        verdict = _Search(part, model, budget).run()
        total.steps += budget.steps
        if verdict is Verdict.VIOLATED:
            evidence = _Shrinker(model, budget.steps, expired).shrink(part)
            left_out = len(part) - len(evidence)
            return Result(verdict, total.steps, key, evidence, left_out)
        if verdict is Verdict.UNDECIDED and total.verdict is Verdict.LINEARIZABLE:
            total.verdict, total.key = verdict, key
    return total


def _partition(history: Iterable[Operation], model: Model) -> dict[Hashable, list[Operation]]:
    parts: dict[Hashable, list[Operation]] = {}
    for operation in sorted(history, key=lambda op: op.invoke):
        if operation.outcome is not Outcome.FAILED:
            parts.setdefault(model.key(operation.input), []).append(operation)
    return parts


class _Event:
    """An invocation or an answer, in a list from which operations are lifted and put back."""

    __slots__ = ("answer", "bit", "next", "operation", "previous", "time")

    def __init__(self, operation: Operation, bit: int, time: float) -> None:
        self.operation = operation
        self.bit = bit
        self.time = time
        self.answer: _Event | None = None  # of an invocation
        self.previous: _Event = self
        self.next: _Event = self

    def lift(self) -> None:
        """Take an operation out: it has taken effect."""
        assert self.answer is not None
        for event in (self, self.answer):
            event.previous.next, event.next.previous = event.next, event.previous

    def put_back(self) -> None:
        """Undo ``lift``; in the reverse order."""
        assert self.answer is not None
        for event in (self.answer, self):
            event.previous.next = event.next.previous = event


def _ring(known: Sequence[Operation]) -> _Event:
    """Link the invocations and answers in the order of time; returns the head of the ring."""
    events: list[tuple[float, int, _Event]] = []
    for bit, operation in enumerate(known):
        call = _Event(operation, bit, operation.invoke)
        call.answer = _Event(operation, bit, operation.complete)
        # At the same moment invocations come first: that is concurrent, and no false alarm.
        events += [(call.time, 0, call), (call.answer.time, 1, call.answer)]
    head = last = _Event(known[0], 0, inf)
    for *_, event in sorted(events, key=lambda item: item[:2]):
        last.next, event.previous = event, last
        last = event
    last.next, head.previous = head, last
    return head


class _OutOfBudget(Exception):
    pass


@dataclass(frozen=True)
class _Point:
    """How far the search is.

    Attributes:
        low: all known operations below have taken effect.
        window: those above that have, as bits; bit 0 is ``low``, and clear.
        used: the unknown operations that have, as bits.
        state: what that led to.
    """

    low: int
    window: int
    used: int
    state: Any


class _Reached:
    """Where the search was, with which unknown operations.

    Who came to a place with fewer of the unknown can go wherever those with more can.
    """

    def __init__(self) -> None:
        self._sets: dict[Any, list[int]] = {}

    def is_new(self, place: Any, used: int) -> bool:
        """Note a place; False if nothing new can be reached from it."""
        sets = self._sets.setdefault(place, [])
        if any(other & used == other for other in sets):
            return False
        sets[:] = [other for other in sets if other & used != used]
        sets.append(used)
        return True


class _Search:
    """The search for an order of one part of a history, sorted by invocation."""

    def __init__(self, part: Sequence[Operation], model: Model, budget: _Budget) -> None:
        self._model = model
        self._budget = budget
        self._known = [op for op in part if op.outcome is Outcome.OK]
        maybe = [op for op in part if op.outcome is Outcome.UNKNOWN]
        self._maybe = [op for op in maybe if not model.reads(op.input)]
        self._overwrites = [model.overwrites(op.input) for op in self._maybe]
        self._reached = _Reached()
        self._most = 0
        self._cut_short = False

    def run(self) -> Verdict:
        """Search, first with few of the unknown in a row: that is often enough, and far less."""
        if not self._known:
            return Verdict.LINEARIZABLE
        try:
            for most in (1, 2, len(self._maybe)):
                self._most = most
                self._reached = _Reached()
                self._cut_short = False
                if self._order():
                    return Verdict.LINEARIZABLE
                if not self._cut_short:
                    break
        except _OutOfBudget:
            return Verdict.UNDECIDED
        return Verdict.VIOLATED

    def _order(self) -> bool:
        ring = _ring(self._known)
        moves = [self._moves(ring, _Point(0, 0, 0, self._model.initial()))]
        lifted: list[_Event] = []
        while True:
            move = next(moves[-1], None)
            if move is not None:
                event, point = move
                event.lift()
                lifted.append(event)
                if len(lifted) == len(self._known):
                    return True
                moves.append(self._moves(ring, point))
            elif lifted:
                moves.pop()
                lifted.pop().put_back()
            else:
                return False

    def _moves(self, ring: _Event, point: _Point) -> Generator[tuple[_Event, _Point], None, None]:
        """Yield the known operations that may be next, each with where it leads.

        Between the last known operation and the next some of the unknown may have happened: none
        is tried first, then one, then two; and only if they change anything. One that overwrites
        all is the first in its row: what went before would be for nothing.
        """
        queue = deque([(point.state, point.used, 0)])
        local = _Reached()
        local.is_new(point.state, point.used)
        while queue:
            state, used, row = queue.popleft()
            event = ring.next
            while event.answer is not None:  # behind an answer nothing may be next
                after = self._take(point, event, state, used)
                if after is not None:
                    yield event, after
                event = event.next
            for bit, operation in enumerate(self._maybe):
                if operation.invoke > event.time:
                    break
                if not (used >> bit & 1 or (row and self._overwrites[bit])):
                    changed, _ = self._step(state, operation)
                    if local.is_new(changed, used | 1 << bit):
                        if row < self._most:
                            queue.append((changed, used | 1 << bit, row + 1))
                        else:
                            self._cut_short = True

    def _take(self, point: _Point, event: _Event, state: Any, used: int) -> _Point | None:
        """Let a known operation take effect, if it fits and leads to something new."""
        after, expected = self._step(state, event.operation)
        if not self._model.matches(expected, event.operation.output):
            return None
        low, window = point.low, point.window | 1 << (event.bit - point.low)
        while window & 1:
            window >>= 1
            low += 1
        if not self._reached.is_new((low, window, after), used):
            return None
        return _Point(low, window, used, after)

    def _step(self, state: Any, operation: Operation) -> tuple[Any, Any]:
        if not self._budget.spend():
            raise _OutOfBudget
        return self._model.step(state, operation.input)


class _Shrinker:
    """Finds few operations of a bad history that contradict each other.

    The others are not dropped but made unknown, so that what is left is a contradiction whatever
    they did: without its write, any read would look bad.
    """

    def __init__(self, model: Model, steps: int, expired: Callable[[], bool]) -> None:
        self._model = model
        self._attempt = max(SHRINK_STEPS, 2 * steps)
        self._left = SHRINK_TOTAL
        self._expired = expired

    def shrink(self, part: list[Operation]) -> list[Operation]:
        """Return the operations that suffice."""
        part = self._prefix(part)
        part = self._related(part)
        self._attempt = SHRINK_STEPS
        size = len(part)
        while size := size // 2:
            for start in range(0, len(part), size):
                piece = range(start, start + size)
                fewer = [_unknown(op) if n in piece else op for n, op in enumerate(part)]
                if fewer != part and self._bad(fewer):
                    part = fewer
        return [op for op in part if op.outcome is Outcome.OK]

    def _bad(self, part: list[Operation]) -> bool:
        if self._left <= 0 or self._expired():
            return False
        budget = _Budget(min(self._attempt, self._left), self._expired)
        verdict = _Search(part, self._model, budget).run()
        self._left -= budget.steps
        return verdict is Verdict.VIOLATED

    def _prefix(self, part: list[Operation]) -> list[Operation]:
        """Cut a history off as early as it is bad; what runs at that moment becomes unknown."""
        ends = sorted(op.complete for op in part if op.outcome is Outcome.OK)
        low, high = 0, len(ends) - 1
        best = part
        while low <= high:
            middle = (low + high) // 2
            end = ends[middle]
            begun = [op for op in part if op.invoke <= end]
            prefix = [op if op.complete <= end else _unknown(op) for op in begun]
            if self._bad(prefix):
                best, high = prefix, middle - 1
            else:
                low = middle + 1
        return best

    def _related(self, part: list[Operation]) -> list[Operation]:
        """Try whether the last few suffice, with those that speak of the last one's output."""
        known = [op for op in part if op.outcome is Outcome.OK]
        last = max(known, key=lambda op: op.complete).output
        few = 1
        while few < len(part):
            recent = [
                op if n >= len(part) - few or _mentions(op, last) else _unknown(op)
                for n, op in enumerate(part)
            ]
            if self._bad(recent):
                return recent
            few *= 2
        return part


def _mentions(operation: Operation, value: Any) -> bool:
    inputs = operation.input if isinstance(operation.input, (list, tuple)) else ()
    return value is not None and (operation.output == value or value in inputs)


def _unknown(operation: Operation) -> Operation:
    return replace(operation, outcome=Outcome.UNKNOWN, output=None)
