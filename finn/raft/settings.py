"""The settings of the core; times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(slots=True)
class RaftOptions:
    """What may be tuned.

    Attributes:
        address: what log lines call this node while no configuration tells its address.
        heartbeat: a peer that got nothing for so long gets an empty AppendEntries.
        election_timeout: ``t``; a follower waits between ``t`` and ``2t`` for its leader. Votes are
            refused, the lease holds and CheckQuorum looks back for ``t``.
        lease_margin: part of ``t`` by which the lease is shorter, for clocks that drift.
        commit_delay: a commit that no entries tell of is told after so long, or twice that.
        suspect_delay: a follower that thinks its leader crashed waits so long, from and to.
        spare_delay: voters that no majority needs get what is new so much later; 0: with the rest.
        hedge_delay: they get it when no majority has answered for so long.
        max_message_bytes: entries of one AppendEntries (or one entry, if larger).
        window_messages: AppendEntries with entries in flight to a peer.
        window_bytes: the same in bytes.
        max_uncommitted_bytes: ``propose`` refuses beyond it.
        memory_bytes: newest part of the log that stays in memory when it is durable.
        amnesia_timeouts: a majority that may have forgotten elects after so many ``t``.
    """

    address: str = ""
    heartbeat: float = 0.1
    election_timeout: float = 1.0
    lease_margin: float = 0.1
    commit_delay: float = 0.005
    suspect_delay: tuple[float, float] = (0.010, 0.050)
    spare_delay: float = 0.010
    hedge_delay: float = 0.004
    max_message_bytes: int = MIB
    window_messages: int = 256
    window_bytes: int = 8 * MIB
    max_uncommitted_bytes: int = 64 * MIB
    memory_bytes: int = 16 * MIB
    amnesia_timeouts: int = 10
