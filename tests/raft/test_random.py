"""Random runs of several cores; see ``simulation``."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.simulation import Simulation

FIRST = int(os.environ.get("FINN_SEED", "0"))
COUNT = int(os.environ.get("FINN_SEEDS", "80"))


class RandomTests(SynchronousTestCase):
    """Whatever happens: one leader a term, equal logs, nothing committed lost, no stale read."""

    def _play(self, **trouble: bool) -> None:
        served = leases = 0
        for seed in range(FIRST, FIRST + COUNT):
            simulation = Simulation(seed, **trouble)
            try:
                simulation.play()
            except Exception as e:
                words = " ".join(k for k, v in trouble.items() if v)
                self.fail(f"python -m tests.raft.simulation {seed} {words}: {e!r}")
            served += simulation.served
            leases += simulation.leases
        # The runs are worth something only if there was something to be checked.
        self.assertGreater(served, COUNT)
        self.assertGreater(leases, COUNT)

    def test_crashes_and_changes(self) -> None:
        """Crashes, partitions, loss, duplicates, snapshots, transfers, changes of the members."""
        self._play()

    def test_amnesia(self) -> None:
        """The same, and a minority may forget what it acknowledged."""
        self._play(amnesia=True)
