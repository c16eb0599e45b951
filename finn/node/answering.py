"""The replies of what a node runs by itself: built-in commands, and local ones of a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import FinnError, error_text, printable
from finn.node.builtin import Raw
from finn.resp.replies import encode_error, encode_value

_log = Logger(namespace="finn.node")


def answer(
    function: Callable[[], Any], cmd: list[bytes], connection: Any
) -> bytes | Deferred[bytes]:
    """Run a function for a command of a connection, in whose protocol the reply is.

    Returns:
        The reply, or a Deferred of it; errors are replies too. What is no error of the client is
        logged, and its text is not told.
    """
    try:
        value = as_deferred(function())
    except BaseException as error:
        return _error(error, cmd)
    resp3 = connection.resp3  # HELLO has set it by now
    if not isinstance(value, Deferred):
        return _encode(value, cmd, resp3)
    later: Deferred[Any] = value
    return later.addCallback(_encode, cmd, resp3).addErrback(_failed, cmd)


def as_deferred(value: Any) -> Any:
    """Return a coroutine as a Deferred, and anything else as it is."""
    if hasattr(value, "__await__") and not isinstance(value, Deferred):
        return Deferred.fromCoroutine(value)
    return value


class LateAnswer:
    """The place of an answer that a machine's local command promised to give later.

    Args:
        connection: of the client.
        cmd: the command.
    """

    __slots__ = ("_action", "_cmd", "_connection", "_slot")

    def __init__(self, connection: Any, cmd: list[bytes]) -> None:
        self._connection = connection
        self._cmd = cmd
        self._slot = connection.reserve(1)
        self._action: Callable[[], None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether a client waits for it."""
        return self._slot.data is None and not self._connection.lost

    def give(self, data: bytes) -> None:
        """Answer, unless that was done already."""
        if self._slot.data is None:
            self._slot.fill(data)
            if self._action is not None:
                self._action()

    def then(self, action: Callable[[], None]) -> None:
        """Call ``action`` once the answer is given."""
        self._action = action

    def give_up(self) -> None:
        """Answer in the place of a machine that has not, in all the time that it had."""
        if self.is_awaited:
            self.give(_error(TimeoutError("the machine did not answer"), self._cmd))


def _encode(value: Any, cmd: list[bytes], resp3: bool) -> bytes:
    if type(value) is Raw:
        return value.data
    try:
        return encode_value(value, resp3)
    except (TypeError, ValueError) as error:
        _log.failure("reply of {name} cannot be encoded", name=printable(cmd[0]))
        return encode_error(f"ERR internal error: {error}")


def _failed(failure: Failure, cmd: list[bytes]) -> bytes:
    return _error(failure.value or FinnError("failed"), cmd)


def _error(error: BaseException, cmd: list[bytes]) -> bytes:
    if isinstance(error, FinnError):
        return encode_error(error_text(error))
    _log.failure("command {name} failed", Failure(error), name=printable(cmd[0]))
    return encode_error(f"ERR internal error: {type(error).__name__}")
