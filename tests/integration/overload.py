"""Ways to ask more of a cluster than it can do, and what it promises meanwhile.

Each takes a cluster of three and returns what was measured; an AssertionError says what was not
kept. Used small by ``test_overload`` and large by ``python -m tests.overload``.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.integration.cluster import Cluster
from tests.integration.gauge import MIB, Gauge, Metronome, memory
from tests.integration.process import NodeProcess, until
from tests.integration.resp import Client, ErrorReply, pack

READY = 120.0
#: Files of the test itself.
RESERVE = 200


@dataclass
class Scale:
    """How much.

    Attributes:
        connections: at once.
        silent: clients that send and never read.
        seconds: for which they send.
        flood: MiB of proposals as fast as they go.
        absent: MiB that are written while a follower is away.
        value: MiB of one value.
        values: how many of them.
        arguments: of one command.
    """

    connections: int = 5000
    silent: int = 100
    seconds: float = 3.0
    flood: int = 60
    absent: int = 150
    value: int = 32
    values: int = 3
    arguments: int = 100_000


def check(holds: bool, text: str) -> None:
    """Raise AssertionError unless a promise is kept."""
    if not holds:
        raise AssertionError(text)


def raise_own_limit(count: int) -> int:
    """Let this process open so many connections; returns how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + RESERVE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return min(count, soft - RESERVE)


@contextmanager
def watched(cluster: Cluster, bound: int, largest: float = 1.0) -> Iterator[Gauge]:
    """Watch a cluster under load.

    Nobody is elected, a client that behaves gets right replies, every node's memory stays within
    ``bound`` MiB more, and when it is over all is as before.

    Args:
        largest: seconds for which any client may wait, on a processor and a disk of its own.
    """
    leader = cluster.leader()
    term = leader.stats()["term"]
    before = [memory(node.pid) for node in cluster.running]
    begun = time.monotonic()
    with Metronome(cluster.folder) as metronome, Gauge(leader.port, leader.pid) as gauge:
        yield gauge
        gauge.stall = metronome.stall(begun)
    check(not gauge.trouble, f"wrong replies: {gauge.trouble[:3]}")
    check(gauge.grown < bound, f"{gauge.grown:.0f} MiB more, {bound} are allowed: {gauge}")
    worst = max(gauge.latencies) / gauge.crowding
    check(worst < largest + gauge.stall, f"a client waited {worst:.2f} s: {gauge}")
    for node, was in zip(cluster.running, before, strict=False):
        grown = (memory(node.pid) - was) / MIB
        check(grown < bound, f"{node.address} holds {grown:.0f} MiB more")
    cluster.wait_equal(READY)
    check(cluster.leader() is leader, f"another leads: {gauge}")
    check(leader.stats()["term"] == term, f"there was an election: {gauge}")
    check(leader.do("PING") == b"PONG", "it does not answer")


def many_connections(cluster: Cluster, scale: Scale) -> str:
    """Thousands of clients, each with a pipeline, answered in order."""
    leader = cluster.leader()
    count = raise_own_limit(scale.connections)
    clients: list[Client] = []
    with watched(cluster, 200) as gauge:
        begun = time.monotonic()
        try:
            for _ in range(count):
                clients.append(Client(leader.port))
            connected = time.monotonic() - begun
            for n, client in enumerate(clients):
                client.send(b"".join(pack(w) for w in (("SET", f"c{n}", n), ("GET", f"c{n}"))))
            for n, client in enumerate(clients):
                check([client.read(), client.read()] == [b"OK", b"%d" % n], f"client {n}")
            answered = time.monotonic() - begun - connected
            held = (memory(leader.pid) - gauge.lowest) / count / 1024
        finally:
            for client in clients:
                client.close()
        until(lambda: connected_clients(leader) < 20, "all are gone")
    return (
        f"{count} connections in {connected:.1f} s, answered in {answered:.1f} s, {held:.1f} KiB "
        f"each\n    {gauge}"
    )


def connected_clients(node: NodeProcess) -> int:
    """Return how many clients a node has."""
    lines = node.do("INFO", "clients").decode().splitlines()
    return int(dict(line.split(":", 1) for line in lines if ":" in line)["connected_clients"])


def silent_clients(cluster: Cluster, scale: Scale) -> str:
    """Clients that send pipelines of reads and writes and read none of the replies."""
    leader = cluster.leader()
    leader.do("SET", "large", b"x" * 100_000)
    data = b"GET large\r\n" * 500 + b"SET a b\r\nGET large\r\nPING\r\n" * 200
    sent = 0
    clients = []
    with watched(cluster, 400) as gauge:
        try:
            for _ in range(scale.silent):
                clients.append(Client(leader.port))
                clients[-1].socket.setblocking(False)
            end = time.monotonic() + scale.seconds
            while time.monotonic() < end:
                for client in clients:
                    try:
                        sent += client.socket.send(data)
                    except BlockingIOError:
                        continue
        finally:
            for client in clients:
                client.close()
    return f"{scale.silent} clients sent {sent / MIB:.0f} MiB and read nothing\n    {gauge}"


def flood(cluster: Cluster, scale: Scale, held: NodeProcess | None = None) -> str:
    """Proposals faster than followers take them; one of these may be stopped for a while."""
    leader = cluster.leader()
    writers = 8
    batch, size = 100, 1000
    rounds = scale.flood * MIB // (writers * batch * size)
    data = [pack(("SET", f"flood{n}", b"v" * size)) + pack(("INCR", "n")) for n in range(batch)]
    wrong: list[str] = []
    highest = [0]

    def write() -> None:
        with Client(leader.port, READY) as client:
            last = 0
            for _ in range(rounds):
                client.send(b"".join(data))
                for _ in range(batch):
                    ok, number = client.read(), client.read()
                    if ok != b"OK" or isinstance(number, ErrorReply) or int(number) <= last:
                        wrong.append(f"{ok!r} {number!r} after {last}")
                        return
                    last = int(number)
            highest[0] = max(highest[0], last)

    begun = time.monotonic()
    with watched(cluster, 250) as gauge:
        if held is not None:
            held.pause()
        run_together(write, writers)
        if held is not None:
            held.resume()
    check(not wrong, f"wrong or out of order: {wrong[:3]}")
    check(highest[0] == writers * rounds * batch, f"{highest[0]} increments")
    leader.do("DEL", "n")
    rate = scale.flood / (time.monotonic() - begun)
    return f"{scale.flood} MiB of proposals, {rate:.0f} MiB/s\n    {gauge}"


def run_together(work: Callable[[], None], count: int) -> None:
    """Run a function in some threads and wait for them."""
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def absent_follower(cluster: Cluster, scale: Scale) -> str:
    """A follower is away while much is written; it comes back by log or by snapshot."""
    leader = cluster.leader()
    follower = cluster.followers()[0]
    follower.stop()
    begun = time.monotonic()
    with watched(cluster, 250) as gauge:
        with Client(leader.port, READY) as client:
            for n in range(scale.absent):
                reply = client.do("SET", f"absent{n % 16}", bytes([65 + n % 26]) * MIB)
                check(reply == b"OK", str(reply))
        written = time.monotonic() - begun
        began = time.monotonic()
        follower.start().wait_ready(READY)
        cluster.wait_equal(READY)
        back = time.monotonic() - began
    return (
        f"{scale.absent} MiB in {written:.1f} s without a follower, which was back and equal "
        f"{back:.1f} s after its start\n    {gauge}"
    )


def large_values(cluster: Cluster, scale: Scale) -> str:
    """Values as large as they may be, one after the other."""
    leader = cluster.leader()
    times = []
    bound = 16 * scale.value
    with watched(cluster, bound, largest=2.0) as gauge, Client(leader.port, READY) as client:
        for n in range(scale.values):
            value = bytes([65 + n]) * (scale.value * MIB)
            begun = time.monotonic()
            check(client.do("SET", "value", value) == b"OK", "SET")
            times.append(time.monotonic() - begun)
            check(client.do("GET", "value") == value, "GET")
        client.do("DEL", "value")
    return f"values of {scale.value} MiB, slowest SET {max(times):.2f} s\n    {gauge}"


def many_arguments(cluster: Cluster, scale: Scale) -> str:
    """Commands of very many words; the next one does not wait."""
    leader = cluster.leader()
    count = scale.arguments
    with watched(cluster, 200) as gauge, Client(leader.port, READY) as client:
        begun = time.monotonic()
        check(client.do("RPUSH", "list", *range(count)) == count, "RPUSH")
        check(len(client.do("LRANGE", "list", 0, -1)) == count, "LRANGE")
        check(client.do("DEL", "list", *range(count)) == 1, "DEL")
        took = time.monotonic() - begun
    return f"three commands of {count} words or replies in {took:.1f} s\n    {gauge}"


SCENARIOS = (
    many_connections, silent_clients, flood, absent_follower, large_values, many_arguments,
)  # fmt: skip
