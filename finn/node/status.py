"""The figures of a node, by name: RAFTSTATS, INFO and /metrics take them from here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from finn.errors import NotReady
from finn.node.stopping import ending

if TYPE_CHECKING:
    from finn.node.service import Node


def state_of(node: Node) -> str:
    """Return RAFTSTATE's word: Leader, Follower, Candidate or Shutdown."""
    raft = node.raft
    if raft is None:
        return "Follower" if ending(node) is None else "Shutdown"
    return "Shutdown" if raft.removed else str(raft.role.value)


def last_contact(node: Node) -> str:
    """Return the time since the leader was last heard, in the original's way."""
    raft = node.raft
    if raft is None or raft.last_contact is None:
        return "never"
    if state_of(node) == "Leader":
        return "0"
    return go_duration(max(0.0, node.now() - raft.last_contact))


def go_duration(seconds: float) -> str:
    """Render seconds as Go's ``time.Duration`` does: ``41.276964ms``, ``1.44499573s``."""
    nanos = round(seconds * 1e9)
    if nanos == 0:
        return "0s"
    if nanos < 1000:
        return f"{nanos}ns"
    for unit, size in (("µs", 1_000_000), ("ms", 1_000_000_000)):
        if nanos < size:
            return _trim(nanos / (size / 1000)) + unit
    minutes, rest = divmod(nanos, 60 * 10**9)
    text = _trim(rest / 1e9) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return text


def _trim(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")


def original_stats(node: Node) -> dict[str, str]:
    """Return the original's eleven RAFTSTATS keys, sorted."""
    raft = node.raft
    stats: dict[str, Any] = dict.fromkeys(
        (
            "applied_index", "commit_index", "fsm_pending", "last_contact", "last_log_index",
            "last_log_term", "last_snapshot_index", "last_snapshot_term", "num_peers",
            "state", "term",
        ),
        0,
    )  # fmt: skip
    stats["state"] = state_of(node)
    stats["last_contact"] = last_contact(node)
    if raft is not None:
        snapshot = node.snapshots.newest
        stats.update(
            applied_index=node.applying.last_applied,
            commit_index=raft.commit_index,
            fsm_pending=max(0, raft.commit_index - node.applying.last_applied),
            last_log_index=raft.log.last_index,
            last_log_term=raft.log.last_term,
            last_snapshot_index=snapshot.index if snapshot is not None else 0,
            last_snapshot_term=snapshot.term if snapshot is not None else 0,
            num_peers=sum(m.id != raft.node_id for m in raft.configuration.members),
            term=raft.current_term,
        )
    return {key: str(value) for key, value in stats.items()}


def status_of(node: Node) -> dict[str, Any]:
    """Return all figures: the original's first, then ours.

    Raises:
        NotReady: the node was not started.
    """
    if not hasattr(node, "identity"):
        raise NotReady("ERR node was not started")
    status: dict[str, Any] = dict(original_stats(node))
    for key, value in status.items():
        if value.isdigit():
            status[key] = int(value)
    raft = node.raft
    options = node.options
    status.update(
        address=options.address,
        amnesic=int(raft.amnesic) if raft is not None else 0,
        backend=options.backend.value,
        clients=len(node.server.connections),
        clients_refused=node.server.refused,
        commands_applied=node.applying.commands_applied,
        commands_total=node.dispatch.commands_total,
        consistency=options.consistency.name.lower(),
        connections_total=node.server.accepted,
        failed=int(node.failure is not None),
        durability=options.durability.name.lower(),
        leader=(raft.leader_address if raft is not None else None) or "",
        log_bytes=node.store.log_bytes if raft is not None else 0,
        first_log_index=node.store.first_index if raft is not None else 0,
        memory_bytes=memory_bytes(),
        node_id=format(node.identity.node_id, "016x"),
        cluster_id=format(node.identity.cluster_id, "016x"),
        pending_bytes=node.proposals.pending_bytes,
        pending_reads=node.reading.count,
        ready=int(node.is_ready),
        removed=int(raft.removed) if raft is not None else 0,
        snapshots_taken=node.snapshots.taken,
        snapshots_installed=node.snapshots.installed,
        uptime_seconds=round(node.reactor.seconds() - node.started_at, 3),
        voter=int(raft is not None and raft.node_id in raft.configuration.voters),
    )
    return status


def memory_bytes() -> int:
    """Return the resident memory of this process, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
