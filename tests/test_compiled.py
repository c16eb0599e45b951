"""The modules that may be compiled."""

from __future__ import annotations

import ast
import copy
import enum
import os
import pickle
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from types import ModuleType

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

import finn
from finn.raft.configuration import Configuration, Member
from finn.raft.entries import COMMANDS, make_entry
from finn.raft.ready import HardState
from finn.resp.replies import encode_value
from finn.resp.values import NULL_ARRAY
from tests.source import ROOT


def listed() -> list[str]:
    """Return the patterns of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    patterns = text.partition("\nmodules = ")[2].partition("\n]\n")[0] + "]"
    found: list[str] = ast.literal_eval(patterns)
    return found


def modules() -> list[ModuleType]:
    """Import those that are listed."""
    root = Path(str(finn.__file__)).parent.parent
    paths = [path.relative_to(root) for pattern in listed() for path in root.glob(pattern)]
    return [import_module(".".join(path.with_suffix("").parts)) for path in paths]


def classes() -> dict[str, type]:
    """Return the classes of these modules by their full names."""
    return {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }


class CompiledTests(SynchronousTestCase):
    def test_they_are_what_they_should_be(self) -> None:
        """Compiled where that was asked for, and where it was not, their source."""
        suffixes = tuple(EXTENSION_SUFFIXES if "FINN_COMPILED" in os.environ else SOURCE_SUFFIXES)
        names = [m.__name__ for m in modules() if not str(m.__file__).endswith(suffixes)]
        self.assertEqual(names, [])
        self.assertGreaterEqual(len(modules()), len(listed()))

    def test_classes(self) -> None:
        """None has a metaclass: compiled ones share what it keeps of their base.

        So a list was an instance of a compiled class derived from ``Sequence``.
        """
        kinds = {name: type(value) for name, value in classes().items()}
        self.assertIn("finn.raft.core.Raft", kinds)
        odd = [n for n, kind in kinds.items() if kind is not type and kind is not enum.EnumMeta]
        self.assertEqual(odd, [])

    def test_bases(self) -> None:
        """None has a base elsewhere: a weak reference to its objects would outlive them.

        A ``WeakSet`` of connections ended the process.
        """
        known = {object, enum.Enum, *classes().values()}
        odd = [name for name, value in classes().items() if not known.issuperset(value.__mro__)]
        self.assertEqual(odd, [])

    def test_copies(self) -> None:
        """Machines keep replies in their state, and stores what they are handed, in any way."""
        member = Member(1, ":7481")
        values = [
            finn.OK,
            finn.Simple("QUEUED"),
            make_entry(1, 2, COMMANDS, 3, 4, 1, [b"ab"]),
            member,
            Configuration((member,), 7),
            HardState(3, 1),
        ]
        for value in values:
            again = [copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))]
            self.assertEqual([type(v) for v in again], [type(value)] * 3)
            self.assertEqual(again, [value] * 3)
        self.assertEqual(encode_value(copy.deepcopy(NULL_ARRAY)), b"*-1\r\n")

    def test_a_reply_derived(self) -> None:
        """Applications derive from what finn exports."""

        class Status(finn.Simple):
            pass

        self.assertEqual(encode_value(Status("GOOD")), b"+GOOD\r\n")

    def test_loggers(self) -> None:
        """They belong to their classes, which give the lines a namespace and a role."""
        names = [
            (value.log.namespace, name)  # type: ignore[attr-defined]
            for name, value in classes().items()
            if isinstance(vars(value).get("log"), Logger)  # elsewhere ``log`` is Raft's
        ]
        self.assertGreater(len(names), 5)
        for namespace, name in names:
            self.assertEqual(namespace, name)
