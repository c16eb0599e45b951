"""The built-in commands that tell how the node does, in Redis' words: INFO, ROLE, TIME."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finn.compiled import is_compiled
from finn.node.builtin import MANY, BuiltinTable
from finn.node.clients import REDIS_VERSION
from finn.node.status import state_of, status_of
from finn.node.stopping import ending
from finn.version import VERSION

if TYPE_CHECKING:
    from finn.node.service import Node

INFO_COMMANDS = BuiltinTable()
_command = INFO_COMMANDS.command


@_command("INFO", 0, MANY, "[section ...]", group="server", queues=True)
def info(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Tell about this node: server, clients, memory, persistence, stats, replication, raft."""
    wanted = {word.decode("ascii", "replace").lower() for word in cmd[1:]}
    everything = not wanted or wanted & {"all", "default", "everything"}
    status = status_of(node)
    parts = []
    for name, build in _SECTIONS.items():
        if everything or name in wanted:
            rows = build(node, status)
            title = name.upper() if name == "cpu" else name.capitalize()
            lines = [f"{key}:{value}" for key, value in rows.items()]
            parts.append("\r\n".join([f"# {title}", *lines]) + "\r\n")
    return "\r\n".join(parts)


def _server(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    system = os.uname()
    return {
        "redis_version": REDIS_VERSION,
        "redis_mode": "standalone",
        "finn_version": VERSION,
        "finn_compiled": int(is_compiled()),
        "python_version": sys.version.split()[0],
        "os": f"{system.sysname} {system.release} {system.machine}",
        "arch_bits": 64 if sys.maxsize > 1 << 32 else 32,
        "process_id": os.getpid(),
        "run_id": format(node.instance, "040x"),
        "tcp_port": _port_of(node),
        "uptime_in_seconds": int(status["uptime_seconds"]),
        "uptime_in_days": int(status["uptime_seconds"] // 86400),
    }


def _port_of(node: Node) -> int:
    """Return the TCP port; 0 without one. A node that stops, or failed, has closed it."""
    try:
        found = node.port.getHost().port
    except AttributeError:  # not bound, not TCP, or closed: then it knows what it was asked for
        found = getattr(node.port, "port", 0)
    return found if isinstance(found, int) else 0


def _clients(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    return {
        "connected_clients": status["clients"],
        "maxclients": node.options.max_clients,
        "blocked_clients": 0,
    }


def _memory(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    used = status["memory_bytes"]
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_rss": used,
        "used_memory_rss_human": _human(used),
        "maxmemory": 0,
        "maxmemory_human": _human(0),
        "maxmemory_policy": "noeviction",
    }


def _persistence(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    return {
        "loading": int(node.raft is None and ending(node) is None),
        "rdb_bgsave_in_progress": int(node.snapshots.in_progress),
        "aof_enabled": 0 if status["backend"] == "inmem" else 1,
        "aof_rewrite_in_progress": 0,
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
        "commands_applied": status["commands_applied"],
    }


def _replication(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    offset = status["applied_index"]
    rows: dict[str, Any] = {"role": "master" if status["state"] == "Leader" else "slave"}
    if rows["role"] == "master":
        followers = _followers(node)
        rows["connected_slaves"] = sum(online for _, _, online in followers)
        for number, (host, port, online) in enumerate(followers):
            word = "online" if online else "offline"
            rows[f"slave{number}"] = f"ip={host},port={port},state={word}"
    else:
        host, port = _host_and_port(str(status["leader"]))
        rows["master_host"] = host
        rows["master_port"] = port
        rows["master_link_status"] = "up" if port else "down"
        rows["slave_read_only"] = 1
        rows["slave_repl_offset"] = offset
        rows["connected_slaves"] = 0
    rows["master_replid"] = status["cluster_id"].rjust(40, "0")
    rows["master_repl_offset"] = offset
    return rows


def _followers(node: Node) -> list[tuple[str, int, bool]]:
    """Return host and port of the other members, and whether they follow."""
    return [
        (*_host_and_port(address), state == "Follower")
        for address, state in node.links.peer_states()
        if address != node.options.address
    ]


def _host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of a member's address; an empty host and 0 for none."""
    host, _, port = address.rpartition(":")
    return (host or "127.0.0.1", int(port)) if port.isdigit() else ("", 0)


def _cpu(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    times = os.times()
    return {"used_cpu_sys": f"{times.system:.6f}", "used_cpu_user": f"{times.user:.6f}"}


def _cluster(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    # What Redis calls a cluster divides the keys: clients would look for the parts.
    return {"cluster_enabled": 0}


def _raft(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    names = (
        "state", "term", "leader", "node_id", "cluster_id", "address", "voter", "amnesic",
        "commit_index", "applied_index", "last_log_index", "last_log_term", "first_log_index",
        "last_contact", "num_peers", "consistency",
    )  # fmt: skip
    return {name: status[name] for name in names}


def _keyspace(node: Node, status: dict[str, Any]) -> dict[str, Any]:
    """Ask the machine, if it has a ``keyspace() -> dict``."""
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
    "cpu": _cpu,
    "cluster": _cluster,
    "raft": _raft,
    "keyspace": _keyspace,
}


def _human(size: int) -> str:
    """Return a size as Redis' INFO shows it: ``51.34M``."""
    if size < 1024:
        return f"{size}B"
    value = float(size)
    for unit in "KMG":
        value /= 1024
        if value < 1024 or unit == "G":
            return f"{value:.2f}{unit}"
    raise AssertionError


@_command("ROLE", 0, 0, group="server", queues=True)
def role(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Tell the role as Redis does: master with its replicas, or slave of whom."""
    offset = node.applying.last_applied
    if state_of(node) == "Leader":
        online = [(host, port) for host, port, online in _followers(node) if online]
        return ["master", offset, [[host, str(port), str(offset)] for host, port in online]]
    leader = node.raft.leader_address if node.raft is not None else None
    host, port = _host_and_port(leader or "")
    return ["slave", host, port, "connected" if port else "connect", offset]


@_command("TIME", 0, 0, group="server", queues=True, yields=True, fast=True)
def time(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Tell this node's clock: seconds since 1970, and microseconds."""
    seconds, millis = divmod(node.wall_ms(), 1000)
    return [str(seconds), str(millis * 1000)]
