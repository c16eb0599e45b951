"""Tests for finn.protocols.output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.protocols import output as output_module
from finn.protocols.output import PIECE, Output
from tests.protocols.support import Transport


class Outputs(SynchronousTestCase):
    def setUp(self) -> None:
        self.transport = Transport()
        self.transport.protocol = self  # type: ignore[assignment]
        self.drained = 0
        self.output = Output(self.transport, self.note)

    def note(self) -> None:
        self.drained += 1

    def connectionLost(self, reason: object) -> None:
        self.output.stopProducing()

    def test_it_is_a_push_producer(self) -> None:
        """Of its transport."""
        verifyObject(IPushProducer, self.output)
        self.assertIs(self.transport.producer, self.output)
        self.assertTrue(self.transport.streaming)

    def test_small_writes_go_straight_through(self) -> None:
        """The same object, in the same turn."""
        self.output.write(b"abc")
        self.assertEqual((self.transport.value(), self.output.unsent), (b"abc", 0))

    def test_a_full_transport_gets_nothing(self) -> None:
        """Until it has drained; then everything, and the owner is told."""
        self.transport.fill()
        self.output.write(b"abc")
        self.output.write(b"def")
        self.assertEqual((self.transport.value(), self.output.unsent), (b"", 6))
        self.transport.drain()
        self.assertEqual((self.transport.value(), self.output.unsent), (b"abcdef", 0))
        self.assertEqual((self.drained, self.output.progress), (1, 1))

    def test_it_stops_when_the_transport_is_full_again(self) -> None:
        """One piece at a time, each of them progress, the owner told at the end."""
        self.transport.full_at = 1
        data = bytes(range(256)) * (3 * PIECE // 256) + b"end"
        self.output.write(data)
        got = self.transport.value()
        for left in (2, 1, 0):
            self.assertEqual(self.output.unsent, len(data) - len(got))
            self.assertEqual(self.drained, 0)
            self.transport.clear()
            self.transport.drain()
            got += self.transport.value()
            self.assertEqual(self.output.progress, 3 - left)
        self.assertEqual(got, data)

    def test_closing_waits_for_the_rest(self) -> None:
        """Then the transport closes; nothing is taken meanwhile."""
        self.transport.fill()
        self.output.write(b"abc")
        self.output.close()
        self.output.close()
        self.output.write(b"never")
        self.assertFalse(self.transport.lost)
        self.transport.drain()
        self.assertTrue(self.transport.lost)
        self.assertEqual(self.transport.value(), b"abc")
        self.assertEqual(self.drained, 0)

    def test_closing_with_nothing_left(self) -> None:
        """At once; a transport with a producer would not close."""
        self.output.close()
        self.assertIs(self.transport.producer, None)
        self.assertTrue(self.transport.lost)

    def test_a_lost_transport_forgets(self) -> None:
        """What nobody will read needs no memory."""
        self.transport.fill()
        self.output.write(b"abc")
        self.transport.loseConnection()
        self.assertEqual(self.output.unsent, 0)

    def test_pieces_are_copied_only_for_those_who_need_bytes(self) -> None:
        """A wrapper that knows the attributes of what it wraps is one that needs them."""
        kinds: list[type] = []

        class Writes(Transport):
            def write(self, data: bytes | memoryview) -> None:
                kinds.append(type(data))
                super().write(bytes(data))

        class TakesViews(Writes):
            takes_views = True

        class Wraps(Writes):
            def __getattr__(self, name: str) -> object:
                return getattr(TakesViews, name)

        data = bytes(range(256)) * (2 * PIECE // 256) + b"end"
        for transport in (TakesViews(), Wraps(), Writes()):
            Output(transport, lambda: None).write(data)
            self.assertEqual(transport.value(), data)
        self.assertEqual(kinds, [memoryview] * 3 + [bytes] * 6)

    @given(st.lists(st.one_of(st.just("fill"), st.just("drain"), st.integers(0, 200)), max_size=20))
    def test_nothing_is_lost_or_reordered(self, steps: list[str | int]) -> None:
        """Whatever the transport asks for and when."""
        self.patch(output_module, "PIECE", 64)
        transport = Transport()
        output = Output(transport, lambda: None)
        written = b""
        for number, step in enumerate(steps):
            if step == "fill":
                transport.fill()
            elif step == "drain":
                transport.drain()
            else:
                data = bytes([number]) * int(step)
                written += data
                output.write(data)
            self.assertTrue(written.startswith(transport.value()))
            self.assertEqual(len(transport.value()) + output.unsent, len(written))
        transport.drain()
        self.assertTrue(transport.value() == written)
