"""Runs tests on one copy of finn: ``python -m tests.mutants.child COPY TEST...``."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from itertools import takewhile
from pathlib import Path

from hypothesis import HealthCheck, settings

# Exit codes: another finn than that of the copy was imported; tests cannot be imported.
WRONG_COPY = 70
NO_TESTS = 71


def main(arguments: list[str]) -> int:
    """Run the tests; returns 0 when all passed."""
    copy, *names = arguments
    import finn

    print(f"finn is {finn.__file__}")
    if not Path(finn.__file__).is_relative_to(copy):
        return WRONG_COPY
    tests = [name for name in names if not name.startswith("seed ")]
    # Before the tests are imported: the same examples in every run, however busy the computer is.
    everything = list(HealthCheck)
    settings.register_profile(
        "mutants", derandomize=True, deadline=None, suppress_health_check=everything
    )
    settings.load_profile("mutants")
    try:
        for test in tests:
            import_module(".".join(takewhile(str.islower, test.split("."))))
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return NO_TESTS
    if not all(_run_seed(name) for name in names if name not in tests):
        return 1
    return _trial(tests) if tests else 0


def _run_seed(name: str) -> bool:
    from finn.testing.simulate import run_seed

    _, seed, seconds = name.split()
    try:
        run_seed(int(seed), float(seconds))
    except Exception as e:
        print(f"{type(e).__name__}: {e}\n{name}")
        return False
    return True


def _trial(tests: list[str]) -> int:
    from twisted.scripts.trial import run

    sys.argv = ["trial", "--reporter=text", "--temp-directory=_trial", *tests]
    try:
        run()
    except SystemExit as e:
        return int(bool(e.code))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
