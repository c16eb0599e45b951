"""``python -m tests.mutants``: take out each guard in turn and see that a test notices.

::

    python -m tests.mutants               all of them, two at a time
    python -m tests.mutants -j 8          more at a time
    python -m tests.mutants --only NAME   some of them
    python -m tests.mutants --list        what there is, nothing is run
    python -m tests.mutants --write-docs  write the table of docs/correctness.md anew

The exit code is 0 when none survived.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.mutants.docs import write_table
from tests.mutants.mutant import Mutant
from tests.mutants.running import TIMEOUT, Fate, Report, check_unharmed, examine
from tests.mutants.table import MUTANTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="may be given repeatedly")
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--write-docs", action="store_true", help="run nothing")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for each")
    options = parser.parse_args(arguments)
    chosen = list(MUTANTS.values())
    if options.only:
        unknown = [name for name in options.only if name not in MUTANTS]
        if unknown:
            parser.error(f"there is no mutant {', '.join(unknown)}")
        chosen = [MUTANTS[name] for name in options.only]
    if options.write_docs:
        write_table()
        return 0
    if options.list:
        for mutant in chosen:
            print(f"{mutant.bug:6} {mutant.name:36} {', '.join(mutant.files)}")
        return 0
    return _run(chosen, options.jobs, options.timeout)


def _run(mutants: Sequence[Mutant], jobs: int, timeout: float) -> int:
    began = time.monotonic()
    wrong = check_unharmed(mutants, timeout * 10)
    if wrong:
        print(f"the tests do not even pass on finn as it is:\n{wrong}")
        return 1
    print(f"all tests pass on finn as it is ({time.monotonic() - began:.0f} s)", flush=True)
    reports: list[Report] = []
    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(examine, m, timeout) for m in mutants]):
            report = done.result()
            reports.append(report)
            print(f"{report.fate.value:8} {report.name} ({report.seconds:.1f} s): {report.by}")
            sys.stdout.flush()
    bad = [report for report in reports if report.fate is not Fate.CAUGHT]
    print(f"{len(reports)} mutants, {len(reports) - len(bad)} caught", end="")
    print(f" in {time.monotonic() - began:.0f} s")
    for report in bad:
        print(f"{report.fate.value}: {report.name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
