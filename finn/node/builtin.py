"""The table of built-in commands: what a row holds, and the decorator that adds one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from finn.errors import BadMachine, CommandError, printable
from finn.protocols.connection import MEMBER

BUILTIN = 5  # beside the kinds of ``finn.table.Kind``


class Raw:
    """A built-in command's reply that is RESP bytes already."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


NO_REPLY = Raw(b"")
"""The reply was given already."""


class Builtin:
    """One built-in command.

    Attributes:
        name: upper case.
        low: fewest words, the name included.
        high: most words.
        run: ``run(node, connection, words) -> value | Raw | Deferred``; raises FinnError.
        summary: one line for RAFTHELP, COMMAND DOCS and docs/commands.md.
        usage: the arguments as a person writes them.
        group: heading in docs.
        before_auth: allowed before AUTH.
        immediate: runs at once between MULTI and EXEC.
        queues: may be queued between MULTI and EXEC: it answers at once, and runs when EXEC comes.
        fast: takes a few microseconds, whatever the node holds; of others a transaction may have
            few, and one of them may end a portion of a pipeline.
        changes: subcommands that may not, as they change something, and EXEC may still turn out
            to be null.
        manages: changes the cluster or the node; refused to the ``client`` role.
        yields: a machine's command of the same name goes first.
    """

    __slots__ = (
        "name", "low", "high", "run", "summary", "usage", "group",
        "before_auth", "immediate", "queues", "fast", "changes", "manages", "yields",
    )  # fmt: skip
    kind = BUILTIN
    convert = None

    def __init__(
        self,
        name: str,
        low: int,
        high: int,
        run: Callable[[Any, Any, list[bytes]], Any],
        usage: str = "",
        group: str = "connection",
        *,
        before_auth: bool = False,
        immediate: bool = False,
        queues: bool = False,
        fast: bool = False,
        changes: tuple[bytes, ...] = (),
        manages: bool = False,
        yields: bool = False,
    ) -> None:
        self.name = name
        self.low = low
        self.high = high
        self.run = run
        self.summary = (run.__doc__ or "").strip().partition("\n")[0]
        self.usage = usage
        self.group = group
        self.before_auth = before_auth
        self.immediate = immediate
        self.queues = queues
        self.fast = fast
        self.changes = changes
        self.manages = manages
        self.yields = yields

    def may_queue(self, command: list[bytes]) -> bool:
        """Say whether a command of this row may be part of a transaction."""
        return self.queues and not (len(command) > 1 and command[1].upper() in self.changes)


class BuiltinTable(dict[bytes, Builtin]):
    """Built-in commands by upper-case name."""

    def command(
        self, name: str, min_args: int, max_args: int, usage: str = "", **flags: Any
    ) -> Callable[[Callable[[Any, Any, list[bytes]], Any]], Callable[..., Any]]:
        """Return a decorator that adds a command; ``max_args`` of -1 means no limit."""

        def add(run: Callable[[Any, Any, list[bytes]], Any]) -> Callable[..., Any]:
            high = 1 << 62 if max_args < 0 else max_args + 1
            self[name.encode()] = Builtin(name, min_args + 1, high, run, usage, **flags)
            return run

        return add


def check_names(builtins: dict[bytes, Builtin], names: Iterable[bytes]) -> None:
    """Refuse a machine with commands, upper case, that no client would ever reach.

    Raises:
        BadMachine: the node answers some of them itself.
    """
    taken = [
        name.decode()
        for name in names
        if name == MEMBER or (name in builtins and not builtins[name].yields)
    ]
    if taken:
        raise BadMachine(
            f"the node itself answers {', '.join(taken)}: give that command of the machine "
            "another name"
        )


MANY = 1024
"""Arguments of a built-in command that takes any number: they are looked at in one piece."""
Subcommands = dict[bytes, tuple[int, int, Callable[..., Any]]]
"""By upper-case name: fewest and most arguments, and what runs it."""


def subcommand(table: Subcommands, cmd: list[bytes]) -> Callable[..., Any]:
    """Return what runs the subcommand that is a command's second word.

    Raises:
        CommandError: it is unknown, or has the wrong number of arguments.
    """
    name = printable(cmd[0])
    found = table.get(cmd[1].upper())
    if found is None:
        raise CommandError(
            f"ERR unknown subcommand '{printable(cmd[1])}'. Try {name.upper()} HELP."
        )
    low, high, run = found
    if not low <= len(cmd) - 2 <= high:
        full = f"{name}|{printable(cmd[1])}".lower()
        raise CommandError(f"ERR wrong number of arguments for '{full}' command")
    return run
