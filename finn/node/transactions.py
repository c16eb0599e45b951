"""MULTI, EXEC, DISCARD, WATCH: a transaction is one atomic piece of one entry.

WATCH registers its keys at once and answers only when everything proposed before it is applied, so
a write "proposed or applied, with an index above ``last_applied`` at WATCH" is one that comes after
the registration, and marks the connection (DESIGN section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from finn.errors import CommandError
from finn.node.builtin import BUILTIN, Builtin
from finn.node.runs import Run, Transaction, Waiter
from finn.resp.replies import null_array_reply, pack_command
from finn.resp.values import OK
from finn.table import Kind

if TYPE_CHECKING:
    from finn.node.service import Node

# Commands one transaction may hold: it runs in one piece, about a microsecond each.
MAX_QUEUED = 10_000
# Bytes one transaction may hold, as it is one entry.
MAX_QUEUED_BYTES = 64 * 1024 * 1024
# Keys one connection may watch.
MAX_WATCHED = 100_000
_QUEUEABLE = (Kind.WRITE, Kind.READ, Kind.OPAQUE)
_MULTI = pack_command([b"MULTI"])
_EXEC = pack_command([b"EXEC"])


class Queued:
    """The state of a connection between MULTI and EXEC.

    Attributes:
        commands: those of the machine.
        builtins: those of the node, with their place among all.
        kinds: of ``commands``.
        failed: EXEC will refuse.
    """

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []
        self.builtins: list[tuple[int, list[bytes], Builtin]] = []
        self.kinds: set[int] = set()
        self.failed = False
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.commands) + len(self.builtins)

    def queue(self, command: list[bytes], route: Any) -> None:
        """Keep a checked command for EXEC.

        Raises:
            CommandError: it cannot be part of a transaction.
        """
        is_builtin = route.kind == BUILTIN
        if not (route.queues if is_builtin else route.kind in _QUEUEABLE):
            raise CommandError("ERR Command not allowed inside a transaction")
        self._bytes += sum(map(len, command))
        if len(self) >= MAX_QUEUED:
            raise CommandError(f"ERR transactions are limited to {MAX_QUEUED} commands")
        if self._bytes > MAX_QUEUED_BYTES:
            raise CommandError(f"ERR transactions are limited to {MAX_QUEUED_BYTES} bytes")
        if is_builtin:
            self.builtins.append((len(self), command, route))
            return
        self.commands.append(command)
        self.kinds.add(int(route.kind))


class Transactions:
    """The transactions and watched keys of a node's connections."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._watchers: dict[bytes, set[Any]] = {}
        self._watching: dict[Any, set[bytes]] = {}
        self._dirty: set[Any] = set()

    @property
    def watching(self) -> bool:
        """Whether any key is watched: the write path asks before it looks at keys."""
        return bool(self._watchers)

    # -- WATCH --------------------------------------------------------------------------------

    def watch(self, connection: Any, keys: list[bytes]) -> None:
        """Register keys: a write proposed from now on makes the next EXEC answer null.

        Raises:
            CommandError: the connection watches too many.
        """
        if len(self._watching.get(connection, ())) + len(keys) > MAX_WATCHED:
            raise CommandError(f"ERR a connection may watch {MAX_WATCHED} keys at most")
        mine = self._watching.setdefault(connection, set())
        for key in keys:
            mine.add(key)
            self._watchers.setdefault(key, set()).add(connection)

    def settled(self, connection: Any) -> Deferred[Any]:
        """Fires with OK once everything proposed up to now is applied, or failed.

        What the connection sends behind WATCH, in the same pipeline, waits for that too: a read
        would miss a write that does not count as one since.
        """
        node = self._node
        if node.proposals.idle:
            return succeed(OK)
        waiter = Waiter(lambda data: OK)
        run = Run(waiter, [], False, node.now())
        node.dispatch.propose_for(connection, run, b"", 0)
        return waiter.deferred

    def unwatch(self, connection: Any) -> bool:
        """Forget the keys of a connection.

        Returns:
            Whether one of them was written meanwhile.
        """
        for key in self._watching.pop(connection, ()):
            watchers = self._watchers[key]
            watchers.discard(connection)
            if not watchers:
                del self._watchers[key]
        dirty = connection in self._dirty
        self._dirty.discard(connection)
        return dirty

    def forget(self, connection: Any) -> None:
        """The connection is lost."""
        if self._watching:
            self.unwatch(connection)

    def written(self, commands: Sequence[list[bytes]]) -> None:
        """Commands are proposed: mark whoever watches their keys."""
        for cmd in commands:
            route = self._node.host.route(cmd[0])
            if route is not None and route.kind == Kind.READ:
                continue  # within a transaction
            keys = route.spec.keys if route is not None else None
            if keys is None:
                self.lost_track()
                return
            for key in command_keys(cmd, keys):
                self._dirty.update(self._watchers.get(key, ()))

    def lost_track(self) -> None:
        """Anything may have been written: leadership changed, or a command names no keys."""
        self._dirty.update(self._watching)

    # -- EXEC ---------------------------------------------------------------------------------

    def execute(self, connection: Any) -> None:
        """Run what was queued; the reply goes to the connection's next slot."""
        queued: Queued = connection.transaction
        connection.transaction = None
        dirty = self.unwatch(connection)
        if queued.failed:
            connection.reply(b"-EXECABORT Transaction discarded because of previous errors.\r\n")
            return
        if dirty:
            connection.reply(null_array_reply(connection.resp3))
            return
        node = self._node
        extras = [
            (place, node.dispatch.answer_now(connection, cmd, builtin))
            for place, cmd, builtin in queued.builtins
        ]
        if not queued.commands:
            connection.reply(b"*%d\r\n%s" % (len(extras), b"".join(data for _, data in extras)))
            return
        commands, calls = queued.commands, None
        writes = Kind.WRITE in queued.kinds
        if Kind.OPAQUE in queued.kinds:
            calls = [
                node.host.ask_early(connection, cmd, node.applying.last_time) for cmd in commands
            ]
            commands = [cmd for cmd, c in zip(commands, calls, strict=True) if c.mutate is not None]
            writes = bool(commands)
        slot = connection.reserve(1)
        now = node.now()
        run = Transaction(slot, commands, connection.resp3, now, calls)
        run.extras = extras
        run.reads = not writes
        if not writes:
            node.dispatch.queue_read(connection, run)
            return
        packed = [pack_command(cmd) for cmd in commands]
        payload = b"".join([_MULTI, *packed, _EXEC])
        node.dispatch.propose_for(connection, run, payload, len(packed) + 2)

    def read(self, run: Transaction) -> None:
        """Run a transaction that only reads."""
        if run.calls is not None:
            run.complete([call.reply_now(None) for call in run.calls])
        else:
            run.complete(self._node.reading.execute(run.commands, run.resp3))


def command_keys(command: list[bytes], keys: tuple[int, int, int]) -> list[bytes]:
    """Return the keys of a command, given ``CommandSpec.keys``."""
    first, last, step = keys
    end = len(command) + last if last < 0 else min(last, len(command) - 1)
    return command[first : end + 1 : max(step, 1)]
