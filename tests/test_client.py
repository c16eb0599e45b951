"""The cluster client, against whole clusters in memory."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from finn.client import ClusterClient
from finn.errors import CommandError, DeadlinePassed, NotApplied, OutcomeUnknown
from finn.finding import STALL
from finn.machines.kv import KV
from finn.options import Consistency
from finn.testing.cluster import PORT, MemoryCluster

NOBODY = f"10.0.0.200:{PORT}"
"""An address at which no computer is: connections are not even refused."""


class Silent(Protocol):
    """Takes everything and answers nothing."""

    def dataReceived(self, data: bytes) -> None:
        """Note that something came."""
        self.factory.received += data  # type: ignore[attr-defined,union-attr]


class ClientTestCase(SynchronousTestCase):
    """A cluster and a client on a computer of its own."""

    size = 3
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.cluster = MemoryCluster(KV, size=self.size, **self.options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.reactor: Any = self.cluster.world.reactor("10.0.0.100")
        self.addCleanup(self.reactor.die, False)

    def address(self, member: int) -> str:
        return self.cluster.nodes[member].options.address

    def client(self, *members: int, addresses: list[str] | None = None, **options: Any) -> Any:
        """Return a client that is told of some members."""
        given = addresses or [self.address(m) for m in (members or range(self.size))]
        client = ClusterClient(self.reactor, given, **options)
        self.addCleanup(client.close)
        return client

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Begin something."""
        return Deferred.fromCoroutine(coroutine)

    def run_(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Do something and let time pass until it is done."""
        return self.cluster.result(self.start(coroutine))

    def elapsed(self, coroutine: Coroutine[Any, Any, Any], error: type[Exception]) -> float:
        """Return how long something took that fails."""
        before = self.cluster.world.now
        with self.assertRaises(error):
            self.run_(coroutine)
        return self.cluster.world.now - before

    @property
    def followers(self) -> list[int]:
        leader = self.cluster.leader()
        return [n for n in range(self.size) if n != leader]


class FindingTests(ClientTestCase):
    """It finds the leader."""

    def test_from_any_address(self) -> None:
        """One address, of whichever member, is enough."""
        for member in range(3):
            client = self.client(member)
            self.assertEqual(self.run_(client.execute("SET", "k", member)), b"OK")
            self.assertEqual(self.run_(client.execute(b"GET", b"k")), b"%d" % member)
            self.assertEqual(self.run_(client.execute("RAFTSTATE")), b"Leader")

    def test_addresses_where_nobody_is(self) -> None:
        """Members that are down, and addresses of nobody, are passed over."""
        self.cluster.crash(self.followers[0])
        down = [c.options.address for c in self.cluster.computers if not c.running]
        client = self.client(
            addresses=[NOBODY, *down, "10.0.0.1:1", self.address(self.cluster.leader())]
        )
        self.assertEqual(self.run_(client.execute("SET", "k", "v")), b"OK")

    def test_others_are_learned(self) -> None:
        """The only address given may go down: the others are known by then."""
        client = self.client(self.cluster.leader())
        self.run_(client.execute("PING"))
        self.cluster.crash(self.cluster.leader())
        self.cluster.advance(0.05)
        self.assertEqual(self.run_(client.execute("SET", "k", "v")), b"OK")

    def test_a_new_leader_after_a_crash(self) -> None:
        """Reads and writes go on after the leader crashed; no OutcomeUnknown when none was sent."""
        client = self.client()
        for count in range(1, 4):
            self.assertEqual(self.run_(client.execute("INCR", "n")), count)
            leader = self.cluster.leader()
            self.cluster.crash(leader)
            self.cluster.advance(0.05)
            self.assertEqual(self.run_(client.execute("GET", "n")), b"%d" % count)
            self.cluster.restart(leader)
            self.cluster.wait_until(self.cluster.settled)

    def test_a_transfer_is_followed(self) -> None:
        """A leader that handed over says TRY: the client goes there, with many requests at once."""
        client = self.client()
        self.run_(client.execute("SET", "n", "0"))
        target = self.followers[0]
        self.run_(client.execute("RAFTTRANSFER", self.address(target)))
        self.cluster.wait_until(lambda: self.cluster.leader() == target)
        results = [self.start(client.execute("INCR", "n")) for _ in range(100)]
        self.assertEqual(sorted(self.cluster.result(d) for d in results), list(range(1, 101)))

    def test_reads_need_the_leader_at_low_too(self) -> None:
        """At consistency low it still asks the leader: nobody is served stale data unasked."""
        cluster = MemoryCluster(KV, size=3, consistency=Consistency.LOW)
        self.addCleanup(cluster.close)
        cluster.start()
        follower = (cluster.leader() + 1) % 3
        client = ClusterClient(
            cluster.world.reactor("10.0.0.100"), [cluster.nodes[follower].options.address]
        )
        state = cluster.result(Deferred.fromCoroutine(client.execute("RAFTSTATE")))
        self.assertEqual(state, b"Leader")
        client.close()


class OutcomeTests(ClientTestCase):
    """It tells the truth about what became of a request."""

    def test_wrong_arguments(self) -> None:
        """They are refused by the rules of a node, before anything is sent."""
        client = self.client()
        self.run_(client.execute("SET", "k", 1.5))
        for timeout in (float("nan"), -1, "1", b"1"):
            coroutine = client.execute("SET", "k", "v", timeout=timeout)
            self.failureResultOf(self.start(coroutine), ValueError)
            with self.assertRaisesRegex(ValueError, "a timeout of .* seconds"):
                self.client(timeout=timeout)
        for word in (None, bytearray(b"v"), "\udcff", b"v" * (64 << 20)):
            self.failureResultOf(self.start(client.execute("SET", "k", word)), ValueError)
            coroutine = client.transaction([("GET", "k"), ("SET", "k", word)])
            self.failureResultOf(self.start(coroutine), ValueError)
        self.assertEqual(self.run_(client.execute("GET", "k", timeout=float("inf"))), b"1.5")

    def test_deadline_without_a_leader(self) -> None:
        """Without a leader a request ends at its deadline, and is certainly not applied."""
        for member in self.followers:
            self.cluster.crash(member)
        alone = self.cluster.nodes[[c.running for c in self.cluster.computers].index(True)]
        self.cluster.wait_until(
            lambda: alone.raft is not None and alone.raft.leader_address is None
        )
        client = self.client()
        for timeout in (0.05, 3.0):
            took = self.elapsed(client.execute("SET", "k", "v", timeout=timeout), DeadlinePassed)
            self.assertLess(abs(took - timeout), 0.02)

    def test_deadline_where_nobody_answers(self) -> None:
        """An address that swallows connections does not stretch the deadline."""
        client = self.client(addresses=[NOBODY])
        took = self.elapsed(client.execute("GET", "k", timeout=0.3), DeadlinePassed)
        self.assertLess(abs(took - 0.3), 0.02)

    def test_a_lost_write_is_unknown(self) -> None:
        """A write whose connection is lost has an unknown outcome, and is not sent again."""
        client = self.client()
        self.run_(client.execute("SET", "n", "0"))
        leader = self.cluster.leader()
        # It reaches the log of a leader that cannot commit it any more.
        self.cluster.partition([leader], self.followers)
        self.cluster.world.network.mend("10.0.0.100", self.cluster.computers[leader].host)
        self.cluster.world.network.mend(self.cluster.computers[leader].host, "10.0.0.100")
        write = self.start(client.execute("INCR", "n"))
        self.cluster.advance(0.05)
        self.cluster.crash(leader)
        with self.assertRaises(OutcomeUnknown):
            self.cluster.result(write)
        self.cluster.heal()
        # What it wrote may still reach the others; twice it cannot.
        self.assertIn(self.run_(client.execute("GET", "n")), (b"0", b"1"))

    def test_a_lost_read_is_sent_again(self) -> None:
        """A read whose connection is lost goes to the next leader."""
        client = self.client()
        self.run_(client.execute("SET", "k", "v"))
        leader = self.cluster.leader()
        self.cluster.pause(leader)
        read = self.start(client.execute("GET", "k"))
        self.cluster.advance(0.05)
        self.cluster.crash(leader)
        self.assertEqual(self.cluster.result(read), b"v")

    def test_unknown_replies(self) -> None:
        """A leader that lost sight of a write says UNKNOWN: its own exception."""
        client = self.client()
        self.run_(client.execute("SET", "k", "v"))
        for follower in self.followers:
            self.cluster.pause(follower)
        with self.assertRaises(OutcomeUnknown) as raised:
            self.run_(client.execute("SET", "k", "w", timeout=60))
        self.assertEqual(str(raised.exception).count("UNKNOWN"), 1)
        for computer in self.cluster.computers:
            computer.resume()
        self.assertEqual(self.run_(client.execute("EXISTS", "k")), 1)

    def test_a_silent_leader(self) -> None:
        """Where no reply comes a write is unknown at its deadline; reads go elsewhere sooner."""
        client = self.client()
        self.run_(client.execute("SET", "k", "v"))
        leader = self.cluster.leader()
        self.cluster.pause(leader)
        write = self.start(client.execute("SET", "k", "w", timeout=5.0))
        read = self.start(client.execute("GET", "other"))
        before = self.cluster.world.now
        self.assertEqual(self.cluster.result(read), None)
        self.assertLess(self.cluster.world.now - before, STALL + 2.0)
        # Nor does a new write wait behind the silent one.
        self.assertEqual(self.run_(client.execute("SET", "k2", "v")), b"OK")
        with self.assertRaises(OutcomeUnknown):
            self.cluster.result(write)
        self.assertLess(abs(self.cluster.world.now - before - 5.0), 0.1)

    def test_replies_stay_with_their_requests(self) -> None:
        """After a request timed out, its late reply is nobody else's."""
        client = self.client()
        self.run_(client.execute("SET", "a", "1"))
        leader = self.cluster.leader()
        self.cluster.pause(leader)
        late = self.start(client.execute("GET", "a", timeout=0.1))
        other = self.start(client.execute("SET", "b", "2", timeout=1.5))
        self.cluster.advance(0.3)
        self.cluster.resume(leader)
        self.assertEqual(self.cluster.result(other), b"OK")
        with self.assertRaises(DeadlinePassed):
            self.cluster.result(late)
        self.assertEqual(self.run_(client.execute("GET", "b")), b"2")

    def test_errors_are_errors(self) -> None:
        """What the server refuses is a CommandError with its text, at once."""
        client = self.client()
        for words, text in (
            (["FOO"], "ERR unknown command 'FOO'"),
            (["GET"], "ERR wrong number of arguments for 'GET' command"),
            (["INCRBY", "n", "x"], "ERR value is not an integer or out of range"),
            (["RAFTREMOVEPEER", "10.0.0.9:1"], "peer is unknown"),
        ):
            with self.assertRaises(CommandError) as raised:
                self.run_(client.execute(*words))
            self.assertEqual(str(raised.exception), text)

    def test_an_error_that_begins_with_try(self) -> None:
        """Only an address is followed: another text is an error, and a write is sent once.

        So is one that only begins as what a node says where nothing was applied.
        """
        client = self.client()
        self.run_(client.execute("SET", "k", "v"))
        member = self.run_(client._finder.connected(self.reactor.seconds() + 1.0))
        sent: list[Any] = []
        texts = ["TRY another day", "TRY ", "TRY host", "TRY :0", "TRY a b:1", "TRY again: 1"]
        for text in [*texts, "ERR request timed out at the bank", "ERR leader not known here"]:

            def refuse(*words: bytes, text: str = text) -> Deferred[Any]:
                sent.append(words)
                return fail(CommandError(text))

            self.patch(member.connection, "execute", refuse)
            with self.assertRaises(CommandError) as raised:
                self.run_(client.execute("SET", "k", "w"))
            self.assertEqual((str(raised.exception), len(sent)), (text, 1))
            sent.clear()

    def test_what_would_change_the_connection(self) -> None:
        """Commands that would change the shared connection are refused, and sent to nobody."""
        client = self.client()
        for words in (["MULTI"], ["exec"], [b"Watch", b"k"], ["SELECT", "0"], ["HELLO", "3"], []):
            self.assertIsInstance(
                self.failureResultOf(self.start(client.execute(*words))).value, CommandError
            )

    def test_words(self) -> None:
        """Numbers are sent with all their digits."""
        client = self.client()
        self.run_(client.execute("MSET", b"\xff", "ü", "i", 10**18, "f", 1e-10))
        self.assertEqual(
            self.run_(client.execute("MGET", b"\xff", "i", "f")),
            ["ü".encode(), b"1000000000000000000", b"1e-10"],
        )

    def test_cancelling(self) -> None:
        """A request can be cancelled; others on the connection do not notice."""
        client = self.client()
        first = self.start(client.execute("INCR", "n"))
        second = self.start(client.execute("INCR", "n"))
        first.cancel()
        self.failureResultOf(first)
        self.assertIn(self.cluster.result(second), (1, 2))
        third = self.start(client.execute("INCR", "n"))
        fourth = self.start(client.execute("GET", "none"))
        third.cancel()
        self.failureResultOf(third)
        self.assertEqual(self.cluster.result(fourth), None)


class TransactionTests(ClientTestCase):
    """Transactions of the client."""

    def test_one_piece(self) -> None:
        """Commands of others do not come in between; errors inside are values."""
        client = self.client()
        others = [self.start(client.execute("INCR", "n")) for _ in range(3)]
        replies = self.run_(
            client.transaction([("GET", "n"), ("INCR", "n"), ("LPUSH", "n", "x"), ("GET", "n")])
        )
        before = int(replies[0] or 0)
        self.assertEqual(replies[1], before + 1)
        self.assertIsInstance(replies[2], CommandError)
        self.assertEqual(replies[3], b"%d" % (before + 1))
        for other in others:
            self.cluster.result(other)
        self.assertEqual(self.run_(client.execute("GET", "n")), b"4")
        self.assertEqual(self.run_(client.transaction([])), [])

    def test_refused(self) -> None:
        """A command that cannot be queued refuses all, with its own error."""
        client = self.client()
        with self.assertRaises(CommandError) as raised:
            self.run_(client.transaction([("SET", "k", "v"), ("GET",)]))
        self.assertIn("wrong number of arguments", str(raised.exception))
        self.assertEqual(self.run_(client.execute("EXISTS", "k")), 0)

    def test_follows_try(self) -> None:
        """A transaction goes to the new leader as a whole."""
        client = self.client()
        self.run_(client.execute("PING"))
        target = self.followers[0]
        self.run_(client.execute("RAFTTRANSFER", self.address(target)))
        self.cluster.wait_until(lambda: self.cluster.leader() == target)
        self.assertEqual(self.run_(client.transaction([("INCR", "n"), ("INCR", "n")])), [1, 2])


class LifeTests(ClientTestCase):
    """The client's beginning and end."""

    size = 1

    def test_addresses_are_checked(self) -> None:
        """No address, or a bad one, is a ValueError."""
        for addresses in ([], ["nonsense"], [":0"]):
            with self.assertRaises(ValueError):
                ClusterClient(self.reactor, addresses)

    def test_close(self) -> None:
        """Closed, it serves nothing, nor does it go on looking for a leader."""
        client = self.client()
        self.run_(client.execute("SET", "k", "v"))
        client.close()
        self.failureResultOf(self.start(client.execute("GET", "k")), NotApplied)
        client = self.client(addresses=[NOBODY])
        waiting = self.start(client.execute("SET", "k", "v"))
        self.cluster.advance(0.5)
        client.close()
        self.failureResultOf(waiting, NotApplied)
        self.cluster.advance(0.1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        client.close()

    def test_close_with_requests_under_way(self) -> None:
        """A write under way is unknown then."""
        client = self.client()
        self.run_(client.execute("SET", "k", "v"))
        self.cluster.pause(0)
        write = self.start(client.execute("SET", "k", "w"))
        client.close()
        with self.assertRaises(OutcomeUnknown):
            self.cluster.result(write)

    def test_a_silent_server(self) -> None:
        """One that accepts connections and says nothing is passed over after a while."""
        silent: Any = Factory.forProtocol(Silent)
        silent.received = b""
        self.cluster.world.reactor("10.0.0.99").listenTCP(PORT, silent, interface="10.0.0.99")
        client = self.client(addresses=[f"10.0.0.99:{PORT}", self.address(0)])
        self.assertEqual(self.run_(client.execute("SET", "k", "v")), b"OK")
        self.assertIn(b"RAFTSTATE", silent.received)

    def test_nothing_is_done_without_need(self) -> None:
        """No connection is made before the first request."""
        self.client()
        self.cluster.advance(1.0)
        self.assertEqual(len(self.cluster.nodes[0].server.connections), 0)


class SecretTests(ClientTestCase):
    """A cluster with a secret."""

    options = {"secret": "all", "client_secret": "some"}

    def test_right(self) -> None:
        """Either secret will do."""
        for secret in ("all", "some"):
            client = self.client(secret=secret)
            self.assertEqual(self.run_(client.execute("SET", "k", "v")), b"OK")

    def test_wrong(self) -> None:
        """A wrong one, or none, is an error at once, not a search without end."""
        for secret, text in (("other", "WRONGPASS"), (None, "NOAUTH")):
            client = self.client(secret=secret)
            with self.assertRaises(CommandError) as raised:
                self.run_(client.execute("SET", "k", "v"))
            self.assertTrue(str(raised.exception).startswith(text))
