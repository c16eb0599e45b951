"""LinearizabilityTestCase: passes a machine that does as its model, fails one that does not."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import Random
from typing import Any

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.testing.linearcase import LinearizabilityTestCase
from finn.testing.linearizability import Model


class Tickets(finn.Machine):
    """Hands out increasing numbers."""

    def __init__(self) -> None:
        self.last: dict[bytes, int] = {}

    @finn.write("TICKET")
    def ticket(self, call: finn.Call, queue: bytes) -> int:
        """Return a number greater than any before."""
        self.last[queue] = self.last.get(queue, 0) + 1
        return self.last[queue]

    @finn.write("REFUSE")
    def reset(self, call: finn.Call, queue: bytes) -> None:
        """Refuse."""
        raise finn.CommandError("ERR never")


class Forgetful(Tickets):
    """Starts again now and then."""

    @finn.write("TICKET")
    def ticket(self, call: finn.Call, queue: bytes) -> int:
        """Return a number that is mostly greater than any before."""
        if self.last.get(queue, 0) == 7:
            self.last[queue] = 3
        return super().ticket(call, queue)


class TicketModel(Model):
    """What ``Tickets`` should do."""

    def initial(self) -> Hashable:
        return 0

    def key(self, input: Sequence[bytes]) -> Hashable:
        return input[1]

    def step(self, state: Any, input: Sequence[bytes]) -> tuple[Hashable, Any]:
        if input[0] == b"REFUSE":
            return state, ("error", "ERR never")
        return state + 1, state + 1


class TestTickets(LinearizabilityTestCase):
    machine = Tickets
    model = TicketModel()
    seeds = range(2)

    def command(self, random: Random) -> tuple[str, str]:
        return random.choice(("TICKET", "TICKET", "REFUSE")), random.choice("abc")


class Hidden:
    """Keeps the failing case away from the test loader."""

    class TestForgetful(TestTickets):
        machine = Forgetful
        seeds = range(1)


class FailureTests(SynchronousTestCase):
    def test_a_forgetful_machine_is_found(self) -> None:
        """The failure shows few operations that contradict each other, and names the seed."""
        result = TestResult()
        Hidden.TestForgetful("test_linearizable").run(result)
        self.assertEqual(len(result.failures), 1, result.errors)
        text = str(result.failures[0][1])
        self.assertIn("seed 0: not linearizable", text)
        self.assertIn("TICKET", text)
        self.assertLess(text.count("\n"), 15)
