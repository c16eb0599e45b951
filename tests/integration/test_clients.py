"""Clients that people use, against a node in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import hiredis
from twisted.trial.unittest import SkipTest

from finn.machines.kv import KV
from finn.node.commands import BUILTINS
from tests.integration.cluster import IntegrationTestCase
from tests.integration.process import environment, need
from tests.integration.resp import Client
from tests.integration.terminal import Terminal
from tests.protocols.certificates import Authority

PROGRAMS = Path(__file__).resolve().parent / "clients"
REDIGO = Path("/usr/share/gocode/src/github.com/gomodule/redigo")
TIMEOUT = 600.0  # what is built or fetched from a registry takes its time


class ClientTestCase(IntegrationTestCase):
    """One node."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.cluster().found()

    def run_(
        self, *command: Any, status: int = 0, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, and check the exit code."""
        result = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**environment(), **variables},
        )
        self.assertEqual(result.returncode, status, f"{command}\n{result.stdout}{result.stderr}")
        return result

    def passes(self, name: str, *command: Any, **variables: str) -> None:
        """Run one of the programs; it says "passed" and the client's version."""
        result = self.run_(*command, **variables)
        self.assertRegex(result.stdout, r"\Apassed.*\n\Z", result.stderr)
        self.assertEqual(result.stderr, "")
        self.report(f"{name} {result.stdout.removeprefix('passed').strip()}")


class RedisToolsTests(ClientTestCase):
    """redis-cli and redis-benchmark."""

    def cli(self, *words: str, stdin: str = "") -> str:
        """Run redis-cli."""
        result = self.run_(need("redis-cli"), "-p", self.node.port, *words, stdin=stdin)
        self.assertEqual(result.stderr, "")
        return result.stdout

    def test_redis_cli(self) -> None:
        """Commands as arguments, from standard input, in RESP3; scanning; bulk loading."""
        self.assertEqual(self.cli("SET", "k", "a b"), "OK\n")
        self.assertEqual(self.cli("GET", "k"), "a b\n")
        self.assertEqual(
            self.cli(stdin="INCR n\nINCR n\n\nLPUSH k x\n").splitlines()[:2], ["1", "2"]
        )
        self.assertEqual(self.cli("-3", "--json", "HELLO")[:1], "{")
        self.cli("HSET", "h", "f", "v")
        self.assertEqual(self.cli("-3", "--json", "HGETALL", "h"), '{"f":"v"}\n')
        self.assertEqual(sorted(self.cli("--scan").split()), ["h", "k", "n"])
        self.assertEqual(self.cli("--scan", "--pattern", "h*").split(), ["h"])
        self.assertIn("Biggest string found", self.cli("--bigkeys"))
        self.assertIn("db0:keys=3,expires=0,avg_ttl=0", self.cli("INFO"))
        mass = "".join(f"*3\r\n$3\r\nSET\r\n$1\r\n{i}\r\n$1\r\nv\r\n" for i in range(10))
        self.assertIn("errors: 0, replies: 10", self.cli("--pipe", stdin=mass))

    def test_interactive(self) -> None:
        """In a terminal: hints and help from COMMAND DOCS, INFO, transactions, RESP3."""
        terminal = Terminal([need("redis-cli"), "-p", str(self.node.port)], environment())
        self.addCleanup(terminal.close)
        prompt = f"127.0.0.1:{self.node.port}"
        terminal.expect(prompt + "> ")
        terminal.type("set")
        terminal.expect("key value [NX | XX]")
        for line, wanted, end in (
            (' k "a b"', "OK\n", "> "),
            ("get k", '"a b"\n', "> "),
            ("get none", "(nil)\n", "> "),
            ("raftstate", '"Leader"\n', "> "),
            ("nonsense", "(error) ERR unknown command 'nonsense'\n", "> "),
            ("hget k", "(error) ERR wrong number of arguments for 'hget' command\n", "> "),
            ("info server", "finn_version:", "> "),
            ("help expire", "summary: Let a key expire after some seconds.", "> "),
            ("help raftaddpeer", "RAFTADDPEER address", "> "),
            ("multi", "OK\n", "(TX)> "),
            ("get k", "QUEUED\n", "(TX)> "),
            ("exec", '1) "a b"\n', "> "),
            ("hello 3", '1# "server" => "redis"\n', "> "),
            ("hgetall none", "(empty hash)\n", "> "),
        ):
            terminal.type(line + "\r")
            terminal.expect(wanted)
            # What is typed before the prompt is there gets lost.
            terminal.expect(prompt + end)
        terminal.type("quit\r")
        self.assertEqual(terminal.wait(), 0)

    def test_redis_benchmark(self) -> None:
        """It runs, and warns of nothing: it asks for CONFIG GET save and appendonly first."""
        tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,lrange_100,mset"
        for extra in ([], ["-P", "16"], ["--threads", "2"], ["-3"]):
            result = self.run_(
                need("redis-benchmark"), "-p", self.node.port, "-t", tests, "-n", 300, "-c", 5,
                "-q", *extra,
            )  # fmt: skip
            self.assertEqual(result.stderr, "")
            self.assertNotIn("WARN", result.stdout.upper())
            self.assertNotIn("ERR", result.stdout.upper())
            self.assertEqual(result.stdout.count("requests per second"), 15)


class PythonTests(ClientTestCase):
    """Clients for Python."""

    def test_redis_py(self) -> None:
        """redis-py in RESP2 and RESP3: blocking, asyncio, pipelines, transactions."""
        for protocol in (2, 3):
            program = PROGRAMS / "redispy.py"
            self.passes(
                "redis-py", sys.executable, "-W", "error", program, self.node.port, protocol
            )

    def test_txredisapi(self) -> None:
        """txredisapi: connection pool, pipelines, transactions, multi(keys) with WATCH."""
        self.passes("txredisapi", sys.executable, PROGRAMS / "txredis.py", self.node.port)

    def test_hiredis(self) -> None:
        """hiredis by hand: RESP2 and RESP3 types, in pieces of one byte."""
        connection = Client(self.node.port)
        self.addCleanup(connection.close)
        self.assertEqual(connection.do("SET", b"\x00\xff", b"\r\n"), b"OK")
        for byte in hiredis.pack_command(("GET", b"\x00\xff")):
            connection.send(bytes([byte]))
        self.assertEqual(connection.read(), b"\r\n")
        self.assertEqual(connection.do("MGET", "none"), [None])
        connection.send(b"HELLO 3\r\n")
        self.assertEqual(connection.read()[b"proto"], 3)
        connection.do("HSET", "h", "f", "v")
        connection.do("SADD", "s", "m")
        self.assertEqual(connection.do("HGETALL", "h"), {b"f": b"v"})
        self.assertIn(connection.do("SMEMBERS", "s"), ({b"m"}, [b"m"]))
        self.assertEqual(connection.do("GET", "none"), None)
        self.assertEqual(connection.do("CONFIG", "GET", "save"), {b"save": b""})


class OtherLanguageTests(ClientTestCase):
    """Clients for other languages."""

    modules: ClassVar[Path | None] = None

    def node_modules(self) -> str:
        """Install the clients for Node.js, once."""
        if OtherLanguageTests.modules is None:
            folder = Path(self.mktemp()).resolve()
            folder.mkdir(parents=True)
            (folder / "package.json").write_bytes((PROGRAMS / "package.json").read_bytes())
            install = subprocess.run(
                [
                    need("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts",
                    "--prefer-offline", "--fetch-retries=5", "--fetch-retry-mintimeout=2000",
                ],
                cwd=folder, capture_output=True, text=True, timeout=TIMEOUT,
            )  # fmt: skip
            if install.returncode:
                if os.environ.get("CI"):
                    raise AssertionError(f"npm install failed:\n{install.stderr}")
                raise SkipTest("npm cannot install the clients")
            OtherLanguageTests.modules = folder / "node_modules"
        return str(OtherLanguageTests.modules)

    def javascript(self, name: str, *words: str) -> None:
        """Run a program for Node.js."""
        program = [need("node"), PROGRAMS / f"{name}.js", self.node.port, *words]
        self.passes(name, *program, NODE_PATH=self.node_modules())

    def test_node_redis(self) -> None:
        """node-redis in RESP2 and RESP3."""
        self.javascript("node_redis", "2")
        self.javascript("node_redis", "3")

    def test_ioredis(self) -> None:
        """ioredis."""
        self.javascript("ioredis")

    def test_redigo(self) -> None:
        """redigo, as Debian packages it."""
        go = need("go")
        if not REDIGO.exists():
            if os.environ.get("CI"):
                raise AssertionError("CI has no golang-github-gomodule-redigo-dev")
            raise SkipTest("golang-github-gomodule-redigo-dev is not installed")
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        self.run_(
            go, "build", "-o", folder / "redigo", PROGRAMS / "redigo.go",
            GO111MODULE="off", GOPATH="/usr/share/gocode", CGO_ENABLED="0",
        )  # fmt: skip
        self.passes("redigo", folder / "redigo", self.node.port)

    def test_jedis(self) -> None:
        """What jedis 5 sends for a connection in RESP3, a pipeline and a transaction, in bytes."""
        connection = Client(self.node.port)
        self.addCleanup(connection.close)

        def exchange(commands: Sequence[Sequence[str]], replies: bytes) -> None:
            connection.send(b"".join(hiredis.pack_command(tuple(words)) for words in commands))
            found = b""
            while len(found) < len(replies):
                found += connection.socket.recv(len(replies) - len(found))
            self.assertEqual(found, replies)

        connection.send(hiredis.pack_command(("HELLO", "3")))
        self.assertEqual(connection.read()[b"version"][:2], b"7.")
        exchange(
            [
                ["CLIENT", "SETNAME", "tester"],
                ["CLIENT", "SETINFO", "LIB-NAME", "jedis"],
                ["CLIENT", "SETINFO", "LIB-VER", "5.2.0"],
            ],
            b"+OK\r\n" * 3,
        )
        exchange(
            [["SET", "k", "v"], ["GET", "k"], ["GET", "none"], ["LPUSH", "k", "x"]],
            b"+OK\r\n$1\r\nv\r\n_\r\n"
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        )
        exchange(
            [["MULTI"], ["INCR", "n"], ["HSET", "h", "f", "v"], ["HGETALL", "h"], ["EXEC"]],
            b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n:1\r\n:1\r\n%1\r\n$1\r\nf\r\n$1\r\nv\r\n",
        )
        exchange([["PING"], ["QUIT"]], b"+PONG\r\n+OK\r\n")


class CommandLineTests(IntegrationTestCase):
    """``python -m finn.client``."""

    def ask(self, *words: str, **variables: str) -> tuple[int, str, str]:
        """Return exit code, output and errors."""
        result = subprocess.run(
            [sys.executable, "-m", "finn.client", *words],
            capture_output=True, text=True, timeout=TIMEOUT, env={**environment(), **variables},
        )  # fmt: skip
        return result.returncode, result.stdout, result.stderr

    def test_three_nodes(self) -> None:
        """Any node's address leads to the leader; when it crashes, to the next one."""
        cluster = self.cluster().start()
        leader = cluster.leader()
        follower = cluster.followers()[0]
        self.assertEqual(self.ask(follower.address, "SET", "k", "v"), (0, "OK\n", ""))
        self.assertEqual(self.ask(follower.address, "RAFTSTATE"), (0, "Leader\n", ""))
        addresses = [node.address for node in cluster.nodes]
        leader.kill()
        self.assertEqual(self.ask(*addresses, "GET", "k"), (0, "v\n", ""))
        self.assertEqual(self.ask(*addresses, "MGET", "k", "none"), (0, "v\n(nil)\n", ""))

    def test_errors_are_one_line(self) -> None:
        """Errors are one line and exit code 1, wrong usage is 64."""
        node = self.cluster().found()
        self.assertEqual(
            self.ask(node.address, "NONSENSE"), (1, "", "ERR unknown command 'NONSENSE'\n")
        )
        self.assertEqual(self.ask(node.address, "LPUSH", "a", "b")[0], 0)
        self.assertEqual(self.ask(node.address, "GET", "a")[2].count("\n"), 1)
        node.stop()
        self.assertEqual(
            self.ask("--timeout", "0.5", node.address, "GET", "k"),
            (1, "", "ERR no leader was found in time\n"),
        )
        code, out, err = self.ask("nonsense")
        self.assertEqual((code, out, err.count("\n")), (64, "", 1), err)

    def test_output_that_fails(self) -> None:
        """It is no error of the command, which was applied; what cannot be shown is escaped."""
        node = self.cluster().found()
        command = [sys.executable, "-m", "finn.client", node.address, "INCR", "n"]
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT, env=environment()
            )
        self.assertEqual(result.returncode, 74, result.stderr)
        self.assertIn(b"the command succeeded", result.stderr)
        self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)
        self.assertEqual(node.do("GET", "n"), b"1")
        self.assertEqual(node.do("SET", b"\xff", "ü"), b"OK")
        found = self.ask(node.address, "GET", os.fsdecode(b"\xff"), PYTHONIOENCODING="ascii")
        self.assertEqual(found, (0, "\\xfc\n", ""))

    def test_secret(self) -> None:
        """The secret comes from a file or the environment."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        secret = folder / "secret"
        secret.write_text("open sesame\n")
        secret.chmod(0o600)
        node = self.cluster("--auth-file", str(secret)).add().start()
        node.wait_log("[Leader]")
        self.assertEqual(
            self.ask("--auth-file", str(secret), node.address, "PING"), (0, "PONG\n", "")
        )
        self.assertEqual(self.ask(node.address, "PING", FINN_SECRET="open sesame")[0], 0)
        code, _, err = self.ask(node.address, "PING")
        self.assertEqual((code, err), (1, "NOAUTH Authentication required.\n"))

    def test_tls(self) -> None:
        """With a certificate of the cluster's CA it speaks TLS; without TLS nobody answers."""
        authority = Authority(str(Path(self.mktemp()).resolve()))

        def flags(name: str) -> list[str]:
            cert, key = authority.issue(name)
            return ["--tls-cert", cert, "--tls-key", key, "--tls-ca", authority.path]

        node = self.cluster().add(*flags("node")).start()
        node.wait_log("[Leader]")
        self.assertEqual(self.ask(*flags("client"), node.address, "PING"), (0, "PONG\n", ""))
        plain = self.ask("--timeout", "0.5", node.address, "PING")
        self.assertEqual(plain, (1, "", "ERR no leader was found in time\n"))


class DocumentsTests(IntegrationTestCase):
    """What a real node says of its commands."""

    def test_every_command_is_told(self) -> None:
        """COMMAND of a node has the key-value machine's commands and the built-in ones."""
        node = self.cluster().found()
        names = {name.decode().upper() for name in node.do("COMMAND", "LIST")}
        self.assertEqual(
            names,
            {name.decode() for name in KV.__finn_commands__} | {name.decode() for name in BUILTINS},
        )
