"""More than a cluster can do: bounded memory, ordered replies, nobody elected, and recovery."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.integration import overload
from tests.integration.cluster import Cluster, IntegrationTestCase
from tests.integration.gauge import Metronome
from tests.integration.overload import Scale
from tests.integration.process import NodeProcess, until
from tests.integration.resp import Client

#: A computer that stands still for so long has nodes elect another leader, seconds.
WITHHELD = 0.5
ATTEMPTS = 3


class OverloadTests(IntegrationTestCase):
    """Each on a cluster of three."""

    def check(self, scenario: Callable[[Cluster, Scale], str]) -> None:
        """Report what a scenario measured; it counts unless the computer stood still meanwhile."""
        for attempt in range(1, ATTEMPTS + 1):
            cluster = self.cluster().start()
            began = time.monotonic()
            with Metronome(cluster.folder) as metronome:
                try:
                    return self.report(scenario(cluster, Scale()))
                except (AssertionError, OSError):
                    stall = metronome.stall(began)
                    if attempt == ATTEMPTS or stall < WITHHELD:
                        raise
            self.report(f"void, the computer stood still for {stall:.1f} s")
            cluster.reap()

    def test_connections(self) -> None:
        """5,000 at once, each with a pipeline of its own."""
        self.check(overload.many_connections)

    def test_clients_that_never_read(self) -> None:
        """100 of them, with pipelines that ask for gigabytes."""
        self.check(overload.silent_clients)

    def test_proposals(self) -> None:
        """More than followers take, the replies in order; one follower stands still meanwhile."""

        def flood(cluster: Cluster, scale: Scale) -> str:
            return overload.flood(cluster, scale, cluster.followers()[0])

        self.check(flood)

    def test_absent_follower(self) -> None:
        """The log grows by far more than a leader keeps in memory."""
        self.check(overload.absent_follower)

    def test_large_values(self) -> None:
        """32 MiB, which no follower takes within a heartbeat."""
        self.check(overload.large_values)

    def test_many_arguments(self) -> None:
        """100,000 in one command."""
        self.check(overload.many_arguments)

    def test_too_many_clients(self) -> None:
        """--max-clients: the next is told so; members are let in; there is room again later."""
        cluster = self.cluster("--max-clients", "20")
        first = cluster.found()
        clients = [self.admitted(first) for _ in range(20)]
        for _ in range(3):
            with Client(first.port) as late:
                late.send(b"PING\r\n")
                self.assertEqual(late.read_to_end(), b"-ERR max number of clients reached\r\n")
        # The newcomer asks as a client does; from then on members need no room.
        clients.pop().close()
        second = cluster.add("--join", first.address).start()
        second.wait_ready()
        clients.append(self.admitted(first))
        second.stop()
        second.start().wait_ready()
        # Two of two are needed for a majority: where the restart took longer than an election
        # timeout the first has rightly made way, and either of them leads now, or soon. The other
        # has to vote for it and to take what it writes, so there is a link again.
        clients.append(second.client())
        ends = (clients[0], clients[-1])
        until(lambda: b"OK" in [end.do("SET", "a", "b") for end in ends], "a majority")
        for client in clients:
            client.close()
        cluster.wait_equal()

    def admitted(self, node: NodeProcess) -> Client:
        """Connect as soon as there is room."""

        def connect() -> Client | None:
            client = node.client()
            if client.do("PING") == b"PONG":
                return client
            client.close()
            return None

        client = until(connect, "room for a client")
        assert client is not None
        return client
