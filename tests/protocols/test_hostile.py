"""Random and mutated bytes against the whole edge: client, link, handshake, TLS aside."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.protocols.wire import StatusRequest, TimeoutNow, encode
from finn.raft.messages import AppendEntries
from tests.protocols.support import NotingHandler, Server, Wire

PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"*1\r\n$4\r\nPING\r\n",
            b"PING\r\n",
            b"*2\r\n",
            b"$4\r\n",
            b"$100000000\r\n",
            b"*100000000\r\n",
            b"*-1\r\n",
            b"$-1\r\n",
            b"*1\r\n*1\r\n*1\r\n",
            b"#f\r\n",
            b"%1\r\n+a\r\n+b\r\n",
            b"~2\r\n:1\r\n:2\r\n",
            b'"\\x00',
            b"POST / HTTP/1.1\r\n",
            b"\r\n\r\n",
            b"\n",
            b"*10\r\n$8\r\nRAFTLINK\r\n$1\r\n1\r\n",
            encode(TimeoutNow(5)),
            encode(AppendEntries(5, 0, 0, 0, 1, [])),
        ]
    ),
)


class Clients(SynchronousTestCase):
    @settings(max_examples=300)
    @given(st.lists(PIECES, max_size=12), st.booleans())
    def test_any_bytes_end_in_replies_or_an_error(self, pieces: list[bytes], whole: bool) -> None:
        """No exception, nothing but commands for the node, and one answer for each of them."""
        server = Server()
        connection, transport = server.connect()
        for piece in [b"".join(pieces)] if whole else pieces:
            if not transport.lost:
                connection.dataReceived(piece)
        for command in server.dispatcher.commands:
            self.assertTrue(command)
            self.assertTrue(all(type(word) is bytes for word in command))
        answers = b"".join(b"+" + c[0] + b"\r\n" for c in server.dispatcher.commands)
        self.assertTrue(transport.value().startswith(answers))
        rest = transport.value()[len(answers) :]
        self.assertTrue(not rest or (rest.startswith(b"-ERR ") and transport.lost), rest)
        if not transport.lost:
            transport.loseConnection()
        self.assertEqual(server.factory.partial_bytes, 0)
        self.assertEqual(server.clock.getDelayedCalls(), [])


class Links(SynchronousTestCase):
    def live(self, wire: Wire) -> bool:
        return not wire.far.lost and not wire.near.lost

    @settings(max_examples=150)
    @given(st.lists(PIECES, max_size=8), st.booleans(), st.integers(0, 3))
    def test_noise_in_a_handshake_makes_no_link(
        self, pieces: list[bytes], to_acceptor: bool, after: int
    ) -> None:
        """At whatever point it comes, from whichever side: no link and no message."""
        wire = Wire(NotingHandler(1, secret="s"), NotingHandler(2, secret="s"))
        steps: list[Any] = [wire.to_acceptor, wire.to_dialer, wire.to_acceptor]
        for step in steps[:after]:
            step()
        target = wire.connection if to_acceptor else wire.link
        transport = wire.far if to_acceptor else wire.near
        noise = b"".join(pieces)
        was_made = bool(wire.acceptor.links if to_acceptor else wire.dialer.links)
        if noise and not transport.lost:
            target.dataReceived(noise)
        if not was_made:
            self.assertEqual(wire.acceptor.messages, [])
            self.assertEqual(wire.dialer.messages, [])
        for _ in range(10):
            wire.clock.advance(1)
        self.assertFalse(self.live(wire))

    @settings(max_examples=150)
    @given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
    def test_a_mutated_handshake_makes_no_link(self, changes: list[tuple[int, int]]) -> None:
        """Any byte of any frame changed, and the link is refused."""
        wire = Wire(NotingHandler(1, secret="s"), NotingHandler(2, secret="s"))
        changed = False
        for which in range(3):
            transport, target = (
                (wire.far, wire.link) if which == 1 else (wire.near, wire.connection)
            )
            sent = transport.value()
            data = bytearray(sent)
            transport.clear()
            for position, byte in changes if which == len(changes) % 3 and sent else []:
                data[position % len(data)] = byte
            changed = changed or data != sent  # a change may undo another
            if data:
                target.dataReceived(bytes(data))
        if changed:
            self.assertEqual(wire.acceptor.links, [])
            self.assertEqual(wire.dialer.links, [])

    @settings(max_examples=150)
    @given(st.lists(PIECES, max_size=8))
    def test_noise_on_a_link_ends_it(self, pieces: list[bytes]) -> None:
        """Messages before it are received; no exception comes out."""
        wire = Wire(NotingHandler(1), NotingHandler(2))
        wire.pump()
        noise = b"".join(pieces)
        wire.connection.dataReceived(encode(StatusRequest(1)) + noise)
        self.assertEqual(wire.acceptor.messages[0], StatusRequest(1))
        for _ in range(10):
            wire.clock.advance(1)
        self.assertTrue(wire.far.lost)
        self.assertEqual(len(wire.acceptor.lost), 1)
