"""Forwarding: commands of ``Node.execute`` on a member that does not lead go to the leader.

A command that was sent and whose answer did not come is of unknown outcome; one that could not be
sent is certainly not applied. Reads are never of unknown outcome, but those of an ``IMachine`` are
known for reads by the leader alone, which has called it: here they are like any other command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finn.errors import (
    CommandError,
    DeadlinePassed,
    FinnError,
    NotApplied,
    NotLeader,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    Stopping,
    error_text,
)
from finn.node.runs import Run
from finn.options import Consistency
from finn.protocols.wire import APPLIED, NOT_APPLIED, UNKNOWN, Forward, ForwardReply, encode
from finn.raft.core import Role
from finn.resp.reader import parse_commands
from finn.resp.replies import encode_error, pack_command

if TYPE_CHECKING:
    from finn.node.service import Node

# Commands waiting for the leader's answer, and for a leader; more are refused.
MAX_FORWARDED = 10_000


class _Waiting:
    """A command that waits for a leader, or for its answer."""

    __slots__ = ("run", "cmd", "level", "deadline", "peer")

    def __init__(self, run: Run, cmd: list[bytes], level: Consistency, deadline: float) -> None:
        self.run = run
        self.cmd = cmd
        self.level = level
        self.deadline = deadline
        self.peer = 0  # whom it was sent to


class Forwarding:
    """Both sides of forwarding."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: dict[int, _Waiting] = {}
        self._next_id = 1

    # -- the side that asks -------------------------------------------------------------------

    def forward(self, run: Run, cmd: list[bytes], level: Consistency, timeout: float) -> None:
        """Send a command to the leader, as soon as one is known."""
        if self._node.raft is None:
            raise self._node.dispatch.refusal() or NotReady()
        if len(self._waiting) >= MAX_FORWARDED:
            raise Overloaded()
        self._next_id += 1
        item = _Waiting(run, cmd, level, self._node.now() + timeout)
        self._waiting[self._next_id] = item
        self._send(self._next_id, item)

    def _send(self, request_id: int, item: _Waiting) -> None:
        node = self._node
        raft = node.raft
        if raft is None or not raft.leader_id or raft.leader_id == raft.node_id:
            return  # ``leader_known`` tries again
        left = max(1, int((item.deadline - node.now()) * 1000))
        message = Forward(request_id, int(item.level), left, pack_command(item.cmd))
        if node.links.send_frame(raft.leader_id, encode(message)):
            item.peer = raft.leader_id

    def leader_known(self) -> None:
        """A leader is known, or a link to it was made: send what could not be sent yet.

        Also called by every sweep, for whoever refused and leads again, or still.
        """
        raft = self._node.raft
        for request_id, item in list(self._waiting.items()):
            if item.peer or request_id not in self._waiting:
                continue
            if raft is not None and raft.role is Role.LEADER:
                del self._waiting[request_id]
                self._run_here(item)
            else:
                self._send(request_id, item)

    def _run_here(self, item: _Waiting) -> None:
        """This node became the leader itself."""
        if not item.run.ended:
            self._node.executing.run_here(item.run, item.level)

    def answered(self, message: ForwardReply) -> None:
        """The leader answered."""
        raft = self._node.raft
        item = self._waiting.pop(message.request_id, None)
        if item is None:
            return
        if message.outcome == APPLIED:
            item.run.complete([message.payload])
            return
        text = message.payload.decode("utf-8", "replace")
        if message.outcome == UNKNOWN:
            item.run.fail(OutcomeUnknown(text.removeprefix("UNKNOWN ")))
        elif text.startswith("TRY ") and self._node.now() < item.deadline:
            # It was not applied there: wait until another leader is known, or a sweep. Who was
            # asked would say the same again, as fast as the network carries it.
            refused, item.peer = item.peer, 0
            self._waiting[message.request_id] = item
            if raft is not None and raft.leader_id != refused:
                self._node.reactor.callLater(0, self.leader_known)
        else:
            item.run.fail(NotApplied(text))

    def link_lost(self, peer: int) -> None:
        """Answers from this peer will not come any more."""
        for request_id, item in list(self._waiting.items()):
            # Whoever is told may end others of them: it may stop the node, say.
            if item.peer == peer and self._waiting.pop(request_id, None) is not None:
                if self._reads(item):
                    item.run.fail(NotLeader(None))
                else:
                    item.run.fail(OutcomeUnknown("the link to the leader was lost"))

    def _reads(self, item: _Waiting) -> bool:
        route = self._node.host.route(item.cmd[0])
        return route is not None and route.spec.kind.name == "READ"

    def timed_out(self, run: Run) -> FinnError | None:
        """Take back a run, and say what is known of it; None when it is not forwarded."""
        for request_id, item in self._waiting.items():
            if item.run is run:
                del self._waiting[request_id]
                return self._late(item)
        return None

    def _late(self, item: _Waiting) -> FinnError:
        if item.peer and not self._reads(item):
            return OutcomeUnknown("the leader did not answer in time")
        return DeadlinePassed()

    def expire(self, before: float) -> None:
        """Forget commands whose deadline passed; their runs ended by their own timer."""
        now = self._node.now()
        for request_id, item in list(self._waiting.items()):
            is_over = item.run.ended or now > item.deadline
            if is_over and self._waiting.pop(request_id, None) is not None:
                item.run.fail(self._late(item))

    def fail_all(self) -> None:
        """The node stops."""
        waiting, self._waiting = self._waiting, {}
        for item in waiting.values():
            if item.peer and not self._reads(item):
                item.run.fail(OutcomeUnknown("node is stopping"))
            else:
                item.run.fail(Stopping())

    # -- the leader's side --------------------------------------------------------------------

    def received(self, link: Any, message: Forward) -> None:
        """Run a command for another member and answer on its link."""
        try:
            (cmd,) = parse_commands(message.command, 0, 1)
            level = Consistency(message.consistency)
        except (FinnError, ValueError):
            self._answer(
                link, message.request_id, NOT_APPLIED, b"ERR forwarded command is malformed"
            )
            return
        timeout = min(message.deadline_ms / 1000, self._node.options.request_timeout)
        outcome = self._node.executing.run(cmd, level, timeout, bytes, forward=False)
        request_id = message.request_id

        def failed(failure: Any) -> None:
            error = failure.value
            text = error_text(error).encode()
            if isinstance(error, CommandError):
                self._answer(link, request_id, APPLIED, encode_error(error_text(error)))
            elif isinstance(error, NotApplied):
                self._answer(link, request_id, NOT_APPLIED, text)
            else:
                self._answer(link, request_id, UNKNOWN, text)

        outcome.addCallbacks(lambda data: self._answer(link, request_id, APPLIED, data), failed)

    @staticmethod
    def _answer(link: Any, request_id: int, outcome: int, payload: bytes) -> None:
        if link.connected:
            link.send(encode(ForwardReply(request_id, outcome, payload)))
