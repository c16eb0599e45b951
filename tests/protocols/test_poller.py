"""Tests for finn.protocols.poller: real descriptors, and a reactor that only notes."""

from __future__ import annotations

import os
import select
import socket
import time
from itertools import pairwise
from threading import Thread
from typing import Any
from unittest import skipUnless

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from finn.protocols import poller as poller_module
from finn.protocols.poller import Poller


class FakeReactor:
    """Knows who wants to be read."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.timer: float | None = None
        self.threadCallQueue: list[Any] = []
        self.later: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def getReaders(self) -> list[Any]:
        return self.readers

    def timeout(self) -> float | None:
        return self.timer

    def callLater(self, delay: float, action: Any) -> None:
        assert delay == 0
        self.later.append(action)

    def callFromThread(self, function: Any, *args: Any) -> None:
        self.threadCallQueue.append((function, args))


class End:
    """One end of a socket pair, as a transport is to a poller."""

    def __init__(self, case: PollerTests, half: bool = False) -> None:
        self.socket, self.far = socket.socketpair()
        self.socket.setblocking(False)
        case.addCleanup(self.far.close)
        case.addCleanup(self.socket.close)
        self.case = case
        self.lost: list[type[BaseException] | None] = []
        self.half_lost = 0
        self.written = 0
        self.dies = False
        if half:
            alsoProvides(self, IHalfCloseableDescriptor)

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> Any:
        data = self.socket.recv(100)
        if not data:
            return ConnectionDone()
        self.case.events.append(data)
        return self.case.react(self, data)

    def doWrite(self) -> Any:
        self.written += 1
        return self.case.react(self, b"write")

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason.type)
        if self.dies:
            raise SystemExit

    def readConnectionLost(self, reason: Failure) -> None:
        self.half_lost += 1


@skipUnless(hasattr(select, "epoll"), "there is no epoll here")
class PollerTests(SynchronousTestCase):
    """Events are handled as a reactor does, and what follows them."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.poller = Poller(self.reactor)
        self.addCleanup(self.poller.connectionLost, Failure(ConnectionLost()))
        self.events: list[Any] = []
        self.react: Any = lambda end, data: None

    def end(self, half: bool = False) -> End:
        """Return a watched end."""
        end = End(self, half)
        self.poller.addReader(end)
        return end

    def test_the_reactor_is_asked_only_while_something_is_watched(self) -> None:
        """Nothing is left behind in it."""
        self.assertEqual(self.poller.fileno(), -1)
        one, two = self.end(), self.end()
        self.assertEqual(self.reactor.readers, [self.poller])
        fd = self.poller.fileno()
        self.poller.removeReader(one)
        self.poller.removeReader(one)
        self.assertEqual(self.reactor.readers, [self.poller])
        self.poller.removeReader(two)
        self.assertEqual(self.reactor.readers, [])
        self.assertEqual(self.poller.fileno(), -1)
        with self.assertRaises(OSError):
            select.epoll.fromfd(fd).poll(0)
        self.poller.addWriter(two)
        self.assertEqual(self.reactor.readers, [self.poller])
        self.poller.removeWriter(two)
        self.assertEqual(self.reactor.readers, [])

    def test_an_event_alone_is_no_crowd(self) -> None:
        """What it asks for follows it."""
        end = self.end()

        def react(_: End, data: bytes) -> None:
            self.assertTrue(self.poller.handling)
            self.events.append(self.poller.crowded)
            self.poller.soon(lambda: self.events.append("after"))

        self.react = react
        end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual(self.events, [b"a", False, "after"])
        self.assertFalse(self.poller.handling)

    def test_what_follows_comes_behind_all_events(self) -> None:
        """In the order in which it was asked for, a failure in between or not."""
        ends = [self.end() for _ in range(3)]

        def react(end: End, data: bytes) -> None:
            self.assertTrue(self.poller.crowded)
            if end is ends[0]:
                self.poller.soon(lambda: 1 / 0 and None)
            self.poller.soon(lambda: self.events.append(data.upper()))

        self.react = react
        for end, letter in zip(ends, (b"a", b"b", b"c"), strict=True):
            end.far.send(letter)
        self.poller.doRead()
        self.assertEqual(sorted(self.events[:3]), [b"a", b"b", b"c"])
        self.assertEqual(self.events[3:], [letter.upper() for letter in self.events[:3]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.poller.crowded)

    def test_the_end_is_like_a_last_event(self) -> None:
        """What follows the events follows it too, also what it asks for itself."""
        ends = [self.end() for _ in range(3)]

        def last() -> None:
            self.assertTrue(self.poller.handling)
            self.assertTrue(self.poller.crowded)
            self.events.append("last")
            self.poller.soon(lambda: self.events.append("soon of the last"))

        def react(end: End, data: bytes) -> None:
            if len(self.events) == 1:
                self.poller.at_end(last)
                self.poller.soon(lambda: self.events.append("soon"))

        self.react = react
        for end in ends:
            end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual(self.events, [b"a"] * 3 + ["last", "soon", "soon of the last"])
        self.assertFalse(self.poller.handling)
        self.events.clear()
        self.react = lambda end, data: None
        ends[0].far.send(b"b")
        self.poller.doRead()
        self.assertEqual(self.events, [b"b"])  # it was for that batch only

    def test_an_end_that_fails_ends_nothing_else(self) -> None:
        """Nor does one without an event that is handled, nor one that asks for another."""
        end = self.end()
        names = ("one", "two", "three")

        def react(end: End, data: bytes) -> None:
            self.poller.at_end(lambda: self.poller.at_end(lambda: self.events.append("nested")))
            for name in names:
                self.poller.at_end(lambda name=name: self.events.append(name))
            self.poller.at_end(lambda: 1 / 0 and None)
            self.poller.soon(lambda: self.events.append("soon"))

        self.react = react
        end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.events[0], self.events[-1]), (b"a", "soon"))
        self.assertEqual(sorted(self.events[1:-1]), sorted([*names, "nested"]))
        self.assertFalse(self.poller.handling)
        self.assertFalse(self.poller.crowded)

    def test_the_end_comes_though_the_batch_was_cut(self) -> None:
        """Those who were served do not wait for the others."""
        self.patch(poller_module, "LONG", -1.0)
        ends = [self.end(), self.end()]
        self.react = lambda end, data: self.poller.at_end(lambda: self.events.append("last"))
        for end in ends:
            end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual(self.events, [b"a", "last"])

    def test_nothing_is_a_reason_to_lose_the_others(self) -> None:
        """Not even what ends a process elsewhere, and what was to follow the events follows."""
        dying, other = self.end(), self.end()
        dying.dies = True

        def leave() -> None:
            raise SystemExit

        def react(end: End, data: bytes) -> None:
            self.poller.soon(leave)
            self.poller.soon(lambda: self.events.append("after"))

        self.react = react
        dying.far.close()
        other.far.send(b"a")
        self.poller.doRead()
        self.assertEqual(dying.lost, [ConnectionDone])
        self.assertEqual(self.events, [b"a", "after"])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 2)
        self.assertEqual((other.lost, self.reactor.readers), ([], [self.poller]))

    def test_what_takes_long_ends_the_batch(self) -> None:
        """The others are served in the next one, and it is known that there is more."""
        self.patch(poller_module, "LONG", -1.0)
        for end in (self.end(), self.end()):
            end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual((self.events, self.poller.has_more), ([b"a"], True))
        self.patch(poller_module, "LONG", 60.0)
        self.poller.doRead()
        self.assertEqual((self.events, self.poller.has_more), ([b"a", b"a"], False))

    def test_everything_is_taken_from_the_reactor(self) -> None:
        """As trial does when a test left something: what comes later is watched again."""
        leaked = self.end()
        self.assertIn("End object", repr(self.poller))
        self.reactor.readers.clear()
        self.poller.check()
        new = self.end()
        self.assertEqual(self.reactor.readers, [self.poller])
        leaked.far.send(b"leaked")
        new.far.send(b"new")
        self.poller.doRead()
        self.assertEqual(self.events, [b"new"])
        self.poller.check()
        self.poller.removeReader(leaked)
        self.poller.removeReader(new)
        self.assertEqual(self.reactor.readers, [])
        self.assertIn("nothing", repr(self.poller))

    def test_what_cannot_be_watched(self) -> None:
        """It leaves nothing behind in the reactor."""
        with open(self.mktemp(), "w") as file:
            self.assertRaises(PermissionError, self.poller.addReader, file)
        self.assertEqual(self.reactor.readers, [])

    def test_calls_from_threads_are_events(self) -> None:
        """In order, with what follows them; a failure does not keep the next from being made."""
        end = self.end()

        def call(name: bytes) -> None:
            self.events.append(name)
            self.poller.soon(lambda: self.events.append(b"behind " + name))
            if name == b"two":
                raise SystemExit

        threads = [Thread(target=self.poller.callFromThread, args=(call, b"one"))]
        threads.append(Thread(target=self.poller.callFromThread, args=(call, b"two")))
        for thread in threads:
            thread.start()
            thread.join(10)
        self.poller.callFromThread(call, b"three")
        self.assertEqual(self.events, [])
        end.far.send(b"bytes")
        self.poller.doRead()
        self.assertEqual(
            sorted(self.events[:4], key=lambda name: name == b"bytes"),
            [b"one", b"two", b"three", b"bytes"],
        )
        self.assertEqual(self.events[4:], [b"behind one", b"behind two", b"behind three"])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.poller.doRead()
        self.assertEqual(len(self.events), 7)
        self.assertEqual(self.reactor.threadCallQueue, [])

    def test_calls_of_a_nested_turn(self) -> None:
        """A callback that runs the reactor itself leaves nothing of them to the batch around it."""
        end = self.end()
        bell = self.poller._bell

        def turn(end: End, data: bytes) -> None:
            os.eventfd_read(bell)
            self.poller._run_calls()

        self.react = turn
        end.far.send(b"bytes")
        # The bell is the second of the batch.
        self.poller._epoll.unregister(bell)
        self.poller._epoll.register(bell, select.EPOLLIN)
        self.poller.callFromThread(self.events.append, b"one")
        self.poller.callFromThread(self.poller._run_calls)
        self.poller.callFromThread(self.events.append, b"two")
        self.poller.doRead()
        self.assertEqual(self.events, [b"bytes", b"one", b"two"])
        self.assertEqual((end.lost, self.reactor.readers), ([], [self.poller]))

    def test_calls_where_nothing_is_watched(self) -> None:
        """The reactor makes them: those that come then, and those that wait already."""
        self.poller.callFromThread(self.events.append, b"before")
        end = self.end()
        self.poller.callFromThread(self.events.append, b"while")
        calls = self.reactor.threadCallQueue
        calls.pop()[0]()
        self.assertEqual(self.events, [b"before", b"while"])
        self.poller.callFromThread(self.events.append, b"last")
        self.assertEqual(calls, [])
        self.poller.removeReader(end)
        self.assertEqual(self.reactor.readers, [])
        calls.pop()[0]()
        self.poller.callFromThread(self.events.append, b"after")
        calls.pop()[0]()
        self.assertEqual(self.events, [b"before", b"while", b"last", b"after"])

    def test_nobody_is_left_out(self) -> None:
        """More events than are taken at a time come in turn, however busy the first are."""
        self.patch(poller_module, "MOST", 2)
        ends = [self.end() for _ in range(5)]
        for end in ends:
            end.far.send(b"x" * 1000)
        served: list[End] = []
        self.react = lambda end, data: served.append(end)
        for _ in range(3):
            self.poller.doRead()
            self.assertTrue(self.poller.has_more)
        self.assertEqual(len(served), 6)
        self.assertEqual(set(served), set(ends))

    def test_what_was_left_out_is_next(self) -> None:
        """However long each takes: the kernel deems served what it has handed out."""
        self.patch(poller_module, "LONG", -1.0)
        self.patch(poller_module, "MOST", 4)
        ends = [self.end() for _ in range(8)]
        for end in ends:
            end.far.send(b"x" * 1000)
        served: list[End] = []
        self.react = lambda end, data: served.append(end)
        for _ in range(8):
            self.poller.doRead()
        self.assertEqual(len(set(served)), 8)

    def test_what_was_left_out_and_paused(self) -> None:
        """It is not read, nor is another one that its number went to by now."""
        self.patch(poller_module, "LONG", -1.0)
        ends = [self.end() for _ in range(3)]
        for end in ends:
            end.far.send(b"x" * 1000)
        served: list[End] = []
        self.react = lambda end, data: served.append(end)
        self.poller.doRead()
        for end in ends[1:]:
            self.poller.removeReader(end)
        self.poller.doRead()
        self.assertEqual(served, [ends[0], ends[0]])

    def test_who_is_preferred_is_served_first(self) -> None:
        """In every batch but the first, however many others there are and however slow."""
        self.patch(poller_module, "LONG", -1.0)
        ends = [self.end() for _ in range(100)]
        member = self.end()
        self.poller.prefer(member)
        for end in [*ends, member]:
            end.far.send(b"x" * 1000)
        served: list[End] = []
        self.react = lambda end, data: served.append(end)
        for _ in range(3):
            self.poller.doRead()
        self.assertEqual(served, [ends[0], member, ends[1], member, ends[2]])
        self.poller.callFromThread(served.clear)
        self.poller.hear_preferred()
        self.assertEqual((served, self.poller.has_more), ([], True))
        self.poller.hear_preferred()
        self.poller.doRead()
        self.assertEqual(served, [member, member, ends[3]])
        self.poller.removeReader(member)
        self.poller.doRead()
        self.assertEqual(served[3:], [ends[4]])

    def test_nobody_waits_for_who_is_preferred(self) -> None:
        """There is nothing to be heard where nothing was left."""
        member = self.end()
        self.poller.prefer(member)
        member.far.send(b"a")
        self.poller.hear_preferred()
        self.assertEqual(self.events, [])
        self.poller.doRead()
        self.assertEqual(self.events, [b"a"])

    def test_writing(self) -> None:
        """Reading and writing are asked for independently."""
        end = self.end()
        self.poller.addWriter(end)
        self.poller.addWriter(end)
        self.poller.doRead()
        self.assertEqual((end.written, self.events), (1, []))
        end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual((end.written, self.events), (2, [b"a"]))
        self.poller.removeWriter(end)
        end.far.send(b"b")
        self.poller.doRead()
        self.assertEqual((end.written, self.events), (2, [b"a", b"b"]))

    def test_an_end_that_reads_no_more_does_not_write_in_the_same_event(self) -> None:
        """It may have been lost by what it read."""
        end = self.end()
        self.poller.addWriter(end)

        def react(_: End, data: bytes) -> None:
            self.poller.removeReader(end)
            self.poller.removeWriter(end)

        self.react = react
        end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual((end.written, self.events), (0, [b"a"]))
        self.assertEqual(self.reactor.readers, [])

    # -- looking again before sleeping --------------------------------------------------------

    def linger(self) -> None:
        """Have a poller that lingers, on a clock of 10 us per look, and a hook for each yield."""
        self.reactor.timer = None
        self.reactor.threadCallQueue = []
        self.poller = Poller(self.reactor, lingers=True)
        self.addCleanup(self.poller.connectionLost, Failure(ConnectionLost()))
        self.poller._credit = poller_module.CREDIT
        self.yields = 0
        self.on_yield: Any = lambda: None
        self.looks = 0
        self.most = round(poller_module.LINGER / 10e-6) + 1  # yields without an event

        def sched_yield() -> None:
            self.yields += 1
            self.on_yield()

        def perf_counter() -> float:
            self.looks += 1
            return self.looks * 10e-6

        self.patch(poller_module.os, "sched_yield", sched_yield)
        self.patch(time, "perf_counter", perf_counter)

    def test_what_follows_at_once(self) -> None:
        """A question that comes while others have the processor is read before sleeping."""
        self.linger()
        end = self.end()
        self.on_yield = lambda: end.far.send(b"again") if self.yields == 2 else None
        end.far.send(b"first")
        self.poller.doRead()
        self.assertEqual(self.events, [b"first", b"again"])
        self.assertLessEqual(self.yields, 2 + self.most)

    def test_it_sleeps_when_nothing_follows(self) -> None:
        """Soon, and looks again the more seldom the less it finds; finds begin it anew."""
        self.linger()
        end = self.end()
        tries = []
        for _ in range(100):
            self.yields = 0
            end.far.send(b"x")
            self.poller.doRead()
            tries.append(self.yields)
        self.assertTrue(all(0 < n <= self.most for n in tries[: poller_module.CREDIT]), tries)
        later = tries[poller_module.CREDIT :]
        self.assertEqual(sum(n > 0 for n in later), len(later) // poller_module.PROBE)
        self.on_yield = lambda: end.far.send(b"y") if self.yields <= 3 else None
        for _ in range(poller_module.PROBE):
            self.yields = 0
            end.far.send(b"x")
            self.poller.doRead()
        self.assertIn(b"y", self.events)
        self.on_yield = lambda: None
        self.yields = 0
        end.far.send(b"x")
        self.poller.doRead()
        self.assertGreater(self.yields, 0)

    def test_timers_and_threads_do_not_wait_for_it(self) -> None:
        """Nor does it begin where the reactor keeps these elsewhere."""
        for timer, calls, lingers, expected in (
            (None, [], True, True),
            (1.0, [], True, True),
            (0.0, [], True, False),
            (None, [1], True, False),
            (None, [], False, False),
        ):
            self.linger()
            self.reactor.timer, self.reactor.threadCallQueue = timer, calls
            self.poller._lingers = lingers
            self.end().far.send(b"x")
            self.poller.doRead()
            self.assertEqual(self.yields > 0, expected, (timer, calls, lingers))
        self.linger()
        self.on_yield = lambda: self.reactor.threadCallQueue.append(1)
        self.end().far.send(b"x")
        self.poller.doRead()
        self.assertEqual(self.yields, 1)

    def test_as_long_as_it_was_worth(self) -> None:
        """What came too late for one look, or was found in it, says how long the next is to be."""
        self.linger()
        end = self.end()

        def look(sleep: float) -> int:
            self.yields = 0
            self.looks += round(sleep / 10e-6)
            end.far.send(b"x")
            self.poller.doRead()
            return self.yields

        self.assertGreater(look(1.0), 0.9 * self.most)
        self.on_yield = lambda: end.far.send(b"y") if self.yields == 3 else None
        for _ in range(200):
            self.poller._credit = poller_module.CREDIT
            look(1.0)
        self.on_yield = lambda: None
        self.assertLess(look(1.0), self.most / 2)
        self.poller._credit, self.poller._unasked = 0, 10
        self.assertEqual(look(1.0), 0)
        self.assertEqual(look(poller_module.LINGER * 0.8), 0)
        self.poller._credit = poller_module.CREDIT
        self.assertGreater(look(1.0), 0.9 * self.most)

    def test_calls_from_threads_say_nothing_of_the_next_question(self) -> None:
        """They are found, but are no reason to look again behind the answer."""
        self.linger()
        end = self.end()

        def sync_ends() -> None:
            if self.yields == 2:
                self.poller.callFromThread(self.events.append, b"done")

        self.on_yield = sync_ends
        for _ in range(2 * poller_module.CREDIT):
            self.yields = 0
            end.far.send(b"x")
            self.poller.doRead()
            if not self.yields:
                break
            self.assertEqual(self.events[-2:], [b"x", b"done"])
        self.assertEqual(self.poller._credit, 0)

    def test_until_a_timer_is_due(self) -> None:
        """It looks no longer, and goes on behind the timer without sleeping."""
        self.linger()
        self.reactor.timer = poller_module.LINGER / 3
        end = self.end()
        end.far.send(b"x")
        self.poller.doRead()
        self.assertLess(0, self.yields)
        self.assertLess(self.yields, self.most / 2)
        self.assertEqual(self.poller._credit, poller_module.CREDIT)
        (again,) = self.reactor.later
        self.reactor.timer = None
        self.on_yield = lambda: end.far.send(b"y")
        again()
        self.assertIn(b"y", self.events)

    def test_the_reactor_has_its_turn(self) -> None:
        """However fast questions follow each other."""
        self.linger()
        end = self.end()
        self.on_yield = lambda: end.far.send(b"x")
        end.far.send(b"x")
        self.poller.doRead()
        handled = len(self.events)
        self.assertGreater(handled, 2)
        self.assertLess(self.looks * 10e-6, 2 * poller_module.LINGER_LONG)
        # It goes on without sleeping.
        (again,) = self.reactor.later
        again()
        self.assertGreater(len(self.events), handled + 2)
        self.assertEqual(len(self.reactor.later), 2)
        self.poller.removeReader(end)
        self.reactor.later[1]()

    def test_a_processor_that_others_want(self) -> None:
        """Where it is not given back soon, it is offered more and more seldom; what came is read.

        Once is no reason: where all goes well again, all is as before.
        """
        self.linger()
        end = self.end()
        offers: list[int] = []
        batches = 0

        def others_run() -> None:
            offers.append(batches)
            self.looks += 300
            end.far.send(b"meanwhile")

        def run(count: int) -> None:
            nonlocal batches
            for _ in range(count):
                batches += 1
                end.far.send(b"x")
                self.poller.doRead()

        self.on_yield = others_run
        run(1)
        self.assertEqual(self.events, [b"x", b"meanwhile"])
        bound = poller_module.PROBE_CONTENDED
        run(4 * bound)
        gaps = [later - earlier for earlier, later in pairwise(offers)]
        expected = [min(poller_module.PROBE << n, bound) for n in range(1, len(gaps) + 1)]
        self.assertEqual(gaps, expected)
        self.assertEqual(gaps[-2:], [bound, bound])
        # Answers come at once for a while.
        self.on_yield = lambda: end.far.send(b"y") if self.yields < 2 * poller_module.CREDIT else 0
        self.yields = 0
        run(bound)
        self.assertGreater(self.yields, poller_module.CREDIT)
        del offers[:]
        self.on_yield = others_run
        run(3 * poller_module.PROBE)
        self.assertEqual(offers[1] - offers[0], 2 * poller_module.PROBE)

    def test_after_a_full_batch_the_reactor_has_its_turn(self) -> None:
        """There may be more events than were handled: nobody needs to wait for them."""
        self.linger()
        self.patch(poller_module, "MOST", 2)
        for _ in range(4):
            self.end().far.send(b"x")
        self.poller.doRead()
        self.assertEqual((len(self.events), self.yields, self.reactor.later), (2, 0, []))

    def test_nothing_is_left_to_watch(self) -> None:
        """The last descriptor goes with its event."""
        self.linger()
        end = self.end()
        self.react = lambda end, data: ConnectionDone()
        end.far.send(b"x")
        self.poller.doRead()
        self.assertEqual((self.yields, self.reactor.readers), (0, []))

    def test_the_other_side_closes(self) -> None:
        """An end learns of it, and is watched no more."""
        end = self.end()
        end.far.close()
        self.poller.doRead()
        self.assertEqual(end.lost, [ConnectionDone])
        self.assertEqual(self.reactor.readers, [])

    def test_the_other_side_closes_half(self) -> None:
        """Who can go on writing does."""
        end = self.end(half=True)
        self.poller.addWriter(end)
        end.far.shutdown(socket.SHUT_WR)
        self.poller.doRead()
        self.assertEqual((end.half_lost, end.lost), (1, []))
        self.poller.doRead()
        self.assertEqual(end.written, 1)

    def test_a_hang_up_without_bytes(self) -> None:
        """Of an end that only writes it is a loss."""
        end = End(self)
        self.poller.addWriter(end)
        end.far.close()
        self.poller.doRead()
        self.assertEqual(end.lost, [ConnectionLost])

    def test_an_end_that_fails_is_lost(self) -> None:
        """With its exception, which is logged; the others go on."""
        bad, good = self.end(), self.end()
        self.react = lambda end, data: 1 / 0 if end is bad else None
        bad.far.send(b"a")
        good.far.send(b"b")
        self.poller.doRead()
        self.assertEqual(bad.lost, [ZeroDivisionError])
        self.assertEqual(good.lost, [])
        self.assertIn(b"b", self.events)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_number_that_is_used_again(self) -> None:
        """An event is not taken for one of the descriptor that has its number now."""
        ends = [self.end() for _ in range(2)]
        new: list[End] = []

        def react(end: End, data: bytes) -> None:
            if not new:
                other = ends[1 - ends.index(end)]
                number = other.fileno()
                self.poller.removeReader(other)
                other.socket.close()
                new.append(End(self))
                self.assertEqual(new[0].fileno(), number)
                self.poller.addReader(new[0])

        self.react = react
        for end in ends:
            end.far.send(b"a")
        self.poller.doRead()
        self.assertEqual(self.events, [b"a"])
        self.assertEqual(new[0].lost, [])
        new[0].far.send(b"new")
        self.poller.doRead()
        self.assertEqual(self.events, [b"a", b"new"])

    def test_a_closed_descriptor_is_forgotten(self) -> None:
        """Though it has no number any more by which to find it."""
        end = self.end()
        end.socket.close()
        self.assertEqual(end.fileno(), -1)
        self.poller.removeReader(end)
        self.assertEqual(self.reactor.readers, [])

    def test_a_number_whose_owner_said_nothing(self) -> None:
        """Who has it now is watched all the same."""
        end = self.end()
        number = end.fileno()
        end.socket.close()
        new = self.end()
        self.assertEqual(new.fileno(), number)
        new.far.send(b"a")
        self.poller.doRead()
        self.assertEqual(self.events, [b"a"])
        self.poller.removeReader(end)
        self.assertEqual(self.reactor.readers, [self.poller])

    def test_the_reactor_stops(self) -> None:
        """Everyone is lost then."""
        ends = [self.end(), self.end()]
        self.poller.addWriter(ends[0])
        self.poller.connectionLost(Failure(ConnectionLost()))
        self.assertEqual([end.lost for end in ends], [[ConnectionLost]] * 2)
        self.assertEqual(self.reactor.readers, [])
