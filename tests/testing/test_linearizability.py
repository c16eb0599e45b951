"""Tests of the linearizability checker: known histories, brute force, budgets, shrinking."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.testing.history import Operation, Outcome, render
from finn.testing.linearizability import Result, Verdict, check
from finn.testing.models import KeyValueModel

OK, FAILED, UNKNOWN = Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN


def op(
    client: str, invoke: float, complete: float, text: str, output: Any = None, outcome: Any = OK
) -> Operation:
    """An operation; the input is a command written with spaces."""
    return Operation(client, invoke, complete, tuple(text.encode().split()), output, outcome)


class KnownHistoryTests(SynchronousTestCase):
    """Histories from the literature and from life."""

    def verdict(self, *history: Operation) -> Verdict:
        return check(history, KeyValueModel()).verdict

    def good(self, *history: Operation) -> None:
        self.assertIs(self.verdict(*history), Verdict.LINEARIZABLE)

    def bad(self, *history: Operation) -> Result:
        result = check(history, KeyValueModel())
        self.assertIs(result.verdict, Verdict.VIOLATED, str(result))
        return result

    def test_empty(self) -> None:
        """Nothing happened: fine."""
        self.good()

    def test_sequential(self) -> None:
        """One after the other, as the model says."""
        self.good(op("a", 0, 1, "SET x 1", "OK"), op("a", 2, 3, "GET x", b"1"))
        self.bad(op("a", 0, 1, "SET x 1", "OK"), op("a", 2, 3, "GET x", None))

    def test_concurrent_read_sees_either(self) -> None:
        """A read during a write may see it or not."""
        for seen in (None, b"1"):
            self.good(op("a", 0, 10, "SET x 1", "OK"), op("b", 2, 3, "GET x", seen))

    def test_reads_do_not_go_back(self) -> None:
        """Once a read has seen a running write, later reads see it."""
        write = op("a", 0, 10, "SET x 1", "OK")
        self.good(write, op("b", 1, 2, "GET x", None), op("c", 3, 4, "GET x", b"1"))
        self.bad(write, op("b", 1, 2, "GET x", b"1"), op("c", 3, 4, "GET x", None))

    def test_stale_read(self) -> None:
        """A read that returns what was overwritten before it began."""
        self.bad(
            op("a", 0, 1, "SET x 1", "OK"),
            op("a", 2, 3, "SET x 2", "OK"),
            op("b", 4, 5, "GET x", b"1"),
        )

    def test_lost_update(self) -> None:
        """Two increments that returned the same."""
        self.bad(op("a", 0, 2, "INCR x", 1), op("b", 1, 3, "INCR x", 1))
        self.good(op("a", 0, 2, "INCR x", 2), op("b", 1, 3, "INCR x", 1))

    def test_two_at_the_same_moment_are_concurrent(self) -> None:
        """An answer and an invocation at the same time order nothing."""
        self.good(op("a", 0, 1, "SET x 1", "OK"), op("b", 1, 2, "GET x", None))

    def test_unknown_may_have_happened(self) -> None:
        """At any time after its invocation, long after it was given up, or never."""
        write = op("a", 5, 6, "SET x 1", None, UNKNOWN)
        self.good(write, op("b", 10, 11, "GET x", None), op("b", 20, 21, "GET x", b"1"))
        self.good(write, op("b", 10, 11, "GET x", b"1"))
        self.good(write, op("b", 10, 11, "GET x", None))

    def test_unknown_did_not_happen_early(self) -> None:
        """Not before it was invoked, and not twice."""
        write = op("a", 5, 6, "SET x 1", None, UNKNOWN)
        self.bad(write, op("b", 1, 2, "GET x", b"1"))
        append = op("a", 0, 1, "APPEND x y", None, UNKNOWN)
        self.bad(append, op("b", 2, 3, "GET x", b"yy"))
        self.bad(append, op("b", 2, 3, "GET x", b"y"), op("b", 4, 5, "GET x", None))

    def test_failed_did_not_happen(self) -> None:
        """What certainly failed must not be seen."""
        write = op("a", 0, 1, "SET x 1", None, FAILED)
        self.good(write, op("b", 2, 3, "GET x", None))
        self.bad(write, op("b", 2, 3, "GET x", b"1"))

    def test_keys_are_checked_apart(self) -> None:
        """The bad key is named, the good one left out."""
        result = self.bad(
            op("a", 0, 1, "SET x 1", "OK"),
            op("a", 2, 3, "GET x", b"1"),
            op("b", 0, 1, "SET y 1", "OK"),
            op("b", 2, 3, "GET y", b"7"),
        )
        self.assertEqual(result.key, b"y")
        self.assertEqual([o.input[1] for o in result.evidence], [b"y"])

    def test_read_from_the_future(self) -> None:
        """A value is read before its write begins."""
        self.bad(op("a", 0, 1, "GET x", b"1"), op("b", 2, 3, "SET x 1", "OK"))

    def test_split_brain(self) -> None:
        """Two leaders serve two lines of history."""
        self.bad(
            op("a", 0, 1, "INCR x", 1),
            op("a", 2, 3, "INCR x", 2),
            op("b", 4, 5, "INCR x", 2),
            op("a", 6, 7, "INCR x", 3),
        )

    def test_model_commands(self) -> None:
        """The model knows the commands on one key."""
        script = [
            ("SETNX x 5", 1), ("SETNX x 6", 0), ("INCRBY x 10", 15), ("DECR x", 14),
            ("APPEND x 0", 3), ("STRLEN x", 3), ("GETSET x 7", "140"), ("EXISTS x", 1),
            ("DEL x", 1), ("DEL x", 0), ("EXISTS x", 0), ("STRLEN x", 0), ("GET x", None),
        ]  # fmt: skip
        self.good(*(op("a", 2 * n, 2 * n + 1, t, o) for n, (t, o) in enumerate(script)))
        with self.assertRaises(ValueError):
            self.good(op("a", 0, 1, "FLY x", None))


class BruteForceTests(SynchronousTestCase):
    """The search agrees with trying everything."""

    OPERATIONS = st.sampled_from(
        [("SET x 1", b"OK"), ("SET x 2", b"OK"), ("GET x", None), ("GET x", b"1"), ("GET x", b"2"),
         ("INCR x", 2), ("INCR x", 3), ("DEL x", 1), ("DEL x", 0)]
    )  # fmt: skip
    HISTORIES = st.lists(
        st.tuples(
            OPERATIONS, st.integers(0, 8), st.integers(0, 5), st.sampled_from([OK, OK, OK, UNKNOWN])
        ),
        max_size=6,
    )

    @staticmethod
    def brute_force(history: list[Operation]) -> bool:
        model = KeyValueModel()
        maybe = [o for o in history if o.outcome is UNKNOWN]
        for chosen in range(1 << len(maybe)):
            happened = [o for o in history if o.outcome is OK]
            happened += [o for n, o in enumerate(maybe) if chosen >> n & 1]
            if any(_explains(order, model) for order in permutations(happened)):
                return True
        return False

    @settings(max_examples=400, deadline=None)
    @given(HISTORIES)
    def test_agrees(self, drawn: list[Any]) -> None:
        """Good and bad are told apart as by brute force, and evidence is bad by itself."""
        history = [
            op(str(n), invoke, invoke + length, text, output, outcome)
            for n, ((text, output), invoke, length, outcome) in enumerate(drawn)
        ]
        result = check(history, KeyValueModel())
        self.assertIs(result.verdict is Verdict.LINEARIZABLE, self.brute_force(history))
        if result.verdict is Verdict.VIOLATED:
            relaxed = [
                o if o in result.evidence else Operation(**{**vars(o), "outcome": UNKNOWN})
                for o in history
            ]
            self.assertFalse(self.brute_force(relaxed))


def _explains(order: tuple[Operation, ...], model: KeyValueModel) -> bool:
    latest = float("-inf")
    state: Any = model.initial()
    for operation in order:
        latest = max(latest, operation.invoke)
        end = operation.complete if operation.outcome is OK else float("inf")
        if end < latest:
            return False
        state, expected = model.step(state, operation.input)
        if operation.outcome is OK and not model.matches(expected, operation.output):
            return False
    return True


def real_history(
    random: Random, operations: int, clients: int, appends: int = 1
) -> list[Operation]:
    """Clients of a real register: each operation takes effect at a moment of its time."""
    drafts: list[tuple[float, str, float, float, tuple[bytes, ...]]] = []
    for client in range(clients):
        now = random.random()
        for number in range(operations // clients):
            moment = now + random.random()
            complete = moment + random.random()
            value = b"%d.%d" % (client, number)
            command = random.choices(
                ((b"GET", b"x"), (b"SET", b"x", value), (b"APPEND", b"x", value)), (14, 5, appends)
            )[0]
            drafts.append((moment, f"c{client}", now, complete, command))
            now = complete + random.random() / 10
    model = KeyValueModel()
    state: Any = model.initial()
    history: list[Operation] = []
    for _, name, invoke, complete, command in sorted(drafts):
        unknown = random.random() < 0.005
        output: Any = None
        if not unknown or random.random() < 0.5:
            state, output = model.step(state, command)
        outcome = UNKNOWN if unknown else OK
        history.append(
            Operation(name, invoke, complete, command, None if unknown else output, outcome)
        )
    return history


class LargeHistoryTests(SynchronousTestCase):
    """Thousands of operations, and bounds where they do not help."""

    def test_large_good_history(self) -> None:
        """Thousands of concurrent operations are decided quickly."""
        history = real_history(Random(1), 4000, 5)
        result = check(history, KeyValueModel())
        self.assertIs(result.verdict, Verdict.LINEARIZABLE, str(result))
        self.assertLess(result.steps, 1_000_000)

    def test_large_bad_history(self) -> None:
        """One stale read among many is found, and shown with few others."""
        history = real_history(Random(2), 2000, 5, appends=0)
        reads = [n for n, o in enumerate(history) if o.input[0] == b"GET" and o.outcome is OK]
        middle, early = reads[len(reads) // 2], reads[len(reads) // 4]
        stale = history[middle]
        history[middle] = op(
            stale.client, stale.invoke, stale.complete, "GET x", history[early].output
        )
        result = check(history, KeyValueModel())
        self.assertIs(result.verdict, Verdict.VIOLATED)
        self.assertIn(history[middle], result.evidence)
        self.assertLess(len(result.evidence), 10, str(result))

    def hard(self) -> list[Operation]:
        """Concurrent appends in every order but the right one: exponential."""
        writes = [op(f"c{n}", 0, 100, f"APPEND x {n % 10}", 999) for n in range(16)]
        return [
            Operation(o.client, o.invoke, o.complete, o.input, None, UNKNOWN) for o in writes
        ] + [op("r", 200, 201, "GET x", b"none of it")]

    def test_budget_of_steps(self) -> None:
        """Out of steps the answer is undecided, never that all is well."""
        result = check(self.hard(), KeyValueModel(), max_steps=1000)
        self.assertIs(result.verdict, Verdict.UNDECIDED)
        self.assertEqual(result.key, b"x")
        self.assertIn("undecided after 1001 steps", str(result))

    def test_budget_of_time(self) -> None:
        """Out of time as well."""
        now = [0.0]

        def clock() -> float:
            now[0] += 1
            return now[0]

        result = check(self.hard(), KeyValueModel(), max_seconds=3, clock=clock)
        self.assertIs(result.verdict, Verdict.UNDECIDED)

    def test_violation_beats_undecided(self) -> None:
        """A violation in another key is still reported."""
        bad = [op("a", 0, 1, "GET y", b"7")]
        result = check(self.hard() + bad, KeyValueModel(), max_steps=1000)
        self.assertIs(result.verdict, Verdict.VIOLATED)


class ShrinkTests(SynchronousTestCase):
    """What is shown is what matters."""

    def test_stale_read_is_shown_with_its_writes(self) -> None:
        """Three operations of many explain a stale read."""
        history = [op("w", 10 * n, 10 * n + 5, f"SET x {n}", "OK") for n in range(50)]
        history += [op("r", 10 * n + 6, 10 * n + 7, "GET x", b"%d" % n) for n in range(49)]
        history.append(op("r", 1000, 1001, "GET x", b"30"))
        result = check(history, KeyValueModel())
        self.assertIn(history[-1], result.evidence)
        self.assertLessEqual(len(result.evidence), 4)
        self.assertEqual(result.left_out, 100 - len(result.evidence))

    def test_text(self) -> None:
        """The text is a table that a person can follow."""
        history = [
            op("a", 0.0, 0.25, "SET x 1", "OK"),
            op("b", 0.1, 0.2, "GET x", b"1"),
            op("c", 0.5, 0.75, "GET x", None),
            op("d", 0.6, 0.9, "SET x 2", None, UNKNOWN),
        ]
        text = str(check(history, KeyValueModel()))
        self.assertEqual(
            text,
            "not linearizable (key b'x'): no order explains these 2 operations, "
            "whatever the 2 others did\n"
            "client  from  to    operation  reply\n"
            "b       0.1   0.2   GET x      1\n"
            "c       0.5   0.75  GET x      nil",
        )

    def test_render_of_outcomes(self) -> None:
        """All outcomes and odd bytes can be shown."""
        rows = render(
            [
                Operation(1, 0, 1, (b"GET", b"a b"), [b"\xff", 1, None, ""]),
                Operation(2, 0.5, 1, "free text", None, UNKNOWN),
                Operation(3, 0.5, 1, (b"X", b""), None, FAILED),
            ]
        ).splitlines()
        self.assertEqual(rows[1], r"1       0     1   GET 'a b'  \xff 1 nil")
        self.assertEqual(rows[2], "2       0.5   ?   free text  unknown")
        self.assertEqual(rows[3], "3       0.5   1   X ''       failed")
