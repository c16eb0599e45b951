"""The heavy variant of ``tests.integration.test_overload``: ``python -m tests.overload [NAME...]``.

Some minutes; 1 GiB is written while a follower is away, and all else is larger, too. Prints what
was measured, and exits with 1 when a promise was not kept.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.integration.cluster import Cluster
from tests.integration.overload import SCENARIOS, Scale

HEAVY = Scale(
    connections=9000, silent=400, seconds=15, flood=600, absent=1024, value=48, values=10,
    arguments=500_000,
)  # fmt: skip


def main(names: Sequence[str]) -> int:
    """Run all scenarios, or those named; returns the number of failures."""
    failures = 0
    known = [scenario.__name__ for scenario in SCENARIOS]
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"no such scenario: {', '.join(unknown)}; there are {', '.join(known)}")
    for scenario in SCENARIOS:
        if names and scenario.__name__ not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="finn-overload-") as folder:
            cluster = Cluster(Path(folder))
            try:
                print(f"{scenario.__name__}: {scenario(cluster.start(), HEAVY)}", flush=True)
            except Exception:
                failures += 1
                print(f"{scenario.__name__} FAILED\n{traceback.format_exc()}", flush=True)
                print(cluster.tails())
            finally:
                cluster.reap()
    return failures


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
