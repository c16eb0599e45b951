"""Clients of one node that send in one batch of events: what the tests of crowds share."""

from __future__ import annotations

from typing import Any

from finn.options import Consistency
from finn.protocols.crowd import SAMPLE, Crowds
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, count_replies
from tests.protocols.support import Batch

HIGH, MEDIUM, LOW = Consistency.HIGH, Consistency.MEDIUM, Consistency.LOW
OK = b"+OK\r\n"
NIL = b"$-1\r\n"
WRONGTYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


def commands_of(piece: str) -> list[list[bytes]]:
    """Split what a client sends in one piece."""
    return [command.split() for command in piece.encode().split(b";")]


def bulk(value: bytes) -> bytes:
    """Encode a string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


class Noting:
    """A dispatcher whose crowds go another way."""

    def __init__(self, dispatch: Any, crowd_received: Any) -> None:
        self._dispatch = dispatch
        self.crowd_received = crowd_received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatch, name)


class Crowd:
    """Clients of one node, and what becomes of what they send.

    Attributes:
        taken: commands of each client, of each crowd that was run together.
        refused: the names of the commands that were not.
    """

    def __init__(self, cluster: MemoryCluster, member: int, count: int = 6) -> None:
        self.cluster = cluster
        self.node = cluster.nodes[member]
        self.factory = self.node.server
        self.taken: list[list[int]] = []
        self.refused: list[bytes] = []
        self.batch = Batch()
        self.batch.crowded = False
        self.factory.batch = self.batch
        self.factory.dispatcher = Noting(self.node.dispatch, self._note)
        self.clients = [Client(cluster, member) for _ in range(count)]
        self.tell("PING")

    def _note(self, connections: Any, counts: Any, commands: Any, raw: bytes) -> bool:
        taken = bool(self.node.dispatch.crowd_received(connections, counts, commands, raw))
        if taken:
            self.taken.append(list(counts))
        else:
            self.refused.append(commands.name)
        return taken

    def tell(self, line: str) -> None:
        """Let each client run a command of its own, and forget the reply."""
        for client in self.clients:
            client.ask(line, replies=1)
            client.transport.clear()

    def gather(self, *pieces: str, learn: bool = True) -> None:
        """Let as many clients send a piece each, within one batch that does not end yet."""
        for client in self.clients:
            client.transport.clear()
        if learn:
            first = commands_of(pieces[0])[0]
            crowds = self.factory.crowds = Crowds(self.factory)
            crowds._strange = SAMPLE - 1
            crowds.learn(first, pack_command(first))
        self.batch.crowded = True
        for client, piece in zip(self.clients, pieces, strict=False):
            client.protocol.dataReceived(b"".join(map(pack_command, commands_of(piece))))

    def end(self) -> None:
        """End the batch."""
        self.batch.end()
        self.batch.crowded = False

    def send(self, *pieces: str) -> None:
        """Let as many clients send a piece each, within one batch."""
        self.gather(*pieces)
        self.end()

    def received(self, count: int) -> list[bytes]:
        """Return what each of the first clients got."""
        return [client.received for client in self.clients[:count]]

    def wait(self, *counts: int) -> list[bytes]:
        """Let time pass until each client has so many replies, and see that no more come."""

        def complete() -> bool:
            found = self.received(len(counts))
            return all(count_replies(f) >= count for f, count in zip(found, counts, strict=True))

        self.cluster.wait_until(complete)
        found = self.received(len(counts))
        self.cluster.advance(0.05)
        assert self.received(len(counts)) == found
        return found

    def finish(self, *pieces: str) -> list[bytes]:
        """Let time pass until each client has the replies to its piece."""
        return self.wait(*[len(commands_of(piece)) for piece in pieces])

    def ask(self, *pieces: str) -> list[bytes]:
        """Let as many clients send a piece each, within one batch; return what each gets."""
        self.send(*pieces)
        return self.finish(*pieces)

    def alone(self, *pieces: str) -> list[bytes]:
        """Let them send the same, one after the other; return what each gets."""
        for client, piece in zip(self.clients, pieces, strict=False):
            client.transport.clear()
            client.protocol.dataReceived(b"".join(map(pack_command, commands_of(piece))))
            wanted = len(commands_of(piece))
            self.cluster.wait_until(
                lambda client=client, wanted=wanted: count_replies(client.received) >= wanted
            )
        return self.received(len(pieces))
