"""The machine as the node runs it: one way to call both styles of machine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.declarative import (
    NOWHERE,
    Call,
    Machine,
    check_state,
    check_steps,
    machine_commands,
)
from finn.errors import BadMachine, CommandError, UnknownCommand, WrongArity, error_text
from finn.interfaces import IConnectionObserver, IMachine
from finn.node.applier import OpaqueApplier
from finn.node.runs import OpaqueCall
from finn.node.slot import SlotConnection
from finn.resp.commands import UniformCommands
from finn.resp.replies import (
    NULL_REPLY,
    OK_REPLY,
    encode_bulks,
    encode_error,
    encode_value,
    null_reply,
)
from finn.resp.values import OK
from finn.table import CommandSpec, Kind

if TYPE_CHECKING:
    from finn.interfaces import IReader, IWriter
    from finn.node.answering import LateAnswer

NULL_RESP3 = null_reply(True)
NO_LIMIT = 1 << 62
_BYTES = {bytes}
_BYTES_OR_NONE = {bytes, type(None)}
# What a machine's write raises is its answer, the same on every node. ``sys.exit``, which parsers
# of arguments call, and what ends coroutines have to be one, too: each node would end, and end
# again at each start. Ctrl-C is not: it may come in the midst of any write.
RAISED = (Exception, SystemExit, asyncio.CancelledError, GeneratorExit)
FEW_EXPECTED = 64  # late answers that are not looked through for those that came
NEVER = 1 << 62  # a machine's ``next_expiry`` while no key has one, ms


def up_to(limit: int, replies: Iterable[bytes]) -> Iterator[bytes]:
    """Yield replies, and none after the first with which they are ``limit`` bytes."""
    for reply in replies:
        yield reply
        limit -= len(reply)
        if limit <= 0:
            return


def _marker(call: Call) -> None:
    """Run MULTI or EXEC at apply."""


class Route:
    """One command as the hot path wants it: plain integers and functions.

    ``low`` and ``high`` bound the number of words, the name included.
    """

    __slots__ = ("kind", "low", "high", "convert", "run", "spec", "name")
    immediate = fast = False

    def __init__(self, spec: CommandSpec) -> None:
        self.kind = int(spec.kind)
        self.low = spec.min_args + 1
        self.high = NO_LIMIT if spec.max_args < 0 else spec.max_args + 1
        self.convert = spec.convert
        self.run: Callable[..., Any] = _marker if spec.run is None else spec.run
        self.spec = spec
        self.name = spec.name


class Host:
    """Runs the commands of one machine.

    Args:
        machine: an ``IMachine`` or a ``finn.Machine``.
        fatal: told of an error after which the machine's state cannot be trusted.
        wake: asks for a turn of the node, in which late replies are written.
    """

    def __init__(
        self,
        machine: Any,
        fatal: Callable[[BaseException], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine = machine
        self.log = Logger(namespace="finn.machine", source=self)
        self._fatal = fatal
        self._wake = wake
        self.declarative = isinstance(machine, Machine)
        self.specs: dict[bytes, CommandSpec] = {}
        if self.declarative:
            self.specs = machine_commands(machine)
        elif not IMachine.providedBy(machine):
            raise BadMachine(
                f"{type(machine).__name__} is no machine: derive it from finn.Machine, "
                "or declare that it implements finn.interfaces.IMachine"
            )
        check_state(machine)
        self.observer: Any = machine if IConnectionObserver.providedBy(machine) else None
        self._applier = OpaqueApplier(self.log)
        self._expected: deque[tuple[float, OpaqueCall | LateAnswer]] = deque()
        self._many_expected = FEW_EXPECTED
        self._needs_tick: Any = getattr(machine, "needs_tick", None)
        self._routes: dict[bytes, Route] = {}
        for name, spec in self.specs.items():
            route = Route(spec)
            self._routes[name] = self._routes[name.lower()] = route
        # Markers within a record: they keep a transaction in one piece and do nothing themselves.
        for name in (b"MULTI", b"EXEC"):
            spec = CommandSpec(name.decode(), Kind.WRITE, 0, 0, run=_marker)
            self._routes[name] = Route(spec)

    # -- looking up ---------------------------------------------------------------------------

    def route(self, name: bytes) -> Route | None:
        """Return the route of a command name in any spelling, or None."""
        return self._routes.get(name) or self._routes.get(name.upper())

    # -- declarative machines -----------------------------------------------------------------

    def call(self, now: int, seed: int) -> Call:
        """Return the ``call`` object of an entry."""
        return Call(now, seed, self.log)

    def execute(
        self,
        commands: Sequence[list[bytes]],
        call: Call,
        position: int,
        replies: list[bytes] | None,
        resp3: bool,
        parts: Sequence[int] | None = None,
        limit: int = NO_LIMIT,
    ) -> int:
        """Run commands of a declarative machine, one after another.

        Args:
            position: of the first command within its entry, source of ``call.random``.
            replies: receives the replies, those of ``UniformCommands`` perhaps in one piece for
                each of the ``parts``; None where nobody waits for them.
            parts: how many commands each of several clients sent; None: one sent them all.
            limit: bytes of replies after which no more commands are run.

        Returns:
            How many commands were run. If not all, each has a reply of its own.
        """
        if type(commands) is UniformCommands:
            count = self._run_together(commands, call, replies, resp3, parts, limit)
            if count:
                return count
        # One pass through here is most of what a command costs: what neighbours share is looked up
        # once, known shapes need no packing of arguments, the commonest results are encoded here.
        null = NULL_RESP3 if resp3 else NULL_REPLY
        name = b""
        begin = position
        for cmd in commands:
            if cmd[0] != name:
                name = cmd[0]
                route = self._routes.get(name) or self._known(name)
                run, convert = route.run, route.convert
                call.name = route.name
            call.position = position
            position += 1
            try:
                if convert is not None:
                    value = run(call, *convert(cmd[1:]))
                elif len(cmd) == 3:
                    value = run(call, cmd[1], cmd[2])
                elif len(cmd) == 2:
                    value = run(call, cmd[1])
                else:
                    value = run(call, *cmd[1:])
                if replies is None:
                    continue
                if value is OK:
                    reply = OK_REPLY
                elif type(value) is bytes:
                    reply = b"$%d\r\n%b\r\n" % (len(value), value)
                elif value is None:
                    reply = null
                else:
                    reply = encode_value(value, resp3)
            except CommandError as e:
                reply = encode_error(error_text(e))
            except (MemoryError, RecursionError):
                raise
            except RAISED as e:
                reply = self._failed(route, e)
            if replies is not None:
                replies.append(reply)
                limit -= len(reply)
                if limit <= 0:
                    break
        return position - begin

    def _run_together(
        self,
        commands: UniformCommands,
        call: Call,
        replies: list[bytes] | None,
        resp3: bool,
        parts: Sequence[int] | None,
        limit: int,
    ) -> int:
        """Run commands of one name by their ``pipelined``; 0: they are to be run one by one.

        How many come together differs between nodes. So a write that fails on the way leaves states
        that differ: its error is not caught, and ends the node.
        """
        route = self._routes.get(commands.name) or self._known(commands.name)
        pipelined = route.spec.pipelined
        if pipelined is None or commands.width != route.spec.min_args:
            return 0
        call.name = route.name
        call.position = NOWHERE
        try:
            values = pipelined(call, *commands.columns())
            if not isinstance(values, (list, tuple)):
                # A generator, for one, has not done anything yet.
                raise TypeError(f"{route.name}: the results are not a list")
        except Exception as e:
            if route.kind == Kind.WRITE or isinstance(e, (MemoryError, RecursionError)):
                raise
            if not isinstance(e, CommandError):
                self._failed(route, e)
            return 0
        count = len(commands)
        if replies is None:
            return count
        if len(values) != count:
            error = ValueError(f"{len(values)} results of {count} commands")
            replies += [self._failed(route, error)] * count
            return count
        if values[0] is OK and values.count(OK) == count:
            replies += [OK_REPLY * size for size in parts or [count]]
            return count
        kinds = {*map(type, values)}
        if kinds <= _BYTES_OR_NONE and sum(map(len, filter(None, values))) <= limit:
            replies += self._encode_strings(values, kinds, parts or [count], resp3)
            return count
        return self._encode_within(route, values, replies, resp3, limit)

    def _encode_strings(
        self, values: Sequence[Any], kinds: set[type], parts: Sequence[int], resp3: bool
    ) -> list[bytes]:
        """Encode results that are strings, or missing; in one piece for each part if none is."""
        if kinds == _BYTES and len(parts) < len(values):
            rest = iter(values)
            return [encode_bulks([*islice(rest, size)]) for size in parts]
        null = NULL_RESP3 if resp3 else NULL_REPLY
        return [
            null if value is None else b"$%d\r\n%b\r\n" % (len(value), value) for value in values
        ]

    def _encode_within(
        self, route: Route, values: Sequence[Any], replies: list[bytes], resp3: bool, limit: int
    ) -> int:
        """Encode any results up to a limit, and return how many."""
        encoded = [*up_to(limit, (self._encode(route, value, resp3) for value in values))]
        replies += encoded
        return len(encoded)

    def _encode(self, route: Route, value: Any, resp3: bool) -> bytes:
        try:
            return encode_value(value, resp3)
        except (MemoryError, RecursionError):
            raise
        except Exception as e:
            return self._failed(route, e)

    def _failed(self, route: Route, error: BaseException) -> bytes:
        """Log what is no error of the client, and return the reply."""
        self.log.failure("command {name} failed", Failure(error), name=route.name)
        return encode_error(f"ERR internal error: {type(error).__name__}")

    def failed(self, name: bytes, error: BaseException) -> bytes:
        """Log what a read raised, and return the reply."""
        return self._failed(self._known(name), error)

    def _known(self, name: bytes) -> Route:
        """Return the route of a name that was valid where it was proposed.

        Raises:
            UnknownCommand: this node runs an older machine.
        """
        route = self._routes.get(name.upper())
        if route is None:
            raise UnknownCommand(name)
        return route

    # -- machines in the original's style -----------------------------------------------------

    def ask(
        self, connection: Any, fill: Callable[[bytes], None], command: list[bytes], now: int
    ) -> OpaqueCall:
        """Call ``IMachine.command`` for a client, to learn what the command is.

        The first call's ``mutate`` is never used: the state may change before the entry's turn.
        """
        call = OpaqueCall()
        reply = call.reply = SlotConnection(connection, fill)
        applier = self._applier
        applier.begin(call, now, 0, 0)
        try:
            value = self.machine.command(applier, reply, command)
            if not call.asked and not reply.filled and value is not None:
                self._local_value(reply, value, command)
        except BaseException as e:  # like a read that fails: nothing has changed
            call.asked = False
            call.mutate = call.respond = None  # or EXEC would apply it
            reply.end_with_error(self._error_of(e, command))
        finally:
            applier.end()
        return call

    def expect(self, call: OpaqueCall | LateAnswer, since: float) -> None:
        """Note that the machine may still have to answer a command that came at ``since``."""
        if call.is_awaited:
            expected = self._expected
            if len(expected) >= self._many_expected:
                # Most have answered: one that never does must not keep all behind it.
                expected = deque(item for item in expected if item[1].is_awaited)
                self._expected = expected
                self._many_expected = max(FEW_EXPECTED, 2 * len(expected))
            expected.append((since, call))
            call.then(self._wake)

    def expire(self, before: float) -> None:
        """Answer for the machine what came before a time: its client would wait for ever."""
        while self._expected and self._expected[0][0] < before:
            self._expected.popleft()[1].give_up()

    def ask_early(self, connection: Any, command: list[bytes], now: int) -> OpaqueCall:
        """Like ``ask``, for a command within MULTI: a reply given at once is kept for EXEC."""
        early: list[bytes] = []
        call = self.ask(connection, early.append, command, now)
        call.early = early
        return call

    def _local_value(self, reply: SlotConnection, value: Any, command: list[bytes]) -> None:
        if not isinstance(value, Deferred):
            reply.write_value(value)
            return

        def write(value: Any) -> None:
            try:
                if not reply.filled:
                    reply.write_value(value)
            except BaseException as e:
                reply.end_with_error(self._error_of(e, command))

        value.addCallbacks(write, lambda f: reply.end_with_error(self._error_of(f.value, command)))

    def _error_of(self, error: BaseException, command: list[bytes]) -> str:
        if isinstance(error, (UnknownCommand, WrongArity, CommandError)):
            return error_text(error)
        name = command[0].decode("ascii", "replace")
        self.log.failure("command {name} failed", Failure(error), name=name)
        return f"ERR internal error: {type(error).__name__}"

    def mutate(self, command: list[bytes], now: int, seed: int, position: int) -> tuple[Any, bool]:
        """Run one committed command of an ``IMachine``.

        Returns:
            The value and True, or the error text and False.
        """
        call = OpaqueCall()
        applier = self._applier
        applier.begin(call, now, seed, position)
        try:
            self.machine.command(applier, None, command)
            value = call.mutate() if call.mutate is not None else None
        except UnknownCommand:
            raise
        except (MemoryError, RecursionError):
            raise
        except RAISED as e:
            return self._error_of(e, command), False
        finally:
            applier.end()
        return value, True

    # -- snapshots ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the machine, kept in snapshots."""
        return str(getattr(self.machine, "machine_name", type(self.machine).__name__))

    @property
    def version(self) -> int:
        """Version of the machine's snapshot format."""
        return int(getattr(self.machine, "snapshot_version", 1))

    def snapshot(self, file: IWriter) -> Generator[None, None, None] | None:
        """Begin a snapshot; a generator is run to its first yield, which is the freeze."""
        steps = check_steps(self.machine.snapshot(file), "snapshot")
        if steps is not None:
            try:
                next(steps)
            except StopIteration:
                return None
        return steps

    def restore(self, file: IReader) -> Generator[None, None, None] | None:
        """Begin to restore; a generator has to be run to its end."""
        return check_steps(self.machine.restore(file), "restore")

    @property
    def may_expire(self) -> bool:
        """Whether ``reads_expired`` has to be asked."""
        return self._needs_tick is not None and self.machine.next_expiry < NEVER

    def reads_expired(self, commands: Sequence[list[bytes]], applied_ms: int, wall_ms: int) -> bool:
        """Say whether a read would see a key that has expired by the leader's clock only.

        A machine may have both ``next_expiry`` (ms, ``NEVER`` while nothing expires), which keeps
        the usual case to one comparison, and ``needs_tick(commands, applied_ms, wall_ms)``, which
        says whether an empty entry has to carry the leader's clock first.
        """
        return bool(self._needs_tick(commands, applied_ms, wall_ms))
