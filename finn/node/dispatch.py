"""Dispatch: sends each command of a client on its way, in groups, keeping replies in order.

The hot path is a chunk that holds only writes, or only reads, of a declarative machine: one table
look-up per command, one slot and one run for the whole chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from finn.errors import (
    CommandError,
    FinnError,
    NotApplied,
    NotLeader,
    NotReady,
    Removed,
    UnknownCommand,
    WrongArity,
    error_text,
)
from finn.node.answering import LateAnswer, answer
from finn.node.builtin import BUILTIN, Builtin, check_names
from finn.node.crowd import CrowdDispatch
from finn.node.host import Route
from finn.node.runs import OpaqueRun, Read, Run, Transaction
from finn.node.stopping import ending
from finn.protocols.replies import LARGE_REPLIES, MANY
from finn.resp.commands import UniformCommands
from finn.resp.replies import PONG_REPLY, QUEUED_REPLY, encode_error, pack_command
from finn.table import CommandSpec, Kind

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from finn.node.service import Node

WRITE = int(Kind.WRITE)
READ = int(Kind.READ)
LOCAL = int(Kind.LOCAL)
OPAQUE = int(Kind.OPAQUE)
_GROUPED = (WRITE, READ)
# Seconds after which a built-in command that is not fast ends a portion.
PORTION_TIME = 0.003


class Dispatch:
    """The ``IDispatcher`` of a node."""

    def __init__(self, node: Node, builtins: dict[bytes, Builtin]) -> None:
        self._node = node
        self._host = node.host
        self._builtins = builtins
        check_names(builtins, node.host.specs)
        self._table: dict[bytes, Route | Builtin] = {}
        for name, spec in node.host.specs.items():
            route = node.host.route(name)
            assert route is not None, spec
            self._table[name] = self._table[name.lower()] = route
        for name, builtin in builtins.items():
            if not (builtin.yields and name in node.host.specs):
                self._table[name] = self._table[name.lower()] = builtin
        self._opaque: Route | None = None
        if not node.host.declarative:
            self._opaque = Route(CommandSpec("", Kind.OPAQUE, 0, -1))
        self._ping = self._table.get(b"PING")
        self._paused: list[Any] = []
        self._crowd = CrowdDispatch(node, self._ping)
        self.commands_total = 0

    # -- looking up ---------------------------------------------------------------------------

    def builtins(self) -> Iterator[Builtin]:
        """Yield the built-in commands that no command of the machine hides."""
        for name, builtin in self._builtins.items():
            if self._table.get(name) is builtin:
                yield builtin

    def lookup(self, name: bytes) -> Route | Builtin:
        """Return how a command is run.

        Raises:
            UnknownCommand: nobody knows it.
        """
        route = self._table.get(name) or self._table.get(name.upper()) or self._opaque
        if route is None:
            raise UnknownCommand(name)
        return route

    def check(self, command: list[bytes]) -> Route | Builtin:
        """Look a command up and check its arity and arguments.

        Raises:
            CommandError: the reply for the client.
        """
        route = self.lookup(command[0])
        if not route.low <= len(command) <= route.high:
            raise WrongArity(command[0])
        if route.convert is not None:
            route.convert(command[1:])
        return route

    # -- IDispatcher --------------------------------------------------------------------------

    def connection_made(self, connection: Any) -> bool:
        connection.last_run = None
        observer = self._host.observer
        if observer is None:
            return True
        return bool(observer.connection_made(connection))

    def connection_lost(self, connection: Any, reason: Failure) -> None:
        self._node.transactions.unwatch(connection)
        observer = self._host.observer
        if observer is not None:
            observer.connection_lost(connection, reason)

    def link_requested(self, connection: Any, command: list[bytes], rest: bytes) -> None:
        self._node.links.accept(connection, command, rest)

    def commands_received(
        self, connection: Any, commands: Sequence[list[bytes]], raw: bytes | None
    ) -> None:
        self.commands_total += len(commands)
        if connection.transaction is None and connection.authenticated:
            first = self._table.get(commands[0][0])
            if first is not None and self._alike(first, commands):
                if first.kind == WRITE:
                    self._write(connection, commands, raw)
                    return
                if first.kind == READ:
                    self._read(connection, commands, whole=True)
                    return
                if first is self._ping and len(commands[0]) == 1:
                    connection.reply(PONG_REPLY * len(commands))
                    return
        self._one_by_one(connection, commands)

    def gathers(self, command: list[bytes]) -> bool:
        route = self._table.get(command[0])
        if route is None or not self._alike(route, [command]):
            return False
        return self._crowd.takes(route, len(command))

    def crowd_received(
        self,
        connections: Sequence[Any],
        counts: Sequence[int],
        commands: UniformCommands,
        raw: bytes,
    ) -> bool:
        route = self._table[commands.name]  # one that it gathers
        if not self._crowd.run(route, connections, counts, commands, raw):
            return False
        self.commands_total += len(commands)
        return True

    def _alike(self, first: Any, commands: Sequence[list[bytes]]) -> bool:
        """Say whether all commands are valid, of one kind, and need no conversion."""
        if first.convert is not None:
            return False
        table = self._table
        low, high, kind = first.low, first.high, first.kind
        if type(commands) is UniformCommands:
            return not commands.width if kind == BUILTIN else low <= commands.width + 1 <= high
        if kind == BUILTIN:
            return all(cmd == commands[0] for cmd in commands)
        if len(commands) == 1:
            return bool(low <= len(commands[0]) <= high)
        for cmd in commands:
            route = table.get(cmd[0])
            if route is first:
                if not low <= len(cmd) <= high:
                    return False
            elif (
                route is None
                or route.kind != kind
                or route.convert is not None
                or not route.low <= len(cmd) <= route.high
            ):
                return False
        return True

    def _one_by_one(self, connection: Any, commands: Sequence[list[bytes]]) -> None:
        """Run commands of any mixture, grouping neighbours of the same kind."""
        group: list[list[bytes]] = []
        group_kind = 0
        portion = 0
        until = 0.0
        for position, cmd in enumerate(commands):
            if portion >= connection.portion:
                self._flush_group(connection, group, group_kind)
                self.postpone(connection, commands[position:])
                return
            try:
                if not connection.authenticated:
                    self._require_auth(cmd)
                route = self.check(cmd)
                if connection.transaction is not None and not route.immediate:
                    self._flush_group(connection, group, group_kind)
                    group = []
                    connection.transaction.queue(cmd, route)
                    connection.reply(QUEUED_REPLY)
                    continue
            except CommandError as e:
                self._flush_group(connection, group, group_kind)
                group = []
                if connection.transaction is not None:
                    connection.transaction.failed = True
                connection.reply(encode_error(error_text(e)))
                portion += 1
                continue
            kind = route.kind
            if kind != WRITE:
                portion += 1
            if kind != group_kind or kind not in _GROUPED:
                self._flush_group(connection, group, group_kind)
                group = []
                group_kind = kind
            if kind in _GROUPED:
                group.append(cmd)
            elif kind == OPAQUE:
                self._opaque_command(connection, cmd)
            elif kind == BUILTIN:
                if not (route.fast or until):
                    until = self._node.now() + PORTION_TIME
                self._builtin(connection, cmd, route)
                if connection.closing:
                    return
                if not route.fast and self._node.now() > until:
                    portion = connection.portion
            else:
                self._local(connection, cmd, route)
        self._flush_group(connection, group, group_kind)

    def postpone(self, connection: Any, commands: Sequence[list[bytes]]) -> None:
        """Give back what would be too much at a time."""
        self.commands_total -= len(commands)
        connection.postpone(commands)

    def _require_auth(self, cmd: list[bytes]) -> None:
        builtin = self._builtins.get(cmd[0].upper())
        if builtin is None or not builtin.before_auth:
            if self._node.options.secret is None:
                raise CommandError("NOAUTH A certificate of the cluster's CA is required.")
            raise CommandError("NOAUTH Authentication required.")

    def _flush_group(self, connection: Any, group: list[list[bytes]], kind: int) -> None:
        if not group:
            return
        if kind == WRITE:
            self._write(connection, group, None)
        else:
            self._read(connection, group)

    # -- writes -------------------------------------------------------------------------------

    def refusal(self) -> FinnError | None:
        """Say why this node cannot lead a request, or None when it can."""
        raft = self._node.raft
        if raft is None:
            return ending(self._node) or NotReady()
        if raft.leader is not None:
            return None
        if raft.removed:
            return Removed()
        return NotLeader(raft.leader_address)

    def _write(self, connection: Any, commands: Sequence[list[bytes]], raw: bytes | None) -> None:
        node = self._node
        raft = node.raft
        if raft is None or raft.leader is None:
            error = encode_error(error_text(self.refusal() or NotReady()))
            connection.reply(error if len(commands) == 1 else error * len(commands))
            return
        now = node.now()
        count = len(commands)
        run = Run(connection.reserve(count), commands, connection.resp3, now)
        if raw is None:
            raw = b"".join([pack_command(cmd) for cmd in commands])
        self.propose_for(connection, run, raw, count)

    def propose_for(self, connection: Any, run: Run, payload: bytes, count: int) -> None:
        """Queue a client's writes, but not before reads that came earlier have their place.

        A read must not see what its own connection writes later.
        """
        before: Run | None = connection.last_run
        connection.last_run = run
        proposals = self._node.proposals
        if (
            before is None
            or before.slot is None
            or (before.round >= 0 and not before.reads)
            or proposals.follows(before)
        ):
            self.propose(run, payload, count)
        else:
            proposals.pending_bytes += len(payload)
            before.then(lambda: self._propose_behind(run, payload, count))
        if proposals.full:
            self.hold(connection)

    def _propose_behind(self, run: Run, payload: bytes, count: int) -> None:
        """Queue a run whose payload was counted when it began to wait."""
        self._node.proposals.pending_bytes -= len(payload)
        self.propose(run, payload, count)

    def hold(self, connection: Any) -> None:
        """Stop reading a client until proposals drain (DESIGN section 7, backpressure)."""
        connection.pause("proposals")
        self._paused.append(connection)

    def release(self) -> None:
        """Read paused clients again once there is room."""
        if self._paused and self._node.proposals.has_room:
            paused, self._paused = self._paused, []
            for connection in paused:
                connection.resume("proposals")

    def propose(self, run: Run, payload: bytes, count: int) -> None:
        """Queue a run whose payload is made already, or fail it."""
        refusal = self.refusal()
        if refusal is not None:
            run.fail(refusal)
            return
        node = self._node
        if node.transactions.watching:
            try:
                if not node.transactions.admit(run):
                    return
            except Exception as e:  # its place would stay open, and all behind it
                node.log.failure("the keys of a command cannot be told")
                run.fail(NotApplied(f"ERR internal error: {type(e).__name__}"))
                return
        node.proposals.add(run, payload, count, run.created)
        node.wake()

    # -- reads --------------------------------------------------------------------------------

    def _read(self, connection: Any, commands: Sequence[list[bytes]], whole: bool = False) -> None:
        """Serve reads; ``whole``: nothing of the same chunk follows them."""
        node = self._node
        level = node.options.consistency
        total = 0
        size = connection.portion
        while not connection.has_pending and node.reading.at_once(level, commands):
            # A slice at a time: a few bytes may ask for gigabytes, and take long.
            part = commands[:size] if len(commands) > size else commands
            replies, done = node.reading.execute(part, connection.resp3)
            data = replies[0] if len(replies) == 1 else b"".join(replies)
            connection.reply(data)
            if done == len(commands):
                return
            commands = commands[done:]
            total += len(data)
            if whole and (total > LARGE_REPLIES or connection.full):
                self.postpone(connection, commands)
                return
            # More of those that fit; not beyond what did, which may be read in vain.
            size = min(2 * size, MANY) if done == len(part) else done
        portion = connection.portion
        if whole and len(commands) > portion:
            self.postpone(connection, commands[portion:])
            commands = commands[:portion]
        run = Read(connection.reserve(len(commands)), commands, connection.resp3, node.now())
        self.queue_read(connection, run)

    def queue_read(self, connection: Any, run: Run) -> None:
        """Serve a read after the work of its connection that is still pending."""
        before: Run | None = connection.last_run
        connection.last_run = run
        node = self._node
        level = node.options.consistency
        if before is None or before.ended:
            node.reading.read(run, level)
        elif not node.proposals.place(before, run, node.reading.serve, node.reading.fail):
            before.then(lambda: node.reading.read(run, level))
        elif isinstance(run, Transaction):
            node.transactions.holds(run)

    # -- everything else ----------------------------------------------------------------------

    def _opaque_command(self, connection: Any, cmd: list[bytes]) -> None:
        node = self._node
        slot = connection.reserve(1)
        call = self._host.ask(connection, slot.fill, cmd, node.applying.last_time)
        if not call.asked:
            node.host.expect(call, node.now())
            return
        run = OpaqueRun(slot, cmd, connection.resp3, node.now(), call)
        if call.mutate is None:
            self.queue_read(connection, run)
            return
        refusal = self.refusal()
        if refusal is not None:
            run.fail(refusal)
            return
        self.propose_for(connection, run, pack_command(cmd), 1)

    def _local(self, connection: Any, cmd: list[bytes], route: Any) -> None:
        call = self._node.reading.own_call(route.name, connection)
        args = cmd[1:] if route.convert is None else route.convert(cmd[1:])
        data = answer(lambda: route.run(call, *args), cmd, connection)
        if isinstance(data, Deferred):
            late = LateAnswer(connection, cmd)
            data.addCallback(late.give)
            self._host.expect(late, self._node.now())
        else:
            connection.reply(data)

    def _builtin(self, connection: Any, cmd: list[bytes], builtin: Any) -> None:
        if builtin.manages and connection.restricted:
            connection.reply(b"-NOPERM this secret may not manage the cluster\r\n")
            return
        before: Run | None = connection.last_run
        if builtin.manages and before is not None and not before.ended:
            # A snapshot, say, holds what the same pipeline wrote before it.
            waiting: Deferred[None] = Deferred()
            before.then(lambda: waiting.callback(None))
            waiting.addCallback(lambda _: builtin.run(self._node, connection, cmd))
            self._answer(connection, lambda: waiting, cmd)
        else:
            self._answer(connection, lambda: builtin.run(self._node, connection, cmd), cmd)

    def answer_now(self, connection: Any, cmd: list[bytes], builtin: Builtin) -> bytes:
        """Run a built-in command that waits for nothing, and return its reply."""
        data = answer(lambda: builtin.run(self._node, connection, cmd), cmd, connection)
        assert isinstance(data, bytes), "it waits for something"
        return data

    def _answer(self, connection: Any, run: Callable[[], Any], cmd: list[bytes]) -> None:
        """Run a function now and reply with its value, which may come later."""
        data = answer(run, cmd, connection)
        if isinstance(data, Deferred):
            data.addCallback(connection.reserve(1).fill)
            data.addBoth(lambda _: self._node.wake())
        elif data:
            connection.reply(data)
