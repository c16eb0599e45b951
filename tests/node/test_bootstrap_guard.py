"""A fresh node whose flags would let it found a cluster, beside members that are not ready yet."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import MembershipError
from finn.node.joining import LOOKUP_TIMEOUT, SAY_AGAIN, Joining, _Doubts
from finn.protocols.outside import ConnectionGone
from finn.testing.cluster import MemoryCluster
from finn.testing.faulty import FaultyFiles
from tests.node.support import Client, Journal


class BootstrapGuard(SynchronousTestCase):
    def test_members_that_still_restore_have_a_cluster(self) -> None:
        """The first address lost its disk, and all are started at once: it joins again."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        cluster.advance(2)
        cluster_id = cluster.nodes[1].identity.cluster_id
        for member in range(3):
            cluster.crash(member)
        cluster.computers[0].files = FaultyFiles()
        for member in (1, 2):
            cluster.computers[member]._latency = lambda random: 0.5
        for member in range(3):
            cluster.computers[member].start()
        cluster.advance(0.5)
        client = Client(cluster, 1)
        self.assertEqual(client.ask("RAFTPEERS"), b"-ERR raft not ready\r\n")
        cluster.wait_until(cluster.settled)
        self.assertEqual(cluster.nodes[0].identity.cluster_id, cluster_id)
        self.assertEqual(cluster.machine(0).values, {b"a": b"1"})

    def test_what_can_never_be_is_refused_at_once(self) -> None:
        """Only a change that has to wait for another one is tried again."""
        cluster = MemoryCluster(Journal, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        node = cluster.nodes[0]
        removing = Deferred.fromCoroutine(node.membership.remove(node.options.address))
        error = self.failureResultOf(removing, MembershipError)
        self.assertEqual(error.getErrorMessage(), "ERR the last voter cannot be removed")


class Doubts(SynchronousTestCase):
    """The founder lost its disk, and those that it asks do not tell what they have."""

    def start(self, **options: Any) -> MemoryCluster:
        """Return a cluster of three whose first member is down, without a disk."""
        cluster = MemoryCluster(Journal, **options)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        cluster.advance(2)
        self.cluster_id = cluster.nodes[1].identity.cluster_id
        cluster.crash(0)
        cluster.computers[0].files = FaultyFiles()
        cluster.advance(3)
        return cluster

    def fill(self, cluster: MemoryCluster) -> list[Client]:
        """Let the others have as many clients as they take."""
        return [Client(cluster, member) for member in (1, 2) for _ in range(4)]

    def assert_waits(self, cluster: MemoryCluster, seconds: float, why: str = "") -> None:
        """It founds nothing in that time, and says why now and then."""
        with capturedLogs() as logs:
            cluster.advance(seconds)
        founder = cluster.computers[0]
        self.assertEqual(founder.node.identity.cluster_id, 0)
        self.assertIsNone(founder.node.failure)
        lines = [formatEvent(event) for event in logs]
        told = [line for line in lines if line.startswith("not founding a cluster")]
        self.assertIn(why, "".join(told))
        self.assertLessEqual(len(told), 2 + seconds / SAY_AGAIN)

    def assert_joins(self, cluster: MemoryCluster) -> None:
        """It comes back to its cluster."""
        cluster.wait_until(cluster.settled)
        self.assertEqual(cluster.nodes[0].identity.cluster_id, self.cluster_id)
        self.assertEqual(cluster.machine(0).values, {b"a": b"1"})

    def test_those_with_too_many_clients(self) -> None:
        """They refuse it like any client; it joins when they take one more."""
        cluster = self.start(max_clients=4)
        clients = self.fill(cluster)
        cluster.computers[0].start()
        why = "10.0.0.2:7481: ERR max number of clients reached; 10.0.0.3:7481: ERR max"
        self.assert_waits(cluster, 2 * SAY_AGAIN, why)
        for client in clients:
            client.protocol.connectionLost(Failure(error.ConnectionDone()))
        self.assert_joins(cluster)

    def test_those_that_are_restarted(self) -> None:
        """Nobody is there meanwhile, but it knows that somebody was."""
        cluster = self.start(max_clients=4)
        self.fill(cluster)
        cluster.computers[0].start()
        self.assert_waits(cluster, 5)
        for member in (1, 2):
            cluster.crash(member)
        why = "10.0.0.2:7481: ERR max number of clients reached, and is gone since; 10.0.0.3"
        self.assert_waits(cluster, 5, why)
        for member in (1, 2):
            cluster.computers[member].start()
        self.assert_joins(cluster)

    def test_those_with_another_secret(self) -> None:
        """It joins when it is started with theirs."""
        cluster = self.start(secret="one")
        founder = cluster.computers[0]
        options, founder.options = founder.options, replace(founder.options, secret="two")
        founder.start()
        self.assert_waits(cluster, 40, "10.0.0.2:7481: WRONGPASS")
        cluster.result(founder.stop())
        founder.options = options
        founder.start()
        self.assert_joins(cluster)

    def test_those_that_are_silent(self) -> None:
        """Their systems take the connections; it joins when the processes go on."""
        cluster = self.start()
        for member in (1, 2):
            cluster.pause(member)
        cluster.computers[0].start()
        self.assert_waits(cluster, 40, "10.0.0.3:7481: Not received")
        for member in (1, 2):
            cluster.resume(member)
        self.assert_joins(cluster)

    def test_those_that_cannot_be_reached(self) -> None:
        """Nothing comes back, not even that nobody is there; it joins when something does."""
        cluster = self.start()
        cluster.partition([0])
        cluster.computers[0].start()
        self.assert_waits(cluster, 40, "10.0.0.3:7481: User timeout caused connection failure")
        cluster.heal()
        self.assert_joins(cluster)

    def test_those_that_are_started_after_a_silence(self) -> None:
        """Nobody is there meanwhile, and they may have a cluster; it founds one as they say no."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        cluster.partition([0])
        founder = cluster.computers[0]
        founder.start()
        self.assert_waits(cluster, 12, "10.0.0.3:7481: User timeout")
        cluster.heal()
        self.assert_waits(cluster, 20, "connection failure, and is gone since")
        for member in (1, 2):
            cluster.computers[member].start()
        cluster.wait_until(cluster.settled)

    def test_those_that_could_not_be_asked(self) -> None:
        """What failed here says nothing of them: they are not there, and it founds a cluster."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        founder = cluster.computers[0]
        failures: list[Exception] = [
            error.NoRouteError(errno.ENETUNREACH, "Network is unreachable"),
            error.ConnectBindError(errno.EMFILE, "Too many open files"),
        ]
        founder.start()
        asks = founder.node.ask_node

        async def ask(address: str, *words: bytes, **options: Any) -> Any:
            if failures:
                raise failures.pop()
            return await asks(address, *words, **options)

        founder.node.ask_node = ask  # type: ignore[method-assign]
        cluster.wait_until(lambda: founder.leads, 20)
        self.assertEqual(failures, [])

    def test_those_whose_names_could_not_be_looked_up(self) -> None:
        """Nobody was asked; others were, and may have been there."""
        for e, lasts in (
            (error.DNSLookupError("Temporary failure in name resolution"), False),
            *(
                (error.getConnectError((number, "of this machine")), False)
                for number in (errno.EADDRNOTAVAIL, errno.EPERM, errno.EMFILE, errno.ENOBUFS)
            ),
            (error.TimeoutError(), True),
            (error.TCPTimedOutError(errno.ETIMEDOUT, "timed out"), True),
            (error.getConnectError((errno.ECONNRESET, "taken, and dropped at once")), True),
            (ConnectionGone("lost"), True),
        ):
            doubts = _Doubts()
            doubts.note("a:1", e, nobody=False)
            self.assertFalse(doubts.none)
            doubts.note("a:1", error.ConnectionRefusedError(), nobody=True)
            self.assertEqual(doubts.none, not lasts, e)

    def test_those_that_have_no_cluster_say_so_late(self) -> None:
        """It founds one when the last has: fresh nodes do not wait for each other."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        for member in (1, 2):
            cluster.computers[member].start()
        cluster.pause(2)
        cluster.computers[0].start()
        self.assert_waits(cluster, 10)
        cluster.resume(2)
        cluster.wait_until(cluster.settled)

    def test_its_own_address_again(self) -> None:
        """It does not ask itself, which may have too many clients."""
        cluster = MemoryCluster(Journal, size=1, max_clients=1)
        self.addCleanup(cluster.close)
        founder = cluster.computers[0]
        founder.options.join *= 2
        founder.start()
        Client(cluster, 0)
        cluster.wait_until(lambda: founder.leads, 1)


class Threads(Clock):
    """A reactor whose threads do at once what they are given, or nothing."""

    hangs = False

    def getThreadPool(self) -> Threads:
        return self

    def callInThreadWithCallback(self, on_result: Any, function: Any, *args: Any) -> None:
        if self.hangs:
            return
        try:
            on_result(True, function(*args))
        except Exception:
            on_result(False, Failure())

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)


class Nobody(SynchronousTestCase):
    """How asking an address fails where there is certainly nobody."""

    def ask(self, e: Exception, address: str = "10.0.0.1:1") -> Deferred[bool]:
        self.reactor = Threads()
        node: Any = SimpleNamespace(reactor=self.reactor)
        return Deferred.fromCoroutine(Joining(node)._is_nobody(address, e))

    def is_nobody(self, e: Exception, address: str = "10.0.0.1:1") -> bool:
        return self.successResultOf(self.ask(e, address))

    def test_connections(self) -> None:
        """A refusal counts, or that there is no such host; not what keeps anybody from asking."""
        for number in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EHOSTDOWN):
            self.assertTrue(self.is_nobody(error.getConnectError((number, ""))), number)
        others = (errno.EADDRNOTAVAIL, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENETUNREACH)
        for number in others:
            self.assertFalse(self.is_nobody(error.getConnectError((number, ""))), number)
        for e in (error.ConnectBindError(errno.EMFILE), ConnectionGone("x"), error.TimeoutError()):
            self.assertFalse(self.is_nobody(e), e)

    def test_names(self) -> None:
        """There is no such name, or nobody can tell, or it takes too long."""
        answers: list[Any] = []

        def look_up(*args: Any, **options: Any) -> Any:
            answer = answers.pop()
            if isinstance(answer, int):
                raise socket.gaierror(answer, "no")
            return answer

        self.patch(socket, "getaddrinfo", look_up)
        for answer, nobody in ((socket.EAI_NONAME, True), (socket.EAI_AGAIN, False), ([], False)):
            answers.append(answer)
            self.assertIs(self.is_nobody(error.DNSLookupError(), "host:1"), nobody, answer)
        self.patch(Threads, "hangs", True)
        asking = self.ask(error.DNSLookupError(), "host:1")
        self.assertNoResult(asking)
        self.reactor.advance(LOOKUP_TIMEOUT)
        self.assertIs(self.successResultOf(asking), False)
