"""The command line of the cluster client: flags, rendering, exit codes that need no cluster."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from finn import commandline
from finn.commandline import (
    FAILED,
    UNKNOWN,
    UNWRITTEN,
    USAGE,
    ClientOptions,
    main,
    render,
    secret_of,
    split_words,
    tls_of,
)
from finn.errors import CommandError, OutcomeUnknown, StartFailed
from tests.source import ROOT


class OptionTests(SynchronousTestCase):
    """Flags, addresses and the command."""

    def parse(self, *words: str) -> ClientOptions:
        """Parse a command line."""
        options = ClientOptions()
        options.parseOptions(list(words))
        return options

    def test_addresses_and_command(self) -> None:
        """Addresses end at the first word that is none, whatever comes later."""
        for words, addresses, command in (
            (":1 GET k", [":1"], ["GET", "k"]),
            (":1 host:2 [::1]:3 SET a:1 b:2", [":1", "host:2", "[::1]:3"], ["SET", "a:1", "b:2"]),
            ("GET :1", [], ["GET", ":1"]),
            (":1 :2", [":1", ":2"], []),
        ):
            self.assertEqual(split_words(words.split()), (addresses, command), words)

    def test_flags(self) -> None:
        """Flags come before the addresses; those of the command are its own."""
        options = self.parse("--timeout", "2.5", ":1", "SET", "k", "v", "--timeout", "3")
        self.assertEqual(options["timeout"], 2.5)
        self.assertEqual(options.words[-2:], ["--timeout", "3"])
        self.assertEqual(self.parse(":1", "PING")["timeout"], 10.0)

    def test_wrong_usage(self) -> None:
        """Wrong usage is one line on standard error and an exit code of its own."""
        for words in (
            [], ["nonsense"], [":1"], ["--nonsense"], ["-t", "x", ":1", "PING"],
            ["--tls-cert", "c", ":1", "PING"], ["--tls-key", "c", ":1", "PING"],
        ):  # fmt: skip
            err = io.StringIO()
            self.patch(sys, "stderr", err)
            with self.assertRaises(SystemExit) as raised:
                main(words)
            self.assertEqual(raised.exception.code, USAGE, words)
            self.assertEqual(err.getvalue().count("\n"), 1, words)

    def test_addresses_in_one_word(self) -> None:
        """They are not taken for a command, nor for none; commas elsewhere say nothing."""
        for words in (":1,:2 GET a", ":1 host:2,:3 GET a", ":1,GET a"):
            with self.assertRaisesRegex(usage.UsageError, "addresses are words of their own"):
                self.parse(*words.split())
        self.assertEqual(self.parse(":1", "SET", "a", ":1,:2").words, ["SET", "a", ":1,:2"])
        self.assertEqual(self.parse(":1", "odd,name").words, ["odd,name"])

    def test_usage_errors_are_twisteds(self) -> None:
        """Another program that uses these options gets the usual exception."""
        with self.assertRaises(usage.UsageError):
            self.parse("PING")

    def test_secret(self) -> None:
        """From the file that is named, else from the environment, else none."""
        self.patch(os, "environ", {"FINN_SECRET": "e"})
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("# who may come in\nopen sesame\nclient lesser\n")
        os.chmod(path, 0o600)
        self.assertEqual(secret_of(self.parse("--auth-file", path, ":1", "PING")), "open sesame")
        self.assertEqual(secret_of(self.parse(":1", "PING")), "e")
        self.patch(os, "environ", {})
        self.assertIs(secret_of(self.parse(":1", "PING")), None)
        with self.assertRaises(OSError):
            secret_of(self.parse("--auth-file", path + "none", ":1", "PING"))

    def test_tls(self) -> None:
        """TLS is used when there is a certificate, which must be readable."""
        self.assertIs(tls_of(self.parse(":1", "PING")), None)
        options = self.parse("--tls-cert", "none.pem", "--tls-key", "none.key", ":1", "PING")
        with self.assertRaises(StartFailed):
            tls_of(options)


class StubClient:
    """Stands for the cluster client: answers at once."""

    reply: Any = b"OK"
    asked: list[tuple[Any, ...]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Connect to nobody."""

    async def execute(self, *words: Any) -> Any:
        """Answer, or fail."""
        self.asked.append(words)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def close(self) -> None:
        """Nothing is open."""


class RunTests(SynchronousTestCase):
    """What is written where, and the exit codes."""

    def setUp(self) -> None:
        self.patch(commandline, "ClusterClient", StubClient)
        self.patch(StubClient, "asked", [])
        self.err = io.StringIO()
        self.patch(sys, "stderr", self.err)

    def run_command(self, out: Any, reply: Any = b"OK", *words: str) -> int:
        """Run a command whose reply is this; return the exit code."""
        self.patch(StubClient, "reply", reply)
        self.patch(sys, "stdout", out)
        options = ClientOptions()
        options.parseOptions([":1", *(words or ("PING",))])
        return self.successResultOf(Deferred.fromCoroutine(commandline.run(None, options)))

    def full(self) -> Any:
        """Return a stream that cannot be written to."""
        out = open("/dev/full", "w")  # noqa: SIM115
        self.addCleanup(out.close)
        return out

    def test_output_that_fails(self) -> None:
        """Has an exit code of its own and a line: the command succeeded. Nothing is left to do."""
        out = self.full()
        self.assertEqual(self.run_command(out, 7), UNWRITTEN)
        self.assertEqual(
            self.err.getvalue(),
            "the command succeeded, its reply could not be written: No space left on device\n",
        )
        out.flush()
        self.assertEqual(self.run_command(None), UNWRITTEN)
        closed = self.full()
        closed.close()
        self.assertEqual(self.run_command(closed), UNWRITTEN)

    def test_errors_that_cannot_be_written(self) -> None:
        """The exit code tells what happened, whatever becomes of the text."""
        self.patch(sys, "stderr", self.full())
        self.assertEqual(self.run_command(io.StringIO(), OutcomeUnknown()), UNKNOWN)
        self.assertEqual(self.run_command(io.StringIO(), CommandError("ERR no")), FAILED)
        self.assertEqual(self.run_command(self.full()), UNWRITTEN)

    def test_encoding_of_the_terminal(self) -> None:
        """What it cannot show is escaped; it is no error."""
        for encoding, shown in (
            ("ascii", b"\\xfc\\u20ac\n"), ("latin-1", b"\xfc\\u20ac\n"),
            ("utf-8", "ü€\n".encode()),
        ):  # fmt: skip
            data = io.BytesIO()
            out = io.TextIOWrapper(data, encoding=encoding)
            self.assertEqual(self.run_command(out, "ü€".encode()), 0)
            self.assertEqual(data.getvalue(), shown)
        text = io.StringIO()
        self.assertEqual(self.run_command(text, "ü€".encode()), 0)
        self.assertEqual(text.getvalue(), "ü€\n")

    def test_arguments_of_any_bytes(self) -> None:
        """They are sent as they were typed, and only what is text can be an address."""
        words = [os.fsdecode(word) for word in (b"SET", "ü".encode(), b"\xff")]
        self.assertEqual(self.run_command(io.StringIO(), b"OK", *words), 0)
        self.assertEqual(StubClient.asked, [(b"SET", "ü".encode(), b"\xff")])
        self.assertEqual(split_words([":1", os.fsdecode(b"\xff:1")])[0], [":1"])

    def test_codes_are_documented(self) -> None:
        """In the help, the module and the documentation."""
        text = (ROOT / "docs" / "clients.md").read_text()
        for place in (str(ClientOptions()), str(commandline.__doc__), text):
            for code in (FAILED, UNKNOWN, USAGE, UNWRITTEN):
                self.assertRegex(" ".join(place.split()), f"\\b{code}\\b")


class RenderTests(SynchronousTestCase):
    """Replies for people."""

    def test_render(self) -> None:
        """One line per element; what is no text is shown escaped."""
        for value, text in (
            (None, "(nil)"), (b"v", "v"), (b"\xff", "\\xff"), ("ü".encode(), "ü"), (7, "7"),
            ([], "(empty)"), ([b"a", None, [b"b", 1]], "a\n(nil)\nb\n1"),
            ([CommandError("ERR no")], "(error) ERR no"),
        ):  # fmt: skip
            self.assertEqual(render(value), text)
