"""What several clients send in one batch of events: run together, and as if it came alone."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.machines.kv import KV
from finn.node import proposals
from finn.options import Consistency
from finn.protocols.crowd import SAMPLE
from finn.resp.replies import pack_command
from finn.testing.cluster import MemoryCluster
from tests.machines.kvclient import dump
from tests.node.crowds import HIGH, LOW, MEDIUM, NIL, OK, WRONGTYPE, Crowd, bulk
from tests.node.support import Client, Journal
from tests.node.test_grouping import contents
from tests.node.test_together import Sums


class Traps(finn.Machine):
    """A machine with reads that fail as no read should."""

    @finn.read("LOOK", pipelined="look_all")
    def look(self, call: Any, text: bytes) -> bytes:
        """Return the argument, or fail."""
        if text == b"9":
            raise RecursionError
        if text == b"8":
            raise SystemExit
        return text

    @finn.write("PUSH")
    def push(self, call: Any, number: int) -> int:
        """Return a number."""
        return number

    def look_all(self, call: Any, texts: Any) -> list[bytes]:
        """Look at several."""
        return [self.look(call, text) for text in texts]


class CrowdCase(SynchronousTestCase):
    """Three nodes, and clients of one of them."""

    def start(
        self, level: Consistency = MEDIUM, machine: Any = KV, follower: bool = False
    ) -> Crowd:
        self.cluster = MemoryCluster(machine, consistency=level)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        self.leader = self.cluster.leader()
        self.raft: Any = self.cluster.nodes[self.leader].raft
        member = (self.leader + 1) % 3 if follower else self.leader
        self.crowd = Crowd(self.cluster, member)
        return self.crowd

    def fill(self, *commands: str) -> None:
        """Run commands before the test."""
        for command in commands:
            self.cluster.execute(*command.split())


class Writes(CrowdCase):
    def test_one_entry_for_all(self) -> None:
        """With everybody's commands in it, and the same state on all nodes."""
        crowd = self.start()
        before = self.raft.log.last_index
        found = crowd.ask("SET k0 0;SET k1 1", "SET k2 2", "SET k3 3;SET k4 4;SET k5 5")
        self.assertEqual(found, [OK * 2, OK, OK * 3])
        self.assertEqual((crowd.taken, crowd.refused), ([[2, 1, 3]], []))
        (entry,) = self.raft.log.entries(before + 1, self.raft.log.last_index, 1 << 20)
        self.assertEqual(entry.count, 6)
        self.cluster.advance(1)
        machines = [self.cluster.machine(member) for member in range(3)]
        keys = contents(machines[0], crowd.node.applying.last_time)
        self.assertEqual(keys, {b"k%d" % n: (b"%d" % n, None) for n in range(6)})
        self.assertEqual(len({dump(machine) for machine in machines}), 1)

    def test_everybody_gets_the_own_replies(self) -> None:
        """Of commands that are run one by one as well, each with its own reply."""
        crowd = self.start()
        self.fill("SET k1 old")
        found = crowd.ask("SET k0 a GET;SET k0 b GET", "SET k1 c GET", "SET k2 d GET;SET k2 e GET")
        self.assertEqual(found, [NIL + bulk(b"a"), bulk(b"old"), NIL + bulk(b"d")])
        found = crowd.ask("INCR n0;INCR n0;INCR n0", "INCR n1", "INCR k1", "INCR n0;INCR k1")
        refusal = b"-ERR value is not an integer or out of range\r\n"
        self.assertEqual(found, [b":1\r\n:2\r\n:3\r\n", b":1\r\n", refusal, b":4\r\n" + refusal])
        self.assertEqual(crowd.taken, [[2, 1, 2], [3, 1, 1, 2]])

    def test_commands_that_have_no_function_for_several(self) -> None:
        """With mistakes of some clients in between."""
        crowd = self.start()
        self.fill("SET kS v")
        found = crowd.ask("LPUSH k0 a;LPUSH k0 b", "LPUSH kS a", "LPUSH k0 c", "LPUSH k1 a")
        self.assertEqual(found, [b":1\r\n:2\r\n", WRONGTYPE, b":3\r\n", b":1\r\n"])
        found = crowd.ask("SADD k2 a;SADD k2 a", "SADD k2 b", "SADD kS b;SADD k2 c")
        self.assertEqual(found, [b":1\r\n:0\r\n", b":1\r\n", WRONGTYPE + b":1\r\n"])
        self.assertEqual(len(crowd.taken), 2)

    def test_a_client_sees_what_it_wrote(self) -> None:
        """Though its read comes before the write of the crowd is applied, at every level."""
        for level in (LOW, MEDIUM, HIGH):
            crowd = self.start(level)
            crowd.send(*[f"SET k{n} {n}" for n in range(4)])
            self.assertEqual(crowd.received(1), [b""])
            crowd.clients[1].send("GET k1", "GET k3")
            crowd.clients[2].send("SET k2 next", "GET k2")
            found = crowd.wait(1, 3, 3, 1)
            self.assertEqual(found[1], OK + bulk(b"1") + bulk(b"3"))
            self.assertEqual(found[2], OK * 2 + bulk(b"next"))
            self.assertEqual((found[0], found[3]), (OK, OK))

    def test_watch(self) -> None:
        """A transaction notices what a crowd wrote, and nothing else."""
        crowd = self.start()
        watchers = [Client(self.cluster, self.leader) for _ in range(2)]
        for watcher, key in zip(watchers, ("k1", "other"), strict=True):
            self.assertEqual(
                watcher.ask(f"WATCH {key}", "MULTI", "GET k1"), OK * 2 + b"+QUEUED\r\n"
            )
        self.assertEqual(crowd.ask("SET k0 a", "SET k1 a", "SET k2 a"), [OK] * 3)
        self.assertEqual(len(crowd.taken), 1)
        replies = [watcher.ask("EXEC") for watcher in watchers]
        self.assertEqual(replies, [b"*-1\r\n", b"*1\r\n" + bulk(b"a")])

    def test_clients_wait_while_there_is_too_much(self) -> None:
        """All of the crowd, until there is room."""
        crowd = self.start()
        self.patch(proposals, "MAX_PENDING_BYTES", 100)
        crowd.send("SET k0 a", "SET k1 a", "SET k2 a", "SET k3 a")
        states = [client.transport.producerState for client in crowd.clients]
        self.assertEqual(states, ["paused"] * 4 + ["producing"] * 2)
        self.assertEqual(crowd.wait(1, 1, 1, 1), [OK] * 4)
        states = [client.transport.producerState for client in crowd.clients]
        self.assertEqual(states, ["producing"] * 6)
        self.assertEqual(crowd.ask("SET k0 b", "SET k1 b", "SET k2 b"), [OK] * 3)
        self.assertEqual(crowd.taken, [[1] * 4, [1] * 3])
        self.assertEqual(crowd.node.proposals.pending_bytes, 0)


class Reads(CrowdCase):
    def test_with_a_lease_nobody_waits(self) -> None:
        """Missing keys and values of all sizes; each client gets its own."""
        crowd = self.start()
        self.cluster.execute("SET", "k1", b"")
        self.cluster.execute("SET", "k2", b"x" * 300)
        self.fill("SET k3 v", "LPUSH kL a")
        self.cluster.advance(0.1)
        crowd.send("GET k0", "GET k1", "GET k2;GET k0;GET k3", "GET k3;GET k3")
        long = bulk(b"x" * 300)
        expected = [NIL, bulk(b""), long + NIL + bulk(b"v"), bulk(b"v") * 2]
        self.assertEqual(crowd.received(4), expected)
        self.assertEqual(crowd.taken, [[1, 1, 3, 2]])
        crowd.send("GET k3;GET k2", "GET kL", "GET k3;GET kL", "GET k0")
        expected = [bulk(b"v") + long, WRONGTYPE, bulk(b"v") + WRONGTYPE, NIL]
        self.assertEqual(crowd.received(4), expected)
        crowd.send("GET k3;GET k2", "GET k3", "GET k1;GET k2")
        self.assertEqual(crowd.received(3), [bulk(b"v") + long, bulk(b"v"), bulk(b"") + long])

    def test_the_newer_protocol(self) -> None:
        """Has another word for nothing."""
        for level in (MEDIUM, HIGH):
            crowd = self.start(level)
            self.fill("SET k1 v")
            crowd.tell("HELLO 3")
            found = crowd.ask("GET k0", "GET k1;GET k0", "GET k1")
            self.assertEqual(found, [b"_\r\n", bulk(b"v") + b"_\r\n", bulk(b"v")])
            self.assertEqual(crowd.taken, [[1, 2, 1]])

    def test_a_round_for_all(self) -> None:
        """At level high, and nobody is answered before it."""
        crowd = self.start(HIGH)
        self.fill("SET k1 v", "LPUSH kL a")
        pieces = ("GET k0", "GET k1;GET k1", "GET k1;GET kL;GET k0", "GET k0", "GET k1", "GET k1")
        crowd.send(*pieces)
        self.assertEqual(crowd.received(6), [b""] * 6)
        value = bulk(b"v")
        expected = [NIL, value * 2, value + WRONGTYPE + NIL, NIL, value, value]
        self.assertEqual(crowd.finish(*pieces), expected)
        found = crowd.ask("GET k1", "GET k1;GET k1", "GET k1")
        self.assertEqual(found, [value, value * 2, value])
        self.assertEqual(crowd.taken, [[1, 2, 3, 1, 1, 1], [1, 2, 1]])

    def test_a_write_behind_a_read(self) -> None:
        """The read does not see it."""
        crowd = self.start(HIGH)
        self.fill("SET k0 old", "SET k1 old")
        crowd.send("GET k0", "GET k1", "GET k2")
        crowd.clients[0].send("SET k0 new")
        crowd.clients[1].send("SET k1 new", "GET k1")
        found = crowd.wait(2, 3, 1)
        old, new = bulk(b"old"), bulk(b"new")
        self.assertEqual(found, [old + OK, old + OK + new, NIL])
        self.assertEqual(crowd.ask("GET k0", "GET k1", "GET k2"), [new, new, NIL])

    def test_without_a_majority(self) -> None:
        """They fail as one that comes alone does, each command once."""
        for level in (MEDIUM, HIGH):
            crowd = self.start(level)
            self.cluster.partition([self.leader])
            if level is MEDIUM:
                self.cluster.wait_until(lambda: not self.raft.lease_valid(self.raft.now))
            other = Client(self.cluster, self.leader)
            other.send("GET k0")
            crowd.send("GET k0;GET k0", "GET k1", "GET k2")
            self.assertEqual(crowd.taken, [[2, 1, 1]])
            found = crowd.wait(2, 1, 1)
            self.assertTrue(other.received.startswith(b"-"), other.received)
            self.assertEqual(found, [other.received * 2, other.received, other.received])

    def test_a_key_that_expired(self) -> None:
        """One empty entry tells all nodes the time, and the crowd waits for it."""
        for level in (MEDIUM, HIGH):
            crowd = self.start(level)
            self.fill("SET k0 v PX 1000", "SET k1 v")
            self.assertEqual(crowd.ask("GET k0", "GET k1", "GET k0"), [bulk(b"v")] * 3)
            self.cluster.advance(5)
            before = self.raft.log.last_index
            pieces = ("GET k0", "GET k1;GET k0", "GET k1", "GET k0", "GET k1", "GET k1")
            crowd.send(*pieces)
            self.assertEqual(crowd.received(1), [b""])
            value = bulk(b"v")
            self.assertEqual(crowd.finish(*pieces), [NIL, value + NIL, value, NIL, value, value])
            self.assertEqual(self.raft.log.last_index, before + 1)
            self.assertEqual(len(crowd.taken), 2)


class Others(CrowdCase):
    """Nodes that do not lead, commands that are wrong, and machines that fail."""

    def test_on_a_follower(self) -> None:
        """Everybody is told where the leader is, as somebody alone is."""
        for level in (MEDIUM, HIGH):
            crowd = self.start(level, follower=True)
            for piece in ("SET k v", "GET k"):
                pieces = (f"{piece};{piece}", piece, piece)
                expected = crowd.alone(piece)[0]
                self.assertTrue(expected.startswith(b"-TRY "), expected)
                self.assertEqual(crowd.ask(*pieces), [expected * 2, expected, expected])
            self.assertEqual((crowd.taken, crowd.refused), ([], [b"SET", b"GET"]))

    def test_on_a_follower_that_may_answer(self) -> None:
        """At level low."""
        crowd = self.start(LOW, follower=True)
        self.fill("SET k1 v")
        self.cluster.advance(0.5)
        crowd.send("GET k0", "GET k1", "GET k1;GET k0")
        self.assertEqual(crowd.received(3), [NIL, bulk(b"v"), bulk(b"v") + NIL])
        self.assertEqual(crowd.taken, [[1, 1, 2]])

    def test_without_a_leader(self) -> None:
        """There is none to be told of."""
        crowd = self.start()
        self.cluster.partition([0], [1], [2])
        self.cluster.wait_until(lambda: self.raft.leader is None)
        for piece in ("SET k v", "GET k"):
            expected = crowd.alone(piece)[0]
            self.assertEqual(expected, b"-ERR leader not known\r\n")
            self.assertEqual(crowd.ask(piece, f"{piece};{piece}", piece)[1], expected * 2)
        self.assertEqual(crowd.taken, [])

    def test_mistakes(self) -> None:
        """Unknown commands, wrong numbers of arguments, and what every client runs alone."""
        crowd = self.start()
        for piece in ("NOPE a", "GET a b", "GET", "SET a", "gEt a", "ECHO a", "DBSIZE a"):
            expected = crowd.alone(piece)[0]
            self.assertEqual(crowd.ask(piece, f"{piece};{piece}", piece)[1], expected * 2)
        self.assertEqual(crowd.taken, [])
        self.assertEqual(crowd.ask("MULTI", "MULTI", "MULTI"), [OK] * 3)
        self.assertEqual(crowd.ask("GET a", "GET a", "GET a"), [b"+QUEUED\r\n"] * 3)
        self.assertEqual(crowd.ask("EXEC", "EXEC", "EXEC"), [b"*1\r\n" + NIL] * 3)
        self.assertEqual(crowd.taken, [])

    def test_ping(self) -> None:
        """It is answered at once, with an argument by everybody's own."""
        crowd = self.start()
        pong = b"+PONG\r\n"
        crowd.send("PING", "PING", "PING", "PING;PING")
        self.assertEqual(crowd.received(4), [pong, pong, pong, pong * 2])
        crowd.factory.crowds._strange = SAMPLE - 1
        crowd.factory.crowds.learn([b"PING"], pack_command([b"PING"]) * 2)
        crowd.gather("PING;PING", "PING;PING;PING", "PING;PING", learn=False)
        crowd.end()
        self.assertEqual(crowd.received(3), [pong * 2, pong * 3, pong * 2])
        self.assertEqual(crowd.taken, [[1, 1, 1], [2, 3, 2]])
        self.assertEqual(crowd.ask("PING a", "PING b", "PING c"), [*map(bulk, (b"a", b"b", b"c"))])

    def test_local_commands(self) -> None:
        """They are no reads: each is run for its client."""
        crowd = self.start(machine=Journal)
        self.assertEqual(crowd.ask("HERE", "HERE", "HERE"), [b":0\r\n"] * 3)
        self.assertEqual((crowd.taken, crowd.refused), ([], []))

    def test_reads_that_may_take_long(self) -> None:
        """They are run at their event: the poller lets others go first when they took long."""
        crowd = self.start()
        self.fill("SET k v")
        for piece in ("KEYS *", "DBSIZE", "EXISTS k k"):
            before = crowd.node.dispatch.commands_total
            crowd.gather(piece, piece, piece)
            self.assertEqual(crowd.node.dispatch.commands_total - before, 3)
            crowd.end()
            self.assertEqual(len(set(crowd.finish(piece, piece, piece))), 1)
        self.assertEqual((crowd.taken, crowd.refused), ([], []))

    def test_commands_are_counted_once(self) -> None:
        """Whether they are run together or not."""
        crowd = self.start()
        before = crowd.node.dispatch.commands_total
        pieces = ("GET a", "GET a;GET a", "GET a")
        crowd.ask(*pieces)
        crowd.ask("NOPE", "NOPE;NOPE", "NOPE")
        self.assertEqual(crowd.node.dispatch.commands_total - before, 8)
        self.assertEqual([c.protocol.commands_count for c in crowd.clients[:4]], [3, 5, 3, 1])

    def test_a_machine_whose_reads_fail(self) -> None:
        """Those of others are served all the same."""
        for level in (MEDIUM, HIGH):
            crowd = self.start(level, machine=Sums)
            seven = b"-SEVEN is odd\r\n"
            found = crowd.ask("DOUBLE 1;DOUBLE 7", "DOUBLE 7", "DOUBLE 3")
            self.assertEqual(found, [b":2\r\n" + seven, seven, b":6\r\n"])
            found = crowd.ask("DOUBLE 5;DOUBLE 1", "DOUBLE 2", "DOUBLE 3")
            self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
            self.assertEqual(found, [b":10\r\n:2\r\n", b":4\r\n", b":6\r\n"])
            self.assertEqual(len(crowd.taken), 2)

    def test_arguments_that_are_converted(self) -> None:
        """One of them may be wrong: each is looked at when it comes."""
        crowd = self.start(machine=Traps)
        found = crowd.ask("PUSH 1", "PUSH 2", "PUSH x")
        self.assertEqual(found[:2], [b":1\r\n", b":2\r\n"])
        self.assertEqual(found[2], b"-ERR value is not an integer or out of range\r\n")
        self.assertEqual((crowd.taken, crowd.refused), ([], []))

    def test_reads_that_would_end_a_node(self) -> None:
        """They changed nothing: each is an error of its own, alone and in a crowd."""
        for level in (LOW, MEDIUM, HIGH):
            crowd = self.start(level, machine=Traps)
            errors = [
                b"-ERR internal error: " + e + b"\r\n" for e in (b"RecursionError", b"SystemExit")
            ]
            pieces = ("LOOK 9", "LOOK 8;LOOK 1", "LOOK 1")
            expected = [errors[0], errors[1] + bulk(b"1"), bulk(b"1")]
            self.assertEqual(crowd.ask(*pieces), expected)
            self.assertEqual(len(crowd.taken), 1)
            self.assertEqual(crowd.alone(*pieces), expected)
            found = crowd.alone("MULTI;LOOK 9;LOOK 1;EXEC")[0]
            self.assertEqual(found[-len(errors[0]) - 11 :], b"*2\r\n" + errors[0] + bulk(b"1"))
            self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 3)
            self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 2)

    def test_a_machine_whose_results_are_strange(self) -> None:
        """An error for one of them, a value that is none, and too few for all."""
        crowd = self.start(machine=Sums)
        found = crowd.ask("MARK 1;MARK 8", "MARK 9", "MARK 1")
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        eight, nine = b"-EIGHT is odd\r\n", b"-ERR internal error: TypeError\r\n"
        self.assertEqual(found, [OK + eight, nine, OK])
        found = crowd.ask("ADD 6;ADD 1", "ADD 1", "ADD 1")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        lost = b"-ERR internal error: ValueError\r\n"
        self.assertEqual(found, [lost * 2, lost, lost])

    def test_a_machine_whose_writes_fail(self) -> None:
        """The node ends, and nobody is told a lie."""
        crowd = self.start(machine=Sums)
        found = crowd.ask("ADD 1;ADD 7", "ADD 2", "ADD 3")
        unknown = b"-UNKNOWN node failed\r\n"
        self.assertEqual(found, [unknown * 2, unknown, unknown])
        self.assertGreater(len(self.flushLoggedErrors(ValueError)), 0)
        expected = crowd.alone("ADD 1")[0]
        self.assertTrue(expected.startswith(b"-"), expected)
        self.assertEqual(crowd.ask("ADD 1", "ADD 1", "ADD 1"), [expected] * 3)


class LostLeadership(CrowdCase):
    """Each command gets one error, the one that it gets alone."""

    def step_down(self) -> None:
        self.raft.step_down(self.raft.now, "the test wants it")
        self.crowd.node.wake()

    def test_before_the_batch_ends(self) -> None:
        """What was gathered is not run any more."""
        for piece in ("SET k v", "GET k"):
            crowd = self.start()
            crowd.gather(piece, f"{piece};{piece}", piece)
            self.step_down()
            crowd.end()
            found = crowd.wait(1, 2, 1)
            self.assertEqual(crowd.taken, [])
            self.assertEqual(found[0][:5], b"-ERR ")
            self.assertEqual(found[1], found[0] * 2)

    def test_while_writes_are_in_flight(self) -> None:
        """Nobody knows their outcome."""
        crowd = self.start()
        self.cluster.partition([self.leader])
        found = crowd.ask("SET k 1", "SET k 2;SET k 3", "SET k 4")
        unknown = b"-UNKNOWN leadership lost while committing log\r\n"
        self.assertEqual(found, [unknown, unknown * 2, unknown])
        self.assertEqual(crowd.taken, [[1, 2, 1]])

    def test_writes_that_time_out_are_applied_all_the_same(self) -> None:
        """What is in the log is, on the node whose clients were told that nobody knows, too."""
        crowd = self.start()
        self.cluster.partition([self.leader])
        crowd.send("SET k0 1", "SET k1 2;SET k2 3", "SET k3 4")
        self.cluster.advance(0.01)
        crowd.node.proposals.expire(crowd.node.now())
        unknown = b"-UNKNOWN request timed out after it was appended\r\n"
        crowd.factory.flush()
        self.assertEqual(crowd.received(3), [unknown, unknown * 2, unknown])
        self.cluster.heal()
        self.cluster.advance(3)
        machines = [self.cluster.machine(member) for member in range(3)]
        self.assertEqual(contents(machines[0], 0).keys(), {b"k0", b"k1", b"k2", b"k3"})
        self.assertEqual(len({dump(machine) for machine in machines}), 1)

    def test_while_leadership_is_handed_over(self) -> None:
        """Nothing was appended: the next leader is told."""
        crowd = self.start()
        follower = (self.leader + 1) % 3
        other: Any = self.cluster.nodes[follower].raft
        self.raft.transfer_leadership(other.node_id, self.raft.now)
        crowd.node.wake()
        found = crowd.ask("SET k 1", "SET k 2;SET k 3", "SET k 4")
        hint = f"-TRY {self.cluster.computers[follower].address}\r\n".encode()
        self.assertEqual(found, [hint, hint * 2, hint])
        self.assertEqual(crowd.taken, [[1, 2, 1]])
        self.assertIsNone(self.cluster.execute("GET", "k"))
