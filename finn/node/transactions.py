"""MULTI, EXEC, DISCARD, WATCH: a transaction is one atomic piece of one entry.

WATCH has its place among what its connection sends, and EXEC has: in between every write to one of
the keys that is proposed, by whomever, makes EXEC answer null (DESIGN section 7). So the keys are
registered when all that the connection sent before WATCH is proposed, and the writes are looked for
until the transaction itself is. WATCH answers when everything proposed before it is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from finn.errors import CommandError, FinnError
from finn.node.builtin import BUILTIN, Builtin
from finn.node.runs import LEFT_OUT, MAX_REPLY_BYTES, OpaqueCall, Run, Transaction, Waiter, Watching
from finn.resp.replies import encode_error, null_array_reply, pack_command
from finn.resp.values import OK
from finn.table import Kind

if TYPE_CHECKING:
    from finn.node.service import Node

# Commands one transaction may hold: it runs in one piece, about a microsecond each.
MAX_QUEUED = 10_000
# Those among them that are built-in and not fast: CLIENT LIST of hundreds takes a millisecond.
MAX_QUEUED_SLOW = 8
# Bytes one transaction may hold, as it is one entry.
MAX_QUEUED_BYTES = 64 * 1024 * 1024
# Keys one connection may watch, a few microseconds each, and their bytes.
MAX_WATCHED = 5_000
MAX_WATCHED_BYTES = 16 * 1024 * 1024
UNWATCHED = "EXECABORT Transaction discarded because a WATCH before it was refused"
_QUEUEABLE = (Kind.WRITE, Kind.READ, Kind.OPAQUE)
_MULTI = pack_command([b"MULTI"])
_EXEC = pack_command([b"EXEC"])


class Watch:
    """The keys of a connection, from its first WATCH to the place of its transaction.

    Args:
        watchers: where it is registered, by key.
        still_open: all that may have to be told of a write.

    Attributes:
        wanted: keys, those of a WATCH that waits for its place too.
        dirty: one of them was written, or may have been.
        refused: one of them is not watched, though it was wanted.
    """

    __slots__ = ("dirty", "refused", "wanted", "_bytes", "_keys", "_open", "_watchers")

    def __init__(self, watchers: dict[bytes, set[Watch]], still_open: set[Watch]) -> None:
        self.wanted: set[bytes] = set()
        self.dirty = self.refused = False
        self._bytes = 0
        self._keys: set[bytes] = set()
        self._watchers = watchers
        self._open = still_open
        still_open.add(self)

    @property
    def is_registered(self) -> bool:
        """Whether writes count by now."""
        return bool(self._keys)

    def want(self, keys: list[bytes]) -> None:
        """Note what is to be watched.

        Raises:
            CommandError: it is too much.
        """
        more = {*keys[:MAX_WATCHED]} - self.wanted
        size = self._bytes + sum(map(len, more))
        if len(keys) > MAX_WATCHED or len(self.wanted) + len(more) > MAX_WATCHED:
            raise CommandError(f"ERR a connection may watch {MAX_WATCHED} keys at most")
        if size > MAX_WATCHED_BYTES:
            raise CommandError(
                f"ERR a connection may watch keys of {MAX_WATCHED_BYTES} bytes at most"
            )
        self._bytes = size
        self.wanted |= more

    def register(self, keys: list[bytes]) -> None:
        """Note writes to these keys from now on, unless nobody cares any more."""
        if self in self._open:
            self._keys.update(keys)
            for key in keys:
                self._watchers.setdefault(key, set()).add(self)

    def end(self) -> None:
        """Note nothing any more."""
        self._open.discard(self)
        for key in self._keys:
            watchers = self._watchers[key]
            watchers.discard(self)
            if not watchers:
                del self._watchers[key]
        self._keys.clear()


class Queued:
    """The state of a connection between MULTI and EXEC.

    Attributes:
        commands: those of the machine.
        builtins: those of the node, with their place among all.
        kinds: of ``commands``.
        size: bytes of all of them.
        failed: EXEC will refuse.
    """

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []
        self.builtins: list[tuple[int, list[bytes], Builtin]] = []
        self.kinds: set[int] = set()
        self.failed = False
        self.size = 0
        self._slow = 0

    def __len__(self) -> int:
        return len(self.commands) + len(self.builtins)

    def queue(self, command: list[bytes], route: Any) -> None:
        """Keep a checked command for EXEC.

        Raises:
            CommandError: it cannot be part of a transaction.
        """
        is_builtin = route.kind == BUILTIN
        if not (route.may_queue(command) if is_builtin else route.kind in _QUEUEABLE):
            raise CommandError("ERR Command not allowed inside a transaction")
        self.size += sum(map(len, command))
        if len(self) >= MAX_QUEUED:
            raise CommandError(f"ERR transactions are limited to {MAX_QUEUED} commands")
        if self.size > MAX_QUEUED_BYTES:
            raise CommandError(f"ERR transactions are limited to {MAX_QUEUED_BYTES} bytes")
        if is_builtin and not route.fast:
            self._slow += 1
            if self._slow > MAX_QUEUED_SLOW:
                raise CommandError(
                    f"ERR transactions are limited to {MAX_QUEUED_SLOW} commands like {route.name}"
                )
        if is_builtin:
            self.builtins.append((len(self), command, route))
            return
        self.commands.append(command)
        self.kinds.add(int(route.kind))


class Transactions:
    """The transactions and watched keys of a node's connections."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._watchers: dict[bytes, set[Watch]] = {}
        self._open: set[Watch] = set()
        self._of: dict[Any, Watch] = {}  # connections that may send EXEC

    @property
    def watching(self) -> bool:
        """Whether anything is watched: the write path asks before it looks at keys."""
        return bool(self._open)

    # -- WATCH --------------------------------------------------------------------------------

    def watch(self, connection: Any, keys: list[bytes]) -> Deferred[Any]:
        """Watch keys: a write proposed from now on makes the next EXEC answer null.

        What the connection sends behind WATCH, in the same pipeline, waits for the answer too: a
        read would miss a write that does not count as one since.

        Returns:
            Fires with OK once everything proposed before is applied.

        Raises:
            FinnError: the connection watches too many, or this node does not lead. Who sends EXEC
                all the same is refused.
        """
        node = self._node
        watch = self._of.get(connection)
        if watch is None:
            watch = self._of[connection] = Watch(self._watchers, self._open)
        try:
            refusal = node.dispatch.refusal()
            if refusal is not None:
                raise refusal
            watch.want(keys)
        except FinnError:
            watch.refused = True
            raise
        before = connection.last_run
        if self._is_all_applied() and (before is None or before.ended):
            watch.register(keys)
            return succeed(OK)
        waiter = Waiter(lambda data: OK)
        node.dispatch.propose_for(connection, Watching(waiter, node.now(), watch, keys), b"", 0)
        return waiter.deferred

    def _is_all_applied(self) -> bool:
        """Whether nothing is on its way, not even entries of a leader before this one."""
        node = self._node
        raft = node.raft
        return (
            node.proposals.idle
            and raft is not None
            and node.applying.last_applied == raft.log.last_index
        )

    def unwatch(self, connection: Any) -> None:
        """Forget the keys of a connection: it does not want them, or is lost."""
        watch = self._of.pop(connection, None)
        if watch is not None:
            watch.end()

    def admit(self, run: Run) -> bool:
        """Take note of a run that is about to be queued, behind all that is queued so far.

        Returns:
            Whether it is to be: not a transaction that depends on a key which was written.
        """
        if isinstance(run, Watching):
            run.watch.register(run.keys)
            run.keys = []
        elif isinstance(run, Transaction) and not self.holds(run):
            return False
        self._written(run.commands)
        return True

    def holds(self, run: Transaction) -> bool:
        """End the watch of a transaction at its place; if a key was written, end it with null.

        What holds here holds until it is appended: another leader's writes in between would have
        come as entries, which name that leader, and then whatever is queued is withdrawn.
        """
        watch, run.watch = run.watch, None
        if watch is not None:
            watch.end()
            if watch.refused:
                run.fail(CommandError(UNWATCHED))
                return False
            if watch.dirty:
                run.give_up()
                return False
        return True

    def _written(self, commands: Sequence[list[bytes]]) -> None:
        for cmd in commands:
            route = self._node.host.route(cmd[0])
            if route is not None and route.kind == Kind.READ:
                continue  # within a transaction
            keys = route.spec.keys if route is not None else None
            if keys is None:
                for watch in self._open:
                    watch.dirty = watch.dirty or watch.is_registered
                return
            for key in command_keys(cmd, keys):
                for watch in self._watchers.get(key, ()):
                    watch.dirty = True

    def lost_track(self) -> None:
        """Anything may have been written, as leadership changed."""
        for watch in self._open:
            watch.dirty = True

    # -- EXEC ---------------------------------------------------------------------------------

    def execute(self, connection: Any) -> None:
        """Run what was queued; the reply goes to the connection's next slot."""
        queued: Queued = connection.transaction
        connection.transaction = None
        watch = self._of.pop(connection, None)
        if queued.failed:
            connection.reply(b"-EXECABORT Transaction discarded because of previous errors.\r\n")
        elif watch is not None and watch.refused:
            connection.reply(encode_error(UNWATCHED))
        elif watch is not None and watch.dirty:
            connection.reply(null_array_reply(connection.resp3))
        elif queued.commands or watch is not None:
            try:
                self._queue(connection, queued, watch)
                return
            except BaseException:
                if watch is not None:
                    watch.end()
                raise
        else:
            extras = self._answer(connection, queued)
            connection.reply(b"*%d\r\n%s" % (len(extras), b"".join(data for _, data in extras)))
        if watch is not None:
            watch.end()

    def _queue(self, connection: Any, queued: Queued, watch: Watch | None) -> None:
        node = self._node
        commands, calls = queued.commands, None
        writes = Kind.WRITE in queued.kinds
        if Kind.OPAQUE in queued.kinds:
            calls = self._ask(connection, commands)
            commands = [cmd for cmd, c in zip(commands, calls, strict=True) if c.mutate is not None]
            writes = bool(commands)
        slot = connection.reserve(1)
        run = Transaction(slot, commands, connection.resp3, node.now(), calls)
        run.reads = not writes
        run.watch = watch
        run.extras = self._answer(connection, queued)
        if not writes:
            node.dispatch.queue_read(connection, run)
            return
        packed = [pack_command(cmd) for cmd in commands]
        payload = b"".join([_MULTI, *packed, _EXEC])
        node.dispatch.propose_for(connection, run, payload, len(packed) + 2)

    def _ask(self, connection: Any, commands: list[list[bytes]]) -> list[OpaqueCall]:
        """Ask an ``IMachine`` what commands are; what it replies at once is kept, within bounds."""
        node = self._node
        calls: list[OpaqueCall] = []
        room = MAX_REPLY_BYTES
        for cmd in commands:
            call = node.host.ask_early(connection, cmd, node.applying.last_time)
            room -= sum(map(len, call.early))
            if call.early and room < 0:
                call.early[:] = [LEFT_OUT]  # the same list: whoever fills it would keep the other
            calls.append(call)
        return calls

    def _answer(self, connection: Any, queued: Queued) -> list[tuple[int, bytes]]:
        """Run the commands of the node: they change nothing, so it may be null all the same.

        Nothing happens in between: what is asked again in the same words is not made again.
        """
        dispatch = self._node.dispatch
        known: dict[tuple[bytes, ...], bytes] = {}
        extras = []
        for place, cmd, builtin in queued.builtins:
            words = tuple(cmd)
            data = known.get(words)
            if data is None:
                data = dispatch.answer_now(connection, cmd, builtin)
                if builtin.fast:
                    known[words] = data
            extras.append((place, data))
        return extras

    def read(self, run: Transaction) -> None:
        """Run a transaction that only reads."""
        if not self.holds(run):
            return
        if run.calls is not None:
            replies: list[bytes] = []
            for call in run.calls:
                run.ask(replies, call, None)
        else:
            reading = self._node.reading
            replies, _ = reading.execute(run.commands, run.resp3, limit=run.room)
        run.complete(replies)


def command_keys(command: list[bytes], keys: tuple[int, int, int]) -> list[bytes]:
    """Return the keys of a command, given ``CommandSpec.keys``."""
    first, last, step = keys
    end = len(command) + last if last < 0 else min(last, len(command) - 1)
    return command[first : end + 1 : max(step, 1)]
