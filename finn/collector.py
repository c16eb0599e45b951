"""Garbage collection without long pauses, in a process that serves one node.

A full collection looks at every container there is: a machine with a million hashes would stand
still for a tenth of a second, again and again, for garbage that is hardly ever there, as nearly
everything here is freed by its count of references. So what has survived a full collection that
took long is not looked at any more (``gc.freeze``), until there is twice as much of it: then once
more, as a machine may have data with cycles that it has dropped meanwhile.
"""

from __future__ import annotations

import gc
import time

# Seconds: half of what nothing may take (DESIGN P4).
LONG = 0.005
# New containers per collection of each generation: a full one is due after at most 50,000, which
# take about as long as that. The default begins one for every 700, in the middle of each pipeline.
THRESHOLDS = (5000, 5, 2)


class Collector:
    """Keeps the collections of this process short, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._thresholds: tuple[int, int, int] | None = None  # of before
        self._began = 0.0
        self._whole = True  # the next full collection looks at everything
        self._survived = 0  # how many containers did, when one looked at everything

    def start(self) -> None:
        """Watch collections from now on."""
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(self._collects)

    def stop(self) -> None:
        """Leave collections as they were, and everything to them."""
        if self._thresholds is not None:
            gc.callbacks.remove(self._collects)
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()
            self._thresholds = None

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] < 2:
            return
        if phase == "start":
            self._began = time.perf_counter()
        elif self._whole or time.perf_counter() - self._began > LONG:
            gc.freeze()
            frozen = gc.get_freeze_count()
            if self._whole:
                self._whole, self._survived = False, frozen
            elif frozen > 2 * self._survived:
                gc.unfreeze()
                self._whole = True
