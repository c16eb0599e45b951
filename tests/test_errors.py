"""Errors, and values that are replies, as programs carry them from one place to another."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn import OK, Simple, errors
from finn.resp.values import NULL_ARRAY


class Custom(errors.CommandError):
    """One of a machine, whose arguments are not its text."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"ERR {code}: {why}")
        self.code = code


class Named(Simple):
    """A value of a machine that is derived from ours."""


def copies(value: Any) -> list[Any]:
    """Return a value as it arrives, in every way in which it may go."""
    pickled = [pickle.dumps(value, n) for n in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    return [copy.copy(value), copy.deepcopy(value), *map(pickle.loads, pickled)]


class CopyTests(SynchronousTestCase):
    """``copy`` and ``pickle``."""

    def test_errors(self) -> None:
        """Of every kind: type, text and attributes are what they were."""
        special = [
            errors.UnknownCommand(b"FOO"),
            errors.WrongArity(b"GET"),
            errors.NotLeader(":7481"),
            errors.NotLeader(),
            errors.NotApplied(),
            errors.OutcomeUnknown(),
            errors.OutcomeUnknown("because"),
            errors.MissingExtra("a", "b", "c"),
            errors.BadRecord(3, "x"),
            errors.CorruptLog("p", 1, "r"),
            Custom(5, why="so"),
        ]
        kinds = {k for k in vars(errors).values() if isinstance(k, type)}
        kinds = {kind for kind in kinds if issubclass(kind, errors.FinnError)}
        plain = [kind("text") for kind in kinds - set(map(type, special))]
        self.assertGreater(len(plain), 10)
        for error in special + plain:
            error.note = "kept"
            for found in copies(error):
                self.assertIs(type(found), type(error))
                self.assertEqual((str(found), found.args), (str(error), error.args))
                self.assertEqual(vars(found), vars(error))

    def test_values(self) -> None:
        """Those of which there is one stay that one; others are equal, and of their type."""
        for one in (OK, NULL_ARRAY):
            for found in copies([one]):
                self.assertIs(found[0], one)
        for value in (Simple("OK"), Simple("QUEUED"), Named("x")):
            for found in copies(value):
                self.assertEqual((type(found), found.text), (type(value), value.text))
                self.assertEqual(found.encoded, value.encoded)
