"""Runs of several clients, and replies of machines in the original's style that go wrong."""

from __future__ import annotations

import inspect
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CommandError, NotLeader
from finn.node.followers import DEEPEST, Followers
from finn.node.runs import CrowdRead, CrowdRun, OpaqueCall
from finn.node.slot import NOBODY, SlotConnection
from tests.node.test_failure import Slot


class ReplyTests(SynchronousTestCase):
    """``respond`` runs after the change: its failure is no reason to stop the node."""

    def setUp(self) -> None:
        self.sent: list[bytes] = []
        self.call = OpaqueCall()
        self.call.asked = True
        self.reply = self.call.reply = SlotConnection(NOBODY, self.sent.append)
        self.call.result = Deferred()

    def respond(self, value: Any) -> None:
        raise KeyError(value)

    def test_respond_that_raises(self) -> None:
        """The client gets an error, the log the traceback, and the machine its value."""
        self.call.respond = self.respond
        self.call.succeed(7)
        self.assertEqual(self.sent, [b"-ERR internal error: KeyError\r\n"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        assert self.call.result is not None
        self.assertEqual(self.successResultOf(self.call.result), 7)

    def test_respond_that_says_no(self) -> None:
        """An error meant for the client is no bug."""

        def respond(value: Any) -> None:
            raise CommandError("WRONGTYPE no number")

        self.call.respond = respond
        self.call.succeed(7)
        self.assertEqual(self.sent, [b"-WRONGTYPE no number\r\n"])

    def test_reply_that_was_begun(self) -> None:
        """Half an array would shift all replies behind it: it is dropped."""

        def respond(value: Any) -> None:
            self.reply.write_array(2)
            self.reply.write_integer(1)
            raise KeyError(value)

        self.call.respond = respond
        self.call.succeed(7)
        self.assertEqual(self.sent, [b"-ERR internal error: KeyError\r\n"])
        self.flushLoggedErrors(KeyError)

    def test_reply_that_was_given(self) -> None:
        """What went out stays; a second reply would answer the next command."""

        def respond(value: Any) -> None:
            self.reply.write_integer(1)
            self.reply.write_integer(2)

        self.call.respond = respond
        self.call.succeed(7)
        self.assertEqual(self.sent, [b":1\r\n"])
        self.flushLoggedErrors(RuntimeError)

    def test_what_acts_like_bytes(self) -> None:
        """It is sent as such: the change was made."""
        for data in (b"ab", bytearray(b"ab"), memoryview(b"ab"), "ab"):
            reply = SlotConnection(NOBODY, self.sent.append)
            reply.write_bulk(data)  # type: ignore[arg-type]
        for raw in (b"+a\r\n", bytearray(b"+a\r\n")):
            SlotConnection(NOBODY, self.sent.append).write_raw(raw)
        self.assertEqual(self.sent, [b"$2\r\nab\r\n"] * 4 + [b"+a\r\n"] * 2)
        self.assertEqual({type(data) for data in self.sent}, {bytes})

    def test_integers(self) -> None:
        """What acts like one is one; beyond 64 bits clients' parsers end."""

        class Number:
            def __index__(self) -> int:
                return 7

        for number in (Number(), True, 2**70):
            SlotConnection(NOBODY, self.sent.append).write_integer(number)  # type: ignore[arg-type]
        self.assertEqual(self.sent, [b":7\r\n", b":1\r\n", b"$22\r\n%d\r\n" % 2**70])
        self.assertRaises(TypeError, self.reply.write_integer, 1.5)

    def test_a_reply_that_is_none(self) -> None:
        """The client gets an error, and does not wait for ever."""

        def respond(value: Any) -> None:
            self.reply.write_raw("text")  # type: ignore[arg-type]

        self.call.respond = respond
        self.call.succeed(7)
        self.assertEqual(self.sent, [b"-ERR internal error: TypeError\r\n"])
        self.flushLoggedErrors(TypeError)

    def test_within_a_transaction(self) -> None:
        """The error has its place in EXEC's array."""
        self.call.respond = self.respond
        self.assertEqual(self.call.reply_now(7), b"-ERR internal error: KeyError\r\n")
        self.flushLoggedErrors(KeyError)

    def test_value_that_is_no_reply(self) -> None:
        """Without ``respond`` the value is encoded, if it can be."""
        self.call.succeed(object())
        self.assertEqual(self.sent, [b"-ERR internal error: TypeError\r\n"])
        self.flushLoggedErrors(TypeError)


class FollowersTests(SynchronousTestCase):
    """Those that wait for a run."""

    def setUp(self) -> None:
        self.followers = Followers()
        self.started: list[str] = []

    def start(self, *names: str) -> None:
        """Start followers that note their names."""
        self.followers.start([lambda name=name: self.started.append(name) for name in names])  # type: ignore[misc]

    def test_one_that_raises(self) -> None:
        """The others are started, and the first error is told."""
        waiting = [lambda: self.start("a"), lambda: 1 / 0, lambda: [][0], lambda: self.start("b")]
        self.assertRaises(ZeroDivisionError, self.followers.start, waiting)
        self.start("c")
        self.assertEqual(self.started, ["a", "b", "c"])

    def test_within_each_other(self) -> None:
        """As deep as some calls, and not deeper; each is started once, in order."""
        depths: list[int] = []

        def go(left: int) -> None:
            depths.append(len(inspect.stack(0)))
            self.start(str(left))
            if left:
                self.followers.start([lambda: go(left - 1), lambda: self.start(f"{left} ended")])

        go(4 * DEEPEST)
        self.assertLess(max(depths) - min(depths), 6 * DEEPEST)
        self.assertEqual(len(self.started), 8 * DEEPEST + 1)
        begun = [int(name) for name in self.started if name.isdigit()]
        self.assertEqual(begun, sorted(begun, reverse=True))

    def test_whoever_waits_in_one(self) -> None:
        """What he waits for is started meanwhile."""

        def wait() -> None:
            self.start("waited for")
            self.assertEqual(self.started, ["waited for"])

        self.followers.start([wait])


class CrowdRunTests(SynchronousTestCase):
    """A run with the commands of three clients."""

    def setUp(self) -> None:
        self.slots = [Slot() for _ in range(3)]
        commands = [[b"GET", b"k"]] * 6
        self.run_ = CrowdRun([*self.slots], [2, 1, 3], commands, False, 0.0)
        self.read = CrowdRead([*self.slots], [2, 1, 3], commands, False, 0.0)

    def data(self) -> list[list[bytes]]:
        """Return what each client got."""
        return [slot.data for slot in self.slots]

    def test_replies(self) -> None:
        """One for each command, or all of a client in one piece."""
        self.run_.complete([b"%d" % n for n in range(6)])
        self.read.complete([b"aa", b"b", b"ccc"])
        self.assertEqual(self.data(), [[b"01", b"aa"], [b"2", b"b"], [b"345", b"ccc"]])
        self.assertEqual((self.run_.commands, self.read.commands), ((), ()))

    def test_errors(self) -> None:
        """One for each command."""
        self.run_.fail(NotLeader())
        error = b"-ERR leader not known\r\n"
        self.assertEqual(self.data(), [[error * 2], [error], [error * 3]])

    def test_it_ends_once(self) -> None:
        """Whatever comes later is not told, and who waits for the end goes on once."""
        ended: list[bool] = []
        for run in (self.run_, self.read):
            run.then(lambda run=run: ended.append(run.ended))  # type: ignore[misc]
            run.complete([b"a", b"b", b"c"])
            run.fail(NotLeader())
            run.complete([b"x", b"y", b"z"])
        self.assertEqual(self.data(), [[b"a"] * 2, [b"b"] * 2, [b"c"] * 2])
        self.assertEqual(ended, [True, True])
