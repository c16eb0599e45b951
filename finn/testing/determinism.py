"""Replays a history on copies of a machine and names the first command after which they differ.

    assert_deterministic("tickets:Tickets", commands(["TICKET", "a"], ["TICKET", "b"]))

Each copy runs in a process of its own, with another hash seed, another time on its clock, another
``random``; the replicated time and random source are the same. One copy is now and then replaced by
what a snapshot of it restores, as happens to a node that restarts. Replies and the snapshot after
each command must be the same everywhere. This blocks until the processes are done: it is for tests.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from finn.testing.history import words

FIRST_TIME = 1_700_000_000_000
"""Replicated time of the first command, ms."""
TIMEOUT = 300.0
"""Seconds after which a copy counts as hung."""


@dataclass(frozen=True)
class Command:
    """One replicated command.

    Attributes:
        words: name and arguments.
        now: replicated time, ms.
        seed: of the replicated random source.
    """

    words: tuple[bytes, ...]
    now: int
    seed: int


@dataclass(frozen=True)
class Surroundings:
    """What differs between the copies.

    Attributes:
        hash_seed: PYTHONHASHSEED.
        clock_offset: seconds that the clock is off.
        time_zone: TZ.
        restores: how often the copy is replaced by what its snapshot restores.
    """

    hash_seed: int
    clock_offset: float = 0.0
    time_zone: str = "UTC"
    restores: int = 0

    def __str__(self) -> str:
        text = f"hash seed {self.hash_seed}, clock off by {self.clock_offset:g} s, {self.time_zone}"
        return f"{text}, restored {self.restores} times" if self.restores else text


COPIES = (
    Surroundings(0),
    Surroundings(1, clock_offset=86_400.0, time_zone="Asia/Tokyo"),
    Surroundings(2, clock_offset=-3600.0, time_zone="America/New_York"),
    Surroundings(3, restores=3),
)
"""Enough to show what depends on the order of a set, on the clock, or on what is not kept."""


@dataclass(frozen=True)
class Divergence:
    """The first command after which two copies differ.

    Attributes:
        position: of the command in the history; -1: they differ before the first.
        command: the command, None before the first.
        what: "reply" or "state".
        copies: the two.
        replies: theirs.
    """

    position: int
    command: Command | None
    what: str
    copies: tuple[Surroundings, Surroundings]
    replies: tuple[str, str]

    def __str__(self) -> str:
        name = words(self.command.words) if self.command else "the start, before any command"
        lines = [f"{self.what} differs after {name} (number {self.position + 1})"]
        for copy, reply in zip(self.copies, self.replies, strict=True):
            lines.append(f"  {copy}" + (f": {reply}" if self.what == "reply" else ""))
        return "\n".join(lines)


def commands(*lines: Sequence[bytes | str | int | float]) -> list[Command]:
    """Make a history of commands, each a millisecond after the one before."""
    return [
        Command(
            tuple(word if isinstance(word, bytes) else str(word).encode() for word in line),
            FIRST_TIME + number,
            number,
        )
        for number, line in enumerate(lines)
    ]


def find_divergence(
    machine: str | Callable[[], Any],
    history: Iterable[Command],
    copies: Sequence[Surroundings] = COPIES,
    every: int = 1,
) -> Divergence | None:
    """Replay a history on copies of a machine.

    Args:
        machine: ``package.module:Factory``, or the factory itself if it can be imported so.
        history: replicated commands; reads are compared, too, ``local`` commands left out.
        copies: the surroundings to compare.
        every: compare the state only after so many commands; where it differs, the commands
            before are run again to find the first.

    Returns:
        The first difference, None if there is none.

    Raises:
        RuntimeError: a copy could not be run.
    """
    name = machine if isinstance(machine, str) else _dotted(machine)
    listed = list(history)
    traces = [_trace(name, listed, copy, every) for copy in copies]
    for copy, trace in zip(copies[1:], traces[1:], strict=True):
        for number, (ours, theirs) in enumerate(zip(traces[0], trace, strict=True)):
            if ours == theirs:
                continue
            if every > 1:
                closer = find_divergence(name, listed[:number], copies)
                if closer is not None:
                    return closer
            what = "state" if ours[1] != theirs[1] and ours[0] == theirs[0] else "reply"
            command = listed[number - 1] if number else None
            replies = (ours[0], theirs[0])
            return Divergence(number - 1, command, what, (copies[0], copy), replies)
    return None


def assert_deterministic(
    machine: str | Callable[[], Any], history: Iterable[Command], every: int = 1
) -> None:
    """Raise AssertionError with the first command after which copies of a machine differ."""
    divergence = find_divergence(machine, history, every=every)
    if divergence is not None:
        raise AssertionError(str(divergence))


def _dotted(factory: Callable[[], Any]) -> str:
    module = inspect.getmodule(factory)
    name = getattr(factory, "__qualname__", "")
    if module is None or not name or "<" in name or module.__name__ == "__main__":
        raise ValueError(f"{factory!r} cannot be imported by a copy: give package.module:Factory")
    return f"{module.__name__}:{name}"


def _trace(
    machine: str, history: list[Command], copy: Surroundings, every: int
) -> list[tuple[str, str]]:
    """Run one copy; returns reply and digest of the state before and after each command."""
    job = {
        "machine": machine,
        "offset": copy.clock_offset,
        "restores": copy.restores,
        "every": every,
        "commands": [[c.now, c.seed, [word.hex() for word in c.words]] for c in history],
    }
    environment = dict(os.environ)
    environment["PYTHONHASHSEED"] = str(copy.hash_seed)
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    environment["TZ"] = copy.time_zone
    done = subprocess.run(
        [sys.executable, "-m", "finn.testing.shadow"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env=environment,
        timeout=TIMEOUT,
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise RuntimeError(f"a copy of {machine} could not be run: {last[0]}")
    return [(reply, state) for reply, state in json.loads(done.stdout)]
