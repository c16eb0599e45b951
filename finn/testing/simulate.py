"""``python -m finn.testing.simulate``: simulated runs of whole clusters, from seeds.

::

    python -m finn.testing.simulate --seed 7              one run, its trace hash at the end
    python -m finn.testing.simulate --seed 7 --verbose    the same run, with all that happens
    python -m finn.testing.simulate --count 100           fresh seeds, one after the other
    python -m finn.testing.simulate --soak --hours 100    the same, in longer runs
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from finn.testing.history import Outcome
from finn.testing.simulator import Simulation

MINUTE = 60.0
SOAK_RUN = 10 * MINUTE


@implementer(ILogObserver)
class Failures:
    """A log observer that keeps what was logged as a failure, and prints if asked."""

    def __init__(self, simulation: Simulation, verbose: bool) -> None:
        self.found: list[str] = []
        self._simulation = simulation
        self._verbose = verbose

    def __call__(self, event: dict[str, Any]) -> None:
        """Observe."""
        namespace = str(event.get("log_namespace", ""))
        if not namespace.startswith("finn"):
            return
        scheduler = self._simulation.world.scheduler
        process = scheduler.current
        computer = process.owner if process is not None else None
        failure = event.get("log_failure")
        is_critical = event.get("log_level") is LogLevel.critical
        # Without one a node tells that its disk failed, as it was made to.
        if is_critical and failure is not None and computer is not None:
            self.found.append(f"{formatEvent(event)}\n{failure.getTraceback()}")
        if self._verbose:
            where = computer.address if computer is not None else "-"
            print(f"{scheduler.now:11.6f}   {where} {formatEvent(event)}")


def run_seed(seed: int, seconds: float, verbose: bool = False) -> Simulation:
    """Run one seed.

    Raises:
        Exception: whatever went wrong.
    """
    simulation = Simulation(seed, log=print if verbose else None)
    failures = Failures(simulation, verbose)
    globalLogPublisher.addObserver(failures)
    try:
        simulation.run(seconds)
        if failures.found:
            raise AssertionError("logged failures:\n" + "\n".join(failures.found))
    finally:
        globalLogPublisher.removeObserver(failures)
    return simulation


def replay_command(seed: int, seconds: float) -> str:
    """Return the command that replays a run."""
    return f"python -m finn.testing.simulate --seed {seed} --hours {seconds / 3600!r}"


def _report(simulation: Simulation, real: float) -> None:
    minutes = simulation.world.now / MINUTE
    counts = " ".join(f"{kind}={n}" for kind, n in sorted(simulation.faults.counts.items()))
    outcomes = ", ".join(f"{simulation.outcomes[o]} {o.value}" for o in Outcome)
    print(f"  faults          {counts}")
    print(f"  operations      {outcomes}, longest gap {simulation.longest_gap:.1f} s")
    fold = minutes * MINUTE / real
    print(f"  speed           {minutes:.1f} minutes in {real:.1f} s of one core, {fold:.0f} fold")
    print(f"trace {simulation.trace}", flush=True)


def _one(seed: int, seconds: float, verbose: bool) -> bool:
    print(f"seed {seed}")
    print(Simulation(seed).drawn, flush=True)
    began = time.process_time()
    try:
        simulation = run_seed(seed, seconds, verbose)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        print(f"seed {seed} failed; {replay_command(seed, seconds)}")
        return False
    _report(simulation, time.process_time() - began)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m finn.testing.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the run; drawn if not given")
    parser.add_argument("--hours", type=float, default=1 / 60, help="simulated hours of a run")
    parser.add_argument("--count", type=int, default=1, help="runs, each with the next seed")
    parser.add_argument("--soak", action="store_true", help="many seeds, until --hours are over")
    parser.add_argument("--verbose", action="store_true", help="print what happens")
    options = parser.parse_args(arguments)
    seconds = options.hours * 3600
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)
    runs = [seconds] * options.count
    if options.soak:
        whole, rest = divmod(seconds, SOAK_RUN)
        runs = [SOAK_RUN] * int(whole) + [rest] * (rest > 0)
    failed = [s for s, length in enumerate(runs, seed) if not _one(s, length, options.verbose)]
    if len(runs) > 1:
        print(f"{len(failed)} seeds failed: {failed}" if failed else "all seeds passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
