"""Transcripts: scripts in ``traces/*.txt`` with everything that they make the nodes do.

A file holds blocks: commands (see ``trace.Script``), a line ``----``, what happened. With
``FINN_REWRITE=1`` the second halves are written anew: review the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.trace import Script

TRACES = Path(__file__).parent / "traces"


def replay(text: str) -> str:
    """Run the commands of a file and return it with what they really did."""
    script = Script()
    done: list[str] = []
    for block in text.split("\n\n"):
        lines = block.strip().split("\n")
        if lines == [""]:
            continue
        commands = lines[: lines.index("----")] if "----" in lines else lines
        done += commands
        happened: list[str] = []
        for command in commands:
            if not command.startswith("#"):
                happened += script.command(command)
        if any(not c.startswith("#") for c in commands):
            done += ["----", *(happened or ["(nothing)"])]
        done.append("")
    return "\n".join(done)


class TraceTests(SynchronousTestCase):
    """Every transcript is what the core does."""

    maxDiff = None


def _add(path: Path) -> None:
    def test(self: TraceTests) -> None:
        text = path.read_text()
        got = replay(text)
        if os.environ.get("FINN_REWRITE"):
            path.write_text(got)
        elif got != text:
            self.assertEqual(got.split("\n"), text.split("\n"))

    test.__doc__ = text_of_first_comment(path)
    setattr(TraceTests, f"test_{path.stem}", test)


def text_of_first_comment(path: Path) -> str:
    """The first line of a transcript says what it shows."""
    return path.read_text().split("\n", 1)[0].lstrip("# ")


for _path in sorted(TRACES.glob("*.txt")):
    _add(_path)
