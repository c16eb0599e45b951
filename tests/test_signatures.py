"""What a decorator is given, and what is put above it: wrong, it is refused in one line."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.declarative import machine_commands
from finn.errors import BadMachine
from finn.machines.kv import KV
from finn.node.commands import BUILTINS
from finn.node.service import Node
from finn.testing.applier import FakeApplier
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client


class OptionTests(SynchronousTestCase):
    """All but the machine would work, until somebody sends WATCH, COMMAND or RAFTHELP."""

    def assert_refused(self, text: str, *args: Any, **options: Any) -> None:
        """Check that a decorator with these arguments takes no method."""
        for decorator in (finn.write, finn.read, finn.local):

            def command(self: Any, call: Any, key: bytes) -> None: ...

            with self.assertRaises(TypeError) as caught:
                decorator(*args, **options)(command)
            self.assertIn(text, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))

    def test_names(self) -> None:
        """None is the method's own, the empty one is none."""
        for name in ("", b"X", 5, ("A", "B"), "A B"):
            self.assert_refused(
                f"command: {name!r} is no name for a command: a str of 1 to 64", name
            )

    def test_keys(self) -> None:
        """Three integers, in a list too."""
        for keys in (1, "123", (1, 1), (1, 1, 1, 1), ("1", 1, 1), (1, 1, None), {1: 1}):
            self.assert_refused(
                f"command: keys={keys!r} is not (first, last, step)", "X", keys=keys
            )

        class Fine(finn.Machine):
            @finn.write(keys=[1, -1, 1])  # type: ignore[arg-type]
            def x(self, call: Any, *keys: bytes) -> None: ...

            @finn.write("Y", keys=(-1, -1, 1), flags=["fast"], summary="", usage="")  # type: ignore[arg-type]
            def y(self, call: Any, *keys: bytes) -> None: ...

        self.assertEqual([*machine_commands(Fine())], [b"X", b"Y"])

    def test_words(self) -> None:
        """Flags are several, the others one text each."""
        for flags in ("fast", None, (1,), {"fast"}):
            self.assert_refused(f"flags={flags!r} is not a tuple of str", "X", flags=flags)
        for option in ("summary", "usage", "group"):
            self.assert_refused(f"{option}=5 is not a str", "X", **{option: 5})
        self.assert_refused("group=None is not a str", "X", group=None)

    def test_options_that_there_are_not(self) -> None:
        """The error names those that there are."""
        for name in ("key", "name", "kind"):
            self.assert_refused(
                f"command: there is no option {name}, but keys, summary", **{name: 1}
            )

    def test_other_decorators(self) -> None:
        """What makes something else of the function leaves no command, above finn's and below."""
        for other in (
            functools.lru_cache,
            staticmethod,
            classmethod,
            property,
            functools.cached_property,
            functools.singledispatchmethod,
            lambda function: functools.partialmethod(function, x=1),
            lambda function: functools.partial(function, x=1),
        ):
            with self.assertRaisesRegex(TypeError, "is no function: only one can be a command"):
                finn.read("X")(other(lambda self, call: 1))  # type: ignore[arg-type]
            above = other(finn.read("X")(lambda self, call: 1))  # type: ignore[arg-type]
            with self.assertRaisesRegex(TypeError, r"Bad.x is a .*, no function: a command cannot"):
                type("Bad", (finn.Machine,), {"x": above})

    def test_what_is_no_decorator(self) -> None:
        """A part of a command with an argument given, or an object that has any attribute."""

        class Anything(dict[str, int]):
            def __getattr__(self, name: str) -> int | None:
                return self.get(name)

        class Parts(finn.Machine):
            anything: ClassVar = Anything()

            @finn.write("PUT")
            def put(self, call: Any, value: bytes) -> bytes:
                """Return it."""
                return value

            put_one = functools.partialmethod(put, value=b"1")

        class Child(Parts):
            put_two = functools.partialmethod(Parts.put, value=b"2")

        for cls in (Parts, Child):
            self.assertEqual(list(machine_commands(cls())), [b"PUT"])

    def test_attributes_that_hide_a_command(self) -> None:
        """The state and the method have one name: no command would be run, and nobody told."""
        for decorator in (finn.write, finn.read, finn.local):
            for value in (0, None, 5, {}, b"x"):

                class Hidden(finn.Machine):
                    def __init__(self, value: Any = value) -> None:
                        self.count = value

                    @decorator("Tally")
                    def count(self, call: Any) -> None: ...  # type: ignore[no-redef]

                for start in (FakeApplier, lambda machine: Node(Clock(), machine)):
                    with self.assertRaises(BadMachine) as caught:
                        start(Hidden())
                    self.assertEqual(
                        str(caught.exception),
                        "Hidden: attribute 'count' hides the command TALLY: rename one of them",
                    )

    def test_decorators_that_keep_a_function(self) -> None:
        """They may stand above."""

        def wraps(function: Any) -> Any:
            return functools.wraps(function)(lambda *args: [function(*args)])

        machine = type(
            "Fine", (finn.Machine,), {"x": wraps(finn.read("X")(lambda self, call: 1))}
        )()
        self.assertEqual(machine_commands(machine)[b"X"].run(None), [1])  # type: ignore[misc]


class BuiltinTests(SynchronousTestCase):
    """Commands that the node answers itself."""

    def machine(self, name: str) -> Any:
        """Return a machine with one command."""
        return type("Own", (finn.Machine,), {"x": finn.read(name)(lambda self, call: "mine")})

    def test_what_no_client_would_reach(self) -> None:
        """It is refused, at the start and in a test of the machine alone."""
        others = {name.decode() for name, builtin in BUILTINS.items() if not builtin.yields}
        self.assertLessEqual({"PING", "INFO", "SELECT", "MULTI", "RAFTSTATE"}, others)
        for name in {*others, "RAFTLINK", "info"}:
            text = f"the node itself answers {name.upper()}: give that command"
            machine = self.machine(name)
            self.assertRaisesRegex(BadMachine, text, FakeApplier, machine())
            self.assertRaisesRegex(BadMachine, text, Node, Clock(), machine())

    def test_what_yields(self) -> None:
        """The machine's own goes first."""
        for name in (name.decode() for name, builtin in BUILTINS.items() if builtin.yields):
            self.assertEqual(FakeApplier(self.machine(name)()).execute(name), b"mine")
            Node(Clock(), self.machine(name)())


class AdmissionTests(SynchronousTestCase):
    def test_keys_that_cannot_be_told(self) -> None:
        """The write fails, and keeps no place in which all of its client's replies would wait."""
        cluster = MemoryCluster(KV, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        watching, writing = Client(cluster, 0), Client(cluster, 0)
        self.assertEqual(watching.ask("WATCH k"), b"+OK\r\n")
        for name in (b"SET", b"set"):
            route = cluster.nodes[0].host.route(name)
            self.patch(route.spec, "keys", 1)
        self.assertEqual(
            writing.ask("SET k 1", "PING"), b"-ERR internal error: TypeError\r\n+PONG\r\n"
        )
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(writing.ask("GET k"), b"$-1\r\n")
        reply = watching.ask("MULTI", "SET k 2", "EXEC", "PING")
        self.assertTrue(reply.endswith(b"-ERR internal error: TypeError\r\n+PONG\r\n"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
