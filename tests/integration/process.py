"""One node as a process: start, signals, readiness, log."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from twisted.trial.unittest import SkipTest

from tests.integration.resp import Access, Client, ErrorReply, ask, port_of

ROOT = Path(__file__).resolve().parent.parent.parent
# No promise: what does not come in this time does not come. A busy computer starts ten nodes in it.
DEADLINE = 60.0
POLL = 0.01

T = TypeVar("T")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what runs in the background so, and what is ignored is inherited: no node could
    # be stopped by Ctrl-C then.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class TookTooLong(AssertionError):
    """What was waited for did not come."""


def until(
    condition: Callable[[], T], what: str, deadline: float = DEADLINE, poll: float = POLL
) -> T:
    """Poll until a condition gives something true, and return that; OSError counts as false."""
    end = time.monotonic() + deadline
    last: Any = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except OSError as e:
            last = e
        if time.monotonic() > end:
            raise TookTooLong(f"not in {deadline} s: {what} (last: {last!r})")
        time.sleep(poll)


def need(tool: str) -> str:
    """Return the path of a program; where it is missing skip, but fail in CI."""
    beside = Path(sys.executable).with_name(tool)
    path = str(beside) if beside.exists() else shutil.which(tool)
    if path is None:
        if os.environ.get("CI"):
            raise AssertionError(f"CI has no {tool}")
        raise SkipTest(f"{tool} is not installed")
    return path


def need_package(name: str) -> None:
    """Skip where a Python package is missing, but fail in CI."""
    if importlib.util.find_spec(name) is None:
        if os.environ.get("CI"):
            raise AssertionError(f"CI has no {name}")
        raise SkipTest(f"{name} is not installed")


def environment() -> dict[str, str]:
    """Return the environment of a child: this tree is imported, whatever is installed."""
    inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = os.pathsep.join([str(ROOT), *inherited])
    return {**os.environ, **compiled(), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@cache
def compiled() -> dict[str, str]:
    """Let the hundreds of children compile the sources once, where nothing is to be left behind."""
    if not sys.dont_write_bytecode:
        return {}
    folder = tempfile.mkdtemp(prefix="finn-bytecode-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}


class NodeProcess:
    """One node, which may be started again and again on its data.

    Args:
        folder: where the data directory, ``data/PORT``, and the logs are.
        port: to listen on.
        flags: more of the command line.
        runner: words before ``finn``.

    Attributes:
        access: how its clients are let in, None when anybody is.
        process: the running one, or the last.
        returncode: how the last one ended.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        flags: Sequence[str] = (),
        runner: Sequence[str] = ("twistd", "-n"),
    ) -> None:
        self.folder = folder
        self.port = port
        self.flags = list(flags)
        self.runner = list(runner)
        self.log_path = folder / f"{port}.log"
        self.access: Access | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._mark = 0

    @property
    def address(self) -> str:
        """How the others call it, unless it advertises something else."""
        return f":{self.port}"

    @property
    def directory(self) -> Path:
        """Its data directory, unless ``--dir`` says something else."""
        return self.folder / "data" / str(self.port)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    # -- life ---------------------------------------------------------------------------------

    def start(self, *flags: str) -> NodeProcess:
        """Start it with its flags and more; does not wait."""
        assert not self.running, "it runs already"
        program, *rest = self.runner
        command = [need(program), *rest, "finn", "--port", str(self.port), *self.flags, *flags]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._mark = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def send_signal(self, number: int) -> None:
        """Send a signal to this very process."""
        assert self.running, f"{self.address} does not run"
        os.kill(self.pid, number)

    def kill(self) -> None:
        """``kill -9``, and wait for the end."""
        self.send_signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.send_signal(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, wait, and return the exit code."""
        self.send_signal(number)
        return self.wait()

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait for its end and return the exit code."""
        assert self.process is not None
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise TookTooLong(f"{self.address} still runs after {deadline} s") from None

    def reap(self) -> None:
        """Whatever happened: no process is left."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # -- talk ---------------------------------------------------------------------------------

    def do(self, *words: Any) -> Any:
        """Send one command on a connection of its own."""
        return ask(self.port, *words, access=self.access)

    def client(self) -> Client:
        """Connect."""
        return Client(self.port, access=self.access)

    def stats(self) -> dict[str, str]:
        """Return RAFTSTATS as a dict."""
        reply = self.do("RAFTSTATS")
        if isinstance(reply, ErrorReply):
            raise ConnectionError(str(reply))
        words = [word.decode() for word in reply]
        return dict(zip(words[::2], words[1::2], strict=True))

    def state(self) -> str:
        """Return RAFTSTATE, or why there is none."""
        try:
            reply = ask(self.port, "RAFTSTATE", timeout=2, access=self.access)
        except OSError as e:
            return str(e)
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    def contents(self) -> dict[bytes, bytes]:
        """Return all keys and values as this node has them; at consistency low only."""
        with self.client() as client:
            keys = client.do("KEYS", "*")
            return dict(zip(keys, client.pipeline([("GET", key) for key in keys]), strict=True))

    def leader(self) -> str | None:
        """Return the address of whom it follows, None when it does not know."""
        reply = ask(self.port, "RAFTLEADER", timeout=2, access=self.access)
        return reply.decode() if isinstance(reply, bytes) else None

    def wait_for(self, *states: str, deadline: float = DEADLINE) -> NodeProcess:
        """Wait until RAFTSTATE is one of these."""

        def there() -> bool:
            if not self.running:
                raise AssertionError(f"{self.address} ended with {self.process}:\n{self.tail()}")
            return self.state() in states

        until(there, f"{self.address} is {' or '.join(states)}", deadline)
        return self

    def wait_ready(self, deadline: float = DEADLINE) -> NodeProcess:
        """Wait until it has restored, follows a leader or leads, and votes."""

        def there() -> bool:
            if not self.running:
                raise AssertionError(f"{self.address} ended with {self.process}:\n{self.tail()}")
            stats = self.stats()
            return stats["ready"] == "1" and stats["voter"] == "1" and stats["leader"] != ""

        until(there, f"{self.address} is a ready voter", deadline)
        return self

    def leader_port(self) -> int | None:
        """Return the port of whom it follows."""
        address = self.leader()
        return None if address is None else port_of(address)

    # -- log ----------------------------------------------------------------------------------

    def log(self) -> str:
        """Return what this run of it has written."""
        if not self.log_path.exists():
            return ""
        with open(self.log_path, "rb") as file:
            file.seek(self._mark)
            return file.read().decode("utf-8", "replace")

    def whole_log(self) -> str:
        """Return what all its runs have written."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def tail(self, lines: int = 40) -> str:
        """Return the end of the log."""
        return "\n".join(self.whole_log().splitlines()[-lines:])

    def wait_log(self, text: str, deadline: float = DEADLINE) -> None:
        """Wait until this run has logged something."""
        until(lambda: text in self.log(), f"{self.address} logs {text!r}", deadline)
