"""Where a machine may keep its state, and how it may write it: what no snapshot holds."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict, deque
from io import BytesIO
from typing import Any, ClassVar, Final, Generic, TypeVar
from unittest.mock import Mock, create_autospec

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import finn
from finn.declarative import check_state
from finn.errors import BadMachine
from finn.node.host import Host
from finn.testing.applier import FakeApplier
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client

T = TypeVar("T")


class Box(finn.Machine, Generic[T]):
    def __init__(self) -> None:
        self.value = 1


class PlaceTests(SynchronousTestCase):
    """The default snapshot holds ``vars(self)``: state elsewhere would be gone after a restart."""

    def assert_refused(self, cls: Any, *texts: str) -> None:
        """Check that no machine of a class is started."""
        machine = cls()
        with self.assertRaises(BadMachine) as caught:
            check_state(machine)
        for text in texts:
            self.assertIn(text, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertRaises(BadMachine, FakeApplier, machine)

    def test_what_typing_notes_in_an_instance(self) -> None:
        """It is not state, and stays at a restore."""
        machine = Box[int]()
        check_state(machine)
        file = BytesIO()
        deque(machine.snapshot(file) or ())
        self.assertNotIn(b"__orig_class__", file.getvalue())
        machine.value = 5
        deque(machine.restore(BytesIO(file.getvalue())) or ())
        self.assertEqual(machine.value, 1)
        self.assertEqual(vars(machine)["__orig_class__"], Box[int])

    def test_slots(self) -> None:
        """Also those of a class in between, of a mixin, and of a dataclass."""

        class Slots(finn.Machine):
            __slots__ = ("last",)

        class Child(Slots):
            pass

        class Mixin:
            __slots__ = ("last",)

        class Mixed(Mixin, finn.Machine):
            pass

        @dataclasses.dataclass(slots=True)
        class Data(finn.Machine):
            last: int = 0

        for cls in (Slots, Child, Mixed, Data):
            self.assert_refused(cls, "'last'", "in __slots__", "leave __slots__ out")

    def test_slots_that_add_nothing(self) -> None:
        """They keep nothing."""

        class Empty(finn.Machine):
            __slots__ = ()

        check_state(Empty())

    def test_what_can_be_changed_in_the_class(self) -> None:
        """Whichever class it is in, and whatever it is annotated with otherwise."""
        for value in ([], {}, set(), bytearray(), defaultdict(int)):
            base = type("Base", (finn.Machine,), {"last": value})
            text = f"'last' of Base is a {type(value).__name__} in the class"
            self.assert_refused(base, text, "set it in __init__", "ClassVar")
            self.assert_refused(type("Child", (base,), {}), text)
            annotations = {"last": "dict[bytes, int]"}
            members = {"last": value, "__annotations__": annotations}
            self.assert_refused(type("Base", (finn.Machine,), members), text)

    def test_what_never_changes(self) -> None:
        """A constant says so, by its name or its annotation, as text or not."""

        class Constants(finn.Machine):
            NAMES = ("a",)
            _TABLE = {"a": 1}
            words: ClassVar[list[str]] = ["b"]
            more: Final = {"c"}
            nothing = None
            fixed = (1, frozenset([2]))
            __PRIVATE = {"d": 1}

        class _Child(Constants):
            __OTHER = ["e"]

        check_state(Constants())
        check_state(_Child())
        for annotation in (ClassVar[dict], Final, "t.ClassVar"):  # type: ignore[type-arg]
            members = {"last": {}, "__annotations__": {"last": annotation}}
            check_state(type("Annotated", (finn.Machine,), members)())

    def test_what_a_class_has_in_place_of_its_base(self) -> None:
        """Whoever derives from another's machine can say what is constant."""

        class Base(finn.Machine):
            table: Any = {}

        class Fixed(Base):
            table = (1,)

        class Constant(Base):
            table: ClassVar[dict[str, int]] = {}

        for cls in (Fixed, Constant):
            check_state(cls())

    def test_a_machine_that_is_a_container(self) -> None:
        """What it contains is no attribute."""
        for kind in (dict, list, set):
            self.assert_refused(
                type("Bag", (finn.Machine, kind), {}), "Bag is a container itself", "attribute"
            )

    def test_what_the_machine_has_of_its_own(self) -> None:
        """A default that ``__init__`` replaces is not where the state is."""

        class Default(finn.Machine):
            last: Any = {}

            def __init__(self) -> None:
                self.last = {}

        check_state(Default())

    def test_a_machine_with_snapshots_of_its_own(self) -> None:
        """It knows where its state is."""

        class Own(finn.Machine):
            __slots__ = ("last",)
            table: Any = {}

            def snapshot(self, file: Any) -> None:
                """Nothing."""

            def restore(self, file: Any) -> None:
                """Nothing."""

        check_state(Own())


class NameTests(SynchronousTestCase):
    """What a snapshot is kept under has a form in which it can be kept, and compared."""

    def machines(self, **members: Any) -> list[Any]:
        """Return machines of both styles with these attributes."""

        def nothing(*args: Any) -> None: ...

        opaque = {"command": nothing, "snapshot": nothing, "restore": nothing, **members}
        return [
            type("Declared", (finn.Machine,), members)(),
            implementer(finn.IMachine)(type("Opaque", (), opaque))(),
        ]

    def assert_refused(self, text: str, **members: Any) -> None:
        """Check that no machine of either style is started, and one line says why."""
        for machine in self.machines(**members):
            for start in (FakeApplier, lambda machine: Host(machine, self.fail)):
                with self.assertRaises(BadMachine) as caught:
                    start(machine)
                where = type(machine).__name__
                self.assertEqual(str(caught.exception), f"{where}.{text}")

    def test_versions(self) -> None:
        """They are counted."""
        for version in ("1.0", "2", None, 1.5, -2, True):
            self.assert_refused(
                f"snapshot_version must be a whole number, 0 or more, not {version!r}",
                snapshot_version=version,
            )
        for version in (0, 7):
            for machine in self.machines(snapshot_version=version):
                self.assertEqual(Host(machine, self.fail).version, version)

    def test_names(self) -> None:
        """They are texts."""
        for name in (4, "", None, b"name"):
            self.assert_refused(
                f"machine_name must be a str that is not empty, not {name!r}", machine_name=name
            )
        for machine in self.machines(machine_name="x", snapshot_version=1):
            self.assertEqual(Host(machine, self.fail).name, "x")


class MethodTests(SynchronousTestCase):
    """``snapshot`` and ``restore`` that do nothing would lose everything at the next restart."""

    def assert_refused(self, text: str, **methods: Any) -> None:
        """Check that no machine with these methods is started."""
        machine = type("Bad", (finn.Machine,), methods)()
        with self.assertRaises(BadMachine) as caught:
            check_state(machine)
        self.assertIn(text, str(caught.exception))
        self.assertRaises(BadMachine, FakeApplier, machine)
        self.assertRaises(BadMachine, Host, machine, self.fail)

    def test_async_ones(self) -> None:
        """Nobody awaits them."""

        async def later(self: Any, file: Any) -> None: ...

        async def pieces(self: Any, file: Any) -> Any:
            yield

        def at_once(self: Any, file: Any) -> None: ...

        self.assert_refused("Bad.snapshot is async", snapshot=later, restore=at_once)
        self.assert_refused("Bad.restore is async", snapshot=at_once, restore=pieces)

        @implementer(finn.IMachine)
        class Opaque:
            command = snapshot = at_once
            restore = later

        for start in (FakeApplier, lambda machine: Host(machine, self.fail)):
            with self.assertRaisesRegex(BadMachine, "Opaque.restore is async"):
                start(Opaque())

    def test_those_that_cannot_be_called(self) -> None:
        """A snapshot is taken hours later, when the log has grown."""

        def at_once(self: Any, file: Any) -> None: ...

        def without(self: Any) -> None: ...

        def with_more(self: Any, file: Any, more: Any) -> None: ...

        def named(self: Any, *, file: Any) -> None: ...

        for wrong in (without, with_more, named, 4, None):
            text = "Bad.snapshot is no method that takes file"
            self.assert_refused(text, snapshot=wrong, restore=at_once)
            text = "Bad.restore is no method that takes file"
            self.assert_refused(text, snapshot=at_once, restore=wrong)

    def test_those_that_can_be_called(self) -> None:
        """What takes more, or is wrapped, or cannot tell."""

        def optional(self: Any, file: Any, more: Any = None) -> None: ...

        def without(self: Any) -> None: ...

        @functools.wraps(without)
        def wrapped(*args: Any) -> None: ...

        class Untold:
            """As some that are written in C."""

            @property
            def __signature__(self) -> Any:
                raise ValueError

            def __call__(self, file: Any) -> None: ...

        for method in (optional, wrapped, Untold()):
            check_state(type("Good", (finn.Machine,), {"snapshot": method, "restore": method})())

    def test_mocks(self) -> None:
        """They claim to be of every kind: to be async, and generators, too."""

        class Opaque:
            def command(self, applier: Any, conn: Any, cmd: Any) -> None: ...

            def snapshot(self, file: Any) -> None: ...

            def restore(self, file: Any) -> None: ...

        check_state(create_autospec(Opaque, instance=True))
        check_state(Mock(spec=Opaque))

    def test_partials_of_async_ones(self) -> None:
        """They are async, too."""

        async def later(more: Any, self: Any, file: Any) -> None: ...

        for method in (functools.partialmethod(later, 1), functools.partial(later, 1, 2)):
            self.assert_refused("Bad.snapshot is async", snapshot=method, restore=method)

    def test_the_command_of_the_other_style(self) -> None:
        """Every client would get an internal error."""

        def at_once(self: Any, file: Any) -> None: ...

        async def later(self: Any, applier: Any, conn: Any, cmd: Any) -> None: ...

        def lazily(self: Any, applier: Any, conn: Any, cmd: Any) -> Any:
            yield

        def short(self: Any, applier: Any, cmd: Any) -> None: ...

        def fine(self: Any, *args: Any) -> None: ...

        for command, text in (
            (later, "Opaque.command is async: make it plain"),
            (lazily, "Opaque.command is a generator: make it plain"),
            (short, "Opaque.command is no method that takes applier, conn, cmd"),
            (None, "Opaque.command is no method that takes applier, conn, cmd"),
            (fine, ""),
        ):
            methods = {"snapshot": at_once, "restore": at_once, "command": command}
            machine = implementer(finn.IMachine)(type("Opaque", (), methods))()
            for start in (FakeApplier, lambda machine: Host(machine, self.fail)):
                if text:
                    self.assertRaisesRegex(BadMachine, text, start, machine)
                else:
                    start(machine)

    def test_one_without_the_other(self) -> None:
        """What one writes the other cannot read, unless the class says that it can."""

        def at_once(self: Any, file: Any) -> None: ...

        self.assert_refused("has snapshot() of its own, but not restore()", snapshot=at_once)
        self.assert_refused("has restore() of its own, but not snapshot()", restore=at_once)
        both = {"snapshot": finn.Machine.snapshot, "restore": at_once}
        check_state(type("Both", (type("Base", (finn.Machine,), {"restore": at_once}),), both)())

    def test_what_they_return(self) -> None:
        """All but nothing, or a generator, is work that is not done."""

        async def later() -> None: ...

        def lazily() -> Any:
            return later()

        kinds = {"bytes": bytes, "coroutine": lazily, "list_iterator": lambda: iter([])}
        for kind, make in kinds.items():

            def method(self: Any, file: Any, make: Any = make) -> Any:
                return make()

            machine = type("Lazy", (finn.Machine,), {"snapshot": method, "restore": method})()
            host, fake = Host(machine, self.fail), FakeApplier(machine)
            text = rf"snapshot\(\) returned a {kind}: it is to write to the file"
            self.assertRaisesRegex(TypeError, text, host.snapshot, BytesIO())
            self.assertRaisesRegex(TypeError, text, fake.snapshot)
            text = rf"restore\(\) returned a {kind}: it is to read from the file"
            self.assertRaisesRegex(TypeError, text, host.restore, BytesIO())
            self.assertRaisesRegex(TypeError, text, fake.restore, b"")
        self.assertEqual(self.flushWarnings(), [])

    def test_the_file_returns_nothing(self) -> None:
        """Whoever returns what writing returns has written, on a node and in a test."""

        class Short(finn.Machine):
            def snapshot(self, file: Any) -> Any:
                return file.write(b"all")

            def restore(self, file: Any) -> None:
                file.read()

        self.assertEqual(FakeApplier(Short()).snapshot(), b"all")

    def test_a_snapshot_that_is_not_written(self) -> None:
        """RAFTSNAPSHOT says so, and the log that it was to replace stays."""

        class Returns(finn.Machine):
            def snapshot(self, file: Any) -> Any:
                return b"state"

            def restore(self, file: Any) -> None: ...

            @finn.write("T")
            def t(self, call: Any) -> None:
                """Nothing."""

        cluster = MemoryCluster(Returns, size=1)
        self.addCleanup(cluster.close)
        cluster.start()
        reply = Client(cluster, 0).ask("T", "RAFTSNAPSHOT")
        self.assertIn(b"-ERR snapshot failed: snapshot() returned a bytes", reply)
        self.assertIsNone(cluster.nodes[0].snapshots.newest)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
