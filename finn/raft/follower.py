"""A follower (or learner): takes entries from the leader and answers for what is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finn.errors import ProtocolError
from finn.raft.messages import AppendEntries, AppendReply

if TYPE_CHECKING:
    from finn.raft.server import Server


class Follower:
    """What a follower knows of its leader, in one term.

    Attributes:
        verified_index: up to here the log is known to equal the leader's of this term.
    """

    def __init__(self, raft: Server) -> None:
        self._raft = raft
        self.verified_index = 0
        self._reported = 0  # match index that the leader was told last
        self._round = 0
        self._must_answer = False
        self._answered_at = 0.0

    def entries_received(self, sender: int, message: AppendEntries, now: float) -> None:
        """Figure 2, AppendEntries 2 to 5; the term was looked at before.

        Raises:
            ProtocolError: the entries do not follow each other.
        """
        raft = self._raft
        entries = message.entries
        previous = message.prev_log_index
        last = previous + len(entries)
        if entries:
            oldest, newest = entries[0], entries[-1]
            if oldest.index != previous + 1 or newest.index != last:
                raise ProtocolError("entries do not follow prev_log_index")
            if not message.prev_log_term <= oldest.term <= newest.term <= message.term:
                raise ProtocolError("terms of entries make no sense")
        if raft.reinstalling:
            self._refuse(sender, message, 0, 0)
            return
        log = raft.log
        if previous == log.last_index and message.prev_log_term == log.last_term:
            for entry in entries:
                log.append(entry)
            if entries and raft.configuration.index > previous:
                raft.out.configuration_changed()
        elif not (self._agrees(sender, message) and self._merge(sender, message)):
            return
        if message.round > self._round:
            self._round = message.round
        if last > self.verified_index:
            self.verified_index = last
        # What brings no entries that have to become durable first is answered at once; and a
        # leader whose entries pile up before a slow disk hears an answer each heartbeat, or it
        # would take this node for lost (BUGS 5.2, hashicorp#612).
        late = now - self._answered_at > raft.options.heartbeat
        if last <= log.persisted_index or (late and log.persisted_index < previous):
            self._must_answer = True
        # BUGS 5.2 (copycat#265): not past the last *verified* entry, whatever else the log has.
        commit = min(message.leader_commit, self.verified_index)
        if commit > raft.commit_index:
            raft.commit_to(commit)
        if raft.amnesic:
            if message.amnesic:
                raft.amnesia.leader_knows(message.leader_commit)
            self.maybe_cured()

    def _agrees(self, sender: int, message: AppendEntries) -> bool:
        """Figure 2, AppendEntries 2: refuse when the entry before is missing or differs."""
        raft, log = self._raft, self._raft.log
        previous = message.prev_log_index
        if previous > log.last_index:
            # BUGS 5.2 (openraft 6202138f): also when there are no entries.
            self._refuse(sender, message, log.last_index + 1, 0)
            return False
        term = log.term_at(previous)
        if term == message.prev_log_term:
            return True
        if previous <= raft.commit_index:
            if term is None and log.may_hold(previous, message.prev_log_term):
                return True
            raft.reinstall()
            self._refuse(sender, message, 0, 0)
            return False
        assert term is not None
        # Section 5.3, last part: the conflicting term and the first index of it.
        self._refuse(sender, message, log.run_start(previous), term)
        return False

    def _merge(self, sender: int, message: AppendEntries) -> bool:
        """Figure 2, AppendEntries 3 and 4: remove what conflicts, append what is new."""
        raft, log = self._raft, self._raft.log
        before = raft.configuration
        for entry in message.entries:
            index = entry.index
            if index <= log.last_index:
                term = log.term_at(index)
                # BUGS 5.2 (hashicorp v0.1.0, raftos#26): an entry that is there already is no
                # reason to remove what follows it: the message may be late or come twice.
                if term == entry.term:
                    continue
                if index <= raft.commit_index:
                    if term is None and log.may_hold(index, entry.term):
                        continue
                    raft.reinstall()
                    self._refuse(sender, message, 0, 0)
                    return False
                assert index > self.verified_index, "the leader changed its own log"
                log.truncate(index)
            log.append(entry)
        if raft.configuration is not before:
            raft.out.configuration_changed()
        return True

    def _refuse(
        self, sender: int, message: AppendEntries, conflict_index: int, conflict_term: int
    ) -> None:
        raft = self._raft
        reply = AppendReply(
            raft.current_term, False, message.round, 0, message.prev_log_index,
            conflict_index, conflict_term, raft.amnesic,
        )  # fmt: skip
        raft.out.send_durable(sender, reply)

    def maybe_cured(self) -> None:
        """End amnesia when everything is back that may have been forgotten."""
        raft = self._raft
        index = min(raft.commit_index, raft.log.persisted_index)
        if raft.amnesia.is_cured_at(index):
            raft.out.event("info", "Everything that may have been forgotten is back")
            raft.cure()
            self._must_answer = True

    def installed(self, index: int) -> None:
        """A snapshot of this leader up to ``index`` is installed."""
        self.verified_index = max(self.verified_index, index)
        self._must_answer = True

    @property
    def has_output(self) -> bool:
        """Whether ``flush`` has to answer."""
        return self._must_answer or (self._durable_match > self._reported and self._round > 0)

    @property
    def _durable_match(self) -> int:
        return min(self.verified_index, self._raft.log.persisted_index)

    def flush(self, now: float) -> None:
        """Answer the leader for what is verified and durable."""
        raft = self._raft
        if raft.reinstalling or not self.has_output:
            return
        self._must_answer = False
        self._answered_at = now
        if raft.leader_id:
            match = self._reported = self._durable_match
            reply = AppendReply(raft.current_term, True, self._round, match, amnesic=raft.amnesic)
            raft.out.send_durable(raft.leader_id, reply)
