"""Clusters of finn nodes: real twistd processes in temporary folders, on free ports."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.client import try_ask
from benchmarks.processes import BenchmarkError, Process, Usage, free_ports, wait_until

ROOT = Path(__file__).resolve().parent.parent

MACHINES = {"declarative": "finn.machines.kv:KV", "command": "examples.clone:Clone"}


@dataclass(frozen=True)
class Shape:
    """What a cluster is like.

    Attributes:
        nodes: how many.
        durability: of every node.
        consistency: of every node.
        machine: ``declarative`` or ``command``, the style of the machine.
        backend: of every node.
        snapshot_bytes: growth of the log until a snapshot.
    """

    nodes: int = 3
    durability: str = "medium"
    consistency: str = "medium"
    machine: str = "declarative"
    backend: str = "fastlog"
    snapshot_bytes: int = 64 * 1024 * 1024

    def flags(self) -> list[str]:
        """Return the flags that every node has."""
        return [
            *("--durability", self.durability, "--consistency", self.consistency),
            *("--backend", self.backend, "--machine", MACHINES[self.machine]),
            *("--snapshot-bytes", str(self.snapshot_bytes)),
        ]


def twistd() -> list[str]:
    """Return the command line that begins every node."""
    script = Path(sys.executable).with_name("twistd")
    if script.exists():
        return [str(script), "-n"]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]


class Node:
    """One node of a cluster."""

    def __init__(self, port: int, folder: Path, shape: Shape, join: int) -> None:
        self.port = port
        command = [*twistd(), "finn", "--port", str(port), "--join", f":{join}", *shape.flags()]
        self.process = Process(command, folder / str(port), {"PYTHONPATH": str(ROOT)})

    def role(self) -> str | None:
        """Return what RAFTSTATE says, None when the node does not answer."""
        reply = try_ask(self.port, "RAFTSTATE")
        return reply.decode() if isinstance(reply, bytes) else None

    def figures(self) -> dict[str, str]:
        """Return RAFTSTATS; empty when the node does not answer."""
        reply = try_ask(self.port, "RAFTSTATS")
        if not isinstance(reply, list):
            return {}
        words = [word.decode() for word in reply]
        return dict(zip(words[::2], words[1::2], strict=True))


class Cluster:
    """Nodes that are one cluster; a context manager that leaves nothing behind."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.folder = Path(tempfile.mkdtemp(prefix="finn-bench-"))
        ports = free_ports(shape.nodes)
        self.nodes = [Node(port, self.folder, shape, ports[0]) for port in ports]

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.clear()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def start(self) -> None:
        """Start every node, and wait until all are voters that have caught up."""
        for node in self.nodes:
            node.process.start()
        self.wait_whole()

    def clear(self) -> None:
        """End every node and remove its data."""
        for node in self.nodes:
            node.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def find_leader(self) -> Node | None:
        """Return the node that says it leads, None if none does or more than one."""
        leaders = [node for node in self.nodes if node.process.running and node.role() == "Leader"]
        return leaders[0] if len(leaders) == 1 else None

    def leader(self) -> Node:
        """Return the leader, as soon as there is one."""
        found: list[Node] = []

        def look() -> bool:
            node = self.find_leader()
            if node is not None:
                found.append(node)
            return node is not None

        wait_until(look, "a leader")
        return found[0]

    def followers(self) -> list[Node]:
        """Return the nodes that do not lead."""
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]

    def wait_whole(self) -> float:
        """Wait until every node runs, is a voter, and has applied what the leader has."""

        def whole() -> bool:
            for node in self.nodes:
                if not node.process.running:
                    raise BenchmarkError(f"a node ended:\n{node.process.tail()}")
            leader = self.find_leader()
            if leader is None:
                return False
            commit = int(leader.figures().get("commit_index", -1))
            for node in self.nodes:
                figures = node.figures()
                if figures.get("voter") != "1" or int(figures["num_peers"]) != len(self.nodes) - 1:
                    return False
                if int(figures["applied_index"]) < commit:
                    return False
            return commit >= 0

        return wait_until(whole, f"a whole cluster of {len(self.nodes)}")

    def usage(self) -> dict[int, Usage]:
        """Return what each node has used, by port."""
        return {node.port: node.process.usage() for node in self.nodes}

    def stop(self, node: Node) -> None:
        """Stop a node in order."""
        node.process.signal(signal.SIGTERM)
        node.process.wait()
