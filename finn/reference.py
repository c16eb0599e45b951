"""A reference of commands, written from the command tables: ``python -m finn.reference [MACHINE]``.

MACHINE is ``package.module:Factory``, as for ``twistd -n finn --machine``. docs/commands.md is what
this prints for the key-value machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from finn.declarative import Machine
from finn.launch import load_machine
from finn.node.builtin import Builtin
from finn.node.commands import BUILTINS
from finn.table import CommandSpec, Kind

DEFAULT = "finn.machines.kv:KV"

_INTRODUCTION = """# Commands

Written by `python -m finn.reference{argument}`: change the command tables, not this file.

*Kind* says what a command means for the cluster. A **write** goes through the log and runs on every
node. A **read** runs on one node, as the consistency level allows (`low`: any node, `medium` and
`high`: the leader). **Local** commands run on the node that got them, at once. **Managing** ones
change the cluster or the node, and are refused to the clients' secret. A node that does not lead
answers writes, reads and changes of the cluster with `TRY host:port`.
"""

_KINDS = {Kind.WRITE: "write", Kind.READ: "read", Kind.LOCAL: "local"}
_TITLES = {
    "cluster": "Cluster", "connection": "Connection", "server": "Server",
    "transactions": "Transactions", "generic": "Keys", "string": "Strings", "hash": "Hashes",
    "list": "Lists", "set": "Sets", "": "Others",
}  # fmt: skip


def reference(machine: Any, argument: str = "") -> str:
    """Return the reference of a node with a machine, in Markdown.

    Args:
        machine: a ``finn.Machine``; one in the original's style has no table to write from.
        argument: named in the introduction.
    """
    groups: dict[str, list[str]] = {}
    for group, name, row in sorted(_rows(machine)):
        groups.setdefault(group, []).append(f"| `{name}` | {row} |")
    parts = [_INTRODUCTION.format(argument=argument)]
    order = list(_TITLES)
    for group in sorted(groups, key=lambda g: order.index(g) if g in order else len(order)):
        title = _TITLES.get(group, group.capitalize())
        head = ["| command | arguments | kind | what it does |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {title}\n", *head, *groups[group], ""]))
    return "\n".join(parts)


def _rows(machine: Any) -> Iterator[tuple[str, str, str]]:
    """Yield group, name and the other cells of every command."""
    specs: list[CommandSpec] = []
    if isinstance(machine, Machine):
        specs = [spec for _, spec in type(machine).__finn_commands__.values()]
    hidden = {spec.name for spec in specs}
    for builtin in BUILTINS.values():
        if not (builtin.yields and builtin.name in hidden):
            kind = "managing" if builtin.manages else "local"
            yield builtin.group, builtin.name, _cells(builtin, kind)
    for spec in specs:
        if spec.name.encode() not in BUILTINS or BUILTINS[spec.name.encode()].yields:
            yield spec.group, spec.name, _cells(spec, _KINDS[spec.kind])


def _cells(row: Builtin | CommandSpec, kind: str) -> str:
    usage = row.usage.replace("|", "\\|")
    return f"{f'`{usage}`' if usage else ''} | {kind} | {row.summary}"


def main(argv: Sequence[str]) -> None:
    """Print the reference; ends with SystemExit when the machine cannot be had."""
    if len(argv) > 1 or (argv and argv[0].startswith("-")):
        raise SystemExit("usage: python -m finn.reference [package.module:Factory]")
    try:
        machine = load_machine(argv[0] if argv else DEFAULT)
    except ValueError as e:
        raise SystemExit(str(e)) from None
    print(reference(machine, f" {argv[0]}" if argv else ""), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
