"""The command line of the cluster client: flags, rendering, exit codes that need no cluster."""

from __future__ import annotations

import io
import os
import sys

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from finn.commandline import USAGE, ClientOptions, main, render, secret_of, split_words, tls_of
from finn.errors import CommandError, StartFailed


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
