"""Runs: consecutive commands of one client that share their fate and their reply slot.

A run waits in a proposal, or for its turn to read. It ends exactly once: ``complete`` with the
replies, or ``fail`` with one error for every command. Runs of a connection that have to wait for
it are its ``followers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import CommandError, NotApplied, error_text
from finn.node.followers import Followers
from finn.node.slot import SlotConnection
from finn.resp.replies import encode_error, null_array_reply

_log = Logger(namespace="finn.node")

# Bytes of replies that one transaction may have, as they are made in one piece.
MAX_REPLY_BYTES = 64 * 1024 * 1024
_TOO_MUCH = CommandError(
    f"ERR left out: the replies of one transaction are limited to {MAX_REPLY_BYTES} bytes"
)
LEFT_OUT = encode_error(str(_TOO_MUCH))


class Waiter:
    """A slot whose reply goes to a Deferred instead of a connection.

    Args:
        convert: makes the Deferred's result of the RESP bytes; a CommandError makes it fail.
    """

    __slots__ = ("deferred", "_convert")

    def __init__(self, convert: Callable[[bytes], Any]) -> None:
        self.deferred: Deferred[Any] = Deferred()
        self._convert = convert

    def fill(self, data: bytes) -> None:
        """Fire the Deferred with the converted reply."""
        if self.deferred.called:
            return
        value = self._convert(data)
        if isinstance(value, CommandError):
            self.deferred.errback(value)
        else:
            self.deferred.callback(value)

    def fail(self, error: BaseException) -> None:
        """Fail the Deferred with the exception itself, not with its text."""
        if not self.deferred.called:
            self.deferred.errback(error)


_followers = Followers()


class Run:
    """Commands that run one after another and are answered together.

    Invariant: ``slot`` is None exactly when the run has ended.
    """

    __slots__ = ("slot", "commands", "resp3", "followers", "created", "round")
    reads = False
    parts: Sequence[int] | None = None

    def __init__(
        self, slot: Any, commands: Sequence[list[bytes]], resp3: bool, created: float
    ) -> None:
        self.slot: Any = slot  # an ISlot or a Waiter
        self.commands = commands
        self.resp3 = resp3
        self.followers: list[Callable[[], None]] | None = None
        self.created = created
        self.round = -1  # of ``Proposals`` in which it was queued

    @property
    def ended(self) -> bool:
        """Whether the replies are given already."""
        return self.slot is None

    def complete(self, replies: Sequence[bytes]) -> None:
        """Give the replies, one per command or, of several clients, per client, in order."""
        self._give(replies)
        self.drop()

    def fail(self, error: BaseException) -> None:
        """End with an error, and forget what is not done: an entry may be applied after that."""
        if self.slot is None:
            return
        self._fail(error)
        if self.round < 0 or self.reads:
            self.drop()  # else its batch knows when

    def _fail(self, error: BaseException) -> None:
        """Answer every command with the same error."""
        slot = self.slot
        if type(slot) is Waiter:
            self.slot = None
            slot.fail(error)
            self._go_on()
        else:
            self._give([encode_error(error_text(error))] * len(self.commands))

    def _give(self, replies: Sequence[bytes]) -> None:
        slot = self.slot
        if slot is not None:
            self.slot = None
            slot.fill(replies[0] if len(replies) == 1 else b"".join(replies))
            if self.followers is not None:
                self._go_on()

    def drop(self) -> None:
        """Forget what is done, or will not be done by this run: each client keeps its last one."""
        self.commands = ()

    def then(self, action: Callable[[], None]) -> None:
        """Call ``action`` once this run has ended."""
        if self.followers is None:
            self.followers = []
        self.followers.append(action)

    def _go_on(self) -> None:
        followers, self.followers = self.followers, None
        if followers is not None:
            _followers.start(followers)


class Read(Run):
    """Commands that only read."""

    __slots__ = ()
    reads = True


class CrowdRun(Run):
    """Commands of several clients: each has its slot, and so many of the commands.

    Args:
        slots: one for each client.
        parts: how many commands belong to each, in order.
    """

    __slots__ = ("parts",)

    def __init__(
        self,
        slots: list[Any],
        parts: Sequence[int],
        commands: Sequence[list[bytes]],
        resp3: bool,
        created: float,
    ) -> None:
        super().__init__(slots, commands, resp3, created)
        self.parts = parts

    def _give(self, replies: Sequence[bytes]) -> None:
        slots, parts = self.slot, self.parts
        if slots is not None:
            assert parts is not None
            self.slot = None
            for slot, data in zip(slots, by_parts(replies, parts), strict=True):
                slot.fill(data)
            if self.followers is not None:
                self._go_on()


class CrowdRead(CrowdRun):
    """Commands of several clients that only read."""

    __slots__ = ()
    reads = True


def fail_each(runs: Iterable[Run | Placed], error: BaseException) -> None:
    """End runs with an error, also those behind one that raises as it ends: that is logged."""
    for run in runs:
        try:
            run.fail(error)
        except BaseException as e:
            _log.failure("a run failed to end: {error!r}", Failure(e), error=e)


def by_parts(replies: Sequence[bytes], parts: Sequence[int]) -> Sequence[bytes]:
    """Join the replies of each part, unless they are so already."""
    if len(replies) == len(parts):
        return replies
    assert len(replies) == sum(parts), "replies that belong to nobody"
    rest = iter(replies)
    return [b"".join(islice(rest, count)) for count in parts]


class Placed:
    """A read at its place between the writes of an entry that was not proposed yet when it came.

    Once that entry is applied, the read is linearizable there without any lease or round of its
    own: the entry was appended after the read came, and no newer leader can have committed anything
    before an entry of an older one that commits.
    """

    __slots__ = ("_fail", "_run", "_serve")
    commands: Sequence[list[bytes]] = []
    parts = None
    resp3 = False

    def __init__(
        self,
        run: Run,
        serve: Callable[[Run], None],
        fail: Callable[[Run, BaseException], None],
    ) -> None:
        self._run = run
        self._serve = serve
        self._fail = fail

    def complete(self, replies: Sequence[bytes]) -> None:
        """Its place is reached."""
        if not self._run.ended:
            self._serve(self._run)

    def fail(self, error: BaseException) -> None:
        """Its place is not reached, or not by this node."""
        self._fail(self._run, error)

    def drop(self) -> None:
        """There is nothing of its own in the entry."""


class Transaction(Run):
    """MULTI ... EXEC: one reply, an array with the replies of the commands.

    Attributes:
        calls: what the commands of an ``IMachine`` asked for.
        extras: replies of the node's own commands, with their place in the array, in order.
        watch: what it depends on, until it has its place.
        room: bytes that its replies may still have.
    """

    __slots__ = ("calls", "reads", "extras", "room", "watch")

    def __init__(
        self,
        slot: Any,
        commands: Sequence[list[bytes]],
        resp3: bool,
        created: float,
        calls: list[OpaqueCall] | None = None,
    ) -> None:
        super().__init__(slot, commands, resp3, created)
        self.calls = calls
        self.extras: Sequence[tuple[int, bytes]] = ()
        self.reads = False
        self.watch: Any = None
        self.room = MAX_REPLY_BYTES

    def ask(self, replies: list[bytes], call: OpaqueCall, value: Any, error: Any = None) -> None:
        """Add the reply of a call while there is room; then what only reads need not be done."""
        data = call.reply_now(value, error if self.room > 0 or call.mutate else _TOO_MUCH)
        call.drop()
        if self.room > 0:
            replies.append(data)
            self.room -= len(data)

    def complete(self, replies: Sequence[bytes]) -> None:
        """Give the replies of the commands between MULTI and EXEC: of the first, if not of all."""
        count = len(self.commands if self.calls is None else self.calls)
        if self.extras or len(replies) < count:
            rest, extras = iter(replies), dict(self.extras)
            total = count + len(extras)
            replies = [extras.get(place) or next(rest, LEFT_OUT) for place in range(total)]
        Run.complete(self, [b"".join([b"*%d\r\n" % len(replies), *replies])])

    def drop(self) -> None:
        """Forget the commands, what was asked for them, and what it depends on."""
        self.commands = self.extras = ()
        self.calls = self.watch = None

    def give_up(self) -> None:
        """Answer EXEC with null: what it depends on was written."""
        self._tell(NotApplied("ERR a watched key was written"))
        Run.complete(self, [null_array_reply(self.resp3)])

    def _tell(self, error: BaseException) -> None:
        for call in self.calls or ():
            if call.early or (call.reply is not None and not call.reply.filled):
                call.reply_now(None, error)  # the others have been told

    def _fail(self, error: BaseException) -> None:
        """Answer EXEC with an error: nothing was applied, or nobody knows."""
        if self.watch is not None:
            self.watch.end()
        self._tell(error)
        self._give([encode_error(error_text(error))])


class Watching(Run):
    """WATCH, at its place among what its connection sends."""

    __slots__ = ("keys", "watch")

    def __init__(self, waiter: Waiter, now: float, watch: Any, keys: list[bytes]) -> None:
        super().__init__(waiter, [], False, now)
        self.watch = watch
        self.keys = keys

    def _fail(self, error: BaseException) -> None:
        """Answer with an error; who sends EXEC all the same is refused."""
        self.watch.refused = True
        super()._fail(error)

    def drop(self) -> None:
        """Forget the keys."""
        self.keys = []
        self.watch = None


class OpaqueCall:
    """What an ``IMachine.command`` asked for when it was called with a connection."""

    __slots__ = ("mutate", "respond", "result", "asked", "reply", "early")
    log: ClassVar[Logger] = Logger(namespace="finn.machine")

    def __init__(self) -> None:
        self.mutate: Callable[[], Any] | None = None
        self.respond: Callable[[Any], None] | None = None
        self.result: Deferred[Any] | None = None
        self.asked = False
        self.reply: SlotConnection | None = None
        self.early: list[bytes] = []  # what a local command within MULTI replied

    def drop(self) -> None:
        """Forget what was done: the closures and the Deferred hold the value."""
        self.early.clear()
        self.mutate = self.respond = self.result = None

    def reply_now(self, value: Any, error: BaseException | None = None) -> bytes:
        """Return the reply as bytes, for EXEC's array."""
        assert self.reply is not None
        if self.asked:
            self.reply.redirect(self.early.append)
            if error is None:
                self.succeed(value)
            else:
                self.fail(error)
        if not self.early:  # EXEC's array does not wait
            self.reply.redirect(self.early.append)
            self._reply_failed(RuntimeError("the machine did not answer"))
        return self.early[0]

    def succeed(self, value: Any) -> None:
        """Write the reply, then tell the machine, which may write it later."""
        try:
            if self.respond is not None:
                self.respond(value)
            elif self.reply is not None and not self.reply.filled:
                self.reply.write_value(value)
        except BaseException as e:
            # The state has changed, on every node alike: only this client's answer is spoilt.
            self._reply_failed(e)
        if self.result is not None and not self.result.called:
            self.result.callback(value)

    @property
    def is_awaited(self) -> bool:
        """Whether a client waits for the machine's answer."""
        return self.reply is not None and not self.reply.filled and not self.reply.is_lost

    def then(self, action: Callable[[], None]) -> None:
        """Call ``action`` once the machine has answered."""
        if self.reply is not None:
            self.reply.then(action)

    def give_up(self) -> None:
        """Answer in the place of a machine that has not, in all the time that it had."""
        if self.is_awaited:
            self._reply_failed(TimeoutError("the machine did not answer"))

    def _reply_failed(self, error: BaseException) -> None:
        known = isinstance(error, CommandError)
        if not known:
            # The log drops a line that says what the one before it said, with its traceback.
            self.log.failure("a machine's reply failed: {error!r}", Failure(error), error=error)
        if self.reply is not None:
            text = error_text(error) if known else f"ERR internal error: {type(error).__name__}"
            self.reply.end_with_error(text)

    def fail(self, error: BaseException) -> None:
        """Write the error, then tell the machine."""
        if self.reply is not None:
            self.reply.end_with_error(error_text(error))
        if (result := self.result) is not None and not result.called:
            # Most machines ignore the Deferred: an unhandled error there is no news.
            result.addErrback(lambda _: None)
            result.errback(error)


_DROPPED = OpaqueCall()  # nobody waits for it


class OpaqueRun(Run):
    """One command of an ``IMachine``: its ``respond`` writes the reply into the slot itself."""

    __slots__ = ("call", "reads")

    def __init__(
        self, slot: Any, command: list[bytes], resp3: bool, created: float, call: OpaqueCall
    ) -> None:
        super().__init__(slot, [command], resp3, created)
        self.call = call
        self.reads = call.mutate is None

    def complete_with(self, value: Any) -> None:
        """End with the machine's value."""
        if self.slot is not None:
            self.slot = None
            self.call.succeed(value)
            self._go_on()
        self.drop()

    def drop(self) -> None:
        """Forget the command, and what was asked for it: its reply too."""
        self.commands = ()
        self.call.drop()
        self.call = _DROPPED

    def _fail(self, error: BaseException) -> None:
        """Answer with an error, and tell the machine."""
        slot, self.slot = self.slot, None
        if type(slot) is Waiter:
            slot.fail(error)
        self.call.fail(error)
        self._go_on()
