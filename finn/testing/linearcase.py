"""``LinearizabilityTestCase``: point it at your own machine, and everything goes wrong around it.

::

    class TicketModel(Model):
        def initial(self):
            return 0

        def key(self, input):
            return input[1]

        def step(self, state, input):
            return state + 1, state + 1

    class TestTickets(LinearizabilityTestCase):
        machine = Tickets
        model = TicketModel()

        def command(self, random):
            return "TICKET", random.choice(("a", "b"))

Each seed is a minute of a simulated cluster of real nodes, with crashes, cuts, pauses and more, and
clients that follow TRY. What they were told must be explained by one copy of the machine, one
command after the other; if not, the test fails with a history that is as short as can be.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Sequence
from random import Random
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from finn.options import Consistency, Durability
from finn.testing.drawing import Drawn
from finn.testing.history import Operation
from finn.testing.linearizability import Model
from finn.testing.register import Witness
from finn.testing.simulator import Simulation
from finn.testing.workload import Workload


class _OwnWorkload(Workload):
    def __init__(self, case: LinearizabilityTestCase) -> None:
        self.model = case.model
        self._case = case

    def machine(self, witness: Witness) -> Any:
        return type(self._case).machine()

    def draw(
        self, random: Random, operation_id: bytes, stretch: int, history: Sequence[Operation]
    ) -> list[bytes]:
        words = self._case.command(random)
        return [w if isinstance(w, bytes) else str(w).encode() for w in words]

    def state(self, machine: Any) -> bytes:
        file = io.BytesIO()
        steps = machine.snapshot(file)
        if isinstance(steps, Generator):
            for _ in steps:
                pass
        return file.getvalue()


class LinearizabilityTestCase(SynchronousTestCase):
    """Checks that a machine, served by a cluster in trouble, behaves like one copy of it.

    Attributes:
        machine: makes the machine, usually its class.
        model: what it should do: inputs are commands as lists of bytes, outputs what a client
            gets: bytes, int, None, a list, or ``("error", text)`` for an error reply.
        seeds: runs; each draws other troubles.
        seconds: simulated time of each.
        options: fields of ``finn.testing.drawing.Drawn`` to differ from the usual ones, for
            instance ``{"size": 5, "faults": ("crash", "isolate")}``.
    """

    machine: ClassVar[Callable[[], Any]]
    model: Model
    seeds: Sequence[int] = range(5)
    seconds: float = 20.0
    options: ClassVar[dict[str, Any]] = {}

    def command(self, random: Random) -> Sequence[bytes | str | int]:
        """Draw the words of a command; override it."""
        raise NotImplementedError

    def test_linearizable(self) -> None:
        """What clients were told is explained by one copy of the machine."""
        if type(self) is LinearizabilityTestCase:
            return
        for seed in self.seeds:
            usual: dict[str, Any] = {
                "consistency": Consistency.HIGH,
                "durability": Durability.HIGH,
                "pace": 3.0,
                "rate": 15.0,
            }
            drawn = Drawn(**(usual | self.options))
            try:
                Simulation(seed, drawn, workload=_OwnWorkload(self)).run(self.seconds)
            except AssertionError as e:
                raise self.failureException(f"seed {seed}: {e}") from e
