"""A member that comes back under another address and is elected before it could tell anybody."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.options import Durability
from finn.testing.cluster import MemoryCluster
from tests.node.support import Journal


class MovedLeader(SynchronousTestCase):
    def test_it_tells_its_address_itself(self) -> None:
        """Whoever it asks names the leader, which it is, at an address where nobody answers."""
        cluster = MemoryCluster(Journal, size=2)
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.execute("PUT", "a", "1")
        mover, other = cluster.computers
        for member in (0, 1):
            cluster.crash(member)
        address = f"{mover.host}:7999"
        mover.move(address)
        mover.start()
        other.start()
        cluster.wait_until(lambda: other.node.raft)
        assert other.node.raft is not None
        while not mover.leads:
            other.node.raft.timer.deadline = other.node.now() + 100
            cluster.advance(0.01)
        cluster.wait_until(lambda: other.node.raft.configuration.by_address(address))  # type: ignore[union-attr]
        self.assertTrue(mover.leads)
        cluster.wait_until(cluster.settled)
        cluster.wait_until(lambda: mover.node.identity.address == address)

    def test_the_only_member_tries_again(self) -> None:
        """Its disk hangs until the change of its address has taken too long."""
        cluster = MemoryCluster(Journal, size=1, durability=Durability.HIGH)
        self.addCleanup(cluster.close)
        cluster.start()
        old = cluster.computers[0].address
        address = "10.0.0.1:7999"
        cluster.stop(0)
        mover = cluster.computers[0]
        mover.move(address)
        mover.start()
        mover.node.observe_role(lambda state: mover.disk.hang() if state == "Leader" else None)
        cluster.wait_until(lambda: mover.leads)
        cluster.advance(mover.options.request_timeout + 1)
        self.assertEqual(mover.node.identity.address, old)
        mover.node._observers.clear()
        mover.disk.resume()
        cluster.wait_until(lambda: mover.node.identity.address == address)
        member = mover.node.applying.configuration.get(mover.node.identity.node_id)
        assert member is not None
        self.assertEqual(member.address, address)
