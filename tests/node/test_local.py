"""Local commands, which may take their time and know their connection."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client


class Waiting(finn.Machine):
    """Answers local commands when the test lets it."""

    gates: ClassVar[list[Deferred[None]]] = []

    @finn.local("WHOSE")
    async def whose(self, call: Any) -> list[Any]:
        """Tell the connection and the name of the command, later."""
        gate: Deferred[None] = Deferred()
        self.gates.append(gate)
        await gate
        return [call.conn.id, call.name]

    @finn.read("SEES")
    def sees(self, call: Any) -> bool:
        """Say whether a read is shown a connection."""
        return call.conn is not None


class LocalTests(SynchronousTestCase):
    def test_each_keeps_its_own_call(self) -> None:
        """Commands under way at the same time do not see each other's connection, nor do reads."""
        cluster = MemoryCluster(Waiting, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        self.patch(Waiting, "gates", [])
        first, second, reader = (Client(cluster, 0) for _ in range(3))
        first.send("WHOSE")
        second.send("WHOSE")
        self.assertEqual(reader.ask("SEES"), b":0\r\n")
        for gate in Waiting.gates:
            gate.callback(None)
        cluster.advance(0.01)
        for client in (first, second):
            reply = b"*2\r\n:%d\r\n$5\r\nWHOSE\r\n" % client.protocol.id
            self.assertEqual(client.received, reply)
