"""Starting those that wait for a run that has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

DEEPEST = 16
"""Runs that start each other within each other."""


class Followers:
    """What starts those that wait for a run: one behind another, however many end at once.

    A run that fails as soon as it is started has followers of its own, and so on: one client's
    pipeline can be longer than any stack. So beyond a few calls within each other they wait for the
    innermost. It is not one for all: whoever turns the reactor by hand would wait for himself.
    """

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: list[deque[Callable[[], None]]] = []

    def start(self, followers: list[Callable[[], None]]) -> None:
        """Start all of them, also those behind one that raises; then raise that error."""
        levels = self._levels
        if len(levels) >= DEEPEST:
            levels[-1].extend(followers)
            return
        waiting = deque(followers)
        error: BaseException | None = None
        levels.append(waiting)
        while waiting:
            try:
                waiting.popleft()()
            except BaseException as e:
                error = error or e
        levels.pop()
        if error is not None:
            raise error
