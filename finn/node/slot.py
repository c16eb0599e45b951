"""The reply slot of one command, as an ``IMachine`` sees it.

What machines pass to it is theirs, so this module is not compiled: that would refuse what only
acts like bytes or an integer.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any

from finn.errors import command_error_text
from finn.resp.replies import (
    encode_array_header,
    encode_bulk,
    encode_error,
    encode_integer,
    encode_value,
    null_reply,
)
from finn.resp.values import encode_simple


class SlotConnection:
    """What ``IMachine.command`` is handed as its connection: the reply slot of one command."""

    __slots__ = ("_connection", "_fill", "_parts", "_open", "filled")

    def __init__(self, connection: Any, fill: Callable[[bytes], None]) -> None:
        self._connection = connection
        self._fill = fill
        self._parts: list[bytes] = []
        self._open = 1  # replies still missing, arrays open their elements
        self.filled = False

    @property
    def id(self) -> int:
        """Number of the connection."""
        return int(self._connection.id)

    @property
    def peer(self) -> str:
        """The client's address."""
        return str(self._connection.peer)

    @property
    def context(self) -> Any:
        """The machine's own value for this connection."""
        return self._connection.context

    @context.setter
    def context(self, value: Any) -> None:
        self._connection.context = value

    def _write(self, data: bytes, opens: int = 0) -> None:
        if self.filled:
            raise RuntimeError("this command has been answered already")
        self._parts.append(data)
        self._open += opens - 1
        if self._open == 0:
            reply = b"".join(self._parts)
            self._parts.clear()
            self.filled = True
            self._fill(reply)

    @property
    def is_lost(self) -> bool:
        """Whether no client waits, any more or from the beginning."""
        return bool(getattr(self._connection, "lost", True))

    def end_with_error(self, text: str) -> None:
        """Reply with an error in place of what was begun; a reply that was given stays."""
        if not self.filled:
            self._parts.clear()
            self._open = 1
            self._write(encode_error(text))

    def then(self, action: Callable[[], None]) -> None:
        """Call ``action`` once the reply is given."""
        fill = self._fill

        def fill_first(data: bytes) -> None:
            fill(data)
            action()

        self._fill = fill_first

    def redirect(self, fill: Callable[[bytes], None]) -> None:
        """Send the reply elsewhere: within a transaction it becomes part of EXEC's."""
        self._fill = fill

    def write_string(self, text: str) -> None:
        self._write(encode_simple(text))

    def write_bulk(self, data: bytes | str) -> None:
        if isinstance(data, str):
            data = data.encode()
        elif not isinstance(data, bytes):
            data = b"%b" % data  # bytearray, memoryview
        self._write(encode_bulk(data))

    def write_integer(self, number: int) -> None:
        self._write(encode_integer(index(number)))

    def write_array(self, count: int) -> None:
        self._write(encode_array_header(index(count)), opens=index(count))

    def write_null(self) -> None:
        self._write(null_reply(self._connection.resp3))

    def write_error(self, text: str) -> None:
        self._write(encode_error(command_error_text(text)))

    def write_raw(self, data: bytes) -> None:
        self._write(data)

    def write_value(self, value: Any) -> None:
        """Reply with a Python value, as the declarative API does."""
        self._write(encode_value(value, self._connection.resp3))


class Nobody:
    """Stands for the connection of a command that no client sent."""

    id = 0
    peer = ""
    context: Any = None
    resp3 = False


NOBODY = Nobody()
