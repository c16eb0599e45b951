"""A program in a terminal of the test's own (a pty), and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

from tests.integration.process import DEADLINE, TookTooLong

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SIZE = struct.pack("HHHH", 50, 200, 0, 0)


class Terminal:
    """Runs a program whose standard input and output are a terminal."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, SIZE)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**environment, "TERM": "xterm"},
                start_new_session=True,
            )
        finally:
            os.close(slave)
        self._seen = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def expect(self, text: str, deadline: float = DEADLINE) -> None:
        """Wait until a text is there, behind what was expected before; colours do not count."""
        end = time.monotonic() + deadline
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TookTooLong(f"not in {deadline} s: {text!r}, but {self._seen!r}")
            data = os.read(self._master, 65536).decode("utf-8", "replace")
            self._seen += _ESCAPES.sub("", data).replace("\r", "")
        self._seen = self._seen.partition(text)[2]

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait for the end, and return the exit code."""
        return self._process.wait(deadline)

    def close(self) -> None:
        """Whatever happened: nothing is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
