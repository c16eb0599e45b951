"""Members whose addresses change, one into that of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from math import inf
from random import Random
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred

from finn.errors import MembershipError, NotLeader
from finn.node.membership import CORRECTION_REST
from finn.testing.computer import Computer
from tests.node.members import MembersCase
from tests.node.support import Client


class MovedMembers(MembersCase):
    """Nobody is removed unasked, and an id that was removed never comes back."""

    def move(self, computer: Computer, address: str) -> None:
        computer.move(address)
        computer.options.join = []

    def noted(self, member: int) -> dict[int, str]:
        """Return the addresses that a node knows, by id."""
        raft = self.cluster.nodes[member].raft
        assert raft is not None
        return {m.id: m.address for m in raft.configuration.members}

    def assert_all_known(self, computers: list[Computer]) -> None:
        """All are members still, each under its address."""
        where = {c.node.identity.node_id: c.address for c in computers}
        self.cluster.wait_until(lambda: self.noted(self.cluster.leader()) == where, 60)
        self.assertFalse(any(c.node.identity.removed for c in computers))
        self.cluster.execute("PUT", "b", "2")

    def test_two_exchange_their_addresses(self) -> None:
        """At whatever time the second comes back."""
        for gap, seed in zip((0.0, 0.01, 0.05, 0.2, 0.5, 4.0), cycle(range(3))):
            self.start(seed=seed)
            one, two = (self.cluster.computers[m] for m in self.others)
            first, second = one.address, two.address
            one.kill()
            two.kill()
            self.move(one, second)
            self.move(two, first)
            one.start()
            self.cluster.advance(gap)
            two.start()
            self.assert_all_known(self.cluster.computers)

    def test_a_leader_exchanges_its_address(self) -> None:
        """One of the two leads then, as both find the third: it tells its own address."""
        self.start()
        one, two = (self.cluster.computers[m] for m in (self.leader, self.others[0]))
        first, second = one.address, two.address
        one.kill()
        two.kill()
        self.move(one, second)
        self.move(two, first)
        one.start()
        two.start()
        self.assert_all_known(self.cluster.computers)

    def test_the_address_of_one_that_is_down(self) -> None:
        """It is not there any more, but a member it is."""
        self.start()
        one, two = (self.cluster.computers[m] for m in self.others)
        first, second = one.address, two.address
        one.kill()
        two.kill()
        self.move(one, second)
        one.start()
        ids = [c.node.identity.node_id for c in (one, two)]
        self.cluster.wait_until(lambda: self.noted(self.leader)[ids[0]] == second)
        self.assertEqual(self.noted(self.leader)[ids[1]], first)
        self.move(two, "10.0.0.9:7481")
        two.start()
        self.assert_all_known(self.cluster.computers)

    def test_a_leader_that_is_mistaken_about_its_address(self) -> None:
        """It takes nobody's who is there."""
        self.start()
        node = self.cluster.nodes[self.leader]
        other = self.cluster.computers[self.others[0]].address
        before = self.noted(self.leader)
        renaming = Deferred.fromCoroutine(node.membership.rename(other))
        self.cluster.advance(3)
        error = self.failureResultOf(renaming, MembershipError).value
        self.assertEqual(str(error), f"ERR {other} is where another member is, or was")
        self.cluster.crash(self.others[0])  # that it does not answer is no consent
        renaming = Deferred.fromCoroutine(node.membership.rename(other))
        self.cluster.advance(3)
        self.failureResultOf(renaming, MembershipError)
        self.assertEqual(self.noted(self.leader), before)

    def test_one_whose_address_another_had_meanwhile(self) -> None:
        """It comes back where it always was, and does not know that it was noted elsewhere."""
        self.start()
        mover, other = (self.cluster.computers[m] for m in self.others)
        address = other.address
        other.kill()
        for moved in (address, "10.0.9.9:7481"):
            mover.kill()
            self.move(mover, moved)
            mover.start()
            node_id = mover.node.identity.node_id
            self.cluster.wait_until(
                lambda moved=moved, node_id=node_id: self.noted(self.leader)[node_id] == moved  # type: ignore[misc]
            )
        self.assertNotEqual(self.noted(self.leader)[other.node.identity.node_id], address)
        other.start()
        self.assert_all_known(self.cluster.computers)

    def stall(self, member: int) -> list[Client]:
        """Begin a change that takes until ``resume``; return three clients of the leader."""
        computer = self.cluster._build()
        computer.options.join = [self.cluster.computers[self.leader].address]
        for other in self.others:
            if other != member:
                self.cluster.pause(other)
        computer.start()
        raft = self.cluster.nodes[self.leader].raft
        assert raft is not None
        self.cluster.wait_until(lambda: raft.configuration.index > raft.commit_index)
        return [Client(self.cluster, self.leader) for _ in range(3)]

    def resume(self, member: int) -> None:
        for other in self.others:
            if other != member:
                self.cluster.resume(other)

    def answered(self, clients: list[Client], how: Callable[..., bool] = all) -> None:
        """Wait for the replies of all clients, or any."""
        self.cluster.wait_until(lambda: how(client.received for client in clients), 60)

    def test_a_member_is_removed_while_its_address_changes(self) -> None:
        """Both wait for another change: whichever comes first, it does not come back."""
        for steps in (("start", "move", "removal"), ("removal", "start", "move")):
            self.start(size=5)
            mover = self.cluster.computers[self.others[0]]
            node_id, old = mover.node.identity.node_id, mover.address
            mover.kill()
            self.move(mover, "10.0.0.77:7481")
            one, two, _ = self.stall(self.others[0])
            for step in steps:
                if step == "start":
                    mover.start()
                elif step == "move":
                    one.send("RAFTADDPEER 10.0.0.77:7481")
                else:
                    two.send(f"RAFTREMOVEPEER {old}")
                self.cluster.advance(0.02)
            self.resume(self.others[0])
            self.answered([one, two])
            self.cluster.advance(5)
            if two.received == b"+OK\r\n":
                self.assertNotIn(node_id, self.noted(self.cluster.leader()))
            else:
                self.assertIn(node_id, self.noted(self.cluster.leader()))

    def test_a_move_that_comes_after_the_removal(self) -> None:
        """It waited for that: it does not bring the member back."""
        self.start()
        node = self.cluster.nodes[self.leader]
        assert node.raft is not None
        member = self.cluster.computers[self.others[0]]
        node_id = member.node.identity.node_id
        reply = Client(self.cluster, self.leader).ask(f"RAFTREMOVEPEER {member.address}")
        self.assertEqual(reply, b"+OK\r\n")
        move = node.membership._move(node_id, "10.0.0.77:7481", node.raft.current_term)
        moving = Deferred.fromCoroutine(move)
        self.cluster.advance(1)
        self.failureResultOf(moving, MembershipError)
        self.assertNotIn(node_id, self.noted(self.leader))

    def test_a_newcomer_is_removed_while_it_is_added(self) -> None:
        """It is added twice at once, and removed as soon as it is there."""
        for gap in (0.005, 0.015, 0.025, 0.035, 0.045):
            self.start(size=5)
            computer = self.waiting()
            clients = self.stall(self.others[0])
            for client in clients[:2]:
                client.send(f"RAFTADDPEER {computer.address}")
                self.cluster.advance(gap)
            self.resume(self.others[0])
            self.answered(clients[:2], any)
            clients[2].send(f"RAFTREMOVEPEER {computer.address}")
            self.answered(clients)
            self.assertEqual(clients[2].received, b"+OK\r\n")
            self.cluster.advance(1)
            self.assertNotIn(computer.node.identity.node_id, self.noted(self.cluster.leader()))

    def test_a_change_of_an_older_term(self) -> None:
        """Another leader may have removed the member meanwhile: it is not made."""
        self.start()
        node = self.cluster.nodes[self.leader]
        assert node.raft is not None
        before = self.noted(self.leader)
        member = next(m for m in node.raft.configuration.members if m.id != node.raft.node_id)
        term = node.raft.current_term - 1
        moving = Deferred.fromCoroutine(node.membership._move(member.id, "10.0.0.9:7481", term))
        self.cluster.advance(1)
        self.failureResultOf(moving, NotLeader)
        self.assertEqual(self.noted(self.leader), before)

    def test_the_next_leader_knows_who_was_removed(self) -> None:
        """It did not see it, but who has been a member and is none cannot be added."""
        self.start()
        removed, next_leader = self.others
        address = self.cluster.computers[removed].address
        client = Client(self.cluster, self.leader)
        self.assertEqual(client.ask(f"RAFTREMOVEPEER {address}"), b"+OK\r\n")
        self.cluster.wait_until(lambda: self.cluster.nodes[removed].identity.told_removed)
        self.assertEqual(client.ask("RAFTTRANSFER"), b"+OK\r\n")
        self.cluster.wait_until(lambda: self.cluster.computers[next_leader].leads)
        self.cluster.advance(1)
        reply = Client(self.cluster, next_leader).ask(f"RAFTADDPEER {address}")
        self.assertIn(b"was removed from this cluster: restart it with --join", reply)
        self.assertEqual(len(self.noted(next_leader)), 2)

    def test_a_newcomer_that_was_removed_before_it_knew(self) -> None:
        """Its id would read its own removal in the log; started with --join it has another one."""
        self.start()
        computer = self.waiting()
        raft = self.cluster.nodes[self.leader].raft
        assert raft is not None
        client = Client(self.cluster, self.leader)
        client.send(f"RAFTADDPEER {computer.address}")
        while len(raft.configuration.members) == 3:
            self.cluster.advance(0.0005)
        computer.kill()
        self.assertEqual(computer.node.identity.cluster_id, 0)  # no link of the leader came yet
        self.cluster.wait_until(lambda: client.received)
        self.assertEqual(client.ask(f"RAFTREMOVEPEER {computer.address}"), b"+OK\r\n")
        self.cluster.advance(10)  # nobody tells it any more
        computer.start()
        self.cluster.advance(1)
        term, node_id = raft.current_term, computer.node.identity.node_id
        reply = client.ask(f"RAFTADDPEER {computer.address}")
        self.assertIn(b"was removed from this cluster: restart it with --join", reply)
        computer.kill()
        address = self.cluster.computers[self.leader].address
        computer.options = replace(computer.options, join=[address], wait=False)
        computer.start()
        self.cluster.wait_until(lambda: computer.node.identity.joined)
        self.assertNotEqual(computer.node.identity.node_id, node_id)
        self.assertEqual(raft.current_term, term)

    def test_one_that_is_mistaken_about_its_address(self) -> None:
        """It is not there, but one that waits to be added: nobody is moved, or added."""
        self.start()
        other = self.waiting()
        before = self.noted(self.leader)
        member = self.cluster.nodes[self.others[0]].identity.node_id
        hello: Any = SimpleNamespace(node_id=member, address=other.address)
        membership = self.cluster.nodes[self.leader].membership
        membership._next_look = inf  # it would be put right
        correcting = Deferred.fromCoroutine(membership._correct([hello]))
        self.cluster.advance(5)
        self.assertIsNone(self.successResultOf(correcting))
        self.assertEqual(self.noted(self.leader), before)

    def note(self, member: int, address: str) -> None:
        """Have the leader note a member somewhere, and correct nothing for now."""
        node = self.cluster.nodes[self.leader]
        assert node.raft is not None
        node.membership._next_look = inf
        node_id = self.cluster.nodes[member].identity.node_id
        moving = node.membership._move(node_id, address, node.raft.current_term)
        moved = Deferred.fromCoroutine(moving)
        self.cluster.wait_until(lambda: moved.called)
        self.successResultOf(moved)
        self.assertEqual(self.noted(self.leader)[node_id], address)

    def correct(self) -> None:
        self.cluster.nodes[self.leader].membership._next_look = 0.0
        self.cluster.advance(1)

    def test_one_that_is_linked_is_corrected(self) -> None:
        """Its link was made before there was this leader, or before it was noted elsewhere."""
        self.start()
        before = self.noted(self.leader)
        self.note(self.others[0], "10.0.0.77:7481")
        self.correct()
        self.assertEqual(self.noted(self.leader), before)

    def test_a_leader_that_is_noted_elsewhere(self) -> None:
        """It was chosen by those that it dialled; clients are sent to where it is noted."""
        self.start()
        before = self.noted(self.leader)
        self.note(self.leader, "10.0.0.77:7481")
        self.correct()
        self.assertEqual(self.noted(self.leader), before)

    def test_all_come_back_with_one_noted_elsewhere(self) -> None:
        """Whoever leads then: all know it by its address, and their clients find it."""
        self.start()
        other = self.others[1]
        address = self.cluster.computers[other].address
        self.note(other, "10.0.0.77:7481")
        for member in range(3):
            self.cluster.crash(member)
        for computer in self.cluster.computers:
            computer.start()
        self.cluster.wait_until(lambda: any(c.leads for c in self.cluster.computers), 60)
        self.assert_all_known(self.cluster.computers)
        leader = self.cluster.leader()
        if leader != other:
            reply = Client(self.cluster, leader).ask(f"RAFTTRANSFER {address}")
            self.assertEqual(reply, b"+OK\r\n")
            self.cluster.wait_until(lambda: self.cluster.computers[other].leads)
        self.cluster.advance(1)
        for member in {*range(3)} - {other}:
            reply = Client(self.cluster, member).ask("PUT c 3")
            self.assertEqual(reply, b"-TRY %s\r\n" % address.encode())

    def test_a_newcomer_where_a_linked_member_is_noted(self) -> None:
        """That is elsewhere: it is no wiped disk, and not removed for the newcomer."""
        self.start()
        computer = self.waiting()
        self.note(self.others[0], computer.address)
        client = Client(self.cluster, self.leader)
        reply = client.ask(f"RAFTADDPEER {computer.address}")
        text = f"-ERR the member known at {computer.address} lives elsewhere: try again\r\n"
        self.assertEqual(reply, text.encode())
        self.correct()
        self.assertEqual(client.ask(f"RAFTADDPEER {computer.address}"), b"+OK\r\n")
        self.assert_all_known(self.cluster.computers)

    def test_one_that_moved_away_meanwhile_is_not_removed(self) -> None:
        """A newcomer is there now, but the member's own change came first."""
        self.start()
        node = self.cluster.nodes[self.leader]
        assert node.raft is not None
        before = self.noted(self.leader)
        member = self.cluster.nodes[self.others[0]].identity.node_id
        removal = node.membership._remove(member, node.raft.current_term, "10.0.0.77:7481")
        removing = Deferred.fromCoroutine(removal)
        self.cluster.advance(1)
        self.failureResultOf(removing, MembershipError)
        self.assertEqual(self.noted(self.leader), before)

    def test_removing_an_address_does_not_remove_one_that_lives_elsewhere(self) -> None:
        """It is noted there by mistake; who is meant is the one that lives there."""
        self.start(size=4)
        one, two, three = (self.cluster.computers[m] for m in self.others)
        wrong = three.address
        self.note(self.others[2], "10.0.0.77:7481")
        self.note(self.others[0], wrong)
        client = Client(self.cluster, self.leader)
        text = f"lives at {one.address}: remove it by that address\r\n"
        self.assertIn(text.encode(), client.ask(f"RAFTREMOVEPEER {wrong}"))
        self.note(self.others[0], one.address)
        self.correct()
        self.assert_all_known(self.cluster.computers)
        self.assertEqual(client.ask(f"RAFTREMOVEPEER {wrong}"), b"+OK\r\n")
        self.cluster.wait_until(lambda: three.node.identity.removed)
        self.assertFalse(one.node.identity.removed or two.node.identity.removed)

    def test_removing_one_that_is_mistaken_about_its_address(self) -> None:
        """It says that it lives elsewhere, but somebody else does: it is who is meant."""
        self.start()
        mistaken, other = (self.cluster.computers[m] for m in self.others)
        real = mistaken.address
        mistaken.kill()
        mistaken.options = replace(mistaken.options, address=other.address, join=[])
        mistaken.start()
        self.cluster.advance(5)
        node_id = mistaken.node.identity.node_id
        self.assertEqual(self.noted(self.leader)[node_id], real)
        reply = Client(self.cluster, self.leader).ask(f"RAFTREMOVEPEER {real}")
        self.assertEqual(reply, b"+OK\r\n")
        self.assertNotIn(node_id, self.noted(self.leader))

    def test_one_id_at_two_addresses(self) -> None:
        """A directory was copied: the members are not changed with each of their links."""
        self.start()
        original, copy = self.cluster.computers[self.others[0]], self.cluster._build()
        copy.options.join = []
        original.kill()
        copy.files = original.files.power_cut(Random(1))
        original.files.dead = False
        original.start()
        self.cluster.advance(3)
        raft = self.cluster.computers[self.leader].node.raft
        assert raft is not None
        before = raft.configuration.index
        copy.start()
        self.cluster.advance(60)
        self.assertLess(before, raft.configuration.index)  # it is noticed, and logged
        self.assertLessEqual(raft.configuration.index, before + 2 * 60 / CORRECTION_REST)
