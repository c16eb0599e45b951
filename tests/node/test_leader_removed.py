"""A leader that is removed hands over first, whatever is still under way."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.node.stopping import CLOSE_TIMEOUT
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

# Long before anybody would miss the leader: the election timeout is 1 s at least.
SOON = 0.3
MANY = 10_000


class LeaderRemoved(SynchronousTestCase):
    """Four members, so that a majority is left."""

    def setUp(self) -> None:
        self.cluster = MemoryCluster(KV, 4)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.others = [member for member in range(4) if member != self.leader]
        self.node = self.cluster.nodes[self.leader]

    def remove(self) -> None:
        """Remove the leader while entries that came after its removal are under way."""
        raft = self.node.raft
        assert raft is not None
        writer = Client(self.cluster, self.leader)
        removing = Deferred.fromCoroutine(self.node.membership.remove(self.node.options.address))
        for number in range(MANY):
            if raft.removed:
                break
            writer.send(f"SET key {number}")
            self.cluster.advance(0.0002)
        self.cluster.result(removing)

    def is_led(self) -> bool:
        """Whether another one leads."""
        return any(self.cluster.computers[member].leads for member in self.others)

    def test_hands_over_under_load(self) -> None:
        """The links stay until the successor, which lacked entries, was told to take over."""
        self.remove()
        self.cluster.wait_until(self.is_led, SOON)
        self.cluster.wait_until(lambda: self.node.identity.removed, SOON)

    def test_reads_while_it_hands_over(self) -> None:
        """They are answered: nothing waits for what is applied already, again and again."""
        self.cluster.partition([self.leader])
        raft = self.node.raft
        assert raft is not None
        raft.removed = True
        self.assertTrue(raft.lease_valid(self.node.now()))
        now, looks = self.node.now, 0

        def look() -> float:  # each time that it is found out whether the read may be served
            nonlocal looks
            looks += 1
            self.assertLess(looks, 100, "it waits for ever")
            return now()

        self.patch(self.node, "now", look)
        reader = Client(self.cluster, self.leader)
        reader.send("GET key")
        self.cluster.advance(0.01)
        self.assertIsNone(self.node.failure)
        self.patch(self.node, "now", now)
        self.cluster.heal()
        self.cluster.wait_until(lambda: reader.received, 2)
        self.assertEqual(reader.received, b"$-1\r\n")

    def test_hands_over_when_stopped(self) -> None:
        """A stop right after the answer does not cut that short."""
        self.remove()
        stopping = self.cluster.computers[self.leader].stop()
        self.cluster.wait_until(self.is_led, SOON)
        # The writer of this test never closes its connection: that much is waited for it.
        self.cluster.result(stopping, CLOSE_TIMEOUT + SOON)
