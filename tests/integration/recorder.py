"""Clients that record what they did and were told, for the checker."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from itertools import count, pairwise

from finn.testing.history import Operation
from finn.testing.history import Outcome as Known
from tests.integration.resp import Answer, ErrorReply, FollowingClient, Outcome

KNOWN = {
    Outcome.DONE: Known.OK,
    Outcome.REFUSED: Known.FAILED,
    Outcome.UNKNOWN: Known.UNKNOWN,
}
REGISTERS = 3
COUNTERS = 1
# A client waits so long when nobody serves it, and at most so long for a reply, seconds.
RETRY = 0.005
REPLY_TIMEOUT = 1.0


class Recorder(threading.Thread):
    """One client with a random mix of commands on a few keys.

    Args:
        number: of the client.
        ports: of the nodes.
        seed: of what it does.
        pause: between two commands, seconds.
        book: where all clients write.
    """

    def __init__(
        self, number: int, ports: Sequence[int], seed: int, pause: float, book: Book
    ) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.number = number
        self.pause = pause
        self.book = book
        self.random = random.Random(f"{seed} {number}")
        self.client = FollowingClient(ports, REPLY_TIMEOUT)
        self.client.turn(number)
        self.history: list[Operation] = []
        self.writes: list[float] = []
        self.problem: BaseException | None = None
        self._values = count()

    def run(self) -> None:
        """Ask until the book is closed."""
        try:
            while not self.book.closed.is_set():
                answer = self.step(self._choose())
                if answer.outcome is Outcome.REFUSED:
                    if not str(answer.reply).startswith("TRY "):
                        time.sleep(RETRY)
                else:
                    time.sleep(self.pause)
        except BaseException as e:
            self.problem = e
        finally:
            self.client.close()

    def step(self, words: tuple[bytes, ...]) -> Answer:
        """Send one command and record it."""
        began = time.monotonic()
        answer = self.client.attempt(*words)
        ended = time.monotonic()
        if answer.done and isinstance(answer.reply, ErrorReply):
            raise AssertionError(f"{words} was answered with {answer.reply!r}")
        outcome = KNOWN[answer.outcome]
        reply = answer.reply if answer.done else None
        self.history.append(Operation(self.number, began, ended, words, reply, outcome))
        if answer.done and words[0] != b"GET":
            self.writes.append(ended)
        return answer

    def _choose(self) -> tuple[bytes, ...]:
        draw = self.random.random()
        chapter = self.book.chapter
        if draw < 0.15:
            key = b"%d:counter:%d" % (chapter, self.random.randrange(COUNTERS))
            return (b"INCR", key)
        key = b"%d:register:%d" % (chapter, self.random.randrange(REGISTERS))
        if draw < 0.55:
            return (b"GET", key)
        value = b"%d.%d" % (self.number, next(self._values))
        return (b"GETSET" if draw < 0.65 else b"SET", key, value)


class Book:
    """All clients of one run and their histories.

    Attributes:
        chapter: what keys begin with; a new one begins now and then, as short histories with few
            unknown outcomes are checked quickly.
        closed: set when the clients should end.
    """

    def __init__(self, ports: Sequence[int], seed: int, clients: int, pause: float) -> None:
        self.chapter = 0
        self.closed = threading.Event()
        self.clients = [Recorder(n, ports, seed, pause, self) for n in range(clients)]

    def open(self) -> None:
        """Start the clients."""
        for client in self.clients:
            client.start()

    def close(self) -> None:
        """Stop them; raises what went wrong in one."""
        self.closed.set()
        for client in self.clients:
            if client.ident is not None:
                client.join()
        for client in self.clients:
            if client.problem is not None:
                raise client.problem

    @property
    def history(self) -> list[Operation]:
        """Everything so far."""
        return [operation for client in self.clients for operation in list(client.history)]

    @property
    def writes(self) -> int:
        """Number of writes that were answered."""
        return sum(len(client.writes) for client in self.clients)

    def gap(self, since: float, until: float) -> float:
        """Return the longest time without an answered write in a span of time."""
        times = [t for client in self.clients for t in list(client.writes)]
        inside = sorted(t for t in times if since <= t <= until)
        return max(b - a for a, b in pairwise([since, *inside, until]))
