"""Faults in real processes: kill -9, and errors injected into system calls with strace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from finn.interfaces import ILogStore
from finn.testing.contract import sample_entry
from tests.storage.writer import PAYLOAD, done, make_store

ROOT = str(Path(__file__).parent.parent.parent)
CALLS = "fdatasync,fsync,write,writev,pwrite64,pwritev"


def need_strace() -> str:
    """Return the path of strace; where it is missing skip, but fail in CI."""
    path = shutil.which("strace")
    if path is None:
        if os.environ.get("CI"):
            raise AssertionError("CI has no strace, which the fault injection needs")
        raise SkipTest("strace is not installed")
    return path


class ProcessTestCase(SynchronousTestCase):
    """Runs ``tests.storage.writer`` and compares what it acknowledged with what is there."""

    backend = ""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.entry = 0
        self.term = 0

    def command(self, entries: int) -> list[str]:
        writer = [sys.executable, "-m", "tests.storage.writer"]
        return [*writer, self.backend, self.directory, str(entries)]

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def note(self, line: str) -> None:
        """Remember what a line of the writer acknowledges."""
        word, _, number = line.partition(" ")
        if word == "entry":
            self.entry = int(number)
        elif word == "state":
            self.term = int(number)

    def verify(self, killed: bool = False) -> ILogStore:
        """Open the store here: all that was acknowledged is there, and nothing made up.

        Linux ends a ``write()`` at a page boundary when its process is killed, so a kill may leave
        a part of the last record, which was never acknowledged. Nothing else leaves one.
        """
        store = make_store(self.backend, self.directory)
        done(store.open())
        self.assertIn(store.last_index, (self.entry, self.entry + 1, self.entry + 2))
        self.assertIn(store.state.term, (self.term, self.term + 1))
        self.assertGreaterEqual(store.state.term, self.term)
        self.assertTrue(killed or not store.dropped_tail)
        index = store.first_index
        while index <= store.last_index:
            for entry in done(store.read(index, 1 << 20)):
                self.assertEqual(entry, sample_entry(index, 1, PAYLOAD))
                index += 1
        done(store.close())
        return store

    def kill_repeatedly(self, times: int, seed: int) -> None:
        """Kill the writer after a random number of acknowledgements, and go on with its log."""
        random = Random(seed)
        for _ in range(times):
            process = self.start(self.command(1 << 40))
            assert process.stdout is not None
            for _ in range(random.randint(1, 120)):
                self.note(process.stdout.readline())
            process.kill()
            for line in process.stdout:  # what it said before it died
                if line.endswith("\n"):
                    self.note(line)
            process.stdout.close()
            process.wait()
            store = self.verify(killed=True)
            # What survived unacknowledged counts from now on: nobody takes it back.
            self.entry, self.term = store.last_index, store.state.term

    def inject(self, file: str, fault: str) -> str:
        """Let a system call on a file of the database fail; returns the writer's last words."""
        trace = [need_strace(), "-f", "-qq", "-o", os.devnull]
        trace += ["-P", os.path.join(self.directory, file)]
        trace += ["-e", f"trace={CALLS}", "-e", f"inject={fault}"]
        process = self.start(trace + self.command(60))
        output, _ = process.communicate()
        lines = output.splitlines()
        for line in lines:
            self.note(line)
        self.assertEqual(process.returncode, 3, f"{fault} was not noticed: {lines[-1:]}")
        return lines[-1]
