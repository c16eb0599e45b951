"""Plain data, there and back."""

from __future__ import annotations

import collections
import io
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn import plain

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
values = st.recursive(
    hashable | st.sets(hashable, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=4),
    max_leaves=15,
)


def dumped(state: dict[str, Any]) -> bytes:
    """Write a state to its end."""
    file = io.BytesIO()
    for _ in plain.dump(plain.freeze(state), file):
        pass
    return file.getvalue()


def loaded(data: bytes) -> tuple[dict[str, Any], int]:
    """Read a state, and count the slices."""
    steps = plain.load(io.BytesIO(data))
    slices = 0
    while True:
        try:
            next(steps)
            slices += 1
        except StopIteration as stop:
            return stop.value, slices


def shape(value: Any) -> Any:
    """Return a value with its types, in an order of its own for sets."""
    if isinstance(value, (list, tuple)):
        return type(value), [shape(member) for member in value]
    if isinstance(value, dict):
        return dict, [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, set):
        return set, sorted(repr(shape(member)) for member in value)
    return type(value), repr(value)


class PlainTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.dictionaries(st.text(max_size=8), values, max_size=4))
    def test_types_and_order_are_kept(self, state: dict[str, Any]) -> None:
        """Not only equal: 1, 1.0 and True stay apart, dicts keep their order."""
        self.assertEqual(shape(loaded(dumped(state))[0]), shape(state))

    def test_the_format_is_pinned(self) -> None:
        """Snapshots of earlier versions must stay readable."""
        state = {"a": [None, True, False, -1, 1.5, b"b", "s"], "b": ({2, 1}, {b"k": 256})}
        self.assertEqual(
            dumped(state),
            b"finn-plain 1\nm\0\0\0\2"
            b"s\0\0\0\1al\0\0\0\7NTFi\0\0\0\1\xffd\x3f\xf8\0\0\0\0\0\0b\0\0\0\1bs\0\0\0\1s"
            b"s\0\0\0\1bt\0\0\0\2S\0\0\0\2i\0\0\0\1\1i\0\0\0\1\2m\0\0\0\1b\0\0\0\1ki\0\0\0\2\1\0",
        )

    def test_numbers_at_the_edge(self) -> None:
        """Bits, not digits."""
        state = {"n": [0, 127, 128, -128, -129, 2**64, -(2**200), -0.0, math.inf, 5e-324]}
        self.assertEqual(shape(loaded(dumped(state))[0]), shape(state))
        self.assertTrue(math.isnan(loaded(dumped({"n": math.nan}))[0]["n"]))

    def test_equal_sets_are_written_equally(self) -> None:
        """Whatever their history and the hash seed."""
        self.assertEqual(dumped({"s": {b"a", b"b", 8, 0}}), dumped({"s": {0, 8, b"b", b"a"}}))

    def test_other_types_are_refused(self) -> None:
        """Subclasses too: restored, they would be another type."""
        for value in (object(), collections.defaultdict(int), frozenset(), bytearray(), 1j, int):
            for state in ({"name": value}, {"name": [value]}, {"name": {b"k": (value,)}}):
                with self.assertRaises(TypeError) as caught:
                    plain.freeze(state)
                self.assertIn("attribute 'name' holds a", str(caught.exception))

    def test_shared_containers_are_refused(self) -> None:
        """A restored node would have two where the others have one."""
        shared = [1]
        self.assertRaises(TypeError, plain.freeze, {"a": shared, "b": shared})
        self.assertRaises(TypeError, plain.freeze, {"a": [shared, shared]})
        plain.freeze({"a": (shared,), "b": (1,)})

    def test_what_holds_itself_is_refused(self) -> None:
        """And what is nested beyond all measure."""
        endless: list[Any] = []
        endless.append(endless)
        self.assertRaises(TypeError, plain.freeze, {"a": endless})
        deep: tuple[Any, ...] = ()
        for _ in range(plain.MAX_DEPTH + 1):
            deep = (deep,)
        self.assertRaises(TypeError, plain.freeze, {"a": deep})

    def test_a_freeze_is_a_copy(self) -> None:
        """At every depth."""
        state = {"a": [{b"k": [1]}, {1}]}
        frozen = plain.freeze(state)
        state["a"][0][b"k"].append(2)  # type: ignore[index]
        state["a"][1].add(2)  # type: ignore[attr-defined]
        self.assertEqual(frozen, {"a": [{b"k": [1]}, {1}]})

    def test_large_states_are_done_in_slices(self) -> None:
        """Nothing blocks the reactor: not many values, not large ones."""
        many = {"m": {b"%d" % i: i for i in range(10_000)}}
        large = {"l": [bytes(100_000)] * 50}
        for state, least in ((many, 15), (large, 40)):
            file = io.BytesIO()
            steps = list(plain.dump(state, file))
            self.assertGreater(len(steps), least)
            again, slices = loaded(file.getvalue())
            self.assertEqual(again, state)
            self.assertGreater(slices, least)

    def test_damage_is_noticed(self) -> None:
        """A snapshot that ends early, goes on, or is something else, is not a state."""
        data = dumped({"a": [1, b"x"], "b": {1: 2}})
        for bad in (
            b"",
            b"{}",
            data + b"N",
            data.replace(b"l", b"?"),
            plain.MAGIC + b"N",
            *(data[:size] for size in range(len(data))),
        ):
            self.assertRaises(ValueError, loaded, bad)
