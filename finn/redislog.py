"""Log observer that writes the Redis log format.

A line is ``PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL text``. ROLE is one letter: ``N`` the node,
``C`` the user's machine, ``S`` the store, ``L`` the links. LEVEL is one character:

========= ================================ ==============================================
character level                            event of ``twisted.logger``
========= ================================ ==============================================
``.``     debug                            debug
``-``     verbose                          debug with the key ``finn_verbose`` true; and
                                           what Twisted itself says at info
``*``     notice                           info
``#``     warning                          warn, error; and critical, which ``quiet`` lets
                                           pass too: the reason why a process ends
========= ================================ ==============================================

The role comes from the key ``log_role`` of the event, else from the namespace of the logger.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.logger import ILogObserver, eventAsText
from twisted.logger import LogLevel as TwistedLevel
from zope.interface import implementer

from finn.errors import FinnError
from finn.options import LogLevel

if TYPE_CHECKING:
    from twisted.logger import LogEvent
    from twisted.python.failure import Failure

#: The longest namespace that fits wins; what is not listed is the node's.
ROLES = {
    "finn.storage": "S",
    "finn.protocols": "L",
    "finn.machines": "C",
    "finn.declarative": "C",
    "machine": "C",
}
#: Namespaces of Twisted's own events; the second is that of its old log module.
TWISTED = ("twisted.", "log_legacy")
CHARACTERS = {
    LogLevel.DEBUG: ".",
    LogLevel.VERBOSE: "-",
    LogLevel.NOTICE: "*",
    LogLevel.WARNING: "#",
    LogLevel.QUIET: "#",
}
COLORS = {
    LogLevel.DEBUG: "\x1b[35m",
    LogLevel.VERBOSE: "\x1b[2m",
    LogLevel.NOTICE: "\x1b[1m",
    LogLevel.WARNING: "\x1b[33m",
    LogLevel.QUIET: "\x1b[31m",
}
PLAIN = "\x1b[0m"
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

#: A line equal to the one before is dropped when it comes within this many seconds of it.
DUPLICATE_SECONDS = 0.001

#: Failures of these kinds are part of life and told in one line; any other shows its traceback.
EXPECTED = (FinnError, OSError, ConnectionClosed, ConnectError, TimeoutError, CancelledError)


def level_of(event: LogEvent) -> LogLevel:
    """Return the level of an event; QUIET for what is shown at every level."""
    level = event.get("log_level")
    if level is TwistedLevel.critical:
        return LogLevel.QUIET
    if level in (TwistedLevel.warn, TwistedLevel.error):
        return LogLevel.WARNING
    if level is TwistedLevel.debug:
        return LogLevel.VERBOSE if event.get("finn_verbose") else LogLevel.DEBUG
    if str(event.get("log_namespace", "")).startswith(TWISTED):
        return LogLevel.VERBOSE
    return LogLevel.NOTICE


def role_of(event: LogEvent) -> str:
    """Return the role letter of an event."""
    role = event.get("log_role")
    if isinstance(role, str) and role:
        return role
    namespace = str(event.get("log_namespace", ""))
    while namespace:
        if namespace in ROLES:
            return ROLES[namespace]
        namespace = namespace.rpartition(".")[0]
    return "N"


def text_of(event: LogEvent) -> tuple[str, list[str]]:
    """Return the text of an event on one line, and the traceback lines that belong under it."""
    failure: Failure | None = event.get("log_failure")
    if "log_legacy" in event and failure is not None:
        text = str(event.get("why") or "Unhandled error")
    else:
        text = eventAsText(
            event, includeTraceback=False, includeTimestamp=False, includeSystem=False
        )
    if failure is None:
        return clean(text), []
    reason = str(failure.value) or type(failure.value).__name__
    if isinstance(failure.value, EXPECTED):
        return clean(text if reason in text else f"{text}: {reason}"), []
    return clean(text), failure.getTraceback().splitlines()


def clean(text: str) -> str:
    """Make text fit for one line: what clients sent must not forge lines or drive terminals."""
    text = " ".join(text.splitlines())
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def timestamp(seconds: float) -> str:
    """Format a time as in ``23 Nov 2026 07:14:59.386``, in local time and in English."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    t = time.localtime(whole)
    return (
        f"{t.tm_mday:02} {MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}.{milliseconds:03}"
    )


@implementer(ILogObserver)
class RedisLogObserver:
    """Writes the events of a level, and of those above it, to a stream.

    Args:
        stream: where to; flushed after every line.
        level: the threshold, changeable at any time.
        colors: paint the level characters; None asks the stream whether it is a terminal.
    """

    def __init__(
        self, stream: TextIO, level: LogLevel = LogLevel.NOTICE, colors: bool | None = None
    ) -> None:
        self.stream = stream
        self.level = level
        if colors is None:
            isatty = getattr(stream, "isatty", None)
            colors = bool(isatty is not None and isatty())
        self.colors = colors
        self._last: tuple[str, str, str] | None = None
        self._last_time = 0.0

    def __call__(self, event: LogEvent) -> None:
        level = level_of(event)
        if level > self.level:
            return
        role = role_of(event)
        text, traceback = text_of(event)
        now = float(event.get("log_time", 0.0)) or time.time()
        line = (role, CHARACTERS[level], text)
        repeated = line == self._last and 0 <= now - self._last_time < DUPLICATE_SECONDS
        self._last, self._last_time = line, now
        if repeated:
            return
        mark = CHARACTERS[level]
        if self.colors:
            mark = f"{COLORS[level]}{mark}{PLAIN}"
        # The process id is asked each time: twistd forks after the observer was made.
        lines = [f"{os.getpid()}:{role} {timestamp(now)} {mark} {text}", *traceback]
        self.stream.write("\n".join(lines) + "\n")
        self.stream.flush()


class Settings:
    """What ``observer`` makes; twistd's ``--logger`` calls it without arguments.

    Attributes:
        level: the threshold.
        open: returns the stream to write to.
    """

    def __init__(self) -> None:
        self.level = LogLevel.NOTICE
        self.open: Callable[[], Any] = lambda: sys.stdout


settings = Settings()


def observer() -> RedisLogObserver:
    """Make an observer as ``settings`` says: ``twistd --logger finn.redislog.observer``."""
    return RedisLogObserver(settings.open(), settings.level)
