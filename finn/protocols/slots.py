"""Places of replies in a connection's pipeline: filled in any order, written in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import classImplements

from finn.interfaces import ISlot

if TYPE_CHECKING:
    from finn.protocols.replies import ReplyPipeline


class Slot:
    """The place of the replies of ``count`` commands that follow each other.

    One slot may stand for a whole run of commands, so that no object is made per command.
    """

    __slots__ = ("connection", "count", "data")

    def __init__(self, connection: ReplyPipeline, count: int) -> None:
        self.connection = connection
        self.count = count
        self.data: bytes | None = None

    def fill(self, data: bytes) -> None:
        if self.data is not None:
            raise RuntimeError("the slot is filled already")
        self.data = data
        self.connection.slot_filled(self, len(data))


classImplements(Slot, ISlot)
