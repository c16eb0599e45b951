"""The offline check: it finds what is wrong and changes nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.interfaces import SnapshotMeta
from finn.options import Backend, Durability, NodeOptions
from finn.raft.configuration import Configuration
from finn.raft.ready import HardState
from finn.storage.__main__ import USAGE, main
from finn.storage.disk import ImmediateDisk
from finn.storage.factory import open_store
from finn.storage.fastlog import FastLog
from finn.storage.files import OSFiles
from finn.storage.identity import DirectoryLock, Identity
from finn.storage.snapshots import SnapshotStore
from finn.testing.contract import sample_entries, sample_entry


class CheckTests(SynchronousTestCase):
    """On a directory as a node leaves it."""

    def setUp(self) -> None:
        self.files = OSFiles()
        self.directory = self.mktemp()
        identity = Identity(self.files, self.directory, 0xABC, "fastlog", ":7481")
        identity.began("boot", weak=True, level="medium")
        identity.save()
        self.store = FastLog(
            self.files, ImmediateDisk(), Clock(), self.directory, Durability.MEDIUM, 1000, Random(1)
        )
        self.successResultOf(self.store.open())
        for index in range(1, 31):
            self.store.append([sample_entry(index, 1 + index // 10)])
        self.successResultOf(self.store.save_state(HardState(4, 0xABC)))
        snapshots = SnapshotStore(self.files, ImmediateDisk(), self.directory, lambda: 1000)
        self.successResultOf(snapshots.open())
        for index in (10, 20):
            sink = snapshots.create(SnapshotMeta(index, 2, 5, Configuration(), machine="kv"))
            sink.write(b"state")
            self.successResultOf(sink.finish())

    def run_check(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command."""
        output, errors = io.StringIO(), io.StringIO()
        code = main(arguments or ("check", self.directory), output, errors)
        return code, output.getvalue(), errors.getvalue()

    def content(self) -> dict[str, bytes]:
        """Return all that is in the directory."""
        found = {}
        for path, directories, names in os.walk(self.directory):
            for name in names:
                found[os.path.join(path, name)] = self.files.read(os.path.join(path, name))
            for name in directories:
                found[os.path.join(path, name)] = b""
        return found

    def faulty(self, *texts: str) -> None:
        """Check that a fault is reported, with these words, in the last line."""
        before = self.content()
        code, output, _ = self.run_check()
        self.assertEqual(code, 1, output)
        line = output.splitlines()[-1]
        self.assertTrue(line.startswith("first fault: "), output)
        for text in texts:
            self.assertIn(text, line)
        self.assertEqual(self.content(), before)

    def damage(self, name: str, offset: int) -> str:
        """Flip a bit."""
        path = os.path.join(self.directory, name)
        data = bytearray(self.files.read(path))
        data[offset] ^= 4
        with open(path, "wb") as file:
            file.write(data)
        return path

    def test_all_is_well(self) -> None:
        """Everything is reported, nothing changed, exit code 0."""
        self.successResultOf(self.store.close())
        before = self.content()
        code, output, errors = self.run_check()
        self.assertEqual((code, errors, self.content()), (0, "", before))
        for text in (
            "node 0000000000000abc, cluster 0000000000000000, address :7481",
            "backend fastlog, durability medium, last stop not clean",
            "term 4, vote 0000000000000abc",
            "00000001.log: entries 1 to 13, ",
            "log: entries 1 to 30, term 4 at the end",
            "snapshot 2-10-1000: up to entry 10, term 2, 5 bytes, machine kv version 1",
            "checksum good",
            "no fault found",
        ):
            self.assertIn(text, output)

    def test_damaged_segment(self) -> None:
        """File and offset are named."""
        path = self.damage("log/00000002.log", 48)
        self.faulty(f"{path} is damaged at offset 48")

    def test_torn_tail(self) -> None:
        """What a start would drop is a fault, and stays."""
        path = os.path.join(self.directory, "log/00000003.log")
        os.truncate(path, os.path.getsize(path) - 1)
        self.faulty(path, "a start will drop 75 bytes")

    def test_unfinished_mark_of_a_successor(self) -> None:
        """What a start makes up for is no fault, and stays."""
        path = os.path.join(self.directory, "log/00000002.log")
        for size in (1, 39):
            os.truncate(path, os.path.getsize(path) - size)
            before = self.content()
            self.assertEqual((self.run_check()[0], self.content()), (0, before))

    def test_damaged_state(self) -> None:
        """Term and vote are checked too, and the log read all the same."""
        self.damage("log/state", 5)
        self.faulty("state is damaged at offset 0")
        self.assertIn("log: entries 1 to 30", self.run_check()[1])

    def test_damaged_snapshots(self) -> None:
        """State, description, or one of them missing."""
        path = self.damage("snapshots/2-20-1001/state.bin", 1)
        self.faulty("snapshot 2-20-1001: its checksum is wrong")
        os.truncate(path, 2)
        self.faulty("snapshot 2-20-1001: it has 2 bytes instead of 5")
        os.unlink(path)
        self.faulty("snapshot 2-20-1001: its state is missing")
        self.damage("snapshots/2-20-1001/meta.json", 1)
        self.faulty("snapshot 2-20-1001: its meta.json is missing or damaged")

    def test_damaged_identity(self) -> None:
        """node.json is checked, and the rest reported."""
        self.damage("node.json", 0)
        self.faulty("node.json is damaged")

    def test_gap(self) -> None:
        """A log that begins behind the newest snapshot is a fault."""
        self.store.compact(30)
        self.successResultOf(self.store.shrink())
        self.faulty("the log begins behind entry 30, no snapshot reaches so far")

    def test_a_log_cut_after_a_clean_stop(self) -> None:
        """node.json says where it ended."""
        self.successResultOf(self.store.close())
        identity = Identity.load(self.files, self.directory)
        assert identity is not None
        identity.began("boot", weak=True, level="medium")
        for index, term in ((30, 4), (31, 4)):
            identity.stopped_cleanly(index, term)
            identity.save()
            self.assertEqual(self.run_check()[0], index > 30)
        self.faulty("the log ends with entry 30 of term 4; when", "with entry 31 of term 4")

    def test_what_a_start_refuses(self) -> None:
        """No log, or no segment of it, of a member; data of nobody knows whom."""
        identity = Identity.load(self.files, self.directory)
        assert identity is not None
        identity.joined = True
        identity.save()
        self.assertEqual(self.run_check()[0], 0)
        log = os.path.join(self.directory, "log")
        os.rename(log, log + ".away")
        self.faulty(f"{log} is missing")
        os.rename(log + ".away", log)
        node_json = os.path.join(self.directory, "node.json")
        os.rename(node_json, node_json + ".away")
        self.faulty("this is data of a member, but node.json is missing")
        os.rename(node_json + ".away", node_json)
        for name in os.listdir(log):
            if name.endswith(".log"):
                self.files.unlink(os.path.join(log, name))
        self.faulty("the log is missing")

    def test_running_node(self) -> None:
        """A directory in use is said to be."""
        lock = DirectoryLock(self.files, self.directory)
        lock.acquire()
        self.assertIn("in use by a running process", self.run_check()[1])
        lock.release()
        self.assertNotIn("in use", self.run_check()[1])

    def test_other_backends(self) -> None:
        """bolt and leveldb describe themselves."""
        for backend in (Backend.BOLT, Backend.LEVELDB):
            self.directory = self.mktemp()
            options = NodeOptions(backend=backend, directory=self.directory)
            store = open_store(options, self.files, ImmediateDisk(), Clock())
            self.successResultOf(store.open())
            store.append(sample_entries(1, 9))
            self.successResultOf(store.close())
            before = self.content()
            code, output, _ = self.run_check()
            self.assertEqual((code, self.content()), (0, before), output)
            self.assertIn(f"{backend.value}:", output)

    def test_usage(self) -> None:
        """Wrong usage is told on the error output, with exit code 2."""
        for arguments in (("check",), ("fix", "x"), ("check", "a", "b")):
            self.assertEqual(self.run_check(*arguments), (2, "", USAGE))
        for arguments in (("--help",), ("-h",), ("check", "--help"), ("check", "-h", "a")):
            self.assertEqual(self.run_check(*arguments), (0, USAGE, ""))
        for arguments in (("check", "--repair"), ("check", "--repair", "a"), ("--repair",)):
            line = "unknown option --repair, see --help\n"
            self.assertEqual(self.run_check(*arguments), (2, "", line))
        code, output, errors = self.run_check("check", "/nowhere")
        self.assertEqual((code, output, errors), (2, "", "/nowhere is not a directory\n"))

    def test_command_line(self) -> None:
        """It runs as a module."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        command = [sys.executable, "-m", "finn.storage", "check", os.path.abspath(self.directory)]
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
        self.assertEqual((found.returncode, found.stderr), (0, ""))
        self.assertIn("no fault found", found.stdout)
