"""``FakeApplier``: drive a machine in a test without a cluster."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from finn.declarative import Call, Machine, check_state, check_steps, machine_commands
from finn.errors import CommandError, UnknownCommand, WrongArity
from finn.interfaces import IApplier, IMachine
from finn.node.answering import as_deferred
from finn.node.builtin import check_names
from finn.node.commands import BUILTINS
from finn.node.slot import SlotConnection
from finn.resp.replies import encode_value, parse_reply
from finn.table import Kind


class FakeClient:
    """The client whose commands are run: what its connection is to a machine.

    Attributes:
        id: number of the connection.
        peer: its address.
        context: the machine's own.
        resp3: which protocol it speaks.
    """

    def __init__(self, id: int = 1, peer: str = "127.0.0.1:50000", resp3: bool = False) -> None:
        self.id = id
        self.peer = peer
        self.context: Any = None
        self.resp3 = resp3


class _File(io.BytesIO):
    """What a snapshot is written to: its ``write`` returns nothing, as that of a node."""

    def write(self, data: Any) -> None:  # type: ignore[override]
        super().write(data)


@implementer(IApplier)
class FakeApplier:
    """Runs the commands of a machine, of either style, as a cluster of one node would.

        applier = FakeApplier(Tickets())
        applier.execute("TICKET", "bakery")  # 1

    Errors that a node would turn into replies are raised, and any other exception of the machine
    comes through, to be seen in the test.

    Args:
        machine: a ``finn.Machine`` or an ``IMachine``.

    Attributes:
        now: replicated time in ms, for the test to set.
        seed: of the replicated random source, for the test to set.
        position: how many commands were run; with ``seed`` it decides what ``random`` gives.
        client: who sends the commands.
        log: the machine's logger.
    """

    def __init__(self, machine: Any, now: int = 1_700_000_000_000, seed: int = 0) -> None:
        self.machine = machine
        self.now = now
        self.seed = seed
        self.position = 0
        self.client = FakeClient()
        self.log = Logger(namespace="finn.machine", source=machine)
        self._pending: tuple[Any, Any] | None = None
        self._open = False
        self._call = Call(now, seed, self.log)
        if isinstance(machine, Machine):
            self._specs = machine_commands(machine)
            check_names(BUILTINS, self._specs)
        elif not IMachine.providedBy(machine):
            raise TypeError(f"{type(machine).__name__} is neither a finn.Machine nor an IMachine")
        check_state(machine)

    @property
    def random(self) -> random.Random:
        """The replicated random source of the command being run."""
        return self._call.random

    def execute(self, *command: bytes | str | int | float) -> Any:
        """Run one command.

        Args:
            command: name and arguments; what is not bytes is written as a client would.

        Returns:
            The reply as a client sees it (``parse_reply``); a Deferred of it for a command that
            takes its time.

        Raises:
            CommandError: the reply is an error.
            ValueError: there is no command.
        """
        if not command:
            raise ValueError("a command has a name at least, and then its arguments")
        cmd = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        self.position += 1
        self._call = Call(self.now, self.seed, self.log)
        self._call.position = self.position
        if isinstance(self.machine, Machine):
            return self._execute_declared(cmd)
        return self._execute_command(cmd)

    def snapshot(self) -> bytes:
        """Take a snapshot, to its end."""
        file = _File()
        _run(check_steps(self.machine.snapshot(file), "snapshot"))
        return file.getvalue()

    def restore(self, data: bytes) -> None:
        """Replace the machine's state by a snapshot."""
        _run(check_steps(self.machine.restore(io.BytesIO(data)), "restore"))

    # -- finn.Machine -------------------------------------------------------------------------

    def _execute_declared(self, cmd: list[bytes]) -> Any:
        spec = self._specs.get(cmd[0].upper())
        if spec is None or spec.run is None:
            raise UnknownCommand(cmd[0])
        if not spec.accepts(len(cmd)):
            raise WrongArity(cmd[0])
        call = self._call
        call.name = spec.name
        if spec.kind is Kind.LOCAL:
            call.conn = self.client
        args: list[Any] = cmd[1:]
        value = spec.run(call, *(args if spec.convert is None else spec.convert(args)))
        if spec.kind is Kind.LOCAL:  # the others may not wait
            value = as_deferred(value)
            if isinstance(value, Deferred):
                return value.addCallback(self._as_seen)
        return self._as_seen(value)

    def _as_seen(self, value: Any) -> Any:
        return _read(encode_value(value, self.client.resp3))

    # -- IMachine -----------------------------------------------------------------------------

    def apply(
        self,
        conn: Any,
        cmd: list[bytes],
        mutate: Callable[[], Any] | None,
        respond: Callable[[Any], None] | None,
    ) -> Deferred[Any]:
        if not self._open or self._pending is not None:
            raise RuntimeError("apply is called once per command, before command() returns")
        self._pending = (mutate, respond)
        self._result: Deferred[Any] = Deferred()
        return self._result

    def _execute_command(self, cmd: list[bytes]) -> Any:
        replies: list[bytes] = []
        conn = SlotConnection(self.client, replies.append)
        returned, pending = self._ask(conn, cmd)
        if pending is not None:
            mutate, respond = pending
            result = self._result
            value = None
            if mutate is not None:
                # As on a node: what changes the state is the closure of the call made at apply.
                _, at_apply = self._ask(None, cmd)
                if at_apply is None or at_apply[0] is None:
                    raise RuntimeError(
                        f"{cmd[0]!r} calls apply with a connection, but not at apply"
                    )
                value = at_apply[0]()
            if respond is not None:
                respond(value)
            else:
                conn.write_value(value)
            result.callback(value)
        elif isinstance(returned, Deferred) and not replies:
            return returned.addCallback(lambda value: _read(replies[0]) if replies else value)
        elif not replies and returned is not None:
            conn.write_value(returned)
        if not replies:
            raise RuntimeError(f"{cmd[0]!r} was not answered")
        return _read(replies[0])

    def _ask(self, conn: Any, cmd: list[bytes]) -> tuple[Any, tuple[Any, Any] | None]:
        """Call ``command``; returns what it returned and what it asked ``apply`` for."""
        self._pending, self._open = None, True
        try:
            return self.machine.command(self, conn, cmd), self._pending
        finally:
            self._open = False


def _run(steps: Generator[None, None, None] | None) -> None:
    if steps is not None:
        for _ in steps:
            pass


def _read(reply: bytes) -> Any:
    value = parse_reply(reply)
    if isinstance(value, CommandError):
        raise value
    return value
