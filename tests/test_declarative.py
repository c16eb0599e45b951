"""Machines as classes: decorators, signatures, help, calls, state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.declarative import NOWHERE, Call, Machine, check_state, command_random, machine_commands
from finn.errors import CommandError
from finn.table import CommandSpec, Kind

if TYPE_CHECKING:
    from finn.declarative import Call as Unimportable


class Sample(finn.Machine):
    """A bit of everything."""

    def __init__(self) -> None:
        self.data: dict[bytes, Any] = {}

    @finn.write("PUT", keys=(1, 1, 1), group="string", flags=("fast",))
    def put(self, call: Unimportable, key: bytes, number: int = 1, *more: float) -> Any:
        """Put a number.

        And more of it, in other lines.
        """
        self.data[key] = (number, *more)
        return finn.OK

    @finn.read
    def peek(self, call: Call, key: bytes) -> Any:
        return self.data.get(key)

    @finn.local("where", summary="Say where.", usage="[please]")
    async def somewhere(self, call: Call, *words: str) -> str:
        """Ignored."""
        return "here"


def spec_of(machine: Machine, name: bytes) -> CommandSpec:
    """Return a command's spec."""
    return machine_commands(machine)[name]


class SpecTests(SynchronousTestCase):
    def test_signature_and_docstring_make_the_spec(self) -> None:
        """Arity, help and usage are read from the method."""
        spec = spec_of(Sample(), b"PUT")
        self.assertEqual((spec.name, spec.kind), ("PUT", Kind.WRITE))
        self.assertEqual((spec.min_args, spec.max_args), (1, -1))
        self.assertEqual(spec.summary, "Put a number.")
        self.assertEqual(spec.usage, "key [number] [more ...]")
        self.assertEqual((spec.keys, spec.group), ((1, 1, 1), "string"))
        self.assertEqual(spec.flags, ("write", "fast"))

    def test_bare_decorator_names_the_command_after_the_method(self) -> None:
        """No name, no parentheses."""
        spec = spec_of(Sample(), b"PEEK")
        self.assertEqual((spec.name, spec.kind), ("PEEK", Kind.READ))
        self.assertEqual((spec.min_args, spec.max_args), (1, 1))
        self.assertIsNone(spec.convert)

    def test_options_go_before_docstring_and_signature(self) -> None:
        """Names are upper case, local commands may be async."""
        spec = spec_of(Sample(), b"WHERE")
        self.assertEqual(spec.kind, Kind.LOCAL)
        self.assertEqual((spec.summary, spec.usage), ("Say where.", "[please]"))

    def test_run_is_the_bound_method(self) -> None:
        """Running a command is one call, without a closure."""
        machine = Sample()
        run = spec_of(machine, b"PUT").run
        assert run is not None
        self.assertIs(run(Call(0, 0, Logger()), b"k", 5), finn.OK)
        self.assertEqual(machine.data, {b"k": (5,)})

    def test_arguments_are_converted(self) -> None:
        """By annotation; defaults stay what they are."""
        convert = spec_of(Sample(), b"PUT").convert
        assert convert is not None
        self.assertEqual(convert([b"k"]), [b"k"])
        self.assertEqual(convert([b"k", b"-7"]), [b"k", -7])
        self.assertEqual(convert([b"k", b"0", b"1.5", b"inf"]), [b"k", 0, 1.5, float("inf")])
        words = spec_of(Sample(), b"WHERE").convert
        assert words is not None
        self.assertEqual(words([b"\xc3\xa9"]), ["é"])

    def test_conversions_are_as_strict_as_redis(self) -> None:
        """What Redis refuses is refused, with its words."""
        convert = spec_of(Sample(), b"PUT").convert
        assert convert is not None
        for bad in (b"", b" 1", b"1 ", b"+1", b"01", b"-0", b"1_0", b"1.0", b"x", b"\xd9\xa1",
                    b"9223372036854775808", b"1" * 30):  # fmt: skip
            with self.assertRaises(CommandError) as caught:
                convert([b"k", bad])
            self.assertEqual(
                str(caught.exception), "ERR value is not an integer or out of range", bad
            )
        self.assertEqual(convert([b"k", b"-9223372036854775808"])[1], -(2**63))
        for bad in (b"", b" 1", b"1_0", b"nan", b"x", b"1e999", b"1e", b"."):
            with self.assertRaises(CommandError) as caught:
                convert([b"k", b"1", bad])
            self.assertEqual(str(caught.exception), "ERR value is not a valid float", bad)
        self.assertEqual(convert([b"k", b"1", b"+1.", b".5", b"1e3"])[2:], [1.0, 0.5, 1000.0])
        words = spec_of(Sample(), b"WHERE").convert
        assert words is not None
        self.assertRaises(CommandError, words, [b"\xff"])

    def test_optional_arguments_may_be_none_by_default(self) -> None:
        """``int | None`` is an int that may be missing."""

        class Optional(Machine):
            @finn.write
            def a(self, call: Call, x: int | None = None) -> None:
                """A."""

        convert = spec_of(Optional(), b"A").convert
        assert convert is not None
        self.assertEqual(convert([b"3"]), [3])


class InheritanceTests(SynchronousTestCase):
    def test_an_override_takes_the_place_of_the_base(self) -> None:
        """With its own signature, under the declaration of the base."""

        class Child(Sample):
            def peek(self, call: Call, key: bytes, *path: bytes) -> Any:  # type: ignore[override]
                """Peek deeper."""
                return len(path)

        spec = spec_of(Child(), b"PEEK")
        self.assertEqual((spec.kind, spec.max_args), (Kind.READ, -1))
        self.assertEqual(spec.summary, "Peek deeper.")
        self.assertEqual(spec_of(Sample(), b"PEEK").max_args, 1)
        self.assertIn(b"PUT", machine_commands(Child()))

    def test_commands_can_be_removed_and_renamed(self) -> None:
        """None removes; a declaration of the override replaces that of the base."""

        class Child(Sample):
            peek = None  # type: ignore[assignment]

            @finn.write("STORE")
            def put(self, call: Call, key: bytes) -> Any:  # type: ignore[override]
                """Store."""

        self.assertEqual(set(machine_commands(Child())), {b"STORE", b"WHERE"})

    def test_mixins_bring_commands(self) -> None:
        """They need not be machines themselves."""

        class Mixin:
            @finn.read("EXTRA")
            def extra(self, call: Call) -> int:
                """Extra."""
                return 1

        class Both(Mixin, Sample):
            pass

        self.assertIn(b"EXTRA", machine_commands(Both()))
        self.assertIn(b"PUT", machine_commands(Both()))

    def test_a_method_may_have_several_names(self) -> None:
        """One decorator each."""

        class Aliased(Machine):
            @finn.write("A")
            @finn.write("B")
            def a(self, call: Call) -> None:
                """A."""

        self.assertEqual(set(machine_commands(Aliased())), {b"A", b"B"})

    def test_names_of_the_machine(self) -> None:
        """The class's name, unless it says otherwise."""

        class Named(Sample):
            machine_name = "other"

        class Child(Named):
            pass

        self.assertEqual(Sample.machine_name, "Sample")
        self.assertEqual(Named.machine_name, "other")
        self.assertEqual(Child.machine_name, "Child")
        self.assertEqual(Sample.snapshot_version, 1)


class Fast(Machine):
    """Commands that can be run together."""

    def __init__(self) -> None:
        self.total = 0

    @finn.write("ADD", pipelined="add_all")
    def add(self, call: Call, number: bytes, *more: bytes) -> int:
        """Add."""
        return self.add_all(call, [number, *more])[-1]

    def add_all(self, call: Call, numbers: Any) -> list[int]:
        """Add them all."""
        self.total += len(numbers)
        return [self.total] * len(numbers)


class PipelinedTests(SynchronousTestCase):
    """A method that runs several commands together."""

    def test_it_is_found(self) -> None:
        """Bound to the machine, as the command's own."""
        machine = Fast()
        together = spec_of(machine, b"ADD").pipelined
        assert together is not None
        together(Call(1, 1, Logger()), [b"1", b"2"])
        self.assertEqual(machine.total, 2)
        self.assertIsNone(spec_of(Sample(), b"PUT").pipelined)

    def test_an_override_of_the_command_is_not_passed_over(self) -> None:
        """Unless it brings a method of its own for several, or overrides that one alone."""

        class Alone(Fast):
            def add(self, call: Call, number: int) -> int:  # type: ignore[override]
                """Add otherwise."""
                return number

        class Both(Fast):
            def add(self, call: Call, number: bytes, *more: bytes) -> int:
                """Add otherwise."""
                return 0

            def add_all(self, call: Call, numbers: Any) -> list[int]:
                """Add all otherwise."""
                return [0] * len(numbers)

        class Never(Fast):
            add_all = None  # type: ignore[assignment]

        class Together(Fast):
            def add_all(self, call: Call, numbers: Any) -> list[int]:
                """Add all otherwise."""
                return [7] * len(numbers)

        self.assertIsNone(spec_of(Alone(), b"ADD").pipelined)
        self.assertIsNone(spec_of(Never(), b"ADD").pipelined)
        for cls, number in ((Both, 0), (Together, 7)):
            together = spec_of(cls(), b"ADD").pipelined
            assert together is not None
            self.assertEqual(together(None, [b""]), [number])

    def test_what_cannot_be_pipelined(self) -> None:
        """Said when the class is made."""

        def converts(self: Any, call: Any, number: int) -> None: ...

        def nothing(self: Any, call: Any) -> None: ...

        def fine(self: Any, call: Any, key: bytes) -> None: ...

        def lazy(self: Any, call: Any, keys: Any) -> Any:
            yield

        async def later(self: Any, call: Any, keys: Any) -> None: ...

        def converts_none(self: Any, call: Any) -> None: ...

        for decorator, function, name, text in (
            (finn.write, converts, "together", "all bytes"),
            (finn.read, nothing, "together", "takes arguments"),
            (finn.local, fine, "together", "only a write or a read"),
            (finn.write, fine, "missing", "'missing' is not a method"),
            (finn.write, fine, "lazy", "is a generator"),
            (finn.write, fine, "later", "is async"),
            (finn.read, fine, "converts_none", "must take self, call and 1 sequences"),
        ):
            decorated: Any = decorator("COMMAND", pipelined=name)  # type: ignore[operator]
            with self.assertRaises(TypeError) as caught:
                members = {f.__name__: f for f in (lazy, later, converts_none)}
                members |= {"command": decorated(function), "together": fine}
                type("Bad", (Machine,), members)
            self.assertIn(text, str(caught.exception))

    def test_chance_is_not_for_several(self) -> None:
        """How many come together differs between nodes."""
        call = Call(1, 1, Logger())
        call.position = NOWHERE
        with self.assertRaisesRegex(RuntimeError, "together"):
            call.random.random()


class RefusalTests(SynchronousTestCase):
    """A class that cannot work is refused when it is made."""

    def assert_refused(self, function: Any, text: str, decorator: Any = finn.write) -> None:
        """Check that a class with this command cannot be made."""
        with self.assertRaises(TypeError) as caught:
            type("Bad", (Machine,), {"command": decorator("COMMAND")(function)})
        self.assertIn(text, str(caught.exception))

    def test_async_writes_and_reads(self) -> None:
        """Their reply must not come later than their turn."""

        async def later(self: Any, call: Any) -> None: ...

        self.assert_refused(later, "async")
        self.assert_refused(later, "async", finn.read)

        class Child(Sample):
            pass

        with self.assertRaises(TypeError):
            type("Bad", (Child,), {"put": later})

    def test_generators(self) -> None:
        """A command returns its reply."""

        def pieces(self: Any, call: Any) -> Any:
            yield 1

        self.assert_refused(pieces, "generator", finn.local)

    def test_signatures(self) -> None:
        """Only what a client can send can be an argument."""
        self.assert_refused(lambda self: 1, "must take self and call")
        self.assert_refused(lambda self, *call: 1, "must take self and call")
        self.assert_refused(lambda self, call, *, key: 1, "keyword")
        self.assert_refused(lambda self, call, **keys: 1, "keyword")

        def wrong(self: Any, call: Any, key: list[bytes]) -> None: ...

        def unknown(self: Any, call: Any, key: Nothing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        self.assert_refused(wrong, "bytes, int, float and str")
        self.assert_refused(unknown, "cannot be evaluated")

    def test_names(self) -> None:
        """A name is one printable word, and belongs to one method."""
        for name in ("", "A B", "É", "A" * 65):
            self.assertRaises(TypeError, finn.write(name), lambda self, call: 1)
        with self.assertRaises(TypeError):
            type(
                "Bad",
                (Machine,),
                {
                    "a": finn.write("SAME")(lambda self, call: 1),
                    "b": finn.read("same")(lambda self, call: 1),
                },
            )

    def test_what_is_not_a_function(self) -> None:
        """The decorators belong next to the method."""
        self.assertRaises(TypeError, finn.write("X"), property(lambda self: 1))


class CallTests(SynchronousTestCase):
    def test_random_is_replicated(self) -> None:
        """Seed and position decide, whichever node asks, and however often."""
        one, two = Call(1, 99, Logger()), Call(2, 99, Logger())
        one.position = two.position = 3
        self.assertEqual(
            [one.random.random(), one.random.random()], [two.random.random(), two.random.random()]
        )

    def test_random_differs_by_command(self) -> None:
        """No two commands of an entry, and no two entries, draw the same."""
        call = Call(1, 99, Logger())
        drawn = set()
        for position in range(100):
            call.position = position
            drawn.add(call.random.random())
        drawn.update(command_random(seed, 0).random() for seed in range(100, 200))
        self.assertEqual(len(drawn), 200)

    def test_what_random_gives_is_pinned(self) -> None:
        """A node of a later version must draw the same for entries of an earlier one."""
        self.assertEqual(command_random(12345, 6).randint(0, 10**9), 752190452)


class StateTests(SynchronousTestCase):
    def test_default_snapshot_and_restore(self) -> None:
        """All attributes come back, others go."""
        machine, other = Sample(), Sample()
        machine.data = {b"a": [1, 2.5, "x", None, True, (b"t",), {3, 1}], b"b": {1: b""}}
        other.extra = 1  # type: ignore[attr-defined]
        file = io.BytesIO()
        for _ in machine.snapshot(file) or ():
            pass
        file.seek(0)
        for _ in other.restore(file) or ():
            pass
        self.assertEqual(vars(other), vars(machine))

    def test_what_precedes_the_first_yield_is_the_freeze(self) -> None:
        """Commands that run while the snapshot is written are not in it."""
        machine, other = Sample(), Sample()
        machine.data[b"list"] = [1]
        file = io.BytesIO()
        steps = machine.snapshot(file)
        assert steps is not None
        next(steps)
        machine.data[b"list"].append(2)
        machine.data[b"new"] = 1
        for _ in steps:
            pass
        file.seek(0)
        for _ in other.restore(file) or ():
            pass
        self.assertEqual(other.data, {b"list": [1]})

    def test_the_old_state_stays_until_all_is_read(self) -> None:
        """A restore that fails half-way changes nothing."""
        machine = Sample()
        machine.data = {b"a": 1}
        file = io.BytesIO()
        for _ in machine.snapshot(file) or ():
            pass
        machine.data = {b"b": 2}
        with self.assertRaises(ValueError):
            for _ in machine.restore(io.BytesIO(file.getvalue()[:-1])) or ():
                pass
        self.assertEqual(machine.data, {b"b": 2})

    def test_check_state_names_the_attribute(self) -> None:
        """A machine whose state cannot be kept is refused at start."""
        machine = Sample()
        check_state(machine)
        machine.lock = object()  # type: ignore[attr-defined]
        with self.assertRaises(TypeError) as caught:
            check_state(machine)
        self.assertIn("'lock' holds a object", str(caught.exception))
        self.assertIsInstance(caught.exception, finn.FinnError)

    def test_own_snapshots_are_not_checked(self) -> None:
        """They know their types."""

        class Own(Sample):
            def snapshot(self, file: Any) -> None:
                """Nothing."""

            restore = snapshot

        machine = Own()
        machine.lock = object()  # type: ignore[attr-defined]
        check_state(machine)
