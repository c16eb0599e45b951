"""What a node knows of its own removal: the log may have old news, a leader's word is for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from finn.node.links import REMOVED
from finn.protocols.handshake import PeerHello
from finn.testing.computer import Computer
from tests.node.members import MembersCase
from tests.node.support import Client


class Removals(MembersCase):
    def half_added(self) -> tuple[Computer, Client]:
        """Start a node that has the cluster's id, and does not know yet that it is a member.

        With it comes the client that has it added, and has no answer yet.
        """
        computer = self.waiting()
        client = Client(self.cluster, self.leader)
        client.send(f"RAFTADDPEER {computer.address}")
        while not computer.node.identity.cluster_id:
            self.cluster.advance(0.0002)
        return computer, client

    def ask(self, command: str) -> None:
        """Have the leader change the members."""
        self.assertEqual(Client(self.cluster, self.leader).ask(command), b"+OK\r\n")

    def assert_told(self, computer: Computer) -> None:
        """A leader said so: it has no links to members any more, and is left in peace."""
        node = computer.node
        self.cluster.wait_until(lambda: node.raft is not None and node.raft.told_removed, 10)
        self.cluster.advance(0.1)
        self.assertEqual(node.links._dialers, {})
        self.assertTrue(node.identity.removed)

    # -- the log is history -------------------------------------------------------------------

    def add_again(self) -> Computer:
        """Return one whose log says that it is removed, but that is a member again.

        It had the cluster's id, but did not know that it was a member: its id is as good.
        """
        self.start(seed=1)
        computer, client = self.half_added()
        computer.kill()
        self.assertFalse(computer.node.identity.joined)
        self.cluster.wait_until(lambda: client.received)
        self.ask(f"RAFTREMOVEPEER {computer.address}")
        self.cluster.advance(5)
        for number in range(12):  # so much that the removal comes a while before the addition
            self.cluster.execute("PUT", f"k{number}", "y" * 700_000)
        self.ask("RAFTTRANSFER")
        self.cluster.advance(3)
        self.leader = self.cluster.leader()
        computer.start()
        self.cluster.advance(1)
        self.ask(f"RAFTADDPEER {computer.address}")
        self.cluster.wait_until(lambda: computer.node.identity.removed)
        return computer

    def assert_votes(self, computer: Computer) -> None:
        """It is a voter like all others, and has links to all that are there."""
        node_id = computer.node.identity.node_id
        self.cluster.wait_until(lambda: node_id in self.voters(), 60)
        self.cluster.wait_until(lambda: not computer.node.identity.removed)
        dialers = computer.node.links._dialers
        self.assertEqual(len(dialers), 3)
        there = [c.node.identity.node_id for c in self.cluster.computers if c.running]
        up = [dialers[i] for i in there if i != node_id]
        self.cluster.wait_until(lambda: all(d.link is not None for d in up))

    def voters(self) -> tuple[int, ...]:
        leaders = [c for c in self.cluster.computers if c.leads]
        raft = leaders[0].node.raft if leaders else None
        return raft.configuration.voters if raft is not None else ()

    def test_a_newcomer_that_reads_its_removal_when_it_was_added_again(self) -> None:
        """A later configuration has it; it is the same after a restart."""
        computer = self.add_again()
        self.assert_votes(computer)
        computer.kill()
        computer.options.wait = False
        computer.start()
        self.cluster.execute("PUT", "z", "1")
        self.cluster.wait_until(lambda: computer.machine.values.get(b"z") == b"1", 60)
        self.assert_votes(computer)

    def test_its_links_are_lost_before_it_reads_on(self) -> None:
        """Whoever leads reaches it: it leaves its links only when a leader says that it may."""

        def lose_links(computer: Computer) -> None:
            for link in list(computer.node.links._all):
                link.abort("lost")

        def restart(computer: Computer) -> None:
            computer.kill()
            computer.options.wait = False
            computer.start()

        def crash(computer: Computer) -> None:
            self.cluster.crash(self.leader)
            self.cluster.wait_until(lambda: any(c.leads for c in self.cluster.computers), 60)

        for happens in (lose_links, restart, crash):
            computer = self.add_again()
            happens(computer)
            self.assert_votes(computer)

    # -- a leader's word ----------------------------------------------------------------------

    def test_a_newcomer_that_is_removed_is_told(self) -> None:
        """It said that it was fresh when its links were made: it makes new ones."""
        self.start()
        computer = self.waiting()
        client = Client(self.cluster, self.leader)
        others = [self.cluster.computers[m] for m in self.others]
        for other in others:
            other.pause()
        client.send(f"RAFTADDPEER {computer.address}")
        hellos = self.cluster.nodes[self.leader].links.hellos
        node_id = computer.node.identity.node_id
        self.cluster.wait_until(lambda: (node_id, True) in [(h.node_id, h.fresh) for h in hellos()])
        for other in others:
            other.resume()
        self.cluster.wait_until(lambda: client.received)
        self.cluster.wait_until(self.cluster.settled)
        self.assertIn((node_id, True), [(h.node_id, h.fresh) for h in hellos()])
        self.ask(f"RAFTREMOVEPEER {computer.address}")
        self.assert_told(computer)

    def test_a_newcomer_that_learns_of_all_at_once_is_told(self) -> None:
        """It never knew that it was a member, when it reads that it is none any more."""
        self.start()
        computer, client = self.half_added()
        computer.pause()
        self.cluster.wait_until(lambda: client.received)
        self.ask(f"RAFTREMOVEPEER {computer.address}")
        computer.resume()
        self.assert_told(computer)

    def test_one_that_was_told_is_not_added(self) -> None:
        """It said that it is fresh, and that it is not before it was added."""
        self.start()
        computer = self.waiting()
        node = self.cluster.nodes[self.leader]
        membership = node.membership
        change, answers = membership._change, []

        async def late(*args: Any) -> None:
            hello = PeerHello(
                computer.node.identity.node_id, node.identity.cluster_id, computer.address, 1, False
            )
            answers.append(node.links.accept_link(hello))
            await change(*args)

        self.patch(membership, "_change", late)
        reply = Client(self.cluster, self.leader).ask(f"RAFTADDPEER {computer.address}")
        self.assertEqual(answers, [REMOVED])
        self.assertIn(b"was removed from this cluster", reply)
        self.assertEqual(len(self.voters()), 3)

    def test_one_that_is_told_of_a_former_member_leaves_it_in_peace(self) -> None:
        """Who leads now is nobody that it knows; it knows one that was removed, too."""
        self.start()
        computer, former = (self.cluster.computers[m] for m in (self.others[0], self.leader))
        for one in (computer, former):
            one.options = replace(one.options, join=[])
        self.ask(f"RAFTREMOVEPEER {computer.address}")
        self.cluster.wait_until(lambda: computer.node.identity.removed)
        computer.kill()
        newcomer = self.cluster.add()
        self.cluster.wait_until(lambda: len(self.voters()) == 3, 30)
        self.ask(f"RAFTTRANSFER {self.cluster.computers[newcomer].address}")
        self.cluster.wait_until(lambda: self.cluster.computers[newcomer].leads)
        self.leader = newcomer
        self.ask(f"RAFTREMOVEPEER {former.address}")
        self.assert_told(former)
        computer.start()
        self.cluster.advance(5)
        self.assertNotIn(former.node.identity.node_id, computer.node.links._dialers)
        with capturedLogs() as logs:
            self.cluster.advance(30)
        self.assertEqual([line for line in map(formatEvent, logs) if "removed" in line], [])

    def test_one_that_was_not_told_is_told_by_the_next_leader(self) -> None:
        """It has a link to it, made when it did not lead yet."""
        self.start(size=4)
        computer = self.cluster.computers[self.others[0]]
        computer.options = replace(computer.options, join=[])
        self.ask(f"RAFTREMOVEPEER {computer.address}")
        self.cluster.wait_until(lambda: computer.node.identity.removed)
        computer.kill()
        self.cluster.crash(self.leader)
        computer.start()
        self.cluster.wait_until(lambda: computer.node.raft)
        assert computer.node.raft is not None
        self.assertTrue(computer.node.raft.removed)
        self.assertFalse(computer.node.raft.told_removed)
        self.assertEqual(len(computer.node.links._dialers), 3)
        hello = PeerHello(1, computer.node.identity.cluster_id, "db9:7481", 1, False, "raft")
        self.assertIsNone(computer.node.links.accept_link(hello))  # it may be a leader by now
        self.assert_told(computer)

    def test_what_it_says_at_a_restart(self) -> None:
        """How to join again, and not that it waits to be added; it knows what it was told."""
        self.start()
        computer = self.cluster.computers[self.others[0]]
        self.ask(f"RAFTREMOVEPEER {computer.address}")
        self.assert_told(computer)
        computer.kill()
        computer.options = replace(computer.options, join=[])
        for member in (self.leader, self.others[1]):
            self.cluster.crash(member)
        with capturedLogs() as logs:
            computer.start()
            self.assert_told(computer)
        said = [line for line in map(formatEvent, logs) if "join" in line]
        self.assertEqual(
            said,
            [
                "this node was removed from its cluster and serves status only: "
                "start it with --join to join again as a new member"
            ],
        )

    def test_a_snapshot_of_before_takes_nothing_back(self) -> None:
        """It is told of its removal while a snapshot that has it as a member is installed."""
        self.start(size=4)
        computer = self.cluster.computers[self.others[0]]
        computer.kill()
        for key in "bcd":
            self.cluster.execute("PUT", key, "1")
            for member in (self.leader, *self.others[1:]):
                client = Client(self.cluster, member)
                self.assertEqual(client.ask("RAFTSNAPSHOT"), b"+OK\r\n")
                self.assertEqual(client.ask("RAFTSHRINKLOG"), b"+OK\r\n")
        computer.start()
        node = computer.node
        transfers = node.snapshots.transfers
        install, begun = transfers._install, []
        goes_on: Deferred[None] = Deferred()

        async def slowly(meta: Any, sender: Any) -> None:
            begun.append(meta)
            await goes_on
            await install(meta, sender)

        self.patch(transfers, "_install", slowly)
        self.cluster.wait_until(lambda: begun)
        self.ask(f"RAFTREMOVEPEER {computer.address}")
        for link in list(node.links._all):
            if link.kind == "raft":
                link.abort("lost")
        self.assert_told(computer)
        goes_on.callback(None)
        self.cluster.wait_until(lambda: node.snapshots.installed)
        self.cluster.advance(5)
        self.assert_told(computer)
