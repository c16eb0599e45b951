"""Commands of a pipeline that run together: with the results, and the state, of one by one."""

from __future__ import annotations

from typing import Any

import hiredis
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.errors import CommandError
from finn.machines.kv import KV
from finn.options import Consistency
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, count_replies

MANY = 40  # so many make a payload that followers read as a row of equals, too


class Sums(finn.Machine):
    """Notes how its commands were called."""

    def __init__(self) -> None:
        self.total = 0
        self.together = 0

    @finn.write("ADD", pipelined="add_all")
    def add(self, call: Any, text: bytes, *more: bytes) -> Any:
        """Add a number."""
        self.total += int(text)
        return self.total

    def add_all(self, call: Any, texts: Any) -> list[Any]:
        """Add several."""
        self.together += 1
        results: list[Any] = [self.add(call, text) for text in texts]
        if b"8" in texts:
            results[texts.index(b"8")] = CommandError("EIGHT is odd")
        if b"7" in texts:
            raise ValueError("seven")
        if b"6" in texts:
            results.pop()
        return results

    @finn.write("MARK", pipelined="mark_all")
    def mark(self, call: Any, text: bytes) -> Any:
        """Say OK."""
        return finn.OK

    def mark_all(self, call: Any, texts: Any) -> list[Any]:
        """Say OK, but for some."""
        others = {b"8": CommandError("EIGHT is odd"), b"9": object()}
        return [others.get(text, finn.OK) for text in texts]

    @finn.write("LAZY", pipelined="lazy_all")
    def lazy(self, call: Any, text: bytes) -> Any:
        """Do nothing."""

    def lazy_all(self, call: Any, texts: Any) -> Any:
        """Do it later."""
        return (self.add(call, text) for text in texts)

    @finn.read("DOUBLE", pipelined="double_all")
    def double(self, call: Any, text: bytes) -> int:
        """Double a number."""
        if text == b"7":
            raise CommandError("SEVEN is odd")
        return 2 * int(text)

    def double_all(self, call: Any, texts: Any) -> list[int]:
        """Double several."""
        if b"5" in texts:
            raise KeyError("five")
        if b"9" in texts:
            raise MemoryError
        return [self.double(call, text) for text in texts]


class TogetherTests(SynchronousTestCase):
    def start(self, machine: Any, **options: Any) -> Client:
        self.cluster = MemoryCluster(machine, **options)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        return Client(self.cluster, self.cluster.leader())

    def ask(self, client: Client, *commands: list[bytes]) -> list[Any]:
        """Send a pipeline in one piece; returns the replies, errors as their text."""
        client.transport.clear()
        client.protocol.dataReceived(b"".join(map(pack_command, commands)))
        self.cluster.wait_until(lambda: count_replies(client.received) >= len(commands))
        reader = hiredis.Reader(replyError=str)
        reader.feed(client.received)
        return [reader.gets() for _ in commands]

    def both_ways(self, client: Client, *commands: list[bytes]) -> list[Any]:
        """Ask twice: at first they are read and run one by one, then together."""
        found = self.ask(client, *commands)
        self.assertEqual(self.ask(client, *commands), found)
        return found

    def test_writes_and_reads_of_keys(self) -> None:
        """SET and GET, at every level; missing keys and large values among them."""
        for level in Consistency:
            client = self.start(KV, consistency=level)
            keys = [b"key:%03d" % i for i in range(MANY)]
            for value in (b"a", b"", b"x" * 2000):
                sets = [[b"SET", key, value] for key in keys[1:]]
                self.assertEqual(self.both_ways(client, *sets), [b"OK"] * (MANY - 1))
                gets = self.both_ways(client, *[[b"GET", key] for key in keys])
                self.assertEqual(gets, [None] + [value] * (MANY - 1))
                self.cluster.advance(1)
                for member in range(3):
                    machine = self.cluster.machine(member)
                    self.assertEqual([machine.look(0, key) for key in keys[1:]], [value] * 39)
            self.ask(client, *[[b"SET", key, key[-1 - i % 3 :]] for i, key in enumerate(keys)])
            gets = self.both_ways(client, *[[b"GET", key] for key in keys])
            self.assertEqual(gets, [key[-1 - i % 3 :] for i, key in enumerate(keys)])

    def test_the_last_of_one_key_wins(self) -> None:
        """They are run in their order."""
        client = self.start(KV)
        sets = [[b"SET", b"key", b"%03d" % i] for i in range(MANY)]
        self.both_ways(client, *sets)
        self.assertEqual(self.ask(client, [b"GET", b"key"]), [b"%03d" % (MANY - 1)])

    def test_another_type_is_an_error_of_its_own(self) -> None:
        """The others of the pipeline have their values."""
        client = self.start(KV)
        self.ask(client, [b"SADD", b"key:1", b"member"], [b"SET", b"key:2", b"value"])
        replies = self.both_ways(client, *[[b"GET", b"key:%d" % (i % 3)] for i in range(6)])
        self.assertEqual(replies[::3], [None, None])
        self.assertTrue(all(reply.startswith("WRONGTYPE") for reply in replies[1::3]), replies)
        self.assertEqual(replies[2::3], [b"value", b"value"])

    def test_deadlines(self) -> None:
        """SET takes them away, and expired keys are missing."""
        client = self.start(KV)
        keys = [b"key:%03d" % i for i in range(MANY)]
        gets = [[b"GET", key] for key in keys]
        other = Client(self.cluster, self.cluster.leader())
        self.ask(other, *[[b"SET", key, b"first"] for key in keys])
        self.ask(client, *[[b"SET", key, b"value", b"PX", b"5000"] for key in keys])
        self.ask(other, *[[b"SET", key, b"other"] for key in keys[::2]])
        self.assertEqual(self.both_ways(client, *gets), [b"other", b"value"] * (MANY // 2))
        self.cluster.advance(6)
        self.assertEqual(self.both_ways(client, *gets), [b"other", None] * (MANY // 2))
        self.both_ways(client, *[[b"SET", key, b"again"] for key in keys])
        self.assertEqual(self.both_ways(client, *gets), [b"again"] * MANY)

    def test_a_freeze_is_not_written_to(self) -> None:
        """What a snapshot holds stays as it was."""
        client = self.start(KV)
        keys = [b"key:%03d" % i for i in range(MANY)]
        self.both_ways(client, *[[b"SET", key, b"old"] for key in keys])
        machine = self.cluster.machine(self.cluster.leader())
        frozen = machine.freeze()
        self.both_ways(client, *[[b"SET", key, b"new"] for key in keys])
        held = {key: value for shard in frozen.shards for key, value in shard.items()}
        self.assertEqual(held, dict.fromkeys(keys, b"old"))
        machine.release(frozen)
        self.assertEqual(self.ask(client, [b"GET", keys[0]]), [b"new"])

    def test_transactions(self) -> None:
        """A pipeline within one is queued, and EXEC counts its replies one by one."""
        client = self.start(KV)
        gets = [[b"GET", b"key:%d" % i] for i in range(6)]
        self.ask(client, *gets)
        self.assertEqual(self.ask(client, [b"MULTI"]), [b"OK"])
        self.assertEqual(self.ask(client, *gets), [b"QUEUED"] * 6)
        self.assertEqual(self.ask(client, [b"EXEC"]), [[None] * 6])

    def test_each_is_checked(self) -> None:
        """A wrong number of arguments, a name that nobody knows, and what clients may not do."""
        client = self.start(KV)
        for command, error in (
            ([b"SET", b"key"], "ERR wrong number of arguments for 'SET' command"),
            ([b"GET", b"key", b"key"], "ERR wrong number of arguments for 'GET' command"),
            ([b"NONE", b"key"], "ERR unknown command 'NONE'"),
        ):
            self.assertEqual(self.both_ways(client, *[command] * 6), [error] * 6)
        self.assertEqual(self.both_ways(client, *[[b"ECHO", b"a"]] * 6), [b"a"] * 6)
        self.assertEqual(self.both_ways(client, *[[b"PING"]] * 6), [b"PONG"] * 6)
        self.assertEqual(self.both_ways(client, *[[b"PING", b"b"]] * 6), [b"b"] * 6)
        self.assertEqual(self.both_ways(client, *[[b"get", b"key"]] * 6), [None] * 6)

    def test_together_on_all_nodes(self) -> None:
        """What the leader runs together, followers do as well; extra arguments run alone."""
        client = self.start(Sums)
        add = [[b"ADD", b"1"]] * MANY
        self.ask(client, *add)
        self.assertEqual(self.ask(client, *add), list(range(MANY + 1, 2 * MANY + 1)))
        self.ask(client, *[[b"ADD", b"1", b"x"]] * MANY)
        self.ask(client, *[[b"ADD", b"1", b"x"]] * MANY)
        self.cluster.advance(1)
        machines = [self.cluster.machine(member) for member in range(3)]
        self.assertEqual([machine.total for machine in machines], [4 * MANY] * 3)
        self.assertEqual(machines[self.cluster.leader()].together, 1)
        self.assertTrue(all(machine.together for machine in machines))

    def test_results_may_be_errors(self) -> None:
        """Of a write, where the others are done."""
        client = self.start(Sums)
        self.ask(client, *[[b"ADD", b"0"]] * 6)
        adds = [[b"ADD", b"%d" % n] for n in (1, 1, 8, 1)]
        self.assertEqual(self.ask(client, *adds), [1, 2, "EIGHT is odd", 11])
        self.ask(client, *[[b"MARK", b"0"]] * 6)
        marks = [[b"MARK", b"%d" % n] for n in (1, 9, 8, 1)]
        expected = [b"OK", "ERR internal error: TypeError", "EIGHT is odd", b"OK"]
        self.assertEqual(self.ask(client, *marks), expected)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_memory_error_in_a_read(self) -> None:
        """Of several together: each is tried alone, where it takes less."""
        client = self.start(Sums)
        self.ask(client, *[[b"DOUBLE", b"0"]] * 6)
        client.transport.clear()
        client.protocol.dataReceived(b"".join([pack_command([b"DOUBLE", b"9"])] * 6))
        self.assertEqual(client.received, b":18\r\n" * 6)

    def test_a_write_whose_results_are_no_list(self) -> None:
        """A generator has done nothing yet, and on followers nobody would look at it."""
        client = self.start(Sums)
        leader = self.cluster.leader()
        self.ask(client, *[[b"LAZY", b"0"]] * MANY)
        client.protocol.dataReceived(b"".join([pack_command([b"LAZY", b"1"])] * MANY))
        self.cluster.advance(10)
        failures = [computer.failure for computer in self.cluster.computers]
        self.assertIsInstance(failures[leader], TypeError)
        self.assertGreater(sum(isinstance(f, TypeError) for f in failures), 1)
        self.flushLoggedErrors(TypeError)

    def test_a_wrong_number_of_results(self) -> None:
        """It is an error of the machine; the state is the same everywhere."""
        client = self.start(Sums)
        self.ask(client, *[[b"ADD", b"0"]] * MANY)
        replies = self.ask(client, *[[b"ADD", b"6"]] * MANY)
        self.assertEqual(replies, ["ERR internal error: ValueError"] * MANY)
        self.cluster.advance(1)
        totals = [self.cluster.machine(member).total for member in range(3)]
        self.assertEqual(totals, [6 * MANY] * 3)
        self.flushLoggedErrors(ValueError)

    def test_a_read_that_fails_is_run_one_by_one(self) -> None:
        """Quietly where it is the client's error, with a word in the log where it is a bug."""
        client = self.start(Sums)
        doubles = [[b"DOUBLE", b"%d" % n] for n in (1, 7, 2, 3)]
        self.assertEqual(self.both_ways(client, *doubles), [2, "SEVEN is odd", 4, 6])
        self.assertEqual(self.flushLoggedErrors(), [])
        doubles[1] = [b"DOUBLE", b"5"]
        self.assertEqual(self.ask(client, *doubles), [2, 10, 4, 6])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_a_write_that_raises_stops_the_node(self) -> None:
        """Half of it is done, and of which half depends on how many came together."""
        client = self.start(Sums)
        leader = self.cluster.leader()
        self.ask(client, *[[b"ADD", b"0"]] * 6)
        client.protocol.dataReceived(b"".join([pack_command([b"ADD", b"7"])] * 6))
        self.cluster.advance(1)
        self.assertIsInstance(self.cluster.computers[leader].failure, ValueError)
        self.flushLoggedErrors(ValueError)
