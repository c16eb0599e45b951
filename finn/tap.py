"""The command line: ``twistd -n finn [options]``, and ``twist finn [options]``.

twistd shows its whole usage when a value is bad; here that is one line and exit code 1.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.logger import LogLevel as TwistedLevel
from twisted.python import usage
from twisted.python.logfile import LogFile

import finn
from finn import flags, redislog
from finn.options import (
    LONGEST,
    LOOPBACK,
    Backend,
    Consistency,
    Durability,
    LogLevel,
    NodeOptions,
    tcp_description,
)

if TYPE_CHECKING:
    from twisted.application.service import IService

MOST_MS = int(LONGEST * 1000)
DEFAULT_MACHINE = "finn.machines.kv:KV"
TWISTD_PIDFILE = "twistd.pid"

#: What our threshold is called in ``twist``, which filters by itself.
TWIST_LEVELS = {
    LogLevel.QUIET: TwistedLevel.critical,
    LogLevel.WARNING: TwistedLevel.warn,
    LogLevel.NOTICE: TwistedLevel.info,
    LogLevel.VERBOSE: TwistedLevel.debug,
    LogLevel.DEBUG: TwistedLevel.debug,
}


def choice(name: str, kind: Any, default: Any, text: str, **aliases: str) -> list[Any]:
    """Return the row of an option that takes one word of an enum."""
    return [
        name,
        None,
        default.name.lower(),
        f"{text}: {', '.join(flags.words(kind))}.",
        flags.one_of(name, kind, aliases),
    ]


def count(name: str, default: int, text: str, least: int, most: int | None = None) -> list[Any]:
    """Return the row of an option that takes a whole number."""
    return [name, None, str(default), text, flags.number(name, least, most)]


class Options(usage.Options):
    """Options of ``twistd finn``."""

    longdesc = (
        "Runs one node of a cluster. Three terminals in one folder make a cluster: "
        "'twistd -n finn --port 7481', then the same with '--port 7482 --join :7481' "
        "and with '--port 7483 --join :7481'."
    )

    optParameters: list[list[Any]] = [
        ["port", "p", "7481", "Port of clients and members.", flags.number("port", 1, 65535)],
        ["bind", None, LOOPBACK, "Interface to listen on."],
        ["listen", None, None, "Any Twisted server endpoint, instead of --port and --bind."],
        ["dir", "d", None, "Data directory; data/PORT if not given."],
        ["join", "j", None, "Join the cluster of one of these: ADDR[,ADDR...].", flags.addresses],
        ["advertise", None, None, "How others reach this node; :PORT if not given (loopback)."],
        choice("backend", Backend, Backend.FASTLOG, "Where the log is kept", lmdb="bolt"),
        choice("durability", Durability, Durability.MEDIUM, "What an acknowledged write survives"),
        choice("consistency", Consistency, Consistency.MEDIUM, "How fresh a read is"),
        choice("loglevel", LogLevel, LogLevel.NOTICE, "How much is logged"),
        ["machine", None, DEFAULT_MACHINE, "Your machine: package.module:Factory."],
        ["auth-file", None, None, "File with the secret of members and clients."],
        ["tls-cert", None, None, "File with this node's certificate chain, PEM."],
        ["tls-key", None, None, "File with its private key, PEM."],
        ["tls-ca", None, None, "File with the CA of members, and without --auth-file of clients."],
        ["http", None, None, "[HOST:]PORT of the status page, /metrics, /healthz and /readyz."],
        count("max-clients", NodeOptions.max_clients, "Clients beyond this are refused.", 1),
        count("idle-timeout", 0, "Seconds until a silent client is dropped; 0 is never.", 0),
        count("request-timeout", 10_000, "Milliseconds until a request is given up.", 1, MOST_MS),
        count("heartbeat", 100, "Milliseconds between heartbeats.", 1),
        count(
            "election-timeout", 1000, "Milliseconds of silence before an election (to twice).", 3
        ),
        [
            "snapshot-bytes",
            None,
            "64mb",
            "A snapshot is taken when the log has grown by this, and by the last one's size.",
            flags.size("snapshot-bytes", 1024),
        ],
        [
            "trailing-bytes",
            None,
            "16mb",
            "Log that is kept behind a snapshot for slow followers.",
            flags.size("trailing-bytes", 0),
        ],
    ]

    optFlags: list[list[Any]] = [
        ["wait", None, "A fresh node waits until RAFTADDPEER adds it."],
        ["insecure", None, "Listen beyond this machine without a secret or client certificates."],
    ]

    compData = usage.Completions(
        optActions={
            "backend": usage.CompleteList(flags.words(Backend)),
            "durability": usage.CompleteList(flags.words(Durability)),
            "consistency": usage.CompleteList(flags.words(Consistency)),
            "loglevel": usage.CompleteList(flags.words(LogLevel)),
            "dir": usage.CompleteDirs(),
            "auth-file": usage.CompleteFiles(),
            "tls-cert": usage.CompleteFiles("*.pem"),
            "tls-key": usage.CompleteFiles("*.pem"),
            "tls-ca": usage.CompleteFiles("*.pem"),
        }
    )

    parent: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []
        self.node_options = NodeOptions()
        self.daemon = False
        for row in self.optParameters:  # usage coerces what is given, but no defaults
            if len(row) > 4 and row[2] is not None:
                self[row[0]] = row[4](row[2])

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "join" and self.get(name):
            value = self[name] + value  # given more than once
        super().__setitem__(name, value)

    def opt_version(self) -> NoReturn:
        """Print the version of finn, and exit."""
        print(f"finn {finn.__version__}")
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"unexpected argument {args[0]!r}")

    def parseOptions(self, options: Any = None) -> None:
        """Parse and check everything; what is wrong is told in one line, with exit code 1."""
        try:
            super().parseOptions(options)
        except OSError as error:
            flags.refuse(f"{error.filename}: {error.strerror}")
        except (usage.UsageError, ValueError) as error:
            flags.refuse(str(error).removeprefix("Parameter type enforcement failed: "))

    def postOptions(self) -> None:
        listening, address = self._addresses()
        private = listening.private
        port = listening.port or self["port"]
        # Absolute, as twistd --rundir changes the folder later.
        self["dir"] = os.path.abspath(self["dir"] or os.path.join("data", str(port)))
        self["http"] = flags.http_address(self["http"]) if self["http"] is not None else None
        if self["auth-file"] is not None:
            secrets = flags.read_secrets(self["auth-file"])
            self.warnings += secrets.warnings
        else:
            secrets = None
        for name in ("tls-cert", "tls-key", "tls-ca"):
            if self[name] is not None:
                self[name] = os.path.abspath(self[name])
                with open(self[name], "rb"):
                    pass  # an unreadable file is found before anything starts
        if not (private or secrets or self["tls-ca"] or self["insecure"]):
            raise ValueError(
                "listening beyond this machine needs --auth-file, or --tls-ca, or --insecure"
            )
        self.node_options = NodeOptions(
            address=address,
            listen=self["listen"],
            directory=self["dir"],
            join=self["join"] or [],
            wait=bool(self["wait"]),
            backend=self["backend"],
            durability=self["durability"],
            consistency=self["consistency"],
            heartbeat=self["heartbeat"] / 1000,
            election_timeout=self["election-timeout"] / 1000,
            request_timeout=self["request-timeout"] / 1000,
            snapshot_bytes=self["snapshot-bytes"],
            trailing_bytes=self["trailing-bytes"],
            max_clients=self["max-clients"],
            idle_timeout=float(self["idle-timeout"]),
            secret=secrets.full if secrets else None,
            client_secret=secrets.client if secrets else None,
            tls_cert=self["tls-cert"],
            tls_key=self["tls-key"],
            tls_ca=self["tls-ca"],
        )
        self.node_options.check()
        self._settle_with_runner()

    def _addresses(self) -> tuple[flags.Listening, str]:
        """Fill in ``listen``; return what is known of it and this node's address."""
        if self["listen"] is None:
            self["listen"] = tcp_description(self["bind"], self["port"])
        listening = flags.Listening(self["listen"])
        if self["advertise"] is not None:
            return listening, str(self["advertise"])
        if not listening.private:
            raise ValueError("listening beyond this machine needs --advertise HOST:PORT")
        if listening.port is None:
            raise ValueError(f"--listen {self['listen']} needs --advertise HOST:PORT")
        return listening, flags.default_address(listening.interface, listening.port)

    def _settle_with_runner(self) -> None:
        """Choose the log and the pid file of twistd, where the user left them alone."""
        redislog.settings.level = self["loglevel"]
        if self.parent is None:
            return
        if "logLevel" in self.parent:  # twist, which has a log format of its own
            self.parent["logLevel"] = TWIST_LEVELS[self["loglevel"]]
            return
        daemon = not (self.parent.get("nodaemon") or self.parent.get("debug"))
        self.daemon = daemon
        if not self.parent.get("logger") and not self.parent.get("syslog"):
            self._choose_log(self.parent.get("logfile"), daemon)
            self.parent["logger"] = f"{redislog.observer.__module__}.{redislog.observer.__name__}"
        if self.parent.get("pidfile") == TWISTD_PIDFILE:
            # In the foreground the lock of the data directory is the guard; a stale pid file
            # would stop every restart in a container, where process ids repeat.
            self.parent["pidfile"] = os.path.join(self["dir"], TWISTD_PIDFILE) if daemon else ""

    def _choose_log(self, path: str | None, daemon: bool) -> None:
        if path == "-" and daemon:
            raise ValueError("a daemon cannot log to stdout: --logfile takes a file, or twistd -n")
        if path is None and daemon:
            path = os.path.join(self["dir"], "twistd.log")
        if path is not None and path != "-":
            chosen = os.path.abspath(path)
            redislog.settings.open = lambda: LogFile.fromFullPath(chosen)
        else:
            redislog.settings.open = lambda: sys.stdout


def makeService(options: Options) -> IService:
    """Make the service of ``twistd finn``.

    No thread, file or port is opened here: twistd forks afterwards.
    """
    from finn import launch

    return launch.make_service(options)
