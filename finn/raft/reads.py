"""Rounds of a leader, and what rests on them: the lease and the reads that wait (thesis 6.4)."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any


class Rounds:
    """Numbers the sends of a leadership and remembers when each was made."""

    def __init__(self) -> None:
        self.newest = 0
        self._sent: deque[tuple[int, float]] = deque()

    def next(self, now: float) -> int:
        """Return a number never used before in this term."""
        # BUGS 5.3: ids of rounds are unique for ever, so late answers cannot be taken for new ones.
        self.newest += 1
        self._sent.append((self.newest, now))
        return self.newest

    def sent_at(self, round: int) -> float:
        """Return when that round was sent and forget the ones before it; never for round 0.

        Rounds are asked for in rising order (what a majority answered never falls back).
        """
        sent = self._sent
        while sent and sent[0][0] < round:
            sent.popleft()
        return sent[0][1] if round and sent and sent[0][0] == round else -math.inf


@dataclass(slots=True)
class _Group:
    """Reads that share one round: served when a majority answered it or a later one."""

    round: int
    index: int
    tokens: list[Any]


class WaitingReads:
    """Linearizable reads of a leader (ReadIndex), batched.

    A read waits in two steps: for the next messages after an entry of the leader's own term is
    committed, and until a majority answered those.
    """

    def __init__(self) -> None:
        self.fresh: list[Any] = []  # wait for a round to be sent
        self._groups: deque[_Group] = deque()

    @property
    def is_waiting(self) -> bool:
        """Whether reads wait for answers to rounds."""
        return bool(self._groups)

    def sent(self, round: int, commit_index: int) -> None:
        """Bind the fresh reads to a round that is being sent, with the commit index of now."""
        self._groups.append(_Group(round, commit_index, self.fresh))
        self.fresh = []

    def answered(self, round: int) -> list[tuple[Any, int]]:
        """Return the reads that may be served, as a majority answered ``round``."""
        done: list[tuple[Any, int]] = []
        while self._groups and self._groups[0].round <= round:
            group = self._groups.popleft()
            done += [(token, group.index) for token in group.tokens]
        return done

    def lost(self) -> list[tuple[Any, int]]:
        """Return all tokens with index -1: leadership was lost first."""
        tokens = [token for group in self._groups for token in group.tokens]
        tokens += self.fresh
        return [(token, -1) for token in tokens]
