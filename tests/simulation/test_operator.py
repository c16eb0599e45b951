"""What the operators of a simulated run see to, so that it comes right again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from finn.testing.computer import Computer
from finn.testing.drawing import Drawn
from finn.testing.simulator import Simulation

NOBODY = "10.0.0.99:7000"


class OperatorTests(SynchronousTestCase):
    """A cluster of three and a spare computer, and no faults but those of the test."""

    def setUp(self) -> None:
        self.simulation = Simulation(1, Drawn(faults=()))
        self.faults = self.simulation.faults
        self.addCleanup(lambda: [c.kill() for c in self.simulation.computers])
        *self.founders, self.spare = self.simulation.computers
        for computer in self.founders:
            self.simulation.start(computer)
        self.simulation._wait(self.simulation._equal, 60, "founding")

    def settle(self) -> None:
        self.faults.end()
        self.faults.tidy()
        self.simulation._wait(self.simulation._equal, 60, "equality")

    def join(self, computer: Computer, *addresses: str) -> None:
        computer.options.join = list(addresses)
        self.simulation.start(computer)
        self.simulation._advance(5)
        self.assertFalse(computer.node.identity.joined)

    def test_a_newcomer_that_asks_where_nobody_is(self) -> None:
        """The member that it was told of has moved: nothing else can help it."""
        self.join(self.spare, NOBODY)
        self.settle()
        self.assertEqual(len(self.simulation.members()), 4)

    def test_a_newcomer_that_was_told_of_nobody(self) -> None:
        """A founder that was removed has itself in its flags, and may have nobody else."""
        founder = self.founders[0]
        self.simulation.request(self.founders[1].address, "RAFTREMOVEPEER", founder.address)
        self.simulation._wait(lambda: founder.node.identity.removed, 10, "removal")
        founder.kill()
        self.join(founder, founder.address)
        self.settle()
        self.assertEqual(len(self.simulation.members()), 3)

    def test_a_removal_that_may_fail(self) -> None:
        """Nobody's disk is emptied before the removal is committed: its vote may be needed."""
        leader = next(c for c in self.founders if c.leads)
        victim = next(c for c in self.founders if not c.leads)
        self.simulation.world.network.partition(
            [leader.host], [c.host for c in self.founders if c is not leader]
        )
        self.simulation.request(leader.address, "RAFTREMOVEPEER", victim.address)
        self.simulation._wait(lambda: victim not in self.simulation.members(), 1, "append")
        files = victim.files
        self.faults.removed[victim] = self.faults._targets[victim] = None
        self.faults.rejoin(victim)
        self.assertIs(victim.files, files)
        self.settle()
        self.assertEqual(len(self.simulation.members()), 3)

    def test_nobody_runs_who_could_tell(self) -> None:
        """A member is not taken for one that was removed, nor left to found a cluster alone."""
        victim = self.founders[0]
        for computer in self.founders:
            computer.kill()
        self.faults.removed[victim] = None
        self.faults.rejoin(victim)
        self.simulation._advance(1)
        for computer in self.founders[1:]:
            self.simulation.start(computer)
        self.settle()
        self.assertEqual(len(self.simulation.members()), 3)

    def test_a_disk_that_fails_late(self) -> None:
        """Its node is started again whenever that is, and its failure is no surprise."""
        self.faults.begin()
        self.simulation._resume_clients()
        self.assertTrue(self.faults._fail_disk())
        (victim,) = self.faults.broken
        victim.disk.hang()
        self.simulation._advance(30)
        self.assertIsNone(victim.failure)
        victim.disk.resume()
        self.simulation._wait(lambda: victim.failure, 5, "failure")
        self.simulation._wait(lambda: victim.failure is None, 20, "start")
        for client in self.simulation._clients:
            client.idle = True
        self.settle()
