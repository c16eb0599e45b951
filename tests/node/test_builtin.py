"""The built-in commands: names, arity, replies and error texts."""

from __future__ import annotations

import os
from typing import Any

import hiredis
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Port as UnixPort
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.errors import CommandError
from finn.machines.kv import KV
from finn.node.commands import BUILTINS
from finn.protocols.transport import WriteThroughPort
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal, Opaque

ORIGINAL_STATS = [
    "applied_index", "commit_index", "fsm_pending", "last_contact", "last_log_index",
    "last_log_term", "last_snapshot_index", "last_snapshot_term", "num_peers", "state", "term",
]  # fmt: skip


def parse(data: bytes) -> Any:
    """Return the only reply in bytes."""
    reader = hiredis.Reader(replyError=CommandError)
    reader.feed(data)
    return reader.gets()


def pairs(words: list[Any]) -> dict[str, Any]:
    """Return a flat array as a dict."""
    return {k.decode(): v for k, v in zip(words[::2], words[1::2], strict=True)}


class BuiltinTestCase(SynchronousTestCase):
    """One node with the key-value machine, and a client."""

    machine: Any = KV
    size = 1
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.cluster = MemoryCluster(self.machine, size=self.size, **self.options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.client = Client(self.cluster, self.cluster.leader())

    @property
    def node(self) -> Any:
        return self.cluster.nodes[self.cluster.leader()]

    def ask(self, command: str) -> Any:
        """Send a command and return the parsed reply."""
        return parse(self.client.ask(command))

    def assertReplies(self, *cases: tuple[str, bytes], client: Client | None = None) -> None:
        """Check replies byte by byte."""
        for command, reply in cases:
            self.assertEqual((client or self.client).ask(command), reply, command)


class OriginalTests(BuiltinTestCase):
    """The original's commands answer as its golden transcripts say."""

    size = 3

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.cluster.leader()
        self.follower = Client(self.cluster, (self.leader + 1) % 3)
        self.address = self.node.options.address.encode()

    def test_ping(self) -> None:
        """PING on any node, with and without a message; the client's spelling is kept."""
        for client in (self.client, self.follower):
            self.assertReplies(
                ("PING", b"+PONG\r\n"),
                ("ping hi", b"$2\r\nhi\r\n"),
                ("PING a b", b"-ERR wrong number of arguments for 'PING' command\r\n"),
                ("ping a b", b"-ERR wrong number of arguments for 'ping' command\r\n"),
                ("FooBar", b"-ERR unknown command 'FooBar'\r\n"),
                ("FooBar x y", b"-ERR unknown command 'FooBar'\r\n"),
                client=client,
            )

    def test_quit(self) -> None:
        """QUIT is answered, what follows is not, and the connection is closed."""
        for line in ("QUIT", "quit x"):
            client = Client(self.cluster, self.leader)
            client.send(line, "PING")
            self.assertEqual(client.received, b"+OK\r\n")
            self.assertTrue(client.transport.disconnecting)

    def test_leader(self) -> None:
        """RAFTLEADER is the same everywhere, null where none is known."""
        bulk = b"$%d\r\n%b\r\n" % (len(self.address), self.address)
        self.assertReplies(("RAFTLEADER", bulk))
        self.assertReplies(("raftleader", bulk), client=self.follower)
        self.cluster.partition([0], [1], [2])
        self.cluster.wait_until(lambda: self.node_knows_none(self.leader))
        self.assertReplies(
            ("RAFTLEADER", b"$-1\r\n"),
            ("SET k v", b"-ERR leader not known\r\n"),
            ("GET k", b"-ERR leader not known\r\n"),
            ("RAFTADDPEER 10.0.0.9:7481", b"-ERR leader not known\r\n"),
            ("RAFTREMOVEPEER 10.0.0.9:7481", b"-ERR leader not known\r\n"),
            ("WATCH k", b"-ERR leader not known\r\n"),
        )

    def node_knows_none(self, member: int) -> bool:
        raft = self.cluster.nodes[member].raft
        return raft is not None and raft.leader_address is None

    def test_state(self) -> None:
        """RAFTSTATE is a bulk string."""
        self.assertReplies(("RAFTSTATE", b"$6\r\nLeader\r\n"))
        self.assertReplies(("RAFTSTATE", b"$8\r\nFollower\r\n"), client=self.follower)

    def test_peers(self) -> None:
        """RAFTPEERS lists addresses, sorted, each with its state."""

        def peers() -> dict[str, Any]:
            return pairs(self.ask("RAFTPEERS"))

        self.cluster.wait_until(lambda: set(peers().values()) == {b"Leader", b"Follower"})
        found = peers()
        self.assertEqual(list(found), sorted(n.options.address for n in self.cluster.nodes))
        self.assertEqual(found[self.address.decode()], b"Leader")

    def test_stats(self) -> None:
        """RAFTSTATS begins with the original's eleven keys, sorted; ours follow, sorted too."""
        stats = pairs(self.ask("RAFTSTATS"))
        names = list(stats)
        self.assertEqual(names[:11], ORIGINAL_STATS)
        self.assertEqual(names[11:], sorted(names[11:]))
        self.assertTrue(all(isinstance(value, bytes) for value in stats.values()))
        self.assertEqual(stats["num_peers"], b"2")
        self.assertEqual(stats["state"], b"Leader")
        followed = pairs(parse(self.follower.ask("RAFTSTATS")))
        self.assertRegex(followed["last_contact"].decode(), r"^[0-9.]+(ns|µs|ms|s)$")

    def test_followers_name_the_leader(self) -> None:
        """Writes, reads and changes of membership get TRY, without ERR."""
        reply = b"-TRY %b\r\n" % self.address
        self.assertReplies(
            ("SET k v", reply), ("GET k", reply), ("DEL k", reply), ("KEYS *", reply),
            ("RAFTADDPEER 10.0.0.9:7481", reply), ("RAFTREMOVEPEER x", reply),
            ("RAFTTRANSFER", reply),
            ("SET k", b"-ERR wrong number of arguments for 'SET' command\r\n"),
            client=self.follower,
        )  # fmt: skip
        self.assertEqual(
            self.follower.ask("SET k v", "GET k", "FOO", "SET k v", "PING"),
            reply + reply + b"-ERR unknown command 'FOO'\r\n" + reply + b"+PONG\r\n",
        )

    def test_membership(self) -> None:
        """Errors of RAFTADDPEER and RAFTREMOVEPEER have no ERR, as the original's."""
        self.assertReplies(
            (f"RAFTADDPEER {self.address.decode()}", b"-peer already known\r\n"),
            ("RAFTREMOVEPEER 10.0.0.9:7481", b"-peer is unknown\r\n"),
            ("RAFTTRANSFER 10.0.0.9:7481", b"-peer is unknown\r\n"),
        )
        gone = self.cluster.nodes[(self.leader + 1) % 3]
        self.assertReplies((f"RAFTREMOVEPEER {gone.options.address}", b"+OK\r\n"))
        self.cluster.wait_until(lambda: self.follower.ask("RAFTSTATE") == b"$8\r\nShutdown\r\n")
        shut = b"-raft is already shutdown\r\n"
        self.assertReplies(
            ("SET k v", shut), ("RAFTADDPEER x:1", shut), ("RAFTREMOVEPEER x:1", shut),
            ("GET k", b"-ERR leader not known\r\n"), ("PING", b"+PONG\r\n"),
            ("RAFTLEADER", b"$-1\r\n"),
            client=self.follower,
        )  # fmt: skip

    def test_snapshots(self) -> None:
        """RAFTSNAPSHOT and RAFTSHRINKLOG work on every node; there may be nothing to do."""
        self.cluster.execute("SET", "k", "v")
        for client in (self.client, self.follower):
            self.cluster.wait_until(lambda c=client: c.ask("RAFTSNAPSHOT") == b"+OK\r\n")  # type: ignore[misc]
            self.assertReplies(("RAFTSHRINKLOG", b"+OK\r\n"), client=client)

    def test_transfer(self) -> None:
        """RAFTTRANSFER hands leadership to whom it names, or to anyone."""
        target = (self.leader + 1) % 3
        address = self.cluster.nodes[target].options.address
        self.assertReplies((f"RAFTTRANSFER {address}", b"+OK\r\n"))
        self.cluster.wait_until(lambda: self.cluster.leader() == target)
        self.assertEqual(Client(self.cluster, target).ask("RAFTTRANSFER"), b"+OK\r\n")
        self.cluster.wait_until(lambda: self.cluster.leader() != target)

    def test_not_ready(self) -> None:
        """A node that is not open yet says so, and answers what it can."""
        self.cluster.restart(self.leader)
        client = Client(self.cluster, self.leader)
        client.send("SET k v", "GET k", "RAFTADDPEER x:1", "WATCH k", "RAFTLEADER", "PING")
        refused = b"-ERR raft not ready\r\n"
        self.assertEqual(client.received, refused * 4 + b"$-1\r\n+PONG\r\n")


class TableTests(BuiltinTestCase):
    """What holds for every command of the table."""

    def test_arity(self) -> None:
        """Too few or too many words are refused, in the client's spelling, before anything else."""
        for builtin in BUILTINS.values():
            lengths = [n for n in (builtin.low - 1, builtin.high + 1) if 0 < n < 100]
            for length in lengths:
                name = builtin.name.title()
                command = " ".join([name, *["x"] * (length - 1)])
                wanted = b"-ERR wrong number of arguments for '%b' command\r\n" % name.encode()
                self.assertReplies((command, wanted))

    def test_help(self) -> None:
        """RAFTHELP has one line for each command, the machine's too."""
        lines = [line.decode() for line in self.ask("RAFTHELP")]
        self.assertEqual(lines, sorted(lines))
        names = {line.split(" ")[0] for line in lines}
        self.assertLess({"RAFTHELP", "MULTI", "GET", "LPOS"}, names)
        self.assertIn("GET key - Return the string at a key.", lines)
        self.assertTrue(all(" - " in line for line in lines))

    def test_command(self) -> None:
        """COMMAND describes every command, once."""
        rows = {row[0]: row for row in self.ask("COMMAND")}
        self.assertEqual(len(rows), self.ask("COMMAND COUNT"))
        self.assertEqual(sorted(rows), self.ask("COMMAND LIST"))
        self.assertEqual(rows[b"get"][1:6], [2, [b"readonly"], 1, 1, 1])
        self.assertEqual(rows[b"set"][1:6], [-3, [b"write"], 1, 1, 1])
        self.assertEqual(rows[b"mset"][1:6], [-3, [b"write"], 1, -1, 2])
        self.assertEqual(rows[b"raftaddpeer"][1:3], [2, [b"admin"]])
        self.assertEqual({len(row) for row in rows.values()}, {10})
        self.assertEqual(self.ask("COMMAND INFO get nothing"), [rows[b"get"], None])
        self.assertTrue(self.client.ask("COMMAND INFO nothing").endswith(b"*-1\r\n"))

    def test_command_docs(self) -> None:
        """COMMAND DOCS has a summary for every command, and the arguments."""
        docs = pairs(self.ask("COMMAND DOCS"))
        self.assertEqual(len(docs), self.ask("COMMAND COUNT"))
        for name, doc in docs.items():
            self.assertTrue(pairs(doc)["summary"], name)
        self.assertEqual(self.ask("COMMAND DOCS nothing"), [])
        arguments = pairs(pairs(self.ask("COMMAND DOCS expire"))["expire"])["arguments"]
        self.assertEqual(
            [(pairs(a)["display_text"], pairs(a).get("flags")) for a in arguments],
            [(b"key", None), (b"seconds", None), (b"NX | XX | GT | LT", [b"optional"])],
        )

    def test_command_getkeys(self) -> None:
        """COMMAND GETKEYS tells the keys by the table."""
        self.assertEqual(self.ask("COMMAND GETKEYS mset a 1 b 2"), [b"a", b"b"])
        self.assertEqual(self.ask("COMMAND GETKEYS get a"), [b"a"])
        self.assertReplies(
            ("COMMAND GETKEYS ping x", b"-ERR The command has no key arguments\r\n"),
            ("COMMAND GETKEYS foo x", b"-ERR Invalid command specified\r\n"),
            (
                "COMMAND GETKEYS get a b",
                b"-ERR Invalid number of arguments specified for command\r\n",
            ),
        )

    def test_unknown_subcommands(self) -> None:
        """A subcommand that is unknown, or has the wrong arity, is told as Redis does."""
        unknown = b"-ERR unknown subcommand 'foo'. Try %b HELP.\r\n"
        wrong = b"-ERR wrong number of arguments for '%b' command\r\n"
        for name in (b"CLIENT", b"COMMAND", b"CONFIG", b"SLOWLOG"):
            self.assertReplies((name.decode() + " foo", unknown % name))
        for command, shown in (
            ("CLIENT ID x", b"client|id"), ("CLIENT SETNAME x y", b"client|setname"),
            ("COMMAND COUNT x", b"command|count"), ("COMMAND GETKEYS", b"command|getkeys"),
            ("CONFIG GET", b"config|get"), ("CONFIG SET x", b"config|set"),
            ("SLOWLOG LEN x", b"slowlog|len"),
        ):  # fmt: skip
            self.assertReplies((command, wrong % shown))


class ServerTests(BuiltinTestCase):
    """INFO and the other commands about the server."""

    def info(self, sections: str = "") -> dict[str, dict[str, str]]:
        """Return INFO by section."""
        found: dict[str, dict[str, str]] = {}
        for line in self.ask(f"INFO {sections}").decode().split("\r\n"):
            if line.startswith("# "):
                rows = found[line[2:]] = {}
            elif line:
                key, _, value = line.partition(":")
                rows[key] = value
        return found

    def test_port_of_info(self) -> None:
        """INFO tells the port, also when it is closed: of a node that stops, or has failed."""
        self.assertEqual(self.info("server")["Server"]["tcp_port"], "7481")
        port = WriteThroughPort(0, Factory(), reactor=MemoryReactorClock())
        port.startListening()
        number = port.port = port.getHost().port
        self.node.port = port
        self.assertEqual(self.info("server")["Server"]["tcp_port"], str(number))
        port.connectionLost(None)
        self.assertRaises(AttributeError, port.getHost)
        self.assertEqual(self.info("server")["Server"]["tcp_port"], str(number))
        for other in (None, UnixPort("socket", Factory(), reactor=MemoryReactorClock())):
            self.node.port = other
            self.assertEqual(self.info("server")["Server"]["tcp_port"], "0")

    def test_info(self) -> None:
        """INFO has Redis' sections and one of its own; single ones can be asked for."""
        self.assertEqual(
            list(self.info()),
            ["Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU",
             "Cluster", "Raft", "Keyspace"],
        )  # fmt: skip
        self.assertEqual(list(self.info("server raft")), ["Server", "Raft"])
        self.assertEqual(self.info("everything").keys(), self.info().keys())
        self.assertEqual(self.client.ask("INFO nothing"), b"$0\r\n\r\n")
        info = self.info()
        self.assertRegex(info["Server"]["redis_version"], r"^7\.")
        self.assertEqual(info["Server"]["finn_version"], finn.__version__)
        self.assertEqual(info["Server"]["finn_compiled"], str(int("FINN_COMPILED" in os.environ)))
        self.assertEqual(info["Clients"]["connected_clients"], "1")
        self.assertEqual(info["Persistence"]["loading"], "0")
        self.assertEqual(info["Replication"]["role"], "master")
        self.assertEqual(info["Raft"]["state"], "Leader")
        self.assertEqual(info["Cluster"], {"cluster_enabled": "0"})

    def test_keyspace(self) -> None:
        """INFO keyspace counts the machine's keys; there is no line without keys."""
        self.assertEqual(self.info("keyspace"), {"Keyspace": {}})
        self.client.ask("MSET a 1 b 2 c 3", "EXPIRE a 100", "EXPIRE b 100")
        self.assertEqual(self.info("keyspace")["Keyspace"], {"db0": "keys=3,expires=2,avg_ttl=0"})
        self.client.ask("DEL a", "PERSIST b")
        self.assertEqual(self.info("keyspace")["Keyspace"], {"db0": "keys=2,expires=0,avg_ttl=0"})
        self.client.ask("FLUSHALL")
        self.assertEqual(self.info("keyspace"), {"Keyspace": {}})

    def test_config(self) -> None:
        """CONFIG GET matches patterns; nothing can be set."""
        found = pairs(self.ask("CONFIG GET save APPEND* nothing"))
        self.assertEqual(found, {"save": b"", "appendonly": b"yes", "appendfsync": b"everysec"})
        self.assertEqual(self.ask("CONFIG GET nothing"), [])
        self.assertIn(b"durability", self.ask("CONFIG GET *"))
        self.assertReplies(("CONFIG RESETSTAT", b"+OK\r\n"))
        self.assertTrue(self.client.ask("CONFIG SET save x").startswith(b"-ERR CONFIG SET is not"))

    def test_slowlog(self) -> None:
        """SLOWLOG is empty."""
        self.assertReplies(
            ("SLOWLOG GET", b"*0\r\n"), ("SLOWLOG GET 10", b"*0\r\n"),
            ("SLOWLOG GET -1", b"*0\r\n"), ("SLOWLOG LEN", b":0\r\n"),
            ("SLOWLOG RESET", b"+OK\r\n"),
            ("SLOWLOG GET x", b"-ERR count should be greater than or equal to -1\r\n"),
        )  # fmt: skip

    def test_role(self) -> None:
        """ROLE is a master's on the leader; TIME is the node's clock."""
        self.assertEqual(self.ask("ROLE"), [b"master", self.node.applying.last_applied, []])
        seconds, micros = self.ask("TIME")
        self.assertAlmostEqual(
            int(seconds) + int(micros) / 1e6, self.node.wall_ms() / 1000, delta=1
        )

    def test_select(self) -> None:
        """There is database 0 only."""
        self.assertReplies(
            ("SELECT 0", b"+OK\r\n"),
            ("SELECT 1", b"-ERR DB index is out of range\r\n"),
            ("SELECT x", b"-ERR value is not an integer or out of range\r\n"),
            ("ECHO hi", b"$2\r\nhi\r\n"),
            ("DBSIZE", b":0\r\n"),
        )


class FollowerRoleTests(BuiltinTestCase):
    """What INFO and ROLE tell of three nodes."""

    size = 3

    def test_replication(self) -> None:
        """The leader lists its followers, and each follower its leader."""
        leader = self.cluster.leader()
        self.cluster.wait_until(
            lambda: b"connected_slaves:2" in self.client.ask("INFO replication")
        )
        self.assertIn(b"port=7481,state=online", self.client.ask("INFO replication"))
        role, _, replicas = self.ask("ROLE")
        self.assertEqual((role, len(replicas)), (b"master", 2))
        follower = Client(self.cluster, (leader + 1) % 3)
        self.assertEqual(
            parse(follower.ask("ROLE"))[:4],
            [b"slave", f"10.0.0.{leader + 1}".encode(), 7481, b"connected"],
        )
        text = follower.ask("INFO replication")
        self.assertIn(b"role:slave\r\n", text)
        self.assertIn(b"master_link_status:up\r\n", text)
        self.assertIn(b"$7\r\nreplica", follower.ask("HELLO"))


class HidingTests(BuiltinTestCase):
    """A machine's commands and the built-in ones."""

    class Machine(Journal):
        """Has an ECHO of its own."""

        @finn.local("ECHO")
        def echo(self, call: Any, text: bytes) -> bytes:
            """Answer twice."""
            return text * 2

    machine = Machine

    def test_what_yields(self) -> None:
        """A machine may have its own ECHO; PING and the RAFT commands are the node's."""
        self.assertReplies(("ECHO x", b"$2\r\nxx\r\n"), ("PING", b"+PONG\r\n"))
        names = self.ask("COMMAND LIST")
        self.assertEqual(len(names), len(set(names)))
        self.assertNotIn("Answer the message.", str(self.ask("RAFTHELP")))

    def test_info_without_keyspace(self) -> None:
        """A machine that knows nothing of keys leaves the section empty."""
        self.assertEqual(self.client.ask("INFO keyspace"), b"$12\r\n# Keyspace\r\n\r\n")


class OpaqueTests(BuiltinTestCase):
    """A machine in the original's style."""

    machine = Opaque

    def test_builtins_work(self) -> None:
        """The built-in commands are there; the machine's own are not known by name."""
        self.assertReplies(
            ("PING", b"+PONG\r\n"),
            ("SET a b", b":1\r\n"),
            ("NONE", b"-ERR unknown command 'NONE'\r\n"),
            ("RAFTSNAPSHOT", b"-ERR snapshots are disabled\r\n"),
        )
        self.assertNotIn(b"set", self.ask("COMMAND LIST"))
