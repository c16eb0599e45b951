"""Measures a node from outside while others trouble it: how fast it answers, what it holds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from tests.integration.resp import Access, Client

MIB = 1024 * 1024
PAUSE = 0.002  # between two requests
SAMPLE = 0.05  # between two looks at the memory
BEAT = 0.05  # between two syncs of a metronome


def percentile(values: Sequence[float], part: float) -> float:
    """Return what ``part`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def memory(pid: int) -> int:
    """Return the resident bytes of a process, 0 where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def on_processor(pid: int) -> tuple[int, int]:
    """Return for how long a process ran, and for how long it waited to run, in ns."""
    try:
        run, wait, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return 1, 0
    return int(run), int(wait)


def waited() -> float:
    """Return for how many seconds this thread wanted a processor and had none."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Metronome(threading.Thread):
    """Sleeps and syncs a small file in turns, to see what the computer itself withholds.

    What it did not get in time, nodes with files beside its own did not get either: promises are
    about what comes on top. Use it with ``with``.

    Args:
        folder: where its file is.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(name="metronome", daemon=True)
        self._path = folder / "metronome"
        self._beats = [time.monotonic()]
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat until told to end."""
        with open(self._path, "wb", buffering=0) as file:
            while not self._ended.wait(BEAT):
                file.write(b".")
                os.fsync(file.fileno())
                self._beats.append(time.monotonic())

    def __enter__(self) -> Metronome:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self.join()

    def stall(self, since: float) -> float:
        """Return by how much the longest beat was late, of those not over at a moment."""
        beats = [*self._beats, time.monotonic()]
        late = [end - max(begin, since) for begin, end in pairwise(beats) if end > since]
        return max(0.0, max(late, default=0.0) - BEAT)


class Gauge(threading.Thread):
    """A client that writes and reads all the time; use it with ``with``.

    Args:
        port: of the node.
        pid: of the node.
        access: how to be let in.

    Attributes:
        latencies: seconds from request to reply, without those in which this side could not run.
        highest: resident bytes of the node at most.
        trouble: what was not answered as it should be.
        crowding: by how much other processes made the node slower, as the system tells: 1 where
            it had a processor whenever it wanted one.
        stall: seconds that the computer withheld at once, as a metronome tells.
    """

    def __init__(self, port: int, pid: int, access: Access | None = None) -> None:
        super().__init__(name="gauge", daemon=True)
        self.latencies: list[float] = []
        self.highest = self.lowest = memory(pid)
        self.trouble: list[str] = []
        self.crowding = 1.0
        self.stall = 0.0
        self._since = on_processor(pid)
        self._client = Client(port, access=access)
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        """Ask until told to end."""
        number = 0
        looked = 0.0
        while not self._ended.wait(PAUSE):
            number += 1
            begun, idle = time.monotonic(), waited()
            try:
                if number % 2:
                    reply, expected = self._client.do("SET", "gauge", number), b"OK"
                else:
                    reply, expected = self._client.do("GET", "gauge"), b"%d" % (number - 1)
            except OSError as e:
                self.trouble.append(repr(e))
                return
            now = time.monotonic()
            self.latencies.append(now - begun - (waited() - idle))
            if reply != expected:
                self.trouble.append(f"{reply!r} instead of {expected!r}")
            if now - looked > SAMPLE:
                looked = now
                self.highest = max(self.highest, memory(self._pid))

    def __enter__(self) -> Gauge:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self.join()
        run, wait = (b - a for a, b in zip(self._since, on_processor(self._pid), strict=True))
        self.crowding = (run + wait) / max(run, 1)
        self._client.close()

    @property
    def grown(self) -> float:
        """MiB that the node held more than at the beginning, at most."""
        return (self.highest - self.lowest) / MIB

    def slow(self, part: float = 0.99) -> float:
        """Return a percentile of the latencies, milliseconds."""
        return percentile(self.latencies, part) * 1000

    def __str__(self) -> str:
        return (
            f"{len(self.latencies)} requests, median {self.slow(0.5):.1f} ms, p99 "
            f"{self.slow():.1f} ms, worst {max(self.latencies) * 1000:.1f} ms, memory "
            f"{self.lowest / MIB:.0f} MiB and {self.grown:.0f} more, processor shared by "
            f"{self.crowding:.1f}, longest stall {self.stall * 1000:.0f} ms"
        )
