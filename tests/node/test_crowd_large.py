"""Reads of several clients that take long, or have large replies, keep nobody waiting."""

from __future__ import annotations

from typing import Any

from finn.node import crowd as crowd_module
from finn.options import Consistency
from finn.protocols.crowd import LONGEST
from finn.protocols.replies import FEW, MANY
from finn.resp.commands import UniformCommands
from tests.node.crowds import HIGH, MEDIUM, bulk
from tests.node.test_crowd import CrowdCase


class Large(CrowdCase):
    """Replies that are so large that only a few are made at a time."""

    def start_large(self, level: Consistency) -> list[int]:
        """Return a list that gets how many commands are answered at a time."""
        crowd = self.start(level)
        self.cluster.execute("SET", "kL", b"x" * 300_000)
        self.fill("SET kS v")
        sizes: list[int] = []
        host: Any = crowd.node.host
        execute = host.execute

        def note(*args: Any) -> Any:
            sizes.append(execute(*args))
            return sizes[-1]

        self.patch(host, "execute", note)
        return sizes

    def test_portions(self) -> None:
        """As small as the smallest of the clients': who got a large reply gets few at a time."""
        for level in (MEDIUM, HIGH):
            sizes = self.start_large(level)
            small, large = bulk(b"v"), bulk(b"x" * 300_000)
            self.assertEqual(self.crowd.ask(*["GET kS"] * 6), [small] * 6)
            self.assertEqual(self.crowd.ask(*["GET kL"] * 6), [large] * 6)
            for _ in range(2):
                self.assertEqual(self.crowd.ask(*["GET kL", "GET kS"] * 3), [large, small] * 3)
            self.assertEqual(self.crowd.ask(*["GET kS"] * 6), [small] * 6)
            self.assertEqual(self.crowd.ask(*["GET kS"] * 6), [small] * 6)
            expected = [6, 6, 4, 2, 4, 2, 4, 2, 6]
            if level is MEDIUM:
                # Read at once, so none is made beyond the first that is large enough.
                expected = [6, *[1] * 18, 4, 2, 6]
            self.assertEqual(sizes, expected, level)
            sizes.clear()
            for client in self.crowd.clients[1:]:
                client.protocol.portion = MANY
            self.crowd.clients[0].protocol.portion = FEW
            pieces = ("GET kS;GET kS;GET kS", "GET kS;GET kL", "GET kS;GET kS")
            found = self.crowd.ask(*pieces)
            self.assertEqual(found, [small * 3, small + large, small * 2])
            self.assertEqual(sizes, [3, 2, 2] if level is MEDIUM else [3, 4], level)

    def test_portions_grow_with_a_pipeline(self) -> None:
        """Kilobytes are made more and more at a time, up to a bound; what is larger one by one."""
        sizes = self.start_large(MEDIUM)
        self.cluster.execute("SET", "kM", b"x" * 8192)
        client = self.crowd.clients[0]
        client.protocol.portion = FEW
        for name, count, expected in (
            ("kM", 70, [4, 8, 16, 32, 4, 6]),
            ("kM", 16, [8, 8]),
            ("kM", 16, [16]),
            ("kL", 9, [1] * 9),
        ):
            sizes.clear()
            client.ask(*[f"GET {name}"] * count)
            self.assertEqual(sizes, expected)

    def test_large_replies_behind_small_ones(self) -> None:
        """None is made beyond the first that is large enough, however small the last ones were."""
        sizes = self.start_large(MEDIUM)
        client = self.crowd.clients[0]
        large = bulk(b"x" * 300_000)
        for read, reply in (
            ("GET kL", large),
            ("MGET kL", b"*1\r\n" + large),
            ("GETRANGE kL 0 -1", large),
        ):
            client.protocol.portion = MANY
            sizes.clear()
            found = client.ask(*["GET kS"] * 3, *[read] * 5)
            self.assertEqual(found, bulk(b"v") * 3 + reply * 5)
            self.assertEqual(sizes[-4:], [1] * 4, read)
            self.assertLessEqual(sizes[0], 4, read)
        alike = UniformCommands(b"GET", 1, [b"kS", b"kL", b"kS", b"kL"], 4)
        for commands in (alike, list(alike)):
            replies, done = self.crowd.node.reading.execute(commands, False)
            self.assertEqual((len(replies), done), (2, 2))
            self.assertEqual(replies, [bulk(b"v"), large])

    def test_clients_of_a_crowd_whose_replies_do_not_fit(self) -> None:
        """Each gets the first of its replies at once, and the others behind it."""
        sizes = self.start_large(MEDIUM)
        small, large = bulk(b"v"), bulk(b"x" * 300_000)
        pieces = ["GET kL;GET kL", "GET kS;GET kL;GET kS", "GET kS;GET kS"]
        self.crowd.send(*pieces)
        self.assertEqual(self.crowd.received(3), [large, small + large, small * 2])
        self.assertEqual(self.crowd.taken, [[2, 3, 2]])
        self.assertEqual(sizes, [1, 2, 2])
        self.assertEqual(self.crowd.finish(*pieces), [large * 2, small + large + small, small * 2])
        counts = [client.protocol.commands_count for client in self.crowd.clients]
        self.assertEqual(counts, [3, 4, 3, 1, 1, 1])

    def test_large_replies_of_reads_that_fail(self) -> None:
        """Where one raises they are run one by one, and bounded as well."""
        self.start_large(MEDIUM)
        get = self.crowd.node.host.machine.mget

        def fail_at_times(call: Any, *keys: bytes) -> Any:
            if keys == (b"bad",):
                raise RecursionError
            return get(call, *keys)

        self.patch(self.crowd.node.host.route(b"MGET"), "run", fail_at_times)
        part, done = self.crowd.node.reading.execute(
            [[b"MGET", b"kL"], [b"MGET", b"bad"], [b"MGET", b"kL"], [b"MGET", b"kL"]],
            False,
            None,
            400_000,
        )
        large = b"*1\r\n" + bulk(b"x" * 300_000)
        failed = b"-ERR internal error: RecursionError\r\n"
        self.assertEqual((part, done), ([large, failed, large], 3))
        self.flushLoggedErrors(RecursionError)

    def test_a_client_that_cannot_be_written_to(self) -> None:
        """It alone is dropped, where the replies of a crowd do not fit, too."""
        self.start_large(MEDIUM)
        broken: Any = self.crowd.clients[1]

        def fail(data: bytes) -> None:
            raise OSError("no luck")

        self.patch(broken.transport, "write", fail)
        large = bulk(b"x" * 300_000)
        self.crowd.send(*["GET kL;GET kL"] * 4)
        found = self.crowd.wait(2, 0, 2, 2)
        self.assertEqual(found, [large * 2, b"", large * 2, large * 2])
        closing = [client.protocol.closing for client in self.crowd.clients]
        self.assertEqual(closing, [False, True, False, False, False, False])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_what_does_not_fit_is_not_read_again_and_again(self) -> None:
        """Only the first slice is larger than what fits."""
        self.start_large(MEDIUM)
        host: Any = self.crowd.node.host
        noting, asked = host.execute, []

        def note(*args: Any) -> Any:
            asked.append(len(args[0]))
            return noting(*args)

        self.patch(host, "execute", note)
        for client in self.crowd.clients:
            client.protocol.portion = MANY
        self.crowd.ask(*["GET kL"] * 6)
        self.assertEqual(asked, [6, 1, 1, 1, 1, 1])
        asked.clear()
        client = self.crowd.clients[0]
        client.protocol.portion = MANY
        client.ask(*["GET kM"] * 2, *["GET kL"] * 4, *["GET kS"] * 4)
        self.assertEqual(asked[:2], [10, FEW])

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
            self.assertLess(first.waiting, limit + 40 * 300_000)
            self.assertEqual(self.crowd.factory.owed_bytes, first.waiting)
            first._output.resumeProducing()
            self.assertEqual(self.crowd.finish(piece)[0], bulk(b"x" * 300_000) * 100)
            self.assertLess(max(sizes), 40)

    def test_reads_that_take_long(self) -> None:
        """Who has not had them after some milliseconds gets them in another turn, like anybody."""
        sizes = self.start_large(MEDIUM)
        node: Any = self.crowd.node
        noting, now = node.host.execute, node.now
        took = [0.0]
        self.patch(node, "now", lambda: now() + took[0])

        def execute(*args: Any) -> Any:
            took[0] += 2 * crowd_module.SLICE
            return noting(*args)

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

        def execute(*args: Any) -> Any:
            done = noting(*args)
            for peer in others:  # they may have taken it for a crash: the lease is void
                self.raft.peer_lost(peer, node.now())
            node.wake()
            return done

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
