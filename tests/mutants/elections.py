"""Mutants of elections, terms and votes."""

from __future__ import annotations

from tests.mutants.mutant import Edit, mutant

_CORE = "finn/raft/core.py"
_CANDIDATE = "finn/raft/candidate.py"
_SERVER = "finn/raft/server.py"
_VOTING = "finn/raft/voting.py"
_OUTBOX = "finn/raft/outbox.py"
_LEADER = "finn/raft/leader.py"
_DRIVER = "finn/node/driver.py"
_BUGS = "tests.raft.test_bugs.ElectionBugTests.test_"
_MISSING = "tests.node.test_missing.MissingTests.test_"
_AMNESIA = "tests.raft.test_bugs.AmnesiaTests.test_"
_DISK = "tests.node.test_disk.DiskTests.test_"

ELECTIONS = (
    # 1.1
    mutant(
        "reply-before-vote-is-durable", "1.1", _OUTBOX,
        "if self._state_durable < self._state_ticket:", "if False:",
        _BUGS + "vote_is_durable_before_the_reply",
    ),
    mutant(
        "votes-asked-before-own-is-durable", "1.1", _CANDIDATE,
        "send = raft.out.send if self.pre else raft.out.send_durable", "send = raft.out.send",
        _BUGS + "own_vote_is_durable_before_the_request",
    ),
    mutant(
        "own-vote-counts-before-durable", "1.1", _CANDIDATE,
        "if not self.pre and self._raft.out.is_state_durable:", "if not self.pre:",
        _BUGS + "own_vote_of_an_earlier_campaign",
    ),
    mutant(
        "node-does-not-wait-for-the-vote", "1.1", _DRIVER,
        "return self._when_durable(self.store.save_state(state), "
        "self.raft.state_persisted, ticket)",
        "self._when_durable(self.store.save_state(state), bool, ticket)\n"
        "        self.raft.state_persisted(ticket)\n        return True",
        _DISK + "a_vote_waits_for_the_disk",
    ),
    mutant(
        "vote-not-synced", "1.1", "finn/storage/statefile.py",
        "self._file.datasync()\n                self._size", "self._size",
        "tests.storage.test_statefile.StateFileTests.test_save_is_one_sync",
        "tests.storage.test_statefile.StateFileTests.test_power_cut_at_any_change",
    ),
    mutant(
        "vote-with-the-log-not-synced", "1.1", "finn/storage/kvstore.py",
        "batch.sync = True\n        done", "done",
        "tests.storage.test_leveldb.LevelDBTests.test_state_is_always_synced",
        "tests.storage.test_kvstore.KeyValueStoreTests.test_state_goes_with_the_log",
    ),
    # 1.2
    mutant(
        "vote-lags-behind-the-term", "1.2", _OUTBOX,
        "self._state = state\n", "self._state = self._state or state\n",
        _BUGS + "term_and_vote_are_one_record",
    ),
    # 1.3
    mutant(
        "log-proves-no-term", "1.3", _SERVER,
        "self.current_term = max(state.term, log.last_term)", "self.current_term = state.term",
        _BUGS + "log_proves_a_term",
    ),
    mutant(
        "vote-of-another-term-kept", "1.3", _SERVER,
        "state.voted_for if state.term == self.current_term else 0", "state.voted_for",
        _BUGS + "log_proves_a_term",
    ),
    mutant(
        "term-forgotten-by-a-restart", "1.3", "finn/node/opening.py",
        "state: HardState = store.state", "state = HardState()",
        _DISK + "term_and_vote_survive_a_restart",
    ),
    # 1.4
    mutant(
        "refusal-with-the-candidates-term", "1.4", _VOTING,
        "reply = VoteReply(raft.current_term, False", "reply = VoteReply(message.term, False",
        _BUGS + "pre_vote_is_answered_with_the_own_term",
    ),
    mutant(
        "stale-leader-is-not-told", "1.4", _CORE,
        "self.out.send_durable(sender, refusal)", "pass",
        _BUGS + "pre_vote_is_answered_with_the_own_term",
    ),
    mutant(
        "refused-candidate-waits-a-timeout", "1.4", _CORE,
        "self.timer.restart_soon(now)", "pass",
        _BUGS + "lower_term_catches_up_by_pre_vote",
    ),
    mutant(
        "pre-vote-raises-the-term", "1.4", _VOTING,
        "    if message.pre_vote:\n",
        "    if message.pre_vote:\n"
        "        if message.term > raft.current_term:\n"
        "            raft.become_follower(message.term, 0, now)\n",
        _BUGS + "pre_vote_changes_nothing",
    ),
    mutant(
        "pre-vote-reply-counts-as-vote", "1.4", _CANDIDATE,
        "if not reply.granted or reply.pre_vote != self.pre:", "if not reply.granted:",
        _BUGS + "pre_vote_reply_is_no_vote",
    ),
    mutant(
        "leader-refuses-its-successor", "1.4", _VOTING,
        "if not message.transfer and raft.is_leader_alive(now):",
        "if raft.is_leader_alive(now):",
        _BUGS + "transfer_is_no_disturbance",
    ),
    mutant(
        "pre-vote-counts-as-contact", "1.4", _VOTING,
        "    granted = (\n", "    raft.timer.heard(now)\n    granted = (\n",
        _BUGS + "pre_vote_changes_nothing",
    ),
    # 1.5
    mutant(
        "no-pre-vote", "1.5", _CANDIDATE,
        "if self.pre and not self._raft.is_sole_voter:", "if False:",
        _BUGS + "pre_vote_reply_of_another_term",
    ),
    mutant(
        "votes-while-a-leader-lives", "1.5", _VOTING,
        "if not message.transfer and raft.is_leader_alive(now):", "if False:",
        _BUGS + "removed_member_does_not_topple",
        "tests.raft.test_paper.SectionSixTests.test_vote_while_a_leader_lives",
    ),
    mutant(
        "replies-of-strangers-count", "1.5", _CORE,
        "if is_reply and not self._knows(sender):", "if False:",
        _BUGS + "removed_member_does_not_topple",
    ),
    mutant(
        "restarted-node-votes-at-once", "1.5", "finn/raft/timer.py",
        "now + options.election_timeout if has_past else now", "now",
        _BUGS + "restarted_node_refuses_votes",
    ),
    # 1.6
    mutant(
        "no-check-of-the-quorum", "1.6", _LEADER,
        "if now - self._quorum_heard(now) > raft.options.election_timeout:", "if False:",
        _BUGS + "leader_without_a_majority_makes_way",
    ),
    mutant(
        "busy-leader-checks-no-quorum", "1.6", "finn/raft/replication.py",
        "deadline = self._heartbeat_at\n",
        "deadline = min(p.last_sent for p in self._voters) + self._raft.options.heartbeat\n",
        _BUGS + "busy_leader_checks_its_quorum",
    ),
    mutant(
        "learners-are-the-quorum", "1.6", _LEADER,
        "heard = [pr.last_heard for pr in self._voters]",
        "heard = [pr.last_heard for pr in self.progress.values()]",
        _BUGS + "leader_without_a_majority_makes_way",
    ),
    mutant(
        "former-leader-keeps-others-from-leading", "1.6", "finn/node/links.py",
        " and begun in _LEADING:", ":",
        "tests.node.test_suspicion.PiecesTests.test_a_former_leader",
    ),
    mutant(
        "large-message-is-no-sign-of-life", "1.6", "finn/node/links.py",
        " and begun in _LEADING:", " and False:",
        "tests.node.test_suspicion.PiecesTests.test_a_large_message",
    ),
    # 1.7
    mutant(
        "leads-on-while-the-disk-hangs", "1.7", _DRIVER,
        'raft.step_down(now, "the disk hangs")', "pass",
        _DISK + "a_leader_whose_disk_hangs_makes_way",
    ),
    mutant(
        "campaigns-while-the-disk-hangs", "1.7", _VOTING,
        "not (raft.hold_off or raft.reinstalling or raft.removed)",
        "not (raft.reinstalling or raft.removed)",
        _BUGS + "disk_trouble",
    ),
    mutant(
        "leads-on-with-a-full-disk", "1.7", _DRIVER,
        "deferred.addCallbacks(done, lambda failure: self._node.fatal(failure.value))",
        "deferred.addCallbacks(done, lambda failure: None)",
        _DISK + "a_full_disk_stops_the_node",
        _DISK + "a_failing_sync_stops_the_node",
    ),
    # 1.8
    mutant(
        "learner-does-not-vote", "1.8", _VOTING,
        "        or raft.follower is None\n",
        "        or raft.follower is None\n        or not raft.is_voter\n",
        _BUGS + "learner_votes",
    ),
    mutant(
        "learner-campaigns", "1.8", _VOTING,
        "return raft.is_voter and not (", "return not (",
        _BUGS + "learner_never_campaigns",
    ),
    # 1.9
    mutant(
        "higher-term-in-a-reply-ignored", "1.9", _CORE,
        "if type(message) is not VoteReply or not (message.pre_vote and message.granted):",
        "if type(message) is not VoteReply and type(message) is not AppendReply:",
        "tests.raft.test_paper.AllServersTests.test_higher_term_in_a_response",
    ),
    mutant(
        "stale-pre-vote-reply-counts", "1.9", _CANDIDATE,
        "if reply.term == expected:", "if True:",
        _BUGS + "pre_vote_reply_of_another_term",
    ),
    mutant(
        "stale-vote-reply-counts", "1.9", _CANDIDATE,
        "if reply.term == expected:", "if reply.term == expected or not self.pre:",
        _BUGS + "vote_reply_of_another_term",
        also=(
            Edit(
                _CORE,
                "self.out.send_durable(sender, refusal)\n            return",
                "self.out.send_durable(sender, refusal)\n                return",
            ),
        ),
    ),
    mutant(
        "promise-of-the-old-term-sent", "1.9", _OUTBOX,
        "self._held.clear()", "pass",
        _BUGS + "promise_of_the_old_term_is_withdrawn",
    ),
    # 1.10
    mutant(
        "reads-wait-on-a-deposed-leader", "1.10", _SERVER,
        "self.leader.lost()", "pass",
        _BUGS + "step_down_answers_reads",
    ),
    mutant(
        "writes-wait-on-a-deposed-leader", "1.10", _DRIVER,
        "node.proposals.forget(OutcomeUnknown(), above=raft.commit_index)", "pass",
        "tests.node.test_outcomes.OutcomeTests.test_lost_leadership_is_told_at_once",
    ),
    # 1.11
    mutant(
        "old-leader-is-followed", "1.11", _CORE,
        "elif message.term < self.current_term:",
        "elif message.term < self.current_term and type(message) is not AppendEntries:",
        _BUGS + "old_leader_after_a_higher_term",
        "tests.raft.test_paper.AppendEntriesTests.test_rule_1_lower_term",
    ),
    # 7.1
    mutant(
        "amnesic-node-votes", "7.1", _VOTING,
        "return not raft.amnesic or is_emergency(raft, now)", "return True",
        _AMNESIA + "does_not_vote",
    ),
    mutant(
        "amnesic-node-campaigns", "7.1", _CANDIDATE,
        "elif not raft.amnesic:", "else:",
        _AMNESIA + "does_not_vote",
        also=(Edit(_CANDIDATE, "elif is_emergency(raft, now):", "if False:"),),
    ),
    mutant(
        "any-commit-index-cures", "7.1", "finn/raft/follower.py",
        "            if message.amnesic:\n", "            if True:\n",
        _AMNESIA + "cure",
    ),
    mutant(
        "cured-before-all-is-durable", "7.1", "finn/raft/follower.py",
        "index = min(raft.commit_index, raft.log.persisted_index)", "index = raft.log.last_index",
        _AMNESIA + "cure",
    ),
    mutant(
        "leader-believes-the-forgetful", "7.1", _LEADER,
        "                progress.forget()\n", "",
        _AMNESIA + "leader_forgets_what_it_acknowledged",
        _AMNESIA + "acknowledgement_of_the_former_life",
    ),
    mutant(
        "leader-believes-a-former-life", "7.1", _LEADER,
        "return False  # sent before it forgot", "pass",
        _AMNESIA + "acknowledgement_of_the_former_life",
    ),
    mutant(
        "leadership-handed-to-the-forgetful", "7.1", "finn/raft/transfer.py",
        "if progress[target].amnesic_round or not progress[target].connected:",
        "if not progress[target].connected:",
        _AMNESIA + "is_no_successor",
    ),
    mutant(
        "minority-that-forgot-elects", "7.1", "finn/raft/amnesia.py",
        "return self.active and leaderless >= limit and remembering < configuration.quorum",
        "return self.active and leaderless >= limit",
        _AMNESIA + "minority_forgot",
    ),
    mutant(
        "power-loss-is-not-noticed", "7.1", "finn/storage/identity.py",
        "self.amnesic = self.amnesic or dropped_tail or forgot",
        "self.amnesic = self.amnesic or dropped_tail",
        "tests.storage.test_identity.IdentityTests.test_amnesia",
    ),
    mutant(
        "lost-tail-is-not-noticed", "7.1", "finn/storage/identity.py",
        "self.amnesic = self.amnesic or dropped_tail or forgot",
        "self.amnesic = self.amnesic or forgot",
        "tests.storage.test_identity.IdentityTests.test_amnesia",
    ),
    mutant(
        "lost-log-is-not-noticed", "7.1", "finn/node/opening.py",
        "if identity.joined and store.state.term == 0:", "if False:",
        _MISSING + "the_log",
    ),
    mutant(
        "removed-node-lost-its-vote", "7.1", "finn/node/opening.py",
        "        if lost and identity.removed:",
        "        if identity.removed:\n            return\n        if lost and identity.removed:",
        _MISSING + "the_log_of_one_that_was_removed",
    ),
    mutant(
        "lost-vote-is-cured", "7.1", "finn/node/opening.py",
        "        if identity.joined and store.state.term == 0:",
        "        if identity.joined and not identity.weak and store.state.term == 0:",
        _MISSING + "the_vote_at_a_power_loss",
    ),
    mutant(
        "shorter-log-is-not-noticed", "7.1", "finn/node/opening.py",
        "        if lost:\n", "        if False:\n",
        _MISSING + "the_end_of_the_log_after_a_stop",
    ),
    mutant(
        "end-of-the-log-outlives-its-run", "7.1", "finn/storage/identity.py",
        "        self.end = None\n        self._has_begun", "        self._has_begun",
        "tests.storage.test_identity.IdentityTests.test_a_log_that_is_shorter_than_at_the_stop",
    ),
    mutant(
        "lost-node-json-is-a-fresh-start", "7.1", "finn/node/opening.py",
        "        if has_data:\n", "        if False:\n",
        _MISSING + "node_json", _MISSING + "node_json_and_the_log",
    ),
    mutant(
        "failing-disk-is-an-empty-one", "7.1", "finn/storage/files.py",
        "except (FileNotFoundError, NotADirectoryError):", "except OSError:",
        "tests.storage.test_files.OSFilesTests.test_a_disk_that_fails_is_not_a_missing_file",
    ),
    mutant(
        "flipped-bit-makes-another-member", "7.1", "finn/storage/identity.py",
        'if set(fields) - _FIELDS or fields.pop("crc", _crc(fields)) != _crc(fields):',
        'if fields.pop("crc", "") is None:',
        "tests.storage.test_identity.IdentityTests.test_a_flipped_bit_is_noticed",
    ),
    mutant(
        "core-is-not-told-of-amnesia", "7.1", "finn/node/opening.py",
        "            node.now(), amnesic,\n", "            node.now(), False,\n",
        _DISK + "power_loss_makes_amnesic_until_cured",
    ),
)  # fmt: skip
