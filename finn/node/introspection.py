"""The built-in commands that describe the node in Redis' words: INFO, COMMAND, CONFIG, SLOWLOG."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from finn.errors import CommandError
from finn.node.builtin import BuiltinTable
from finn.node.clients import REDIS_VERSION
from finn.node.status import status_of
from finn.resp.replies import OK, Simple
from finn.table import Kind
from finn.version import VERSION

if TYPE_CHECKING:
    from finn.node.service import Node

INTROSPECTION = BuiltinTable()
_command = INTROSPECTION.command


# -- INFO -------------------------------------------------------------------------------------


@_command("INFO", 0, -1, "[section ...]", group="server")
def info(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Tell about this node: server, clients, memory, persistence, stats, replication, raft."""
    wanted = {word.decode("ascii", "replace").lower() for word in cmd[1:]}
    everything = not wanted or wanted & {"all", "default", "everything"}
    status = status_of(node)
    parts = []
    for name, build in _SECTIONS.items():
        if everything or name in wanted:
            rows = build(node, status)
            lines = [f"{key}:{value}" for key, value in rows.items()]
            parts.append("\r\n".join([f"# {name.capitalize()}", *lines]) + "\r\n")
    return "\r\n".join(parts)


def _server(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    port = node.port.getHost() if node.port is not None else None
    return {
        "redis_version": REDIS_VERSION,
        "redis_mode": "standalone",
        "finn_version": VERSION,
        "python_version": sys.version.split()[0],
        "os": f"{os.uname().sysname} {os.uname().release}",
        "process_id": os.getpid(),
        "run_id": format(node.instance, "040x"),
        "tcp_port": getattr(port, "port", 0),
        "uptime_in_seconds": int(status["uptime_seconds"]),
        "uptime_in_days": int(status["uptime_seconds"] // 86400),
    }


def _clients(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    return {"connected_clients": status["clients"], "maxclients": node.options.max_clients}


def _memory(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    used = status["memory_bytes"]
    return {"used_memory": used, "used_memory_rss": used, "used_memory_human": _human(used)}


def _persistence(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    return {
        "loading": 0 if node.raft is not None else 1,
        "rdb_bgsave_in_progress": int(node.snapshots.in_progress),
        "aof_enabled": 0 if status["backend"] == "inmem" else 1,
        "backend": status["backend"],
        "durability": status["durability"],
        "log_bytes": status["log_bytes"],
        "last_snapshot_index": status["last_snapshot_index"],
        "snapshots_taken": status["snapshots_taken"],
        "snapshots_installed": status["snapshots_installed"],
    }


def _stats(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    return {
        "total_connections_received": status["connections_total"],
        "total_commands_processed": status["commands_total"],
        "rejected_connections": status["clients_refused"],
    }


def _replication(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    leads = status["state"] == "Leader"
    rows: dict[str, Any] = {"role": "master" if leads else "slave"}
    if leads:
        peers = [pair for pair in node.links.peer_states() if pair[0] != node.options.address]
        rows["connected_slaves"] = sum(state == "Follower" for _, state in peers)
        for number, (address, state) in enumerate(peers):
            host, _, port = address.rpartition(":")
            word = "online" if state == "Follower" else "offline"
            rows[f"slave{number}"] = f"ip={host or '127.0.0.1'},port={port},state={word}"
    else:
        host, _, port = str(status["leader"]).rpartition(":")
        rows["master_host"] = host or ("127.0.0.1" if port else "")
        rows["master_port"] = port
        rows["master_link_status"] = "up" if port else "down"
    return rows


def _raft(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    names = (
        "state", "term", "leader", "node_id", "cluster_id", "address", "voter", "amnesic",
        "commit_index", "applied_index", "last_log_index", "last_log_term", "first_log_index",
        "last_contact", "num_peers", "consistency",
    )  # fmt: skip
    return {name: status[name] for name in names}


def _keyspace(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    describe = getattr(node.host.machine, "keyspace", None)
    if describe is None:
        return {}
    rows = ",".join(f"{key}={value}" for key, value in describe().items())
    return {"db0": rows} if rows else {}


_SECTIONS: dict[str, Callable[[Node, dict[str, Any]], dict[str, Any]]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "raft": _raft,
    "keyspace": _keyspace,
}


def _human(size: int) -> str:
    value = float(size)
    for unit in "BKMG":
        if value < 1024 or unit == "G":
            return f"{value:.2f}{unit}"
        value /= 1024
    raise AssertionError


# -- COMMAND ----------------------------------------------------------------------------------


@_command("COMMAND", 0, -1, "[COUNT | LIST | INFO name ... | DOCS name ...]", group="server")
def command(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Describe the commands of this node and its machine."""
    word = cmd[1].upper() if len(cmd) > 1 else b""
    rows = dict(command_rows(node))
    names = [w.decode("ascii", "replace").upper() for w in cmd[2:]]
    if not word:
        return [row.describe() for row in rows.values()]
    if word == b"COUNT" and not names:
        return len(rows)
    if word == b"LIST" and not names:
        return [row.name.lower() for row in rows.values()]
    if word == b"INFO":
        chosen = names or list(rows)
        return [rows[n].describe() if n in rows else None for n in chosen]
    if word == b"DOCS":
        chosen = names or list(rows)
        return {n.lower(): rows[n].docs() for n in chosen if n in rows}
    if word == b"GETKEYS" and len(cmd) > 2:
        return _keys_of(rows, cmd[2:])
    raise CommandError(f"ERR unknown subcommand '{cmd[1].decode('ascii', 'replace')}'.")


def _keys_of(rows: dict[str, Row], words: list[bytes]) -> list[bytes]:
    from finn.node.transactions import command_keys

    row = rows.get(words[0].decode("ascii", "replace").upper())
    if row is None:
        raise CommandError("ERR Invalid command specified")
    if row.keys is None:
        raise CommandError("ERR The command has no key arguments")
    return command_keys(words, row.keys)


class Row:
    """What COMMAND tells of one command."""

    __slots__ = ("name", "arity", "flags", "keys", "summary", "group", "usage")

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
        self.arity = low if low == high else -low
        self.flags = flags
        self.keys = keys
        self.summary = summary
        self.group = group
        self.usage = usage

    def describe(self) -> list[Any]:
        """Return the array of COMMAND INFO, as Redis 7 has it."""
        first, last, step = self.keys or (0, 0, 0)
        flags = [Simple(flag) for flag in self.flags]
        return [self.name.lower(), self.arity, flags, first, last, step, [], [], [], []]

    def docs(self) -> dict[str, Any]:
        """Return the map of COMMAND DOCS."""
        return {"summary": self.summary, "since": "1.0.0", "group": self.group}


def command_rows(node: Node) -> Iterator[tuple[str, Row]]:
    """Yield the row of every command, by name."""
    found: dict[str, Row] = {}
    for spec in node.host.specs.values():
        high = 1 << 62 if spec.max_args < 0 else spec.max_args + 1
        word = {Kind.WRITE: "write", Kind.READ: "readonly"}.get(spec.kind, "fast")
        flags = spec.flags or (word,)
        found[spec.name] = Row(
            spec.name, spec.min_args + 1, high, flags, spec.keys, spec.summary, spec.group,
            spec.usage,
        )  # fmt: skip
    for builtin in node.dispatch.builtins():
        flags = ("admin",) if builtin.manages else ("fast",)
        found[builtin.name] = Row(
            builtin.name, builtin.low, builtin.high, flags, None, builtin.summary,
            builtin.group, builtin.usage,
        )  # fmt: skip
    yield from sorted(found.items())


# -- CONFIG, SLOWLOG, DBSIZE ------------------------------------------------------------------


@_command("CONFIG", 1, -1, "GET pattern ...", group="server")
def config(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Tell options by pattern; none can be set while the node runs."""
    word = cmd[1].upper()
    if word == b"RESETSTAT" and len(cmd) == 2:
        return OK
    if word != b"GET" or len(cmd) < 3:
        raise CommandError("ERR only CONFIG GET is supported: options are set on the command line")
    patterns = [w.decode("utf-8", "replace").lower() for w in cmd[2:]]
    return {
        name: value
        for name, value in _configuration(node).items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
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


@_command("SLOWLOG", 1, 2, "GET [count] | LEN | RESET", group="server")
def slowlog(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Answer as a server without slow commands does: finn keeps no such log."""
    word = cmd[1].upper()
    if word == b"GET":
        return []
    if word == b"LEN" and len(cmd) == 2:
        return 0
    if word == b"RESET" and len(cmd) == 2:
        return OK
    raise CommandError(f"ERR unknown subcommand '{cmd[1].decode('ascii', 'replace')}'.")
