"""Tests of what a driver sees: deadlines, errors, shared messages, how fast leaders are found."""

from __future__ import annotations

import math
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import NotLeader
from finn.raft import Configuration, Role
from finn.raft.messages import AppendEntries, AppendReply, TimeoutNow
from tests.raft.host import members
from tests.raft.single import Single, entry
from tests.raft.trace import Script


class DriverTests(SynchronousTestCase):
    """Raft keeps what finn.raft promises to a driver."""

    def test_no_twisted(self) -> None:
        """The core is usable without Twisted, and imports none of it."""
        code = "import sys, finn.raft; sys.exit('twisted' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code]).returncode, 0)

    def test_nothing_to_do(self) -> None:
        """Without news there is no Ready."""
        node = Single()
        self.assertIsNone(node.raft.ready())
        node.lead_on()
        self.assertIsNone(node.raft.ready())

    def test_deadline_is_finite(self) -> None:
        """Whatever the role and the members, a timer can be set."""
        for configuration in (members(1), members(1, 2, 3), members(2), Configuration()):
            node = Single(configuration)
            node.wait(5)
            self.assertTrue(node.now < node.raft.next_deadline() < math.inf)

    def test_first_tick_of_a_sole_voter(self) -> None:
        """It is due at once."""
        node = Single(members(1))
        self.assertEqual(node.raft.next_deadline(), node.now)

    def test_not_leader(self) -> None:
        """The error names the leader, if there is one."""
        node = Single()
        error = self.assertRaises(NotLeader, node.propose)
        self.assertIsNone(error.leader)
        node.append(term=1)
        error = self.assertRaises(NotLeader, node.propose)
        self.assertEqual(error.leader, ":7482")
        for call in (
            lambda: node.raft.read_index("a", node.now),
            lambda: node.raft.transfer_leadership(None, node.now),
            lambda: node.raft.change_membership(members(1, 2), 0, node.now),
        ):
            self.assertRaises(NotLeader, call)

    def test_entry(self) -> None:
        """Time never goes back, and the seed is drawn."""
        node = Single()
        node.lead_on()
        made = [node.raft.propose([b"a", b"b"], 2, wall, node.now) for wall in (500, 400, 600)]
        self.assertEqual([e.time for e in made], [500, 500, 600])
        self.assertEqual([e.index for e in made], [2, 3, 4])
        self.assertEqual(len({e.seed for e in made}), 3)
        self.assertEqual((made[0].payload, made[0].count, made[0].term), (b"ab", 2, 1))

    def test_messages_are_shared(self) -> None:
        """Peers at the same position get the same object, with a round of its own."""
        node = Single(members(1, 2, 3, 4, 5))
        node.lead_on()
        for peer in (2, 3, 4, 5):
            node.said(AppendEntries, peer)
        node.propose()
        first = [node.said(AppendEntries, peer)[0] for peer in (2, 3, 4, 5)]
        self.assertEqual(len({id(m) for m in first}), 1)
        node.propose()
        self.assertGreater(node.said(AppendEntries, 2)[0].round, first[0].round)

    def test_entries_are_sent_before_they_are_written(self) -> None:
        """One Ready holds the entries and the messages with them (thesis 10.2.1)."""
        node = Single()
        node.lead_on()
        made = node.raft.propose([b"x"], 1, 0, node.now)
        ready = node.raft.ready()
        assert ready is not None
        self.assertEqual(ready.entries, [made])
        self.assertEqual([p for p, m in ready.messages], [2, 3])
        node.host.perform(ready)

    def test_commit_is_told_soon(self) -> None:
        """With nothing else to send, followers learn of a commit in milliseconds."""
        node = Single()
        node.lead_on()
        node.propose()
        node.acknowledge(2)
        node.acknowledge(3)
        node.wait(0.011)
        self.assertEqual([m.leader_commit for m in node.said(AppendEntries)], [2, 2])

    def test_commits_ride_on_entries(self) -> None:
        """Where entries follow, no message is sent to tell of a commit alone."""
        node = Single()
        node.lead_on()
        told = []
        for _ in range(30):
            node.propose()
            told += node.said(AppendEntries, 2)[-1:]
            node.gets(2, AppendReply(1, True, told[-1].round, node.raft.log.last_index))
            node.wait(0.001)
        self.assertEqual([m for m in node.said(AppendEntries, 2) if not m.entries], [])
        self.assertEqual([m.leader_commit for m in told], list(range(1, 31)))

    def test_answers_are_few(self) -> None:
        """A message with entries gets one answer, when they are durable."""
        node = Single()
        node.append(term=1)
        self.assertEqual(len(node.append((0, 0), entry(1, 1))), 1)
        node.host.slow = True
        self.assertEqual(node.append((1, 1), entry(2, 1)), [])
        node.sync()
        self.assertEqual(len(node.said(AppendReply)), 1)

    def test_transferring(self) -> None:
        """Meanwhile proposals are refused; a lost link ends it."""
        node = Single()
        node.lead_on()
        node.propose()
        node.raft.transfer_leadership(3, node.now)
        self.assertTrue(node.raft.transferring)
        self.assertRaises(NotLeader, node.propose)
        node.raft.peer_lost(3, node.now)
        node.raft.tick(node.now)
        node.drain()
        self.assertFalse(node.raft.transferring)
        self.assertEqual(node.said(TimeoutNow), [])
        node.propose()

    def test_lost_link(self) -> None:
        """Nothing is sent that would be in flight for nothing; a new link begins with a probe."""
        node = Single()
        node.lead_on()
        node.raft.peer_lost(2, node.now)
        node.drain()
        node.said(AppendEntries)
        for _ in range(3):
            node.propose()
        self.assertEqual(node.said(AppendEntries, 2), [])
        node.raft.peer_connected(2, node.now)
        node.drain()
        self.assertEqual([len(m.entries) for m in node.said(AppendEntries, 2)], [3])


class SpeedTests(SynchronousTestCase):
    """How long clusters are without a leader."""

    def cluster(self) -> Script:
        script = Script()
        script.command("nodes 1 2 3")
        script.command("run 3")
        return script

    def leader(self, script: Script) -> int:
        return next(
            (h.id for h in script.hosts.values() if h.raft and h.raft.role is Role.LEADER), 0
        )

    def until_leader(self, script: Script) -> float:
        begin = script.now
        while not self.leader(script) and script.now < begin + 10:
            script.command("run 0.01")
        return script.now - begin

    def test_crash(self) -> None:
        """Within 150 ms after both followers saw the leader's port closed."""
        script = self.cluster()
        old = self.leader(script)
        script.command(f"crash {old}")
        for other in sorted({1, 2, 3} - {old}):
            script.command(f"suspect {other}")
        self.assertLess(self.until_leader(script), 0.15)

    def test_graceful_stop(self) -> None:
        """A hand-over takes two messages and an election: no waiting at all."""
        script = self.cluster()
        old = self.leader(script)
        script.command(f"transfer {old}")
        script.command("run 0")
        self.assertNotIn(self.leader(script), (0, old))

    def test_cold_restart(self) -> None:
        """All three at once, with a past: about two election timeouts."""
        script = self.cluster()
        for node in (1, 2, 3):
            script.command(f"crash {node}")
        for node in (1, 2, 3):
            script.command(f"restart {node}")
        self.assertLess(self.until_leader(script), 2.5)
