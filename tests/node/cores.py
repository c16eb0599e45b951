"""Cores without a node around them: their disk is done at once, what they commit is not applied."""

from __future__ import annotations

from random import Random
from typing import Any

from finn.raft import HardState, Raft, RaftLog, RaftOptions, Role
from finn.raft.entries import Entry
from finn.raft.messages import AppendEntries
from tests.raft.host import members

EVERYTHING = 1 << 40  # bytes


def settle(raft: Raft) -> list[tuple[Any, int]]:
    """Let the disk have what the core wants written; returns what it says of reads."""
    reads: list[tuple[Any, int]] = []
    while (ready := raft.ready()) is not None:
        if ready.state is not None:
            raft.state_persisted(ready.state_ticket)
        if ready.log_ticket:
            raft.persisted(ready.log_ticket)
        reads += ready.reads
    return reads


def make_leader(**options: Any) -> Raft:
    """Return the only voter of its cluster: an entry of its own, at 1, is committed."""
    raft = Raft(1, RaftOptions(**options), Random(0), RaftLog(), HardState(), members(1), 0.0)
    raft.tick(raft.next_deadline())
    settle(raft)
    assert (raft.role, raft.commit_index) == (Role.LEADER, 1)
    return raft


def make_follower(stored: int = 0, **options: Any) -> Raft:
    """Return a node that 2 leads in term 1; so many entries of that term are on its disk."""
    log = RaftLog(last_index=stored, terms=[(1, 1)] if stored else [])
    settings = RaftOptions(**options)
    return Raft(1, settings, Random(0), log, HardState(1), members(1, 2, 3), 0.0)


def follow(raft: Raft, previous: tuple[int, int], commit: int, *entries: Entry) -> None:
    """Let a follower have entries behind ``(index, term)`` of 2, which leads in their term."""
    term = entries[-1].term if entries else raft.current_term
    raft.receive(2, AppendEntries(term, *previous, commit, 1, list(entries)), raft.now)
    settle(raft)


def appended(raft: Raft, first: int = 2) -> list[Entry]:
    """Return the entries that a leader has in memory."""
    entries = raft.log.entries(first, raft.log.last_index, EVERYTHING)
    assert entries is not None
    return entries
