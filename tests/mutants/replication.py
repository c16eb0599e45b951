"""Mutants of replication and commit."""

from __future__ import annotations

from tests.mutants.mutant import mutant

_FOLLOWER = "finn/raft/follower.py"
_LEADER = "finn/raft/leader.py"
_REPLICATION = "finn/raft/replication.py"
_LOG = "finn/raft/log.py"
_BUGS = "tests.raft.test_bugs.ReplicationBugTests.test_"
_SPARES = "tests.raft.test_traces.TraceTests.test_spares"
_SPARE_TESTS = "tests.raft.test_spares.SpareTests.test_"
_MEMBERS = "tests.raft.test_bugs.MembershipBugTests.test_"

REPLICATION = (
    # 2.1
    mutant(
        "commits-earlier-terms-by-counting", "2.1", _LEADER,
        "if index <= raft.commit_index or index < self._term_start:",
        "if index <= raft.commit_index:",
        _BUGS + "figure_8",
        "tests.raft.test_paper.LeadersTests.test_commits_the_own_term_only",
    ),
    # 2.2
    mutant(
        "commit-index-follows-any-message", "2.2", _FOLLOWER,
        "        if commit > raft.commit_index:\n", "        if commit != raft.commit_index:\n",
        "tests.raft.test_paper.AppendEntriesTests.test_rule_5_only_greater",
    ),
    mutant(
        "match-index-moves-back", "2.2", "finn/raft/progress.py",
        "            return False\n        self.match_index = index",
        "            pass\n        self.match_index = index",
        "tests.raft.test_progress.ProgressTests.test_match_never_moves_back",
        _BUGS + "late_reply",
    ),
    mutant(
        "late-refusal-counts", "2.2", _REPLICATION,
        "return  # BUGS 5.2 (raft.tla#18): late", "pass",
        _BUGS + "late_reply",
    ),
    mutant(
        "probe-index-is-a-match", "2.2", "finn/raft/progress.py",
        "self.next_index = max(next_index, self.match_index + 1)",
        "self.next_index = max(next_index, self.match_index + 1)\n"
        "        self.match_index = self.next_index - 1",
        _BUGS + "many_refusals_are_one",
        "tests.raft.test_paper.LeadersTests.test_inconsistency",
        "tests.raft.test_bugs.AmnesiaTests.test_acknowledgement_of_the_former_life",
    ),
    # 2.3
    mutant(
        "duplicate-truncates", "2.3", _FOLLOWER,
        "                if term == entry.term:\n",
        "                if term == entry.term and index <= raft.commit_index:\n",
        _BUGS + "late_duplicate_truncates_nothing",
    ),
    # 2.4
    mutant(
        "commits-what-is-not-verified", "2.4", _FOLLOWER,
        "commit = min(message.leader_commit, self.verified_index)",
        "commit = min(message.leader_commit, log.last_index)",
        _BUGS + "commit_not_past_what_is_verified",
    ),
    mutant(
        "acknowledges-what-is-not-verified", "2.4", _FOLLOWER,
        "return min(self.verified_index, self._raft.log.persisted_index)",
        "return self._raft.log.persisted_index",
        _BUGS + "acknowledges_only_what_is_verified",
    ),
    mutant(
        "acknowledges-what-is-not-durable", "2.4", _FOLLOWER,
        "return min(self.verified_index, self._raft.log.persisted_index)",
        "return self.verified_index",
        "tests.raft.test_paper.StateTests.test_persistent_before_responding_log",
    ),
    # 2.5
    mutant(
        "heartbeat-finds-no-conflict", "2.5", _FOLLOWER,
        "elif not (self._agrees(sender, message) and self._merge(sender, message)):",
        "elif entries and not (self._agrees(sender, message) and self._merge(sender, message)):",
        _BUGS + "conflict_without_entries",
    ),
    # 2.6
    mutant(
        "each-refusal-is-a-probe", "2.6", _REPLICATION,
        "return  # BUGS 5.2 (openraft 6d53aa12): an answer to what was sent before the probe",
        "pass",
        _BUGS + "many_refusals_are_one",
    ),
    mutant(
        "refusal-names-the-wrong-index", "2.6", _FOLLOWER,
        "raft.current_term, False, message.round, 0, message.prev_log_index,",
        "raft.current_term, False, message.round, 0, raft.log.last_index,",
        _BUGS + "refusal_names_what_was_refused",
    ),
    # 2.7
    mutant(
        "half-is-a-quorum", "2.7", "finn/raft/configuration.py",
        "return len(self.voters) // 2 + 1", "return (len(self.voters) + 1) // 2",
        _BUGS + "quorum_of_even_numbers",
    ),
    mutant(
        "learners-commit", "2.7", _LEADER,
        "self._voters = [self.progress[v] for v in configuration.voters if v != raft.node_id]",
        "self._voters = [self.progress[v] for v in sorted(members)]",
        _BUGS + "learners_do_not_commit",
    ),
    mutant(
        "learners-elect", "2.7", "finn/raft/candidate.py",
        "tally = sum(1 for v in raft.configuration.voters if v in self._granted)",
        "tally = len(self._granted)",
        "tests.raft.test_bugs.ElectionBugTests.test_learners_vote_does_not_count",
    ),
    mutant(
        "progress-is-not-sorted", "2.7", _LEADER,
        "        matches.sort(reverse=True)\n", "",
        _BUGS + "unsorted_progress",
    ),
    mutant(
        "own-disk-counts-early", "2.7", _LEADER,
        "matches.append(raft.log.persisted_index)", "matches.append(raft.log.last_index)",
        _BUGS + "own_disk_counts_when_it_has_it",
    ),
    # 2.8
    mutant(
        "overwritten-entry-counts-as-durable", "2.8", _LOG,
        "self._tickets = deque((ticket, min(last, index)) for ticket, last in self._tickets)",
        "pass",
        "tests.raft.test_log.RaftLogTests.test_truncation_lowers_old_tickets",
        _BUGS + "overwritten_entry_is_not_durable",
    ),
    mutant(
        "reset-log-counts-as-durable", "2.8", _LOG,
        "        self._tickets.clear()\n", "",
        "tests.raft.test_log.RaftLogTests.test_reset_voids_tickets",
    ),
    mutant(
        "fetched-entries-are-not-compared", "2.8", _REPLICATION,
        "            and log.term_at(entries[-1].index) == entries[-1].term\n", "",
        _BUGS + "fetched_entries_of_another_time",
    ),
    mutant(
        "truncated-entries-are-written", "2.8", _LOG,
        "        while self._fresh and self._fresh[-1].index >= index:\n"
        "            self._fresh.pop()\n",
        "",
        "tests.raft.test_log.RaftLogTests.test_truncation_before_the_store_knew",
    ),
    mutant(
        "truncated-suffix-under-way-counts", "2.8", "finn/storage/commit.py",
        "self._covered_index = min(self._covered_index, index)", "pass",
        "tests.storage.test_fastlog.HighTests.test_truncation_lowers_what_a_running_sync_covers",
    ),
    mutant(
        "truncated-batch-under-way-counts", "2.8", "finn/storage/kvstore.py",
        "written.last = min(written.last, index - 1)", "pass",
        "tests.storage.test_kvstore.KeyValueStoreTests.test_truncation_lowers_what_is_under_way",
    ),
    # 2.9
    mutant(
        "removed-peer-stays", "2.9", _LEADER,
        "if knows or now >= progress.leave_at:", "if False:",
        _MEMBERS + "removed_peer_neither_counts_nor_stays",
    ),
    mutant(
        "removed-peer-that-is-away-stays", "2.9", _LEADER,
        "if knows or now >= progress.leave_at:", "if knows:",
        _MEMBERS + "removed_peer_that_is_away",
    ),
    # 2.10
    mutant(
        "spares-are-forgotten", "2.10", _REPLICATION,
        "if (pr.in_step and lacks) or (pr.connected and pr.sent_round < self.asked_round):",
        "if False:",
        _SPARES,
    ),
    mutant(
        "processor-is-given-away-for-ever", "2.10", "finn/node/courtesy.py",
        "self._interval = min(2 * max(self._interval, taken), LONGEST_INTERVAL)",
        "self._interval = INTERVAL",
        "tests.node.test_courtesy.CourtesyTests.test_who_keeps_it",
    ),
    mutant(
        "leader-gives-the-processor-away", "2.10", "finn/node/applying.py",
        "self._nobody_waits = raft.leader is None", "self._nobody_waits = True",
        "tests.node.test_courtesy.ApplyingTests.test_a_leader",
    ),
    mutant(
        "majority-gives-the-processor-away", "2.10", "finn/node/links.py",
        "if kind is AppendEntries and message.leader_commit > message.prev_log_index:",
        "if kind is AppendEntries:",
        "tests.node.test_courtesy.LinkTests.test_what_others_have_committed",
    ),
    mutant(
        "spares-are-not-asked-sooner", "2.10", _REPLICATION,
        "return min(spares_at, max(self._asked_at + options.hedge_delay, self._put_off_at))",
        "return spares_at",
        _SPARES,
        _SPARE_TESTS + "sooner_where_no_majority_answers",
    ),
    mutant(
        "answers-leave-spares-no-delay", "2.10", _REPLICATION,
        "        self._asked_at = self._raft.now if self._owes_answer(reads_wait) else None\n", "",
        _SPARE_TESTS + "sooner_where_no_majority_answers",
    ),
    mutant(
        "spares-are-woken-for-commits", "2.10", _REPLICATION,
        "knows = pr.sent_commit >= self._news or pr.next_index <= last",
        "knows = pr.sent_commit >= self._news",
        _SPARE_TESTS + "nothing_but_their_entries",
    ),
    mutant(
        "peer-that-stalls-is-asked-first", "2.10", _REPLICATION,
        "        voters.sort(key=_rank)  # stable: no change without need\n", "",
        _SPARES,
    ),
    mutant(
        "slow-disk-of-the-leader-delays-all", "2.10", _REPLICATION,
        "if needed and self._raft.log.persisted_index < voters[needed - 1].match_index:",
        "if False:",
        _SPARE_TESTS + "slow_disk_of_the_leader",
    ),
    mutant(
        "spare-without-a-link-is-written-to", "2.10", _REPLICATION,
        "if (pr.in_step and lacks) or (pr.connected and pr.sent_round < self.asked_round):",
        "if lacks or pr.sent_round < self.asked_round:",
        _SPARE_TESTS + "no_storm",
    ),
    mutant(
        "spare-with-a-full-window-is-written-to", "2.10", _REPLICATION,
        "pr.next_index <= self._raft.log.last_index and self._has_room(pr)",
        "pr.next_index <= self._raft.log.last_index",
        _SPARE_TESTS + "no_storm",
    ),
    mutant(
        "slow-follower-stays-first", "2.10", _REPLICATION,
        "            self._race_round = self._rounds.newest + 1\n", "",
        _SPARE_TESTS + "the_fastest_is_asked",
    ),
    mutant(
        "probe-is-put-off", "2.10", _REPLICATION,
        "if pr.in_step and not pr.is_behind]", "if not pr.is_behind]",
        _SPARE_TESTS + "a_probe_is_not_put_off",
    ),
    mutant(
        "voter-that-is-behind-is-put-off", "2.10", _REPLICATION,
        "if pr.in_step and not pr.is_behind]", "if pr.in_step]",
        _SPARE_TESTS + "catching_up_takes_no_delays",
    ),
    mutant(
        "peer-that-stalls-is-asked-first-for-reads", "2.10", _REPLICATION,
        "            if slow:\n", "            if False:\n",
        _SPARES,
        _SPARE_TESTS + "one_that_stalls_is_asked_first_once",
    ),
    mutant(
        "reads-of-a-stalled-peer-wait", "2.10", _REPLICATION,
        "if (pr.in_step and lacks) or (pr.connected and pr.sent_round < self.asked_round):",
        "if pr.in_step and lacks:",
        _SPARES,
    ),
    mutant(
        "reads-wait-for-who-is-in-step", "2.10", _REPLICATION,
        "(pr.connected and pr.sent_round", "(pr.in_step and pr.sent_round",
        _SPARE_TESTS + "reads_are_asked_of_who_fell_out_of_step_meanwhile",
    ),
    mutant(
        "older-answers-decide-a-race", "2.10", _REPLICATION,
        "if race and any(pr.acked_round >= race for pr in self._voters):", "if race:",
        _SPARE_TESTS + "reads_that_overlap",
    ),
    mutant(
        "dead-peer-was-just-asked", "2.10", _REPLICATION,
        "if pr.acked_round < pr.owed_round < answered]",
        "if pr.acked_round < pr.sent_round < answered]",
        _SPARE_TESTS + "reads_that_overlap",
    ),
    mutant(
        "successor-is-a-spare", "2.10", _LEADER,
        "progress.heartbeat_due = self._replication.due = True  # it may be a spare", "pass",
        _SPARE_TESTS + "a_successor_does_not_wait",
    ),
    mutant(
        "spares-are-due-in-the-past", "2.10", _REPLICATION,
        "max(self._asked_at + options.hedge_delay, self._put_off_at)",
        "self._asked_at + options.hedge_delay",
        _SPARE_TESTS + "no_deadline_of_the_past",
    ),
    mutant(
        "slow-disk-is-silent", "2.10", _FOLLOWER,
        "if last <= log.persisted_index or (late and log.persisted_index < previous):",
        "if last <= log.persisted_index:",
        _BUGS + "slow_disk_does_not_look_dead",
    ),
    mutant(
        "lost-window-is-waited-for", "2.10", _REPLICATION,
        "        pr.probe(max(next_index, 1), self._rounds.newest + 1)\n", "",
        _BUGS + "what_a_lost_link_held_is_sent_again",
    ),
    mutant(
        "peer-that-lost-entries-is-refused-for-ever", "2.10", _REPLICATION,
        "if reply.round <= pr.match_round:\n                return",
        "if True:\n                return",
        _BUGS + "peer_that_lost_entries",
    ),
)  # fmt: skip
