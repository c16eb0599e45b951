"""Fastlog in real processes: kill -9, and errors of system calls."""

from __future__ import annotations

from tests.storage.processes import ProcessTestCase


class FastLogLowProcessTests(ProcessTestCase):
    """At low a kill loses nothing that was acknowledged."""

    backend = "fastlog-low"

    def test_kill_9(self) -> None:
        """Killed at any moment, again and again, the log goes on where it was."""
        self.kill_repeatedly(5, seed=1)

    def test_full_disk(self) -> None:
        """A write that fails ends the store with one line, and a good log."""
        last = self.inject("log/00000001.log", "write:error=ENOSPC:when=9")
        self.assertIn("failed cannot write ", last)
        self.assertIn("00000001.log: No space left on device", last)
        self.verify()


class FastLogHighProcessTests(ProcessTestCase):
    """At high every acknowledgement follows a sync."""

    backend = "fastlog-high"

    def test_failing_sync(self) -> None:
        """A sync that fails is fatal at once."""
        last = self.inject("log/00000001.log", "fdatasync:error=EIO:when=6")
        self.assertIn("failed cannot sync ", last)
        self.assertIn("00000001.log: Input/output error", last)
        self.verify()

    def test_failing_save_of_the_state(self) -> None:
        """Term and vote are not acknowledged then."""
        last = self.inject("log/state", "fdatasync:error=EIO:when=2")
        self.assertIn("failed cannot save term and vote in ", last)
        self.verify()
