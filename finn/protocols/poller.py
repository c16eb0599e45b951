"""One wait for all connections: an epoll of our own, which the reactor watches as one descriptor.

Twisted pays some microseconds per descriptor and event, as much as a small command costs, and does
not tell which event of a turn is the last. So the connections wait in an epoll here, and the
reactor is told to read that one: everything ready is handled in one of its events. What the events
ask for with ``soon`` runs right behind the last of them, without a timer and another turn of the
reactor; and replies can leave together, which wakes a client once where it was woken for each.
What threads have done is such an event too (``callFromThread``).

Falling asleep and being woken costs tens of microseconds on most machines, and leaves cold caches:
more than a small command. Where one batch is often followed by another at once, the poller
therefore looks again for a moment before it sleeps, as Go's scheduler does.

The poller is what transports take for their reactor. It is registered with the real one only
while it watches something, so that it leaves nothing behind.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from finn.protocols.owner import Owner

# Events handled before the reactor's timers and other descriptors come again, and seconds after
# which no other is begun. The kernel hands them out in turn; those that it handed out and that were
# not handled come first the next time, so nobody is left out.
MOST = 64
LONG = 0.005

# Seconds to look for more events before sleeping, at most and at least, and after how long the
# reactor has its turn in between: its other descriptors have theirs after that and a look. Whoever
# else wants the processor gets it meanwhile. A look is twice as long as it was worth lately: where
# it is shorter than what others do meanwhile, all sleep in turns, and what is longer is in vain.
LINGER = 300e-6
LINGER_SHORT = 50e-6
LINGER_LONG = 300e-6
FADE = 0.98  # of what it was worth, each time that it is worth less
# It is done while at least half of the latest tries had a result: each is worth one try without,
# up to so many. With none to its credit it is tried at each so many-th batch; and where others took
# the processor for so many seconds, at half as many each time that happens again, as there they do
# so whenever it is offered.
CREDIT = 16
PROBE = 16
CONTENDED = 0.001
PROBE_CONTENDED = 2048

# There is no epoll on other systems, nor a poller.
IS_POSSIBLE = hasattr(select, "epoll") and hasattr(os, "eventfd")
IN = getattr(select, "EPOLLIN", 0)
OUT = getattr(select, "EPOLLOUT", 0)
GONE = getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)


class Poller:
    """Watches descriptors for one reactor, on Linux.

    Args:
        reactor: an ``IReactorFDSet``.
        lingers: it is a ``ReactorBase`` that knows by itself what timers and threads have for it.

    Attributes:
        crowded: several events are being handled, so what can wait for the last should.
        handling: events are being handled: ``soon`` may be called.
        has_more: there may have been more events than were handled at a time.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any, lingers: bool = False) -> None:
        self._lingers = lingers
        self._credit = 0
        self._unasked = PROBE  # batches until it is tried without credit
        self._pause = PROBE  # batches to let pass when others want the processor
        self._looking = False  # the reactor is to call
        self._span = LINGER  # seconds to look
        self._idle_since = 0.0  # when it had no more events
        self.crowded = self.handling = self.has_more = False
        self._reactor = reactor
        self._epoll: Any = None
        self._watched: dict[int, Any] = {}
        self._numbers: dict[Any, int] = {}
        self._masks: dict[int, int] = {}
        self._fresh: set[int] = set()  # watched since the events were asked for
        self._left: list[int] = []  # were not served though they were ready
        self._preferred: weakref.WeakSet[Any] = weakref.WeakSet()
        self._at_end: list[Callable[[], None]] = []
        self._after: list[Callable[[], None]] = []
        # Not closed with the epoll: a thread may be about to ring.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell_owner = Owner(self._bell)
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def __repr__(self) -> str:
        return f"<Poller of {', '.join(map(repr, self._watched.values())) or 'nothing'}>"

    def soon(self, action: Callable[[], None]) -> None:
        """Call ``action`` behind the last of the events that are being handled."""
        self._after.append(action)

    def at_end(self, action: Callable[[], None]) -> None:
        """Call ``action`` as if it was the last of the events: what it asks for comes behind."""
        self._at_end.append(action)

    def prefer(self, selectable: Any) -> None:
        """Serve it before others from now on, whenever there is more than is served at a time.

        So an answer of a member does not wait until thousands of clients had their turn. What
        threads have done does not either.
        """
        self._preferred.add(selectable)

    # -- calls from threads -------------------------------------------------------------------

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` among the events, in order; for any thread."""
        self._calls.append((function, args))
        # ``_close`` forgets the epoll, then looks for calls: one of the two sees the other.
        if self._epoll is not None:
            os.eventfd_write(self._bell, 1)
        else:
            self._reactor.callFromThread(self._run_calls)

    def _answer_bell(self) -> None:
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            pass  # a nested turn of the reactor did
        self._run_calls()

    def _run_calls(self) -> None:
        calls = self._calls
        for _ in range(len(calls)):
            if not calls:
                return  # a nested turn of the reactor made them
            function, args = calls.popleft()
            try:
                function(*args)
            except BaseException:
                self.log.failure("a call from a thread failed")

    # -- what transports ask of a reactor -----------------------------------------------------

    def addReader(self, selectable: Any) -> None:
        """Watch for reading."""
        self._add(selectable, IN)

    def addWriter(self, selectable: Any) -> None:
        """Watch for writing."""
        self._add(selectable, OUT)

    def removeReader(self, selectable: Any) -> None:
        """Watch no more for reading."""
        self._remove(selectable, IN)

    def removeWriter(self, selectable: Any) -> None:
        """Watch no more for writing."""
        self._remove(selectable, OUT)

    def _add(self, selectable: Any, event: int) -> None:
        fd = selectable.fileno()
        mask = self._masks.get(fd, 0)
        if mask and self._watched[fd] is not selectable:
            # That one was closed without a word, and its number is used again.
            del self._numbers[self._watched[fd]]
            mask = 0
        if mask & event:
            return
        if self._epoll is None:
            self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
            self._epoll.register(self._bell, IN)
            self._reactor.addReader(self)
        if mask:
            self._epoll.modify(fd, mask | event)
        else:
            try:
                self._epoll.register(fd, event)
            except OSError:
                self._maybe_rest()
                raise
            self._watched[fd] = selectable
            self._numbers[selectable] = fd
            self._fresh.add(fd)
        self._masks[fd] = mask | event

    def _remove(self, selectable: Any, event: int) -> None:
        # What is closed already does not know its number any more.
        fd = self._numbers.get(selectable)
        if fd is None:
            return
        mask = self._masks[fd]
        left = mask & ~event
        if left:
            if left != mask:
                self._epoll.modify(fd, left)
                self._masks[fd] = left
            return
        del self._masks[fd], self._watched[fd], self._numbers[selectable]
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # closed already, which does the same
        self._maybe_rest()

    def _maybe_rest(self) -> None:
        """Leave the reactor while there is nothing to watch."""
        if not self._watched and not self.handling and self._epoll is not None:
            self._reactor.removeReader(self)
            self._close()

    def _close(self) -> None:
        epoll, self._epoll = self._epoll, None
        epoll.close()
        if self._calls:
            self._reactor.callFromThread(self._run_calls)

    def check(self) -> None:
        """Begin anew if somebody took everything from the reactor, as trial does after a test.

        Called before something new is to be watched; what was watched is left alone, as the
        reactor would.
        """
        if self._epoll is not None and self not in self._reactor.getReaders():
            self._watched.clear()
            self._numbers.clear()
            self._masks.clear()
            self._close()

    # -- IReadDescriptor ----------------------------------------------------------------------

    def logPrefix(self) -> str:
        return "finn"

    def fileno(self) -> int:
        return -1 if self._epoll is None else int(self._epoll.fileno())

    def doRead(self) -> None:
        """Handle the events that are there, and those that follow at once."""
        now = time.perf_counter()
        if self._lingers:
            self._learn(now - self._idle_since)  # a longer look would have found them
        self._go_on(self._in_turn() if self._left else self._epoll.poll(0, MOST), now)

    def _in_turn(self) -> list[tuple[int, int]]:
        """Return what is ready, those that were left out the last time first."""
        events = self._ready(self._left)
        if len(events) < MOST:
            left = set(self._left)
            events += [event for event in self._epoll.poll(0, MOST) if event[0] not in left]
        return events

    def _ready(self, descriptors: Iterable[int]) -> list[tuple[int, int]]:
        """Return the events of some descriptors, in this order."""
        poll = select.poll()
        for fd in descriptors:
            # In the meantime it may have closed, or pause.
            mask = IN if fd == self._bell else self._masks.get(fd)
            if mask:
                poll.register(fd, mask)
        return poll.poll(0)

    def _look_again(self) -> None:
        """Go on without having slept: the reactor had its turn."""
        self._looking = False
        if self._epoll is not None:
            now = time.perf_counter()
            self._go_on(self._linger(now), now)

    def _go_on(self, events: list[tuple[int, int]], begin: float) -> None:
        while events:
            self._handle_all(events)
            if not self._lingers or self._epoll is None or self.has_more:
                return
            self._idle_since = now = time.perf_counter()
            if now - begin > LINGER_LONG:
                self._look_soon()
                return
            events = self._linger(now)

    def _learn(self, gap: float) -> None:
        """Note how long the next events took to come."""
        if gap < LINGER:
            self._span = min(LINGER, max(2 * gap, FADE * self._span, LINGER_SHORT))

    def _look_soon(self) -> None:
        """Let the reactor have its turn, but not sleep."""
        if self._credit and not self._looking:
            self._looking = True
            self._reactor.callLater(0, self._look_again)

    def _linger(self, now: float) -> list[tuple[int, int]]:
        """Return what comes before it is time to sleep."""
        if self._credit == 0:
            self._unasked -= 1
            if self._unasked > 0:
                return []
            self._unasked = PROBE
        reactor, poll = self._reactor, self._epoll.poll
        span = self._span
        end = now + span
        due = reactor.timeout()
        is_due = due is not None and due < span
        if is_due:
            if due <= 0:
                return []
            end = now + due
        gain = 1
        while not reactor.threadCallQueue:
            events: list[tuple[int, int]] = poll(0, MOST)
            if events:
                self._learn(now - self._idle_since)
                if events[0][0] == self._bell and len(events) == 1:
                    return events  # of the last question, which says nothing of the next
                self._credit = min(CREDIT, self._credit + gain)
                if self._credit == CREDIT:
                    self._pause = PROBE
                return events
            if now > end:
                if is_due:
                    self._look_soon()
                else:
                    self._credit = max(0, self._credit - 1)
                break
            os.sched_yield()
            before, now = now, time.perf_counter()
            if now - before > CONTENDED:
                self._credit = gain = 0
                self._unasked = self._pause = min(2 * self._pause, PROBE_CONTENDED)
        return []

    def _handle_all(self, events: list[tuple[int, int]]) -> None:
        self._fresh.clear()
        self.handling = True
        self.crowded = len(events) > 1
        had_more, self.has_more = self.has_more, len(events) >= MOST
        if had_more:
            self._left = []
            served = self._serve_preferred()
            events = [event for event in events if event[0] not in served]
        watched, fresh, clock = self._watched, self._fresh, time.perf_counter
        end = clock() + LONG
        rest = iter(events)
        for fd, event in rest:
            selectable = watched.get(fd)
            # A descriptor of this number may be another one than the event was meant for.
            if selectable is None:
                if fd == self._bell:
                    self._answer_bell()
            elif fd not in fresh:
                self._handle(selectable, fd, event)
                if clock() > end:
                    self.has_more = True  # whoever was not served is still ready
                    self._left = [fd for fd, _ in rest]
                    break
        while self._at_end:
            self._call(self._at_end.pop(0))
        self.handling = self.crowded = False
        after, self._after = self._after, []
        for action in after:
            self._call(action)
        self._maybe_rest()

    def _serve_preferred(self) -> list[int]:
        """Serve those that come first, and return which they are."""
        numbers = [self._numbers.get(selectable) for selectable in self._preferred]
        first = sorted(fd for fd in numbers if fd is not None)
        first.append(self._bell)
        for fd, event in self._ready(first):
            if fd == self._bell:
                self._answer_bell()
            elif fd in self._watched and fd not in self._fresh:
                self._handle(self._watched[fd], fd, event)
        return first

    def hear_preferred(self) -> None:
        """Serve now those that come first, if the last batch has left anybody waiting."""
        if self.has_more and not self.handling and self._epoll is not None:
            left = self._left
            self._handle_all([])
            self._left, self.has_more = left, True

    def _call(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException:
            # As from a descriptor: whatever it is, it is no reason to lose all the others.
            self.log.failure("what was to follow the events failed")

    def _handle(self, selectable: Any, fd: int, event: int) -> None:
        """Read, write, or take note of a loss."""
        why: Any = None
        reading = False
        try:
            if event & IN:
                why = selectable.doRead()
                reading = True
            elif event & GONE:
                reading = bool(self._masks[fd] & IN)
                why = error.ConnectionDone() if reading else error.ConnectionLost()
            if event & OUT and not why and fd in self._watched:
                why = selectable.doWrite()
                reading = False
        except BaseException as e:
            self.log.failure("a connection failed")
            why = e
        if why:
            self._disconnect(selectable, why, reading)

    def _disconnect(self, selectable: Any, why: Any, reading: bool) -> None:
        """Tell a descriptor that it is lost, as the reactor does."""
        self.removeReader(selectable)
        try:
            if (
                reading
                and type(why) is error.ConnectionDone
                and IHalfCloseableDescriptor.providedBy(selectable)
            ):
                selectable.readConnectionLost(Failure(why))
            else:
                self.removeWriter(selectable)
                selectable.connectionLost(Failure(why))
        except BaseException:
            self.log.failure("a lost connection failed")

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        while self._watched:
            self._disconnect(next(iter(self._watched.values())), reason.value, False)
        if self._epoll is not None:
            self._close()


classImplements(Poller, IReadDescriptor)
