"""Simulated runs: seeds that once found a bug, and fresh ones.

The fresh ones are drawn from the source of finn: a change of it is tried with seeds of its own, and
every run tries the same, so that a source does not pass today and fail tomorrow.
``FINN_SEEDS=3000 trial tests.simulation`` runs so many that nobody has seen. A failure says how to
replay it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from hashlib import sha256
from random import Random, SystemRandom
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.simulate import replay_command, run_seed
from tests.source import python_files

SECONDS = 60.0
ASKED = int(os.environ.get("FINN_SEEDS", "0"))
FRESH = ASKED or 120
WORKERS = min(os.cpu_count() or 1, 4)
# A run takes a second of processor time at most; what takes so much more never ends.
HANGS = 60

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
    82000216: "a disk was emptied before the removal of its node was committed",
    1520345271: "an operator who knew nobody, as all were stopped, founded another cluster",
    70030047: "a leader that had removed itself looked for ever whether a read can be served",
    1: "five thousand events of everything",
    2: "the same",
    3: "the same",
}
"""Seeds and what they found, or show."""


def source_random() -> Random:
    """Return a source of chance that is the same for the same source of finn."""
    source = sha256()
    for path in python_files("finn"):
        source.update(path.read_bytes())
    return Random(source.digest())


class SeedTests(SynchronousTestCase):
    def run_one(self, seed: int) -> None:
        try:
            run_seed(seed, SECONDS)
        except Exception as e:
            raise self.failureException(
                f"seed {seed}: {type(e).__name__}: {e}\n{replay_command(seed, SECONDS)}"
            ) from e
        self.flushLoggedErrors()


class FreshSeedTests(SynchronousTestCase):
    """Seeds that nobody has seen yet, on all processors."""

    def start(self, first: int, count: int) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        """Start a process that runs so many seeds; return it and what it prints."""
        arguments = ["--seed", str(first), "--count", str(count), "--hours", repr(SECONDS / 3600)]
        print(f"finn.testing.simulate {' '.join(arguments)}")
        output = open(self.mktemp(), "w+b")  # noqa: SIM115
        self.addCleanup(output.close)
        # Its own time is limited, as others may keep the processors busy.
        limited = ["sh", "-c", 'ulimit -t "$0" && exec "$@"', str(HANGS + count)]
        command = [*limited, sys.executable, "-m", "finn.testing.simulate", *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, output

    def test_fresh_seeds(self) -> None:
        """Each comes right again, and breaks no promise."""
        count = -(-FRESH // WORKERS)
        failures = []
        draw = SystemRandom() if ASKED else source_random()
        workers = [self.start(draw.getrandbits(32), count) for _ in range(WORKERS)]
        for process, output in workers:
            process.wait()
            output.seek(0)
            runs = re.split(r"^(?=seed \d+$)", output.read().decode(), flags=re.MULTILINE)
            failed = [run for run in runs if "failed; " in run]
            if process.wait() and not failed:
                failed.append(f"{runs[-1]}did not end")
            failures += failed
        if failures:
            self.fail("\n".join(failures))


def _pin(seed: int, what: str) -> None:
    def test(self: SeedTests) -> None:
        self.run_one(seed)

    test.__doc__ = f"Seed {seed}: {what}."
    setattr(SeedTests, f"test_seed_{seed}", test)


for _seed, _what in PINNED.items():
    _pin(_seed, _what)
