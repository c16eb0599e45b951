"""Commands of several clients that came together: one look at the lease, one run, one entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finn.node.runs import CrowdRead, CrowdRun, by_parts
from finn.resp.replies import PONG_REPLY
from finn.table import Kind

if TYPE_CHECKING:
    from finn.node.service import Node
    from finn.resp.commands import UniformCommands

SLICE = 0.004  # seconds of reads before the poller looks at its clock


class CrowdDispatch:
    """Sends what came together on its way together.

    Invariant: a connection's part is the first that it is owed, so no read of its own can wait
    for a place before it.
    """

    def __init__(self, node: Node, ping: Any) -> None:
        self._node = node
        self._ping = ping  # the route of PING

    def takes(self, route: Any, size: int) -> bool:
        """Say whether valid commands of so many words are run together."""
        if route.kind == Kind.READ:
            # How long others take nobody knows, and the poller has to look at its clock meanwhile.
            return route.spec.pipelined is not None and size == route.low
        return bool(route.kind == Kind.WRITE or (route is self._ping and size == 1))

    def run(
        self,
        route: Any,
        connections: Sequence[Any],
        counts: Sequence[int],
        commands: UniformCommands,
        raw: bytes,
    ) -> bool:
        """Run valid commands of one route; False where they are not run together."""
        if route.kind == Kind.READ:
            return self._read(connections, counts, commands)
        if route.kind == Kind.WRITE:
            return self._write(connections, counts, commands, raw)
        assert route is self._ping
        for connection, count in zip(connections, counts, strict=True):
            connection.answer(PONG_REPLY * count)
        return True

    def _write(
        self,
        connections: Sequence[Any],
        counts: Sequence[int],
        commands: UniformCommands,
        raw: bytes,
    ) -> bool:
        """Queue writes as one run; False where they are not taken."""
        node = self._node
        if node.dispatch.refusal() is not None:
            return False
        run = CrowdRun([], counts, commands, connections[0].resp3, node.now())
        self._reserve(run, connections, counts)
        node.dispatch.propose(run, raw, len(commands))
        if node.proposals.full:
            for connection in connections:
                node.dispatch.hold(connection)
        return True

    def _read(
        self, connections: Sequence[Any], counts: Sequence[int], commands: UniformCommands
    ) -> bool:
        """Serve reads, or queue or postpone them; False where they are refused."""
        node = self._node
        level = node.options.consistency
        if not node.reading.at_once(level, commands) and node.dispatch.refusal() is not None:
            return False
        time_is_up = node.now() + SLICE
        first = begin = 0
        most = len(counts)
        while first < len(counts):
            last, end = _slice(connections, counts, first, begin, most)
            clients, parts, part = connections[first:last], counts[first:last], commands[begin:end]
            if node.now() > time_is_up:
                self._postpone(clients, parts, part)
            elif node.reading.at_once(level, part):
                served = self._read_now(clients, parts, part)
                if served < len(clients):
                    most = served  # what is read beyond it may be read in vain
                    last = first + served
            else:
                self._read_later(clients, parts, part)
            begin += sum(counts[first:last])
            first = last
        return True

    def _postpone(
        self, connections: Sequence[Any], counts: Sequence[int], commands: UniformCommands
    ) -> None:
        begin = 0
        for connection, count in zip(connections, counts, strict=True):
            self._node.dispatch.postpone(connection, commands[begin : begin + count])
            connection.flush()
            begin += count

    def _read_now(
        self, connections: Sequence[Any], counts: Sequence[int], commands: UniformCommands
    ) -> int:
        """Serve reads up to a bound of bytes, and return of how many clients: one at least."""
        replies, done = self._node.reading.execute(commands, connections[0].resp3, counts)
        if done == len(commands):
            for connection, data in zip(connections, by_parts(replies, counts), strict=True):
                connection.answer(data)
            return len(connections)
        served = begin = 0
        while begin < done:
            connection, end = connections[served], begin + counts[served]
            connection.answer(b"".join(replies[begin:end]))
            if end > done:
                self._postpone([connection], [end - done], commands[done:end])
            served, begin = served + 1, end
        return served

    def _read_later(
        self, connections: Sequence[Any], counts: Sequence[int], commands: UniformCommands
    ) -> None:
        node = self._node
        run = CrowdRead([], counts, commands, connections[0].resp3, node.now())
        self._reserve(run, connections, counts)
        node.reading.read(run, node.options.consistency)

    def _reserve(self, run: CrowdRun, connections: Sequence[Any], counts: Sequence[int]) -> None:
        slots: list[Any] = run.slot
        for connection, count in zip(connections, counts, strict=True):
            assert connection.last_run is None or connection.last_run.ended
            connection.last_run = run
            slots.append(connection.reserve(count))


def _slice(
    connections: Sequence[Any], counts: Sequence[int], first: int, begin: int, most: int
) -> tuple[int, int]:
    """Return behind which client, of so many at most, and command a slice of reads ends.

    It is as large as the smallest portion of its clients: all its replies are in memory together.
    """
    last, end = first + 1, begin + counts[first]
    portion = connections[first].portion
    while last < min(len(counts), first + most):
        portion = min(portion, connections[last].portion)
        if end + counts[last] - begin > portion:
            break
        end += counts[last]
        last += 1
    return last, end
