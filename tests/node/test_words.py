"""TRY and UNKNOWN are what finn says: a machine's errors that begin so mean nothing to clients."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import finn
from finn.client import ClusterClient
from finn.errors import CommandError, NotLeader, OutcomeUnknown, error_text
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

WORDS = (
    "TRY another day", "UNKNOWN to us", "TRY", "UNKNOWN", " TRY  :1", "ERR request timed out",
    "ERR raft not ready", "raft is already shutdown", "ERR server is overloaded, try again later",
)  # fmt: skip
OTHERS = (
    "TRYING hard",
    "ERR TRY again",
    "try this",
    "UNKNOWNS",
    "WRONGTYPE TRY",
    "-TRY a",
    "ERR request timed out at the bank",
)


class Booking(finn.Machine):
    """Says what it is told to."""

    def __init__(self) -> None:
        self.count = 0

    @finn.write("RAISE")
    def raise_(self, call: Any, text: str) -> None:
        """Raise, after a change."""
        self.count += 1
        raise CommandError(text)

    @finn.write("GIVE", pipelined="give_all")
    def give(self, call: Any, text: bytes) -> Any:
        """Return an error."""
        return CommandError(text.decode())

    def give_all(self, call: Any, texts: list[bytes]) -> list[Any]:
        """Return several."""
        return [CommandError(text.decode()) for text in texts]

    @finn.read("READ")
    def read(self, call: Any, text: str) -> None:
        """Raise."""
        raise CommandError(text)

    @finn.local("HERE")
    def here(self, call: Any, text: str) -> None:
        """Raise on this node."""
        raise CommandError(text)

    @finn.local("LATE")
    async def late(self, call: Any, text: str) -> None:
        """Raise later."""
        fired: Deferred[None] = Deferred()
        call.conn.context = fired
        await fired
        raise CommandError(text)

    @finn.local("OWN")
    def own(self, call: Any) -> None:
        """Raise what finn does."""
        raise NotLeader(":7481")


@implementer(finn.IMachine)
class Opaque:
    """Says it in the original's style: as it is asked, applies, responds, or writes."""

    def command(self, applier: Any, conn: Any, cmd: list[bytes]) -> Any:
        """Run one."""
        text = cmd[1].decode()

        def fail(_: object = None) -> None:
            raise CommandError(text)

        if cmd[0] == b"ASKED":
            fail()
        if cmd[0] == b"APPLIED":
            return applier.apply(conn, cmd, fail, None)
        if cmd[0] == b"RESPONDED":
            return applier.apply(conn, cmd, None, fail)
        return applier.apply(conn, cmd, lambda: None, lambda _: conn.write_error(text))

    def snapshot(self, file: Any) -> None:
        """Nothing."""

    def restore(self, file: Any) -> None:
        """Nothing."""


class WordTests(SynchronousTestCase):
    def client(self, machine: Any) -> Client:
        """Return a client of a cluster of one."""
        self.cluster = MemoryCluster(machine, size=1)
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        return Client(self.cluster, 0)

    def assert_told(self, client: Client, *names: str) -> None:
        """Check what a client gets for each text."""
        for name in names:
            for text in (*WORDS, *OTHERS):
                sent = f"ERR {text}" if text in WORDS else text
                with self.subTest(name=name, text=text):
                    self.assertEqual(client.ask(f'{name} "{text}"'), b"-%b\r\n" % sent.encode())
        text = b"-ERR TRY a\r\n"
        reply = client.ask("MULTI", *[f'{name} "TRY a"' for name in names], "EXEC")
        self.assertTrue(reply.endswith(b"*%d\r\n" % len(names) + text * len(names)))

    def test_machines(self) -> None:
        """However a command says it."""
        client = self.client(Booking)
        self.assert_told(client, "RAISE", "GIVE", "READ")
        self.assertEqual(client.ask("GIVE TRY", "GIVE TRY"), b"-ERR TRY\r\n" * 2)
        self.assertEqual(client.ask("HERE UNKNOWN"), b"-ERR UNKNOWN\r\n")
        client.transport.clear()
        client.send("LATE TRY")
        client.protocol.context.callback(None)
        self.cluster.advance(0.1)
        self.assertEqual(client.received, b"-ERR TRY\r\n")

    def test_machines_in_the_style_of_the_original(self) -> None:
        """They write errors, too."""
        self.assert_told(self.client(Opaque), "ASKED", "APPLIED", "RESPONDED", "WRITTEN")

    def test_nothing(self) -> None:
        """An error without a text is one all the same, raised or returned."""
        client = self.client(Booking)
        for name in (b"RAISE", b"GIVE", b"READ", b"HERE"):
            client.transport.clear()
            client.protocol.dataReceived(b"*2\r\n$%d\r\n%b\r\n$0\r\n\r\n" % (len(name), name))
            self.cluster.advance(0.1)
            self.assertEqual(client.received, b"-ERR\r\n", name)

    def test_what_finn_says(self) -> None:
        """It is what clients act upon, also where a machine passes it on."""
        self.assertEqual(error_text(NotLeader(":7481")), "TRY :7481")
        self.assertEqual(error_text(OutcomeUnknown("lost")), "UNKNOWN lost")
        self.assertEqual(self.client(Booking).ask("OWN"), b"-TRY :7481\r\n")

    def test_a_write_that_fails_is_run_once(self) -> None:
        """finn's client does not send it again, or call its outcome unknown."""
        cluster = MemoryCluster(Booking)
        self.addCleanup(cluster.close)
        cluster.start()
        reactor: Any = cluster.world.reactor("10.0.0.100")
        self.addCleanup(reactor.die, False)
        client = ClusterClient(reactor, [cluster.nodes[0].options.address], timeout=1.0)
        self.addCleanup(client.close)
        for text in ("TRY another day", "UNKNOWN to us", "ERR request timed out"):
            with self.assertRaisesRegex(CommandError, f"^ERR {text}$"):
                cluster.result(Deferred.fromCoroutine(client.execute("RAISE", text)))
        self.assertEqual(cluster.machine(cluster.leader()).count, 3)
