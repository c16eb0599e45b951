"""The key-value machine and a real redis-server answer alike."""

from __future__ import annotations

import os
import time
from typing import Any, ClassVar

import hiredis
from hypothesis import HealthCheck, given, settings
from twisted.trial.unittest import SynchronousTestCase

from tests.machines.kvclient import KVClient
from tests.machines.realredis import MISSING, RealRedis
from tests.machines.sequences import COMMANDS, UNORDERED, sequences

EXAMPLES = int(os.environ.get("FINN_EXAMPLES", "150"))
"""Random sequences tried for each protocol; more of them look longer."""

_TOLERANCE = {"TTL": 3, "EXPIRETIME": 3, "PTTL": 3000, "PEXPIRETIME": 3000}
"""The two clocks are read at different moments."""


def parse(reply: bytes) -> Any:
    """Return a reply as hiredis sees it."""
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def normal(name: str, reply: Any) -> Any:
    """Bring a reply into a form that can be compared."""
    if isinstance(reply, hiredis.ReplyError):
        return f"-{reply}"
    if name in UNORDERED and isinstance(reply, (list, set)):
        return sorted(reply)
    if name in ("HSCAN", "SSCAN") and isinstance(reply, list):
        width = 2 if name == "HSCAN" else 1
        cursor, items = reply
        return [cursor, sorted(zip(*[iter(items)] * width, strict=True))]
    if name == "HGETALL" and isinstance(reply, list):
        return dict(zip(reply[::2], reply[1::2], strict=True))
    return reply


class _AgainstRedis:
    """Mixed into the classes that say which protocol is spoken."""

    resp3: ClassVar[bool]
    if MISSING:
        skip = "redis-server is not installed"

    def setUp(self) -> None:
        self.redis = RealRedis(os.path.abspath(self.mktemp()))  # type: ignore[attr-defined]
        self.addCleanup(self.redis.stop)  # type: ignore[attr-defined]
        self.redis.run([[b"HELLO", b"3" if self.resp3 else b"2"]])

    def compare(self, sequence: list[list[bytes]]) -> None:
        """Run a sequence on both from an empty state, and compare reply by reply."""
        client = KVClient(int(time.time() * 1000))
        expected = self.redis.run([[b"FLUSHALL"], *sequence])[1:]
        for place, (words, reply) in enumerate(zip(sequence, expected, strict=True)):
            name = words[0].decode()
            theirs = normal(name, reply)
            lower = [words[0].lower(), *words[1:]]  # redis-server writes names in lower case
            ours = normal(name, parse(client.reply(lower, self.resp3)))
            if isinstance(theirs, int) and isinstance(ours, int) and theirs > 0:
                same = abs(theirs - ours) <= _TOLERANCE.get(name, 0)
            else:
                same = ours == theirs and type(ours) is type(theirs)
            assert same, f"{sequence[: place + 1]}: ours {ours!r}, theirs {theirs!r}"

    def test_random_sequences(self) -> None:
        """Every reply to every command of a random sequence is the same."""

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(sequences)
        def check(sequence: list[list[bytes]]) -> None:
            self.compare(sequence)

        check()


class RESP2Tests(_AgainstRedis, SynchronousTestCase):
    """Replies in RESP2."""

    resp3 = False

    def test_every_command_is_compared(self) -> None:
        """The table of random commands leaves none out but those with random replies."""
        ours = {name.decode() for name in KVClient().commands}
        left_out = {"FLUSHDB", "SCAN", "RANDOMKEY", "SPOP", "SRANDMEMBER"}
        self.assertEqual(ours, COMMANDS.keys() | left_out)

    def test_null_arrays(self) -> None:
        """What is an array or nothing has the null array for nothing: bytes are compared."""
        client = KVClient()
        for words in ("LPOP none", "LPOP none 2", "RPOP none 0", "LPOS none x COUNT 1", "GET none"):
            command = words.lower().encode().split()
            self.assertEqual(client.reply(command), self.redis.raw(command), words)

    def test_scan_finds_all_keys(self) -> None:
        """SCAN, followed to its end, returns what redis-server returns, with every option."""
        commands = [[b"SET", b"key:%d" % n, b"x"] for n in range(300)]
        commands += [[b"SADD", b"set:%d" % n, b"x"] for n in range(30)]
        self.compare(commands)
        client = KVClient()
        for words in commands:
            client.run(*words)
        for options in (
            [],
            [b"MATCH", b"*1*"],
            [b"COUNT", b"1"],
            [b"count", b"1000", b"type", b"set"],
            [b"TYPE", b"nothing"],
        ):
            pages = []
            for run in (lambda words: self.redis.run([words])[0], lambda words: client.run(*words)):
                cursor, keys = b"0", []
                while True:
                    cursor, page = run([b"SCAN", cursor, *options])
                    keys += page
                    if cursor == b"0":
                        break
                pages.append(sorted(keys))
            self.assertEqual(*pages)
        self.compare([[b"SCAN", b"x"], [b"SCAN", b"0", b"COUNT", b"0"], [b"SCAN", b"0", b"COUNT"]])
        self.compare([[b"SCAN", b"0", b"COUNT", b"x"], [b"SCAN", b"0", b"x"], [b"SCAN", b"-1"]])

    def test_the_first_of_two_errors(self) -> None:
        """Where two words are wrong the one that comes first is told."""
        for words in ("LIMIT -1 extra", "LIMIT x y", "extra LIMIT -1", "LIMIT 1 LIMIT -1", "LIMIT"):
            self.compare([[b"SINTERCARD", b"1", b"a", *words.encode().split()]])

    def test_random_members(self) -> None:
        """Commands with random replies answer with as many members, and fail alike."""
        client = KVClient()
        setup = [[b"SADD", b"s", *[b"%d" % n for n in range(10)]], [b"SET", b"t", b"x"]]
        self.redis.run([[b"FLUSHALL"], *setup])
        for words in setup:
            client.run(*words)
        for words in (
            "SRANDMEMBER s", "SRANDMEMBER s 3", "SRANDMEMBER s -30", "SRANDMEMBER s 100",
            "SRANDMEMBER s 0", "SRANDMEMBER none", "SRANDMEMBER none 3", "SRANDMEMBER t",
            "SRANDMEMBER s x", "SPOP t", "SPOP none", "SPOP none 2",
            "SPOP s -1", "SPOP s x", "SPOP s 0", "RANDOMKEY",
        ):  # fmt: skip
            command = words.encode().split()
            theirs = normal("", self.redis.run([command])[0])
            ours = normal("", parse(client.reply([command[0].lower(), *command[1:]])))
            if isinstance(theirs, list):
                self.assertEqual(len(ours), len(theirs), words)
                self.assertLessEqual(set(ours), set(map(b"%d".__mod__, range(10))))
            elif isinstance(theirs, bytes):
                self.assertIsInstance(ours, bytes, words)
            else:
                self.assertEqual(ours, theirs, words)

    def test_popped_members_are_gone(self) -> None:
        """SPOP removes what it returns, and the key with the last member."""
        client = KVClient()
        client.run("SADD", "s", *range(10))
        popped = {client.run("SPOP", "s")} | client.run("SPOP", "s", 4)
        self.assertEqual(len(popped), 5)
        self.assertEqual(client.run("SMEMBERS", "s"), {b"%d" % n for n in range(10)} - popped)
        self.assertEqual(len(client.run("SPOP", "s", 100)), 5)
        self.assertEqual(client.run("EXISTS", "s"), 0)


class RESP3Tests(_AgainstRedis, SynchronousTestCase):
    """Replies in RESP3."""

    resp3 = True
