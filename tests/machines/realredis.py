"""A redis-server of the test's own, and the raw replies that it gives."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from typing import Any

import hiredis

PROGRAM = shutil.which("redis-server")
MISSING = PROGRAM is None and not os.environ.get("CI")
"""Skip without redis-server, except where tests must not be skipped."""


class RealRedis:
    """A redis-server process on a Unix socket, with one connection."""

    def __init__(self, directory: str) -> None:
        assert PROGRAM is not None, "redis-server is not installed"
        os.makedirs(directory)
        # A socket's path may have 107 bytes at most; trial's folders are deep.
        self._path = os.path.relpath(os.path.join(directory, "s"))
        # fmt: off
        self._process = subprocess.Popen(
            [
                PROGRAM, "--port", "0", "--unixsocket", "s", "--dir", directory, "--save", "",
                "--appendonly", "no", "--daemonize", "no", "--logfile", "log",
            ],
            cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )
        # fmt: on
        try:
            self._socket = self.connect()
        except BaseException:
            self.stop()
            raise

    def connect(self) -> socket.socket:
        """Return one more connection."""
        deadline = time.monotonic() + 10
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(10)
            try:
                connection.connect(self._path)
                return connection
            except OSError:
                connection.close()
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.01)

    def run(self, commands: Iterable[list[bytes]]) -> list[Any]:
        """Run commands in one pipeline; errors are returned as hiredis.ReplyError."""
        commands = list(commands)
        reader = hiredis.Reader()
        self._socket.sendall(b"".join(hiredis.pack_command(tuple(words)) for words in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            data = self._socket.recv(1 << 16)
            assert data, "redis-server closed the connection"
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        return replies

    def raw(self, words: list[bytes]) -> bytes:
        """Run a command whose reply is short, and return the bytes."""
        self._socket.sendall(hiredis.pack_command(tuple(words)))
        return self._socket.recv(1 << 16)

    def stop(self) -> None:
        """End the process and wait for it."""
        if hasattr(self, "_socket"):
            self._socket.close()
        self._process.terminate()
        self._process.wait(10)
