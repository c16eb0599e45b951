"""When a node serves a read: never from a past that the cluster has left behind."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import NotLeader
from finn.node.reads import Reads
from finn.node.service import boot_time
from finn.options import Consistency
from finn.raft import Role
from finn.testing.cluster import MemoryCluster
from tests.node.cores import make_leader, settle
from tests.node.support import Client, Journal
from tests.node.test_failure import make_run


class ReadTests(SynchronousTestCase):
    """Reads on a leader that lags, loses leadership, or is paused."""

    def setUp(self) -> None:
        self.start()

    def start(self, **options: Any) -> None:
        self.cluster = MemoryCluster(Journal, **options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.client = Client(self.cluster, self.leader)
        self.assertEqual(self.client.ask("PUT a old"), b"+OK\r\n")

    def raft(self, member: int) -> Any:
        return self.cluster.nodes[member].raft

    def commit_without_applying(self, value: str) -> None:
        """Let the leader commit a write and not apply it; ``client`` waits for its reply."""
        node = self.cluster.nodes[self.leader]
        node.applying.paused = True
        before = self.raft(self.leader).commit_index
        self.client.transport.clear()
        self.client.send(f"PUT a {value}")
        self.cluster.wait_until(lambda: self.raft(self.leader).commit_index > before)

    def test_what_is_committed_is_applied_first(self) -> None:
        """A leader whose machine lags behind its log waits for it."""
        self.commit_without_applying("new")
        reader = Client(self.cluster, self.leader)
        reader.send("TAKE a")
        self.cluster.advance(0.05)
        self.assertEqual(reader.received, b"")
        node = self.cluster.nodes[self.leader]
        node.applying.paused = False
        node.wake()
        self.cluster.advance(0.05)
        self.assertEqual(reader.received, b"$3\r\nnew\r\n")

    def test_the_lease_is_looked_at_when_a_read_is_executed(self) -> None:
        """Not when it is queued: a pause may lie in between (hashicorp#603)."""
        self.commit_without_applying("older")
        reader = Client(self.cluster, self.leader)
        reader.send("TAKE a")
        self.cluster.advance(0.01)
        self.cluster.pause(self.leader)
        self.cluster.advance(5)
        self.cluster.execute("PUT", "a", "newest")
        node = self.cluster.nodes[self.leader]
        node.applying.paused = False
        # The first thing it does is to apply and serve, before it hears of another leader.
        self.cluster.computers[self.leader].reactor.held.clear()
        node.driver.is_due = False  # type: ignore[union-attr]
        self.cluster.resume(self.leader)
        node.driver.turn()  # type: ignore[union-attr]
        node.server.flush()
        self.assertEqual(node.applying.last_applied, node.raft.commit_index)  # type: ignore[union-attr]
        self.assertEqual(reader.received, b"")

    def test_a_read_behind_a_write_of_unknown_outcome(self) -> None:
        """It is as any other read on a node that no longer leads."""
        self.cluster.partition([self.leader])
        self.client.transport.clear()
        self.client.send("PUT a new")
        self.cluster.advance(0.01)
        self.client.send("TAKE a")
        self.cluster.advance(3)
        write, _, read = self.client.received.partition(b"\r\n")
        self.assertTrue(write.startswith(b"-UNKNOWN"), write)
        self.assertTrue(read.startswith((b"-ERR leader not known", b"-TRY")), read)

    def test_a_write_waits_for_the_reads_before_it(self) -> None:
        """A read must not see what its own connection writes later."""
        self.start(consistency=Consistency.HIGH)
        self.client.transport.clear()
        self.client.send("TAKE a")
        self.client.send("PUT a new")
        self.cluster.advance(0.5)
        self.assertEqual(self.client.received, b"$3\r\nold\r\n+OK\r\n")

    def test_after_a_pause_input_is_read_before_a_timer_is_believed(self) -> None:
        """A follower that was stopped finds the leader's messages, and starts no election."""
        follower = (self.leader + 1) % 3
        states: list[str] = []
        self.cluster.nodes[follower].observe_role(states.append)
        network = self.cluster.world.network
        hosts = [self.cluster.computers[m].host for m in range(3)]
        for m in range(3):
            network.cut(hosts[m], hosts[follower])
        self.cluster.advance(0.01)
        self.cluster.pause(follower)
        # Its timer is due now, and messages only come behind it.
        self.cluster.advance(2.5)
        network.heal()
        self.cluster.advance(2)
        self.cluster.resume(follower)
        self.cluster.advance(1)
        self.assertNotIn("Candidate", states)
        self.assertEqual(self.cluster.leader(), self.leader)

    def overdue(self) -> Any:
        """Return a node that heard no leader for long, as a stall kept it from its timer."""
        follower = (self.leader + 1) % 3
        node: Any = self.cluster.nodes[follower]
        self.cluster.partition([follower])
        self.cluster.advance(node.raft.next_deadline() - node.now() - 0.001)
        self.assertIs(node.raft.role, Role.FOLLOWER)
        now = node.now
        self.patch(node, "now", lambda: now() + 1.0)
        node.driver._timer.cancel()
        return node

    def test_a_late_timer_lets_input_go_first(self) -> None:
        """A timer that fires late does not reach the core before the reactor has read once more."""
        node = self.overdue()
        node.driver._timer_fired()
        self.assertIs(node.raft.role, Role.FOLLOWER)
        self.cluster.advance(0.0005)
        self.assertIs(node.raft.role, Role.CANDIDATE)

    def test_a_late_timer_lets_members_be_heard_first(self) -> None:
        """Whatever the reactor had no time to read of clients."""
        node = self.overdue()
        heard: list[Role] = []
        hear = SimpleNamespace(hear_preferred=lambda: heard.append(node.raft.role))
        node.reactor.poller = hear
        node.driver._after_input()
        self.assertEqual(heard, [Role.FOLLOWER])
        self.assertIs(node.raft.role, Role.FOLLOWER)
        self.cluster.advance(0.0005)
        self.assertEqual((heard, node.raft.role), ([Role.FOLLOWER], Role.CANDIDATE))

    def test_a_jump_of_the_wall_clock_changes_nothing(self) -> None:
        """Leases and elections go by a clock that does not jump."""
        term = self.raft(self.leader).current_term
        self.cluster.computers[self.leader].jump(3600)
        self.cluster.advance(3)
        self.cluster.computers[self.leader].jump(-7200)
        self.cluster.execute("PUT", "a", "new")
        self.cluster.advance(3)
        self.assertEqual(self.raft(self.leader).current_term, term)
        self.assertEqual(self.cluster.leader(), self.leader)

    def test_the_clock_goes_on_during_suspend(self) -> None:
        """A lease must not survive a night in a closed laptop."""
        self.patch(time, "clock_gettime", {time.CLOCK_BOOTTIME: 42.0}.__getitem__)
        self.assertEqual(boot_time(), 42.0)

    def test_tokens_are_never_used_again(self) -> None:
        """A late answer to one round of reads cannot serve those of another (etcd#20418)."""
        reads, raft = Reads(lambda run: None), make_leader()
        tokens = []
        for _ in range(3):
            reads.confirm(make_run()[0], 0.0)
            reads.submit(raft, 0.0)
            ((token, _),) = settle(raft)
            reads.confirmed(token, -1, NotLeader())
            tokens.append(token)
        self.assertEqual(len(set(tokens)), 3)

    def test_a_kept_lease_ends_with_the_next_input(self) -> None:
        """The core is asked again as soon as anything happened, before and after the turn."""
        node: Any = self.cluster.nodes[self.leader]
        raft, driver = node.raft, node.driver
        others = [peer for peer in raft.configuration.voters if peer != raft.node_id]

        def may_read() -> bool:
            return bool(node.reading.at_once(Consistency.MEDIUM, [[b"TAKE", b"a"]]))

        def lose_lease() -> None:
            """As when links are lost, but without a word to the node."""
            for peer in others:
                raft.peer_lost(peer, node.now())
            self.assertEqual(raft.lease_until(), 0.0)

        def earn_lease() -> None:
            for peer in others:
                raft.peer_connected(peer, node.now())
            node.wake()
            self.cluster.wait_until(lambda: raft.lease_valid(node.now()) and not driver.is_due, 0.5)

        earn_lease()
        self.assertTrue(may_read())
        lose_lease()
        self.assertTrue(may_read())  # nothing happened since: the answer is kept
        node.wake()
        self.assertFalse(may_read())
        earn_lease()
        self.assertTrue(may_read())
        lose_lease()
        self.assertTrue(may_read())
        driver.turn()
        self.assertFalse(driver.is_due)
        self.assertFalse(may_read())
