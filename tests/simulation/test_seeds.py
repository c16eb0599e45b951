"""Simulated runs: seeds that once found a bug, and fresh ones.

``FINN_SEEDS=300 trial tests.simulation`` runs more fresh seeds. A failure says how to replay it.
"""

from __future__ import annotations

import os
from random import SystemRandom

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.simulate import replay_command, run_seed

SECONDS = 60.0
FRESH = int(os.environ.get("FINN_SEEDS", "5"))

PINNED = {
    49: "a newcomer whose addition was rolled back never asked again",
    198: "timers of a node whose clock was set back came an hour late",
    200: "a removed founder founded a second cluster",
    2150588329: "a newcomer whose disk failed as it was added raised in its link's handshake",
    606: "a follower applied an entry that it had read before it was replaced",
    209: "everybody lost power at medium, and an addition with it",
    648200550: "a newcomer whose clock was set back asked again an hour late",
    660026: "a founder that was removed had nobody but itself in its flags",
    880021: "a disk failed after its node was to be replaced",
    440122: "the only member that a newcomer was told of moved",
    70030047: "a leader that had removed itself looked for ever whether a read can be served",
    1: "five thousand events of everything",
    2: "the same",
    3: "the same",
}
"""Seeds and what they found, or show."""


class SeedTests(SynchronousTestCase):
    def run_one(self, seed: int) -> None:
        try:
            run_seed(seed, SECONDS)
        except Exception as e:
            raise self.failureException(
                f"seed {seed}: {type(e).__name__}: {e}\n{replay_command(seed, SECONDS)}"
            ) from e
        self.flushLoggedErrors()

    def test_fresh_seeds(self) -> None:
        """Seeds that nobody has seen yet."""
        for _ in range(FRESH):
            self.run_one(SystemRandom().getrandbits(32))


def _pin(seed: int, what: str) -> None:
    def test(self: SeedTests) -> None:
        self.run_one(seed)

    test.__doc__ = f"Seed {seed}: {what}."
    setattr(SeedTests, f"test_seed_{seed}", test)


for _seed, _what in PINNED.items():
    _pin(_seed, _what)
