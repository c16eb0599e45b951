"""Tests of what the benchmarks reckon; what they measure is measured by running them."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import __main__ as program
from benchmarks import cells, load, measure, report
from benchmarks.processes import (
    Process,
    Usage,
    children,
    end_children,
    processor_ticks,
    wait_until,
)
from tests.source import ROOT


class CellsTests(SynchronousTestCase):
    def test_names_are_unique(self) -> None:
        """Each cell of the matrix has a name of its own, so that runs can be compared."""
        names = [cell.name for cell in cells.matrix()]
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("set.c50.P16", names)
        self.assertIn("durability-high.set.c1.P1", names)
        self.assertIn("set.1MiB.c50.P1", names)

    def test_patterns_choose(self) -> None:
        """Patterns are those of the shell, and any may fit."""
        found = cells.chosen(cells.matrix(), ["set.c1.P*", "5-node.get.c50.P64"])
        self.assertEqual(
            [cell.name for cell in found],
            ["set.c1.P1", "set.c1.P16", "set.c1.P64", "5-node.get.c50.P64"],
        )

    def test_quick_is_a_part(self) -> None:
        """The quick cells are cells of the matrix."""
        self.assertLessEqual(set(cells.quick()), set(cells.matrix()))


class OptionTests(SynchronousTestCase):
    def refused(self, *words: str) -> str:
        """Return the last line of a command line that is refused, before anything is measured."""
        error = io.StringIO()
        with (
            patch.object(sys, "argv", ["benchmarks", *words]),
            patch.object(sys, "stderr", error),
            self.assertRaises(SystemExit) as raised,
        ):
            program.parse()
        self.assertEqual(raised.exception.code, 2)
        return error.getvalue().splitlines()[-1]

    def test_numbers(self) -> None:
        """Times and counts are above nothing, and there is an end to them."""
        for flag, wrong in (
            ("--seconds", ("nan", "inf", "-1", "0", "x")),
            ("--runs", ("0", "-1", "1.5")),
            ("--rounds", ("0", "-1", "nan")),
        ):
            for text in wrong:
                self.assertIn(flag, self.refused(flag, text))

    def test_patterns_that_fit_nothing(self) -> None:
        """Each pattern has to fit a cell: else its cells were not measured and nobody told."""
        for pattern in ("nonsense", "(", "[", "set"):
            self.assertIn(repr(pattern), self.refused("--cells", "set.*", "--cells", pattern))

    def test_figures_that_could_not_be_saved(self) -> None:
        """The file is tried first, not after an hour."""
        self.assertIn("No such file", self.refused("--json", "/nonexistent/x"))
        self.assertIn("Is a directory", self.refused("--json", "/"))

    def test_options_that_fit(self) -> None:
        """They are taken as they are; the file is not touched for a list."""
        path = self.mktemp()
        words = ["--seconds", "0.5", "--runs", "2", "--cells", "set.*", "--json", path, "--list"]
        with patch.object(sys, "argv", ["benchmarks", *words]):
            options = program.parse()
        self.assertEqual((options.seconds, options.runs, options.rounds), (0.5, 2, 30))
        self.assertFalse(os.path.exists(path))


class EndTests(SynchronousTestCase):
    def inside(self, folder: Path) -> list[int]:
        """Return the processes that work in a folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(folder) in os.readlink(process / "cwd"):
                    found.append(int(process.name))
        return found

    def test_sigterm_leaves_nothing_behind(self) -> None:
        """It ends the processes of a cluster, and removes what they wrote, as ^C does."""
        outside, folder = Path(self.mktemp()).resolve(), Path(self.mktemp()).resolve()
        folder.mkdir()
        words = ["--cells", "1-node.set.c1.P1", "--parts", "cells", "--driver", "twisted"]
        command = [sys.executable, "-m", "benchmarks", *words, "--seconds", "600"]
        variables = {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        run = Process(command, outside, variables)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in self.inside(folder)])
        self.addCleanup(run.kill)
        run.start()
        wait_until(lambda: bool(self.inside(folder)), "a node")
        run.signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 128 + signal.SIGTERM, run.tail())
        self.assertEqual(self.inside(folder), [])
        self.assertEqual(list(folder.iterdir()), [])
        self.assertNotIn("Traceback", run.log.read_text())

    def test_a_process_that_nobody_knows_of(self) -> None:
        """It is ended, but not those that were there before."""
        before, after = [Process(["sleep", "600"], Path(self.mktemp())) for _ in range(2)]
        for process in (before, after):
            self.addCleanup(process.kill)
        before.start()
        others = children()
        after.start()
        end_children(others)
        self.assertEqual(after.wait(), -signal.SIGKILL)
        self.assertTrue(before.running)

    def test_children_of_another_program(self) -> None:
        """A shell that replaces itself by the benchmark leaves its own, which go on."""
        folder = Path(self.mktemp()).resolve()
        script = f"sleep 600 & exec {sys.executable} -m benchmarks --list"
        run = Process(["/bin/sh", "-c", script], folder, {"PYTHONPATH": str(ROOT)})
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in self.inside(folder)])
        run.start()
        self.assertEqual(run.wait(), 0, run.tail())
        self.assertEqual(len(self.inside(folder)), 1)


class FiguresTests(SynchronousTestCase):
    def test_medians(self) -> None:
        """Each figure is the median of its runs."""
        runs = [{"rps": 3.0, "p50_ms": 1}, {"rps": 1.0, "p50_ms": 2}, {"rps": 2.0, "p50_ms": 9}]
        self.assertEqual(measure.medians(runs), {"rps": 2.0, "p50_ms": 2})

    def test_processor_time(self) -> None:
        """CPU is milliseconds per 1000 requests."""
        self.assertEqual(measure.spent(Usage(1.0, 0, 0), Usage(3.0, 0, 0), 100_000), 20.0)

    def test_time_that_the_host_took(self) -> None:
        """It is a part of all time, of which the kernel keeps counts."""
        self.assertEqual(measure.stolen([5] * 8, [5, 5, 5, 65, 5, 5, 5, 25]), 0.25)
        self.assertEqual(measure.stolen([5] * 8, [5] * 8), 0.0)
        self.assertEqual(len(processor_ticks()), 8)
        self.assertGreater(sum(processor_ticks()), 0)

    def test_usage_of_a_process(self) -> None:
        """Time and memory come from the kernel, whatever the name of the process has in it."""
        process = Process(["x"], Path(self.mktemp()))
        with patch.object(Process, "pid", os.getpid()):
            usage = process.usage()
        self.assertGreater(usage.cpu, 0)
        self.assertGreaterEqual(usage.peak, usage.memory)
        self.assertGreater(usage.memory, 1 << 20)

    def test_comparison_with_redis(self) -> None:
        """A cell is compared with redis-server under the very same load."""
        same = {"command": "set", "clients": 1, "pipeline": 1, "value_bytes": 64}
        rows = [
            {"name": "redis", "peer": "redis-server", "rps": 200.0, **same},
            {"name": "ours", "rps": 50.0, **same},
            {"name": "other", "rps": 50.0, **same, "clients": 2},
        ]
        report.against_redis(rows)
        self.assertEqual([row.get("against_redis") for row in rows], [None, 0.25, None])

    def test_table(self) -> None:
        """The table shows what there is, and what failed."""
        rows = [{"name": "a", "rps": 12345.6, "p50_ms": 0.5}, {"name": "b", "error": "no"}]
        lines = report.table(rows).splitlines()
        self.assertEqual(len(lines), 4)
        self.assertIn("12,346", lines[2])
        self.assertIn("failed: no", lines[3])
        self.assertNotIn("follower", lines[0])


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.results = load.Results(self.clock.seconds)

    def connected(self, pipeline: int) -> tuple[load.Client, StringTransport]:
        client = load.Client(self.results, lambda: b"PING\r\n", pipeline)
        transport = StringTransport()
        transport.setTcpNoDelay = lambda on: None
        client.makeConnection(transport)
        return client, transport

    def test_closed_loop_sends_when_all_is_answered(self) -> None:
        """The next pipeline goes when the last reply of the one before has come."""
        client, transport = self.connected(2)
        client.send_pipeline()
        self.assertEqual(transport.value(), b"PING\r\n" * 2)
        self.clock.advance(0.5)
        client.dataReceived(b"+PONG\r\n")
        self.assertEqual(transport.value(), b"PING\r\n" * 2)
        self.clock.advance(0.5)
        client.dataReceived(b"-ERR no\r\n")
        self.assertEqual(transport.value(), b"PING\r\n" * 4)
        figures = self.results.as_dict()
        self.assertEqual(figures["max_ms"], 1000.0)
        self.assertEqual(figures["errors"], {"ERR no": 1})
        self.assertEqual(figures["longest_pause_ms"], 500.0)

    def test_open_loop_counts_from_when_it_was_due(self) -> None:
        """A stall of the generator or the server counts for every command that was due in it."""
        client, transport = self.connected(0)
        pacer = load.Pacer([client], 10, self.clock.seconds)
        self.clock.advance(1.0)
        pacer.send_due()
        self.assertEqual(transport.value(), b"PING\r\n" * 10)
        client.dataReceived(b"+PONG\r\n" * 10)
        self.assertEqual(self.results.as_dict()["max_ms"], 1000.0)
        self.assertEqual(transport.value(), b"PING\r\n" * 10)

    def test_http_answers(self) -> None:
        """Answers of etcd's gateway are read whole, in order, in pieces of any size."""
        reader = load.HTTPReader()
        found = []
        for byte in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
            b"HTTP/1.1 503 No\r\nX: y\r\ncontent-length: 0\r\n\r\n"
        ):
            reader.feed(bytes([byte]))
            while (answer := reader.gets()) is not False:
                found.append(answer)
        self.assertEqual(found[0], b"{}")
        self.assertEqual(str(found[1]), "HTTP/1.1 503 No")
        self.assertIn(b'{"key":"', load.maker("etcd-put", 5, random.Random(1))())

    def test_commands(self) -> None:
        """Each command is RESP, with random keys as redis-benchmark spells them."""
        source = random.Random(1)
        self.assertIn(b"$16\r\nkey:0000000", load.maker("get", 64, source)())
        self.assertIn(b"$5\r\nxxxxx\r\n", load.maker("set", 5, source)())
        for size, keys in ((5, 100_000), (64, 100_000), (4096, 16_384), (1 << 20, 200)):
            self.assertEqual(load.keys_of(size), keys)
            make = load.maker("get", size, source)
            drawn = {int(make()[-14:-2]) for _ in range(1000)}
            self.assertTrue(max(drawn) < keys <= 3 * max(drawn), (size, max(drawn)))
        self.assertIn(b"missing:", load.maker("get-missing", 5, source)())
        self.assertRaises(ValueError, load.maker, "flush", 5, source)
