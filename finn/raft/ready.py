"""What the core wants done: the only output of ``Raft``, in the order in which it must be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finn.raft.entries import Entry
from finn.raft.messages import Message


@dataclass(slots=True, frozen=True)
class HardState:
    """Term and vote: one record, durable before any message that depends on it (figure 2)."""

    term: int = 0
    voted_for: int = 0  # node id, 0: nobody

    def __reduce__(self) -> tuple[Any, ...]:
        return HardState, (self.term, self.voted_for)  # as in ``Entry``


@dataclass(slots=True)
class Ready:
    """Duties of the driver, in this order; every field may be empty.

    Attributes:
        state: term and vote to save; then call ``Raft.state_persisted(state_ticket)``. The core
            itself holds back the messages that depend on it.
        reset_to: ``(index, term)``: throw the whole log away, it starts anew behind this index
            (a snapshot was installed and the log conflicts with it or ends before it).
        truncate_from: remove this index and all above before appending (a real term conflict).
        entries: to append; when they are durable call ``Raft.persisted(log_ticket)``.
        log_ticket: covers everything appended up to now; 0 when there is nothing to append.
        messages: ``(peer id, message)`` to send now; one message object may occur several times.
        fetches: ``(peer id, first index, byte bound)``: entries no longer in memory; read them from
            the store and call ``Raft.fetched(peer id, entries)``.
        snapshots: peer ids that need a snapshot; end each with ``Raft.snapshot_sent``.
        commit_index: apply up to here (pull the entries with ``Raft.log``).
        reads: ``(token, read index)``: may be served once ``read index`` is applied; a read index
            of -1 means that leadership was lost first and nothing was served.
        role_changed: role, term or known leader changed.
        configuration_changed: members changed: links have to follow.
        cured: the node is amnesic no longer: note it durably.
        reinstall: what this node applied is not what the cluster committed: stop applying and
            reading; a snapshot from the leader follows.
        events: lines for the log: ``(level, format, fields)`` for ``twisted.logger``.
    """

    state: HardState | None = None
    state_ticket: int = 0
    reset_to: tuple[int, int] | None = None
    truncate_from: int = 0
    entries: Sequence[Entry] = ()
    log_ticket: int = 0
    messages: Sequence[tuple[int, Message]] = ()
    fetches: Sequence[tuple[int, int, int]] = ()
    snapshots: Sequence[int] = ()
    commit_index: int = 0
    reads: Sequence[tuple[Any, int]] = ()
    role_changed: bool = False
    configuration_changed: bool = False
    cured: bool = False
    reinstall: bool = False
    events: Sequence[tuple[str, str, dict[str, Any]]] = ()
