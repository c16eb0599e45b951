"""The disk workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.errors import DiskFailed
from finn.interfaces import IDisk
from finn.storage.disk import ImmediateDisk, ThreadDisk


class FakeReactor:
    """Takes the calls of other threads, and runs them when told to."""

    def __init__(self) -> None:
        self.calls: Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = Queue()

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        self.calls.put((function, args))

    def run_one(self) -> None:
        """Wait for a call and run it here."""
        function, args = self.calls.get(timeout=10)
        function(*args)


class ThreadDiskTests(SynchronousTestCase):
    """With a fake reactor."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.disk = ThreadDisk(self.reactor, "test-disk")  # type: ignore[arg-type]

    def test_provides_the_interface(self) -> None:
        """ThreadDisk provides IDisk."""
        verifyObject(IDisk, self.disk)

    def test_thread_begins_with_the_first_job(self) -> None:
        """The constructor starts no thread, as twistd may fork after it."""
        ThreadDisk(self.reactor, "never")  # type: ignore[arg-type]
        # Not how many there are: that of the test before may end at this very moment.
        self.assertNotIn("never", [thread.name for thread in threading.enumerate()])

    def test_jobs_run_in_order_and_results_come_to_the_reactor(self) -> None:
        """Jobs run in one other thread, in order; results arrive where the reactor runs."""
        done: list[Any] = []
        for number in range(3):
            deferred = self.disk.run(lambda n: (n, threading.current_thread().name), number)
            deferred.addCallback(done.append)
        self.assertEqual(done, [])
        for _ in range(3):
            self.reactor.run_one()
        self.assertEqual(done, [(n, "test-disk") for n in range(3)])
        self._stop()

    def test_exceptions_are_delivered(self) -> None:
        """A job that fails does not end the thread."""
        failing = self.disk.run(lambda: 1 // 0)
        working = self.disk.run(lambda: 7)
        self.reactor.run_one()
        self.reactor.run_one()
        self.failureResultOf(failing, ZeroDivisionError)
        self.assertEqual(self.successResultOf(working), 7)
        self._stop()

    def test_stop_finishes_the_queue(self) -> None:
        """Stop fires behind all that was queued; nothing is taken afterwards."""
        job = self.disk.run(lambda: 7)
        stopped = self.disk.stop()
        self.reactor.run_one()
        self.assertEqual(self.successResultOf(job), 7)
        self.assertNoResult(stopped)
        self.reactor.run_one()
        self.assertIsNone(self.successResultOf(stopped))
        self.failureResultOf(self.disk.run(lambda: 1), DiskFailed)
        self.failureResultOf(self.disk.stop(), DiskFailed)

    def test_stop_without_a_thread(self) -> None:
        """A disk that never worked is stopped at once."""
        self.assertIsNone(self.successResultOf(self.disk.stop()))

    def _stop(self) -> None:
        stopped = self.disk.stop()
        self.reactor.run_one()
        self.successResultOf(stopped)


class ImmediateDiskTests(SynchronousTestCase):
    """The disk of tests and tools."""

    def test_runs_at_once(self) -> None:
        """Results and exceptions are there when run returns."""
        disk = ImmediateDisk()
        verifyObject(IDisk, disk)
        self.assertEqual(self.successResultOf(disk.run(divmod, 7, 2)), (3, 1))
        self.failureResultOf(disk.run(divmod, 7, 0), ZeroDivisionError)
        self.successResultOf(disk.stop())
        self.failureResultOf(disk.run(divmod, 7, 2), DiskFailed)
