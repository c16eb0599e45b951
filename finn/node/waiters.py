"""Deferreds of an application that wait for one thing, each of its own."""

from __future__ import annotations

from collections.abc import Iterator
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

    def _take(self) -> Iterator[Deferred[Any]]:
        """Yield all of them, but those that one before them has cancelled."""
        for deferred in list(self._waiting):
            if deferred in self._waiting:
                del self._waiting[deferred]
                yield deferred

    def fire(self, value: object) -> None:
        """It came."""
        for deferred in self._take():
            deferred.callback(value)

    def fail(self, error: BaseException) -> None:
        """It will not come; that is logged by who knows why, not as an error nobody looked at."""
        for deferred in self._take():
            deferred.errback(error)
            # An errback at the end would hide the error from who adds his own later. What one of
            # the application's raised is another error, and stays one that nobody looked at.
            info = deferred._debugInfo
            if info is not None and info.failResult is not None and info.failResult.value is error:
                info.failResult = None
