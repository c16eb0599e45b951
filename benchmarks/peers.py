"""Peers, measured in the same run: redis-server alone as the yardstick, a cluster of etcd."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cells import Load
from benchmarks.client import try_ask
from benchmarks.drivers import Driver, twisted_load
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


def run_etcd(runs: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the figures of puts to three nodes of etcd, which syncs every write.

    Its JSON gateway is what can be driven without its client; it costs etcd processor time.
    """
    program = shutil.which("etcd")
    if program is None:
        return
    folder = Path(tempfile.mkdtemp(prefix="finn-bench-etcd-"))
    ports = free_ports(6)
    clients, peers = ports[:3], ports[3:]
    names = ["a", "b", "c"]
    urls = ",".join(f"{n}=http://127.0.0.1:{p}" for n, p in zip(names, peers, strict=True))
    nodes = [
        Process(
            [
                *(program, "--name", name, "--data-dir", str(folder / name)),
                *("--listen-client-urls", f"http://127.0.0.1:{client}"),
                *("--advertise-client-urls", f"http://127.0.0.1:{client}"),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-cluster", urls, "--initial-cluster-state", "new"),
            ],
            folder / f"run-{name}",
        )
        for name, client, peer in zip(names, clients, peers, strict=True)
    ]
    try:
        for node in nodes:
            node.start()
        probe = Load("etcd-put", 1, 1)
        wait_until(lambda: puts(clients[0], probe), "etcd")
        for count in (1, 50):
            load = Load("etcd-put", count, 1)
            row: dict[str, Any] = {"name": f"etcd.put.c{count}.P1", "peer": "etcd"}
            row |= {"command": "set", "clients": count, "pipeline": 1, "value_bytes": 64}
            try:
                driver = Driver("twisted", seconds)
                row |= measure_load(driver, runs, clients[0], load, {"leader": nodes})
            except (BenchmarkError, OSError) as error:
                row["error"] = str(error)
            yield row
    finally:
        for node in nodes:
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def puts(port: int, load: Load) -> bool:
    """Say whether etcd takes a key."""
    try:
        return bool(twisted_load(port, load, 0.05)["requests"])
    except (BenchmarkError, OSError):
        return False
