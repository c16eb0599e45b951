"""Reading: when a read may be served at its consistency level, and what it waits for otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from finn.declarative import Call
from finn.errors import DeadlinePassed, NotLeader, NotReady, OutcomeUnknown, Removed
from finn.node.host import NO_LIMIT, up_to
from finn.node.reads import Reads
from finn.node.runs import OpaqueRun, Run, Transaction, Waiter
from finn.options import Consistency
from finn.protocols.replies import LARGE_REPLIES

if TYPE_CHECKING:
    from finn.node.service import Node


class Reading(Reads):
    """The reads of a node, served and waiting."""

    def __init__(self, node: Node) -> None:
        super().__init__(self.serve)
        self._node = node
        self._call: Call | None = None
        self._level: Consistency | None = None
        self._until = 0.0
        self._turn = -1  # in which that was found out

    def call(self) -> Call:
        """Return the ``call`` of a read: its time is that of the last applied entry."""
        last_time = self._node.applying.last_time
        if self._call is None or self._call.now != last_time:
            self._call = self.own_call()
        return self._call

    def own_call(self, name: str = "", connection: Any = None) -> Call:
        """Return a ``call`` that nobody else is given: a local command may keep it."""
        node = self._node
        call = node.host.call(node.applying.last_time, 0)
        call.name = name
        call.conn = connection
        return call

    def at_once(self, level: Consistency, commands: Sequence[list[bytes]]) -> bool:
        """Say whether reads may be served right now, without any waiting.

        At ``medium`` the leader's lease is looked at here, when the read is executed, with the
        clock of this moment: a stalled reactor cannot serve what it was asked before the stall
        (hashicorp/raft#603).
        """
        node = self._node
        driver = node.driver
        if driver is None:
            return False
        # Every input of the core that changes anything asks for a turn: while none is due, what
        # was found out last still holds.
        if driver.is_due or self._turn != driver.turns or level is not self._level:
            self._until = self._served_until(level)
            self._turn = -1 if driver.is_due else driver.turns
            self._level = level
        return node.now() < self._until and (
            level is Consistency.LOW or not self._expired(commands)
        )

    def _served_until(self, level: Consistency) -> float:
        """Return until when reads may be served without waiting, if nothing happens before."""
        node = self._node
        raft = node.raft
        if raft is None or raft.removed:
            return 0.0
        if level is Consistency.LOW:
            return float("inf")
        if level is Consistency.HIGH or node.applying.last_applied < raft.commit_index:
            return 0.0
        return raft.lease_until()

    def _expired(self, commands: Sequence[list[bytes]]) -> bool:
        node = self._node
        host = node.host
        try:
            return host.may_expire and host.reads_expired(
                commands, node.applying.last_time, node.wall_ms()
            )
        except BaseException as e:
            # Behind an entry of its own a read is right, whatever the machine could not say.
            self.log.failure("needs_tick failed: {error!r}", Failure(e), error=e)
            return True

    def read(self, run: Run, level: Consistency) -> None:
        """Serve a read as soon as its level allows, or fail it."""
        if run.ended:
            return
        if self.at_once(level, run.commands):
            self.serve(run)
            return
        node = self._node
        refusal = node.dispatch.refusal()
        raft = node.raft
        if refusal is not None or raft is None:
            # The original's reads say no more than that on a removed node.
            run.fail(NotLeader() if isinstance(refusal, Removed) else refusal or NotReady())
            return
        now = node.now()
        if self._expired(run.commands):
            self._tick(run, level, now)
        elif (
            level is Consistency.MEDIUM
            and node.applying.last_applied < raft.commit_index
            and raft.lease_valid(now)
        ):
            # The lease is looked at again when the read is executed.
            self.after(raft.commit_index, run, now, lambda r: self.read(r, level))
        else:
            # Without a lease a quorum round says the same (thesis 6.4); so it does on a leader that
            # is removed and has not handed over yet.
            self.confirm(run, now)
        node.wake()

    def _tick(self, run: Run, level: Consistency, now: float) -> None:
        """Append an empty entry, which carries the leader's clock to every node."""
        node = self._node
        waiter = Waiter(lambda data: None)
        waiter.deferred.addCallbacks(
            lambda _: self._reached(run, level), lambda failure: self.fail(run, failure.value)
        )
        node.proposals.add(Run(waiter, [], False, now), b"", 0, now)

    def _reached(self, run: Run, level: Consistency) -> None:
        """Go on behind the empty entry, which is being applied."""
        node = self._node
        self.after(node.applying.reached, run, node.now(), lambda r: self._ticked(r, level))

    def _ticked(self, run: Run, level: Consistency) -> None:
        """Serve a read whose empty entry is applied."""
        node = self._node
        refusal = node.dispatch.refusal()
        if refusal is not None:
            run.fail(refusal)
        elif level is Consistency.HIGH or not node.raft.lease_valid(node.now()):  # type: ignore[union-attr]
            self.confirm(run, node.now())
        else:
            # Not asked again whether a key expired: others may go on expiring for ever.
            self.serve(run)

    def fail(self, run: Run, error: BaseException) -> None:
        """Fail a read for what was the error of an entry: it is never of unknown outcome."""
        if isinstance(error, OutcomeUnknown):
            error = self._node.dispatch.refusal() or DeadlinePassed()
        run.fail(error)

    def serve(self, run: Run) -> None:
        """Execute a read now."""
        node = self._node
        if isinstance(run, Transaction):
            node.transactions.read(run)
        elif isinstance(run, OpaqueRun):
            call = run.call
            run.complete_with(None)
            node.host.expect(call, run.created)
        else:
            run.complete(self.execute(run.commands, run.resp3, run.parts, NO_LIMIT)[0])

    def execute(
        self,
        commands: Sequence[list[bytes]],
        resp3: bool,
        parts: Sequence[int] | None = None,
        limit: int = LARGE_REPLIES,
    ) -> tuple[list[bytes], int]:
        """Execute reads of a declarative machine now; see ``Host.execute``.

        A read that fails in whatever way is an error of its own: it changed nothing.

        Returns:
            The replies, and of how many commands they are: one at least.
        """
        replies: list[bytes] = []
        try:
            host = self._node.host
            return replies, host.execute(commands, self.call(), 0, replies, resp3, parts, limit)
        except BaseException:
            alone = (self._execute_alone(command, resp3) for command in commands)
            replies = [*up_to(limit, alone)]
            return replies, len(replies)

    def _execute_alone(self, command: list[bytes], resp3: bool) -> bytes:
        host = self._node.host
        replies: list[bytes] = []
        try:
            host.execute([command], self.own_call(), 0, replies, resp3)
            return replies[0]
        except BaseException as e:
            return host.failed(command[0], e)
