"""However many commands come together: the same replies and the same state everywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.machines.shards import SHARDS
from finn.node import snapshotting
from finn.node.host import Host
from finn.resp.commands import UniformCommands
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

KEYS = [b"key:%03d" % i for i in range(60)]

Commands = list[list[bytes]]


def draw(source: random.Random, count: int) -> Commands:
    """Draw a pipeline of one command, or one of several."""
    kind = source.random()
    value = source.choice((b"one", b"other"))
    if kind < 0.6:
        return [[b"SET", source.choice(KEYS), value] for _ in range(count)]
    if kind < 0.75:
        lifetime = b"%d" % source.choice((1, 10, 400, 3000))
        return [[b"SET", source.choice(KEYS), value, b"PX", lifetime] for _ in range(count)]
    if kind < 0.8:
        return [[b"FLUSHALL"]]
    others: list[list[bytes]] = [[b"SADD", b"", value], [b"DEL", b""], [b"PEXPIRE", b"", b"900"]]
    commands = [list(source.choice(others)) for _ in range(count)]
    for command in commands:
        command[1] = source.choice(KEYS)
    return commands


def together(commands: Commands) -> Any:
    """Return commands as the reader does when they are alike."""
    name, width = commands[0][0], len(commands[0]) - 1
    if any(c[0] != name or len(c) != width + 1 for c in commands):
        return commands
    arguments = [argument for command in commands for argument in command[1:]]
    return UniformCommands(name, width, arguments, len(commands))


def contents(machine: Any, now: int) -> dict[bytes, Any]:
    """Return the live keys with their values and deadlines."""
    found = {}
    for number in range(SHARDS):
        for key in machine.live_keys(now, number):
            value = machine.look(now, key)
            value = value if isinstance(value, bytes) else sorted(value)
            found[key] = (value, machine.deadline_of(key))
    return found


class Nowhere:
    """A snapshot that nobody keeps."""

    def write(self, data: bytes) -> None:
        """Forget it."""


class HostTests(SynchronousTestCase):
    """One history on three machines: one by one, together, and in random parts."""

    def test_equal(self) -> None:
        """Snapshots begin, go on and end meanwhile, on each at other places."""
        for seed in range(40):
            source = random.Random(seed)
            hosts = [Host(KV(), self.fail) for _ in range(3)]
            writing: list[tuple[Host, Iterator[None]]] = []
            now = 1000
            for _ in range(40):
                now += source.choice((0, 1, 5, 300, 1100, 5000))
                writes = draw(source, source.randrange(1, 60))
                reads = [[b"GET", source.choice(KEYS)] for _ in range(20)]
                for commands in (writes, reads, [[b"DBSIZE"]]):
                    replies = [self.run_on(host, way, commands, now, source)
                               for way, host in enumerate(hosts)]  # fmt: skip
                    self.assertEqual(replies[1:], replies[:1] * 2, (seed, commands))
                if source.random() < 0.3:
                    host = source.choice(hosts)
                    writing.append((host, host.snapshot(Nowhere())))  # type: ignore[arg-type]
                for one in list(writing):
                    if any(next(one[1], "end") == "end" for _ in range(source.randrange(30))):
                        writing.remove(one)
            found = [contents(host.machine, now) for host in hosts]
            self.assertEqual(found[1:], found[:1] * 2, seed)

    def run_on(
        self, host: Host, way: int, commands: Commands, now: int, source: random.Random
    ) -> bytes:
        call = host.call(now, 7)
        replies: list[bytes] = []
        at = 0
        while at < len(commands):
            size = len(commands) if way < 2 else source.randrange(1, 30)
            part = commands[at : at + size]
            alike = way == 1 or (way == 2 and source.random() < 0.7)
            host.execute(together(part) if alike else part, call, at, replies, False)
            at += size
        return b"".join(replies)


class ClusterTests(SynchronousTestCase):
    """Three nodes under pipelines, crashes, cuts and partitions, with snapshots in many slices."""

    def test_equal(self) -> None:
        """When all is over."""
        self.patch(snapshotting, "WRITE_SLICE", -1.0)
        parts = 0
        for seed in range(4):
            source = random.Random(seed)
            cluster = MemoryCluster(
                KV, seed=seed, snapshot_bytes=source.choice((20_000, 200_000)), trailing_bytes=1000
            )
            self.addCleanup(cluster.close)
            cluster.start()
            down: int | None = None
            for _ in range(40):
                client = Client(cluster, cluster.leader())
                member = source.choice([m for m in range(3) if m != down])
                cluster.nodes[member].snapshots.take().addErrback(lambda _: None)
                for _ in range(source.randrange(1, 5)):
                    commands = draw(source, source.choice((5, 20, 40, 300, 600)))
                    if source.random() < 0.1:
                        commands = [[b"MULTI"], *commands, [b"EXEC"]]
                    data = b"".join(map(pack_command, commands))
                    while data:
                        size = source.choice((300, 5000, 100_000))
                        client.protocol.dataReceived(data[:size])
                        data = data[size:]
                    if source.random() < 0.5:
                        cluster.advance(source.choice((0.0005, 0.01, 0.1, 1)))
                    parts += cluster.nodes[member].snapshots.in_progress
                fault = source.random()
                if fault < 0.12 and down is None:
                    down = source.randrange(3)
                    source.choice((cluster.crash, cluster.cut_power, cluster.stop))(down)
                    cluster.advance(source.choice((0.001, 1, 4)))
                elif fault < 0.3 and down is not None:
                    cluster.restart(down)
                    down = None
                elif fault < 0.4:
                    cluster.partition([source.randrange(3)])
                    cluster.advance(source.choice((0.5, 5)))
                    cluster.heal()
            if down is not None:
                cluster.restart(down)
            cluster.advance(15)
            cluster.wait_until(cluster.settled)
            cluster.execute("SET", "last", "1")
            cluster.advance(2)
            now = max(node.applying.last_time for node in cluster.nodes)
            found = [contents(cluster.machine(member), now) for member in range(3)]
            self.assertEqual(found[1:], found[:1] * 2, seed)
        self.assertGreater(parts, 0)  # commands came while snapshots were being written
