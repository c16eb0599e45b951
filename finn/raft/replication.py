"""Which AppendEntries go to which peer, and what their answers say of its log (section 5.3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from finn.raft.entries import Entry
from finn.raft.messages import AppendEntries, AppendReply
from finn.raft.progress import Progress, ProgressState
from finn.raft.reads import Rounds

if TYPE_CHECKING:
    from finn.raft.server import Server


# All voters are asked at once each so many sends: a prime number, as what is sent may alternate.
RACE = 61


def _rank(pr: Progress) -> int:
    """Sort peers: those that answered for most of the log first, unusable ones last."""
    return -pr.match_index if pr.in_step else 1


class Replication:
    """The sending side of a leader.

    Peers at the same position share one message object, so that it is encoded once.

    Voters that no majority needs are spares: they get entries and rounds ``spare_delay`` later, for
    all of that time at once, which saves their work and the leader's ("thrifty", Moraru et al.,
    SOSP 2013, section 6.2), and sooner when the others do not answer. Whoever holds most is no
    spare, so one that stalls is one soon; and now and then all are asked at once, which shows who
    is the fastest. It is a matter of when messages are sent, on which safety never rests.

    Attributes:
        due: something may have to be sent.
        own_term_committed: the commit index covers all that any earlier leader committed.
        asked_round: reads that were asked for last need answers to this round or a later one.
    """

    def __init__(self, raft: Server, rounds: Rounds) -> None:
        self._raft = raft
        self._rounds = rounds
        self.due = True
        self.own_term_committed = False
        self._news_at: float | None = None
        self._news = 0  # the commit index to tell
        self._voters: list[Progress] = []
        self._needed = 0
        self._put_off_at: float | None = None  # since when spares lack something
        self._asked_at: float | None = None  # since when a majority has not answered
        self._heartbeat_at = math.inf  # or earlier: never after the next heartbeat is due
        self.asked_round = 0
        self._sends = 0
        self._race_round = 0  # of a race that is not decided

    def voters_are(self, voters: list[Progress], needed: int) -> None:
        """Take the voters but this node, and how many of them make a majority."""
        self._voters = voters.copy()  # in an order of its own
        self._needed = needed
        # Those that are new were sent nothing yet.
        first = self._raft.now + self._raft.options.heartbeat
        self._heartbeat_at = min(self._heartbeat_at, first)

    # -- when -------------------------------------------------------------------------------------

    def commit_news(self, now: float) -> None:
        """The commit index rose: tell it, if nothing else does so meanwhile."""
        if self._news_at is None:
            self._news_at = now + self._raft.options.commit_delay
            self._news = self._raft.commit_index

    def tick(self, progress: dict[int, Progress], now: float) -> None:
        """Mark what is due by the clock."""
        heartbeat = self._raft.options.heartbeat
        self._heartbeat_at = math.inf
        for pr in progress.values():
            due_at = pr.last_sent + heartbeat
            if now >= due_at:
                pr.heartbeat_due = self.due = True
                due_at = now + heartbeat
            if due_at < self._heartbeat_at:
                self._heartbeat_at = due_at
        if self._news_at is not None and now >= self._news_at:
            # Under load what rose meanwhile rides on entries, as what was to be told did; and on
            # those that are put off, or wait for room.
            last = self._raft.log.last_index
            for pr in progress.values():
                knows = pr.sent_commit >= self._news or pr.next_index <= last
                if pr.state is ProgressState.REPLICATE and not knows:
                    pr.heartbeat_due = self.due = True
            self._news_at = None
            if self._news < self._raft.commit_index:
                self.commit_news(now)
        if now >= self._spares_at:
            self._put_off_at = self._asked_at = None
            self.due = True
            for pr in self._voters:
                lacks = pr.next_index <= self._raft.log.last_index and self._has_room(pr)
                if (pr.in_step and lacks) or (pr.connected and pr.sent_round < self.asked_round):
                    pr.heartbeat_due = True

    def next_deadline(self) -> float:
        """When ``tick`` has something to mark; a heartbeat from its last call on at the latest."""
        deadline = self._heartbeat_at
        if self._news_at is not None and self._news_at < deadline:
            deadline = self._news_at
        return min(deadline, self._spares_at)

    @property
    def _spares_at(self) -> float:
        """When it is the spares' turn."""
        if self._put_off_at is None:
            return math.inf
        options = self._raft.options
        spares_at = self._put_off_at + options.spare_delay
        if self._asked_at is None:
            return spares_at
        return min(spares_at, max(self._asked_at + options.hedge_delay, self._put_off_at))

    # -- sending ----------------------------------------------------------------------------------

    def send(self, progress: dict[int, Progress], reads: bool, now: float) -> None:
        """Send entries, the heartbeats that are due, and with ``reads`` a round for them."""
        self.due = False
        shared: dict[tuple[int, bool, bool], AppendEntries] = {}
        last = self._raft.log.last_index
        if reads:
            # Thesis 6.4: a majority has to be heard *after* the read came.
            self.asked_round = self._rounds.newest + 1
        spares = self._spares(reads)
        put_off = False
        for pr in progress.values():
            if pr.next_index <= last and pr.connected:
                if pr.heartbeat_due or pr not in spares:
                    self._send_entries(pr, shared, now)
                    pr.is_behind = pr.next_index <= last
                else:
                    put_off = True
            if pr.heartbeat_due:
                self._send_empty(pr, shared, now)
        if reads:
            for pr in self._voters:
                if pr.sent_round < self.asked_round:
                    if pr in spares:
                        put_off = True
                    else:
                        self._send_empty(pr, shared, now)
        if put_off:
            self._put_off(now, reads)

    def _spares(self, reads: bool) -> list[Progress]:
        """Return the voters whose turn is later; those that answer first are never among them."""
        voters, needed = self._voters, self._needed
        if len(voters) <= needed or not self._raft.options.spare_delay:
            return []
        voters.sort(key=_rank)  # stable: no change without need
        if needed and self._raft.log.persisted_index < voters[needed - 1].match_index:
            needed += 1  # the own disk is slower than theirs: another one of them will be faster
        spares = voters[needed:]
        self._sends += 1
        if self._sends % RACE == 0:
            self._race_round = self._rounds.newest + 1
            return []
        if reads and spares:
            # With nothing but reads nobody holds more than others. Who owes an answer to what was
            # asked before a question that a spare has answered goes last.
            answered = max([pr.acked_round for pr in spares])
            slow = [pr for pr in voters[:needed] if pr.acked_round < pr.owed_round < answered]
            if slow:
                voters.sort(key=lambda pr: (pr in slow, -pr.acked_round))
                spares = voters[needed:]
        return [pr for pr in spares if pr.in_step and not pr.is_behind]

    def majority_answered(self, reads_wait: bool) -> None:
        """A majority holds something new, or answered a round: decide a race that it answered."""
        # What it owes an answer to was asked later than that: it has some more time for it.
        self._asked_at = self._raft.now if self._owes_answer(reads_wait) else None
        race = self._race_round
        if race and any(pr.acked_round >= race for pr in self._voters):
            self._race_round = 0
            self._voters.sort(key=lambda pr: (_rank(pr), -pr.acked_round))

    def _owes_answer(self, reads_wait: bool) -> bool:
        """Whether something that was asked of a majority has no answer yet."""
        return reads_wait or self._raft.commit_index < self._raft.log.last_index

    def _put_off(self, now: float, reads: bool) -> None:
        if self._put_off_at is None:
            self._put_off_at = now
        if self._asked_at is None and self._owes_answer(reads):
            self._asked_at = now

    def _send_entries(
        self, pr: Progress, shared: dict[tuple[int, bool, bool], AppendEntries], now: float
    ) -> None:
        raft = self._raft
        options, log = raft.options, raft.log
        last = log.last_index
        while pr.next_index <= last and not pr.fetching:
            if pr.state is ProgressState.REPLICATE:
                if not self._has_room(pr):
                    return
            elif pr.state is ProgressState.SNAPSHOT or pr.probing:
                return
            first = pr.next_index
            key = (first, True, self._knows_amnesia(pr))
            message = shared.get(key)
            if message is None:
                if log.term_at(first - 1) is None or first < log.first_index:
                    self._send_snapshot(pr, now)
                    return
                entries = log.entries(first, last, options.max_message_bytes)
                if entries is None:
                    pr.fetching = True
                    raft.out.want_entries(pr.peer, first, options.max_message_bytes)
                    return
                message = shared[key] = self._message(first - 1, entries, key[2], now)
            self._send(pr, message, now)

    def _has_room(self, pr: Progress) -> bool:
        options = self._raft.options
        return (
            len(pr.inflight) < options.window_messages and pr.inflight_bytes < options.window_bytes
        )

    def _knows_amnesia(self, pr: Progress) -> bool:
        # Before the own term is committed, an earlier leader may have committed more.
        return pr.amnesic_round > 0 and self.own_term_committed

    def _send_empty(
        self, pr: Progress, shared: dict[tuple[int, bool, bool], AppendEntries], now: float
    ) -> None:
        previous = pr.next_index - 1
        if self._raft.log.term_at(previous) is None and pr.state is not ProgressState.SNAPSHOT:
            # Compacted while entries before it were under way and perhaps lost.
            self._send_snapshot(pr, now)
            previous = 0
        elif pr.state is ProgressState.SNAPSHOT:
            previous = 0  # always agrees: this one is for contact only
        key = (previous + 1, False, self._knows_amnesia(pr))
        message = shared.get(key)
        if message is None:
            message = shared[key] = self._message(previous, [], key[2], now)
        self._send(pr, message, now)

    def _message(
        self, previous: int, entries: list[Entry], amnesic: bool, now: float
    ) -> AppendEntries:
        raft = self._raft
        return AppendEntries(
            raft.current_term, previous, raft.log.term_at(previous) or 0, raft.commit_index,
            self._rounds.next(now), entries, amnesic,
        )  # fmt: skip

    def _send(self, pr: Progress, message: AppendEntries, now: float) -> None:
        if message.entries:
            size = 0
            for entry in message.entries:
                size += len(entry.record)
            pr.sent_entries(message.entries[-1].index, size)
            pr.probing = pr.state is ProgressState.PROBE
        pr.last_sent = now
        pr.sent_round = message.round
        if pr.owed_round <= pr.acked_round:
            pr.owed_round = message.round
        pr.sent_commit = message.leader_commit
        pr.heartbeat_due = False
        self._raft.out.send(pr.peer, message)

    def _send_snapshot(self, pr: Progress, now: float) -> None:
        if now >= pr.retry_at:
            pr.wait_for_snapshot()
            self._raft.out.want_snapshot(pr.peer)

    def fetched(self, pr: Progress, entries: list[Entry] | None, now: float) -> None:
        """Send entries that were read from the store."""
        log = self._raft.log
        pr.fetching = False
        self.due = True
        if pr.state is ProgressState.SNAPSHOT or pr.probing:
            return
        if not entries:
            self._send_snapshot(pr, now)
        elif (
            entries[0].index == pr.next_index
            and log.term_at(entries[-1].index) == entries[-1].term
            and log.term_at(pr.next_index - 1) is not None
        ):
            # BUGS 5.2 (openraft 8cd24ba0): only what the log still says (the last entry speaks for
            # those before it, section 5.3), and where it is wanted.
            message = self._message(pr.next_index - 1, entries, self._knows_amnesia(pr), now)
            self._send(pr, message, now)

    # -- answers ----------------------------------------------------------------------------------

    def acknowledged(self, pr: Progress, reply: AppendReply) -> bool:
        """Take a success; True when the peer is known to hold more than before."""
        assert reply.match_index <= self._raft.log.last_index, "acknowledged more than was sent"
        news = pr.matched(reply.match_index, reply.round)
        if pr.state is ProgressState.PROBE:
            if reply.round >= pr.probe_round:
                pr.state = ProgressState.REPLICATE
                pr.probing = False
                self.due = True
        elif pr.state is ProgressState.SNAPSHOT:
            log = self._raft.log
            if news and pr.match_index + 1 >= log.first_index:
                pr.probe(pr.match_index + 1, self._rounds.newest + 1)
                self.due = True
        elif news and pr.next_index <= self._raft.log.last_index:
            self.due = True  # there is room again in its window
        return news

    def refused(self, pr: Progress, reply: AppendReply) -> None:
        """Take a refusal: go back to where the logs may agree (section 5.3)."""
        if pr.state is ProgressState.SNAPSHOT:
            return
        if pr.state is ProgressState.PROBE and reply.round < pr.probe_round:
            return  # BUGS 5.2 (openraft 6d53aa12): an answer to what was sent before the probe
        log = self._raft.log
        if reply.conflict_index == 0:
            pr.forget()
            pr.next_index = 1
            self._send_snapshot(pr, self._raft.now)
            return
        if reply.rejected_index <= pr.match_index:
            if reply.round <= pr.match_round:
                return  # BUGS 5.2 (raft.tla#18): late
            self._raft.out.event("warn", "A peer lost entries that it had acknowledged")
            pr.forget()
        next_index = min(reply.conflict_index, reply.rejected_index)
        if reply.conflict_term:
            # Their entries up to there have this term or a lower one, so ours of a higher one
            # cannot agree; those of the same term may, else none of theirs of this term can.
            last = min(log.last_of_term(reply.conflict_term), reply.rejected_index - 1)
            agrees = log.term_at(last) == reply.conflict_term
            next_index = last + 1 if agrees else min(next_index, last + 1)
        pr.probe(max(next_index, 1), self._rounds.newest + 1)
        self.due = True

    def restart(self, pr: Progress) -> None:
        """Whatever was in flight is gone: begin anew with a probe."""
        # A peer of which nothing is known yet most likely has nearly all, so it is asked first.
        next_index = (pr.match_index or self._raft.log.last_index) + 1
        pr.probe(next_index, self._rounds.newest + 1)
        pr.fetching = False
        pr.heartbeat_due = self.due = True
