"""The simulated network and clock: TCP as protocols know it, and everything that can go wrong."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from finn.testing.network import NetworkSettings
from finn.testing.reactor import SimulatedReactor
from finn.testing.transports import HIGH_WATER
from finn.testing.world import World

SERVER, CLIENT = "10.0.0.1", "10.0.0.2"


class Notes(Protocol):
    """Keeps what came and why it ended."""

    def __init__(self) -> None:
        self.received = b""
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason.value


class Connecting(ClientFactory):
    noisy = False

    def __init__(self) -> None:
        self.protocol_made: Notes | None = None
        self.failure: Any = None

    def buildProtocol(self, addr: Any) -> Notes:
        self.protocol_made = Notes()
        return self.protocol_made

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.failure = reason.value


class Listening(Factory):
    noisy = False

    def __init__(self) -> None:
        self.accepted: list[Notes] = []

    def buildProtocol(self, addr: Any) -> Notes:
        self.accepted.append(Notes())
        return self.accepted[-1]


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(0, NetworkSettings(0.001, 0.001, split=0.3))
        self.server = self.world.reactor(SERVER)
        self.client = self.world.reactor(CLIENT)
        self.listening = Listening()
        self.port = self.server.listenTCP(80, self.listening)

    def advance(self, seconds: float) -> None:
        self.world.scheduler.run_until(self.world.now + seconds)

    def connect(self, reactor: SimulatedReactor | None = None) -> Connecting:
        factory = Connecting()
        (reactor or self.client).connectTCP(SERVER, 80, factory, timeout=5)
        self.advance(0.1)
        return factory

    def pair(self) -> tuple[Any, Any]:
        ours = self.connect().protocol_made
        return ours, self.listening.accepted[-1]


class ConnectionTests(Case):
    def test_bytes_come_in_order(self) -> None:
        """However they are cut on the way."""
        ours, theirs = self.pair()
        for number in range(100):
            ours.transport.write(b"%d," % number)
        self.advance(1)
        self.assertEqual(theirs.received, b"".join(b"%d," % n for n in range(100)))

    def test_close_comes_behind_the_bytes(self) -> None:
        """Both sides learn that it was closed in order."""
        ours, theirs = self.pair()
        ours.transport.write(b"last")
        ours.transport.loseConnection()
        self.advance(0.1)
        self.assertEqual(theirs.received, b"last")
        self.assertIsInstance(theirs.reason, ConnectionDone)
        self.assertIsInstance(ours.reason, ConnectionDone)
        self.assertFalse(self.world.network.pipes)

    def test_abort_is_a_reset(self) -> None:
        """The other side gets ConnectionLost."""
        ours, theirs = self.pair()
        ours.transport.abortConnection()
        self.advance(0.1)
        self.assertIsInstance(theirs.reason, ConnectionLost)

    def test_nobody_listens(self) -> None:
        """Refused at once."""
        self.port.stopListening()
        self.assertIsInstance(self.connect().failure, ConnectionRefusedError)

    def test_a_port_is_taken_once(self) -> None:
        """A second one cannot listen."""
        self.assertRaises(CannotListenError, self.server.listenTCP, 80, self.listening)

    def test_a_producer_waits(self) -> None:
        """Who writes too much to somebody who does not read is paused, and resumed later."""
        ours, theirs = self.pair()
        calls: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                calls.append("pause")

            def resumeProducing(self) -> None:
                calls.append("resume")

            def stopProducing(self) -> None:
                calls.append("stop")

        theirs.transport.pauseProducing()
        ours.transport.registerProducer(Producer(), True)
        ours.transport.write(bytes(HIGH_WATER + 1))
        self.advance(1)
        self.assertEqual((calls, theirs.received), (["pause"], b""))
        theirs.transport.resumeProducing()
        self.advance(1)
        self.assertEqual((calls, len(theirs.received)), (["pause", "resume"], HIGH_WATER + 1))


class FaultTests(Case):
    def test_a_cut_stalls_one_direction(self) -> None:
        """Bytes of that direction arrive after it heals, and none is lost."""
        ours, theirs = self.pair()
        self.world.network.cut(CLIENT, SERVER)
        ours.transport.write(b"there")
        theirs.transport.write(b"back")
        self.advance(60)
        self.assertEqual((theirs.received, ours.received), (b"", b"back"))
        self.world.network.heal()
        self.advance(2)
        self.assertEqual(theirs.received, b"there")

    def test_connecting_over_a_cut(self) -> None:
        """It times out; when the cut heals in time, it works."""
        self.world.network.cut(SERVER, CLIENT)
        factory = self.connect()
        self.advance(6)
        self.assertIsInstance(factory.failure, TimeoutError)
        factory = self.connect()
        self.world.network.heal()
        self.advance(2)
        self.assertIsNotNone(factory.protocol_made)

    def test_a_bridge(self) -> None:
        """A host in two groups reaches both of them."""
        network = self.world.network
        network.partition(["a", "m"], ["m", "b"])
        self.assertTrue(network.is_cut("a", "b") and network.is_cut("b", "a"))
        self.assertFalse(network.is_cut("a", "m") or network.is_cut("m", "b"))

    def test_a_killed_process_closes(self) -> None:
        """Its system tells the other side; nobody listens any more."""
        ours, _ = self.pair()
        self.server.die()
        self.advance(0.1)
        self.assertIsInstance(ours.reason, ConnectionDone)
        self.assertIsInstance(self.connect().failure, ConnectionRefusedError)

    def test_power_loss_is_silent(self) -> None:
        """The other side learns of it only when it writes and the computer is up again."""
        ours, _ = self.pair()
        self.world.network.down.add(SERVER)
        self.server.die(silently=True)
        ours.transport.write(b"hello?")
        self.advance(60)
        self.assertIsNone(ours.reason)
        self.world.network.down.discard(SERVER)
        ours.transport.write(b"hello?")
        self.advance(1)
        self.assertIsInstance(ours.reason, ConnectionLost)

    def test_a_paused_process(self) -> None:
        """Its system accepts connections and bytes; the process sees them when it goes on."""
        self.server.paused = True
        ours = self.connect().protocol_made
        assert ours is not None
        ours.transport.write(b"wake up")  # type: ignore[union-attr]
        self.advance(10)
        self.assertEqual(self.listening.accepted, [])
        self.server.paused = False
        self.world.scheduler.release(self.server)
        self.advance(0.01)
        self.assertEqual(self.listening.accepted[0].received, b"wake up")

    def test_reset_connections(self) -> None:
        """Both ends lose it."""
        ours, theirs = self.pair()
        self.world.network.reset_connections(CLIENT, SERVER)
        self.advance(0.1)
        self.assertIsInstance(ours.reason, ConnectionLost)
        self.assertIsInstance(theirs.reason, ConnectionLost)


class ClockTests(Case):
    def test_order(self) -> None:
        """Calls of one moment are made in the order of their making."""
        calls: list[int] = []
        for number in range(5):
            self.client.callLater(1, calls.append, number)
        self.advance(1)
        self.assertEqual(calls, list(range(5)))

    def test_cancel_reset_and_delay(self) -> None:
        """Delayed calls are as Twisted's."""
        calls: list[str] = []
        for name in ("cancelled", "later", "sooner"):
            setattr(self, name, self.client.callLater(2, calls.append, name))
        self.cancelled.cancel()  # type: ignore[attr-defined]
        self.later.delay(1)  # type: ignore[attr-defined]
        self.sooner.reset(1)  # type: ignore[attr-defined]
        self.advance(1)
        self.assertEqual(calls, ["sooner"])
        self.advance(2)
        self.assertEqual(calls, ["sooner", "later"])

    def test_timers_follow_the_wall_clock(self) -> None:
        """A jump forward fires them early, one back late; the monotonic clock does not jump."""
        calls: list[str] = []
        self.client.callLater(10, calls.append, "a")
        self.client.jump(9)
        self.advance(1)
        self.assertEqual(calls, ["a"])
        self.client.callLater(1, calls.append, "b")
        self.client.jump(-10)
        self.advance(10)
        self.assertEqual(calls, ["a"])
        self.advance(1)
        self.assertEqual(calls, ["a", "b"])
        self.assertEqual(self.client.monotonic(), self.world.now)

    def test_drift(self) -> None:
        """A fast clock's timers come early."""
        fast = self.world.reactor("10.0.0.3", rate=2.0)
        calls: list[float] = []
        fast.callLater(2, lambda: calls.append(self.world.now))
        self.advance(2)
        self.assertEqual(calls, [1.0])
        self.assertEqual(fast.monotonic(), 4.0)
