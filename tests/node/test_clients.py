"""The built-in commands about connections: HELLO, AUTH, CLIENT, RESET."""

from __future__ import annotations

from typing import Any

from finn.node.builtin import MANY
from finn.node.clients import MAX_NAME
from tests.node.support import Client
from tests.node.test_builtin import BuiltinTestCase, pairs, parse

NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


class HelloTests(BuiltinTestCase):
    """HELLO without a secret."""

    def test_hello(self) -> None:
        """HELLO tells about the server, as a map in RESP3."""
        found = pairs(self.ask("HELLO"))
        self.assertEqual(found["server"], b"redis")
        self.assertEqual((found["proto"], found["mode"]), (2, b"standalone"))
        self.assertEqual((found["role"], found["modules"]), (b"master", []))
        found = self.ask("HELLO 3 SETNAME me")
        self.assertEqual(found[b"proto"], 3)
        self.assertReplies(("CLIENT GETNAME", b"$2\r\nme\r\n"), ("GET none", b"_\r\n"))
        self.assertEqual(self.ask("HELLO")[b"proto"], 3)
        self.ask("HELLO 2")
        self.assertReplies(("GET none", b"$-1\r\n"))

    def test_errors(self) -> None:
        """What is wrong changes nothing."""
        self.assertReplies(
            ("HELLO 4", b"-NOPROTO unsupported protocol version\r\n"),
            ("HELLO x", b"-ERR Protocol version is not an integer or out of range\r\n"),
            ("HELLO 3 SETNAME", b"-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
            ("HELLO 3 foo x", b"-ERR Syntax error in HELLO option 'foo'\r\n"),
            (
                'HELLO 3 SETNAME "a b"',
                b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
            ),
            ("HELLO 3 AUTH other x", WRONGPASS),
            ("AUTH other x", WRONGPASS),
            (
                "AUTH x",
                b"-ERR AUTH <password> called without any password configured for the default "
                b"user. Are you sure your configuration is correct?\r\n",
            ),
            ("GET none", b"$-1\r\n"),
            ("CLIENT GETNAME", b"$-1\r\n"),
        )

    def test_auth_where_no_secret_is_asked(self) -> None:
        """Redis' default user without a password may come with any."""
        self.assertReplies(("AUTH default x", b"+OK\r\n"), ("GET none", b"$-1\r\n"))
        self.assertEqual(self.ask("HELLO 3 AUTH default x")[b"proto"], 3)

    def test_resp3(self) -> None:
        """After HELLO 3 there are maps, sets and one null."""
        self.client.ask("HELLO 3", "HSET h f v", "SADD s a")
        self.assertReplies(
            ("HGETALL h", b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n"),
            ("SMEMBERS s", b"~1\r\n$1\r\na\r\n"),
            ("LPOP none 2", b"_\r\n"),
            ("MGET none", b"*1\r\n_\r\n"),
            ("CONFIG GET save", b"%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        )
        self.assertEqual(self.client.ask("COMMAND DOCS get")[:1], b"%")

    def test_reset(self) -> None:
        """RESET puts everything back."""
        self.client.ask("HELLO 3 SETNAME me", "MULTI")
        self.assertReplies(
            ("RESET", b"+RESET\r\n"),
            ("GET none", b"$-1\r\n"),
            ("CLIENT GETNAME", b"$-1\r\n"),
            ("EXEC", b"-ERR EXEC without MULTI\r\n"),
        )


class AuthTests(BuiltinTestCase):
    """A cluster with a secret for members and one for clients."""

    options = {"secret": "all", "client_secret": "some"}

    def test_before(self) -> None:
        """Before AUTH there is little else."""
        self.assertReplies(
            ("PING", NOAUTH), ("SET k v", NOAUTH), ("RAFTSTATS", NOAUTH), ("nonsense", NOAUTH),
            ("MULTI", NOAUTH), ("COMMAND", NOAUTH), ("CLIENT ID", NOAUTH), ("SET", NOAUTH),
        )  # fmt: skip
        self.assertTrue(self.client.ask("HELLO 3").startswith(b"-NOAUTH HELLO must be called"))
        self.assertEqual(self.client.ask("QUIT"), b"+OK\r\n")

    def test_secrets(self) -> None:
        """Both secrets let in, with any user name; a wrong one does not."""
        self.assertReplies(
            ("AUTH wrong", WRONGPASS), ("PING", NOAUTH), ("AUTH default wrong", WRONGPASS),
            ("AUTH all", b"+OK\r\n"), ("PING", b"+PONG\r\n"), ("RESET", b"+RESET\r\n"),
            ("PING", NOAUTH), ("AUTH default some", b"+OK\r\n"), ("SET k v", b"+OK\r\n"),
        )  # fmt: skip
        client = Client(self.cluster, 0)
        self.assertEqual(parse(client.ask("HELLO 3 AUTH default all SETNAME me"))[b"proto"], 3)
        self.assertEqual(client.ask("CLIENT GETNAME"), b"$2\r\nme\r\n")

    def test_clients_may_not_manage(self) -> None:
        """The clients' secret does not let change the cluster, nor drop others."""
        self.client.ask("AUTH some")
        refused = b"-NOPERM this secret may not manage the cluster\r\n"
        for command in (
            "RAFTADDPEER x:1", "RAFTREMOVEPEER x:1", "RAFTTRANSFER", "RAFTSNAPSHOT", "RAFTSHRINKLOG"
        ):  # fmt: skip
            self.assertReplies((command, refused))
        self.assertEqual(
            self.client.ask("CLIENT KILL ID 1"), b"-NOPERM this secret may not drop connections\r\n"
        )
        self.assertReplies(("RAFTSTATE", b"$6\r\nLeader\r\n"))
        self.client.ask("AUTH all")
        self.assertReplies(("RAFTTRANSFER x:1", b"-peer is unknown\r\n"))


class ClientTests(BuiltinTestCase):
    """CLIENT and its subcommands."""

    def rows(self, command: str = "CLIENT LIST") -> list[dict[str, str]]:
        """Return the lines of CLIENT LIST."""
        lines = self.ask(command).decode().splitlines()
        return [dict(field.split("=", 1) for field in line.split(" ")) for line in lines]

    def other(self) -> Any:
        """Return one more client, and its number."""
        client = Client(self.cluster, 0)
        return client, parse(client.ask("CLIENT ID"))

    def test_names(self) -> None:
        """A connection can be named, and the library too."""
        refused = b"cannot contain spaces, newlines or special characters.\r\n"
        self.assertReplies(
            ("CLIENT GETNAME", b"$-1\r\n"),
            ("CLIENT SETNAME me", b"+OK\r\n"),
            ("client getname", b"$2\r\nme\r\n"),
            ('CLIENT SETNAME "a b"', b"-ERR Client names " + refused),
            ("CLIENT SETINFO lib-name lib", b"+OK\r\n"),
            ("CLIENT SETINFO LIB-VER 1.0", b"+OK\r\n"),
            ('CLIENT SETINFO LIB-VER "a b"', b"-ERR LIB-VER " + refused),
            ("CLIENT SETINFO foo x", b"-ERR Unrecognized option 'foo'\r\n"),
            ("CLIENT NO-EVICT on", b"+OK\r\n"),
            ("CLIENT NO-TOUCH off", b"+OK\r\n"),
            ("CLIENT NO-EVICT x", b"-ERR syntax error\r\n"),
        )
        row = self.rows("CLIENT INFO")[0]
        self.assertEqual((row["name"], row["lib-name"], row["lib-ver"]), ("me", "lib", "1.0"))
        self.assertEqual(
            (row["resp"], row["db"], row["multi"], row["user"]), ("2", "0", "-1", "default")
        )
        self.client.ask('CLIENT SETNAME ""')
        self.assertReplies(("CLIENT GETNAME", b"$-1\r\n"))

    def test_long_names(self) -> None:
        """A name has a bound, as CLIENT LIST shows those of all clients."""
        long = "x" * (MAX_NAME + 1)
        refused = b"-ERR %b cannot be longer than 1024 bytes.\r\n"
        self.assertReplies(
            ("CLIENT SETNAME " + long[1:], b"+OK\r\n"),
            ("CLIENT SETNAME " + long, refused % b"Client names"),
            ("HELLO 2 SETNAME " + long, refused % b"Client names"),
            ("CLIENT SETINFO LIB-NAME " + long, refused % b"LIB-NAME"),
            ("CLIENT SETINFO lib-ver " + long, refused % b"lib-ver"),
            ("CLIENT GETNAME", b"$1024\r\n" + long[1:].encode() + b"\r\n"),
        )

    def test_many_arguments(self) -> None:
        """What takes any number of them takes no more than are looked at quickly."""
        self.assertEqual(len(self.rows("CLIENT LIST ID" + " 1" * (MANY - 1))), 1)
        wrong = b"-ERR wrong number of arguments for '%b' command\r\n"
        name = "HELLO 3" + " SETNAME a" * (MANY // 2)
        self.assertReplies(
            (name, wrong % b"HELLO"),
            ("CLIENT LIST ID" + " 1" * MANY, wrong % b"client|list"),
            ("CLIENT KILL" + " ID 12345" * 7, b":0\r\n"),
            ("CLIENT KILL" + " ID 12345" * 8, wrong % b"client|kill"),
            ("COMMAND INFO" + " get" * (MANY + 1), wrong % b"command|info"),
            ("COMMAND DOCS" + " get" * (MANY + 1), wrong % b"command|docs"),
            ("COMMAND GETKEYS del" + " k" * MANY, wrong % b"command|getkeys"),
            ("CONFIG GET" + " dir" * (MANY + 1), wrong % b"config|get"),
            ("INFO" + " server" * (MANY + 1), wrong % b"INFO"),
        )

    def test_list(self) -> None:
        """CLIENT LIST has one line for each, or for those asked for."""
        own = self.ask("CLIENT ID")
        _, other = self.other()
        self.assertEqual([int(row["id"]) for row in self.rows()], [own, other])
        self.assertEqual(len(self.rows(f"CLIENT LIST ID {other} 12345")), 1)
        self.assertEqual(len(self.rows("CLIENT LIST TYPE normal")), 2)
        self.assertEqual(self.rows("CLIENT LIST TYPE pubsub"), [])
        self.assertReplies(
            ("CLIENT LIST ID", b"-ERR syntax error\r\n"),
            ("CLIENT LIST ID x", b"-ERR Invalid client ID\r\n"),
            ("CLIENT LIST TYPE x", b"-ERR Unknown client type 'x'\r\n"),
            ("CLIENT LIST foo", b"-ERR syntax error\r\n"),
        )

    def test_fields(self) -> None:
        """They are those of Redis 7, in its order, behind which later ones come."""
        (row,) = self.rows("CLIENT INFO")
        fields = (
            "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem "
            "multi-mem rbs rbp obl oll omem tot-mem events cmd user redir resp "
            "lib-name lib-ver tot-cmds"
        )
        self.assertEqual(" ".join(row), fields)
        texts = {"addr", "laddr", "name", "flags", "events", "cmd", "user", "lib-name", "lib-ver"}
        for name in set(row) - texts:
            int(row[name])
        other, number = self.other()
        other.ask("MULTI", "SET k vvvv")
        (row,) = self.rows(f"CLIENT LIST ID {number}")
        self.assertEqual((row["multi"], row["multi-mem"], row["tot-mem"]), ("1", "8", "8"))

    def test_kill(self) -> None:
        """CLIENT KILL drops whom it names; the others and one's own connection stay."""
        killed = []
        for _ in range(3):
            client, number = self.other()
            client.transport.abortConnection = lambda n=number: killed.append(n)
            last = number
        self.assertReplies(
            (f"CLIENT KILL ID {last}", b":1\r\n"),
            ("CLIENT KILL ID 12345", b":0\r\n"),
            ("CLIENT KILL TYPE pubsub", b":0\r\n"),
        )
        self.assertEqual(killed, [last])
        self.assertReplies(
            ("CLIENT KILL 1.2.3.4:5", b"-ERR No such client\r\n"),
            ("CLIENT KILL ID x", b"-ERR client-id should be greater than 0\r\n"),
            ("CLIENT KILL ID 1 TYPE", b"-ERR syntax error\r\n"),
            ("CLIENT KILL foo x", b"-ERR syntax error\r\n"),
            ("CLIENT KILL TYPE foo", b"-ERR Unknown client type 'foo'\r\n"),
            ("CLIENT KILL USER foo", b"-ERR No such user 'foo'\r\n"),
            ("CLIENT KILL SKIPME foo", b"-ERR syntax error\r\n"),
        )
        self.assertEqual(killed, [last])
        self.assertEqual(self.ask("CLIENT KILL TYPE normal"), 3)
        self.assertEqual(sorted(set(killed)), [last - 2, last - 1, last])

    def test_kill_oneself(self) -> None:
        """Who drops itself gets the reply before the connection is closed."""
        number = self.ask("CLIENT ID")
        self.client.transport.clear()
        self.client.send(f"CLIENT KILL ID {number} SKIPME no", "PING")
        self.assertEqual(self.client.received, b":1\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_help(self) -> None:
        """CLIENT HELP names the subcommands."""
        self.assertIn(b"CLIENT SETNAME", self.ask("CLIENT HELP"))
