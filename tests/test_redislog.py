"""Tests of the Redis log format."""

from __future__ import annotations

import io
import os
import re
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.logger import ILogObserver, Logger
from twisted.logger import LogLevel as TwistedLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn import redislog
from finn.errors import StartFailed
from finn.options import LogLevel
from finn.redislog import RedisLogObserver

LINE = re.compile(
    r"^(\d+):([A-Z]) \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3} ([.\-*#]) (.*)$", re.DOTALL
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class RedisLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = io.StringIO()
        self.observer = RedisLogObserver(self.stream, LogLevel.DEBUG)

    def logger(self, namespace: str = "finn.node.service") -> Logger:
        return Logger(namespace=namespace, observer=self.observer)

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def parts(self) -> list[tuple[Any, ...]]:
        """Role, level and text of each line."""
        found = [LINE.match(line) for line in self.lines()]
        return [match.groups()[1:] for match in found if match is not None]

    def test_provides_the_observer_interface(self) -> None:
        """It is an ILogObserver."""
        verifyObject(ILogObserver, self.observer)

    def test_line_has_the_format(self) -> None:
        """A line is pid, role, time with year and milliseconds, level and text."""
        self.patch(redislog.time, "localtime", redislog.time.gmtime)
        self.observer({"log_time": 1795418099.386, "log_format": "entering {x}", "x": "Leader"})
        self.assertEqual(
            self.stream.getvalue(), f"{os.getpid()}:N 23 Nov 2026 07:14:59.386 * entering Leader\n"
        )

    def test_levels_have_their_characters(self) -> None:
        """Debug, verbose, notice and warnings have the characters of Redis."""
        log = self.logger()
        log.debug("a")
        log.debug("b", finn_verbose=True)
        log.info("c")
        log.warn("d")
        log.error("e")
        log.critical("f")
        self.assertEqual([part[1] for part in self.parts()], [".", "-", "*", "#", "#", "#"])

    def test_roles_come_from_the_namespace(self) -> None:
        """Store, links and machine have letters of their own; all else is the node's."""
        for namespace in (
            "finn.node.service",
            "finn.storage.fastlog.FastLog",
            "finn.protocols.link",
            "finn.machines.kv",
            "finn.storages",
            "other",
        ):
            self.logger(namespace).info(namespace)
        self.assertEqual([part[0] for part in self.parts()], ["N", "S", "L", "C", "N", "N"])

    def test_role_may_be_given(self) -> None:
        """The key log_role of an event decides."""
        self.logger().info("x", log_role="C")
        self.assertEqual(self.parts(), [("C", "*", "x")])

    def test_threshold(self) -> None:
        """Each level shows itself and those above it; quiet only why a process ends."""
        counts = {}
        for level in LogLevel:
            self.stream = io.StringIO()
            self.observer = RedisLogObserver(self.stream, level)
            log = self.logger()
            log.critical("a")
            log.warn("b")
            log.info("c")
            log.debug("d", finn_verbose=True)
            log.debug("e")
            counts[level.name] = len(self.lines())
        self.assertEqual(counts, {"QUIET": 1, "WARNING": 2, "NOTICE": 3, "VERBOSE": 4, "DEBUG": 5})

    def test_twisted_speaks_at_verbose(self) -> None:
        """What Twisted tells of itself is not for operators of a node; its warnings are."""
        log = self.logger("twisted.internet.base")
        log.info("a")
        log.warn("b")
        self.logger("log_legacy").info("Site starting on 80")
        self.assertEqual([part[1] for part in self.parts()], ["-", "#", "-"])

    def test_repeated_lines_are_dropped(self) -> None:
        """The same line within a millisecond is written once; later it is written again."""
        for time in (5.0, 5.0004, 5.0009, 5.002, 5.5):
            self.observer({"log_time": time, "log_format": "x"})
        self.assertEqual(len(self.lines()), 3)
        self.observer({"log_time": 5.5, "log_format": "y"})
        self.observer({"log_time": 5.5, "log_format": "x"})
        self.assertEqual(len(self.lines()), 5)

    def test_what_looks_the_same_is_the_same(self) -> None:
        """Events of two levels with the same words and the same character are one line."""
        for level in (TwistedLevel.error, TwistedLevel.critical):
            self.observer({"log_time": 5.0, "log_format": "disk full", "log_level": level})
        self.assertEqual(len(self.lines()), 1)

    def test_colors_on_a_terminal_only(self) -> None:
        """Escape sequences go to terminals, and nowhere else."""
        self.logger().warn("x")
        self.assertNotIn("\x1b", self.stream.getvalue())
        self.stream = Terminal()
        self.observer = RedisLogObserver(self.stream)
        self.logger().warn("x")
        self.assertIn("\x1b[33m#\x1b[0m x", self.stream.getvalue())

    def test_expected_failures_take_one_line(self) -> None:
        """What is part of life is told with its reason and without a traceback."""
        for error in (StartFailed("busy"), ConnectionLost("gone"), OSError(28, "disk full")):
            self.logger().failure("cannot go on", Failure(error))
        self.assertEqual(len(self.lines()), 3)
        self.assertIn("cannot go on: busy", self.lines()[0])

    def test_bugs_show_their_traceback(self) -> None:
        """Any other failure is a bug: its traceback stands below the line."""
        try:
            raise KeyError("lost")
        except KeyError:
            self.logger().failure("machine failed")
        self.assertRegex(self.lines()[0], r" # machine failed$")
        self.assertIn("KeyError", self.lines()[-1])

    def test_legacy_errors_show_their_traceback_once(self) -> None:
        """Events of the old log module are understood."""
        self.observer(
            {
                "log_format": "{log_legacy}",
                "log_legacy": "Unhandled in reactor\nTraceback...",
                "log_failure": Failure(KeyError("lost")),
                "why": "while reading",
            }
        )
        self.assertRegex(self.lines()[0], r"while reading$")
        self.assertEqual(self.stream.getvalue().count("Traceback"), 1)

    def test_text_cannot_forge_lines(self) -> None:
        """Line ends and control characters from clients do not reach the stream."""
        self.logger().info("{name}", name="a\r\n1:N 01 Jan \x1b[2J")
        self.assertEqual(len(self.lines()), 1)
        self.assertNotIn("\x1b", self.stream.getvalue())

    def test_factory_follows_the_settings(self) -> None:
        """Twistd calls the factory without arguments: stream and level come from the settings."""
        self.patch(redislog.settings, "open", lambda: self.stream)
        self.patch(redislog.settings, "level", LogLevel.WARNING)
        self.observer = redislog.observer()
        self.logger().info("hidden")
        self.logger().warn("shown")
        self.assertEqual(self.parts(), [("N", "#", "shown")])
