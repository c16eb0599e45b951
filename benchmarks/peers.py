"""Peers, measured in the same run: redis-server alone as the yardstick."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cells import Load
from benchmarks.client import try_ask
from benchmarks.drivers import Driver
from benchmarks.measure import measure_load, prepare
from benchmarks.processes import BenchmarkError, Process, free_ports, wait_until


def run_redis(driver: Driver, runs: int, loads: list[Load]) -> Iterator[dict[str, Any]]:
    """Yield the figures of a lone redis-server that syncs its file every second.

    It replicates nothing: it shows what the machine and the load generator can do.
    """
    program = shutil.which("redis-server")
    if program is None:
        return
    folder = Path(tempfile.mkdtemp(prefix="finn-bench-redis-"))
    (port,) = free_ports(1)
    server = Process(
        [
            *(program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(folder)),
        ],
        folder,
    )
    try:
        server.start()
        wait_until(lambda: try_ask(port, "PING") in (b"PONG", "PONG"), "redis-server")
        filled: set[int] = set()
        for load in loads:
            row: dict[str, Any] = {"name": f"redis.{load.name}", "peer": "redis-server"}
            row |= {"command": load.command, "clients": load.clients, "pipeline": load.pipeline}
            row["value_bytes"] = load.value_bytes
            try:
                if load.command == "get" and load.value_bytes not in filled:
                    prepare(port, [load])
                    filled.add(load.value_bytes)
                row |= measure_load(driver, runs, port, load, {"leader": [server]})
            except (BenchmarkError, OSError) as error:
                row["error"] = str(error)
            yield row
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
