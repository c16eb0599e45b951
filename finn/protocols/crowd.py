"""Commands of many clients that came in one batch of events, run in one go.

One command costs some microseconds to parse, to look up and to answer, most of it the same for
each. A client that sends many at a time pays that once for all of them; many clients that send one
each would pay it every time. So what they sent is gathered: where the commands of a batch are alike
(see ``finn.resp.uniform``), they are read, run and appended as one pipeline, whose replies are
handed out again.

Only a client that waits for nothing has its bytes gathered, and of each there is one piece. So the
commands of a crowd are concurrent with each other, and any order of them is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from finn.resp.uniform import Shape, shape_of

if TYPE_CHECKING:
    from finn.protocols.connection import ClientConnection
    from finn.protocols.server import ClientFactory

PREFIX = 16  # bytes that tell kinds of commands apart
KINDS = 64  # that are remembered
FEW = 3  # clients for which it is worth it
MOST_COMMANDS = 256
MOST_BYTES = 64 * 1024
PATIENCE = 32  # pieces of another shape until that one is expected
_NEVER = 1 << 62


class _Crowd:
    """The pieces of one kind; ``size``: bytes of a command, ``most``: commands at a time."""

    __slots__ = (
        "chunks",
        "count",
        "counts",
        "members",
        "most",
        "resp3",
        "shape",
        "size",
        "strange",
    )

    def __init__(self, shape: Shape) -> None:
        self.members: list[ClientConnection] = []
        self.counts: list[int] = []
        self.chunks: list[bytes] = []
        self.count = 0
        self.resp3 = False
        self.expect(shape)

    def expect(self, shape: Shape) -> None:
        """Take commands of this shape from now on."""
        self.shape = shape
        self.size = shape.size
        self.most = min(MOST_COMMANDS, MOST_BYTES // shape.size)
        self.strange = 0

    def refuse(self) -> None:
        """Take nothing until another shape is expected."""
        self.size = _NEVER
        self.strange = 0


class Crowds:
    """Gathers the pieces of one server's clients while a batch of events is handled."""

    log = Logger()

    def __init__(self, factory: ClientFactory) -> None:
        self._factory = factory
        self._kinds: dict[bytes, _Crowd] = {}
        self._waiting: list[_Crowd] = []

    def take(self, connection: ClientConnection, data: bytes) -> bool:
        """Keep a piece until the end of the batch; False if it is to be handled now.

        Args:
            connection: waits for no reply and has sent no part of a command.
        """
        crowd = self._kinds.get(data[:PREFIX])
        if crowd is None:
            return False
        count = 1
        if len(data) != crowd.size:
            count, rest = divmod(len(data), crowd.size)
            if rest or count > crowd.most:
                return False
        if crowd.count + count > crowd.most:
            self._run(crowd)
            return self.take(connection, data)  # another shape may be expected now
        if not crowd.members:
            if not self._waiting:
                self._factory.batch.at_end(self.run)
            self._waiting.append(crowd)
            crowd.resp3 = connection.resp3
        elif crowd.resp3 is not connection.resp3:
            return False
        crowd.members.append(connection)
        crowd.counts.append(count)
        crowd.chunks.append(data)
        crowd.count += count
        connection.is_gathered = True
        return True

    def learn(self, command: list[bytes], data: bytes) -> None:
        """Note what was not gathered: ``data`` begins with the encoding of ``command``."""
        kind = data[:PREFIX]
        crowd = self._kinds.get(kind)
        if crowd is not None:
            crowd.strange += 1
            if crowd.strange < PATIENCE or crowd.members:
                return
        if not self._factory.dispatcher.gathers(command):
            return
        if crowd is None and len(self._kinds) >= KINDS:
            if self._waiting:
                return
            self._kinds.clear()
        shape = shape_of(command)
        if shape is None or shape.size > MOST_BYTES or not data.startswith(shape.beginning):
            return
        if crowd is None:
            self._kinds[kind] = _Crowd(shape)
        else:
            crowd.expect(shape)

    def run(self) -> None:
        """Run everything that was gathered."""
        waiting, self._waiting = self._waiting, []
        for crowd in waiting:
            self._run(crowd)

    def _run(self, crowd: _Crowd) -> None:
        members, counts, chunks = crowd.members, crowd.counts, crowd.chunks
        crowd.members, crowd.counts, crowd.chunks, crowd.count = [], [], [], 0
        is_open = True
        for member in members:
            member.is_gathered = False
            is_open = is_open and not member.closing
        if not (is_open and len(members) >= FEW and self._together(crowd, members, counts, chunks)):
            for member, data in zip(members, chunks, strict=True):
                self._or_drop(member, member.receive, data)

    def _or_drop(self, member: ClientConnection, action: Callable[..., None], *args: bytes) -> None:
        """Do something for one client; where it fails that client is lost, but no other."""
        try:
            action(*args)
        except BaseException:
            self.log.failure("connection {id} of {peer} failed", id=member.id, peer=member.peer)
            member.abandon()

    def _together(
        self,
        crowd: _Crowd,
        members: list[ClientConnection],
        counts: list[int],
        chunks: list[bytes],
    ) -> bool:
        raw = b"".join(chunks)
        commands = crowd.shape.read(raw)
        if commands is None:
            crowd.refuse()
            return False
        try:
            if not self._factory.dispatcher.crowd_received(members, counts, commands, raw):
                crowd.refuse()
                return False
        except Exception:
            self.log.failure("commands of several clients failed")
            for member in members:
                self._or_drop(member, member.fail)
            return True
        for member, count in zip(members, counts, strict=True):
            member.commands_count += count
        return True
