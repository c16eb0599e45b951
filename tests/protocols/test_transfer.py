"""Tests for finn.protocols.transfer."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DiskFailed, SnapshotUnusable
from finn.interfaces import SnapshotMeta
from finn.protocols import transfer
from finn.protocols.transfer import (
    CHUNK,
    SnapshotInbox,
    SnapshotSender,
    TransferFailed,
    send_snapshot,
)
from finn.protocols.wire import SnapshotAccept, SnapshotAck, SnapshotChunk, SnapshotOffer, encode
from finn.raft.configuration import Configuration, Member
from finn.storage.memsnapshots import MemorySnapshotStore, MemorySource
from tests.protocols.support import NotingHandler, Wire, settled
from tests.protocols.test_link import Network

STATE = bytes(range(256)) * 4096 * 5 + b"end"  # 5 MiB and a bit


def make_meta(state: bytes = STATE, **changes: Any) -> SnapshotMeta:
    members = Configuration((Member(1, "a:1"), Member(2, "b:2")), 3)
    fields: dict[str, Any] = {
        "index": 9,
        "term": 4,
        "time": 1700000000000,
        "configuration": members,
        "size": len(state),
        "crc": crc32(state),
        "machine": "kv",
        "version": 1,
        "id": "4-9-1700000000000",
    }
    return SnapshotMeta(**{**fields, **changes})


class Source(MemorySource):
    """A source that notes when it is closed."""

    closed = False

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class Receiver:
    """A node that receives: its store, inbox and what it was told."""

    def __init__(self, clock: Any) -> None:
        self.store = MemorySnapshotStore()
        self.wanted = True
        self.offers: list[tuple[int, int, int]] = []
        self.contacts: list[tuple[int, int]] = []
        self.completed: list[tuple[SnapshotMeta, int]] = []
        self.installing: Any = None
        self.failures: list[Exception] = []
        self.inbox = SnapshotInbox(
            self.store, clock, self.offer, self.contact, self.complete, self.failures.append
        )

    def offer(self, sender: int, term: int, meta: SnapshotMeta) -> bool:
        self.offers.append((sender, term, meta.index))
        return self.wanted

    def contact(self, sender: int, term: int) -> None:
        self.contacts.append((sender, term))

    def complete(self, meta: SnapshotMeta, sender: int) -> Any:
        self.completed.append((meta, sender))
        return self.installing


class Transfers(SynchronousTestCase):
    """A sender on node 1, a receiver on node 2, and the wire between them."""

    def setUp(self) -> None:
        self.wire = self.connect()
        self.receiver = Receiver(self.wire.clock)
        self.source = Source(make_meta(), STATE)

    def connect(self, clock: Any = None) -> Wire:
        wire = Wire(NotingHandler(1), NotingHandler(2), kind="snapshot", clock=clock)
        wire.pump()
        return wire

    def send(self, wire: Wire, source: Any = None, term: int = 5) -> tuple[Any, list[Any]]:
        """Start to send; the offer is delivered and handed to the inbox."""
        sender = SnapshotSender(wire.dialer.links[0], source or self.source, term, self.wire.clock)
        outcome = settled(sender.run())
        wire.to_acceptor()
        if wire.acceptor.messages:
            self.receiver.inbox.offered(wire.acceptor.links[0], wire.acceptor.messages.pop())
        return sender, outcome

    @property
    def states(self) -> list[bytes]:
        """Contents of the receiver's store."""
        return list(self.receiver.store._states.values())

    def test_a_snapshot_arrives_whole(self) -> None:
        """All bytes arrive, are complete at the receiver, and the sender knows."""
        _, outcome = self.send(self.wire)
        self.wire.pump()
        self.assertEqual(outcome, [True])
        self.assertEqual(self.states, [STATE])
        ((meta, sender),) = self.receiver.completed
        self.assertEqual((meta.index, meta.term, meta.size, sender), (9, 4, len(STATE), 1))
        self.assertEqual(meta.configuration, make_meta().configuration)
        self.assertEqual(self.receiver.offers, [(1, 5, 9)])
        self.assertTrue(self.source.closed)
        self.assertTrue(self.wire.near.lost)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_an_empty_snapshot_arrives(self) -> None:
        """A machine without state has a snapshot of no bytes."""
        _, outcome = self.send(self.wire, Source(make_meta(b""), b""))
        self.wire.pump()
        self.assertEqual((outcome, self.states), ([True], [b""]))

    def test_one_byte_at_a_time(self) -> None:
        """However the bytes are cut, the same arrives; parts of chunks count as contact."""
        state = b"some state"
        sender = SnapshotSender(
            self.wire.dialer.links[0], Source(make_meta(state), state), 5, self.wire.clock
        )
        outcome = settled(sender.run())
        while not outcome:
            for byte in self.wire.take_near():
                self.wire.connection.dataReceived(bytes([byte]))
                if self.wire.acceptor.messages:
                    offer = self.wire.acceptor.messages.pop()
                    self.receiver.inbox.offered(self.wire.acceptor.links[0], offer)
            self.wire.to_dialer()
        self.assertEqual((outcome, self.states), ([True], [state]))
        self.assertGreater(len(self.receiver.contacts), len(state))

    def test_every_chunk_is_contact_with_the_leader(self) -> None:
        """The receiver's election timer hears of each chunk, with sender and term."""
        self.send(self.wire)
        self.wire.pump()
        self.assertEqual(set(self.receiver.contacts), {(1, 5)})
        self.assertGreaterEqual(len(self.receiver.contacts), len(STATE) // CHUNK)

    def test_the_window_bounds_what_is_unacknowledged(self) -> None:
        """Without acknowledgements only a window of chunks is read and sent."""
        sender, _ = self.send(self.wire)
        self.wire.to_dialer()
        self.assertEqual(sender.sent, transfer.WINDOW)
        self.wire.to_acceptor()
        self.wire.to_dialer()
        self.assertEqual(sender.sent, 2 * transfer.WINDOW)

    def test_unwanted_is_refused(self) -> None:
        """When the receiver has it already nothing is sent, and that is no failure."""
        self.receiver.wanted = False
        _, outcome = self.send(self.wire)
        self.wire.pump()
        self.assertEqual(outcome, [False])
        self.assertEqual(self.receiver.store.snapshots, [])
        self.assertTrue(self.source.closed)

    def test_a_lost_link_is_resumed(self) -> None:
        """Over a new link the same snapshot goes on where it stopped."""
        _, outcome = self.send(self.wire)
        self.wire.to_dialer()
        self.wire.to_acceptor()
        self.wire.near.loseConnection()
        self.wire.far.loseConnection()
        self.failureOf(outcome, "the link is lost")
        again = self.connect(self.wire.clock)
        sender, outcome = self.send(again, Source(make_meta(), STATE))
        again.to_dialer()
        self.assertEqual(sender.acknowledged, transfer.WINDOW)
        again.pump()
        self.assertEqual((outcome, self.states), ([True], [STATE]))

    def test_a_lost_link_at_the_end_is_resumed(self) -> None:
        """Also when all bytes were received."""
        self.receiver.installing = Deferred()
        _, outcome = self.send(self.wire)
        self.wire.pump()
        self.wire.near.loseConnection()
        self.wire.far.loseConnection()
        self.failureOf(outcome, "the link is lost")
        self.receiver.installing.callback(None)
        self.assertEqual(self.states, [STATE])
        self.assertIs(self.receiver.inbox.receiver, None)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_another_snapshot_does_not_go_on_with_the_old_bytes(self) -> None:
        """What is kept is used only for the same snapshot."""
        self.send(self.wire)
        self.wire.to_dialer()
        self.wire.to_acceptor()
        self.wire.near.loseConnection()
        self.wire.far.loseConnection()
        again = self.connect(self.wire.clock)
        other = STATE[::-1]
        sender, outcome = self.send(again, Source(make_meta(other), other))
        again.to_dialer()
        self.assertEqual(sender.acknowledged, 0)
        again.pump()
        self.assertEqual((outcome, self.states), ([True], [other]))

    def test_what_is_kept_expires(self) -> None:
        """A partial snapshot is thrown away after a while."""
        self.send(self.wire)
        self.wire.to_dialer()
        self.wire.to_acceptor()
        self.wire.near.loseConnection()
        self.wire.far.loseConnection()
        self.wire.clock.advance(transfer.KEEP_PARTIAL)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])
        self.assertIs(self.receiver.inbox._partial, None)

    def test_a_second_link_replaces_the_first(self) -> None:
        """A half-open link does not block the transfer: the newer one goes on with its bytes."""
        self.send(self.wire)
        self.wire.to_dialer()
        self.wire.to_acceptor()
        again = self.connect(self.wire.clock)
        _, outcome = self.send(again, Source(make_meta(), STATE))
        self.assertTrue(self.wire.far.lost)
        again.pump()
        self.assertEqual((outcome, self.states), ([True], [STATE]))

    def test_an_older_leader_cannot_replace_a_transfer(self) -> None:
        """An offer of an earlier term than that of the running transfer is refused."""
        self.send(self.wire)
        again = self.connect(self.wire.clock)
        _, outcome = self.send(again, Source(make_meta(), STATE), term=4)
        again.pump()
        self.assertEqual(outcome, [False])

    def failureOf(self, outcome: list[Any], text: str) -> None:
        (failure,) = outcome
        failure.trap(TransferFailed)
        self.assertIn(text, str(failure.value))
        is_bad = isinstance(failure.value, SnapshotUnusable)
        self.assertEqual(is_bad, any(words in text for words in ("use it", "read", "shorter")))

    def test_a_silent_receiver_ends_the_transfer(self) -> None:
        """Without progress the sender gives up at its deadline."""
        sender = SnapshotSender(self.wire.dialer.links[0], self.source, 5, self.wire.clock)
        outcome = settled(sender.run())
        self.wire.keep_alive(transfer.DEADLINE + 1)
        self.failureOf(outcome, "no progress")
        self.assertTrue(self.source.closed)

    def test_a_silent_sender_ends_the_transfer(self) -> None:
        """Without progress the receiver drops the link at its deadline, and keeps the bytes."""
        inbox = self.receiver.inbox
        self.send(self.wire)
        self.wire.dialer.links[0].receiver = NotingHandler(1)
        self.wire.keep_alive(transfer.DEADLINE - 1)
        self.assertIsNot(inbox.receiver, None)
        self.wire.keep_alive(1)
        self.assertIs(inbox.receiver, None)
        self.assertTrue(self.wire.far.aborted)
        self.successResultOf(inbox.stop())

    def test_a_long_installation_is_not_a_silence(self) -> None:
        """While the receiver checks and installs it says so, longer than the deadline."""
        self.receiver.installing = Deferred()
        _, outcome = self.send(self.wire)
        self.wire.keep_alive(3 * transfer.DEADLINE)
        self.assertEqual(outcome, [])
        self.receiver.installing.callback(None)
        self.wire.pump()
        self.assertEqual(outcome, [True])

    def test_a_bad_chunk_is_not_taken(self) -> None:
        """Wrong checksum, offset or size: the link is lost, what came before is kept."""
        for chunk, text in [
            (SnapshotChunk(0, 1, b"abc"), "checksum"),
            (SnapshotChunk(7, crc32(b"abc"), b"abc"), "not the next"),
            (SnapshotChunk(0, 0, b""), "makes no sense"),
            (SnapshotChunk(0, crc32(b"abcdef"), b"abcdef"), "makes no sense"),
            (SnapshotAck(0), "out of place"),
        ]:
            wire = self.connect(self.wire.clock)
            link = wire.dialer.links[0]
            link.send(encode(SnapshotOffer(5, make_meta(b"abcd"))))
            wire.to_acceptor()
            self.receiver.inbox.offered(wire.acceptor.links[0], wire.acceptor.messages.pop())
            link.receiver = NotingHandler(1)
            link.send(encode(chunk))
            wire.to_acceptor()
            ((_, reason),) = wire.acceptor.lost
            self.assertIn(text, str(reason.value))
        self.successResultOf(self.receiver.inbox.stop())

    def test_a_state_that_does_not_fit_its_checksum_is_refused(self) -> None:
        """The whole state is checked at the end; the sender learns that it failed."""
        _, outcome = self.send(self.wire, Source(make_meta(crc=1), STATE))
        self.wire.pump()
        self.failureOf(outcome, "could not use it")
        self.assertEqual(self.receiver.completed, [])

    def test_a_receiver_that_makes_no_sense_loses_the_link(self) -> None:
        """A sender is not led beyond its snapshot."""
        for message in [SnapshotAccept(len(STATE) + 1), SnapshotAck(0)]:
            wire = self.connect(self.wire.clock)
            sender = SnapshotSender(
                wire.dialer.links[0], Source(make_meta(), STATE), 5, self.wire.clock
            )
            outcome = settled(sender.run())
            wire.acceptor.links[0].send(encode(message))
            wire.to_dialer()
            self.failureOf(outcome, "the link is lost")

    def test_a_source_that_fails_ends_the_transfer(self) -> None:
        """A snapshot that cannot be read is not sent; the failure is logged."""
        self.source.read = lambda offset, size: fail(DiskFailed("gone"))  # type: ignore
        _, outcome = self.send(self.wire)
        self.wire.pump()
        self.failureOf(outcome, "cannot be read")
        self.assertEqual(len(self.flushLoggedErrors(DiskFailed)), 1)

    def test_a_source_that_is_cut_short_ends_the_transfer(self) -> None:
        """Its last bytes would be waited for in vain."""
        _, outcome = self.send(self.wire, Source(make_meta(), STATE[:-1]))
        self.wire.pump()
        self.failureOf(outcome, "shorter than it says")

    def test_the_receiver_waits_for_its_disk(self) -> None:
        """Above a bound of bytes on their way to the disk, nothing is acknowledged."""
        flushed: Deferred[None] = Deferred()
        sender, outcome = self.send(self.wire)
        running = self.receiver.inbox.receiver
        assert running is not None
        sink: Any = running.sink
        sink.pending = transfer.MAX_PENDING + 1
        sink.flushed = lambda: flushed
        self.wire.pump()
        self.assertEqual((sender.sent, sender.acknowledged), (transfer.WINDOW, 0))
        sink.pending = 0
        flushed.callback(None)
        self.wire.pump()
        self.assertEqual(outcome, [True])

    def test_cancelling_ends_the_transfer(self) -> None:
        """A leader that steps down cancels what it sends; the receiver keeps what it has."""
        sender = SnapshotSender(self.wire.dialer.links[0], self.source, 5, self.wire.clock)
        running = sender.run()
        running.cancel()
        self.failureResultOf(running)
        self.assertTrue(self.source.closed)
        self.assertTrue(self.wire.near.lost)

    def test_installing_is_no_contact(self) -> None:
        """It goes on when the leader is gone: the receiver's vote must not wait for its end."""
        self.receiver.installing = Deferred()
        self.send(self.wire)
        self.wire.pump()
        self.receiver.contacts.clear()
        self.wire.near.loseConnection()
        self.wire.keep_alive(5)
        self.assertEqual(self.receiver.contacts, [])
        self.receiver.installing.callback(None)

    def test_what_is_never_installed_ends(self) -> None:
        """Signs of life are bounded too."""
        self.patch(transfer, "FINISH_BEATS", 20)
        self.receiver.installing = Deferred()
        _, outcome = self.send(self.wire)
        self.wire.keep_alive(30)
        self.assertTrue(self.wire.far.aborted)
        self.wire.near.loseConnection()
        self.failureOf(outcome, "the link is lost")

    def test_an_installation_that_fails_is_told(self) -> None:
        """The sender may try again; the failure is in the receiver's log."""
        self.receiver.installing = fail(ZeroDivisionError())
        _, outcome = self.send(self.wire)
        self.wire.pump()
        self.failureOf(outcome, "could not use it")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_a_disk_that_fails_ends_the_transfer(self) -> None:
        """On the receiver, while it waits for the disk."""
        self.send(self.wire)
        running = self.receiver.inbox.receiver
        assert running is not None
        sink: Any = running.sink
        sink.pending = transfer.MAX_PENDING + 1
        sink.flushed = lambda: fail(DiskFailed("gone"))
        self.wire.pump()
        self.assertTrue(self.wire.far.aborted)
        self.assertEqual([str(e) for e in self.receiver.failures], ["gone"])
        self.successResultOf(self.receiver.inbox.stop())

    def test_a_disk_that_fails_at_the_end(self) -> None:
        """The receiver's node is told, or it would be sent the same again and again."""
        self.receiver.installing = fail(DiskFailed("full"))
        _, outcome = self.send(self.wire)
        self.wire.pump()
        self.failureOf(outcome, "could not use it")
        self.assertEqual([str(e) for e in self.receiver.failures], ["full"])

    def test_stopping_in_a_transfer(self) -> None:
        """Both sides stop at once, and nothing is left."""
        sender = SnapshotSender(self.wire.dialer.links[0], self.source, 5, self.wire.clock)
        outcome = settled(sender.run())
        self.wire.to_acceptor()
        self.receiver.inbox.offered(self.wire.acceptor.links[0], self.wire.acceptor.messages.pop())
        self.wire.to_dialer()
        self.successResultOf(self.receiver.inbox.stop())
        self.assertTrue(self.wire.far.aborted)
        self.wire.near.loseConnection()
        self.failureOf(outcome, "the link is lost")
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_a_transfer_on_a_lost_link(self) -> None:
        """Fails at once."""
        self.wire.near.loseConnection()
        sender = SnapshotSender(self.wire.dialer.links[0], self.source, 5, self.wire.clock)
        self.failureOf(settled(sender.run()), "the link is lost")


class Dialled(SynchronousTestCase):
    """The link is made for the transfer."""

    def send(self, network: Network, source: Source) -> list[Any]:
        return settled(
            send_snapshot(
                network.clock,
                ":7482",
                NotingHandler(1),
                2,
                source,
                5,
                connect=network.connect,
            )
        )

    def test_a_peer_is_dialled_for_a_snapshot(self) -> None:
        """On a link of that kind, which the receiver may refuse to use."""
        network = Network()
        source = Source(make_meta(), STATE)
        outcome = self.send(network, source)
        node = NotingHandler(2)
        node.message_received = lambda link, message: (  # type: ignore[method-assign]
            link.send(encode(SnapshotAccept(0, True))),
            node.messages.append(message),
        )
        network.answer(node)
        self.assertEqual(outcome, [False])
        self.assertEqual([link.kind for link in node.links], ["snapshot"])
        self.assertEqual(node.messages[0].term, 5)
        self.assertTrue(source.closed)

    def test_a_peer_that_cannot_be_dialled(self) -> None:
        """The source is closed all the same."""
        network = Network()
        source = Source(make_meta(), STATE)
        outcome = self.send(network, source)
        network.waiting[0][1].errback(ConnectionRefusedError())
        outcome[0].trap(ConnectionRefusedError)
        self.assertTrue(source.closed)
