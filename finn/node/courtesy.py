"""Offering the processor to others while nobody waits for this node.

What a follower applies is needed by nobody soon, but a leader, another follower or a client that
shares the processor with it may be waited for by all. The kernel lets them wait for milliseconds,
as it knows nothing of that; offered, the processor is theirs at once, and where nobody wants it an
offer costs less than a microsecond.
"""

from __future__ import annotations

import os
from collections.abc import Callable

# Seconds between two offers, at least; and others get no more than half of the time by them.
INTERVAL = 50e-6
# Who keeps the processor for longer works for himself, and would do so time and again: after that
# there is no offer for a while, twice as long each time that it happens. After offers that are not
# taken so the while becomes shorter, but more slowly, as such ones come in between.
CONTENDED = 0.001
LONGEST_INTERVAL = 0.1
RELIEF = 0.75

_sched_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Courtesy:
    """Offers the processor, now and then.

    Args:
        now: monotonic seconds.
        give_way: lets others run that want to.
    """

    def __init__(
        self, now: Callable[[], float], give_way: Callable[[], None] = _sched_yield
    ) -> None:
        self._now = now
        self._give_way = give_way
        self._interval = INTERVAL
        self._due_at = 0.0

    def offer(self, begin: float) -> float:
        """Let others run first that want to, if an offer is due; ``begin`` is now.

        Returns:
            What is now after that.
        """
        if begin < self._due_at:
            return begin
        self._give_way()
        end = self._now()
        taken = end - begin
        if taken > CONTENDED:
            self._interval = min(2 * max(self._interval, taken), LONGEST_INTERVAL)
        else:
            self._interval = max(RELIEF * self._interval, INTERVAL, taken)
        self._due_at = end + self._interval
        return end
