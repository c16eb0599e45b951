"""Chaos: faults on real processes under load; what the clients were told must be true.

Run it for long with::

    python -m tests.integration.chaos --minutes 60 --seed 1

It prints the seed first, and the longest time without a successful write for each fault. The
processes and their clients are not deterministic; the seed gives the same faults in the same order.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finn.testing.history import Operation
from finn.testing.linearizability import Result, Verdict, check
from finn.testing.models import KeyValueModel
from tests.integration import faults
from tests.integration.faults import FAULTS, LOSES_ALL, Fault
from tests.integration.process import until
from tests.integration.proxiedcluster import ProxiedCluster
from tests.integration.recorder import Book

TIMES = ("--heartbeat", "50", "--election-timeout", "500")
LEVELS = ("low", "medium", "high")
BACKENDS = ("fastlog", "bolt", "leveldb", "inmem")
# After a fault so many writes have to be answered, each client's share.
PROGRESS = 10
# A gap after a fault that leaves a majority in touch is worth a look from here on, seconds.
SLOW = 2.0
# Time the checker may take for one run, seconds.
CHECK_SECONDS = 60.0


class Violation(AssertionError):
    """The clients were told something that cannot be true."""


@dataclass
class Report:
    """What came out of one run.

    Attributes:
        setting: the levels and the backend.
        gaps: fault and longest time without a successful write, seconds.
        operations: number of operations checked.
        unknown: those of unknown outcome.
        result: of the checker.
    """

    setting: str
    gaps: list[tuple[str, float]] = field(default_factory=list)
    operations: int = 0
    unknown: int = 0
    result: Result | None = None

    @property
    def slow(self) -> bool:
        """Whether a fault that leaves a majority cost longer than it should."""
        return any(gap > SLOW for name, gap in self.gaps if name != faults.all_killed.__name__)

    def __str__(self) -> str:
        gaps = ", ".join(f"{name} {gap:.2f} s" for name, gap in self.gaps)
        return (
            f"{self.setting}: {self.operations} operations, {self.unknown} of unknown outcome, "
            f"{self.result}\n    longest without a write: {gaps}"
        )


class Chaos:
    """One cluster, its clients, and faults.

    Args:
        folder: for the cluster.
        durability: level of it.
        consistency: level of it.
        backend: of it.
        seed: of the faults and of what the clients do.
        clients: how many.
        pause: of each client between two commands, seconds.
    """

    def __init__(
        self,
        folder: Path,
        durability: str,
        consistency: str,
        backend: str = "fastlog",
        seed: int = 0,
        clients: int = 3,
        pause: float = 0.01,
    ) -> None:
        self.setting = f"{backend}, durability {durability}, consistency {consistency}"
        self.consistency = consistency
        self.seed = seed
        self.random = random.Random(f"{seed} {self.setting}")
        flags = ("--durability", durability, "--consistency", consistency, "--backend", backend)
        self.cluster = ProxiedCluster(folder, [*TIMES, *flags])
        self.book = Book(self.cluster.ports, seed, clients, pause)
        self.report = Report(self.setting)
        self.in_memory = backend == "inmem"

    def run(self, chosen: Iterable[Fault]) -> Report:
        """Start, do all this to the cluster, and check."""
        self.cluster.start_all()
        self.book.open()
        try:
            self._progress()
            for fault in chosen:
                self._suffer(fault)
        finally:
            self.book.close()
        self._settle()
        self._check()
        return self.report

    def _progress(self) -> None:
        """Wait until the clients get on."""
        target = self.book.writes + PROGRESS * len(self.book.clients)
        until(lambda: self.book.writes >= target or self.book.closed.is_set(), "clients can write")

    def _suffer(self, fault: Fault) -> None:
        name = fault.__name__
        began = time.monotonic()
        try:
            fault(self.cluster, self.random)
            self.cluster.wait_ready()
            self._progress()
        except Exception as e:
            raise type(e)(f"{self.setting}, {name}: {e}") from e
        self.report.gaps.append((name, self.book.gap(began, time.monotonic())))
        self.book.chapter += 1

    def _settle(self) -> None:
        """Stop all, start all so that each shows what it has, compare, and read once more."""
        cluster = self.cluster
        if self.in_memory:
            cluster.wait_ready().wait_equal()
        else:
            for node in cluster.nodes:
                assert node.stop() == 0, node.tail()
                cluster.network.down(node.advertised)
            for node in cluster.nodes:
                node.flags += ["--consistency", "low"]
            cluster.restart(*cluster.nodes)
            cluster.wait_ready().wait_equal()
            first, *others = [node.contents() for node in cluster.nodes]
            for other in others:
                if other != first:
                    raise Violation(f"{self.setting}: nodes differ: {first} {other}")
        reader = self.book.clients[0]
        reader.client = cluster.client()
        reader.client.timeout = 10.0
        for key in sorted({operation.input[1] for operation in self.book.history}):
            until(lambda key=key: reader.step((b"GET", key)).done, "a read")  # type: ignore[misc]
        reader.client.close()

    def _check(self) -> None:
        """Check the history; reads at low, but for the last ones, may be stale."""
        history = self.book.history
        if self.consistency == "low":
            end = max(op.complete for op in history if op.input[0] != b"GET")
            history = [op for op in history if op.input[0] != b"GET" or op.invoke > end]
        self.report.operations = len(history)
        self.report.unknown = count_unknown(history)
        result = check(history, KeyValueModel(), max_seconds=CHECK_SECONDS)
        self.report.result = result
        if result.verdict is Verdict.VIOLATED:
            raise Violation(f"{self.setting}, seed {self.seed}: {result}")

    def reap(self) -> None:
        """Nothing is left."""
        self.book.closed.set()
        self.cluster.reap()


def count_unknown(history: Sequence[Operation]) -> int:
    """Return the number of operations of unknown outcome."""
    return sum(operation.outcome.value == "unknown" for operation in history)


def soak(minutes: float, seed: int, chosen: Sequence[str]) -> int:
    """Run for long; returns the exit code."""
    print(f"seed {seed}, {minutes} minutes", flush=True)
    draw = random.Random(seed)
    end = time.monotonic() + minutes * 60
    number = 0
    while time.monotonic() < end:
        number += 1
        backend = draw.choice(BACKENDS)
        wanted = [fault for fault in FAULTS if not chosen or fault.__name__ in chosen]
        if backend == "inmem":
            wanted = [fault for fault in wanted if fault not in LOSES_ALL]
        drawn = [draw.choice(wanted) for _ in range(8)]
        folder = Path(tempfile.mkdtemp(prefix="finn-chaos-"))
        chaos = Chaos(
            folder, draw.choice(LEVELS), draw.choice(LEVELS), backend, draw.getrandbits(32)
        )
        print(f"run {number}: {', '.join(fault.__name__ for fault in drawn)}", flush=True)
        try:
            report = chaos.run(drawn)
            print(f"  {report}", flush=True)
            if report.slow:
                print(f"  SLOW; the logs are in {folder}", flush=True)
            else:
                shutil.rmtree(folder)
        except Exception as e:
            print(f"FAILED: {chaos.setting}: {e}\n{chaos.cluster.tails()}", flush=True)
            print(f"the data is in {folder}; the seed was {seed}", flush=True)
            return 1
        finally:
            chaos.reap()
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.chaos")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    names = [fault.__name__ for fault in faults.FAULTS]
    parser.add_argument("--fault", action="append", default=[], choices=names)
    arguments = parser.parse_args()
    return soak(arguments.minutes, arguments.seed, arguments.fault)


if __name__ == "__main__":
    sys.exit(main())
