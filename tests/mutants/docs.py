"""The table of ``docs/correctness.md``: bug, guard, mutants, and the tests that notice."""

from __future__ import annotations

from tests.mutants.bugs import BUGS, NOT_APPLICABLE, SECTIONS
from tests.mutants.table import MUTANTS
from tests.source import ROOT

PATH = ROOT / "docs" / "correctness.md"
BEGIN = "<!-- written by: python -m tests.mutants --write-docs -->"
END = "<!-- end of what is written -->"


def render_table() -> str:
    """Return the table, one part for each section."""
    lines: list[str] = []
    for section, title in SECTIONS.items():
        lines += [f"### {section}. {title}", "", "| bug | guard in | mutant | test |"]
        lines.append("| --- | --- | --- | --- |")
        for bug, text in BUGS.items():
            if bug.partition(".")[0] == section:
                lines += _rows(bug, text)
        lines.append("")
    return "\n".join(lines)


def _rows(bug: str, text: str) -> list[str]:
    rows = []
    said = f"**{bug}** {text}"
    if bug in NOT_APPLICABLE:
        rows.append(f"| {said} | does not apply: {NOT_APPLICABLE[bug]} | | |")
    for mutant in MUTANTS.values():
        if mutant.bug == bug:
            files = "<br>".join(f"`{file}`" for file in mutant.files)
            tests = "<br>".join(f"`{_short(test)}`" for test in mutant.tests)
            rows.append(f"| {said} | {files} | `{mutant.name}` | {tests} |")
            said = ""
    return rows


def _short(test: str) -> str:
    """Leave out what every name has."""
    return test.removeprefix("tests.")


def table_of(text: str) -> str:
    """Return the written part of the document."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def write_table() -> None:
    """Write the table into the document."""
    text = PATH.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PATH.write_text(f"{before}{BEGIN}\n\n{render_table()}\n{END}{after}")
