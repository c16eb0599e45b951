"""Simulated runs: seeds that once found a bug, and fresh ones.

The fresh ones are drawn from the source of finn: a change of it is tried with seeds of its own, and
every run tries the same, so that a source does not pass today and fail tomorrow.
``FINN_SEEDS=300 trial tests.simulation`` runs many that nobody has seen. A failure says how to
replay it.
"""

from __future__ import annotations

import os
from hashlib import sha256
from random import Random, SystemRandom

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.simulate import replay_command, run_seed
from tests.source import python_files

SECONDS = 60.0
ASKED = int(os.environ.get("FINN_SEEDS", "0"))
FRESH = 5

PINNED = {
    49: "a newcomer whose addition was rolled back never asked again",
    198: "timers of a node whose clock was set back came an hour late",
    200: "a removed founder founded a second cluster",
    2150588329: "a newcomer whose disk failed as it was added raised in its link's handshake",
    606: "a follower applied an entry that it had read before it was replaced",
    209: "everybody lost power at medium, and an addition with it",
    1: "five thousand events of everything",
    2: "the same",
    3: "the same",
}
"""Seeds and what they found, or show."""


def fresh_seeds() -> list[int]:
    """Return seeds for this source, or as many that nobody has seen as are asked for."""
    if ASKED:
        return [SystemRandom().getrandbits(32) for _ in range(ASKED)]
    source = sha256()
    for path in python_files("finn"):
        source.update(path.read_bytes())
    draw = Random(source.digest())
    return [draw.getrandbits(32) for _ in range(FRESH)]


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
        for seed in fresh_seeds():
            self.run_one(seed)


def _pin(seed: int, what: str) -> None:
    def test(self: SeedTests) -> None:
        self.run_one(seed)

    test.__doc__ = f"Seed {seed}: {what}."
    setattr(SeedTests, f"test_seed_{seed}", test)


for _seed, _what in PINNED.items():
    _pin(_seed, _what)
