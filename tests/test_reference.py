"""The reference of commands."""

from __future__ import annotations

import io
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.machines.kv import KV
from finn.node.commands import BUILTINS
from finn.reference import main, reference
from tests.source import ROOT


class Echoing(finn.Machine):
    """Hides one built-in command, and cannot hide another."""

    @finn.write("ECHO")
    def echo(self, call: Any, text: bytes) -> bytes:
        """Answer twice."""
        return text * 2

    @finn.read("PING")
    def ping(self, call: Any) -> None:
        """Be never reached."""


class ReferenceTests(SynchronousTestCase):
    """docs/commands.md, and the same for other machines."""

    def test_the_file_is_up_to_date(self) -> None:
        """docs/commands.md is what ``python -m finn.reference`` prints."""
        text = (ROOT / "docs" / "commands.md").read_text("utf-8")
        self.assertEqual(text, reference(KV()), "run python -m finn.reference > docs/commands.md")

    def test_every_command_has_a_row(self) -> None:
        """Each command is there, once, with a summary."""
        rows = [row for row in reference(KV()).splitlines() if row.startswith("| `")]
        names = [row.split("`")[1] for row in rows]
        wanted = {name.decode() for name in [*BUILTINS, *KV.__finn_commands__]}
        self.assertEqual((len(names), set(names)), (len(wanted), wanted))
        for row in rows:
            self.assertRegex(row, r"\| (write|read|local|managing) \| [A-Z].*\. \|$")

    def test_other_machines(self) -> None:
        """The reference of another machine says which of two commands of a name is run."""
        text = reference(Echoing(), " some:Machine")
        self.assertIn("`python -m finn.reference some:Machine`", text)
        self.assertIn("| `ECHO` | `text` | write | Answer twice. |", text)
        self.assertNotIn("Answer the message.", text)
        self.assertNotIn("Be never reached.", text)

    def test_command_line(self) -> None:
        """It prints, or ends with one line."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        main(["finn.machines.kv:KV"])
        self.assertIn("## Strings", out.getvalue())
        for words in (["none:None"], ["x"], ["--help"], ["a:b", "c:d"]):
            with self.assertRaises(SystemExit) as raised:
                main(words)
            self.assertEqual(len(str(raised.exception.code).splitlines()), 1, words)
