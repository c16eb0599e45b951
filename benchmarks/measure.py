"""Measures cells: several runs on a cluster, medians, and what the nodes spent meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from benchmarks.cells import Cell, Load
from benchmarks.cluster import Cluster, Node, Shape
from benchmarks.drivers import Driver, fill
from benchmarks.load import keys_of
from benchmarks.processes import STOLEN, BenchmarkError, Process, Usage, processor_ticks

MIB = 1024 * 1024


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure over runs."""
    return {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}


def spent(before: Usage, after: Usage, requests: int) -> float:
    """Return CPU milliseconds per 1000 requests, which is seconds per million."""
    return round((after.cpu - before.cpu) * 1e6 / max(requests, 1), 3)


def stolen(before: list[int], after: list[int]) -> float:
    """Return which part of the processors' time their host gave to others, 0 to 1.

    Args:
        before, after: the kernel's counts (``processes.processor_ticks``).
    """
    ticks = [new - old for old, new in zip(before, after, strict=True)]
    return round(ticks[STOLEN] / max(sum(ticks), 1), 4)


def measure_load(
    driver: Driver, runs: int, port: int, load: Load, processes: dict[str, list[Process]]
) -> dict[str, Any]:
    """Run a load several times, and return medians.

    Args:
        driver: what makes the load.
        runs: how many times.
        port: of the server.
        load: what clients do.
        processes: whose CPU time and memory count, by the name of their part.
    """
    requests = driver.plan(port, load)
    found = []
    for _ in range(runs):
        before = {name: [p.usage() for p in group] for name, group in processes.items()}
        ticks = processor_ticks()
        figures = driver.run(port, load, requests)
        figures["stolen"] = stolen(ticks, processor_ticks())
        for name, group in processes.items():
            after = [p.usage() for p in group]
            pairs = list(zip(before[name], after, strict=True))
            cpu = [spent(old, new, figures["requests"]) for old, new in pairs]
            figures[f"{name}_cpu_ms_per_1000"] = max(cpu, default=0.0)
            figures[f"{name}_mib"] = max((u.memory for u in after), default=0) / MIB
        found.append({key: value for key, value in figures.items() if not isinstance(value, dict)})
    return medians(found)


def prepare(port: int, loads: Iterable[Load]) -> None:
    """Fill what the reads among loads are to find."""
    sizes = {load.value_bytes for load in loads if load.command == "get"}
    for size in sorted(sizes):
        fill(port, size, keys_of(size))


class Measurement:
    """Runs cells, each group of one shape on a cluster of its own.

    Args:
        driver: what makes the load.
        runs: of each cell.
        tell: told of each result, and of what failed.
    """

    def __init__(self, driver: Driver, runs: int, tell: Callable[[str], None]) -> None:
        self.driver = driver
        self.runs = runs
        self.tell = tell

    def run(self, cells: list[Cell]) -> Iterator[dict[str, Any]]:
        """Yield the figures of each cell, with its name and what it is."""
        # Writes first, in their order; then reads, with the keys that they are to find.
        order = {shape: n for n, shape in enumerate(dict.fromkeys(c.shape for c in cells))}
        ordered = sorted(
            cells, key=lambda c: (order[c.shape], c.load.value_bytes, c.load.command != "set")
        )
        for shape, group in groupby(ordered, key=lambda cell: cell.shape):
            yield from self._run_group(shape, list(group))

    def _run_group(self, shape: Shape, cells: list[Cell]) -> Iterator[dict[str, Any]]:
        try:
            with Cluster(shape) as cluster:
                filled: set[int] = set()
                for cell in cells:
                    size = cell.load.value_bytes
                    if cell.load.command == "get" and size not in filled:
                        prepare(cluster.leader().port, [cell.load])
                        filled.add(size)
                    yield self._run_cell(cluster, cell)
        except (BenchmarkError, OSError) as error:
            self.tell(f"{shape}: {error}")

    def _run_cell(self, cluster: Cluster, cell: Cell) -> dict[str, Any]:
        row: dict[str, Any] = {"name": cell.name, **describe(cell)}
        try:
            leader = cluster.leader()
            terms = self._term(leader)
            row |= measure_load(
                self.driver, self.runs, leader.port, cell.load, parts(cluster, leader)
            )
            if self._term(cluster.leader()) != terms:
                row["note"] = "the leader changed meanwhile"
        except (BenchmarkError, OSError) as error:
            row["error"] = str(error)
        return row

    def _term(self, node: Node) -> str:
        return node.figures().get("term", "")


def parts(cluster: Cluster, leader: Node) -> dict[str, list[Process]]:
    """Return the processes of a cluster by their part in it."""
    followers = [node.process for node in cluster.nodes if node is not leader]
    found = {"leader": [leader.process]}
    if followers:
        found["follower"] = followers
    return found


def describe(cell: Cell) -> dict[str, Any]:
    """Return what a cell is, for the JSON."""
    return {
        "command": cell.load.command,
        "clients": cell.load.clients,
        "pipeline": cell.load.pipeline,
        "value_bytes": cell.load.value_bytes,
        **{key: getattr(cell.shape, key) for key in Shape.__dataclass_fields__},
    }
