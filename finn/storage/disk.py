"""Workers that run blocking functions off the reactor."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.errors import DiskFailed
from finn.interfaces import IDisk

_Job = tuple[Callable[..., Any], tuple[Any, ...], "Deferred[Any]"]


@implementer(IDisk)
class ThreadDisk:
    """One thread of its own, made at the first job: the constructor may precede a fork.

    The thread is a daemon, so that a disk that hangs for ever does not keep the process alive.

    Args:
        reactor: where results are delivered.
        name: of the thread.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str = "finn-disk") -> None:
        self._reactor = reactor
        self._name = name
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: Thread | None = None
        self._stopped: Deferred[None] | None = None

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        if self._stopped is not None:
            return fail(DiskFailed("the disk worker is stopped"))
        done: Deferred[Any] = Deferred()
        self._jobs.put((function, args, done))
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return done

    def stop(self) -> Deferred[None]:
        if self._stopped is not None:
            return fail(DiskFailed("the disk worker is stopped"))
        self._stopped = Deferred()
        if self._thread is None:
            self._stopped.callback(None)
        else:
            self._jobs.put((_end, (), self._stopped))
        return self._stopped

    def _work(self) -> None:
        while True:
            function, args, done = self._jobs.get()
            try:
                result = function(*args)
            except _End:
                self._reactor.callFromThread(done.callback, None)
                return
            except BaseException:
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, result)
            # Nothing of a finished job stays alive while the thread waits for the next.
            del function, args, done


class _End(BaseException):
    """Ends the thread."""


def _end() -> None:
    raise _End


@implementer(IDisk)
class ImmediateDisk:
    """Runs everything at once, in the caller's thread: for tests and tools."""

    def __init__(self) -> None:
        self._stopped = False

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        if self._stopped:
            return fail(DiskFailed("the disk worker is stopped"))
        try:
            return succeed(function(*args))
        except Exception:
            return fail(Failure())

    def stop(self) -> Deferred[None]:
        self._stopped = True
        return succeed(None)
