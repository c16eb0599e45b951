"""The built-in commands that describe commands and options: COMMAND, CONFIG, SLOWLOG."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from finn.errors import CommandError
from finn.node.builtin import MANY, BuiltinTable, Raw, Subcommands, subcommand
from finn.node.transactions import command_keys
from finn.resp.replies import encode_value, null_array_reply
from finn.resp.values import OK, Simple
from finn.table import Kind

if TYPE_CHECKING:
    from finn.node.service import Node

INTROSPECTION = BuiltinTable()
_command = INTROSPECTION.command


# -- COMMAND ----------------------------------------------------------------------------------


@_command("COMMAND", 0, -1, "[subcommand [name ...]]", group="server", queues=True)
def command(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Describe the commands of this node and its machine: COUNT, LIST, INFO, DOCS, GETKEYS."""
    if len(cmd) == 1:
        return _command_info(node.catalogue, connection, [])
    return subcommand(_COMMAND, cmd)(node.catalogue, connection, cmd[2:])


def _command_count(catalogue: Catalogue, connection: Any, names: list[bytes]) -> Any:
    return len(catalogue.rows())


def _command_list(catalogue: Catalogue, connection: Any, names: list[bytes]) -> Any:
    return [name.lower() for name in catalogue.rows()]


def _command_info(catalogue: Catalogue, connection: Any, names: list[bytes]) -> Any:
    known = catalogue.infos(connection.resp3)
    null = null_array_reply(connection.resp3)
    found = [known.get(name, null) for name in _chosen(names)] or known.values()
    return Raw(b"*%d\r\n%b" % (len(found), b"".join(found)))


def _command_docs(catalogue: Catalogue, connection: Any, names: list[bytes]) -> Any:
    known = catalogue.docs(connection.resp3)
    chosen = dict.fromkeys(_chosen(names)) if names else known
    found = [known[name] for name in chosen if name in known]
    head = b"%%%d\r\n" % len(found) if connection.resp3 else b"*%d\r\n" % (2 * len(found))
    return Raw(head + b"".join(found))


def _chosen(names: list[bytes]) -> list[str]:
    return [name.decode("ascii", "replace").upper() for name in names]


def _command_keys(catalogue: Catalogue, connection: Any, words: list[bytes]) -> Any:
    row = catalogue.rows().get(words[0].decode("ascii", "replace").upper())
    if row is None:
        raise CommandError("ERR Invalid command specified")
    if row.keys is None:
        raise CommandError("ERR The command has no key arguments")
    if not row.low <= len(words) <= row.high:
        raise CommandError("ERR Invalid number of arguments specified for command")
    return command_keys(words, row.keys)


_COMMAND: Subcommands = {
    b"COUNT": (0, 0, _command_count),
    b"DOCS": (0, MANY, _command_docs),
    b"GETKEYS": (1, MANY, _command_keys),
    b"INFO": (0, MANY, _command_info),
    b"LIST": (0, 0, _command_list),
}


class Row:
    """What COMMAND tells of one command."""

    __slots__ = ("name", "low", "high", "flags", "keys", "summary", "group", "usage")

    def __init__(
        self,
        name: str,
        low: int,
        high: int,
        flags: tuple[str, ...],
        keys: tuple[int, int, int] | None,
        summary: str,
        group: str,
        usage: str,
    ) -> None:
        self.name = name
        self.low = low
        self.high = high
        self.flags = flags
        self.keys = keys
        self.summary = summary
        self.group = group
        self.usage = usage

    def describe(self) -> list[Any]:
        """Return the array of COMMAND INFO, as Redis 7 has it."""
        first, last, step = self.keys or (0, 0, 0)
        arity = self.low if self.low == self.high else -self.low
        flags = {Simple(flag) for flag in self.flags}
        return [self.name.lower(), arity, flags, first, last, step, set(), set(), [], []]

    def docs(self) -> dict[str, Any]:
        """Return the map of COMMAND DOCS."""
        docs = {"summary": self.summary, "since": "1.0.0", "group": self.group}
        arguments = [_argument(part) for part in usage_parts(self.usage)]
        return docs | {"arguments": arguments} if arguments else docs


def usage_parts(usage: str) -> list[str]:
    """Split ``key value [EX seconds]`` into its parts, brackets kept."""
    parts: list[str] = []
    depth = 0
    for word in usage.split():
        joins = depth > 0 or word == "|" or (bool(parts) and parts[-1].endswith("|"))
        if joins and parts:
            parts[-1] += " " + word
        else:
            parts.append(word)
        depth += word.count("[") - word.count("]")
    return parts


def _argument(part: str) -> dict[str, Any]:
    """Return what COMMAND DOCS tells of an argument; redis-cli shows it as a hint."""
    optional = part.startswith("[")
    text = part[1:-1] if optional else part
    argument: dict[str, Any] = {"name": text, "type": "string", "display_text": text}
    return argument | {"flags": [Simple("optional")]} if optional else argument


class Catalogue:
    """What a node tells of its commands and its machine's.

    It is the same as long as the node runs, and takes milliseconds: so it is made once, when
    somebody asks.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rows: dict[str, Row] = {}
        self._help: list[str] = []
        self._infos: dict[bool, dict[str, bytes]] = {}
        self._docs: dict[bool, dict[str, bytes]] = {}

    def rows(self) -> dict[str, Row]:
        """Return the row of every command, sorted by name."""
        if not self._rows:
            rows = sorted(_rows(self._node), key=attrgetter("name"))
            self._rows = {row.name: row for row in rows}
        return self._rows

    def help(self) -> list[str]:
        """Return the lines of RAFTHELP."""
        if not self._help:
            for name, row in self.rows().items():
                self._help.append(f"{name} {row.usage}".strip() + f" - {row.summary}")
        return self._help

    def infos(self, resp3: bool) -> dict[str, bytes]:
        """Return the replies of COMMAND INFO, by name."""
        found = self._infos.setdefault(resp3, {})
        if not found:
            for name, row in self.rows().items():
                found[name] = encode_value(row.describe(), resp3)
        return found

    def docs(self, resp3: bool) -> dict[str, bytes]:
        """Return the members of the map that COMMAND DOCS answers, by name."""
        found = self._docs.setdefault(resp3, {})
        if not found:
            for name, row in self.rows().items():
                found[name] = encode_value(name.lower()) + encode_value(row.docs(), resp3)
        return found


def _rows(node: Node) -> Iterator[Row]:
    for spec in node.host.specs.values():
        high = 1 << 62 if spec.max_args < 0 else spec.max_args + 1
        word = {Kind.WRITE: "write", Kind.READ: "readonly"}.get(spec.kind, "fast")
        flags = spec.flags or (word,)
        yield Row(
            spec.name, spec.min_args + 1, high, flags, spec.keys, spec.summary, spec.group,
            spec.usage,
        )  # fmt: skip
    for builtin in node.dispatch.builtins():
        flags = ("admin",) if builtin.manages else ("fast",) if builtin.fast else ()
        yield Row(
            builtin.name, builtin.low, builtin.high, flags, None, builtin.summary,
            builtin.group, builtin.usage,
        )  # fmt: skip


# -- CONFIG, SLOWLOG ----------------------------------------------------------------------


@_command("CONFIG", 1, -1, "GET pattern [pattern ...] | RESETSTAT", group="server", queues=True)
def config(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Tell options by pattern; none can be set while the node runs."""
    return subcommand(_CONFIG, cmd)(node, cmd[2:])


def _config_get(node: Node, patterns: list[bytes]) -> Any:
    wanted = [pattern.decode("utf-8", "replace").lower() for pattern in patterns]
    return {
        name: value
        for name, value in _configuration(node).items()
        if any(fnmatchcase(name, pattern) for pattern in wanted)
    }


def _config_set(node: Node, words: list[bytes]) -> Any:
    raise CommandError("ERR CONFIG SET is not supported: options are set on the command line")


def _config_resetstat(node: Node, words: list[bytes]) -> Any:
    return OK


_CONFIG: Subcommands = {
    b"GET": (1, MANY, _config_get),
    b"RESETSTAT": (0, 0, _config_resetstat),
    b"SET": (2, MANY, _config_set),
}


def _configuration(node: Node) -> dict[str, str]:
    options = node.options
    durable = options.durability.name.lower()
    return {
        "appendfsync": {"low": "no", "medium": "everysec", "high": "always"}[durable],
        "appendonly": "no" if options.backend.value == "inmem" else "yes",
        "backend": options.backend.value,
        "consistency": options.consistency.name.lower(),
        "databases": "1",
        "dir": options.directory,
        "durability": durable,
        "election-timeout": str(round(options.election_timeout * 1000)),
        "heartbeat": str(round(options.heartbeat * 1000)),
        "maxclients": str(options.max_clients),
        "maxmemory": "0",
        "request-timeout": str(round(options.request_timeout * 1000)),
        "save": "",
        "snapshot-bytes": str(options.snapshot_bytes),
        "timeout": str(round(options.idle_timeout)),
    }


@_command("SLOWLOG", 1, 2, "GET [count] | LEN | RESET", group="server", queues=True)
def slowlog(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Answer as a server without slow commands does: finn keeps no such log."""
    return subcommand(_SLOWLOG, cmd)(cmd[2:])


def _slowlog_get(args: list[bytes]) -> Any:
    if args and not (args[0].isdigit() or args[0] == b"-1"):
        raise CommandError("ERR count should be greater than or equal to -1")
    return []


_SLOWLOG: Subcommands = {
    b"GET": (0, 1, _slowlog_get),
    b"LEN": (0, 0, lambda args: 0),
    b"RESET": (0, 0, lambda args: OK),
}
