"""Snapshots on links of their own: chunked, checksummed, windowed, resumed.

The sender offers a snapshot; the receiver says from which byte on it wants it, having kept what
came over a link that was lost; chunks follow, a window of them without acknowledgement; at the end
the receiver checks size and checksum, installs, and says so. A transfer may take as long as it
likes while it moves; without progress for ``DEADLINE`` it ends on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any
from zlib import crc32

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import DiskFailed, FinnError, ProtocolError, SnapshotUnusable, TransferFailed
from finn.protocols.link import MemberLink, dial
from finn.protocols.wire import (
    SnapshotAccept,
    SnapshotAck,
    SnapshotChunk,
    SnapshotDone,
    SnapshotOffer,
    encode,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from finn.interfaces import ISnapshotSink, ISnapshotSource, ISnapshotStore, SnapshotMeta

CHUNK = 256 * 1024
WINDOW = 4 * CHUNK
DEADLINE = 10.0
MAX_PENDING = 4 * 1024 * 1024  # bytes on their way to the receiver's disk
KEEP_PARTIAL = 60.0  # how long a receiver keeps what came over a lost link
FINISH_BEAT = 1.0  # a receiver that checks and installs says that it still does
FINISH_BEATS = 600

Key = tuple[str, int, int, int, int]


class SnapshotSender:
    """Sends one snapshot over one link.

    Args:
        link: an open link of kind ``snapshot``; closed at the end.
        source: the snapshot; closed at the end.
        term: of the leader that sends.
        clock: for the deadline.

    Attributes:
        sent, acknowledged: offsets, for status and tests.
    """

    log = Logger()

    def __init__(
        self, link: MemberLink, source: ISnapshotSource, term: int, clock: IReactorTime
    ) -> None:
        self.sent = 0
        self.acknowledged = 0
        self._link = link
        self._source = source
        self._term = term
        self._clock = clock
        self._size = source.meta.size
        self._accepted = False
        self._reading = False
        self._result: Deferred[bool] = Deferred(self._cancelled)
        self._timer: IDelayedCall | None = None

    def run(self) -> Deferred[bool]:
        """Send it.

        Returns:
            Fires with True when the receiver installed it, with False when it does not want it;
            fails with TransferFailed, with SnapshotUnusable where its bytes may be bad. Cancelling
            it ends the transfer.
        """
        self._link.receiver = self
        self._link.on_lost = self._lost
        self._timer = self._clock.callLater(DEADLINE, self._fail, "no progress")
        if self._link.connected:
            self._link.send(encode(SnapshotOffer(self._term, self._source.meta)))
        else:
            self._fail("the link is lost")
        return self._result

    def message_received(self, link: MemberLink, message: Any) -> None:
        """Follow the receiver."""
        if self._timer is None:
            return
        self._timer.reset(DEADLINE)
        if isinstance(message, SnapshotAccept) and not self._accepted:
            if message.refused:
                self._finish(False)
            elif message.offset > self._size:
                raise ProtocolError("snapshot is wanted from behind its end")
            else:
                self._accepted = True
                self.sent = self.acknowledged = message.offset
                self._send_more()
        elif isinstance(message, SnapshotAck) and self._accepted:
            if not self.acknowledged <= message.offset <= self.sent:
                raise ProtocolError("what is acknowledged was not sent")
            self.acknowledged = message.offset
            self._send_more()
        elif isinstance(message, SnapshotDone) and self._accepted:
            if message.ok:
                self._finish(True)
            else:
                self._fail("the receiver could not use it", SnapshotUnusable)
        else:
            raise ProtocolError("message is out of place in a transfer")

    def bytes_received(self, link: MemberLink, begun: bytes) -> None:
        """Part of a message is no progress."""

    def _send_more(self) -> None:
        if (
            self._reading
            or self._timer is None
            or self.sent >= self._size
            or self.sent - self.acknowledged + CHUNK > WINDOW
        ):
            return
        self._reading = True
        read = self._source.read(self.sent, min(CHUNK, self._size - self.sent))
        read.addCallback(self._send_chunk)
        read.addErrback(self._read_failed)

    def _send_chunk(self, data: bytes) -> None:
        self._reading = False
        if self._timer is None:
            return
        if not data:
            self._fail("the snapshot is shorter than it says", SnapshotUnusable)
            return
        self._link.send(encode(SnapshotChunk(self.sent, crc32(data), data)))
        self.sent += len(data)
        self._send_more()

    def _read_failed(self, failure: Failure) -> None:
        self.log.failure("a snapshot cannot be read", failure)
        self._fail("the snapshot cannot be read", SnapshotUnusable)

    def _lost(self, reason: Failure) -> None:
        self._fail(f"the link is lost: {reason.getErrorMessage()}")

    def _cancelled(self, _: Deferred[bool]) -> None:
        self._end()

    def _fail(self, reason: str, error: type[TransferFailed] = TransferFailed) -> None:
        if self._end():
            self._result.errback(error(reason))

    def _finish(self, ok: bool) -> None:
        if self._end():
            self._result.callback(ok)

    def _end(self) -> bool:
        if self._timer is None:
            return False
        if self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._link.close()
        closed = self._source.close()
        closed.addErrback(lambda f: self.log.failure("closing a snapshot failed", f))
        return True


def send_snapshot(
    reactor: Any,
    address: str,
    handler: Any,
    peer_id: int,
    source: ISnapshotSource,
    term: int,
    **dialling: Any,
) -> Deferred[bool]:
    """Dial a peer and send it a snapshot; ``source`` is closed at the end, whatever happens.

    Returns:
        As ``SnapshotSender.run``; fails also with what kept the link from being made.
    """

    def not_dialled(failure: Failure) -> Failure:
        closed = source.close()
        closed.addErrback(lambda f: SnapshotSender.log.failure("closing a snapshot failed", f))
        return failure

    def dialled(link: MemberLink) -> Deferred[bool]:
        return SnapshotSender(link, source, term, reactor).run()

    linked = dial(reactor, address, handler, peer_id, "snapshot", **dialling)
    return linked.addCallbacks(dialled, not_dialled)


class SnapshotReceiver:
    """Takes one snapshot over one link, into a sink that may outlive it."""

    log = Logger()

    def __init__(
        self, inbox: SnapshotInbox, link: MemberLink, offer: SnapshotOffer, sink: ISnapshotSink
    ) -> None:
        self.key = _key(offer.meta)
        self.size = offer.meta.size
        self.term = offer.term
        self.sink = sink
        self.link = link
        self._inbox = inbox
        self._clock = inbox.clock
        self._finishing = 0
        self._flushing = False
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Ask for what is missing."""
        self._timer = self._clock.callLater(DEADLINE, self._stuck)
        self.link.receiver = self
        self.link.on_lost = self._lost
        self.link.send(encode(SnapshotAccept(self.sink.received)))
        self._finish_if_complete()

    def message_received(self, link: MemberLink, message: Any) -> None:
        """Take a chunk."""
        if self._timer is None or self._finishing:
            return
        if not isinstance(message, SnapshotChunk):
            raise ProtocolError("message is out of place in a transfer")
        sink = self.sink
        if message.offset != sink.received:
            raise ProtocolError(f"chunk at {message.offset} is not the next, {sink.received}")
        if not message.data or sink.received + len(message.data) > self.size:
            raise ProtocolError("chunk makes no sense")
        if crc32(message.data) != message.crc:
            raise ProtocolError("chunk has a wrong checksum")
        self._timer.reset(DEADLINE)
        sink.write(message.data)
        self._inbox.contact(link.peer_id, self.term)
        if sink.pending > MAX_PENDING:
            self._wait_for_disk()
        else:
            link.send(encode(SnapshotAck(sink.received)))
        self._finish_if_complete()

    def bytes_received(self, link: MemberLink, begun: bytes) -> None:
        """Part of a chunk is a sign of the leader."""
        self._inbox.contact(link.peer_id, self.term)

    def _wait_for_disk(self) -> None:
        """Acknowledge later: the sender's window is what bounds the memory."""
        if self._flushing:
            return
        self._flushing = True

        def flushed(_: Any) -> None:
            self._flushing = False
            if self._timer is not None and not self._finishing:
                self._timer.reset(DEADLINE)
                self.link.send(encode(SnapshotAck(self.sink.received)))

        self.sink.flushed().addCallbacks(flushed, self._disk_failed)

    def _finish_if_complete(self) -> None:
        if self.sink.received < self.size or self._finishing:
            return
        self._stop_timer()
        self._finish_beat()
        finished = self.sink.finish()
        finished.addCallback(lambda meta: maybeDeferred(self._inbox.complete, meta, self))
        finished.addCallbacks(lambda _: self._done(True), self._not_finished)

    def _finish_beat(self) -> None:
        """Checking, syncing and installing take their time: the sender's deadline must not pass."""
        self._finishing += 1
        if self._finishing > FINISH_BEATS:
            self.link.abort("a snapshot was not installed in time")
            return
        self._timer = self._clock.callLater(FINISH_BEAT, self._finish_beat)
        if self._finishing > 1:
            self.link.send(encode(SnapshotAck(self.size)))

    def _not_finished(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, DiskFailed):
            self._inbox.failed(error)
        elif failure.check(FinnError) is None:
            self.log.failure("a received snapshot could not be installed", failure)
        else:
            self.log.error(
                "a received snapshot is refused: {reason}", reason=failure.getErrorMessage()
            )
        self._done(False)

    def _done(self, ok: bool) -> None:
        self._stop_timer()
        self.link.send(encode(SnapshotDone(ok)))
        self.link.close()
        self._inbox.ended(self, keep=False)

    def _disk_failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, DiskFailed):
            self._inbox.failed(error)
        else:
            self.log.failure("a snapshot cannot be written", failure)
        self.link.abort("the snapshot cannot be written")

    def _stuck(self) -> None:
        self.link.abort("no progress")

    def _lost(self, reason: Failure) -> None:
        if self._finishing:
            return  # all is here: it goes on without the sender
        self._stop_timer()
        self._inbox.ended(self, keep=True)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    @property
    def finishing(self) -> bool:
        """Everything was received."""
        return self._finishing > 0

    def replace(self) -> None:
        """Leave the sink to another receiver."""
        self._stop_timer()
        self.link.on_lost = None
        self.link.abort("replaced by another transfer")


class SnapshotInbox:
    """What a node receives of snapshots: one at a time, kept for a while when a link is lost.

    Args:
        store: where they go.
        clock: for deadlines.
        offer: ``offer(sender id, term, meta) -> bool``: is it wanted?
        contact: ``contact(sender id, term)``: a sign of the leader.
        complete: ``complete(meta, sender id)``: it is durable; may return a Deferred that fires
            when it is installed.
        failed: told when the disk failed, after which nothing should be tried again.
    """

    log = Logger()

    def __init__(
        self,
        store: ISnapshotStore,
        clock: IReactorTime,
        offer: Callable[[int, int, SnapshotMeta], bool],
        contact: Callable[[int, int], None],
        complete: Callable[[SnapshotMeta, int], Any],
        failed: Callable[[DiskFailed], None],
    ) -> None:
        self.clock = clock
        self.contact = contact
        self.failed = failed
        self.receiver: SnapshotReceiver | None = None
        self._store = store
        self._offer = offer
        self._complete = complete
        self._partial: tuple[Key, ISnapshotSink] | None = None
        self._expiry: IDelayedCall | None = None

    def offered(self, link: MemberLink, offer: SnapshotOffer) -> None:
        """A snapshot link brought an offer: take it, go on with it, or refuse it."""
        running = self.receiver
        if running is not None and (running.finishing or running.term > offer.term):
            self._refuse(link)
            return
        if not self._offer(link.peer_id, offer.term, offer.meta):
            self._refuse(link)
            return
        if running is not None:
            running.replace()
            self.ended(running, keep=True)
        sink = self._take_partial(offer.meta) or self._store.create(copy(offer.meta))
        self.receiver = SnapshotReceiver(self, link, offer, sink)
        self.receiver.start()

    def _refuse(self, link: MemberLink) -> None:
        link.send(encode(SnapshotAccept(0, True)))
        link.close()

    def _take_partial(self, meta: SnapshotMeta) -> ISnapshotSink | None:
        """Return the sink of the same snapshot; what is kept of another is thrown away."""
        if self._partial is None:
            return None
        key, sink = self._partial
        if key == _key(meta):
            self._forget_partial()
            return sink
        self._drop_partial()
        return None

    def _forget_partial(self) -> None:
        self._partial = None
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        self._expiry = None

    def _drop_partial(self) -> Deferred[None]:
        if self._partial is None:
            return succeed(None)
        _, sink = self._partial
        self._forget_partial()
        aborted = sink.abort()
        aborted.addErrback(lambda f: self.log.failure("a partial snapshot stays behind", f))
        return aborted

    def complete(self, meta: SnapshotMeta, receiver: SnapshotReceiver) -> Any:
        """Hand a durable snapshot on (called by the receiver)."""
        return self._complete(meta, receiver.link.peer_id)

    def ended(self, receiver: SnapshotReceiver, keep: bool) -> None:
        """Note that a receiver is done (called by it); ``keep``: its link was lost."""
        if self.receiver is not receiver:
            return
        self.receiver = None
        if keep:
            self._partial = (receiver.key, receiver.sink)
            self._expiry = self.clock.callLater(KEEP_PARTIAL, self._drop_partial)

    def stop(self) -> Deferred[None]:
        """End what runs and throw away what is kept; one that is being installed goes on."""
        running = self.receiver
        if running is not None:
            running.replace()
            self.ended(running, keep=not running.finishing)
        return self._drop_partial()


def _key(meta: SnapshotMeta) -> Key:
    """What makes two offers the same bytes; the store gives the sink's meta an id of its own."""
    return meta.id, meta.index, meta.term, meta.size, meta.crc
