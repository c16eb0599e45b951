"""Offering the processor to others while nobody waits for this node.

What a follower applies is needed by nobody soon, but a leader, another follower or a client that
shares the processor with it may be waited for by all. The kernel lets them wait for milliseconds,
as it knows nothing of that; offered, the processor is theirs at once, and where nobody wants it an
offer costs less than a microsecond.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# Seconds after which an offer was taken by somebody with work of his own. Then so many offers are
# left out, twice as many each time that it happens again, as there others would have all the time.
CONTENDED = 0.001
PAUSE = 16
LONGEST_PAUSE = 2048

_sched_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Courtesy:
    """Offers the processor, but not for ever to somebody who never gives it back.

    Args:
        seconds: monotonic, of this machine.
        give_way: lets others run that want to.
    """

    def __init__(
        self,
        seconds: Callable[[], float] = time.perf_counter,
        give_way: Callable[[], None] = _sched_yield,
    ) -> None:
        self._seconds = seconds
        self._give_way = give_way
        self._left_out = 0
        self._pause = PAUSE

    def offer(self) -> None:
        """Let others run first that want to."""
        if self._left_out:
            self._left_out -= 1
            return
        begin = self._seconds()
        self._give_way()
        if self._seconds() - begin > CONTENDED:
            self._left_out = self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._pause = max(self._pause // 2, PAUSE)
