"""MULTI, EXEC, DISCARD, WATCH: what clients see is what redis-server shows them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.node import transactions
from finn.testing.cluster import MemoryCluster
from tests.machines.realredis import MISSING, RealRedis
from tests.node.support import Client, Journal, Opaque, count_replies

TRANSCRIPTS = {
    "replies come with EXEC": """
        a MULTI                     +OK
        a SET k 1                   +QUEUED
        a INCR k                    +QUEUED
        a GET k                     +QUEUED
        b EXISTS k                  :0
        a EXEC                      *3 +OK :2 $1 2
        b GET k                     $1 2
    """,
    "an error inside is a reply, and the rest is done": """
        a MULTI                     +OK
        a SET k x                   +QUEUED
        a INCR k                    +QUEUED
        a LPUSH k y                 +QUEUED
        a SET j z                   +QUEUED
        a EXEC                      *4 +OK -ERR value is not an integer or out of range
            -WRONGTYPE Operation against a key holding the wrong kind of value +OK
        a GET j                     $1 z
    """,
    "a command that cannot be queued spoils all": """
        a MULTI                     +OK
        a SET k 1                   +QUEUED
        a set k                     -ERR wrong number of arguments for 'set' command
        a SET k 2                   +QUEUED
        a EXEC                      -EXECABORT Transaction discarded because of previous errors.
        a GET k                     $-1
        a EXEC                      -ERR EXEC without MULTI
    """,
    "DISCARD forgets": """
        a DISCARD                   -ERR DISCARD without MULTI
        a MULTI                     +OK
        a SET k 1                   +QUEUED
        a DISCARD                   +OK
        a EXEC                      -ERR EXEC without MULTI
        a GET k                     $-1
    """,
    "MULTI and WATCH inside are errors that spoil nothing": """
        a MULTI                     +OK
        a MULTI                     -ERR MULTI calls can not be nested
        a WATCH k                   -ERR WATCH inside MULTI is not allowed
        a SET k 1                   +QUEUED
        a EXEC                      *1 +OK
    """,
    "an empty transaction has an empty reply": """
        a MULTI                     +OK
        a EXEC                      *0
    """,
    "commands of the server are queued too": """
        a MULTI                     +OK
        a PING                      +QUEUED
        a SET k 1                   +QUEUED
        a ECHO x                    +QUEUED
        a SELECT 0                  +QUEUED
        a GET k                     +QUEUED
        a UNWATCH                   +QUEUED
        a CLIENT GETNAME            +QUEUED
        a SELECT x                  +QUEUED
        a EXEC                      *8 +PONG +OK $1 x +OK $1 1 +OK $-1
            -ERR value is not an integer or out of range
        a MULTI                     +OK
        a PING x                    +QUEUED
        a EXEC                      *1 $1 x
    """,
    "a watched key that is written makes EXEC answer null": """
        a WATCH k j                 +OK
        b SET j 1                   +OK
        a MULTI                     +OK
        a SET k 2                   +QUEUED
        a EXEC                      *-1
        a GET k                     $-1
    """,
    "a watched key that is not written does not": """
        a WATCH k                   +OK
        b SET j 1                   +OK
        b GET k                     $-1
        a MULTI                     +OK
        a SET k 2                   +QUEUED
        a EXEC                      *1 +OK
    """,
    "a write of one's own counts": """
        a WATCH k                   +OK
        a SET k 1                   +OK
        a MULTI                     +OK
        a EXEC                      *-1
    """,
    "writes after MULTI count": """
        a WATCH k                   +OK
        a MULTI                     +OK
        a SET k 1                   +QUEUED
        b INCR k                    :1
        a EXEC                      *-1
    """,
    "EXEC ends the watch, whatever became of it": """
        a WATCH k                   +OK
        b SET k 1                   +OK
        a MULTI                     +OK
        a EXEC                      *-1
        a MULTI                     +OK
        a GET k                     +QUEUED
        a EXEC                      *1 $1 1
    """,
    "UNWATCH and DISCARD end the watch": """
        a WATCH k                   +OK
        b SET k 1                   +OK
        a UNWATCH                   +OK
        a MULTI                     +OK
        a EXEC                      *0
        a WATCH k                   +OK
        b SET k 2                   +OK
        a MULTI                     +OK
        a DISCARD                   +OK
        a MULTI                     +OK
        a EXEC                      *0
    """,
    "another's transaction counts by its writes": """
        a WATCH k                   +OK
        b MULTI                     +OK
        b GET k                     +QUEUED
        b SET j 1                   +QUEUED
        b EXEC                      *2 $-1 +OK
        a MULTI                     +OK
        a GET j                     +QUEUED
        a EXEC                      *1 $1 1
        a WATCH k                   +OK
        b MULTI                     +OK
        b SET k 1                   +QUEUED
        b EXEC                      *1 +OK
        a MULTI                     +OK
        a EXEC                      *-1
    """,
    "every key of a command is watched": """
        a WATCH k                   +OK
        b MSET i 1 j 2 k 3          +OK
        a MULTI                     +OK
        a EXEC                      *-1
        a WATCH k                   +OK
        b RENAME j k                +OK
        a MULTI                     +OK
        a EXEC                      *-1
        a WATCH k                   +OK
        b FLUSHALL                  +OK
        a MULTI                     +OK
        a EXEC                      *-1
    """,
    "RESET leaves the transaction and the watch": """
        a WATCH k                   +OK
        a MULTI                     +OK
        a SET k 1                   +QUEUED
        a RESET                     +RESET
        a EXEC                      -ERR EXEC without MULTI
        b SET k 2                   +OK
        a MULTI                     +OK
        a EXEC                      *0
    """,
    "RESP3 has one null": """
        a WATCH k                   +OK
        b SET k 1                   +OK
        a MULTI                     +OK
        a HELLO 3                   -ERR Command not allowed inside a transaction
        a DISCARD                   +OK
    """,
}
OURS_ONLY = {"RESP3 has one null"}
"""redis-server lets HELLO into a transaction, and changes the protocol in the middle of a reply."""


def steps(transcript: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield connection, command and reply of each step; an indented line goes on with a reply."""
    lines: list[str] = []
    for line in transcript.strip("\n").splitlines():
        text = line[8:]
        if text.startswith(" "):
            lines[-1] += " " + text.strip()
        elif text.strip():
            lines.append(text)
    for text in lines:
        yield text[0], text[2:28].strip(), text[28:].encode()


def flat(reply: bytes) -> bytes:
    """Write a reply on one line."""
    return reply.replace(b"\r\n", b" ").strip()


class TranscriptTests(SynchronousTestCase):
    """The transcripts, from a node and from redis-server."""

    def play(self, title: str, ask: Callable[[str, str], bytes]) -> None:
        for place, (name, command, reply) in enumerate(steps(TRANSCRIPTS[title]), 1):
            self.assertEqual(flat(ask(name, command)), reply, f"{title}, step {place}: {command}")

    def test_node(self) -> None:
        """A node answers so."""
        cluster = MemoryCluster(KV, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        for title in TRANSCRIPTS:
            cluster.execute("FLUSHALL")
            clients = {name: Client(cluster, 0) for name in "ab"}
            self.play(title, lambda name, command, c=clients: c[name].ask(command))  # type: ignore[misc]

    def test_redis(self) -> None:
        """redis-server answers so too."""
        redis = RealRedis(os.path.abspath(self.mktemp()))
        self.addCleanup(redis.stop)
        for title in TRANSCRIPTS.keys() - OURS_ONLY:
            redis.run([[b"FLUSHALL"]])
            sockets = {name: redis.connect() for name in "ab"}

            def ask(name: str, command: str, found: dict[str, socket.socket] = sockets) -> bytes:
                found[name].sendall(command.encode() + b"\r\n")
                data = b""
                while not count_replies(data):
                    data += found[name].recv(1 << 16)
                return data

            self.play(title, ask)
            for connection in sockets.values():
                connection.close()

    if MISSING:
        test_redis.skip = "redis-server is not installed"  # type: ignore[attr-defined]


class ClusterTests(SynchronousTestCase):
    """What redis-server has no part in: the log, the leader, other nodes."""

    def cluster(self, machine: Any = KV, **options: Any) -> MemoryCluster:
        cluster = MemoryCluster(machine, size=3, **options)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def test_one_entry(self) -> None:
        """A transaction is one entry, whatever it holds; one of reads only is none."""
        cluster = self.cluster()
        client = Client(cluster, cluster.leader())
        raft: Any = cluster.nodes[cluster.leader()].raft
        before = raft.log.last_index
        client.ask("MULTI", "SET k 1", "GET k", "INCR k", "EXEC")
        self.assertEqual(raft.log.last_index, before + 1)
        client.ask("MULTI", "GET k", "TTL k", "EXEC")
        self.assertEqual(raft.log.last_index, before + 1)

    def test_all_nodes_run_it(self) -> None:
        """Followers run the same commands, with the same chance."""
        cluster = self.cluster(Journal)
        client = Client(cluster, cluster.leader())
        reply = client.ask("NOTE a", "MULTI", "NOTE b", "HERE", "NOTE c", "EXEC", "NOTE d")
        self.assertIn(b"-ERR Command not allowed inside a transaction", reply)
        client.ask("MULTI", "NOTE b", "PING", "NOTE c", "EXEC", "NOTE d")
        leader = cluster.machine(cluster.leader()).rows
        self.assertEqual([row[0] for row in leader], [b"a", b"d", b"b", b"c", b"d"])
        cluster.wait_until(lambda: all(cluster.machine(n).rows == leader for n in range(3)))

    def test_followers_name_the_leader(self) -> None:
        """On a follower EXEC of writes and WATCH answer TRY, EXEC of reads too.

        But EXEC behind a WATCH that was refused does not: who follows TRY from there would send
        the leader a transaction that depends on nothing.
        """
        cluster = self.cluster()
        leader = cluster.leader()
        client = Client(cluster, (leader + 1) % 3)
        wanted = b"-TRY %b\r\n" % cluster.nodes[leader].options.address.encode()
        self.assertEqual(client.ask("WATCH k"), wanted)
        self.assertIn(b"-EXECABORT ", client.ask("MULTI", "SET k 1", "EXEC"))
        self.assertEqual(client.ask("MULTI", "SET k 1", "EXEC"), b"+OK\r\n+QUEUED\r\n" + wanted)
        self.assertEqual(client.ask("MULTI", "GET k", "EXEC"), b"+OK\r\n+QUEUED\r\n" + wanted)

    def test_a_new_leader_ends_the_watch(self) -> None:
        """Who watched on a node that lost and won leadership meanwhile gets null."""
        cluster = self.cluster()
        leader = cluster.leader()
        client = Client(cluster, leader)
        self.assertEqual(client.ask("WATCH k"), b"+OK\r\n")
        others = [n for n in range(3) if n != leader]
        cluster.partition([leader], others)
        cluster.wait_until(lambda: cluster.leader() != leader)
        cluster.execute("SET", "k", "1", on=cluster.leader())
        cluster.heal()
        cluster.wait_until(cluster.settled)
        while cluster.leader() != leader:
            address = cluster.nodes[leader].options.address
            Client(cluster, cluster.leader()).ask(f"RAFTTRANSFER {address}")
            cluster.advance(0.5)
        self.assertTrue(client.ask("MULTI", "GET k", "EXEC").endswith(b"*-1\r\n"))

    def test_opaque_machines(self) -> None:
        """A machine in the original's style takes part, with its reads and local commands."""
        cluster = self.cluster(Opaque)
        client = Client(cluster, cluster.leader())
        self.assertEqual(
            flat(client.ask("MULTI", "SET a 1", "GET a", "PING", "NONE", "SET b 2", "EXEC")),
            b"+OK +QUEUED +QUEUED +QUEUED +QUEUED +QUEUED "
            b"*5 :1 $1 1 +PONG -ERR unknown command 'NONE' :2",
        )
        self.assertEqual(client.ask("WATCH a"), b"+OK\r\n")
        Client(cluster, cluster.leader()).ask("SET c 3")
        # Its commands do not name their keys: any write counts.
        self.assertEqual(client.ask("MULTI", "GET a", "EXEC")[-5:], b"*-1\r\n")

    def test_bounds(self) -> None:
        """So many commands, so many bytes, so many watched keys, and not more."""
        cluster = MemoryCluster(KV, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        self.patch(transactions, "MAX_QUEUED", 3)
        self.patch(transactions, "MAX_QUEUED_BYTES", 100)
        self.patch(transactions, "MAX_WATCHED", 3)
        self.patch(transactions, "MAX_WATCHED_BYTES", 20)
        client = Client(cluster, 0)
        refused = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
        reply = client.ask("MULTI", "PING", "GET a", "GET a", "PING", "EXEC")
        self.assertIn(b"-ERR transactions are limited to 3 commands\r\n" + refused, reply)
        reply = client.ask("MULTI", "SET a " + "x" * 100, "EXEC")
        self.assertIn(b"-ERR transactions are limited to 100 bytes\r\n" + refused, reply)
        reply = client.ask("WATCH a b", "WATCH a b")
        self.assertEqual(reply, b"+OK\r\n+OK\r\n")
        reply = client.ask("UNWATCH", "WATCH a b", "WATCH c d")
        self.assertEqual(reply, b"+OK\r\n+OK\r\n-ERR a connection may watch 3 keys at most\r\n")
        self.assertIn(b"-EXECABORT ", client.ask("MULTI", "SET a 1", "EXEC"))
        error = b"-ERR a connection may watch 3 keys at most\r\n"
        self.assertEqual(client.ask("WATCH a a a a"), error)
        self.assertIn(b"-EXECABORT ", client.ask("MULTI", "SET a 1", "EXEC"))
        self.assertEqual(client.ask("WATCH " + "x" * 20), b"+OK\r\n")
        error = b"-ERR a connection may watch keys of 20 bytes at most\r\n"
        self.assertEqual(client.ask("WATCH y"), error)

    def test_a_lost_connection_leaves_nothing(self) -> None:
        """The watch of a client that is gone is forgotten."""
        cluster = MemoryCluster(KV, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        client = Client(cluster, 0)
        client.ask("WATCH a b")
        self.assertTrue(cluster.nodes[0].transactions.watching)
        client.protocol.connectionLost()
        self.assertFalse(cluster.nodes[0].transactions.watching)

    def test_resp3(self) -> None:
        """EXEC's null and the replies in it are RESP3's after HELLO 3."""
        cluster = MemoryCluster(KV, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        client, other = Client(cluster, 0), Client(cluster, 0)
        client.ask("HELLO 3", "HSET h f v", "WATCH k")
        other.ask("SET k 1")
        self.assertTrue(client.ask("MULTI", "EXEC").endswith(b"_\r\n"))
        reader = hiredis.Reader()
        reader.feed(client.ask("MULTI", "HGETALL h", "GET none", "EXEC"))
        replies = [reader.gets() for _ in range(4)]
        self.assertEqual(replies[-1], [{b"f": b"v"}, None])
