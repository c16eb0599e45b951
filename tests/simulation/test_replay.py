"""The same seed is the same run, bit for bit, whatever the hash seed of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

SEEDS = 3, 12
HASH_SEEDS = "1", "4242"


class ReplayTests(SynchronousTestCase):
    def traces(self, seed: int, hash_seed: str) -> str:
        """Run a seed in a process of its own; return what it prints but for the speed."""
        done = subprocess.run(
            [sys.executable, "-m", "finn.testing.simulate", "--seed", str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line for line in done.stdout.splitlines() if not line.startswith("  speed")]
        self.assertTrue(lines[-1].startswith("trace "), done.stdout)
        return "\n".join(lines)

    def test_traces(self) -> None:
        """A seed has one trace, also in a process of another hash seed; another seed another."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            one, again = (
                [pool.submit(self.traces, seed, hash_seed) for seed in SEEDS]
                for hash_seed in HASH_SEEDS
            )
        self.assertEqual([run.result() for run in one], [run.result() for run in again])
        self.assertEqual(len({run.result() for run in one}), len(SEEDS))
