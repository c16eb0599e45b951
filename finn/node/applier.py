"""What an ``IMachine`` is handed to apply with: it notes what a command asks for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from finn.declarative import command_random
from finn.node.runs import OpaqueCall


class OpaqueApplier:
    """The ``IApplier`` of an ``IMachine``: notes what the command asks for."""

    def __init__(self, log: Logger) -> None:
        self.log = log
        self.now = 0
        self._seed = 0
        self._position = 0
        self._random: random.Random | None = None
        self._call: OpaqueCall | None = None

    @property
    def random(self) -> random.Random:
        """Replicated random source of the command being run."""
        if self._random is None:
            self._random = command_random(self._seed, self._position)
        return self._random

    def begin(self, call: OpaqueCall, now: int, seed: int, position: int) -> None:
        """Start a command: ``apply`` will fill ``call``."""
        self._call = call
        self.now = now
        self._seed = seed
        self._position = position
        self._random = None

    def apply(
        self,
        conn: Any,
        cmd: list[bytes],
        mutate: Callable[[], Any] | None,
        respond: Callable[[Any], None] | None,
    ) -> Deferred[Any]:
        call = self._call
        if call is None or call.asked:
            raise RuntimeError("apply is called once per command, before command() returns")
        call.asked = True
        call.mutate = mutate
        call.respond = respond
        call.result = Deferred()
        return call.result

    def end(self) -> None:
        """The command returned: ``apply`` is no longer allowed."""
        self._call = None
