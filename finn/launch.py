"""Makes the service that twistd runs, and turns its end into an exit code.

``Node`` never stops a reactor. Here a fatal error becomes one log line and exit code 1, and SIGTERM
and SIGINT become an orderly stop with exit code 0, where Twisted would end by the signal. SIGHUP
reads the certificates again; without any it does nothing to a daemon, and ends a node in the
foreground, whose terminal is gone.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.collector import Collector
from finn.errors import FinnError
from finn.flags import refuse
from finn.options import tcp_description

if TYPE_CHECKING:
    from finn.tap import Options

EXIT_FAILED = 1

#: Open files beside those of clients: links, the log's files, connections that are not admitted.
OTHER_FILES = 256

#: What says in one line what is wrong with options, or with a machine.
_REFUSED = (OSError, FinnError, ValueError)

#: twistd reads up to 100 bytes from its child, the first two are a code.
MAX_STATUS_BYTES = 98


def make_service(
    options: Options, reactor: Any = None, make_node: Callable[..., IService] | None = None
) -> IService:
    """Make the service of a node, with its status page if there is to be one.

    Args:
        options: parsed.
        reactor: the reactor; Twisted's if None.
        make_node: called with reactor, machine and node options; ``Node`` if None.

    Raises:
        SystemExit: with one line, when the machine cannot be made or a package is missing.
    """
    if reactor is None:
        from twisted.internet import reactor
    if make_node is None:
        from finn.node.service import Node

        make_node = Node
    try:
        check_endpoint(reactor, options["listen"])
        machine = load_machine(options["machine"])
        # A machine is looked at, and may do in ``__getattr__`` whatever it likes.
        with _step(f"machine {options['machine']} cannot be run", but=_REFUSED):
            node = make_node(reactor, machine, options.node_options)
        service = FinnService(node, reactor, options)
        if options["http"] is not None:
            service.add_site(*options["http"])
        if options.daemon:  # the log and the pid file of twistd are there, by default
            os.makedirs(options["dir"], exist_ok=True)
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}")
    except (FinnError, ValueError) as error:
        refuse(str(error))
    return service


def check_endpoint(reactor: Any, description: str) -> None:
    """Raise ValueError when a description is no server endpoint."""
    from twisted.internet.endpoints import serverFromString

    try:
        serverFromString(reactor, description)
    except Exception as error:  # each parser raises what it likes
        raise ValueError(f"--listen {description}: {error}") from None


def load_machine(name: str) -> Any:
    """Import ``package.module:Factory``, from the current folder too, and call the factory.

    Raises:
        ValueError: with one line that says which step failed, and where.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"--machine must be package.module:Factory, not {name!r}")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with _step(f"cannot import machine {module_name}"):
        found: Any = importlib.import_module(module_name)
    with _step(f"machine {name} cannot be found"):
        for attribute in path.split("."):
            found = getattr(found, attribute, None)
    if found is None:
        raise ValueError(f"machine module {module_name} has no {path}")
    if not callable(found):
        raise ValueError(f"machine {name} is not a class or function that makes a machine")
    with _step(f"machine {name} cannot be made"):
        return found()


@contextmanager
def _step(failed: str, but: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Raise what the user's code raises as a ValueError of one line."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, but):
            raise
        raise ValueError(f"{failed}: {told(error)}") from None


def told(error: BaseException) -> str:
    """Tell an exception of the user's code on one line, with the place in it that it came from."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""  # it cannot say so itself
    if isinstance(error, ImportError) or (isinstance(error, FinnError) and text):
        return text
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    own = [
        (os.path.basename(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not (_is_ours(frame) or frame.f_code.co_filename.startswith("<frozen"))
    ]
    if isinstance(error, SyntaxError) or not own:
        return text
    file, line = own[-1]
    return f"{text} ({file}, line {line})"


def _is_ours(frame: FrameType) -> bool:
    """Say whether a frame is one of finn, or of the import of the user's module."""
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return package in ("finn", "importlib")


class FinnService(MultiService):
    """A node and its status page, run by twistd or twist.

    Args:
        node: the node.
        reactor: stopped when the node fails.
        options: of the command line.
        at_exit: registers what to do when the process ends.
    """

    log = Logger(namespace="finn.launch")

    def __init__(
        self,
        node: Any,
        reactor: Any,
        options: Options,
        at_exit: Callable[..., Any] = atexit.register,
    ) -> None:
        super().__init__()
        self.setName("finn")
        self.node = node
        self.reactor = reactor
        self.options = options
        self._at_exit = at_exit
        self._stopping = False
        self._collector = Collector()
        node.setServiceParent(self)

    def add_site(self, host: str, port: int) -> None:
        """Serve the status page. Raises MissingExtra."""
        from twisted.application import strports

        from finn.web import make_site

        site = make_site(self.node, self.reactor)
        web = strports.service(tcp_description(host, port), site, reactor=self.reactor)
        # Before the node: a busy port is found while no thread runs and nothing is open.
        self.services.insert(0, web)
        web.parent = self

    def privilegedStartService(self) -> None:
        with self._starts():
            super().privilegedStartService()

    def startService(self) -> None:
        for text in [*self.options.warnings, raise_file_limit(self.options["max-clients"])]:
            if text:
                self.log.warn("{text}", text=text)
        with self._starts():
            super().startService()
            self.node.when_failed().addBoth(self._failed)
        self._collector.start()
        self.reactor.callWhenRunning(self._take_signals)

    @contextmanager
    def _starts(self) -> Iterator[None]:
        """End the process with one line when what runs inside fails in a way that has a cause."""
        try:
            yield
        except CannotListenError as error:
            where = f"{error.interface}:{error.port}"
            self._refuse_start(f"cannot listen on {where}: {error.socketError}")
        except FinnError as error:
            self._refuse_start(str(error))

    def _refuse_start(self, text: str) -> NoReturn:
        """End the process before its reactor runs; what twistd would leave behind is removed."""
        self.log.critical("{text}", text=text)
        runner = self.options.parent or {}
        if runner.get("pidfile"):
            with suppress(OSError):
                os.unlink(runner["pidfile"])
        if runner.get("statusPipe") is not None:
            # The process that waits in the terminal shows this, and exits with 1.
            os.write(runner["statusPipe"], b"1 " + text.encode()[:MAX_STATUS_BYTES])
        raise SystemExit(EXIT_FAILED)

    def _failed(self, result: Any) -> None:
        """The node cannot go on: end the process, with exit code 1."""
        if not self.reactor.running:
            self.reactor.callWhenRunning(self._failed, result)
            return
        if isinstance(result, Failure):  # else the node has said why
            error = result.value
            bug = {} if isinstance(error, (FinnError, OSError)) else {"log_failure": result}
            self.log.critical("{text}", text=str(error) or type(error).__name__, **bug)
        self._at_exit(leave, EXIT_FAILED)
        self._stop()

    def _take_signals(self) -> None:
        """Take the reactor's signals: it would end the process by them, not with exit code 0.

        Signals that somebody else handles, or that are ignored, stay as they are. SIGHUP reloads
        where there is something to reload, and does nothing to a daemon, which has no terminal;
        that of a terminal which ends is an orderly stop, too.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            if getattr(signal.getsignal(number), "__self__", None) is self.reactor:
                signal.signal(number, self._signalled)
        self.reactor.addSystemEventTrigger("after", "shutdown", self._ignore_signals)
        if self._has_certificates or self.options.daemon:
            signal.signal(signal.SIGHUP, self._hung_up)
        elif signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, self._signalled)

    def _ignore_signals(self) -> None:
        """All is saved. Python drops handlers before it ends: a signal would be its exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) == self._signalled:
                signal.signal(number, signal.SIG_IGN)

    def _hung_up(self, number: int, frame: Any) -> None:
        self.reactor.callFromThread(self._reload)

    @property
    def _has_certificates(self) -> bool:
        return self.options.node_options.tls_cert is not None

    def _reload(self) -> None:
        """Read the certificates again; when that fails, those in use stay in use."""
        if not self._has_certificates:
            self.log.info("Received SIGHUP, there are no certificates to reload")
            return
        try:
            self.node.reload_certificates()
        except FinnError as error:
            self.log.error("certificates not reloaded: {error}", error=error)
        else:
            self.log.info("Certificates reloaded")

    def _signalled(self, number: int, frame: Any) -> None:
        self.reactor.callFromThread(self._stop, signal.Signals(number).name)

    def _stop(self, cause: str | None = None) -> None:
        if self._stopping or not self.reactor.running:
            return
        self._stopping = True
        if cause is not None:
            self.log.info("Received {cause}, stopping", cause=cause)
        self.reactor.stop()

    def stopService(self) -> Any:
        self._stopping = True
        self._collector.stop()
        return super().stopService()


def raise_file_limit(clients: int) -> str:
    """Let the process open as many files as its clients need.

    Returns:
        What the log should say when the system does not allow so many, else nothing.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system
        return ""
    needed = clients + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= needed:
        return ""
    allowed = needed if hard == unlimited else min(needed, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft >= needed:
        return ""
    return (
        f"--max-clients {clients} needs {needed} open files and the system allows {soft}: clients "
        f"beyond about {max(soft - OTHER_FILES, 0)} cannot connect; raise the hard limit (ulimit "
        "-Hn, LimitNOFILE)"
    )


def leave(code: int) -> None:
    """End the process with a code: twistd ends with 0 whatever made the reactor stop."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
