"""README and docs say what the code has."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from finn.node.commands import BUILTINS
from finn.tap import Options
from finn.testing.applier import FakeApplier
from tests.source import ROOT

README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def section(title: str) -> str:
    """Return the text of the README under a heading, those below it included."""
    level = re.search(rf"^(#+) {re.escape(title)}$", README, re.MULTILINE)
    assert level is not None, title
    rest = README[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def first_column(text: str) -> str:
    """Return the first cells of the tables of a text."""
    return "\n".join(line.split(" | ")[0] for line in text.splitlines() if line.startswith("| "))


class ReadmeTests(SynchronousTestCase):
    def test_options_are_told(self) -> None:
        """The table of options has every option, and no other."""
        rows = [*Options.optParameters, *Options.optFlags]
        told = re.findall(r"--([a-z][a-z-]+)", first_column(section("Options").split("###")[0]))
        self.assertEqual(sorted(told), sorted(row[0] for row in rows))

    def test_commands_are_told(self) -> None:
        """The table of commands has every built-in command, and no other."""
        told = re.findall(r"\b[A-Z]{4,}\b", first_column(section("Commands")))
        self.assertEqual(sorted(told), sorted(name.decode() for name in BUILTINS))

    def test_example_machine_works(self) -> None:
        """The machine of the README does what the README says, and so does its test."""
        blocks = re.findall(r"```python\n(.*?)```", section("A machine"), re.DOTALL)
        self.assertLessEqual(len(blocks[0].splitlines()), 20)
        names: dict[str, object] = {}
        exec(compile("\n".join(blocks), "README.md", "exec"), names)
        applier = FakeApplier(names["Tickets"]())  # type: ignore[operator]
        self.assertEqual(applier.execute("TICKET", "bakery"), 1)
        self.assertEqual(applier.execute("TICKET", "bakery", "9"), 10)
        self.assertEqual(applier.execute("LAST", "bakery"), 10)
        self.assertIsNone(applier.execute("LAST", "butcher"))

    def test_links_lead_somewhere(self) -> None:
        """Files that the documents name are there."""
        for text in (README, OPERATIONS):
            for target in re.findall(r"\]\(([^):]+)\)", text):
                self.assertTrue((ROOT / target).exists(), target)
            for target in re.findall(r"`((?:finn|examples|docs|\.ci)/[\w/.]+)`", text):
                self.assertTrue((ROOT / target).exists(), target)

    def test_metrics_of_the_docs_exist(self) -> None:
        """The figures to alert on are figures of a node."""
        source = (ROOT / "finn" / "node" / "status.py").read_text()
        for name in set(re.findall(r"finn_([a-z_]+)", OPERATIONS)) - {"role"}:
            self.assertRegex(source, rf"\b{name.removesuffix('_total')}")
