"""Tests for finn.collector."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn import collector
from finn.collector import THRESHOLDS, Collector
from finn.machines.kv import KV
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client


class CollectorTests(SynchronousTestCase):
    """What survives a long collection is not looked at again."""

    def setUp(self) -> None:
        self.thresholds = gc.get_threshold()
        self.collector = Collector()
        self.collector.start()
        self.addCleanup(gc.unfreeze)
        self.addCleanup(self.collector.stop)

    def test_the_thresholds(self) -> None:
        """They are those of before in the end."""
        self.assertEqual(gc.get_threshold(), THRESHOLDS)
        gc.collect()
        self.assertGreater(gc.get_freeze_count(), 0)
        self.collector.stop()
        self.collector.stop()
        self.assertEqual(gc.get_freeze_count(), 0)
        self.assertEqual(gc.get_threshold(), self.thresholds)

    def test_a_long_collection_is_the_last_of_its_kind(self) -> None:
        """Of what survived it; what comes later is collected."""
        self.patch(collector, "LONG", 0.0)
        kept = [[n] for n in range(1000)]
        gc.collect()
        kept += [[n] for n in range(1000)]
        gc.collect()
        self.assertGreater(gc.get_freeze_count(), len(kept))
        self.patch(collector, "LONG", 3600.0)

        class Node:
            pass

        cycle: Any = Node()
        cycle.itself = cycle
        gone = weakref.ref(cycle)
        del cycle
        gc.collect()
        self.assertIs(gone(), None)

    def test_what_has_doubled_is_looked_at_again(self) -> None:
        """Garbage with cycles that was frozen does not stay for ever."""
        calls: list[str] = []
        counts = iter((100, 150, 201, 120, 240))
        stub = SimpleNamespace(
            freeze=lambda: calls.append("freeze"),
            unfreeze=lambda: calls.append("unfreeze"),
            get_freeze_count=lambda: next(counts),
        )
        self.patch(collector, "gc", stub)
        watching = Collector()
        expected = (["freeze"], ["freeze"], ["freeze", "unfreeze"], ["freeze"], ["freeze"])
        for limit, wanted in zip((3600.0, 0.0, 0.0, 3600.0, 0.0), expected, strict=True):
            self.patch(collector, "LONG", limit)
            watching._collects("start", {"generation": 2})
            watching._collects("stop", {"generation": 2})
            self.assertEqual(calls, wanted)
            calls.clear()

    def test_short_collections_change_nothing(self) -> None:
        """Nor do those of younger generations."""
        gc.collect()  # the first looks at everything
        self.patch(collector, "LONG", 3600.0)
        before = gc.get_freeze_count()
        gc.collect()
        self.patch(collector, "LONG", 0.0)
        gc.collect(1)
        self.assertEqual(gc.get_freeze_count(), before)

    def test_a_lost_client_is_freed_without_it(self) -> None:
        """Otherwise clients that were connected in a long collection would stay for ever."""
        cluster = MemoryCluster(KV, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        gc.disable()
        self.addCleanup(gc.enable)
        for last in ("QUIT", "GET a"):
            client = Client(cluster, 0)
            client.ask("SET a b")
            client.ask(last)
            gone = weakref.ref(client.protocol)
            if client.transport.producer is not None:
                client.transport.producer.stopProducing()  # as a transport does that is lost
            client.protocol.connectionLost(Failure(ConnectionDone()))
            del client
            cluster.advance(1)
            self.assertIs(gone(), None)
