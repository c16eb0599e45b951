"""Clients that write all the time, and what they noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import TracebackType

from tests.integration.resp import TIMEOUT, FollowingClient, Outcome


class Writer(threading.Thread):
    """Writes keys of its own, one after the other, and follows ``TRY``.

    Args:
        name: what its keys begin with.
        ports: of the nodes.
        pause: between two writes, seconds.

    Attributes:
        acknowledged: numbers of the keys whose write was answered.
        unknown: numbers of those that may or may not be there.
        times: when each answer came, monotonic seconds.
    """

    def __init__(self, name: str, ports: Sequence[int], pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self.ports = list(ports)
        self.pause = pause
        self.acknowledged: list[int] = []
        self.unknown: list[int] = []
        self.times: list[float] = []
        self.trouble: list[str] = []
        self.ended = threading.Event()

    def key(self, number: int) -> str:
        """Return the name of a key."""
        return f"{self.name}:{number}"

    def run(self) -> None:
        """Write until told to end."""
        client = FollowingClient(self.ports, TIMEOUT)
        number = 0
        while not self.ended.is_set():
            answer = client.attempt("SET", self.key(number), number)
            if answer.done:
                self.acknowledged.append(number)
                self.times.append(time.monotonic())
                number += 1
                self.ended.wait(self.pause)
                continue
            self.trouble.append(f"{time.monotonic():.3f} {answer.outcome.value} {answer.reply}")
            if answer.outcome is Outcome.UNKNOWN:
                self.unknown.append(number)
                number += 1
            elif not str(answer.reply).startswith("TRY "):
                self.ended.wait(0.001)
        client.close()


class Load:
    """Some writers at once; use it with ``with``."""

    def __init__(self, ports: Sequence[int], clients: int = 4, pause: float = 0.002) -> None:
        self.writers = [Writer(f"w{n}", ports, pause) for n in range(clients)]

    def __enter__(self) -> Load:
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Let all finish what they do."""
        for writer in self.writers:
            writer.ended.set()
        for writer in self.writers:
            writer.join()

    @property
    def count(self) -> int:
        """Number of acknowledged writes."""
        return sum(len(writer.acknowledged) for writer in self.writers)

    def gap(self, since: float) -> float:
        """Return the longest time without an answer to any writer, from a moment to the end."""
        times = sorted(t for writer in self.writers for t in writer.times if t >= since)
        return longest_gap([since, *times])

    def worst_gap(self, since: float) -> float:
        """Return the longest time that one of the writers had no answer, since a moment."""
        return max(
            longest_gap([since, *(t for t in writer.times if t >= since)])
            for writer in self.writers
        )

    def trouble(self) -> str:
        """Return what went wrong on the way, for messages."""
        return "\n".join(
            f"{writer.name}: {line}" for writer in self.writers for line in writer.trouble
        )

    def lost(self, contents: Mapping[bytes, bytes]) -> list[str]:
        """Return the keys of acknowledged writes that are not there, or not as written."""
        return [
            writer.key(number)
            for writer in self.writers
            for number in writer.acknowledged
            if contents.get(writer.key(number).encode()) != str(number).encode()
        ]


def longest_gap(times: Sequence[float]) -> float:
    """Return the longest time between two neighbours."""
    return max((b - a for a, b in pairwise(times)), default=0.0)
