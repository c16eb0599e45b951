"""FakeApplier runs machines of both styles as a node does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import finn
from finn.interfaces import IApplier
from finn.testing.applier import FakeApplier


class Declared(finn.Machine):
    """A machine to be driven."""

    def __init__(self) -> None:
        self.items: list[bytes] = []

    @finn.write
    def add(self, call: finn.Call, item: bytes, times: int = 1) -> int:
        """Add an item."""
        if times < 1:
            raise finn.CommandError("ERR too few")
        self.items += [item] * times
        return len(self.items)

    @finn.write
    def pick(self, call: finn.Call) -> list[Any]:
        """Pick by chance."""
        return [call.now, call.random.random(), call.name]

    @finn.local
    async def who(self, call: finn.Call) -> Any:
        """Say who asks."""
        return [call.conn.peer, await self.wait]

    @finn.read
    def crash(self, call: finn.Call) -> Any:
        """Fail."""
        return 1 / 0

    @finn.write
    def put_off(self, call: finn.Call) -> Any:
        """Promise what only a local command may."""
        return self.wait

    @finn.read
    def look_later(self, call: finn.Call) -> Any:
        """Promise it, too."""
        return self.wait

    wait: Any = None


@implementer(finn.IMachine)
class Opaque:
    """A machine in the original's style, with a memory of how it was called."""

    def __init__(self) -> None:
        self.value = 0
        self.calls: list[bool] = []

    def command(self, applier: finn.IApplier, conn: Any, cmd: list[bytes]) -> Any:
        """Run one command."""
        self.calls.append(conn is not None)
        if cmd[0] == b"ADD":
            before = self.value

            def mutate() -> float:
                self.value = before + int(cmd[1])
                return applier.random.random() + applier.random.random()

            return applier.apply(conn, cmd, mutate, lambda _: conn.write_integer(self.value))
        if cmd[0] == b"TWICE":
            applier.apply(conn, cmd, None, None)
            return applier.apply(conn, cmd, None, None)
        if cmd[0] == b"LOCAL":
            conn.write_array(2)
            conn.write_bulk("a")
            conn.write_null()
            return None
        if cmd[0] == b"MUTE":
            return None
        raise finn.UnknownCommand(cmd[0])

    def snapshot(self, file: Any) -> None:
        """Write."""
        file.write(b"%d" % self.value)

    def restore(self, file: Any) -> None:
        """Read."""
        self.value = int(file.read())


class DeclaredTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Drive a machine."""
        self.applier = FakeApplier(Declared())

    def test_values_are_what_a_client_sees(self) -> None:
        """Arguments may be written as they come."""
        self.assertEqual(self.applier.execute("add", "x"), 1)
        self.assertEqual(self.applier.execute(b"ADD", b"y", 2), 3)

    def test_errors_are_raised(self) -> None:
        """Unknown commands, arity, conversions, the machine's own; crashes come through."""
        for command, text in (
            (["Nope"], "ERR unknown command 'Nope'"),
            (["Add"], "ERR wrong number of arguments for 'Add' command"),
            (["ADD", "x", "y"], "ERR value is not an integer or out of range"),
            (["ADD", "x", 0], "ERR too few"),
        ):
            with self.assertRaises(finn.CommandError) as caught:
                self.applier.execute(*command)
            self.assertEqual(str(caught.exception), text)
        self.assertRaises(ZeroDivisionError, self.applier.execute, "CRASH")
        with self.assertRaisesRegex(ValueError, "a command has a name at least"):
            self.applier.execute()

    def test_time_and_chance_are_the_tests(self) -> None:
        """The same now, seed and position give the same."""
        other = FakeApplier(Declared())
        self.applier.now = other.now = 5
        self.applier.seed = other.seed = 6
        first = self.applier.execute("PICK")
        self.assertEqual(first, other.execute("PICK"))
        self.assertEqual((first[0], first[2]), (5, b"PICK"))
        self.assertNotEqual(first, self.applier.execute("PICK"))

    def test_async_commands_give_deferreds(self) -> None:
        """They fire with what the client sees."""
        self.applier.machine.wait = Deferred()
        result = self.applier.execute("WHO")
        self.assertNoResult(result)
        self.applier.machine.wait.callback(True)
        self.assertEqual(self.successResultOf(result), [b"127.0.0.1:50000", 1])

    def test_other_commands_may_not_wait(self) -> None:
        """A Deferred is no reply, as on a node."""
        self.applier.machine.wait = Deferred()
        for name in ("PUT_OFF", "LOOK_LATER"):
            with self.assertRaisesRegex(TypeError, "a Deferred cannot be a reply"):
                self.applier.execute(name)

    def test_snapshots(self) -> None:
        """From one machine to another."""
        self.applier.execute("ADD", "x", 3)
        other = FakeApplier(Declared())
        other.restore(self.applier.snapshot())
        self.assertEqual(other.machine.items, [b"x"] * 3)

    def test_state_is_checked(self) -> None:
        """As a node does at its start."""
        machine = Declared()
        machine.items = object()  # type: ignore[assignment]
        self.assertRaises(TypeError, FakeApplier, machine)
        self.assertRaises(TypeError, FakeApplier, object())


class OpaqueTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Drive a machine."""
        self.machine = Opaque()
        self.applier = FakeApplier(self.machine)

    def test_it_is_an_applier(self) -> None:
        """A machine is handed the fake itself."""
        self.assertTrue(verifyObject(IApplier, self.applier))

    def test_the_mutation_is_that_of_the_call_at_apply(self) -> None:
        """The command is called twice: with the connection, and without when it is applied."""
        self.assertEqual(self.applier.execute("ADD", 5), 5)
        self.assertEqual(self.machine.calls, [True, False])

    def test_local_commands_write_at_once(self) -> None:
        """A command that never calls apply is called once."""
        self.assertEqual(self.applier.execute("LOCAL"), [b"a", None])
        self.assertEqual(self.machine.calls, [True])

    def test_errors(self) -> None:
        """What a node would refuse or never answer fails the test."""
        self.assertRaises(finn.UnknownCommand, self.applier.execute, "X")
        self.assertRaises(RuntimeError, self.applier.execute, "TWICE")
        self.assertRaises(RuntimeError, self.applier.execute, "MUTE")
        self.assertRaises(RuntimeError, self.applier.apply, None, [], None, None)

    def test_snapshots(self) -> None:
        """Plain functions, not generators."""
        self.applier.execute("ADD", 5)
        other = FakeApplier(Opaque())
        other.restore(self.applier.snapshot())
        self.assertEqual(other.machine.value, 5)
