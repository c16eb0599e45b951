"""Who belongs to a cluster: joining, leaving, founding, and those that are there by mistake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import StartFailed
from finn.node.status import state_of
from finn.options import Consistency
from finn.protocols.handshake import PeerHello
from finn.raft.messages import RequestVote
from finn.testing.cluster import MemoryCluster
from finn.testing.computer import Computer
from finn.testing.faulty import FaultyFiles
from tests.node.peers import Peer
from tests.node.support import Client, Journal


class MembershipTests(SynchronousTestCase):
    """Three nodes, and others that come and go."""

    def setUp(self) -> None:
        self.start()

    def start(self, **options: Any) -> None:
        self.cluster = MemoryCluster(Journal, **options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.others = [m for m in range(3) if m != self.leader]
        self.client = Client(self.cluster, self.leader)

    def raft(self, member: int) -> Any:
        return self.cluster.nodes[member].raft

    def address(self, member: int) -> str:
        return self.cluster.computers[member].address

    def newcomer(self, **options: Any) -> int:
        """Start one more node, which waits to be added if nothing else is said."""
        computer: Computer = self.cluster._build()
        computer.options = replace(computer.options, **(options or {"wait": True, "join": []}))
        computer.start()
        self.cluster.advance(0.5)
        return len(self.cluster.computers) - 1

    def wipe(self, member: int) -> Computer:
        """Put an empty disk into a computer."""
        computer = self.cluster.computers[member]
        computer.kill()
        computer.files = FaultyFiles()
        return computer

    def remove(self, member: int) -> None:
        self.assertEqual(self.client.ask(f"RAFTREMOVEPEER {self.address(member)}"), b"+OK\r\n")
        self.cluster.wait_until(lambda: self.cluster.nodes[member].identity.removed)

    # -- joining ------------------------------------------------------------------------------

    def test_members_survive_a_restart(self) -> None:
        """A node that comes back alone knows them from its log (PySyncObj#133)."""
        member = self.others[0]
        self.cluster.advance(0.1)  # it need not have the newest of them at once
        self.cluster.partition([member])
        self.cluster.restart(member)
        self.cluster.wait_until(lambda: self.raft(member))
        voters = self.raft(self.leader).configuration.voters
        self.assertEqual((len(voters), self.raft(member).configuration.voters), (3, voters))

    def test_a_member_is_not_added_twice(self) -> None:
        """Nothing is changed, and the reply says why."""
        reply = self.client.ask(f"RAFTADDPEER {self.address(self.others[0])}")
        self.assertEqual(reply, b"-peer already known\r\n")

    def test_a_leader_is_not_added_by_another_name(self) -> None:
        """One node is one member, whatever else it is called."""
        node = self.cluster.nodes[self.leader]
        host = self.cluster.computers[self.leader].host
        node.reactor.listenTCP(9999, node.server, interface=host)
        reply = self.client.ask(f"RAFTADDPEER {host}:9999")
        self.assertEqual(reply, b"-peer already known\r\n")

    def test_an_addition_is_answered_when_it_is_committed(self) -> None:
        """A leader without a majority adds nobody (redisraft#265)."""
        fourth = self.newcomer()
        self.cluster.partition([self.leader, fourth], self.others)
        self.client.send(f"RAFTADDPEER {self.address(fourth)}")
        self.cluster.wait_until(lambda: len(self.raft(self.leader).configuration.members) == 4)
        self.cluster.wait_until(lambda: self.client.received, 5)
        self.assertTrue(self.client.received.startswith(b"-UNKNOWN"), self.client.received)

    def test_additions_at_once_lose_nobody(self) -> None:
        """The second waits for the first, and begins with its list (arcadedb#4795)."""
        fourth, fifth = self.newcomer(), self.newcomer()
        hosts = [computer.host for computer in self.cluster.computers]
        for member in self.others:  # a change takes longer than finding out who is there
            self.cluster.world.network.slow(hosts[self.leader], hosts[member], 0.2)
        other = Client(self.cluster, self.leader)
        other.send(f"RAFTADDPEER {self.address(fifth)}")
        self.assertEqual(self.client.ask(f"RAFTADDPEER {self.address(fourth)}"), b"+OK\r\n")
        self.cluster.wait_until(lambda: other.received)
        self.assertEqual(other.received, b"+OK\r\n")
        self.cluster.wait_until(self.cluster.settled)
        self.assertEqual(len(self.raft(self.leader).configuration.voters), 5)

    def test_a_member_of_another_cluster_is_not_added(self) -> None:
        """It has data of its own, and others that may want it back."""
        stranger = self.newcomer(join=[])
        self.cluster.wait_until(lambda: self.cluster.computers[stranger].leads)
        reply = self.client.ask(f"RAFTADDPEER {self.address(stranger)}")
        self.assertIn(b"belongs to another cluster", reply)
        self.assertEqual(len(self.raft(self.leader).configuration.members), 3)

    def test_a_node_that_moved_is_one_member(self) -> None:
        """It comes back under another address, and its id is what counts."""
        member = self.others[0]
        node_id = self.raft(member).node_id
        self.cluster.stop(member)
        computer = self.cluster.computers[member]
        computer.move("10.0.0.9:7481")
        computer.start()
        self.cluster.wait_until(
            lambda: self.raft(self.leader).configuration.by_address("10.0.0.9:7481")
        )
        configuration = self.raft(self.leader).configuration
        self.assertEqual(configuration.by_address("10.0.0.9:7481").id, node_id)
        self.assertEqual(len(configuration.members), 3)

    # -- founding -----------------------------------------------------------------------------

    def test_only_the_first_of_the_list_founds(self) -> None:
        """The same command line serves every node, and makes one cluster."""
        cluster = MemoryCluster(Journal)
        self.addCleanup(cluster.close)
        for member in (1, 2):
            cluster.computers[member].start()
        cluster.advance(10)
        self.assertEqual([cluster.computers[m].leads for m in (1, 2)], [False, False])
        cluster.start()

    def test_a_wiped_first_node_joins_its_cluster(self) -> None:
        """It asks the others before it founds anything (rqlite#2086)."""
        self.cluster.execute("PUT", "a", "1")
        self.wipe(0).start()
        self.cluster.wait_until(self.cluster.settled)
        self.cluster.wait_until(lambda: self.cluster.machine(0).values == {b"a": b"1"})
        self.assertEqual(len({node.identity.cluster_id for node in self.cluster.nodes}), 1)

    def test_a_mistaken_founder_stops(self) -> None:
        """It could ask nobody: once a member finds it, it says what happened."""
        computer = self.wipe(0)
        for member in (1, 2):
            self.cluster.crash(member)
        computer.start()
        self.cluster.wait_until(lambda: computer.leads)
        for member in (1, 2):
            self.cluster.computers[member].start()
        self.cluster.wait_until(lambda: computer.failure, 60)
        self.assertIsInstance(computer.failure, StartFailed)
        self.assertIn("founded a cluster of its own by mistake", str(computer.failure))

    # -- leaving ------------------------------------------------------------------------------

    def test_a_removed_node_comes_back_under_a_new_id_only(self) -> None:
        """Its old id would read its own removal in the log (redisraft#2)."""
        member = self.others[0]
        old = self.raft(member).node_id
        self.remove(member)
        reply = self.client.ask(f"RAFTADDPEER {self.address(member)}")
        self.assertIn(b"was removed from this cluster: restart it with --join", reply)
        self.assertEqual(len(self.raft(self.leader).configuration.members), 2)
        self.cluster.restart(member)
        self.cluster.wait_until(self.cluster.settled)
        self.assertEqual(len(self.raft(self.leader).configuration.voters), 3)
        self.assertIsNone(self.raft(self.leader).configuration.get(old))

    def test_a_removed_node_is_quiet(self) -> None:
        """It dials nobody and is no member's peer any more."""
        member = self.others[0]
        cluster_id = self.cluster.nodes[member].identity.cluster_id
        self.remove(member)
        node = self.cluster.nodes[member]
        self.cluster.advance(1)
        self.assertEqual(node.links._dialers, {})
        hello = PeerHello(1, cluster_id, self.address(self.leader), 1, False, "raft")
        self.assertEqual(node.links.accept_link(hello), "the node was removed from the cluster")
        term = self.raft(member).current_term
        self.cluster.advance(10)
        self.assertEqual((self.raft(member).current_term, state_of(node)), (term, "Shutdown"))

    def test_a_removed_node_is_quiet_after_a_restart(self) -> None:
        """Without --join it serves its status only."""
        member = self.others[0]
        self.remove(member)
        self.cluster.advance(0.5)
        computer = self.cluster.computers[member]
        computer.kill()
        computer.options = replace(computer.options, join=[])
        computer.start()
        self.cluster.wait_until(lambda: computer.node.raft)
        self.assertEqual(state_of(computer.node), "Shutdown")
        self.cluster.advance(10)
        self.assertEqual(state_of(computer.node), "Shutdown")

    def test_a_removed_node_serves_nothing(self) -> None:
        """Not even reads at low: it will never be brought up to date again."""
        self.start(consistency=Consistency.LOW)
        member = self.others[0]
        self.cluster.execute("PUT", "a", "1")
        self.cluster.advance(1)
        client = Client(self.cluster, member)
        self.assertEqual(client.ask("TAKE a"), b"$1\r\n1\r\n")
        self.remove(member)
        self.assertEqual(client.ask("TAKE a"), b"-ERR leader not known\r\n")

    # -- links --------------------------------------------------------------------------------

    def test_only_raft_links_carry_votes(self) -> None:
        """A probe is answered to whoever has the secret: nothing it sends moves the core."""
        raft = self.raft(self.leader)
        term = raft.current_term
        for kind in ("probe", "snapshot", "raft"):
            peer = Peer(self.cluster, self.leader, self.raft(self.others[0]).node_id, kind)
            self.assertEqual(peer.status, "+OK")
            peer.send(RequestVote(term + 1, 99, term, transfer=True))
            self.assertEqual(raft.current_term, term + (kind == "raft"), kind)
