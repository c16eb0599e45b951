"""Tests of the disks for tests."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.errors import DiskFailed
from finn.interfaces import IDisk
from finn.testing.disks import ManualDisk, SimulatedDisk, ssd_latency
from finn.testing.faulty import FaultyFiles


class SimulatedDiskTests(SynchronousTestCase):
    """SimulatedDisk takes simulated time, in order, and can hang."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = SimulatedDisk(self.clock, Random(1), latency=lambda random: 0.01)
        self.done: list[object] = []

    def add(self, name: str) -> Deferred[None]:
        return self.disk.run(str, name).addCallback(self.done.append)

    def test_interface(self) -> None:
        """It provides IDisk."""
        verifyObject(IDisk, self.disk)

    def test_one_after_the_other(self) -> None:
        """Each job takes its time; order is kept."""
        self.add("a")
        self.add("b")
        self.assertEqual(self.done, [])
        self.clock.advance(0.01)
        self.assertEqual(self.done, ["a"])
        self.clock.advance(0.01)
        self.assertEqual(self.done, ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_job_queued_by_a_callback(self) -> None:
        """A callback may queue the next job."""
        self.disk.run(lambda: None).addCallback(lambda _: self.add("later"))
        self.clock.pump([0.01, 0.01])
        self.assertEqual(self.done, ["later"])

    def test_work_is_done_early_or_late(self) -> None:
        """A job does its work at the start or at the end of its time."""
        early = 0
        for _ in range(100):
            ran: list[int] = []
            self.disk.run(ran.append, 1)
            early += len(ran)
            self.clock.advance(0.01)
            self.assertEqual(ran, [1])
        self.assertTrue(20 < early < 80, early)

    def test_errors(self) -> None:
        """What a job raises arrives as a failure."""
        result = self.disk.run(int, "x")
        self.clock.advance(1)
        self.failureResultOf(result, ValueError)

    def test_hang(self) -> None:
        """Nothing ends while the disk hangs; afterwards all goes on in order, each once."""
        ran: list[int] = []
        for n in range(3):
            self.disk.run(ran.append, n).addCallback(self.done.append)
        self.disk.hang()
        self.clock.advance(100)
        self.assertEqual(self.done, [])
        self.disk.resume()
        self.clock.pump([0.01] * 3)
        self.assertEqual(len(self.done), 3)
        self.assertEqual(ran, [0, 1, 2])

    def test_slow_operations(self) -> None:
        """The delay of an operation lengthens its job, wherever its work is done."""
        files = FaultyFiles()
        files.on_slow = self.disk.delay
        files.slow("datasync", 0.5)
        file = files.create("f")
        for _ in range(20):
            start = self.clock.seconds()
            done = self.disk.run(file.datasync)
            while not done.called:
                self.clock.advance(0.005)
            self.assertTrue(0.5 < self.clock.seconds() - start < 0.53)

    def test_stop(self) -> None:
        """stop waits for what is queued; then the disk takes no more."""
        self.add("a")
        stopped = self.disk.stop()
        self.assertNoResult(stopped)
        self.failureResultOf(self.disk.run(int), DiskFailed)
        self.clock.advance(0.01)
        self.assertEqual(self.done, ["a"])
        self.successResultOf(stopped)

    def test_kill(self) -> None:
        """Of a dead process nobody hears any more."""
        self.add("a")
        self.disk.kill()
        self.assertNoResult(self.disk.run(int))
        self.clock.advance(1)
        self.assertEqual(self.done, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_default_latency(self) -> None:
        """The default is that of a solid-state disk with a tail."""
        random = Random(3)
        drawn = sorted(ssd_latency(random) for _ in range(10_000))
        self.assertLess(drawn[5000], 0.00015)
        self.assertGreater(drawn[-1], 0.01)
        self.assertLessEqual(drawn[-1], 0.02)


class ManualDiskTests(SynchronousTestCase):
    """ManualDisk does what the test says."""

    def setUp(self) -> None:
        self.disk = ManualDisk()

    def test_steps(self) -> None:
        """Nothing happens but by hand; work and answer can be parted."""
        verifyObject(IDisk, self.disk)
        ran: list[int] = []
        first = self.disk.run(ran.append, 1)
        second = self.disk.run(ran.append, 2)
        self.assertEqual((ran, self.disk.pending), ([], 2))
        self.disk.execute()
        self.disk.execute()
        self.assertEqual(ran, [1])
        self.assertNoResult(first)
        self.disk.deliver()
        self.successResultOf(first)
        self.disk.step()
        self.successResultOf(second)
        self.assertEqual(ran, [1, 2])

    def test_step_all_and_stop(self) -> None:
        """step_all empties the queue, what callbacks add included; stop waits for that."""
        ran: list[int] = []
        self.disk.run(ran.append, 1).addCallback(lambda _: self.disk.run(ran.append, 2))
        self.disk.step_all()
        self.assertEqual(ran, [1, 2])
        self.disk.run(ran.append, 3)
        stopped = self.disk.stop()
        self.assertNoResult(stopped)
        self.disk.step_all()
        self.successResultOf(stopped)
