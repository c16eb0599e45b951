"""Reads of several clients that take long, or have large replies, keep nobody waiting."""

from __future__ import annotations

from typing import Any

from finn.node import crowd as crowd_module
from finn.options import Consistency
from finn.protocols.crowd import LONGEST
from finn.protocols.replies import FEW, MANY
from tests.node.crowds import HIGH, MEDIUM, bulk
from tests.node.test_crowd import CrowdCase


class Large(CrowdCase):
    """Replies that are so large that only a few are made at a time."""

    def start_large(self, level: Consistency) -> list[int]:
        """Return a list that gets how many commands are run at a time."""
        crowd = self.start(level)
        self.cluster.execute("SET", "kL", b"x" * 100_000)
        self.fill("SET kS v")
        sizes: list[int] = []
        host: Any = crowd.node.host
        execute = host.execute

        def note(commands: Any, *rest: Any) -> None:
            sizes.append(len(commands))
            execute(commands, *rest)

        self.patch(host, "execute", note)
        return sizes

    def test_portions(self) -> None:
        """As small as the smallest of the clients': who got a large reply gets few at a time."""
        for level in (MEDIUM, HIGH):
            sizes = self.start_large(level)
            small, large = bulk(b"v"), bulk(b"x" * 100_000)
            self.assertEqual(self.crowd.ask(*["GET kS"] * 6), [small] * 6)
            self.assertEqual(self.crowd.ask(*["GET kL"] * 6), [large] * 6)
            for _ in range(2):
                self.assertEqual(self.crowd.ask(*["GET kL", "GET kS"] * 3), [large, small] * 3)
            self.assertEqual(self.crowd.ask(*["GET kS"] * 6), [small] * 6)
            self.assertEqual(self.crowd.ask(*["GET kS"] * 6), [small] * 6)
            self.assertEqual(sizes, [6, 6, 4, 2, 4, 2, 4, 2, 6], level)
            sizes.clear()
            for client in self.crowd.clients[1:]:
                client.protocol.portion = MANY
            self.crowd.clients[0].protocol.portion = FEW
            pieces = ("GET kS;GET kS;GET kS", "GET kS;GET kL", "GET kS;GET kS")
            found = self.crowd.ask(*pieces)
            self.assertEqual(found, [small * 3, small + large, small * 2])
            self.assertEqual(sizes, [3, 4], level)

    def test_portions_grow_with_a_pipeline(self) -> None:
        """Kilobytes are made more and more at a time, up to a bound; megabytes few."""
        sizes = self.start_large(MEDIUM)
        self.cluster.execute("SET", "kM", b"x" * 8192)
        client = self.crowd.clients[0]
        client.protocol.portion = FEW
        for name, count, expected in (
            ("kM", 70, [4, 8, 16, 31, 4, 7]),
            ("kM", 16, [4, 8, 4]),
            ("kL", 9, [4, 4, 1]),
        ):
            sizes.clear()
            client.ask(*[f"GET {name}"] * count)
            self.assertEqual(sizes, expected)

    def test_a_portion_has_a_bound(self) -> None:
        """However small the replies are."""
        sizes = self.start_large(MEDIUM)
        piece = ";".join(["GET kS"] * 10)
        for _ in range(4):
            self.assertEqual(self.crowd.ask(*[piece] * 6), [bulk(b"v") * 10] * 6)
        self.assertLessEqual(max(sizes), MANY)
        self.assertEqual(sizes[-3:], [30, 30, 60])

    def test_few_at_a_time(self) -> None:
        """Who got a large reply and asks for many more is on his own, and so is a long pipeline."""
        sizes = self.start_large(MEDIUM)
        self.crowd.clients[0].ask("GET kL", replies=1)
        sizes.clear()
        piece = ";".join(["GET kS"] * 6)
        self.crowd.send(*[piece] * 4)
        self.assertEqual((sizes[:2], self.crowd.taken), ([4, 2], [[6, 6, 6]]))
        for client in self.crowd.clients:
            client.protocol.portion = MANY
        self.crowd.send(*[";".join(["GET kS"] * (LONGEST + 1))] * 4)
        self.assertEqual(self.crowd.taken, [[6, 6, 6]])

    def test_a_client_that_asks_for_much(self) -> None:
        """It is owed no more than if it was alone, and gets all when it reads."""
        for level in (MEDIUM, HIGH):
            sizes = self.start_large(level)
            piece = ";".join(["GET kL"] * 100)
            first: Any = self.crowd.clients[0].protocol
            first._output.pauseProducing()
            self.crowd.send(piece, "GET kL", "GET kS")
            self.cluster.advance(0.5)
            self.assertEqual(self.crowd.received(3)[2], bulk(b"v"))
            limit = self.crowd.factory.limits.output_bytes
            self.assertLess(first.waiting, limit + 40 * 100_000)
            self.assertEqual(self.crowd.factory.owed_bytes, first.waiting)
            first._output.resumeProducing()
            self.assertEqual(self.crowd.finish(piece)[0], bulk(b"x" * 100_000) * 100)
            self.assertLess(max(sizes), 40)

    def test_reads_that_take_long(self) -> None:
        """Who has not had them after some milliseconds gets them in another turn, like anybody."""
        sizes = self.start_large(MEDIUM)
        node: Any = self.crowd.node
        noting, now = node.host.execute, node.now
        took = [0.0]
        self.patch(node, "now", lambda: now() + took[0])

        def execute(*args: Any) -> None:
            took[0] += 2 * crowd_module.SLICE
            noting(*args)

        self.patch(node.host, "execute", execute)
        piece = "GET kS;GET kS"
        self.crowd.send(*[piece] * 6)
        self.assertEqual(sizes, [8])
        self.assertEqual(self.crowd.received(6), [bulk(b"v") * 2] * 4 + [b""] * 2)
        self.assertEqual(self.crowd.finish(*[piece] * 6), [bulk(b"v") * 2] * 6)
        self.assertEqual([c.protocol.commands_count for c in self.crowd.clients], [3] * 6)

    def test_a_lease_that_ends_meanwhile(self) -> None:
        """What was not read before waits for a majority, which there is none: nothing is stale."""
        sizes = self.start_large(MEDIUM)
        node: Any = self.crowd.node
        noting = node.host.execute
        others = [peer for peer in self.raft.configuration.voters if peer != self.raft.node_id]

        def execute(*args: Any) -> None:
            noting(*args)
            for peer in others:  # they may have taken it for a crash: the lease is void
                self.raft.peer_lost(peer, node.now())
            node.wake()

        self.patch(node.host, "execute", execute)
        for pieces, expected in ((["GET kS;GET kS"] * 6, 8), (["GET kS;" * 19 + "GET kS"], 16)):
            self.cluster.heal()
            for peer in others:
                self.raft.peer_connected(peer, node.now())
            node.wake()
            self.cluster.wait_until(lambda: self.raft.lease_valid(node.now()), 0.5)
            sizes.clear()
            self.crowd.gather(*pieces)
            self.cluster.partition([self.leader])
            self.crowd.end()
            self.assertEqual(sizes, [expected])
            self.assertEqual(self.raft.lease_until(), 0.0)
