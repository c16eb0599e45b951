"""Tests for finn.protocols.dialer."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from finn.protocols import dialer as dialer_module
from finn.protocols.dialer import Dialer
from finn.protocols.wire import StatusRequest, encode
from tests.protocols.support import NotingHandler
from tests.protocols.test_link import Network


class Dialing(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.handler = NotingHandler(1)
        self.dialer = Dialer(
            self.network.clock, 2, ":7482", self.handler, Random(1), connect=self.network.connect
        )

    def start(self, *nodes: NotingHandler) -> None:
        self.dialer.start()
        for node in nodes:
            self.network.answer(node)

    def fail(self, error: type[Exception] = ConnectError) -> None:  # type: ignore[override]
        """Let the oldest attempt fail."""
        self.network.waiting.pop(0)[1].errback(error())

    @property
    def attempts(self) -> int:
        return len(self.network.asked)

    def test_a_link_is_announced(self) -> None:
        """The node gets the link, and its messages directly."""
        node = NotingHandler(2)
        self.start(node)
        (link,) = self.handler.links
        self.assertIs(self.dialer.link, link)
        self.assertIs(link.receiver, self.handler)
        self.assertFalse(link.instance_changed)
        self.assertEqual(self.dialer.last_instance, 200)

    def test_failures_are_reported_and_tried_again(self) -> None:
        """With growing pauses, up to a bound, and jitter."""
        self.start()
        delays = []
        for number in range(12):
            self.fail()
            self.assertEqual(self.handler.failures[-1], (2, ":7482", False))
            (call,) = self.network.clock.getDelayedCalls()
            delays.append(call.getTime() - self.network.clock.seconds())
            nominal = min(dialer_module.FIRST_DELAY * 2**number, dialer_module.LAST_DELAY)
            self.assertTrue(nominal / 2 <= delays[-1] <= nominal)
            self.network.clock.advance(delays[-1])
            self.assertEqual(self.attempts, number + 2)
        self.assertGreater(len(set(delays)), 11)

    def test_refused_connections_are_told_apart(self) -> None:
        """Nobody listens there: the process is gone."""
        self.start()
        self.fail(ConnectionRefusedError)
        self.assertEqual(self.handler.failures, [(2, ":7482", True)])

    def test_a_refused_handshake_is_no_refused_connection(self) -> None:
        """Somebody is there; why not is kept for people to see."""
        self.start(NotingHandler(3))
        self.assertEqual(self.handler.failures, [(2, ":7482", False)])
        self.assertIn("answers here", self.dialer.problem)
        self.network.clock.advance(1)
        self.network.answer(NotingHandler(2))
        self.assertEqual(self.dialer.problem, "")

    def test_a_lost_link_is_dialled_again(self) -> None:
        """After a short pause; the node hears of the loss first."""
        self.start(NotingHandler(2))
        self.handler.links[0].abort()
        self.assertEqual(len(self.handler.lost), 1)
        self.assertIs(self.dialer.link, None)
        self.assertEqual(self.attempts, 1)
        self.network.clock.advance(dialer_module.FIRST_DELAY)
        self.assertEqual(self.attempts, 2)

    def test_a_lost_link_may_be_dialled_at_once(self) -> None:
        """From within the news of the loss: that is how a crash is detected."""
        self.start(NotingHandler(2))
        self.handler.link_lost = (  # type: ignore[method-assign]
            lambda link, reason: self.dialer.dial_now()
        )
        self.handler.links[0].abort()
        self.assertEqual(self.attempts, 2)
        self.network.clock.advance(10)
        self.assertEqual(self.attempts, 2)

    def test_dial_now_cuts_a_pause_short(self) -> None:
        """And does nothing while an attempt is under way or the link is up."""
        self.start()
        self.dialer.dial_now()
        self.assertEqual(self.attempts, 1)
        self.fail()
        self.dialer.dial_now()
        self.assertEqual(self.attempts, 2)
        self.network.answer(NotingHandler(2))
        self.dialer.dial_now()
        self.assertEqual(self.attempts, 2)

    def test_another_process_is_noticed(self) -> None:
        """The same id with another instance: it fell and came back."""
        self.start(NotingHandler(2))
        node = NotingHandler(2)
        self.handler.links[0].abort()
        self.dialer.dial_now()
        self.network.answer(node)
        self.assertFalse(self.handler.links[1].instance_changed)
        self.handler.links[1].abort()
        self.dialer.dial_now()
        object.__setattr__(node.me, "instance", 999)
        self.network.answer(node)
        self.assertTrue(self.handler.links[2].instance_changed)

    def test_a_new_address_is_dialled_at_once(self) -> None:
        """While waiting, and in the middle of an attempt; a link that is up stays."""
        self.start()
        self.dialer.set_address(":7483")
        self.assertEqual(self.network.asked, [("127.0.0.1", 7482), ("127.0.0.1", 7483)])
        self.assertEqual(self.handler.failures, [])
        del self.network.waiting[0]
        self.fail()
        self.dialer.set_address(":7484")
        self.dialer.set_address(":7484")
        self.assertEqual(self.network.asked[2:], [("127.0.0.1", 7484)])
        self.network.answer(NotingHandler(2))
        self.dialer.set_address(":7485")
        self.assertEqual(self.attempts, 3)
        self.assertIsNot(self.dialer.link, None)

    def test_stopping_while_waiting(self) -> None:
        """No call is left."""
        self.start()
        self.fail()
        self.successResultOf(self.dialer.stop())
        self.assertEqual(self.network.clock.getDelayedCalls(), [])
        self.dialer.dial_now()
        self.assertEqual(self.attempts, 1)

    def test_stopping_in_an_attempt(self) -> None:
        """It is cancelled, and nobody hears of it."""
        self.start()
        self.successResultOf(self.dialer.stop())
        self.assertEqual(self.handler.failures, [])
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_stopping_with_a_link(self) -> None:
        """What was sent before goes out; the end of the link is the end of the dialer."""
        node = NotingHandler(2)
        self.start(node)
        (link,) = self.handler.links
        transport: Any = link.transport
        transport.stuck = True
        link.send(encode(StatusRequest(1)))
        stopped = self.dialer.stop()
        self.assertNoResult(stopped)
        self.assertEqual(transport.value(), encode(StatusRequest(1)))
        self.network.clock.advance(10)
        self.successResultOf(stopped)
        self.assertEqual(len(self.handler.lost), 1)
        self.assertEqual(self.attempts, 1)

    def test_an_address_that_is_none_is_a_failure_as_any_other(self) -> None:
        """It may be corrected later."""
        self.dialer.set_address("nonsense")
        self.start()
        self.assertEqual(self.handler.failures, [(2, "nonsense", False)])
        self.assertIn("has no port", self.dialer.problem)
        self.dialer.set_address(":7483")
        self.network.answer(NotingHandler(2))
        self.assertEqual(len(self.handler.links), 1)
