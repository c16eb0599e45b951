"""The row of a command table: what a command is called, takes and is."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class Kind(enum.IntEnum):
    """What running a command means for the cluster."""

    WRITE = 1  # replicated, runs on every node at its place in the log
    READ = 2  # runs on one node, after the consistency level is met
    LOCAL = 3  # runs on the node that got it, at once
    OPAQUE = 4  # an ``IMachine.command``: only running it tells


@dataclass(slots=True)
class CommandSpec:
    """One command.

    Attributes:
        name: upper case.
        kind: see ``Kind``.
        min_args: fewest arguments, the name not counted.
        max_args: most arguments; -1 means no limit.
        summary: one line for help, docs and COMMAND DOCS.
        run: ``run(call, *args) -> value`` for a machine's command (args are bytes, conversions
            are ``run``'s business through ``convert``); built-in commands have their own shape.
        pipelined: ``pipelined(call, *columns) -> values`` runs several commands together that have
            ``min_args`` arguments, given the first of all, the second, and so on; or None.
        convert: turns argument bytes to values *before* proposing, or None when all are bytes;
            called on every node with the same bytes, so it must be pure. Raises CommandError.
        keys: ``(first, last, step)`` positions of keys as in Redis' COMMAND (the name is position
            0, -1 is the last argument), or None when the command has no keys.
        flags: Redis-like words, for instance ``("write", "fast")``.
        usage: the arguments as a person writes them: ``"key value [EX seconds]"``.
        group: heading in docs, for instance ``"string"``.
    """

    name: str
    kind: Kind
    min_args: int
    max_args: int
    summary: str = ""
    run: Callable[..., Any] | None = None
    convert: Callable[[list[bytes]], list[Any]] | None = None
    keys: tuple[int, int, int] | None = None
    flags: tuple[str, ...] = ()
    usage: str = ""
    group: str = ""
    pipelined: Callable[..., Sequence[Any]] | None = None

    def accepts(self, count: int) -> bool:
        """Say whether a command of ``count`` words, the name included, has the right arity."""
        return self.min_args < count and (self.max_args < 0 or count <= self.max_args + 1)
