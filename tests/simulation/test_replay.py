"""The same seed is the same run, bit for bit, whatever the hash seed of the process."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase


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

    def test_hash_seeds_do_not_matter(self) -> None:
        """Two processes with different hash seeds print the same trace."""
        for seed in (3, 12):
            self.assertEqual(self.traces(seed, "1"), self.traces(seed, "4242"))

    def test_seeds_matter(self) -> None:
        """Different seeds are different runs."""
        self.assertNotEqual(self.traces(3, "1"), self.traces(12, "1"))
