"""What a client is owed: replies in order, written once per turn, within bounds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol

from finn.protocols.slots import Slot

if TYPE_CHECKING:
    from finn.protocols.server import ClientFactory

FEW, MANY = 4, 64
SMALL_REPLIES = 64 * 1024
LARGE_REPLIES = 256 * 1024
"""Bytes of replies that one connection gets in a turn, and one portion."""


class ReplyPipeline(Protocol):
    """The outgoing half of a client's connection, and the brake on the incoming one.

    Attributes:
        closing: QUIT or an error came: what follows is neither run nor answered.
        lost: nobody is answered any more; who only closes is still owed what came before.
        owed: bytes of replies not taken, as the factory knows them.
        portion: how many commands to run at a time when nobody knows how large their replies are:
            more while they are small.
    """

    __slots__ = (
        "closing", "factory", "lost", "owed", "portion", "_closed_at", "_dirty", "_out",
        "_output", "_paused", "_pending", "_queued", "_reading", "_slots",
    )  # fmt: skip
    factory: ClientFactory

    def __init__(self, factory: ClientFactory) -> None:
        self.factory = factory
        self.closing = self.lost = False
        self._out: list[bytes] = []  # may be written
        self._slots: deque[Slot | bytes | None] = deque()  # None: the end, nothing follows it
        self._pending = 0  # commands that the slots stand for
        self._queued = 0  # bytes in both
        self.portion = FEW
        self.owed = 0
        self._dirty = False
        self._output: Any = None
        self._reading = True
        self._paused: set[str] = set()
        self._closed_at = -1  # tick

    # -- replies ------------------------------------------------------------------------------

    def reply(self, data: bytes) -> None:
        """Give the reply of the next command or commands."""
        self._queued += len(data)
        if self._slots:
            self._pending += 1
            self._slots.append(data)
        else:
            self._out.append(data)

    def answer(self, data: bytes) -> None:
        """Reply and write it at once; a connection that cannot write is dropped."""
        try:
            if self._slots or self._out:
                self.reply(data)
                self.flush()
                return
            self._write(data)
            if self._output.unsent:
                self._account()
                self._bound()
        except Exception:
            self.cannot_write()

    def cannot_write(self) -> None:
        """Log the exception that is being handled, and drop the connection."""
        self.factory.log.failure("the replies of a connection cannot be written")
        self.abandon()

    def reserve(self, count: int = 1) -> Slot:
        """Keep the place of the replies of the next ``count`` commands."""
        slot = Slot(self, count)
        self._pending += count
        self._slots.append(slot)
        return slot

    def slot_filled(self, slot: Slot, size: int) -> None:
        """Note that a slot has its data (called by the slot)."""
        self._queued += size
        if self._slots[0] is slot and not self._dirty:
            self._dirty = True
            self.factory.dirty.append(self)

    def mark_dirty(self) -> None:
        """Have the factory's next ``flush`` write what is ready."""
        if not self._dirty:
            self._dirty = True
            self.factory.dirty.append(self)

    @property
    def has_pending(self) -> bool:
        """Replies wait for an open slot, or for the next ``flush``."""
        return bool(self._slots)

    @property
    def waiting(self) -> int:
        """Bytes of replies that the transport has not taken."""
        return self._queued + int(self._output.unsent)

    @property
    def full(self) -> bool:
        """The client is owed as many bytes as are kept for it: better ``postpone`` the rest."""
        limit = self.factory.limits.output_bytes
        if self._queued < limit and not self._output.congested:
            return False
        if not self._slots and self._out:
            self._write_out()
        return self.waiting >= limit

    def flush(self) -> None:
        """Write what is ready, in one piece."""
        self._dirty = False
        slots, out, output = self._slots, self._out, self._output
        while slots:
            head = slots[0]
            if head is None:
                break
            if isinstance(head, bytes):
                out.append(head)
                self._pending -= 1
            elif head.data is None:
                break
            else:
                out.append(head.data)
                self._pending -= head.count
            slots.popleft()
        if out:
            self._write_out()
        if slots and slots[0] is None:
            output.close()
        elif self._paused:
            self._relieve()
        if self._queued + output.unsent != self.owed:  # seldom: small replies are gone at once
            self._account()
        if self._pending or output.unsent:
            self._bound()

    def _account(self) -> None:
        """Tell the factory how much this client is owed."""
        change = self._queued + self._output.unsent - self.owed
        if change:
            self.owed += change
            self.factory.owe(change)

    def _write_out(self) -> None:
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._queued -= len(data)
        self._write(data)

    def _write(self, data: bytes) -> None:
        if len(data) > LARGE_REPLIES:
            self.portion = FEW
        elif self.portion < MANY:
            self.portion *= 2
        self._output.write(data)

    # -- the end ------------------------------------------------------------------------------

    def answer_open(self, data: bytes) -> None:
        """Reply with ``data`` to every command that still waits: its own reply comes too late."""
        slots = self._slots
        for position, slot in enumerate(slots):
            if isinstance(slot, Slot) and slot.data is None:
                # In a slot of its own: whoever has this one may fill it yet, for nobody.
                instead = slots[position] = Slot(self, slot.count)
                instead.fill(data * slot.count)

    def close_after_flush(self, data: bytes = b"") -> None:
        """Close when all replies up to now, and ``data``, are written; nothing is read any more."""
        if self.closing:
            return
        if data:
            self.reply(data)
        self.closing = True
        self._closed_at = self.factory.tick
        self._slots.append(None)
        self.pause("closing")
        self.mark_dirty()

    def abandon(self) -> None:
        """Drop the connection at once, whatever is unsent."""
        self._end()
        transport: Any = self.transport
        transport.abortConnection()

    def _end(self) -> None:
        """Nothing is written any more: what slots bring goes nowhere."""
        self.closing = self.lost = True
        self._slots.clear()
        self._slots.append(None)
        self._out.clear()
        self._queued = self._pending = 0
        self.factory.owe(-self.owed)
        self.owed = 0

    # -- reading, paused and resumed ----------------------------------------------------------

    def pause(self, reason: str) -> None:
        """Read no more until each reason given is resumed."""
        self._paused.add(reason)
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume(self, reason: str) -> None:
        """Take back one reason for not reading."""
        self._paused.discard(reason)
        if not self._paused and not self._reading and not self.closing:
            self._reading = True
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def _bound(self) -> None:
        """Stop reading from a client that is owed too much."""
        limits = self.factory.limits
        if self._pending > limits.pending_replies or self.waiting > limits.output_bytes:
            self.pause("pending")

    def _drained(self) -> None:
        """The transport has taken everything."""
        if self._paused:
            self._relieve()
        self._account()

    @property
    def _is_relieved(self) -> bool:
        return self.waiting <= self.factory.limits.output_bytes // 2

    def _relieve(self) -> None:
        """Read again once the client is owed less."""
        limit = self.factory.limits.pending_replies
        if "pending" in self._paused and self._is_relieved and self._pending <= limit // 2:
            self.resume("pending")
