"""What a leader knows of one peer's log, and how much it may send to it."""

from __future__ import annotations

import enum
from collections import deque


class ProgressState(enum.Enum):
    """How a leader sends to a peer.

    ``PROBE``: one message at a time, until the logs are known to agree. ``REPLICATE``: a window of
    messages in flight, sent before the answers to the ones before. ``SNAPSHOT``: heartbeats only,
    a snapshot is under way.
    """

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One peer, as its leader sees it (figure 2: ``nextIndex[]`` and ``matchIndex[]``).

    Invariant: ``match_index < next_index``.

    Attributes:
        match_index: known to be durable there and equal to the leader's log; never moves back,
            but to 0 when the peer says that it may have forgotten.
        next_index: first entry to send.
        acked_round: newest round that the peer answered.
        sent_round: newest round sent to it.
        owed_round: round that it has not answered for longest, as far as is known.
        sent_commit: commit index it was told last.
        last_heard: when its last message came.
        last_sent: when the last AppendEntries went to it.
        connected: False after its link was lost.
        probing: PROBE: entries are out and not answered.
        probe_round: PROBE: answers to rounds before this one say nothing about the probe.
        heartbeat_due: an empty AppendEntries is due if nothing else is sent.
        fetching: entries for it are being read from the store.
        is_behind: more entries could be sent to it than its window or memory held.
        retry_at: no snapshot before this time.
        amnesic_round: round of the answer in which it first said that it is amnesic; 0: it is not.
        leave_at: set when the peer is no longer a member and its removal is committed: it is
            dropped when it knows that, or then.
    """

    __slots__ = (
        "peer", "state", "match_index", "match_round", "next_index", "acked_round", "sent_round",
        "owed_round", "sent_commit", "last_heard", "last_sent", "connected", "probing",
        "heartbeat_due", "fetching", "is_behind", "probe_round", "retry_at", "amnesic_round",
        "leave_at", "inflight", "inflight_bytes",
    )  # fmt: skip

    def __init__(self, peer: int, next_index: int, now: float) -> None:
        self.peer = peer
        self.state = ProgressState.PROBE
        self.match_index = 0
        self.match_round = 0
        self.next_index = next_index
        self.acked_round = 0
        self.sent_round = 0
        self.owed_round = 0
        self.sent_commit = 0
        self.last_heard = now
        self.last_sent = now
        self.connected = True
        self.probing = False
        self.probe_round = 0
        self.heartbeat_due = True
        self.fetching = False
        self.is_behind = False
        self.retry_at = 0.0
        self.amnesic_round = 0
        self.leave_at: float | None = None
        self.inflight: deque[tuple[int, int]] = deque()
        self.inflight_bytes = 0

    def __repr__(self) -> str:
        return (
            f"<Progress {self.state.value} match={self.match_index} next={self.next_index} "
            f"inflight={len(self.inflight)}>"
        )

    @property
    def in_step(self) -> bool:
        """There is a link to it, and the logs agree."""
        return self.connected and self.state is ProgressState.REPLICATE

    def probe(self, next_index: int, round: int) -> None:
        """Send one message at a time from ``next_index`` on, in rounds not before ``round``."""
        self.state = ProgressState.PROBE
        self.next_index = max(next_index, self.match_index + 1)
        self.probing = False
        self.probe_round = round
        self._clear_window()

    def wait_for_snapshot(self) -> None:
        """Send heartbeats only."""
        self.state = ProgressState.SNAPSHOT
        self._clear_window()

    def _clear_window(self) -> None:
        self.inflight.clear()
        self.inflight_bytes = 0

    def forget(self) -> None:
        """Believe nothing of what the peer acknowledged."""
        self.match_index = 0
        self.match_round = 0

    def sent_entries(self, last_index: int, size: int) -> None:
        """Note entries sent: optimistically the next ones begin behind them."""
        self.next_index = last_index + 1
        self.inflight.append((last_index, size))
        self.inflight_bytes += size

    def matched(self, index: int, round: int) -> bool:
        """Note an acknowledgement; True when it is news."""
        if index <= self.match_index:
            # BUGS 5.2: answers that come late or twice must not move it back.
            return False
        self.match_index = index
        self.match_round = round
        if self.next_index <= index:
            self.next_index = index + 1
        inflight = self.inflight
        while inflight and inflight[0][0] <= index:
            self.inflight_bytes -= inflight.popleft()[1]
        return True
