"""Replies of machines in the original's style that go wrong."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CommandError
from finn.node.runs import NOBODY, OpaqueCall, SlotConnection


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
