"""Whatever is sent, and whatever happens: a crowd gets what its clients would get alone."""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.protocols import crowd as gathering
from finn.testing.cluster import MemoryCluster
from tests.node.crowds import HIGH, LOW, MEDIUM, Crowd
from tests.node.support import Client
from tests.node.test_grouping import contents


class Equal(SynchronousTestCase):
    """Six clients with keys of their own, on two nodes: in crowds, and one by one."""

    def draw(self, source: random.Random, seed: int) -> list[str]:
        """Draw a piece for each client, most of them alike."""
        size = source.choice((1, 1, 2, 4))
        templates = (
            "GET {k}", "SET {k} {v}", "INCR {k}", "DEL {k}", "LPUSH {k} {v}", "LRANGE {k} 0 -1",
            "SET {k} {v} GET", "PING", "SADD {k} {v}", "LLEN {k}", "GET", "NOPE {k}",
        )  # fmt: skip
        common = source.choice(templates[:8])
        value = source.choice(("1", "22", "x" * 500))
        pieces = []
        for client in range(6):
            alike = source.random() < 0.8
            commands = []
            for _ in range(size if source.random() < 0.7 else 3):
                template = common if alike else source.choice(templates)
                key = f"{seed:02}:{client}:{source.randrange(3)}"
                commands.append(template.format(k=key, v=value))
            pieces.append(";".join(commands))
        return pieces

    def test_equal(self) -> None:
        """Every reply, and the state."""
        self.patch(gathering, "SAMPLE", 1)
        clusters = [MemoryCluster(KV, size=1) for _ in range(2)]
        for cluster in clusters:
            self.addCleanup(cluster.close)
            cluster.start()
        one, twin = (Crowd(cluster, 0) for cluster in clusters)
        for seed in range(40):
            source = random.Random(seed)
            level = source.choice((LOW, MEDIUM, HIGH))
            one.node.options.consistency = twin.node.options.consistency = level
            one.tell(f"HELLO {2 + seed % 2}")
            twin.tell(f"HELLO {2 + seed % 2}")
            for _ in range(8):
                pieces = self.draw(source, seed)
                one.gather(*pieces, learn=False)
                one.end()
                self.assertEqual(one.finish(*pieces), twin.alone(*pieces), (seed, pieces))
        found = [contents(c.node.host.machine, c.node.applying.last_time) for c in (one, twin)]
        self.assertEqual(found[0], found[1])
        self.assertGreater(len(one.taken), 100)
        self.assertEqual(twin.taken, [])


class Faults(SynchronousTestCase):
    """Crowds on all of three nodes, which are partitioned and deposed meanwhile."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(KV, consistency=HIGH)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.crowds = [Crowd(self.cluster, member, 4) for member in range(3)]
        self.applied: dict[Any, int] = {}  # by client: increments that were answered
        self.unknown: dict[Any, int] = {}
        self.sent: dict[Any, list[str]] = {}

    def send(self, crowd: Crowd, source: random.Random, number: int) -> None:
        """Let every client count its own key, or read it."""
        pieces = []
        for at, client in enumerate(crowd.clients):
            name = source.choice(("INCR", "INCR", "GET"))
            count = source.choice((1, 1, 3))
            pieces.append(";".join([f"{name} {number}:{at}"] * count))
            self.sent[client] = [name] * count
        crowd.gather(*pieces)
        crowd.end()

    def check(self, client: Client) -> None:
        """Every command has one reply, which is true."""
        names = self.sent[client]
        replies = client.received.split(b"\r\n")[:-1]
        if names[0] == "GET":  # a value has two lines
            replies = [line for line in replies if not line.startswith(b"$") or line == b"$-1"]
        self.assertEqual(len(replies), len(names), client.received)
        for name, reply in zip(names, replies, strict=True):
            applied, unknown = self.applied.get(client, 0), self.unknown.get(client, 0)
            if reply.startswith(b"-UNKNOWN"):
                self.assertEqual(name, "INCR")
                self.unknown[client] = unknown + 1
            elif not reply.startswith(b"-"):
                value = 0 if reply == b"$-1" else int(reply.lstrip(b":"))
                least = applied + (name == "INCR")
                self.assertTrue(least <= value <= least + unknown, (name, reply, least, unknown))
                self.applied[client], self.unknown[client] = value, unknown - (value - least)

    def test_every_command_gets_one_true_reply(self) -> None:
        """Reads see what was answered before, and what failed for certain is not applied."""
        source = random.Random(1)
        for _ in range(60):
            for number, crowd in enumerate(self.crowds):
                self.send(crowd, source, number)
            fault = source.random()
            if fault < 0.3:
                self.cluster.advance(source.choice((0, 0.001, 0.003)))
                self.cluster.partition([source.randrange(3)])
            elif fault < 0.5:
                node = self.crowds[source.randrange(3)].node
                node.raft.step_down(node.raft.now, "the test wants it")  # type: ignore[union-attr]
                node.wake()
            self.cluster.advance(source.choice((0.5, 3)))
            self.cluster.heal()
            self.cluster.advance(6)
            for crowd in self.crowds:
                for client in crowd.clients:
                    self.check(client)
        self.assertGreater(sum(self.applied.values()), 100)
        self.assertGreater(sum(len(crowd.taken) for crowd in self.crowds), 20)
