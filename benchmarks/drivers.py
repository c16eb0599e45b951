"""Drivers of load: redis-benchmark, and our generator for what it cannot do."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import subprocess
import sys
from typing import Any

from benchmarks.cells import Load
from benchmarks.client import Client
from benchmarks.cluster import ROOT
from benchmarks.load import KEYS, key, keys_of
from benchmarks.processes import BenchmarkError

#: A run is given up after this many times its planned length, and half a minute.
PATIENCE = 10

FILL_BATCH_BYTES = 256 * 1024

MISSING = ["GET", "missing:__rand_int__"]

#: Requests of the first run, from which the number that fills the time is reckoned.
PROBE_PIPELINES = 40


def has_redis_benchmark() -> bool:
    """Say whether redis-benchmark is installed."""
    return shutil.which("redis-benchmark") is not None


def redis_benchmark(port: int, load: Load, requests: int, seconds: float) -> dict[str, Any]:
    """Run redis-benchmark for a number of requests, and return its figures.

    Raises:
        BenchmarkError: it failed, or the server answered with errors.
    """
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "--csv"]
    command += ["-c", str(load.clients), "-P", str(load.pipeline), "-n", str(requests)]
    command += ["-r", str(keys_of(load.value_bytes)), "-d", str(load.value_bytes)]
    tests = {"ping": ["-t", "ping_mbulk"], "set": ["-t", "set"], "get": ["-t", "get"]}
    command += tests.get(load.command, MISSING)
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=30 + PATIENCE * seconds
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{load.name}: redis-benchmark does not come to its end") from None
    output = result.stdout + result.stderr
    if result.returncode or "Error" in output:
        raise BenchmarkError(f"{load.name}: {output.strip()[-200:]}")
    lines = [line for line in result.stdout.splitlines() if line.startswith('"')]
    row = list(csv.DictReader(io.StringIO("\n".join(lines))))[-1]
    return {
        "requests": requests,
        "rps": float(row["rps"]),
        "p50_ms": float(row["p50_latency_ms"]),
        "p99_ms": float(row["p99_latency_ms"]),
        "max_ms": float(row["max_latency_ms"]),
    }


def generator(port: int, load: Load, seconds: float, rate: float = 0.0) -> list[str]:
    """Return the command line of our generator."""
    return [
        *(sys.executable, "-m", "benchmarks.load", "--port", str(port)),
        *("--command", load.command, "--clients", str(load.clients)),
        *("--pipeline", str(load.pipeline), "--value-bytes", str(load.value_bytes)),
        *("--seconds", str(seconds), "--rate", str(rate)),
    ]


def twisted_load(port: int, load: Load, seconds: float, rate: float = 0.0) -> dict[str, Any]:
    """Run our generator, and return its figures.

    Raises:
        BenchmarkError: it failed, or the server answered with errors.
    """
    try:
        result = subprocess.run(
            generator(port, load, seconds, rate),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30 + PATIENCE * seconds,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{load.name}: the generator does not come to its end") from None
    if result.returncode:
        raise BenchmarkError(f"{load.name}: {result.stderr.strip()[-200:]}")
    figures: dict[str, Any] = json.loads(result.stdout)
    if figures["errors"] or figures["lost"]:
        raise BenchmarkError(f"{load.name}: {figures['errors']}, {figures['lost']} lost")
    return figures


class Driver:
    """Runs loads for about a time each.

    Args:
        kind: ``redis-benchmark`` or ``twisted``.
        seconds: length of a run.
    """

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind = kind
        self.seconds = seconds

    def plan(self, port: int, load: Load) -> int:
        """Return the number of requests that take about the time; warms the server up, too."""
        if self.kind != "redis-benchmark":
            return 0
        probe = load.clients * load.pipeline * PROBE_PIPELINES
        if load.value_bytes > FILL_BATCH_BYTES:
            probe = load.clients * 2
        while not math.isfinite(rate := redis_benchmark(port, load, probe, self.seconds)["rps"]):
            probe *= 10  # they took no time that could be measured
        # It counts whole pipelines, and if that is not what was asked for it may take the end of
        # its only client for a loss.
        pipelines = max(probe, int(rate * self.seconds)) // load.pipeline
        return max(pipelines, 1) * load.pipeline

    def run(self, port: int, load: Load, requests: int) -> dict[str, Any]:
        """Run a load, and return its figures."""
        if self.kind != "redis-benchmark":
            return twisted_load(port, load, self.seconds)
        return redis_benchmark(port, load, requests, self.seconds)


def fill(port: int, value_bytes: int, count: int = KEYS) -> None:
    """Set keys, so that reads find them.

    Raises:
        BenchmarkError: a write failed.
    """
    value = b"x" * value_bytes
    batch = max(1, min(1000, FILL_BATCH_BYTES // value_bytes))
    with Client(port, timeout=60) as client:
        for first in range(0, count, batch):
            numbers = range(first, min(first + batch, count))
            for reply in client.pipeline([("SET", key(number), value) for number in numbers]):
                if reply != b"OK" and reply != "OK":
                    raise BenchmarkError(f"cannot fill: {reply}")
