"""Command line of the benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from contextlib import closing
from typing import Any, NoReturn

from benchmarks import cells, report
from benchmarks.cluster import Shape
from benchmarks.drivers import Driver, has_redis_benchmark
from benchmarks.extras import run_extras
from benchmarks.failover import run_failover
from benchmarks.measure import Measurement
from benchmarks.peers import run_etcd, run_redis
from benchmarks.processes import children, end_children

PARTS = ("cells", "peers", "failover", "extras")


def tell(text: str) -> None:
    """Tell of progress; the report alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def length(text: str) -> float:
    """Turn the text of a flag into seconds."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0 and finite, not {text!r}")
    return value


def count(text: str) -> int:
    """Turn the text of a flag into a number of runs."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text!r}")
    return value


def make_parser() -> argparse.ArgumentParser:
    """Return what parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures clusters of finn on this machine, and redis-server beside them.",
    )
    parser.add_argument("--quick", action="store_true", help="few cells, one short run of each")
    parser.add_argument(
        "--cells",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only cells whose name fits, as in 'set.*.P16'; may be given again",
    )
    parser.add_argument("--list", action="store_true", help="print the names of the cells")
    parser.add_argument(
        "--parts",
        default=None,
        metavar="PART,...",
        help=f"what to measure, of {', '.join(PARTS)} (cells and peers with --cells, else all)",
    )
    parser.add_argument("--seconds", type=length, help="length of a run (3; quick 1)")
    parser.add_argument("--runs", type=count, help="runs of each cell (3; quick 1)")
    parser.add_argument("--rounds", type=count, help="failovers (30; quick 3)")
    parser.add_argument(
        "--driver",
        choices=("redis-benchmark", "twisted"),
        default=None,
        help="what makes the load (redis-benchmark where it is installed)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file, too")
    return parser


def parse() -> argparse.Namespace:
    """Return the options; what is wrong is told before anything is measured."""
    parser = make_parser()
    options = parser.parse_args()
    quick = options.quick
    options.seconds = options.seconds or (1.0 if quick else 3.0)
    options.runs = options.runs or (1 if quick else 3)
    options.rounds = options.rounds or (3 if quick else 30)
    parts = options.parts or ("cells,peers" if options.cells else ",".join(PARTS))
    options.parts = parts.split(",")
    if wrong := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(wrong)}")
    for pattern in options.cells:
        if not cells.chosen(cells.matrix(), [pattern]):
            parser.error(f"no cell has a name like {pattern!r}, --list prints them")
    if options.driver is None:
        options.driver = "redis-benchmark" if has_redis_benchmark() else "twisted"
    if options.driver == "redis-benchmark" and not has_redis_benchmark():
        parser.error("redis-benchmark is not installed")
    if options.json and not options.list:
        is_new = not os.path.exists(options.json)
        try:
            open(options.json, "a").close()
        except OSError as error:
            parser.error(f"--json {options.json}: {error.strerror}")
        if is_new:
            os.unlink(options.json)
    return options


def ended(number: int, frame: Any) -> NoReturn:
    """End as by ^C, which clears processes and folders away; a second signal changes nothing."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    """Measure what the options say, and print the report."""
    options = parse()
    matrix = cells.matrix()
    if options.quick and not options.cells:
        matrix = cells.quick()
    matrix = cells.chosen(matrix, options.cells)
    if options.list:
        print("\n".join(cell.name for cell in matrix))
        return 0
    signal.signal(signal.SIGTERM, ended)
    driver = Driver(options.driver, options.seconds)
    found: dict[str, Any] = {"machine": report.machine(), "driver": options.driver}
    rows: list[dict[str, Any]] = []

    def collect(figures: Any) -> None:
        with closing(figures):
            for row in figures:
                rows.append(row)
                tell(f"{row['name']}: {row.get('error') or format(row['rps'], ',.0f')}")

    if "peers" in options.parts:
        # Only the loads of the default cluster: others would compare unlike things.
        collect(run_redis(driver, options.runs, [c.load for c in matrix if c.shape == Shape()]))
        collect(run_etcd(options.runs, options.seconds))
    if "cells" in options.parts:
        collect(Measurement(driver, options.runs, tell).run(matrix))
    report.against_redis(rows)
    found["cells"] = rows
    print(report.table(rows) if rows else "")
    if "failover" in options.parts:
        found["failover"] = run_failover(options.rounds, tell)
        print(report.facts("failover", found["failover"]))
    if "extras" in options.parts:
        found["extras"] = run_extras(options.quick, tell)
        for name, figures in found["extras"].items():
            print(report.facts(name, figures))
    print(report.facts("machine", found["machine"]))
    if options.json:
        report.save(options.json, found)
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    others = children()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        end_children(others)
