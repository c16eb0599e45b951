"""A plain blocking RESP client, for what needs no speed: filling, asking, probing."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import hiredis

CHUNK_BYTES = 1 << 16


class Client:
    """One connection to a node.

    Args:
        port: on loopback.
        timeout: seconds for connecting, and for each reply.
    """

    def __init__(self, port: int, timeout: float = 5.0) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, *commands: tuple[Any, ...]) -> None:
        """Send commands in one pipeline."""
        self._socket.sendall(b"".join(hiredis.pack_command(command) for command in commands))

    def receive(self) -> Any:
        """Return the next reply; an error reply is returned, not raised."""
        reply = self._reader.gets()
        while reply is False:
            data = self._socket.recv(CHUNK_BYTES)
            if not data:
                raise ConnectionResetError("the node closed the connection")
            self._reader.feed(data)
            reply = self._reader.gets()
        return reply

    def ask(self, *command: Any) -> Any:
        """Send one command and return its reply."""
        self.send(command)
        return self.receive()

    def pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once and return their replies."""
        self.send(*commands)
        return [self.receive() for _ in commands]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def try_ask(port: int, *command: Any, timeout: float = 1.0) -> Any:
    """Return the reply of a node, None when nobody answers."""
    with contextlib.suppress(OSError, hiredis.HiredisError), Client(port, timeout) as client:
        return client.ask(*command)
    return None
