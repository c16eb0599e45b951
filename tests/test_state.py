"""Where a machine may keep its state, and how it may write it: what no snapshot holds."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any, ClassVar, Final

from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.declarative import check_state
from finn.errors import BadMachine
from finn.testing.applier import FakeApplier


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

        check_state(Constants())
        for annotation in (ClassVar[dict], Final, "t.ClassVar"):  # type: ignore[type-arg]
            members = {"last": {}, "__annotations__": {"last": annotation}}
            check_state(type("Annotated", (finn.Machine,), members)())

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
