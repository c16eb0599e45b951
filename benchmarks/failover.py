"""Failover: how long clients cannot write when the leader is killed, stopped or frozen."""

from __future__ import annotations

import itertools
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cells import Load
from benchmarks.client import Client
from benchmarks.cluster import ROOT, Cluster, Node, Shape
from benchmarks.drivers import generator
from benchmarks.processes import BenchmarkError, wait_until

#: A writer that hears nothing for this long asks another node. Longer than a healthy reply takes,
#: and short enough to see a gap of 100 ms.
REPLY_SECONDS = 0.25

#: Pause between attempts while nobody accepts.
RETRY_SECONDS = 0.002

#: Writes before the fault, and after the recovery, that show a running service.
SETTLE_SECONDS = 0.5

#: Seconds until a fault counts as an outage.
OUTAGE_SECONDS = 30.0

#: What clients do in the background; it goes to the leader, and ends with it.
BACKGROUND = Load("set", 20, 4)


class Writer:
    """Writes one key after another, follows TRY, and notes when each write was acknowledged."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.acknowledged: list[float] = []
        self._running = True
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._running = False
        self._thread.join()

    def gap(self, since: float) -> float:
        """Return the longest time without an acknowledged write since a moment."""
        times = [since, *(t for t in list(self.acknowledged) if t > since)]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def _run(self) -> None:
        client: Client | None = None
        at = number = 0
        while self._running:
            try:
                if client is None:
                    client = Client(self.ports[at], REPLY_SECONDS)
                number += 1
                reply = client.ask("SET", f"probe:{number % 1000}", number)
                if reply in (b"OK", "OK"):
                    self.acknowledged.append(time.monotonic())
                    continue
                target = self._target(str(reply))
            except OSError:
                target = None
            if client is not None:
                client.close()
                client = None
            at = (at + 1) % len(self.ports) if target is None else target
            time.sleep(RETRY_SECONDS)
        if client is not None:
            client.close()

    def _target(self, error: str) -> int | None:
        """Return which node an error tells to try."""
        word, _, address = error.partition(" ")
        port = address.rpartition(":")[2]
        if word == "TRY" and port.isdigit() and int(port) in self.ports:
            return self.ports.index(int(port))
        return None


def kill(node: Node) -> None:
    """Kill a node as ``kill -9`` does."""
    node.process.signal(signal.SIGKILL)


def stop(node: Node) -> None:
    """Stop a node as Ctrl-C does."""
    node.process.signal(signal.SIGTERM)


def freeze(node: Node) -> None:
    """Freeze a node: it is there and does not answer."""
    node.process.signal(signal.SIGSTOP)


FAULTS: dict[str, Callable[[Node], None]] = {"kill": kill, "stop": stop, "freeze": freeze}


def one_round(cluster: Cluster, fault: str) -> float:
    """Do one fault to the leader under load, and return the longest gap in ms that a client saw."""
    leader = cluster.leader()
    load = subprocess.Popen(
        generator(leader.port, BACKGROUND, 60.0),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    others = [node.port for node in cluster.nodes if node is not leader]
    writer = Writer([leader.port, *others])
    writer.start()
    try:
        wait_until(lambda: bool(writer.acknowledged), "a first write")
        time.sleep(SETTLE_SECONDS)
        moment = time.monotonic()
        FAULTS[fault](leader)

        def recovered() -> bool:
            # A write may be acknowledged by the old leader while the signal is on its way.
            if time.monotonic() - moment < SETTLE_SECONDS:
                return False
            return bool(writer.acknowledged) and writer.acknowledged[-1] > moment + 0.1

        wait_until(recovered, f"a write after the {fault} of the leader", OUTAGE_SECONDS)
        time.sleep(SETTLE_SECONDS)
        gap = writer.gap(moment)
    finally:
        load.kill()
        load.wait()
        writer.stop()
    if fault == "freeze":
        leader.process.signal(signal.SIGCONT)
    else:
        leader.process.wait()
        leader.process.start()
    cluster.wait_whole()
    return gap * 1000


def run_failover(rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return the gaps in ms of each fault over some rounds on one cluster."""
    report: dict[str, Any] = {}
    with Cluster(Shape()) as cluster:
        for fault in FAULTS:
            gaps = []
            for number in range(rounds):
                try:
                    gaps.append(one_round(cluster, fault))
                except BenchmarkError as error:
                    tell(f"{fault} {number + 1}: {error}")
                    report[f"{fault}_failed"] = report.get(f"{fault}_failed", 0) + 1
                    break
            if gaps:
                report[f"{fault}_rounds"] = len(gaps)
                report[f"{fault}_median_ms"] = round(statistics.median(gaps), 1)
                report[f"{fault}_worst_ms"] = round(max(gaps), 1)
                report[f"{fault}_gaps_ms"] = [round(gap, 1) for gap in gaps]
                tell(f"{fault}: median {statistics.median(gaps):.0f} ms, worst {max(gaps):.0f} ms")
    return report
