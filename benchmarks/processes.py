"""Processes: started in a folder of their own, measured by what the kernel counts, ended by id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

#: How long a process may take to come up, or to stop, before the run is given up.
PATIENCE_SECONDS = 30.0

POLL_SECONDS = 0.005


class BenchmarkError(Exception):
    """Something that was to be measured did not work; the text says what."""


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS
) -> float:
    """Poll until a condition holds, and return how long that took.

    Raises:
        BenchmarkError: it did not, in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise BenchmarkError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


STOLEN = 7
"""Place of the time that the host of a virtual machine gave to others."""


def processor_ticks() -> list[int]:
    """Return the kernel's counts of what all processors did, in ticks (proc(5), /proc/stat)."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    return [int(ticks) for ticks in line.split()[1:9]]


def _stat(pid: int) -> list[str]:
    """Return what the kernel counts of a process, from the third field of proc(5) on."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def children() -> set[int]:
    """Return the ids of this process's children, whether or not anything here knows of them."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            if int(_stat(pid)[1]) == os.getpid():
                found.add(pid)
    return found


def end_children(others: set[int]) -> None:
    """Kill processes that nobody knows of: a signal may come while one is being started.

    Args:
        others: children that this program did not start: who replaces himself by it leaves his.
    """
    for pid in children() - others:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@dataclass
class Usage:
    """What a process has used.

    Attributes:
        cpu: seconds of processor time since it started.
        memory: resident bytes now.
        peak: resident bytes at most.
    """

    cpu: float
    memory: int
    peak: int


class Process:
    """A child with its output in a file.

    Args:
        command: the command line.
        folder: its working folder; the log goes there, too.
        environment: more of the environment.
    """

    def __init__(
        self, command: list[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = command
        self.folder = folder
        self.environment = {**os.environ, **(environment or {})}
        self.log = folder / "output.log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it, or start it again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: int) -> None:
        """Send a signal; a process that has ended gets none."""
        if self.running:
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end, and return the exit code."""
        assert self._child is not None
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(
                f"{self.command[0]} (pid {self.pid}) does not end, see {self.log}"
            ) from None

    def kill(self) -> None:
        """End it at once."""
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.wait()

    def usage(self) -> Usage:
        """Return what it has used so far; zeros once it has ended."""
        try:
            fields = _stat(self.pid)
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return Usage(0.0, 0, 0)
        sizes = {
            line.split(":")[0]: int(line.split()[1]) * 1024
            for line in status.splitlines()
            if line.startswith(("VmRSS", "VmHWM"))
        }
        # Fields 14 and 15 of proc(5).
        cpu = (int(fields[11]) + int(fields[12])) / TICKS
        return Usage(cpu, sizes.get("VmRSS", 0), sizes.get("VmHWM", 0))

    def tail(self, lines: int = 5) -> str:
        """Return the end of its output."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""
