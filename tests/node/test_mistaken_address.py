"""Nodes that are given the address of another one in --advertise, and say so."""

from __future__ import annotations

from dataclasses import replace

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal


class MistakenAddress(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = MemoryCluster(Journal)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.cluster.execute("PUT", "a", "1")
        self.cluster.advance(2)

    def said(self, seconds: float, begin: str) -> list[str]:
        with capturedLogs() as logs:
            self.cluster.advance(seconds)
        return [line for line in map(formatEvent, logs) if line.startswith(begin)]

    def test_a_leader_says_so_once(self) -> None:
        """It tries again less and less often, and takes nobody's place."""
        leader = self.cluster.leader()
        mistaken, other = (self.cluster.computers[m] for m in range(3) if m != leader)
        real = mistaken.address
        mistaken.kill()
        mistaken.options = replace(mistaken.options, address=other.address, join=[])
        mistaken.start()
        self.cluster.advance(5)
        reply = Client(self.cluster, leader).ask(f"RAFTTRANSFER {real}")
        self.assertEqual(reply, b"+OK\r\n")
        membership = mistaken.node.membership
        rename, tries = membership.rename, []

        async def count(address: str) -> None:
            tries.append(address)
            await rename(address)

        self.patch(membership, "rename", count)
        told = self.said(60, "the new address is not noted yet")
        self.assertTrue(mistaken.leads)
        self.assertLessEqual(len(told), 1)
        self.assertTrue(5 < len(tries) < 60, len(tries))
        raft = mistaken.node.raft
        assert raft is not None
        self.assertIn(real, {member.address for member in raft.configuration.members})

    def test_a_newcomer_says_so(self) -> None:
        """It is told that it is known, for ever; but it is not in the cluster."""
        leader = self.cluster.leader()
        other = next(self.cluster.computers[m] for m in range(3) if m != leader)
        newcomer = self.cluster._build()
        join = [self.cluster.computers[leader].address]
        newcomer.options = replace(newcomer.options, address=other.address, join=join)
        newcomer.start()
        told = self.said(30, join[0])
        self.assertEqual(
            told,
            [
                f"{join[0]} knows a member at {other.address}, and this node is not known to be "
                "that: see that --advertise is right, retrying"
            ],
        )
