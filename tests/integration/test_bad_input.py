"""Bad flags, folders, machines and bytes: one clear line each, and nobody else notices."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.integration.attacker import send_all
from tests.integration.cluster import Cluster, IntegrationTestCase
from tests.integration.ports import free_port
from tests.integration.process import NodeProcess, until
from tests.integration.resp import LOOPBACK, Client, ErrorReply, pack

FAULTY = "tests.integration.machines"


class RefusedTests(IntegrationTestCase):
    """Nodes that cannot start."""

    def cluster(self, *flags: str) -> Cluster:
        """So few clients are no reason to warn, however few files the system allows."""
        return super().cluster("--max-clients", "100", *flags)

    def refused(self, node: NodeProcess, *flags: str) -> str:
        """Start a node that must not start; returns the one line it says."""
        return self.said(node.start(*flags))

    def check_all(self, cluster: Cluster, cases: Sequence[tuple[list[str], str]]) -> None:
        """Start a node with each of some bad flags, side by side: each says this, and no more."""
        nodes = [(cluster.add().start(*flags), expected) for flags, expected in cases]
        for node, expected in nodes:
            self.assertIn(expected, self.said(node))
            self.assertEqual(len(node.log().splitlines()), 1, node.log())

    def said(self, node: NodeProcess) -> str:
        """Return the one line of a node that must not start."""
        code = node.wait()
        lines = [line for line in node.log().splitlines() if line.strip()]
        self.assertNotIn("Traceback", node.log())
        self.assertNotEqual(code, 0, node.log())
        return lines[-1] if lines else ""

    def check_one_line(self, node: NodeProcess, expected: str, *flags: str) -> None:
        """Check that a node refuses with just one line that says this."""
        said = self.refused(node, *flags)
        self.assertIn(expected, said)
        warnings = [line for line in node.log().splitlines() if " # " in line or "finn: " in line]
        self.assertEqual(len(warnings), 1, node.log())

    def test_flags(self) -> None:
        """Each bad value is told with its flag."""
        cases = (
            (["--port", "70000"], "--port must be a whole number, 1 to 65535, not '70000'"),
            (["--backend", "mysql"], "--backend must be"),
            (["--durability", "most"], "--durability must be"),
            (["--consistency", "9"], "--consistency must be"),
            (["--join", "nowhere"], "--join: address 'nowhere' has no port"),
            (["--election-timeout", "100"], "at least three heartbeats"),
            (["--bind", "0.0.0.0"], "needs --advertise"),
            (["--bind", "0.0.0.0", "--advertise", "a:1"], "--auth-file"),
            (["--auth-file", "/nonexistent"], "/nonexistent: No such file"),
            (["--snapshot-bytes", "much"], "--snapshot-bytes must be a size"),
            (["--wait", "--join", ":7481"], "exclude each other"),
            (["surplus"], "unexpected argument 'surplus'"),
            (["--nonsense"], "nonsense"),
        )
        self.check_all(self.cluster(), cases)

    def test_busy_port(self) -> None:
        """The port is found busy before anything else is done."""
        with socket.socket() as other:
            port = free_port()
            other.bind((LOOPBACK, port))
            other.listen()
            node = self.cluster().add(port=port)
            self.check_one_line(node, f"cannot listen on tcp:{port}:interface={LOOPBACK}")
        node.start().wait_for("Leader")

    def test_data_directory(self) -> None:
        """A file in its place, one that cannot be made, and one that another node uses."""
        cluster = self.cluster()
        cluster.folder.mkdir(parents=True)
        place = cluster.folder / "file"
        place.write_text("mine")
        self.check_one_line(cluster.add(), "there is a file of that name", "--dir", str(place))
        self.check_one_line(cluster.add(), "cannot use", "--dir", "/proc/finn")
        self.assertEqual(place.read_text(), "mine")
        node = cluster.found()
        self.check_one_line(
            cluster.add(), "is in use by another process", "--dir", str(node.directory)
        )
        self.assertEqual(node.do("PING"), b"PONG")

    def test_unwritable_directory(self) -> None:
        """A folder without permission to write."""
        if os.geteuid() == 0:
            # The superuser may write everywhere but into what is no real folder.
            self.check_one_line(self.cluster().add(), "cannot use /sys", "--dir", "/sys/finn")
            return
        cluster = self.cluster()
        folder = cluster.folder / "locked"
        folder.mkdir(parents=True)
        folder.chmod(0o500)
        self.addCleanup(folder.chmod, 0o700)
        self.check_one_line(cluster.add(), "cannot use", "--dir", str(folder / "data"))

    def test_machines(self) -> None:
        """One that is not there, one with a bug, one that cannot be made, one that is none."""
        cluster = self.cluster()
        cluster.folder.mkdir(parents=True)
        (cluster.folder / "broken.py").write_text("import nosuchmodule\n")
        (cluster.folder / "wrong.py").write_text("def f(:\n")
        cases = (
            ("nowhere:Machine", "cannot import machine nowhere: No module named 'nowhere'"),
            ("broken:Machine", "cannot import machine broken: No module named 'nosuchmodule'"),
            ("wrong:Machine", "cannot import machine wrong: SyntaxError"),
            (f"{FAULTY}:Nothing", f"machine module {FAULTY} has no Nothing"),
            (f"{FAULTY}:Unmakeable", "RuntimeError: no tickets left (machines.py, line"),
            (f"{FAULTY}:Plain", "finn: Plain is no machine: derive it from finn.Machine"),
            ("finn.machines.kv", "--machine must be package.module:Factory"),
        )
        self.check_all(cluster, [(["--machine", name], expected) for name, expected in cases])

    def test_other_backend(self) -> None:
        """Data of one backend is not hidden behind an empty log of another."""
        node = self.cluster().found()
        self.assertEqual(node.do("SET", "a", "b"), b"OK")
        self.assertEqual(node.stop(), 0)
        for backend in ("bolt", "leveldb", "inmem"):
            self.check_one_line(node, "start with --backend fastlog", "--backend", backend)
        node.start().wait_for("Leader")
        self.assertEqual(node.do("GET", "a"), b"b")

    def test_other_cluster(self) -> None:
        """A node of one cluster cannot be added to another, and both go on."""
        one, other = self.cluster().found(), self.cluster().found()
        reply = one.do("RAFTADDPEER", other.address)
        self.assertEqual(reply, ErrorReply(f"ERR {other.address} belongs to another cluster"))
        self.assertEqual(one.stats()["num_peers"], "0")
        self.assertEqual(other.do("SET", "a", "b"), b"OK")
        self.assertEqual(one.do("SET", "a", "b"), b"OK")

    def test_damaged_log(self) -> None:
        """A flipped bit in what was known to be on the disk: file, offset and the way out."""
        node = self.cluster("--durability", "high").found()
        with node.client() as client:
            for number in range(20):
                self.assertEqual(client.do("SET", f"key:{number}", "x" * 100), b"OK")
        node.kill()
        (path,) = Path(node.directory, "log").glob("*.log")
        data = bytearray(path.read_bytes())
        at = data.index(b"key:3")
        data[at] ^= 0x10
        path.write_bytes(data)
        self.check_one_line(node, f"{path} is damaged at offset ")
        self.assertIn("move this directory away and join again", node.log())
        data[at] ^= 0x10
        path.write_bytes(data)
        node.start().wait_for("Leader")
        self.assertEqual(node.do("GET", "key:19"), b"x" * 100)

    def test_damaged_identity(self) -> None:
        """``node.json`` that is not what finn wrote."""
        node = self.cluster().found()
        node.kill()
        (node.directory / "node.json").write_text("{}")
        self.check_one_line(node, "node.json is damaged")


class MalformedTests(IntegrationTestCase):
    """Bytes that are no commands."""

    def test_protocol_errors(self) -> None:
        """Each gets an error and the connection closed; other clients notice nothing."""
        node = self.cluster().found()
        with node.client() as steady:
            for number, (data, expected) in enumerate(
                (
                    (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
                    (b"*1\r\n$-1\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
                    (b"*100000000\r\n", b"-ERR Protocol error: "),
                    (b"*1\r\n$99999999999\r\n", b"-ERR Protocol error: "),
                    (b"*2\r\n$3\r\nGET\r\n:1\r\n", b"-ERR Protocol error: "),
                    (b"*1\r\n$4\r\nPINGxx", b"-ERR Protocol error: "),
                    (b"SET 'a b\r\n", b"-ERR Protocol error: unbalanced quotes"),
                    (b"A" * 200_000, b"-ERR Protocol error: "),
                )
            ):
                self.assertEqual(steady.do("SET", "a", number), b"OK")
                with node.client() as client:
                    # It may be closed before all is sent.
                    send_all(client, [pack(["PING"]) + data])
                    reply = client.read_to_end()
                self.assertTrue(reply.startswith(b"+PONG\r\n" + expected), (data[:30], reply))
                self.assertEqual(steady.do("GET", "a"), str(number).encode())

    def test_cross_protocol(self) -> None:
        """What a browser sends closes the connection at once."""
        node = self.cluster().found()
        for data in (b"POST / HTTP/1.1\r\nHost: a\r\n\r\nSET a b\r\n", b"Host: a\r\nSET a b\r\n"):
            with node.client() as client:
                client.send(data)
                try:
                    self.assertNotIn(b"OK", client.read_to_end())
                except ConnectionResetError:
                    pass
        self.assertIsNone(node.do("GET", "a"))

    def test_false_links(self) -> None:
        """Nobody becomes a member by saying so."""
        cluster = self.cluster().start()
        node = cluster.nodes[0]
        for words in (
            ["RAFTLINK"],
            ["RAFTLINK", "1", "2", "3", "4", "5", "raft"],
            ["RAFTLINK", "999", *["0" * 16] * 2, ":1", "0" * 16, "raft"],
        ):
            with node.client() as client:
                reply = client.do(*words)
                self.assertIsInstance(reply, ErrorReply)
        with node.client() as client:
            client.send(b"*3\r\n$1\r\nA\r\n$40\r\n" + b"\0" * 40 + b"\r\n$1\r\nx\r\n")
            self.assertIsInstance(client.read(), ErrorReply)
        self.assertEqual(cluster.leader(), node)
        self.assertEqual(node.do("SET", "a", "b"), b"OK")

    def test_half_a_command(self) -> None:
        """A client that stops in the middle, or goes away, costs the others nothing."""
        node = self.cluster().found()
        halves = [Client(node.port) for _ in range(20)]
        for client in halves:
            client.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000\r\nhalf")
        self.assertEqual(node.do("SET", "a", "b"), b"OK")
        for client in halves:
            client.close()
        until(lambda: int(node.stats()["clients"]) <= 2, "the clients are gone")
        self.assertEqual(node.do("GET", "a"), b"b")


class FaultyMachineTests(IntegrationTestCase):
    """A machine with a bug: an error, the traceback in the log, and all nodes equal."""

    def check_machine(self, name: str) -> Cluster:
        """Let a command fail on three nodes, then look at the state of each."""
        cluster = self.cluster("--machine", f"{FAULTY}:{name}").start()
        leader = cluster.leader()
        with leader.client() as client:
            self.assertEqual(client.do("COUNT"), 1)
            reply = client.do("BUG")
            self.assertIsInstance(reply, ErrorReply)
            self.assertTrue(str(reply).startswith("ERR "), reply)
            replies = client.pipeline([("COUNT",), ("BUG",), ("COUNT",)])
            self.assertEqual([type(reply) for reply in replies], [int, ErrorReply, int])
            total = client.do("TOTAL")
            self.assertEqual(total, replies[-1])
        cluster.wait_equal()
        for node in cluster.nodes:
            self.assertTrue(node.running)
        self.assertIn("ZeroDivisionError", leader.log())
        self.assertIn("Traceback", leader.log())
        for node in cluster.followers():
            before = cluster.leader()
            self.assertEqual(before.do("RAFTTRANSFER", node.address), b"OK")
            until(lambda node=node: cluster.leader() is node, "it leads")  # type: ignore[misc]
            self.assertEqual(cluster.client().insist("TOTAL"), total)
        return cluster

    def test_declarative(self) -> None:
        """In a declared command."""
        self.check_machine("Faulty")

    def test_closures(self) -> None:
        """In a closure, in the original's style; one that replies is no danger either."""
        cluster = self.check_machine("FaultyClosures")
        leader = cluster.leader()
        with leader.client() as client:
            before = client.do("TOTAL")
            self.assertError(client.do("REPLYBUG"), "ERR internal error: TypeError")
            self.assertError(client.do("READBUG"), "ERR internal error: KeyError")
            self.assertEqual(client.do("TOTAL"), before + 1)
        self.assertIn("KeyError: 'nothing'", leader.log())
        self.assertEqual(cluster.leader(), leader)

    def test_reads_and_refusals(self) -> None:
        """A read that fails, and a command that says no, which is no bug and not logged as one."""
        node = self.cluster("--machine", f"{FAULTY}:Faulty").found()
        self.assertError(node.do("NO"), "NOTNOW not now")
        self.assertNotIn("Traceback", node.log())
        self.assertIsInstance(node.do("READBUG"), ErrorReply)
        self.assertIn("KeyError", node.log())
        self.assertError(node.do("MISSING"), "ERR unknown command 'MISSING'")
        self.assertError(node.do("COUNT", "x"), "ERR wrong number of arguments for 'COUNT' command")

    def test_machine_of_an_older_version(self) -> None:
        """A committed command that a node's machine does not know stops that node only."""
        cluster = self.cluster().start()
        node = cluster.followers()[0]
        self.assertEqual(node.stop(), 0)
        self.assertEqual(cluster.client().insist("SET", "a", "b"), b"OK")
        node.start("--machine", f"{FAULTY}:Faulty")
        self.assertEqual(node.wait(), 1, node.tail())
        self.assertIn("a committed command is unknown to this machine", node.log())
        self.assertNotIn("Traceback", node.log())
        self.assertEqual(cluster.client().insist("GET", "a"), b"b")


class UnusedPortTests(IntegrationTestCase):
    """Joining where nobody is."""

    def test_joining_nobody(self) -> None:
        """It is said once, not in every attempt, and the node serves its status meanwhile."""
        nobody = f":{free_port()}"
        node = self.cluster().add("--join", nobody).start()
        node.wait_log(f"failed to join node at {nobody}")
        self.assertEqual(node.do("PING"), b"PONG")
        self.assertEqual(node.state(), "Follower")
        self.assertError(node.do("GET", "a"), "ERR leader not known")
        self.assertEqual(node.log().count("failed to join"), 1)
