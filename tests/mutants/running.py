"""Scratch copies of finn, and the child processes that run tests on them."""

from __future__ import annotations

import enum
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.child import NO_TESTS, WRONG_COPY
from tests.mutants.mutant import Moved, Mutant
from tests.source import ROOT

#: Seconds for the tests of one mutant: they take one or two, so a longer run hangs.
TIMEOUT = 40.0
#: What is not copied: temporary folders, and bytecode that another process is about to rename.
IGNORED = shutil.ignore_patterns("_trial*", "*.pyc.*")
#: Lines of a child's output that are kept for people.
SHOWN_LINES = 25

#: What a patch causes that is nonsense: no guard fails so.
_NONSENSE = re.compile(r"\b(NameError|UnboundLocalError|SyntaxError|ImportError)\b")
_FAILED = re.compile(r"^(tests\.[\w.]+|seed \d+ [\d.]+)$", re.MULTILINE)


class Fate(enum.Enum):
    """What became of a mutant; all but ``CAUGHT`` are failures of the proof."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    MOVED = "DOES NOT APPLY"
    BROKEN = "BROKEN"


@dataclass
class Report:
    """How a run ended: ``by`` is the test that noticed, or what is wrong."""

    name: str
    fate: Fate
    by: str
    seconds: float


@contextmanager
def scratch_copy() -> Iterator[Path]:
    """Make a copy of finn and its tests, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="finn-mutant-") as folder:
        root = Path(folder).resolve()
        for name in ("finn", "tests", "examples"):
            shutil.copytree(ROOT / name, root / name, ignore=IGNORED)
        yield root


def run_tests(root: Path, tests: Sequence[str], timeout: float) -> tuple[int | None, str]:
    """Run tests on a copy; returns the exit code, None if it hangs, and the output."""
    environment = dict(os.environ, PYTHONPATH=str(root), PYTHONHASHSEED="0")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mutants.child", str(root), *tests],
        cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # With whatever it started: tests have processes of their own.
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output
    return process.returncode, output


def examine(mutant: Mutant, timeout: float = TIMEOUT) -> Report:
    """Take the guard out of a copy, run the tests, and say what they noticed."""
    began = time.monotonic()

    def report(fate: Fate, by: str) -> Report:
        return Report(mutant.name, fate, by, time.monotonic() - began)

    with scratch_copy() as root:
        try:
            mutant.apply(root)
        except Moved as e:
            return report(Fate.MOVED, str(e))
        code, output = run_tests(root, mutant.tests, timeout)
    if code is None:
        return report(Fate.CAUGHT, f"{', '.join(mutant.tests)} (hangs)")
    if code == 0:
        return report(Fate.SURVIVED, ", ".join(mutant.tests))
    noticed = [name for name in _FAILED.findall(output) if _is_of(name, mutant.tests)]
    if code in (WRONG_COPY, NO_TESTS) or _NONSENSE.search(output) or not noticed:
        return report(Fate.BROKEN, "\n".join(output.splitlines()[-SHOWN_LINES:]))
    return report(Fate.CAUGHT, ", ".join(dict.fromkeys(noticed)))


def _is_of(name: str, tests: Sequence[str]) -> bool:
    return any(name == test or name.startswith(test + ".") for test in tests)


def check_unharmed(mutants: Sequence[Mutant], timeout: float) -> str:
    """Run all their tests on finn as it is; returns what is wrong, empty if nothing."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with scratch_copy() as root:
        code, output = run_tests(root, tests, timeout)
    return "" if code == 0 else "\n".join(output.splitlines()[-4 * SHOWN_LINES :])
