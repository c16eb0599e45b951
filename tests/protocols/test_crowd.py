"""What several clients send in one batch of events is gathered, and run together where alike."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.protocols import crowd
from tests.protocols.support import Batch, Server


def get(key: bytes) -> bytes:
    """Return the encoding of GET."""
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)


def set_(key: bytes, value: bytes = b"v") -> bytes:
    """Return the encoding of SET."""
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


# As long as two commands that are gathered, and begins like them.
ODD = get(b"cccc") + get(b"cc") + b"X\n"


class Crowds(SynchronousTestCase):
    """Five clients of one server, which have sent a GET before."""

    def setUp(self) -> None:
        self.server = Server()
        self.dispatcher = self.server.dispatcher
        self.dispatcher.run_crowd = self.answer
        self.factory = self.server.factory
        pairs = [self.server.connect() for _ in range(5)]
        self.clients = [client for client, _ in pairs]
        self.transports = [transport for _, transport in pairs]
        for client in self.clients:
            client.dataReceived(get(b"zero"))
        self.batch = self.factory.batch = Batch()
        self.patch(crowd, "SAMPLE", 1)
        self.send(get(b"0000"))
        self.forget()

    def answer(self, clients: Any, counts: Any) -> bool:
        """Tell each client how many commands it sent."""
        for client, count in zip(clients, counts, strict=True):
            client.answer(b":%d\r\n" % count)
        return True

    def send(self, *pieces: bytes) -> None:
        """Let as many clients send a piece each, in one batch."""
        for client, piece in zip(self.clients, pieces, strict=False):
            client.dataReceived(piece)
        self.batch.end()

    def forget(self) -> None:
        """Look at what follows only."""
        self.dispatcher.received.clear()
        self.dispatcher.crowds.clear()
        for transport in self.transports:
            transport.clear()

    def replies(self) -> list[bytes]:
        """Return what each client got."""
        return [transport.value() for transport in self.transports]

    def test_commands_alike_are_run_together(self) -> None:
        """Of those who sent such a command, and of nobody else."""
        keys = [b"aaaa", b"bbbb", b"cccc"]
        self.send(*map(get, keys))
        members, counts, commands, raw = self.dispatcher.crowds.pop()
        self.assertEqual((members, counts), (self.clients[:3], [1, 1, 1]))
        self.assertEqual(commands, [[b"GET", key] for key in keys])
        self.assertEqual(raw, b"".join(map(get, keys)))
        self.assertEqual((self.dispatcher.received, self.dispatcher.crowds), ([], []))
        self.assertEqual(self.replies(), [b":1\r\n"] * 3 + [b""] * 2)

    def test_each_client_may_send_several(self) -> None:
        """Pipelines are gathered too, and everybody is told apart."""
        before = [client.commands_count for client in self.clients[:3]]
        self.factory.tick = 9
        self.send(get(b"aaaa") * 2, get(b"bbbb"), get(b"cccc") * 3)
        self.assertEqual(self.dispatcher.crowds[0][1], [2, 1, 3])
        self.assertEqual(self.replies()[:3], [b":2\r\n", b":1\r\n", b":3\r\n"])
        after = [client.commands_count for client in self.clients[:3]]
        self.assertEqual(after, [before[0] + 2, before[1] + 1, before[2] + 3])
        self.assertEqual([client._active for client in self.clients[:4]], [9, 9, 9, 0])

    def test_nothing_is_run_before_the_last_event(self) -> None:
        """The others may send the same."""
        self.clients[0].dataReceived(get(b"aaaa"))
        self.assertEqual((self.dispatcher.crowds, self.dispatcher.received), ([], []))
        self.assertTrue(self.clients[0].is_gathered)
        self.batch.end()
        self.assertFalse(self.clients[0].is_gathered)

    def test_an_event_that_comes_alone_is_handled_at_once(self) -> None:
        """There is nobody to wait for."""
        self.batch.crowded = False
        self.clients[0].dataReceived(get(b"aaaa"))
        self.assertEqual(self.replies()[0], b"+GET\r\n")

    def test_few_are_run_one_by_one(self) -> None:
        """It is not worth it for two."""
        self.send(*[get(b"aaaa")] * (crowd.FEW - 1))
        self.assertEqual(self.dispatcher.crowds, [])
        self.assertEqual(len(self.dispatcher.received), crowd.FEW - 1)
        self.assertEqual(self.replies(), [b"+GET\r\n"] * 2 + [b""] * 3)

    def test_kinds_are_gathered_apart(self) -> None:
        """Reads and writes come together."""
        self.clients[3].dataReceived(set_(b"kkkk"))
        self.batch.end()
        self.forget()
        self.send(get(b"aaaa"), set_(b"bbbb"), get(b"cccc"), set_(b"dddd"), get(b"eeee"))
        self.assertEqual([members for members, *_ in self.dispatcher.crowds], [self.clients[::2]])
        self.assertEqual(self.replies()[1::2], [b"+SET\r\n"] * 2)

    def test_what_is_of_another_size_is_handled_at_once(self) -> None:
        """Only commands of one size are read together."""
        for client in self.clients[:3]:
            client.dataReceived(get(b"aaaa"))
        self.clients[3].dataReceived(get(b"key7777"))
        self.clients[4].dataReceived(get(b"aaaa") + get(b"key7777"))
        self.assertEqual(len(self.dispatcher.received), 2)
        self.batch.end()
        self.assertEqual(self.dispatcher.crowds[0][0], self.clients[:3])
        self.assertEqual(len(self.replies()[4]), 2 * len(b"+GET\r\n"))

    def test_pieces_that_only_look_alike(self) -> None:
        """Of the right size, but not commands of equal sizes: each is read alone."""
        odd = b"*2\r\n$3\r\nGET\r\n$4\r\nab\rc\r\n"
        self.assertEqual(len(odd), len(get(b"abcd")))
        self.send(get(b"aaaa"), odd, get(b"bbbb"))
        self.assertEqual(self.dispatcher.crowds[0][2][1], [b"GET", b"ab\rc"])
        self.forget()
        self.send(get(b"aaaa"), ODD, get(b"bbbb"))
        self.assertEqual(self.dispatcher.crowds, [])
        self.assertEqual(self.dispatcher.commands[:2], [[b"GET", b"aaaa"], [b"GET", b"cccc"]])
        self.assertEqual(self.replies()[0], b"+GET\r\n")
        self.assertEqual(self.replies()[2], b"+GET\r\n")

    def test_one_client_cannot_spoil_it_for_all(self) -> None:
        """What it sends is not gathered for a while."""
        self.send(get(b"aaaa"), ODD, *[get(b"bbbb")] * 3)
        self.assertEqual(self.dispatcher.crowds, [])
        self.send(get(b"aaaa"), ODD, *[get(b"bbbb")] * 3)
        self.assertEqual(self.dispatcher.crowds[0][0], [self.clients[0], *self.clients[2:]])
        self.factory._sweep()
        self.forget()
        self.send(get(b"aaaa"), get(b"aaaa"), get(b"bbbb"))
        self.assertEqual(self.dispatcher.crowds[0][0], self.clients[:3])

    def test_another_shape_is_learned_when_it_is_common(self) -> None:
        """Values that are longer from now on, for one; most of what differs costs nothing."""
        self.send(set_(b"aaaa", b"short"))
        self.patch(crowd, "SAMPLE", 16)
        self.factory.crowds._strange = 0
        turns = 0
        while not self.dispatcher.crowds:
            self.send(*[set_(b"aaaa", b"quite long")] * 4)
            turns += 1
        self.assertEqual(turns, 16 // 4 + 1)
        self.assertEqual(self.dispatcher.crowds[0][1], [1] * 4)

    def test_the_shape_is_not_changed_while_pieces_wait(self) -> None:
        """They are of the one that was expected."""
        self.send(set_(b"aaaa"))
        self.forget()
        for client in self.clients[:3]:
            client.dataReceived(set_(b"bbbb"))
        self.clients[3].dataReceived(set_(b"bbbb", b"longer"))
        self.clients[4].dataReceived(set_(b"bbbb"))
        self.batch.end()
        self.assertEqual(self.dispatcher.crowds[0][2], [[b"SET", b"bbbb", b"v"]] * 4)

    def test_a_client_that_waits_is_not_gathered(self) -> None:
        """Its commands have an order, which nothing may change."""
        first = self.clients[0]
        slot = first.reserve()
        self.send(*[get(b"aaaa")] * 4)
        self.assertEqual(self.dispatcher.crowds[0][0], self.clients[1:4])
        slot.fill(b"+slow\r\n")
        first.flush()
        self.assertEqual(self.replies()[0], b"+slow\r\n+GET\r\n")

    def test_a_client_with_part_of_a_command_is_not_gathered(self) -> None:
        """What it sends is no command by itself."""
        first = self.clients[0]
        first.dataReceived(get(b"aaaa")[:-3])
        first.dataReceived(get(b"aaaa")[-3:] + get(b"bbbb")[:7])
        self.batch.end()
        self.forget()
        for client in self.clients[1:4]:
            client.dataReceived(get(b"aaaa"))
        first.dataReceived(get(b"bbbb")[7:])
        self.batch.end()
        self.assertEqual(self.dispatcher.crowds[0][0], self.clients[1:4])
        self.assertEqual(self.replies()[0], b"+GET\r\n")

    def test_a_key_that_looks_like_a_command(self) -> None:
        """It comes alone, and is no piece for a crowd."""
        key = get(b"aaaa")
        beginning = get(key).removesuffix(key + b"\r\n")
        for client in self.clients[:3]:
            client.dataReceived(beginning)
            client.dataReceived(key)
        self.batch.end()
        self.assertEqual((self.dispatcher.crowds, self.dispatcher.received), ([], []))
        self.clients[0].dataReceived(b"\r\n")
        self.assertEqual(self.dispatcher.commands, [[b"GET", key]])

    def test_states_in_which_a_client_is_not_gathered(self) -> None:
        """Each of them has its own way to go."""
        for change in (
            lambda c: setattr(c, "transaction", object()),
            lambda c: setattr(c, "authenticated", False),
            lambda c: setattr(c, "gathers", False),
            lambda c: setattr(c, "owed", 1),
            lambda c: c.pause("proposals"),
            lambda c: c._out.append(b"+early\r\n"),
        ):
            client, _ = self.server.connect()
            client.dataReceived(get(b"zero"))
            self.batch.end()
            self.forget()
            change(client)
            client.dataReceived(get(b"aaaa"))
            self.assertFalse(client.is_gathered)
            self.assertEqual(len(self.dispatcher.received), 1)
            self.batch.end()

    def test_versions_of_the_protocol_are_not_mixed(self) -> None:
        """The replies differ."""
        self.clients[1].resp3 = True
        self.send(*[get(b"aaaa")] * 4)
        self.assertEqual(self.dispatcher.crowds[0][0], [self.clients[0], *self.clients[2:4]])
        self.assertEqual(self.replies()[1], b"+GET\r\n")

    def test_a_second_piece_keeps_its_place(self) -> None:
        """TLS may bring one, and a nested turn of the reactor."""
        for client in self.clients[:3]:
            client.dataReceived(get(b"aaaa"))
        self.clients[0].dataReceived(set_(b"aaaa"))
        self.assertEqual(len(self.dispatcher.crowds), 1)
        self.assertEqual(self.dispatcher.commands, [[b"SET", b"aaaa", b"v"]])
        self.batch.end()
        self.assertEqual(self.replies()[0], b":1\r\n+SET\r\n")
        self.assertEqual(len(self.dispatcher.crowds), 1)

    def test_what_comes_while_commands_are_run(self) -> None:
        """A command that turns the reactor: what that brings for the others comes behind."""

        def run(clients: Any, counts: Any) -> bool:
            clients[1].dataReceived(set_(b"aaaa"))
            self.clients[4].dataReceived(get(b"aaaa"))
            clients[2].readConnectionLost()
            return self.answer(clients, counts)

        self.dispatcher.run_crowd = run
        self.send(*[get(b"aaaa")] * 3)
        self.assertEqual(self.replies()[:3], [b":1\r\n", b":1\r\n+SET\r\n", b":1\r\n"])
        self.assertEqual(self.replies()[4], b"+GET\r\n")
        self.assertEqual([client.closing for client in self.clients[:3]], [False, False, True])

    def test_clients_that_end_their_side_behind_a_command(self) -> None:
        """And servers that do: they get the reply first."""
        for client in self.clients[:4]:
            client.dataReceived(get(b"aaaa"))
        self.clients[0].readConnectionLost()
        self.assertEqual(self.replies()[:4], [b":1\r\n"] * 4)
        self.assertTrue(self.transports[0].lost)
        for client in self.clients[1:4]:
            client.dataReceived(get(b"aaaa"))
        self.factory.close_all()
        self.assertEqual(self.replies()[1:4], [b":1\r\n" * 2] * 3)

    def test_many_commands_are_run_before_the_end(self) -> None:
        """Nothing of a batch may keep the reactor for long."""
        self.patch(crowd, "LONGEST", crowd.MOST_COMMANDS)
        half = crowd.MOST_COMMANDS // 2
        for client in self.clients:
            client.portion = half
        for client in self.clients[:3]:
            client.dataReceived(get(b"aaaa") * half)
        self.assertEqual(len(self.dispatcher.received), 2)
        self.forget()
        self.clients[3].dataReceived(get(b"aaaa") * (half + 1))
        self.assertEqual(len(self.dispatcher.received), 1)
        self.batch.end()
        size = crowd.MOST_BYTES // 4
        self.clients[0].dataReceived(set_(b"aaaa", b"x" * size))
        self.batch.end()
        self.forget()
        for client in self.clients[:4]:
            client.dataReceived(set_(b"aaaa", b"x" * size))
        self.assertEqual(self.dispatcher.crowds[0][1], [1] * 3)
        self.batch.end()

    def test_more_than_fits_at_all(self) -> None:
        """However large a client's portion is."""
        self.clients[0].portion = 2 * crowd.MOST_COMMANDS
        self.patch(crowd, "LONGEST", 2 * crowd.MOST_COMMANDS)
        self.clients[0].dataReceived(get(b"aaaa") * (crowd.MOST_COMMANDS + 1))
        self.assertEqual(len(self.dispatcher.received), 1)

    def test_commands_that_the_node_takes_one_by_one(self) -> None:
        """Each client gets its own reply."""
        self.dispatcher.run_crowd = lambda clients, counts: False
        self.send(*[get(b"aaaa")] * 3)
        self.assertEqual(len(self.dispatcher.crowds), 1)
        self.assertEqual(len(self.dispatcher.received), 3)
        self.assertEqual(self.replies()[:3], [b"+GET\r\n"] * 3)

    def test_commands_that_may_take_long(self) -> None:
        """They are run when they come, so that the poller knows how long that took."""
        self.dispatcher.alone.add(b"SET")
        self.send(set_(b"aaaa"))
        self.forget()
        for client in self.clients[:3]:
            client.dataReceived(set_(b"aaaa"))
        self.assertEqual(len(self.dispatcher.received), 3)
        self.batch.end()
        self.assertEqual(self.dispatcher.crowds, [])

    def test_a_failure_ends_the_clients_it_concerns(self) -> None:
        """Whether their commands were run, nobody knows."""

        def run(clients: Any, counts: Any) -> bool:
            raise SystemExit

        self.send(set_(b"aaaa"))
        self.forget()
        self.dispatcher.run_crowd = run
        for client in self.clients[:3]:
            client.dataReceived(get(b"aaaa"))
        self.clients[3].dataReceived(set_(b"aaaa"))
        self.batch.end()
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        failed = b"-ERR internal error\r\n"
        self.assertEqual(self.replies(), [failed] * 3 + [b"+SET\r\n", b""])
        self.assertEqual([client.closing for client in self.clients], [True] * 3 + [False] * 2)

    def test_an_answer_that_cannot_be_written(self) -> None:
        """It ends that connection, and nobody else's."""
        self.patch(self.transports[1], "write", lambda data: 1 / 0)
        self.send(*[get(b"aaaa")] * 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.replies()[:3], [b":1\r\n", b"", b":1\r\n"])
        self.assertEqual([client.closing for client in self.clients[:3]], [False, True, False])

    def test_a_client_that_is_closed_meanwhile(self) -> None:
        """Nothing of it is run; the others do not notice."""
        for client in self.clients[:4]:
            client.dataReceived(get(b"aaaa"))
        self.clients[1].abandon()
        self.clients[2].close_after_flush()
        self.batch.end()
        self.assertEqual(self.dispatcher.crowds, [])
        self.assertEqual(self.replies()[:4], [b"+GET\r\n", b"", b"", b"+GET\r\n"])

    def test_another_shape_is_learned_while_a_piece_is_taken(self) -> None:
        """The commands in it are counted anew, so nobody gets a reply of somebody else."""
        self.factory.crowds.few = 2
        self.patch(crowd, "MOST_COMMANDS", 40)
        self.patch(crowd, "LONGEST", 40)
        short, long = set_(b"aaaa"), set_(b"aaaa", b"vv")
        strange = long * len(short)  # as large as so many short ones
        self.factory.crowds.learn([b"SET", b"aaaa", b"v"], short)
        for client, piece in zip(self.clients, (short, short, strange, strange), strict=False):
            client.portion = 40
            client.dataReceived(piece)
        self.assertTrue(self.clients[3].is_gathered)
        self.clients[4].dataReceived(long)
        self.batch.end()
        members, counts, commands, _ = self.dispatcher.crowds.pop()
        self.assertEqual(members, self.clients[3:])
        self.assertEqual((counts, len(commands)), ([len(short), 1], len(short) + 1))

    def test_one_that_fails_when_it_is_read_alone(self) -> None:
        """It is dropped; the others get their replies, and those of other kinds too."""
        self.send(set_(b"aaaa"))
        self.forget()
        self.clients[0].dataReceived(get(b"aaaa"))
        self.patch(self.clients[0], "receive", lambda data: 1 / 0)
        self.clients[1].dataReceived(get(b"bbbb"))
        for client in self.clients[2:]:
            client.dataReceived(set_(b"aaaa"))
        self.batch.end()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.replies(), [b"", b"+GET\r\n"] + [b":1\r\n"] * 3)
        self.assertEqual([client.closing for client in self.clients], [True] + [False] * 4)

    def test_kinds_are_forgotten_when_there_are_too_many(self) -> None:
        """Nobody can fill the memory with names, or keep those of others out."""
        for client in self.clients[1:3]:
            client.dataReceived(get(b"aaaa"))
        for number in range(2 * crowd.KINDS):
            name = b"CMD%03d" % number
            self.clients[0].dataReceived(b"*1\r\n$%d\r\n%b\r\n" % (len(name), name))
        kinds = self.factory.crowds._kinds
        self.assertTrue(0 < len(kinds) <= crowd.KINDS)
        self.clients[3].dataReceived(get(b"aaaa"))
        self.batch.end()
        self.assertEqual(self.dispatcher.crowds[0][0], self.clients[1:4])
        self.forget()
        self.send(*[b"*1\r\n$6\r\nCMD127\r\n"] * 3)
        self.assertEqual(self.dispatcher.crowds[0][2], [[b"CMD127"]] * 3)

    def test_replies_are_in_order_with_what_is_queued(self) -> None:
        """An answer waits for those before it."""
        first = self.clients[0]
        slot = first.reserve()
        first.answer(b"+second\r\n")
        self.assertEqual(self.replies()[0], b"")
        slot.fill(b"+first\r\n")
        first.flush()
        self.assertEqual(self.replies()[0], b"+first\r\n+second\r\n")
        first.reply(b"+third\r\n")
        first.answer(b"+fourth\r\n")
        self.assertEqual(self.replies()[0], b"+first\r\n+second\r\n+third\r\n+fourth\r\n")

    def test_an_answer_that_is_not_taken_is_owed(self) -> None:
        """It counts as any other reply."""
        first = self.clients[0]
        first._output.pauseProducing()
        first.answer(b"x" * 300_000)
        self.assertEqual(self.factory.owed_bytes, 300_000)
        self.assertTrue(self.transports[0].paused)
