"""The matrix: which load on which cluster."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field, replace

from benchmarks.cluster import Shape

CLIENTS = (1, 50)
PIPELINES = (1, 16, 64)
KIB = 1024


@dataclass(frozen=True)
class Load:
    """What clients do.

    Attributes:
        command: ``ping``, ``set``, ``get`` (present keys) or ``get-missing``.
        clients: connections.
        pipeline: commands in flight on each.
        value_bytes: size of each value.
    """

    command: str
    clients: int
    pipeline: int
    value_bytes: int = 64

    @property
    def name(self) -> str:
        """The name in reports."""
        size = "" if self.value_bytes == 64 else f".{size_name(self.value_bytes)}"
        return f"{self.command}{size}.c{self.clients}.P{self.pipeline}"


@dataclass(frozen=True)
class Cell:
    """A load on a cluster.

    Attributes:
        load: what clients do.
        shape: what the cluster is like.
    """

    load: Load
    shape: Shape = field(default_factory=Shape)

    @property
    def name(self) -> str:
        """The name: what differs from the default cluster, then the load."""
        return ".".join([*variant(self.shape), self.load.name])


def size_name(size: int) -> str:
    """Return a size as a person writes it."""
    if size % (KIB * KIB) == 0:
        return f"{size // (KIB * KIB)}MiB"
    return f"{size // KIB}KiB" if size % KIB == 0 else f"{size}B"


def variant(shape: Shape) -> list[str]:
    """Return in words how a shape differs from the default one."""
    default = Shape()
    words = []
    if shape.nodes != default.nodes:
        words.append(f"{shape.nodes}-node")
    if shape.durability != default.durability:
        words.append(f"durability-{shape.durability}")
    if shape.consistency != default.consistency:
        words.append(f"consistency-{shape.consistency}")
    if shape.machine != default.machine:
        words.append(shape.machine)
    if shape.backend != default.backend:
        words.append(shape.backend)
    return words


def loads(*commands: str) -> list[Load]:
    """Return the loads of commands at every number of clients and depth of pipeline."""
    return [Load(command, c, p) for command in commands for c in CLIENTS for p in PIPELINES]


def matrix() -> list[Cell]:
    """Return every cell: the default cluster whole, and of the others what they change."""
    base = Shape()
    cells = [Cell(load, base) for load in loads("ping", "set", "get", "get-missing")]
    for size, pipelines in ((4 * KIB, (1, 16)), (KIB * KIB, (1,))):
        cells += [
            Cell(Load(command, clients, pipeline, size), base)
            for command in ("set", "get")
            for clients in CLIENTS
            for pipeline in pipelines
        ]
    for level in ("low", "high"):
        shape = replace(base, durability=level)
        cells += [Cell(load, shape) for load in loads("set")]
    for level in ("low", "high"):
        shape = replace(base, consistency=level)
        cells += [Cell(load, shape) for load in loads("get")]
    for shape in (
        replace(base, machine="command"),
        replace(base, nodes=1),
        replace(base, nodes=5),
    ):
        cells += [Cell(load, shape) for load in loads("set", "get")]
    for backend in ("bolt", "leveldb", "inmem"):
        cells += [Cell(load, replace(base, backend=backend)) for load in loads("set")]
    return cells


def quick() -> list[Cell]:
    """Return the few cells that tell most."""
    return [Cell(load) for load in loads("set", "get")]


def chosen(cells: list[Cell], patterns: list[str]) -> list[Cell]:
    """Return the cells whose name fits a pattern of the shell; all without a pattern."""
    if not patterns:
        return cells
    return [
        cell for cell in cells if any(fnmatch.fnmatchcase(cell.name, text) for text in patterns)
    ]
