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
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.logger import Logger

from finn.resp.uniform import Shape

if TYPE_CHECKING:
    from finn.protocols.connection import ClientConnection
    from finn.protocols.server import ClientFactory

PREFIX = 16  # bytes that tell kinds of commands apart
KINDS = 64  # that are remembered
FEW = 3  # clients for which it is worth it
LONGEST = 16  # commands of one client: longer pipelines are worth no more together
MOST_COMMANDS = 256
MOST_BYTES = 64 * 1024
SAMPLE = 16  # of so many pieces that are not gathered one is learned from


class _Crowd:
    """The pieces of one kind.

    Attributes:
        size: bytes of a command.
        most: commands at a time.
        resp3: the version of the protocol of the replies.
    """

    __slots__ = ("chunks", "count", "counts", "members", "most", "resp3", "shape", "size")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.size = shape.size
        self.most = min(MOST_COMMANDS, MOST_BYTES // shape.size)
        self.resp3 = False
        self.members: list[ClientConnection] = []
        self.counts: list[int] = []
        self.chunks: list[bytes] = []
        self.count = 0


class Crowds:
    """Gathers the pieces of one server's clients while a batch of events is handled.

    Attributes:
        few: fewer clients are run one by one.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, factory: ClientFactory) -> None:
        self.few = FEW
        self._factory = factory
        self._kinds: dict[bytes, _Crowd] = {}
        self._waiting: list[_Crowd] = []
        self._is_due = False  # the end of the batch was asked for
        self._strange = 0  # pieces that were not gathered
        # What came for members while their commands were run, in a nested turn of the reactor.
        self._beyond: list[tuple[ClientConnection, Callable[..., object], tuple[Any, ...]]] = []

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
            if rest or count > LONGEST or count > connection.portion:
                return False
        if crowd.count + count > crowd.most:
            if count > crowd.most:
                return False
            self._run(crowd)
            return self.take(connection, data)  # another shape may be expected now
        if not crowd.members:
            if not self._is_due:
                self._is_due = True
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

    def finish(
        self, connection: ClientConnection, action: Callable[..., object], *args: Any
    ) -> None:
        """Call ``action`` behind the commands of a member that are gathered."""
        self.run()
        if connection.is_gathered:
            self._beyond.append((connection, action, args))
        else:
            action(*args)

    def learn(self, command: list[bytes], data: bytes) -> None:
        """Note what was not gathered: ``data`` begins with the encoding of ``command``."""
        self._strange += 1
        if self._strange % SAMPLE:
            return  # to look at each would cost mixtures more than they can gain
        kind = data[:PREFIX]
        crowd = self._kinds.get(kind)
        if (crowd is not None and crowd.members) or not self._factory.dispatcher.gathers(command):
            return
        if crowd is None and len(self._kinds) >= KINDS:
            self._kinds = {kind: crowd for kind, crowd in self._kinds.items() if crowd.members}
        shape = Shape.of(command)
        if shape is not None and shape.size <= MOST_BYTES and data.startswith(shape.beginning):
            self._kinds[kind] = _Crowd(shape)

    def run(self) -> None:
        """Run everything that was gathered."""
        self._is_due = False
        while self._waiting:
            self._run(self._waiting.pop(0))

    def _run(self, crowd: _Crowd) -> None:
        members, counts, chunks = crowd.members, crowd.counts, crowd.chunks
        crowd.members, crowd.counts, crowd.chunks, crowd.count = [], [], [], 0
        is_open = not any(member.closing for member in members)
        if not (
            is_open and len(members) >= self.few and self._together(crowd, members, counts, chunks)
        ):
            for member, data in zip(members, chunks, strict=True):
                self._guard(member, member.receive, data)
        for member in members:
            member.is_gathered = False
        beyond, self._beyond = self._beyond, []
        for member, action, args in beyond:
            if member.is_gathered:
                self._beyond.append((member, action, args))  # this is a nested turn itself
            else:
                self._guard(member, action, *args)

    def _guard(self, member: ClientConnection, action: Callable[..., object], *args: Any) -> None:
        """Do something for one client; where it fails that client is lost, but no other."""
        try:
            action(*args)
        except BaseException:
            # As from a descriptor.
            self.log.failure("connection {id} of {peer} failed", id=member.id, peer=member.peer)
            member.abandon()

    def _together(
        self,
        crowd: _Crowd,
        members: list[ClientConnection],
        counts: list[int],
        chunks: list[bytes],
    ) -> bool:
        try:
            raw = b"".join(chunks)
            commands = crowd.shape.read(raw)
            if commands is None:
                for member, data in zip(members, chunks, strict=True):
                    if crowd.shape.read(data) is None:
                        member.gathers = False  # or one could spoil it for all, always
                return False
            assert len(commands) == sum(counts), "commands that belong to nobody"
            if not self._factory.dispatcher.crowd_received(members, counts, commands, raw):
                return False
        except BaseException:
            self.log.failure("commands of several clients failed")
            for member in members:
                self._guard(member, member.fail)
            return True
        for member, count in zip(members, counts, strict=True):
            member.commands_count += count
        return True
