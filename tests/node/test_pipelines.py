"""Pipelines whose replies are large: what a client can be owed is bounded, and order is kept."""

from __future__ import annotations

from typing import Any

import hiredis
from twisted.trial.unittest import SynchronousTestCase

from finn.options import Consistency
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal

LARGE = 100_000
COUNT = 300


class PipelineTests(SynchronousTestCase):
    """One client asks for 30 MB with a few kilobytes, and does not read."""

    def client(self, **options: Any) -> Client:
        cluster = MemoryCluster(Journal, **options)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "large", b"x" * LARGE)
        self.cluster = cluster
        return Client(cluster, cluster.leader())

    def check(self, client: Client, lines: list[str]) -> list[Any]:
        """Send a pipeline to a client that is full; returns the replies when it reads after all."""
        pipeline: Any = client.protocol
        pipeline._output.pauseProducing()
        most = 0
        client.send(*lines)
        for _ in range(40):
            self.cluster.advance(0.05)
            most = max(most, pipeline.waiting)
        limits = pipeline.factory.limits
        self.assertGreater(most, limits.output_bytes)
        self.assertLess(most, limits.output_bytes + 40 * LARGE)
        self.assertEqual(pipeline.factory.owed_bytes, pipeline.waiting)
        pipeline._output.resumeProducing()
        reader = hiredis.Reader()
        replies: list[Any] = []

        def read() -> bool:
            reader.feed(client.transport.value())
            client.transport.clear()
            while (reply := reader.gets()) is not False:
                replies.append(reply)
            return len(replies) >= len(lines)

        self.cluster.wait_until(read)
        self.assertEqual(pipeline.factory.owed_bytes, 0)
        return replies

    def test_reads(self) -> None:
        """At once, one after the other."""
        client = self.client()
        self.assertEqual(self.check(client, ["TAKE large"] * COUNT), [b"x" * LARGE] * COUNT)

    def test_reads_that_wait(self) -> None:
        """Each for a round among the members."""
        client = self.client(consistency=Consistency.HIGH)
        self.assertEqual(self.check(client, ["TAKE large"] * COUNT), [b"x" * LARGE] * COUNT)

    def test_reads_behind_a_write(self) -> None:
        """The write is in the same pipeline."""
        replies = self.check(self.client(), ["PUT a b"] + ["TAKE large"] * COUNT)
        self.assertEqual(replies, [b"OK"] + [b"x" * LARGE] * COUNT)

    def test_mixture(self) -> None:
        """Of reads, writes, commands of the node and mistakes."""
        lines: list[str] = []
        expected: list[Any] = []
        for n in range(COUNT // 4):
            lines += [f"PUT n {n}", "TAKE large", "TAKE n", f"ECHO {n}", "TAKE", "TAKE large"]
            value = b"%d" % n
            expected += [b"OK", b"x" * LARGE, value, value, None, b"x" * LARGE]
        replies = self.check(self.client(), lines)
        for n in range(4, len(replies), 6):
            self.assertIn("wrong number of arguments", str(replies[n]))
            replies[n] = None
        self.assertEqual(replies, expected)

    def test_commands_are_counted_once(self) -> None:
        """However often they were given back."""
        client = self.client()
        dispatch = self.cluster.nodes[self.cluster.leader()].dispatch
        before = dispatch.commands_total
        self.check(client, ["TAKE large"] * COUNT)
        self.assertEqual(dispatch.commands_total - before, COUNT)

    def test_all_clients_together(self) -> None:
        """Beyond what all may be owed, whoever is owed most is dropped; the others are served."""
        client = self.client()
        cluster = self.cluster
        factory = cluster.nodes[cluster.leader()].server
        factory.limits.owed_bytes = 3 * factory.limits.output_bytes
        dropped: list[Any] = []
        clients = [Client(cluster, cluster.leader()) for _ in range(8)]
        for one in clients:
            one.transport.abortConnection = (  # type: ignore[attr-defined,method-assign]
                lambda one=one: dropped.append(one)  # type: ignore[misc]
            )
            one.protocol._output.pauseProducing()
            one.send(*["TAKE large"] * COUNT)
        cluster.advance(1)
        self.assertTrue(0 < len(dropped) < len(clients))
        self.assertLessEqual(factory.owed_bytes, factory.limits.owed_bytes)
        self.assertEqual(client.ask("ECHO a"), b"$1\r\na\r\n")
