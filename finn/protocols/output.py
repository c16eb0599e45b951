"""What is still to be written to a transport, handed on piece by piece as it drains.

A transport's own buffer has no bound and tells nothing about progress. Here at most one piece
beyond the transport's high-water mark is handed on at a time, so ``unsent`` is what the other
side has not taken, and every call of ``resumeProducing`` is progress.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer, ISSLTransport
from zope.interface import classImplements

PIECE = 128 * 1024


def _nobody() -> None:
    """Nobody waits for the transport any more."""


class Output:
    """The bytes on their way to one transport; its push producer.

    At the end it lets go of who waits for it, so that a lost connection is freed at once and not by
    the garbage collector, which may not look at it for long (``finn.collector``).

    Args:
        transport: where the bytes go.
        drained: called when everything is handed on after the transport was full.
    """

    __slots__ = (
        "congested", "progress", "transport", "unsent", "_closing", "_drained", "_queue", "_views",
    )  # fmt: skip

    def __init__(self, transport: Any, drained: Callable[[], None]) -> None:
        self.transport = transport
        self._views = getattr(type(transport), "takes_views", False)
        self.congested = False
        self.unsent = 0
        self.progress = 0
        self._queue: deque[bytes | memoryview] = deque()
        self._closing = False
        self._drained = drained
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Write, or keep until the transport takes it."""
        if self.congested or self._queue or len(data) > PIECE:
            if data and not self._closing:
                self._queue.append(data)
                self.unsent += len(data)
                self._pump()
        elif not self._closing:
            self.transport.write(data)

    def close(self) -> None:
        """Close the transport once everything is handed on; TLS reads on until it is closed."""
        if not self._closing:
            self._closing = True
            self._finish()

    def detach(self) -> None:
        """Leave the transport to another owner; call it only when nothing is unsent."""
        self.transport.unregisterProducer()
        self._closing = True
        self._drained = _nobody

    def _pump(self) -> None:
        queue = self._queue
        while queue and not self.congested:
            data = queue.popleft()
            if len(data) > PIECE:
                view = memoryview(data)
                queue.appendleft(view[PIECE:])
                data = view[:PIECE]
            self.unsent -= len(data)
            self.transport.write(data if self._views else bytes(data))

    def _finish(self) -> None:
        if self._closing and not self._queue:
            # A transport with a paused producer would wait for it before it closes.
            self.transport.unregisterProducer()
            is_tls = ISSLTransport.providedBy(self.transport)
            if is_tls:
                # TLS ends when the other side has answered, or is gone: that has to be read, and
                # what was sent before it. Whoever reads throws it away.
                self.transport.resumeProducing()
            self.transport.loseConnection()
            self._drained = _nobody

    # IPushProducer

    def pauseProducing(self) -> None:
        self.congested = True

    def resumeProducing(self) -> None:
        self.congested = False
        self.progress += 1
        self._pump()
        if self._closing:
            self._finish()
        elif not self.congested:
            self._drained()

    def stopProducing(self) -> None:
        self.congested = True
        self._queue.clear()
        self.unsent = 0
        self._drained = _nobody


classImplements(Output, IPushProducer)
