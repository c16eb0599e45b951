"""Commands that no client connection sent: ``Node.execute``, and those other members forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from finn.errors import (
    DeadlinePassed,
    FinnError,
    OutcomeUnknown,
    Overloaded,
    Stopping,
    UnknownCommand,
)
from finn.node.answering import answer
from finn.node.runs import OpaqueRun, Run, Waiter
from finn.node.slot import NOBODY, Nobody
from finn.options import Consistency
from finn.raft.core import Role
from finn.resp.replies import pack_command
from finn.table import Kind

if TYPE_CHECKING:
    from finn.node.service import Node


class Executing:
    """Runs single commands and gives their outcome to a Deferred."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Those that wait, each with what is done for it now and the kind of its command.
        self._open: dict[Waiter, tuple[Run, int]] = {}
        self._is_over = False

    def run(
        self,
        cmd: list[bytes],
        level: Consistency,
        timeout: float,
        convert: Callable[[bytes], Any],
        forward: bool = True,
    ) -> Deferred[Any]:
        """Run a command here, or on the leader when ``forward`` allows.

        Args:
            convert: makes the result of the RESP reply.

        Returns:
            Fires within ``timeout`` seconds, with one of the three outcomes (DESIGN P2).
        """
        node = self._node
        waiter = Waiter(convert)
        run = Run(waiter, [cmd], False, node.now())
        try:
            route = node.dispatch.check(cmd) if cmd else None
            if route is None:
                raise UnknownCommand(b"")
            if self._is_over:
                raise Stopping()
            run = self._start(run, route, level, timeout, forward)
        except FinnError as e:
            waiter.fail(e)
            return waiter.deferred
        if not waiter.deferred.called:
            call = node.reactor.callLater(timeout, self._timed_out, waiter)
            self._open[waiter] = run, route.kind
            waiter.deferred.addBoth(self._ended, waiter, call)
        return waiter.deferred

    def run_here(self, run: Run, level: Consistency) -> None:
        """Run a command that was to be forwarded: this node leads now. Its deadline stays."""
        waiter: Waiter = run.slot
        run.created = self._node.now()  # or it would expire with what this node led back then
        try:
            route = self._node.dispatch.check(run.commands[0])
            run = self._start(run, route, level, 0.0, False)
        except FinnError as e:
            run.fail(e)
        if not waiter.deferred.called:
            self._open[waiter] = run, route.kind

    def _ended(self, result: Any, waiter: Waiter, call: Any) -> Any:
        self._open.pop(waiter, None)
        if call.active():
            call.cancel()
        return result

    def fail_all(self) -> None:
        """The node has stopped: fail who still waits, for a local command or a machine's answer."""
        self._is_over = True
        for waiter, (run, kind) in list(self._open.items()):
            if kind in (Kind.OPAQUE, Kind.LOCAL) and not run.reads:
                waiter.fail(OutcomeUnknown("node is stopping"))
            else:
                waiter.fail(Stopping())

    def _timed_out(self, waiter: Waiter) -> None:
        node = self._node
        run, kind = self._open[waiter]
        error = node.forwarding.timed_out(run)
        if error is None:
            if kind == Kind.READ or run.reads or node.proposals.withdraw_run(run):
                error = DeadlinePassed()
            elif not run.ended and (kind == Kind.WRITE or isinstance(run, OpaqueRun)):
                error = OutcomeUnknown("request timed out after it was appended")
            else:  # it has begun, but asked for nothing to be appended, or that is applied
                error = OutcomeUnknown("the machine did not answer in time")
        run.fail(error)
        waiter.fail(error)

    def _start(
        self, run: Run, route: Any, level: Consistency, timeout: float, forward: bool
    ) -> Run:
        node = self._node
        cmd = run.commands[0]
        kind = route.kind
        leads = node.raft is not None and node.raft.role is Role.LEADER
        if kind == Kind.LOCAL:
            self._local(run, cmd, route)
        elif kind == Kind.READ and level is Consistency.LOW:
            node.reading.read(run, level)
        elif kind not in (Kind.READ, Kind.WRITE, Kind.OPAQUE):
            raise UnknownCommand(cmd[0])
        elif not leads and forward:
            node.forwarding.forward(run, cmd, level, timeout)
        elif kind != Kind.READ and node.proposals.full:
            # A client is not read for a while; an application has to be told.
            raise Overloaded()
        elif kind == Kind.WRITE:
            node.dispatch.propose(run, pack_command(cmd), 1)
        elif kind == Kind.READ:
            node.reading.read(run, level)
        else:
            return self._opaque(run, cmd, level)
        return run

    def _local(self, run: Run, cmd: list[bytes], route: Any) -> None:
        args = cmd[1:] if route.convert is None else route.convert(cmd[1:])
        call = self._node.reading.own_call(route.name)
        data = answer(lambda: route.run(call, *args), cmd, NOBODY)
        if isinstance(data, Deferred):
            data.addCallback(lambda data: run.complete([data]))
        else:
            run.complete([data])

    def _opaque(self, run: Run, cmd: list[bytes], level: Consistency) -> Run:
        node = self._node
        call = node.host.ask(Nobody(), run.slot.fill, cmd, node.applying.last_time)
        if not call.asked:
            return run
        opaque = OpaqueRun(run.slot, cmd, False, run.created, call)
        if call.mutate is None:
            node.reading.read(opaque, level)
        else:
            node.dispatch.propose(opaque, pack_command(cmd), 1)
        return opaque
