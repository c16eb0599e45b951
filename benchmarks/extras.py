"""What is no cell: restart, memory per key, snapshots under load, idle connections."""

from __future__ import annotations

import json
import resource
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cells import Load
from benchmarks.client import Client, try_ask
from benchmarks.cluster import ROOT, Cluster, Node, Shape
from benchmarks.drivers import fill, generator, twisted_load
from benchmarks.processes import BenchmarkError, wait_until

MIB = 1024 * 1024

IDLE_CONNECTIONS = 5000

#: Share of the peak rate at which latency is looked at.
STEADY_SHARE = 0.7

RESTARTS = 5


def memory_per_key(keys: int) -> dict[str, Any]:
    """Return the bytes of memory of a key with 64 bytes of value, and restart and stall times."""
    report: dict[str, Any] = {"keys": keys}
    with Cluster(Shape(snapshot_bytes=1 << 40)) as cluster:
        leader = cluster.leader()
        before = leader.process.usage().memory
        fill(leader.port, 64, keys)
        with Client(leader.port, timeout=120) as client:
            client.ask("RAFTSNAPSHOT")  # so that the log is not counted
        report["bytes_per_key"] = round((leader.process.usage().memory - before) / keys, 1)
        report |= snapshot_stall(cluster)
        report |= restart_time(cluster)
    return report


def snapshot_stall(cluster: Cluster) -> dict[str, Any]:
    """Return the longest pause of clients while the leader takes a snapshot under load."""
    leader = cluster.leader()
    command = generator(leader.port, Load("set", 10, 1), 6.0, rate=2000)
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(1.5)
        with Client(leader.port, timeout=120) as client:
            began = time.monotonic()
            reply = client.ask("RAFTSNAPSHOT")
            took = time.monotonic() - began
        output, _ = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    figures = twisted_figures(output)
    return {
        "snapshot_reply": str(reply),
        "snapshot_seconds": round(took, 3),
        "snapshot_p99_ms": figures["p99_ms"],
        "snapshot_max_ms": figures["max_ms"],
    }


def twisted_figures(output: str) -> dict[str, Any]:
    """Return what our generator printed."""
    figures: dict[str, Any] = json.loads(output)
    if figures["errors"]:
        raise BenchmarkError(f"errors under load: {figures['errors']}")
    return figures


def writes(node: Node) -> bool:
    """Say whether a node acknowledges a write."""
    return try_ask(node.port, "SET", "restart", "1") in (b"OK", "OK")


def restart_time(cluster: Cluster) -> dict[str, Any]:
    """Return the seconds from the start of all nodes, all killed before, to the first write."""
    times = []
    for _ in range(RESTARTS):
        for node in cluster.nodes:
            node.process.kill()
        began = time.monotonic()
        for node in cluster.nodes:
            node.process.start()
        wait_until(lambda: any(writes(node) for node in cluster.nodes), "a write after the restart")
        times.append(time.monotonic() - began)
        cluster.wait_whole()
    return {
        "restart_median_s": round(statistics.median(times), 2),
        "restart_worst_s": round(max(times), 2),
    }


def idle_connections(count: int = IDLE_CONNECTIONS) -> dict[str, Any]:
    """Return what idle connections cost a leader, in memory and in the latency of others."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 100:
        return {"skipped": f"only {hard} files may be open"}
    # The nodes inherit the limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1000, hard))
    load = Load("set", 1, 1)
    with Cluster(Shape()) as cluster:
        leader = cluster.leader()
        alone = twisted_load(leader.port, load, 2.0)
        before = leader.process.usage()
        sockets = []
        try:
            for _ in range(count):
                sockets.append(socket.create_connection(("127.0.0.1", leader.port), 5))
            wait_until(lambda: try_ask(leader.port, "PING") is not None, "an answer")
            memory = leader.process.usage().memory - before.memory
            idle = leader.process.usage().cpu
            time.sleep(2)
            idle = (leader.process.usage().cpu - idle) / 2
            beside = twisted_load(leader.port, load, 2.0)
        finally:
            for s in sockets:
                s.close()
    return {
        "connections": count,
        "bytes_per_connection": round(memory / count),
        "idle_cpu_share": round(idle, 4),
        "set_p50_ms_without": alone["p50_ms"],
        "set_p50_ms_beside": beside["p50_ms"],
        "set_p99_ms_beside": beside["p99_ms"],
    }


def steady_latency(seconds: float) -> dict[str, Any]:
    """Return latency at a share of the peak rate, with snapshots on."""
    load = Load("set", 50, 1)
    with Cluster(Shape(snapshot_bytes=16 * MIB)) as cluster:
        leader = cluster.leader()
        peak = twisted_load(leader.port, load, min(seconds, 3.0))["rps"]
        figures = twisted_load(leader.port, load, seconds, rate=peak * STEADY_SHARE)
        stats = cluster.leader().figures()
    return {
        "seconds": seconds,
        "rate": round(peak * STEADY_SHARE),
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "max_ms": figures["max_ms"],
        "longest_pause_ms": figures["longest_pause_ms"],
        "snapshots": stats.get("snapshots_taken", ""),
        "term": stats.get("term", ""),
    }


def run_extras(quick: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures of everything in this module."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "keys": lambda: memory_per_key(100_000 if quick else 1_000_000),
        "idle": lambda: idle_connections(500 if quick else IDLE_CONNECTIONS),
        "steady": lambda: steady_latency(5.0 if quick else 60.0),
    }
    report: dict[str, Any] = {}
    for name, run in parts.items():
        try:
            report[name] = run()
        except (BenchmarkError, OSError) as error:
            report[name] = {"error": str(error)}
            tell(f"{name}: {error}")
    return report
