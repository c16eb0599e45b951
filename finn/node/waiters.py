"""Deferreds of an application that wait for one thing, each of its own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


class Waiters:
    """Those who wait for something that comes once, again and again, or never.

    Cancelling one of them leaves the others alone, and what they wait for.
    """

    def __init__(self) -> None:
        self._waiting: dict[Deferred[Any], None] = {}

    def add(self) -> Deferred[Any]:
        """Return a Deferred for one more."""
        deferred: Deferred[Any] = Deferred(self._forget)
        self._waiting[deferred] = None
        return deferred

    def _forget(self, deferred: Deferred[Any]) -> None:
        self._waiting.pop(deferred, None)

    def fire(self, value: object) -> None:
        """It came."""
        pending, self._waiting = self._waiting, {}
        for deferred in pending:
            deferred.callback(value)

    def fail(self, error: BaseException) -> None:
        """It will not come; it is said elsewhere why, so nobody has to look at the error."""
        pending, self._waiting = self._waiting, {}
        for deferred in pending:
            deferred.addErrback(lambda _: None)
            deferred.errback(error)
