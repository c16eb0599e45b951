"""The cluster client while nodes fail: what it says of each request is true."""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from finn.client import ClusterClient
from finn.errors import DeadlinePassed, OutcomeUnknown
from finn.machines.kv import KV
from finn.testing.cluster import MemoryCluster

SEEDS = int(os.environ.get("FINN_SEEDS", "3"))
"""Runs; more of them look longer."""

FIRST = 5
"""The first seed: one in which outcomes are unknown, too."""

WORKERS = 6
ROUNDS = 12
THINKING = 0.2  # seconds that a worker waits between requests, at most


class Run:
    """One cluster, some workers that count up, and somebody who breaks things."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cluster = MemoryCluster(KV, size=3, seed=seed)
        self.reactor: Any = self.cluster.world.reactor("10.0.0.100")
        self.client: Any = None
        self.numbers: list[int] = []
        self.ends: Counter[str] = Counter()
        self.stopping = False

    async def work(self) -> None:
        """Count up, alone and in transactions, and read, until told to stop."""
        while not self.stopping:
            await deferLater(self.reactor, self.random.uniform(0.0, THINKING))
            try:
                chance = self.random.random()
                if chance < 0.3:
                    await self.client.execute("GET", "n", timeout=2.0)
                elif chance < 0.6:
                    replies = await self.client.transaction(
                        [("INCR", "n"), ("SET", "k", "v")], timeout=2.0
                    )
                    self.count(replies[0])
                else:
                    self.count(await self.client.execute("INCR", "n", timeout=2.0))
            except OutcomeUnknown:
                self.ends["unknown"] += 1
            except DeadlinePassed:
                self.ends["not applied"] += 1

    def count(self, number: int) -> None:
        self.ends["applied"] += 1
        self.numbers.append(number)

    def break_something(self) -> None:
        """Crash, pause, cut off or depose; what was broken before is mended."""
        cluster = self.cluster
        cluster.heal()
        for member, computer in enumerate(cluster.computers):
            computer.resume()
            if not computer.running:
                cluster.restart(member)
        cluster.advance(self.random.uniform(0.2, 3.0))
        member = self.random.randrange(3)
        kind = self.random.choice(("crash", "pause", "cut", "transfer", "leader", "reset"))
        if kind == "crash":
            cluster.crash(member)
        elif kind == "leader":
            cluster.crash(cluster.leader())
        elif kind == "pause":
            cluster.pause(member)
        elif kind == "cut":
            cluster.partition([member])
        elif kind == "reset":
            cluster.world.network.reset_connections("10.0.0.100", cluster.computers[member].host)
        else:
            Deferred.fromCoroutine(self.client.execute("RAFTTRANSFER", timeout=1.0)).addErrback(
                lambda failure: None
            )
        cluster.advance(self.random.uniform(0.0, 3.0))

    def run(self) -> bytes:
        """Do it all, and return the number that was reached."""
        cluster = self.cluster
        cluster.start()
        addresses = [node.options.address for node in cluster.nodes]
        self.client = ClusterClient(self.reactor, addresses)
        workers = [Deferred.fromCoroutine(self.work()) for _ in range(WORKERS)]
        for _ in range(ROUNDS):
            self.break_something()
        self.stopping = True
        cluster.heal()
        for member, computer in enumerate(cluster.computers):
            computer.resume()
            if not computer.running:
                cluster.restart(member)
        for worker in workers:
            cluster.result(worker)
        reached: bytes = cluster.result(Deferred.fromCoroutine(self.client.execute("GET", "n")))
        self.client.close()
        return reached


class FaultTests(SynchronousTestCase):
    """Some seeds; each is a run of its own."""

    def test_outcomes_are_true(self) -> None:
        """Applied once what was acknowledged, at most once what is unknown, and nothing else."""
        total: Counter[str] = Counter()
        for seed in range(FIRST, FIRST + SEEDS):
            run = Run(seed)
            self.addCleanup(run.cluster.close)
            reached = int(run.run())
            applied, unknown = run.ends["applied"], run.ends["unknown"]
            shown = f"seed {seed}: {dict(run.ends)}, reached {reached}"
            self.assertEqual(len(set(run.numbers)), applied, shown)
            self.assertTrue(applied <= reached <= applied + unknown, shown)
            self.assertGreater(applied, 100, shown)
            total += run.ends
        # The runs were hard enough.
        self.assertGreater(total["unknown"], 0, total)
