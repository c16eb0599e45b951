"""Mutants of reads: rounds, leases, and when a node serves them."""

from __future__ import annotations

from tests.mutants.mutant import mutant

_LEADER = "finn/raft/leader.py"
_READS = "finn/raft/reads.py"
_READING = "finn/node/reading.py"
_BUGS = "tests.raft.test_bugs.ReadBugTests.test_"
_NODE = "tests.node.test_reads.ReadTests.test_"
_FAILURE = "tests.node.test_failure.FailureTests.test_"

READS = (
    # 3.1
    mutant(
        "new-leader-reads-at-once", "3.1", _LEADER,
        "reads = bool(self._reads.fresh) and self._is_own_term_committed",
        "reads = bool(self._reads.fresh)",
        _BUGS + "new_leader_waits_for_its_term",
    ),
    mutant(
        "new-leader-has-a-lease-at-once", "3.1", _LEADER,
        "if self._handed_over or not self._is_own_term_committed:", "if self._handed_over:",
        _BUGS + "lease_waits_for_the_term",
    ),
    mutant(
        "reads-what-is-not-applied-yet", "3.1", _READING,
        " or node.applying.last_applied < raft.commit_index:", ":",
        _NODE + "what_is_committed_is_applied_first",
    ),
    mutant(
        "confirmed-read-does-not-wait", "3.1", "finn/node/reads.py",
        "while applying and applying[0].index <= index:", "while applying:",
        "tests.node.test_failure.ReadsTests.test_one_round_for_all_reads_of_a_turn",
    ),
    # 3.2
    mutant(
        "leader-reads-without-a-lease", "3.2", _READING,
        "return node.now() < self._until and (", "return self._until > 0.0 and (",
        _FAILURE + "paused_leader_serves_nothing_stale",
    ),
    mutant(
        "lease-is-kept-over-an-input", "3.5", _READING,
        "if driver.is_due or self._turn != driver.turns", "if self._turn != driver.turns",
        _NODE + "a_kept_lease_ends_with_the_next_input",
    ),
    mutant(
        "lease-is-kept-over-a-turn", "3.5", _READING,
        "or self._turn != driver.turns or", "or self._turn < 0 or",
        _NODE + "a_kept_lease_ends_with_the_next_input",
    ),
    mutant(
        "leader-whose-port-refuses-is-dead", "3.2", "finn/node/links.py",
        "if refused and peer_id == raft.leader_id and peer_id not in self._incoming:",
        "if refused and peer_id == raft.leader_id:",
        "tests.node.test_suspicion.SuspicionTests.test_a_leader_whose_port_refuses_lives",
    ),
    mutant(
        "dead-leaders-link-stays", "3.2", "finn/protocols/connection.py",
        "            self.transport.abortConnection()  # type: ignore[union-attr]\n",
        "            self.transport.loseConnection()  # type: ignore[union-attr]\n",
        "tests.node.test_suspicion.SuspicionTests.test_when_its_link_is_lost_too_it_is_dead",
    ),
    mutant(
        "deposed-leader-serves-what-waits", "3.2", _READS,
        "return [(token, -1) for token in tokens]", "return [(token, 0) for token in tokens]",
        _BUGS + "deposed_leader",
    ),
    mutant(
        "lost-reads-are-served", "3.2", "finn/node/reads.py",
        "        if index < 0:\n", "        if False:\n",
        "tests.node.test_failure.ReadsTests.test_lost_leadership",
    ),
    # 3.3
    mutant(
        "round-numbers-are-used-again", "3.3", _READS,
        "        self.newest += 1\n", "        self.newest = self.newest % 2 + 1\n",
        "tests.raft.test_progress.RoundsTests.test_never_used_twice",
        _BUGS + "round_of_before_the_read",
    ),
    mutant(
        "round-of-before-the-read-counts", "3.3", _LEADER,
        "self._reads.sent(self._replication.asked_round, self._raft.commit_index)",
        "self._reads.sent(self._replication.asked_round - 1, self._raft.commit_index)",
        _BUGS + "round_of_before_the_read",
    ),
    mutant(
        "refusal-names-a-round-of-another-term", "3.3", "finn/raft/core.py",
        "AppendReply(self.current_term, False, 0, 0)",
        "AppendReply(self.current_term, False, message.round, 0)",
        "tests.raft.test_bugs.ReadBugTests.test_refusal_of_an_earlier_term",
    ),
    mutant(
        "refusal-of-another-term-is-contact", "3.3", "finn/raft/leader.py",
        "if not reply.success and not reply.round:", "if False:",
        "tests.raft.test_bugs.ReadBugTests.test_refusal_of_an_earlier_term",
    ),
    mutant(
        "read-does-not-ask-anew", "3.3", "finn/raft/replication.py",
        "            for pr in self._voters:\n                if pr.sent_round < self.asked_round:",
        "            for pr in []:\n                if pr.sent_round < self.asked_round:",
        _BUGS + "round_of_before_the_read",
    ),
    mutant(
        "read-tokens-are-used-again", "3.3", "finn/node/reads.py",
        "        self._ids += 1\n", "",
        _NODE + "tokens_are_never_used_again",
    ),
    # 3.4
    mutant(
        "lease-is-looked-at-when-queued", "3.4", _READING,
        "self.after(raft.commit_index, run, now, lambda r: self.read(r, level))",
        "self.after(raft.commit_index, run, now, self.serve)",
        _NODE + "the_lease_is_looked_at_when_a_read_is_executed",
    ),
    mutant(
        "read-behind-a-write-is-not-checked", "3.4", "finn/node/dispatch.py",
        "before.then(lambda: node.reading.read(run, level))",
        "before.then(lambda: node.reading.serve(run))",
        _NODE + "a_read_behind_a_write_of_unknown_outcome",
    ),
    # 3.5
    mutant(
        "lease-never-ends", "3.5", _LEADER,
        "return since + options.election_timeout * (1.0 - options.lease_margin)",
        "return float(\"inf\")",
        _BUGS + "lease_counts_from_the_sending",
    ),
    mutant(
        "lease-has-no-margin", "3.5", _LEADER,
        "options.election_timeout * (1.0 - options.lease_margin)", "options.election_timeout",
        _BUGS + "lease_counts_from_the_sending",
    ),
    mutant(
        "lease-counts-from-the-answer", "3.5", _LEADER,
        "since = self._rounds.sent_at(round)",
        "since = max(pr.last_heard for pr in self._voters)",
        _BUGS + "lease_counts_from_the_sending",
    ),
    mutant(
        "lease-outlives-a-transfer", "3.5", _LEADER,
        "transfer.sent = self._handed_over = True", "transfer.sent = True",
        _BUGS + "lease_ends_with_timeout_now",
    ),
    mutant(
        "lease-outlives-the-links", "3.5", _LEADER,
        "self._void_round = self._rounds.newest", "pass",
        _BUGS + "lease_ends_with_the_links",
    ),
    mutant(
        "timers-wait-for-a-clock-set-back", "3.5", "finn/node/steady.py",
        "                    timer.delay(-back)\n", "                    pass\n",
        "tests.node.test_steady.SteadyReactorTests.test_an_hour_back",
    ),
    mutant(
        "clock-stands-still-in-suspend", "3.5", "finn/node/service.py",
        "return time.clock_gettime(_CLOCK)", "return time.monotonic()",
        _NODE + "the_clock_goes_on_during_suspend",
    ),
    mutant(
        "timer-is-believed-after-a-stall", "3.5", "finn/node/driver.py",
        "if now - self._timer_at > STALL:", "if False:",
        _NODE + "a_late_timer_lets_input_go_first",
    ),
    mutant(
        "timer-is-believed-before-members-are-heard", "3.5", "finn/node/driver.py",
        "            poller.hear_preferred()\n", "            pass\n",
        _NODE + "a_late_timer_lets_members_be_heard_first",
    ),
    mutant(
        "answers-of-members-wait-for-clients", "3.5", "finn/protocols/poller.py",
        "        if had_more:\n", "        if False:\n",
        "tests.protocols.test_poller.PollerTests.test_who_is_preferred_is_served_first",
    ),
    mutant(
        "links-are-not-preferred", "3.5", "finn/protocols/link.py",
        "            transport_module.prefer(self.transport)\n", "            pass\n",
        "tests.protocols.test_link.Handshakes.test_members_are_preferred_to_clients",
    ),
    mutant(
        "some-are-never-served", "3.5", "finn/protocols/poller.py",
        "self._in_turn() if self._left else ", "",
        "tests.protocols.test_poller.PollerTests.test_what_was_left_out_is_next",
    ),
    mutant(
        "wall-clock-for-monotonic", "3.5", "finn/node/service.py",
        "self.now: Callable[[], float] = monotonic or (",
        "self.now: Callable[[], float] = wall or (",
        _NODE + "a_jump_of_the_wall_clock_changes_nothing",
    ),
    # 7.4
    mutant(
        "read-passes-a-write-of-its-connection", "7.4", "finn/node/dispatch.py",
        "while not connection.has_pending and node.reading", "while node.reading",
        _FAILURE + "pipeline_in_order",
    ),
    mutant(
        "placed-read-is-run-last", "7.4", "finn/node/proposals.py",
        "batch.runs.append(Placed(read, serve, fail))",
        "batch.runs.insert(0, Placed(read, serve, fail))",
        _FAILURE + "pipeline_in_order",
    ),
    mutant(
        "write-passes-a-waiting-read", "7.4", "finn/node/dispatch.py",
        "before.then(lambda: self._propose_behind(run, payload, count))",
        "self.propose(run, payload, count)",
        _NODE + "a_write_waits_for_the_reads_before_it",
    ),
)  # fmt: skip
