"""The table of mutants is true: patches fit, tests exist, and some guards are taken out here."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.mutants import docs
from tests.mutants.__main__ import main
from tests.mutants.bugs import BUGS, NOT_APPLICABLE
from tests.mutants.mutant import Moved, Mutant, mutant
from tests.mutants.running import Fate, examine
from tests.mutants.table import MUTANTS
from tests.source import ROOT

#: Mutants that are caught within a second, from the core, the files, the links and the node.
QUICK = (
    "commits-earlier-terms-by-counting",
    "checksums-are-not-compared",
    "proof-can-be-reflected",
    "another-leaders-entry-is-taken-for-ours",
)


def exists(test: str) -> bool:
    """Say whether a name is that of a test, or of a class of tests."""
    found: Any = None
    parts = test.split(".")
    for at in range(2, len(parts) + 1):
        name = ".".join(parts[:at])
        try:
            found = import_module(name)
        except ModuleNotFoundError:
            break
    for part in parts[at - 1 :]:
        found = getattr(found, part, None)
    return found is not None


class TableTests(SynchronousTestCase):
    def test_every_patch_fits(self) -> None:
        """Each patch finds its text exactly once, and what it makes is Python."""
        wrong = []
        for each in MUTANTS.values():
            try:
                each.apply(ROOT, write=False)
            except (Moved, SyntaxError) as e:
                wrong.append(f"{each.name}: {e}")
        self.assertEqual(wrong, [], "the code has moved: change the patches in tests/mutants")

    def test_every_test_exists(self) -> None:
        """Each mutant names tests, and they are there."""
        tests = {test for each in MUTANTS.values() for test in each.tests}
        missing = [t for t in sorted(tests) if not (t.startswith("seed ") or exists(t))]
        self.assertEqual(missing, [])
        self.assertEqual([m.name for m in MUTANTS.values() if not m.tests], [])
        self.assertFalse(exists("tests.raft.test_bugs.ElectionBugTests.test_nothing"))
        self.assertFalse(exists("tests.raft.test_nothing.Tests"))

    def test_every_bug_has_a_mutant(self) -> None:
        """Or a reason why finn cannot have it."""
        covered = {each.bug for each in MUTANTS.values()}
        self.assertEqual(covered | set(NOT_APPLICABLE), set(BUGS))
        self.assertEqual(covered & set(NOT_APPLICABLE), set())

    def test_the_document_has_the_table(self) -> None:
        """``docs/correctness.md`` says what the table says."""
        written = docs.table_of(docs.PATH.read_text())
        self.assertEqual(
            written, docs.render_table().strip(), "run python -m tests.mutants --write-docs"
        )


class RunTests(SynchronousTestCase):
    def test_quick_ones_are_caught(self) -> None:
        """Taking out a guard is noticed."""
        for name in QUICK:
            report = examine(MUTANTS[name])
            self.assertIs(report.fate, Fate.CAUGHT, report)

    def fate(self, old: str, new: str, *tests: str, timeout: float = 60.0) -> Fate:
        made: Mutant = mutant("made up", "1.1", "finn/raft/configuration.py", old, new, *tests)
        return examine(made, timeout).fate

    def test_what_else_may_become_of_one(self) -> None:
        """A mutant survives, does not fit, breaks everything, or hangs."""
        test = "tests.raft.test_words.ConfigurationTests.test_look_up"
        guard, without = "return len(self.voters) // 2 + 1", "return len(self.voters) // 2"
        self.assertIs(self.fate(guard, without, test), Fate.SURVIVED)
        self.assertIs(self.fate("text that is nowhere", "", test), Fate.MOVED)
        self.assertIs(self.fate("import json\n", "import json_of_old\n", test), Fate.BROKEN)
        hang = "while True:\n            pass"
        get = "return next((m for m in self.members if m.id == member_id), None)"
        self.assertIs(self.fate(get, hang, test, timeout=5.0), Fate.CAUGHT)

    def test_list(self) -> None:
        """``--list`` runs nothing."""
        self.patch(sys, "stdout", io.StringIO())
        self.assertEqual(main(["--list"]), 0)
