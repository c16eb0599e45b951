"""Tests of the command line and of the service it makes."""

from __future__ import annotations

import gc
import io
import os
import resource
import signal
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.usage import Options as UsageOptions
from twisted.trial.unittest import SynchronousTestCase

from finn import launch, redislog, tap
from finn.collector import THRESHOLDS
from finn.errors import DataDirectoryError, DiskFailed, StartFailed
from finn.options import Backend, Consistency, Durability, LogLevel

MACHINE = """
class Fine:
    pass

class Broken:
    def __init__(self):
        raise ValueError("no luck")

nothing = 3

def nobody():
    pass

import threading
import finn

class Locked(finn.Machine):
    def __init__(self):
        self.l = threading.Lock()
"""


class StubNode(Service):
    """Stands for a node: fails when it is told to."""

    error: Exception | None = None

    def __init__(self, reactor: Any, machine: Any, options: Any) -> None:
        self.machine = machine
        self.options = options
        self.failure: Deferred[Any] = Deferred()

    def startService(self) -> None:
        if self.error is not None:
            raise self.error
        super().startService()

    def when_ready(self) -> Deferred[Any]:
        return Deferred()

    def when_failed(self) -> Deferred[Any]:
        return self.failure

    def status(self) -> dict[str, object]:
        return {"state": "Leader"}


class RunnableReactor(MemoryReactorClock):  # type: ignore[misc]
    """Runs what waits for it to run, and notes that it was stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.running = False
        self.stops = 0

    def run_waiting(self) -> None:
        self.running = True
        for hook in self.whenRunningHooks:
            hook[0](*hook[1])

    def callWhenRunning(self, call: Any, *args: Any, **kwargs: Any) -> None:
        self.whenRunningHooks.append((call, args))

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)

    def stop(self) -> None:
        self.stops += 1

    def sigTerm(self, number: int, frame: Any) -> None:
        """Stand for the reactor's own handler."""


class TapCase(SynchronousTestCase):
    """Parses in a folder of its own, and puts the settings of the log back."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.makedirs(self.folder)
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        self.patch(redislog.settings, "level", LogLevel.NOTICE)
        self.patch(redislog.settings, "open", redislog.settings.open)

    def write(self, name: str, text: str, mode: int = 0o600) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def parse(self, *arguments: str, parent: Any = None) -> tap.Options:
        options = tap.Options()
        options.parent = parent
        options.parseOptions(list(arguments))
        return options

    def refused(self, *arguments: str) -> str:
        """The line with which arguments are refused."""
        error = self.assertRaises(SystemExit, self.parse, *arguments)
        text = str(error.code)
        self.assertTrue(text.startswith("finn: "), text)
        self.assertEqual(len(text.splitlines()), 1)
        return text


class OptionsTests(TapCase):
    def test_unknown_endpoints(self) -> None:
        """A slip is not taken for an endpoint beyond this machine."""
        text = self.refused("--listen", "tpc:7481:interface=127.0.0.1")
        self.assertIn("--listen tpc:7481:interface=127.0.0.1: there is no endpoint 'tpc'", text)
        self.assertIn("--advertise", self.refused("--listen", "systemd:domain=INET:index=0"))

    def test_defaults(self) -> None:
        """Without flags it is a node on loopback with the defaults of the design."""
        options = self.parse().node_options
        self.assertEqual(options.address, ":7481")
        self.assertEqual(options.listen, "tcp:7481:interface=127.0.0.1")
        self.assertEqual(options.directory, os.path.join(self.folder, "data", "7481"))
        self.assertEqual(options.join, [])
        self.assertIs(options.backend, Backend.FASTLOG)
        self.assertIs(options.durability, Durability.MEDIUM)
        self.assertIs(options.consistency, Consistency.MEDIUM)
        self.assertEqual((options.heartbeat, options.election_timeout), (0.1, 1.0))
        self.assertEqual(options.request_timeout, 10.0)
        self.assertEqual(options.snapshot_bytes, 64 * 1024 * 1024)

    def test_values_reach_the_node(self) -> None:
        """Every flag is understood and scaled."""
        options = self.parse(
            *("--port", "9001", "-j", ":7481, host:7482", "-d", "d", "--backend", "LMDB"),
            *("--durability", "high", "--consistency", "low", "--max-clients", "5"),
            *("--heartbeat", "20", "--election-timeout", "200", "--snapshot-bytes", "1mb"),
            *("--request-timeout", "1500", "--idle-timeout", "60", "--trailing-bytes", "4k"),
        ).node_options
        self.assertEqual(options.address, ":9001")
        self.assertEqual(options.listen, "tcp:9001:interface=127.0.0.1")
        self.assertEqual(options.join, [":7481", "host:7482"])
        more = self.parse("-j", ":1", "--join", "a:2,b:3", "--join=:4").node_options
        self.assertEqual(more.join, [":1", "a:2", "b:3", ":4"])
        self.assertEqual(options.directory, os.path.join(self.folder, "d"))
        self.assertIs(options.backend, Backend.BOLT)
        self.assertIs(options.durability, Durability.HIGH)
        self.assertIs(options.consistency, Consistency.LOW)
        self.assertEqual(options.max_clients, 5)
        self.assertEqual((options.heartbeat, options.election_timeout), (0.02, 0.2))
        self.assertEqual((options.snapshot_bytes, options.trailing_bytes), (1 << 20, 4096))
        self.assertEqual((options.request_timeout, options.idle_timeout), (1.5, 60.0))

    def test_bad_values_are_refused_in_one_line(self) -> None:
        """The line names the flag, and what it takes."""
        for arguments, words in (
            (["--port", "x"], "--port"),
            (["--port", "0"], "1 to 65535"),
            (["--port", "70000"], "--port"),
            (["--backend", "foo"], "fastlog, bolt, leveldb, inmem"),
            (["--durability", ""], "low, medium, high"),
            (["--consistency", "best"], "--consistency"),
            (["--loglevel", "loud"], "quiet, warning, notice, verbose, debug"),
            (["--join", "nonsense"], "has no port"),
            (["--join", ","], "--join ',' names nobody"),
            (["--join", ""], "--join '' names nobody"),
            (["--join", ":1", "--join", " , "], "names nobody"),
            (["--heartbeat", "500"], "three heartbeats"),
            (["--snapshot-bytes", "lots"], "64mb"),
            (["--max-clients", "-1"], "--max-clients"),
            (["--request-timeout", "0"], "--request-timeout"),
            (["--request-timeout", "2592000001"], "1 to 2592000000"),
            (["--request-timeout", "999999999999999999"], "--request-timeout"),
            (["--idle-timeout", "nan"], "--idle-timeout"),
            (["--election-timeout", "inf"], "--election-timeout"),
            (["--snapshot-bytes", "-1"], "--snapshot-bytes"),
            (["--trailing-bytes", "-1"], "--trailing-bytes"),
            (["--advertise", "host"], "has no port"),
            (["--wait", "--join", ":1"], "exclude"),
            (["--nonsense"], "nonsense"),
            (["--port"], "port"),
            (["more"], "'more'"),
            (["--listen", "foo"], "endpoint"),
            (["--tls-cert", "missing.pem"], "missing.pem"),
            (["--auth-file", "missing"], "missing"),
            (["--http", "x"], "--http"),
        ):
            self.assertIn(words, self.refused(*arguments))

    def test_listening_beyond_loopback_needs_an_address(self) -> None:
        """Others cannot dial a wildcard, so --advertise says what they dial."""
        self.assertIn("--advertise", self.refused("--bind", "0.0.0.0", "--insecure"))
        self.assertIn("--advertise", self.refused("--listen", "tcp:7481", "--insecure"))
        self.assertIn("--advertise", self.refused("--listen", "unix:/tmp/socket"))
        for wildcard in ("0.0.0.0:7481", "[::]:7481"):
            self.assertIn("every interface", self.refused("--advertise", wildcard))

    def test_listening_beyond_loopback_needs_proof(self) -> None:
        """It is refused without a secret or client certificates, unless it is asked for."""
        beyond = ["--bind", "0.0.0.0", "--advertise", "box:7481"]
        self.assertIn("--auth-file", self.refused(*beyond))
        self.assertEqual(self.parse(*beyond, "--insecure").node_options.address, "box:7481")
        path = self.write("secret", "hush\n")
        self.assertEqual(self.parse(*beyond, "--auth-file", path).node_options.secret, "hush")

    def test_loopback_interfaces(self) -> None:
        """Any loopback interface is private, and is what others on the machine dial."""
        options = self.parse("--bind", "127.0.0.2").node_options
        self.assertEqual(options.address, "127.0.0.2:7481")
        options = self.parse("--bind", "::1").node_options
        self.assertEqual(options.address, "[::1]:7481")
        self.assertEqual(options.listen, r"tcp6:7481:interface=\:\:1")

    def test_endpoint_gives_port_and_folder(self) -> None:
        """With --listen the port of the endpoint stands for --port."""
        options = self.parse("--listen", "tcp:9123:interface=127.0.0.1").node_options
        self.assertEqual(options.address, ":9123")
        self.assertEqual(options.directory, os.path.join(self.folder, "data", "9123"))

    def test_auth_file(self) -> None:
        """One secret, a second one for clients, comments; others that can read it are a warning."""
        path = self.write("secret", "# of the cluster\n\nhush hush\nclient  quiet\n", 0o644)
        options = self.parse("--auth-file", path)
        self.assertEqual(options.node_options.secret, "hush hush")
        self.assertEqual(options.node_options.client_secret, "quiet")
        self.assertIn("chmod 600", options.warnings[0])
        self.assertEqual(self.parse("--auth-file", self.write("s", "x")).warnings, [])

    def test_bad_auth_files(self) -> None:
        """A file without a secret, with too many, or with two equal ones is refused."""
        for text in ("", "# only\n", "a\nb\n", "client x\n", "a\nclient a\n", "x" * 70_000):
            self.assertIn("--auth-file", self.refused("--auth-file", self.write("s", text)))

    def test_folder_is_absolute(self) -> None:
        """Twistd changes the folder later; the data directory does not move."""
        self.assertTrue(os.path.isabs(self.parse("--dir", "here").node_options.directory))

    def test_help_names_every_option_of_the_node(self) -> None:
        """The help has each flag with its default."""
        text = str(tap.Options())
        for flag in ("--join", "--advertise", "--machine", "--wait", "--tls-ca", "--http"):
            self.assertIn(flag, text)
        self.assertIn("[default: fastlog]", text)

    def test_version(self) -> None:
        """--version tells finn's version, not Twisted's."""
        self.patch(sys, "stdout", io.StringIO())
        self.assertRaises(SystemExit, self.parse, "--version")
        self.assertIn("finn ", sys.stdout.getvalue())  # type: ignore[attr-defined]


class RunnerTests(TapCase):
    """What is chosen for twistd and twist."""

    def runner(self, **values: Any) -> Any:
        runner = UsageOptions()
        runner.update({"nodaemon": 0, "debug": False, "logger": None, "logfile": None})
        runner.update({"syslog": 0, "pidfile": "twistd.pid"})
        runner.update(values)
        return runner

    def test_foreground_has_no_pid_file(self) -> None:
        """Several nodes run in one folder; the log goes to stdout in the Redis format."""
        runner = self.runner(nodaemon=1)
        options = self.parse(parent=runner)
        self.assertEqual(runner["pidfile"], "")
        self.assertEqual(runner["logger"], "finn.redislog.observer")
        self.assertIs(redislog.settings.open(), sys.stdout)
        self.assertFalse(options.daemon)

    def test_daemon_keeps_to_its_folder(self) -> None:
        """As a daemon the pid file and the log are in the data directory."""
        runner = self.runner()
        options = self.parse("--dir", "d", parent=runner)
        self.assertEqual(runner["pidfile"], os.path.join(self.folder, "d", "twistd.pid"))
        self.assertTrue(options.daemon)
        os.makedirs("d")
        log = redislog.settings.open()
        self.addCleanup(log.close)
        self.assertEqual(log.path, os.path.join(self.folder, "d", "twistd.log"))

    def test_choices_of_the_user_stay(self) -> None:
        """A logger or pid file that was chosen is left alone; a log file gets our format."""
        runner = self.runner(logger="a.b", pidfile="my.pid")
        self.parse(parent=runner)
        self.assertEqual((runner["logger"], runner["pidfile"]), ("a.b", "my.pid"))
        runner = self.runner(logfile="my.log")
        self.parse(parent=runner)
        log = redislog.settings.open()
        self.addCleanup(log.close)
        self.assertEqual(log.path, os.path.join(self.folder, "my.log"))
        runner = self.runner(syslog=1)
        self.parse(parent=runner)
        self.assertIsNone(runner["logger"])

    def test_daemon_cannot_log_to_stdout(self) -> None:
        """Twistd refuses that too, but only after the machine is made."""
        runner = self.runner(logfile="-")
        self.assertRaises(SystemExit, self.parse, parent=runner)

    def test_level_is_set(self) -> None:
        """--loglevel is the threshold of the log, in twist too."""
        self.parse("--loglevel", "debug", parent=self.runner())
        self.assertIs(redislog.settings.level, LogLevel.DEBUG)
        twist = UsageOptions()
        twist["logLevel"] = "info"
        self.parse("--loglevel", "warning", parent=twist)
        self.assertEqual(twist["logLevel"].name, "warn")
        self.assertNotIn("logger", twist)


class LaunchTests(TapCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = RunnableReactor()
        self.module = f"machine_{id(self)}"
        self.write(f"{self.module}.py", MACHINE)
        self.patch(sys, "path", list(sys.path))
        self.patch(StubNode, "error", None)
        self.exits: list[Any] = []

    def make(self, *arguments: str, parent: Any = None) -> Any:
        # So few clients are no reason to warn, however few files the system allows.
        flags = ["--machine", f"{self.module}:Fine", "--max-clients", "100"]
        options = self.parse(*flags, *arguments, parent=parent)
        service = launch.make_service(options, self.reactor, StubNode)
        service._at_exit = lambda *args: self.exits.append(args)
        self.addCleanup(service._collector.stop)
        return service

    def machine_refused(self, name: str) -> str:
        options = self.parse("--machine", name)
        error = self.assertRaises(SystemExit, launch.make_service, options, self.reactor, StubNode)
        self.assertEqual(len(str(error.code).splitlines()), 1)
        return str(error.code)

    def watch_log(self) -> io.StringIO:
        stream = io.StringIO()
        observer = redislog.RedisLogObserver(stream, LogLevel.NOTICE)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return stream

    def test_machine_is_found_in_the_current_folder(self) -> None:
        """The node gets the machine that the factory makes, and the options."""
        service = self.make("--port", "9000")
        self.assertEqual(type(service.node.machine).__name__, "Fine")
        self.assertEqual(service.node.options.address, ":9000")
        self.assertFalse(os.path.exists("data"))

    def test_bad_machines_are_refused_in_one_line(self) -> None:
        """The line says which step failed, and where."""
        self.write(f"{self.module}_bad.py", "import json\n\ndef f(:\n")
        self.write(f"{self.module}_raise.py", "x = 1\n1 / 0\n")
        self.assertIn("package.module:Factory", self.machine_refused("nocolon"))
        self.assertIn("No module named", self.machine_refused("no_such_module_here:X"))
        self.assertIn("has no Missing", self.machine_refused(f"{self.module}:Missing"))
        self.assertIn("is not a class", self.machine_refused(f"{self.module}:nothing"))
        text = self.machine_refused(f"{self.module}:Broken")
        self.assertIn(f"ValueError: no luck ({self.module}.py, line 7)", text)
        self.assertIn("SyntaxError", self.machine_refused(f"{self.module}_bad:X"))
        self.assertIn("line 2", self.machine_refused(f"{self.module}_raise:X"))

    def test_places_are_those_of_the_user(self) -> None:
        """Not of finn, which found what is wrong: they are to be changed."""
        self.write(
            f"{self.module}_class.py",
            "import finn\n\n\nclass Bad(finn.Machine):\n    @finn.write('X')\n"
            "    def x(self, call, a: dict): ...\n",
        )
        self.write(
            f"{self.module}_call.py",
            "from finn.options import split_address\n\n\ndef make():\n    split_address('x')\n",
        )
        self.assertIn(
            f"({self.module}_class.py, line 4)", self.machine_refused(f"{self.module}_class:X")
        )
        text = self.machine_refused(f"{self.module}_call:make")
        self.assertIn(
            f"has no port, write host:port or :port ({self.module}_call.py, line 5)", text
        )

    def test_machines_that_end_the_process_are_refused_in_one_line(self) -> None:
        """Else it would end with their code, and say nothing."""
        self.write(f"{self.module}_exit.py", "raise SystemExit\n")
        strange = """
class Strange(BaseException):
    def __str__(self):
        raise ValueError

def make():
    raise Strange

def __getattr__(name):
    raise SystemExit if name == "end" else KeyError(name)
"""
        self.write(f"{self.module}_strange.py", strange)
        for name, text in (
            (f"{self.module}_strange:make", "cannot be made: Strange"),
            (f"{self.module}_strange:other", "cannot be found: KeyError: 'other'"),
            (f"{self.module}_strange:end", "cannot be found: SystemExit"),
            ("sys:exit", "machine sys:exit cannot be made: SystemExit"),
            (f"{self.module}_exit:X", f"SystemExit ({self.module}_exit.py, line 1)"),
        ):
            self.assertIn(text, self.machine_refused(name))

    def test_machines_that_cannot_be_run_are_refused_in_one_line(self) -> None:
        """What is no machine, and state that the default snapshot cannot keep."""
        for name, words in (
            ("Fine", "finn: Fine is no machine: derive it from finn.Machine"),
            ("nobody", "finn: NoneType is no machine"),
            ("Locked", "finn: attribute 'l' holds a lock: the default snapshot keeps None"),
        ):
            options = self.parse("--machine", f"{self.module}:{name}")
            error = self.assertRaises(SystemExit, launch.make_service, options, self.reactor)
            self.assertIn(words, str(error.code))
            self.assertEqual(len(str(error.code).splitlines()), 1)

    def test_machines_that_cannot_be_looked_at_are_refused_in_one_line(self) -> None:
        """Their ``__getattr__`` is asked for what may be there."""
        self.write(
            f"{self.module}_getattr.py",
            "import finn\n\n\nclass Declared(finn.Machine):\n    def __init__(self):\n"
            "        self.d = {}\n\n    def __getattr__(self, name):\n"
            "        return self.d[name]\n\n\nclass Opaque:\n    def __getattr__(self, name):\n"
            "        return self.d[name]\n",
        )
        for name, words in (
            ("Declared", "cannot be run: KeyError: '"),
            ("Opaque", "cannot be run: RecursionError: maximum recursion depth exceeded"),
        ):
            options = self.parse("--machine", f"{self.module}_getattr:{name}")
            error = self.assertRaises(SystemExit, launch.make_service, options, self.reactor)
            self.assertIn(words, str(error.code))
            self.assertIn(f"({self.module}_getattr.py, line ", str(error.code))
            self.assertEqual(len(str(error.code).splitlines()), 1)

    def test_failure_at_start_ends_the_process(self) -> None:
        """A busy port or a locked directory is one line of the log and exit code 1."""
        stream = self.watch_log()
        for error in (StartFailed("port 7481 is busy"), DataDirectoryError("it is locked")):
            self.patch(StubNode, "error", error)
            service = self.make()
            failure = self.assertRaises(SystemExit, service.startService)
            self.assertEqual(failure.code, 1)
        lines = stream.getvalue().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn(" # port 7481 is busy", lines[0])

    def test_bugs_at_start_keep_their_traceback(self) -> None:
        """An unexpected exception is not hidden."""
        self.patch(StubNode, "error", ZeroDivisionError())
        self.assertRaises(ZeroDivisionError, self.make().startService)

    def test_daemon_tells_the_terminal(self) -> None:
        """The line reaches the process that waits in the terminal, and the pid file goes."""
        self.watch_log()
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        runner = UsageOptions()
        runner.update({"nodaemon": 0, "pidfile": self.write("my.pid", "1"), "logger": "x"})
        self.patch(StubNode, "error", StartFailed("busy"))
        service = self.make(parent=runner)
        runner["statusPipe"] = writer
        self.assertRaises(SystemExit, service.startService)
        os.close(writer)
        self.assertEqual(os.read(reader, 100), b"1 busy")
        self.assertFalse(os.path.exists("my.pid"))

    def test_fatal_error_stops_the_reactor_with_a_code(self) -> None:
        """When the node fails later, one line is logged, and the process ends with 1."""
        stream = self.watch_log()
        service = self.make()
        service.startService()
        self.reactor.run_waiting()
        service.node.failure.callback(Failure(DiskFailed("fsync failed: disk full")))
        self.assertEqual(self.reactor.stops, 1)
        self.assertEqual(self.exits, [(launch.leave, 1)])
        self.assertEqual(len(stream.getvalue().splitlines()), 1)
        self.assertIn(" # fsync failed: disk full", stream.getvalue())

    def test_fatal_error_before_the_reactor_runs(self) -> None:
        """A node that has failed already when it is asked ends the process as it begins to run.

        What the node has logged is not logged again.
        """
        stream = self.watch_log()
        service = self.make()
        service.node.failure.callback(DiskFailed("gone"))
        service.startService()
        self.assertEqual(self.exits, [])
        self.reactor.run_waiting()
        self.assertEqual((self.reactor.stops, self.exits), (1, [(launch.leave, 1)]))
        self.assertEqual(stream.getvalue(), "")

    def test_bug_of_the_node_shows_its_traceback(self) -> None:
        """A failure that is none of finn's words is logged with its traceback, and ends it too."""
        stream = self.watch_log()
        service = self.make()
        service.startService()
        self.reactor.run_waiting()
        service.node.failure.callback(Failure(ZeroDivisionError("oh")))
        self.assertEqual(self.exits, [(launch.leave, 1)])
        self.assertIn("ZeroDivisionError", stream.getvalue())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_fatal_error_while_stopping(self) -> None:
        """A failing last sync still gives exit code 1, and the reactor is stopped once."""
        self.watch_log()
        service = self.make()
        service.startService()
        self.reactor.run_waiting()
        service.stopService()
        service.node.failure.errback(Failure(DiskFailed("gone")))
        self.assertEqual(self.reactor.stops, 0)
        self.assertEqual(self.exits, [(launch.leave, 1)])

    def test_garbage_is_collected_in_short_pauses(self) -> None:
        """From the start to the stop."""
        before = gc.get_threshold()
        service = self.make()
        service.startService()
        self.assertEqual(gc.get_threshold(), THRESHOLDS)
        service.stopService()
        self.assertEqual(gc.get_threshold(), before)

    def test_signals_stop_in_order(self) -> None:
        """SIGTERM stops the reactor once; Twisted's handler, that ends by the signal, is gone."""
        stream = self.watch_log()
        before = signal.getsignal(signal.SIGTERM)
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        interrupt = signal.getsignal(signal.SIGINT)
        service = self.make()
        service.startService()
        signal.signal(signal.SIGTERM, self.reactor.sigTerm)
        self.reactor.run_waiting()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual(self.reactor.stops, 1)
        self.assertEqual(self.exits, [])
        self.assertIn("* Received SIGTERM, stopping", stream.getvalue())
        self.assertEqual(signal.getsignal(signal.SIGINT), interrupt)

    def test_signals_that_come_when_all_is_done(self) -> None:
        """They are ignored to the very end, as Python lets go of handlers before; others' stay."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        interrupt = signal.getsignal(signal.SIGINT)
        self.make().startService()
        signal.signal(signal.SIGTERM, self.reactor.sigTerm)
        self.reactor.run_waiting()
        signal.raise_signal(signal.SIGTERM)
        self.assertNotEqual(signal.getsignal(signal.SIGTERM), signal.SIG_IGN)
        for call, args, kwargs in self.reactor.triggers["after"]["shutdown"]:
            call(*args, **kwargs)
        self.assertEqual(signal.getsignal(signal.SIGTERM), signal.SIG_IGN)
        self.assertEqual(signal.getsignal(signal.SIGINT), interrupt)

    def test_hangup_reloads_certificates(self) -> None:
        """SIGHUP reads the certificates again; a bad file is logged and changes nothing."""
        stream = self.watch_log()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        pem = self.write("node.pem", "x")
        service = self.make("--tls-cert", pem, "--tls-key", pem)
        outcomes: list[Exception | None] = [StartFailed("no such file"), None]

        def reload() -> None:
            if outcome := outcomes.pop(0):
                raise outcome

        service.node.reload_certificates = reload
        service.startService()
        self.reactor.run_waiting()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        first, second = stream.getvalue().splitlines()
        self.assertIn(" # certificates not reloaded: no such file", first)
        self.assertIn(" * Certificates reloaded", second)

    def hang_up(self, parent: Any) -> tuple[str, bool]:
        """Send SIGHUP to a node without certificates; return its log, and whether it would end."""
        stream = self.watch_log()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        ends: list[int] = []
        signal.signal(signal.SIGHUP, lambda number, frame: ends.append(number))
        service = self.make(parent=parent)
        service.node.reload_certificates = lambda: self.fail("there are none")
        service.startService()
        self.reactor.run_waiting()
        signal.raise_signal(signal.SIGHUP)
        return stream.getvalue(), bool(ends)

    def test_hangup_of_a_daemon(self) -> None:
        """It goes on, and says that there is nothing to reload."""
        runner = UsageOptions()
        runner.update({"nodaemon": 0, "pidfile": "x", "logger": "x"})
        log, ends = self.hang_up(runner)
        self.assertFalse(ends)
        self.assertEqual(len(log.splitlines()), 1)
        self.assertIn(" * Received SIGHUP, there are no certificates to reload", log)

    def test_hangup_of_a_terminal_stops_in_order(self) -> None:
        """Where nobody else handles or ignores it."""
        stream = self.watch_log()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        service = self.make()
        service.startService()
        self.reactor.run_waiting()
        signal.raise_signal(signal.SIGHUP)
        self.assertIn(" * Received SIGHUP, stopping", stream.getvalue())
        self.assertEqual(self.reactor.stops, 1)

    def test_hangup_of_a_terminal(self) -> None:
        """Where somebody else handles it, or it is ignored, as by nohup, it is left alone."""
        runner = UsageOptions()
        runner.update({"nodaemon": 1, "pidfile": "", "logger": "x"})
        self.assertEqual(self.hang_up(runner), ("", True))

    def test_clients_need_open_files(self) -> None:
        """The soft limit on open files is raised to what they need, and a low hard one told of."""
        limits = [64, 1 << 20]
        self.patch(resource, "getrlimit", lambda which: tuple(limits))
        self.patch(resource, "setrlimit", lambda which, both: limits.__setitem__(0, both[0]))
        self.assertEqual(launch.raise_file_limit(5000), "")
        self.assertEqual(limits[0], 5000 + launch.OTHER_FILES)
        self.assertEqual(launch.raise_file_limit(100), "")
        self.assertEqual(limits[0], 5000 + launch.OTHER_FILES)
        limits[:] = [64, 4096]
        text = launch.raise_file_limit(5000)
        self.assertEqual(limits[0], 4096)
        self.assertIn("--max-clients 5000 needs 5256 open files", text)
        self.assertIn("the system allows 4096", text)

    def test_warnings_are_logged_at_start(self) -> None:
        """A secret that others can read is told of."""
        stream = self.watch_log()
        self.make("--auth-file", self.write("s", "x", 0o644)).startService()
        self.assertIn(" # ", stream.getvalue())
        self.assertIn("chmod 600", stream.getvalue())

    def test_status_page_listens_on_loopback(self) -> None:
        """--http adds a page; it listens before the node starts."""
        service = self.make("--http", "9900")
        self.assertEqual(len(list(service)), 2)
        service.startService()
        port, _, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (9900, "127.0.0.1"))
