"""Secrets between real processes: who may do what, and that nothing works without."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
from typing import Any

from tests.integration.cluster import Cluster, IntegrationTestCase
from tests.integration.process import environment, need
from tests.integration.resp import Access, Client, ErrorReply, ask

SECRET = "correct horse battery staple"
CLIENT = "only the machine's"

# What changes the cluster or a node, with arguments that could do it.
MANAGING = (
    ("RAFTADDPEER", ":1"),
    ("RAFTREMOVEPEER", ":1"),
    ("RAFTTRANSFER",),
    ("RAFTSNAPSHOT",),
    ("RAFTSHRINKLOG",),
    ("CLIENT", "KILL", "SKIPME", "yes"),
)
READING = ("RAFTLEADER", "RAFTPEERS", "RAFTSTATE", "RAFTSTATS", "RAFTHELP", "INFO", "COMMAND")


class SecretTests(IntegrationTestCase):
    """Nodes with --auth-file."""

    def secured(self, count: int = 1) -> Cluster:
        """Start nodes that share a secret and have one for clients."""
        cluster = self.cluster()
        cluster.folder.mkdir(parents=True)
        path = cluster.folder / "secrets"
        path.write_text(f"# finn\n{SECRET}\nclient {CLIENT}\n")
        path.chmod(0o600)
        cluster.flags += ["--auth-file", str(path)]
        cluster.access = Access(secret=SECRET)
        first = cluster.found()
        for _ in range(count - 1):
            cluster.add("--join", first.address).start()
        return cluster.wait_ready()

    def test_members_and_clients(self) -> None:
        """Members join and replicate; all kinds of clients authenticate."""
        cluster = self.secured(3)
        client = cluster.client()
        self.assertEqual(client.insist("SET", "a", "b"), b"OK")
        cluster.wait_equal()
        leader = cluster.leader()
        leader.kill()
        self.assertEqual(client.insist("SET", "a", "c"), b"OK")
        leader.start().wait_ready()
        port = cluster.leader().port
        import redis

        for protocol in (2, 3):
            with redis.Redis(port=port, password=CLIENT, protocol=protocol) as connection:
                self.assertEqual(connection.get("a"), b"c")
        words = [need("redis-cli"), "-p", str(port), "--no-auth-warning", "-a", SECRET, "GET", "a"]
        run = subprocess.run(words, capture_output=True, text=True, timeout=30)
        self.assertEqual(run.stdout.strip(), "c", run.stderr)
        # finn.client begins at any member and learns the rest.
        run = subprocess.run(
            [sys.executable, "-m", "finn.client", *(n.address for n in cluster.nodes), "GET", "a"],
            env={**environment(), "FINN_SECRET": CLIENT},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual((run.returncode, run.stdout.strip()), (0, "c"), run.stderr)

    def test_nothing_works_without(self) -> None:
        """Every command is refused, pipelined behind a wrong AUTH too."""
        node = self.secured().nodes[0]
        with node.client() as known:
            names = [row[0].decode() for row in known.do("COMMAND")]
        allowed = {"auth", "hello", "quit", "reset"}
        self.assertTrue(allowed < set(names))
        with Client(node.port) as client:
            for name in sorted(set(names) - allowed):
                self.assertError(client.do(name, "x"), "NOAUTH Authentication required.")
            self.assertIn("NOAUTH", str(client.do("HELLO", "3")))
            replies = client.pipeline([["AUTH", "wrong"], ["SET", "a", "b"], ["AUTH", "u", "x"]])
            texts = [str(reply).split()[0] for reply in replies]
            self.assertEqual(texts, ["WRONGPASS", "NOAUTH", "WRONGPASS"])
            node.wait_log("wrong secret from 127.0.0.1:")
            self.assertIn("WRONGPASS", str(client.do("HELLO", "3", "AUTH", "default", "wrong")))
            self.assertEqual(client.do("AUTH", SECRET), b"OK")
            self.assertIsNone(client.do("GET", "a"))
            self.assertEqual(client.do("RESET"), b"RESET")
            self.assertError(client.do("GET", "a"), "NOAUTH Authentication required.")
        self.assertEqual(node.state(), "Leader")

    def test_role_of_clients(self) -> None:
        """The client secret may use the machine and look, and change nothing of the cluster."""
        node = self.secured().nodes[0]
        other = node.client()
        access = Access(secret=CLIENT)
        with Client(node.port, access=access) as client:
            self.assertEqual(client.do("SET", "a", "b"), b"OK")
            for words in (("MULTI",), ("INCR", "n"), ("EXEC",)):
                client.do(*words)
            self.assertEqual(client.do("GET", "n"), b"1")
            for word in READING:
                self.assertFalse(isinstance(client.do(word), ErrorReply), word)
            for words in MANAGING:
                self.assertTrue(str(client.do(*words)).startswith("NOPERM"), words)
                # Nor in a transaction.
                replies = client.pipeline([["MULTI"], words, ["EXEC"]])
                self.assertTrue(any(isinstance(reply, ErrorReply) for reply in replies) or any(
                    isinstance(item, ErrorReply) for item in replies[-1]
                ), (words, replies))  # fmt: skip
            self.assertEqual(other.do("PING"), b"PONG")
            # The role is not kept when the full secret follows, and comes back.
            self.assertEqual(client.do("AUTH", SECRET), b"OK")
            self.assertEqual(client.do("RAFTSNAPSHOT"), b"OK")
            self.assertEqual(client.do("AUTH", CLIENT), b"OK")
            self.assertTrue(str(client.do("RAFTSNAPSHOT")).startswith("NOPERM"))
        other.close()

    def test_joining_without(self) -> None:
        """A node without the secret, or with another, does not get in and says why."""
        cluster = self.secured()
        first = cluster.nodes[0]
        wrong = cluster.folder / "wrong"
        wrong.write_text(f"{CLIENT}\n")
        wrong.chmod(0o600)
        flags, cluster.flags = cluster.flags, []
        bare = cluster.add("--join", first.address).start()
        restricted = cluster.add("--join", first.address, "--auth-file", str(wrong)).start()
        bare.wait_log("failed to join node")
        restricted.wait_log("failed to join node")
        self.assertIn(
            "NOAUTH Authentication required. It has a secret: see --auth-file", bare.log()
        )
        self.assertIn("NOPERM", restricted.log())
        self.assertEqual(len(first.do("RAFTPEERS")), 2)
        # Asked from within, the leader finds that they do not share its secret.
        for node in (bare, restricted):
            self.assertIn("--auth-file", str(first.do("RAFTADDPEER", node.address)))
        self.assertEqual(len(first.do("RAFTPEERS")), 2)
        cluster.flags = flags

    def test_links_need_the_secret(self) -> None:
        """Neither messages without a proof, nor a replayed handshake, nor a reflected one."""
        cluster = self.secured(3)
        node = cluster.leader()
        term = node.stats()["term"]
        for attack in (self.no_proof, self.wrong_proof, self.reflected):
            with Client(node.port) as client:
                reply = attack(client, node.stats())
                self.assertTrue(str(reply).startswith("ERR "), (attack, reply))
                self.assertEqual(client.read_to_end(), b"")
        with Client(node.port) as client:
            client.send(b"*2\r\n$1\r\nT\r\n$8\r\n\xff\0\0\0\0\0\0\0\r\n")
            self.assertTrue(str(client.read()).startswith("NOAUTH"))
        self.assertEqual(node.stats()["term"], term)
        self.assertEqual(cluster.leader(), node)

    def hello(self, stats: dict[str, str], kind: str = "raft") -> list[bytes]:
        """Return the first frame of a link that claims to be some member."""
        cluster, node = stats["cluster_id"].encode(), stats["node_id"].encode()
        zero = b"0" * 16
        claimed = b"%016x" % 0xABCDEF
        return [
            b"RAFTLINK", b"1", cluster, claimed, b":1", node, kind.encode(), zero[:-1] + b"1",
            b"0", os.urandom(32),
        ]  # fmt: skip

    def no_proof(self, client: Client, stats: dict[str, str]) -> Any:
        """Go on as if the proof had been accepted."""
        client.do(*self.hello(stats))
        return client.do(b"PROOF", b"")

    def wrong_proof(self, client: Client, stats: dict[str, str]) -> Any:
        """Prove another secret."""
        client.do(*self.hello(stats))
        return client.do(b"PROOF", hmac.new(b"guess", b"", hashlib.sha256).digest())

    def reflected(self, client: Client, stats: dict[str, str]) -> Any:
        """Give the acceptor's own proof back."""
        answer = client.do(*self.hello(stats))
        return client.do(b"PROOF", answer[-1])


class BeyondLoopbackTests(IntegrationTestCase):
    """Listening where others can reach it."""

    def test_needs_address_and_proof(self) -> None:
        """--advertise, and a secret or a CA or --insecure; else one line and exit code 1."""
        cluster = self.cluster("--bind", "0.0.0.0")
        for flags, text in (
            ([], "needs --advertise"),
            (["--advertise", "127.0.0.1:1"], "needs --auth-file, or --tls-ca, or --insecure"),
        ):
            node = cluster.add(*flags).start()
            self.assertEqual(node.wait(), 1)
            (line,) = node.log().splitlines()
            self.assertIn(text, line)
        node = cluster.add("--insecure")
        node.flags += ["--advertise", f"127.0.0.1:{node.port}"]
        node.start().wait_for("Leader")
        self.assertEqual(ask(node.port, "SET", "a", "b"), b"OK")
