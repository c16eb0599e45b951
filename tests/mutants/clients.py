"""Mutants of what clients are told."""

from __future__ import annotations

from tests.mutants.mutant import Edit, mutant

_DRIVER = "finn/node/driver.py"
_PROPOSALS = "finn/node/proposals.py"
_RUNS = "finn/node/runs.py"
_APPLYING = "finn/node/applying.py"
_TRANSACTIONS = "finn/node/transactions.py"
_FORWARDING = "finn/node/forwarding.py"
_EXECUTING = "finn/node/executing.py"
_OUTCOMES = "tests.node.test_outcomes.OutcomeTests.test_"
_ENDINGS = "tests.node.test_endings.EndingTests.test_"
_WATCH = "tests.node.test_watch.WatchTests.test_"
_EXEC = "tests.node.test_atomic.AtomicTests.test_"
_PROPOSED = "tests.node.test_failure.ProposalsTests.test_"
_FAILURE = "tests.node.test_failure.FailureTests.test_"
_CLIENT = "tests.test_client.OutcomeTests.test_"
_SERVER = "tests.protocols.test_server.Pipelines.test_"

CLIENTS = (
    # 6.1
    mutant(
        "failed-entry-is-tried-again", "6.1", _APPLYING,
        "            self.paused = True\n            self._fatal(e)\n            return False",
        "            return False",
        "tests.node.test_machines.ReplicatedTests.test_memory_error_stops_the_node",
    ),
    mutant(
        "applied-entry-is-applied-again", "6.1", _APPLYING,
        "        self.last_applied = entry.index\n",
        "        self.last_applied = entry.index - 1\n",
        "tests.testing.test_cluster.TestCluster.test_it_serves_on_every_member",
    ),
    # 6.2
    mutant(
        "event-of-a-descriptor-used-again", "6.2", "finn/protocols/poller.py",
        "elif fd not in fresh:", "else:",
        "tests.protocols.test_poller.PollerTests.test_a_number_that_is_used_again",
    ),
    mutant(
        "nested-turn-ends-all-connections", "6.2", "finn/protocols/poller.py",
        "except BlockingIOError:\n            pass  # a nested",
        "except OverflowError:\n            pass  # a nested",
        "tests.protocols.test_poller.PollerTests.test_calls_of_a_nested_turn",
    ),
    mutant(
        "calls-wait-in-a-poller-nobody-reads", "6.2", "finn/protocols/transport.py",
        "        poller.check()  #", "        pass  #",
        "tests.protocols.test_transport.Memory"
        ".test_whoever_listens_finds_what_was_taken_from_the_reactor",
    ),
    mutant(
        "calls-of-threads-are-lost-with-the-last-descriptor", "6.2", "finn/protocols/poller.py",
        "epoll.close()\n        if self._calls:", "epoll.close()\n        if False:",
        "tests.protocols.test_poller.PollerTests.test_calls_where_nothing_is_watched",
    ),
    mutant(
        "closing-tls-is-not-read", "7.8", "finn/protocols/output.py",
        "is_tls = ISSLTransport.providedBy(self.transport)", "is_tls = False",
        "tests.protocols.test_tls.Closing.test_quit",
    ),
    mutant(
        "replies-overtake-open-slots", "6.2", "finn/protocols/replies.py",
        "            elif head.data is None:\n                break\n",
        "            elif head.data is None:\n                pass\n",
        _SERVER + "replies_keep_order_behind_open_slots",
    ),
    mutant(
        "reply-goes-past-the-slots", "6.2", "finn/protocols/replies.py",
        "        if self._slots:\n            self._pending += 1",
        "        if False:\n            self._pending += 1",
        _SERVER + "replies_keep_order_behind_open_slots",
    ),
    mutant(
        "one-error-for-many-commands", "6.2", _RUNS,
        "self._give([encode_error(error_text(error))] * len(self.commands))",
        "self._give([encode_error(error_text(error))])",
        _PROPOSED + "what_was_not_appended_is_certainly_not_applied",
    ),
    mutant(
        "run-ends-twice", "6.2", _RUNS,
        "        if slot is not None:\n            self.slot = None\n"
        "            slot.fill(replies[0]",
        "        if slot is not None:\n            slot.fill(replies[0]",
        _OUTCOMES + "an_outcome_is_told_once",
    ),
    mutant(
        "slot-is-filled-twice", "6.2", "finn/protocols/slots.py",
        "        if self.data is not None:\n", "        if False:\n",
        _SERVER + "a_slot_is_filled_once",
    ),
    mutant(
        "transaction-is-torn-by-the-clock", "6.2", _APPLYING,
        "elif count <= COMMANDS_PER_LOOK or is_transaction:", "elif count <= COMMANDS_PER_LOOK:",
        _EXEC + "a_long_transaction_is_one_piece",
    ),
    mutant(
        "transaction-is-torn-on-followers", "6.2", _APPLYING,
        "if room <= 0 and not inside:", "if room <= 0:",
        _EXEC + "a_long_transaction_is_one_piece_on_followers",
    ),
    mutant(
        "transaction-without-its-marks", "6.2", _TRANSACTIONS,
        'payload = b"".join([_MULTI, *packed, _EXEC])', 'payload = b"".join(packed)',
        _EXEC + "a_long_transaction_is_one_piece_on_followers",
        "tests.node.test_transactions.ClusterTests.test_all_nodes_run_it",
        also=(
            Edit(
                _TRANSACTIONS,
                "node.dispatch.propose_for(connection, run, payload, len(packed) + 2)",
                "node.dispatch.propose_for(connection, run, payload, len(packed))",
            ),
        ),
    ),
    mutant(
        "transaction-with-an-error-is-run", "6.2", _TRANSACTIONS,
        "        if queued.failed:\n", "        if False:\n",
        "tests.node.test_transactions.TranscriptTests.test_node",
    ),
    mutant(
        "transaction-is-not-asked-at-its-place", "6.2", _TRANSACTIONS,
        "            if watch.dirty:\n", "            if False:\n",
        _WATCH + "a_write_before_the_place_of_a_transaction",
    ),
    mutant(
        "watch-before-its-place", "6.2", _TRANSACTIONS,
        "if self._is_all_applied() and (before is None or before.ended):",
        "if self._is_all_applied():",
        _WATCH + "a_write_before_it",
    ),
    mutant(
        "read-transaction-is-asked-too-late", "6.2", "finn/node/dispatch.py",
        "        elif isinstance(run, Transaction):\n            node.transactions.holds(run)\n",
        "",
        _WATCH + "a_write_behind_it",
    ),
    mutant(
        "half-of-a-transaction-is-seen", "6.2", _DRIVER,
        "        self._node.raft = None\n        self.turns += 1\n", "",
        _ENDINGS + "nobody_sees_half_a_transaction",
    ),
    mutant(
        "transaction-answers-after-unknown", "6.2", _APPLYING,
        "            if not run.ended:\n                run.ask",
        "            if True:\n                run.ask",
        _ENDINGS + "nothing_is_said_after_unknown",
    ),
    mutant(
        "failed-exec-asks-again", "6.2", _RUNS,
        "            if call.early or (call.reply is not None and not call.reply.filled):\n",
        "            if True:\n",
        _ENDINGS + "a_transaction_that_ends_its_node",
    ),
    mutant(
        "transaction-changes-its-connection", "6.2", "finn/node/clients.py",
        'changes=(b"SETNAME", b"SETINFO", b"KILL")', "changes=()",
        _WATCH + "what_changes_something_is_no_part_of_it",
    ),
    mutant(
        "unknown-write-forgets-its-commands", "6.7", _RUNS,
        "            self._give([encode_error(error_text(error))] * len(self.commands))\n",
        "            self.complete([encode_error(error_text(error))] * len(self.commands))\n",
        _ENDINGS + "a_write_after_its_deadline",
    ),
    mutant(
        "expired-key-is-seen-without-an-entry", "6.7", "finn/node/reading.py",
        "lambda failure: self.fail(run, failure.value)",
        "lambda failure: self._reached(run, level)",
        _ENDINGS + "an_empty_entry_that_is_withdrawn",
    ),
    mutant(
        "half-is-seen-while-it-stops", "6.2", "finn/node/service.py",
        "        self.joining.stop()\n        if self.driver is not None:\n",
        "        self.joining.stop()\n        if self.driver is not None and not is_stopping:\n",
        _ENDINGS + "a_node_that_fails_while_it_stops",
    ),
    mutant(
        "what-waits-behind-a-read-is-not-counted", "7.8", "finn/node/dispatch.py",
        "            proposals.pending_bytes += len(payload)\n", "",
        _ENDINGS + "what_waits_behind_a_read_is_bounded",
    ),
    mutant(
        "address-counts-as-told", "4.7", "finn/node/opening.py",
        "        if ending(node) is None:  # else", "        if not node.stopping:  # else",
        "tests.node.test_life.LifeTests.test_a_failure_before_the_address_is_told",
    ),
    mutant(
        "stop-before-the-amnesia", "7.1", "finn/node/opening.py",
        "        node.store_open = True\n",
        "        node.store_open = True\n        if node.stopping:\n            return\n",
        "tests.node.test_life.LifeTests.test_it_does_not_forget_that_it_forgot",
    ),
    mutant(
        "followers-call-deeper", "6.1", "finn/node/followers.py",
        "if len(levels) >= DEEPEST:", "if False:",
        _OUTCOMES + "a_long_pipeline_fails_at_once",
    ),
    mutant(
        "alike-is-not-proven", "6.2", "finn/resp/uniform.py",
        "            if (self._template * count) % tuple(arguments) != whole:\n"
        "                return None\n", "",
        "tests.resp.test_uniform.UniformTests.test_what_is_not_alike",
    ),
    mutant(
        "large-ones-are-not-proven", "6.2", "finn/resp/uniform.py",
        "            if [*self._between.iter_unpack(view)] != [self._fixed] * count:\n"
        "                return None\n", "",
        "tests.resp.test_uniform.UniformTests.test_large_ones_that_are_not_alike",
    ),
    mutant(
        "large-command-alone-is-not-proven", "6.2", "finn/resp/uniform.py",
        "            if self._between.unpack_from(data, begin) != self._fixed:\n"
        "                return None\n", "",
        "tests.resp.test_uniform.UniformTests.test_large_ones_that_are_not_alike",
        "tests.resp.test_uniform.UniformTests.test_large_payloads",
    ),
    mutant(
        "end-of-a-large-part-is-not-read", "6.2", "finn/protocols/frames.py",
        'if last[end : end + 2] == b"\\r\\n":', "if True:",
        "tests.protocols.test_frames.Frames.test_large_ones",
    ),
    mutant(
        "chunks-are-not-checksummed", "6.2", "finn/raft/entries.py",
        "        crc = crc32(chunk, crc)\n", "        crc = crc32(chunk)\n",
        "tests.raft.test_entries.EntryTests.test_chunks_do_not_matter",
    ),
    mutant(
        "command-alone-is-not-proven", "6.2", "finn/resp/uniform.py",
        "            if self._template % arguments != data:\n                return None\n", "",
        "tests.resp.test_uniform.LastCommandTests.test_any_byte_may_differ",
        "tests.resp.test_uniform.LastCommandTests.test_the_same_shape",
    ),
    mutant(
        "shape-of-a-command-outlives-the-limits", "6.2", "finn/resp/reader.py",
        "        self._alone = LastCommand()  # it says nothing of these limits\n",
        "        self._alone = getattr(self, '_alone', LastCommand())\n",
        "tests.resp.test_uniform.LastCommandTests.test_limits_that_change",
    ),
    mutant(
        "another-command-is-counted-among-them", "6.2", "finn/resp/commands.py",
        "if first[0] != self.name or len(first) != self.width + 1:", "if False:",
        "tests.resp.test_uniform.UniformTests.test_another_command_completed_before_them",
    ),
    mutant(
        "arity-of-many-is-not-checked", "6.2", "finn/node/dispatch.py",
        "else low <= commands.width + 1 <= high", "else True",
        "tests.node.test_together.TogetherTests.test_each_is_checked",
    ),
    mutant(
        "error-behind-an-ok-is-an-ok", "6.2", "finn/node/host.py",
        "if values[0] is OK and values.count(OK) == count:", "if values[0] is OK:",
        "tests.node.test_together.TogetherTests.test_results_may_be_errors",
    ),
    mutant(
        "results-are-too-few", "6.2", "finn/node/host.py",
        "        if len(values) != count:\n", "        if False:\n",
        "tests.node.test_together.TogetherTests.test_"
        + "a_wrong_number_of_results",
    ),
    # 6.3
    mutant(
        "committed-write-is-called-unknown", "6.3", _DRIVER,
        "node.proposals.forget(OutcomeUnknown(), above=raft.commit_index)",
        "node.proposals.forget(OutcomeUnknown())",
        _OUTCOMES + "what_is_committed_is_answered_after_stepping_down",
    ),
    mutant(
        "all-writes-keep-their-runs", "6.3", _PROPOSALS,
        "            if index <= above:\n", "            if True:\n",
        _PROPOSED + "what_was_not_appended_is_certainly_not_applied",
    ),
    mutant(
        "appended-write-is-told-to-try-elsewhere", "6.3", _DRIVER,
        "node.proposals.forget(OutcomeUnknown(), above=raft.commit_index)",
        "node.proposals.forget(NotLeader(raft.leader_address), above=raft.commit_index)",
        _FAILURE + "write_of_a_leader_without_a_majority_is_unknown",
    ),
    mutant(
        "another-leaders-entry-is-taken-for-ours", "6.3", _PROPOSALS,
        "        if batch.term != entry.term:\n", "        if False:\n",
        _PROPOSED + "overwritten_entry_is_unknown",
    ),
    # 6.4
    mutant(
        "nobody-waits-for-the-next-leader", "6.4", _DRIVER,
        "elif raft.leader_address or now - self._leaderless_since > LEADER_WAIT:", "else:",
        _OUTCOMES + "what_waits_learns_the_next_leader",
    ),
    mutant(
        "waits-for-a-leader-for-ever", "6.4", _DRIVER,
        "elif raft.leader_address or now - self._leaderless_since > LEADER_WAIT:",
        "elif raft.leader_address:",
        _OUTCOMES + "without_a_next_leader_the_wait_ends",
    ),
    mutant(
        "forwarded-command-finds-no-leader", "6.4", _FORWARDING,
        "        elif text.startswith(\"TRY \") and self._node.now() < item.deadline:\n",
        "        elif False:\n",
        _OUTCOMES + "a_forwarded_command_follows_the_leader",
    ),
    mutant(
        "crash-is-noticed-by-the-timeout", "6.4", "finn/node/links.py",
        "if refused and peer_id == raft.leader_id and peer_id not in self._incoming:",
        "if False:",
        "tests.testing.test_cluster.TestCluster.test_a_crash_is_survived",
    ),
    mutant(
        "stopping-leader-hands-nothing-over", "6.4", "finn/node/handover.py",
        "            raft.transfer_leadership(target, node.now())\n", "            pass\n",
        _OUTCOMES + "a_leader_that_stops_waits_for_the_next_one",
    ),
    # 6.5
    mutant(
        "committed-entry-is-overwritten", "6.5", "finn/raft/follower.py",
        "                    raft.reinstall()\n"
        "                    self._refuse(sender, message, 0, 0)\n"
        "                    return False\n                assert index > self.verified_index",
        "                assert index > self.verified_index",
        "tests.raft.test_bugs.SnapshotBugTests.test_committed_entries_are_never_truncated",
    ),
    mutant(
        "entry-is-skipped", "6.5", _APPLYING,
        "            first = self.last_applied + 1\n            entries",
        "            first = self.last_applied + 2\n            entries",
        "tests.testing.test_cluster.TestCluster.test_it_serves_on_every_member",
    ),
    # 6.6
    mutant(
        "forwarded-write-is-sent-again", "6.6", _FORWARDING,
        '                    item.run.fail(OutcomeUnknown("the link to the leader was lost"))\n',
        "                    item.peer = 0\n"
        "                    self._waiting[request_id] = item\n",
        _OUTCOMES + "a_forwarded_write_is_not_sent_twice",
    ),
    mutant(
        "client-sends-a-write-again", "6.6", "finn/client.py",
        'if not harmless and e.args != ("not connected",):', "if False:",
        _CLIENT + "a_lost_write_is_unknown",
    ),
    mutant(
        "client-follows-any-try", "6.6", "finn/client.py",
        "    except ValueError:\n        return None\n    return address",
        "    except ValueError:\n        pass\n    return address",
        _CLIENT + "an_error_that_begins_with_try",
    ),
    mutant(
        "client-tries-again-after-unknown", "6.6", "finn/client.py",
        'if text.startswith("UNKNOWN "):', "if False:",
        _CLIENT + "unknown_replies",
        also=(
            Edit(
                "finn/client.py",
                "elif text not in AGAIN:",
                'elif text not in AGAIN and not text.startswith("UNKNOWN "):',
            ),
        ),
    ),
    # 7.6
    mutant(
        "timed-out-write-stays-queued", "7.6", _PROPOSALS,
        "                del batch.runs[at]\n                batch.count -= len(run.commands)\n",
        "                del batch.runs[at]\n",
        _PROPOSED + "one_run_taken_back",
    ),
    mutant(
        "error-of-a-machine-is-a-word-of-finn", "7.6", "finn/errors.py",
        'text.split(None, 1)[:1] in (["TRY"], ["UNKNOWN"])', "False",
        "tests.node.test_words.WordTests.test_a_write_that_fails_is_run_once",
    ),
    mutant(
        "error-of-a-machine-means-again", "7.6", "finn/errors.py",
        "is_ours = text in AGAIN or", "is_ours = False or",
        "tests.node.test_words.WordTests.test_a_write_that_fails_is_run_once",
    ),
    mutant(
        "write-in-flight-is-called-withdrawn", "7.6", _PROPOSALS,
        '            batch.fail(OutcomeUnknown("request timed out after it was appended"))',
        "            batch.fail(DeadlinePassed())",
        _PROPOSED + "deadlines",
    ),
    mutant(
        "timed-out-execute-is-called-withdrawn", "7.6", _EXECUTING,
        'error = OutcomeUnknown("request timed out after it was appended")',
        "error = DeadlinePassed()",
        _OUTCOMES + "a_write_in_flight_that_times_out_is_unknown",
    ),
    mutant(
        "withdrawn-write-is-called-unknown", "7.6", _PROPOSALS,
        "            self.pending_bytes -= batch.bytes\n            batch.end(error)\n\n"
        "    def forget",
        "            self.pending_bytes -= batch.bytes\n"
        "            batch.end(OutcomeUnknown())\n\n    def forget",
        _PROPOSED + "what_was_not_appended_is_certainly_not_applied",
    ),
    mutant(
        "failed-node-is-silent", "7.6", _DRIVER,
        'self._node.proposals.forget(OutcomeUnknown(unknown))', "pass",
        _OUTCOMES + "a_failed_node_tells_the_truth",
    ),
    # 7.7
    mutant(
        "watch-sees-no-write", "7.7", _TRANSACTIONS,
        "        self._written(run.commands)\n", "",
        _FAILURE + "watch",
    ),
    mutant(
        "keys-may-be-anything", "7.7", "finn/signatures.py",
        "    if keys is not None and not (_is_of(int, keys) and len(keys) == 3):", "    if False:",
        "tests.test_signatures.OptionTests.test_keys",
    ),
    mutant(
        "write-that-names-no-keys-keeps-its-place", "7.7", "finn/node/dispatch.py",
        "                run.fail(NotApplied(f\"", "                (NotApplied(f\"",
        "tests.test_signatures.AdmissionTests.test_keys_that_cannot_be_told",
    ),
    mutant(
        "watch-refused-and-forgotten", "7.7", _TRANSACTIONS,
        "        except FinnError:\n            watch.refused = True\n",
        "        except FinnError:\n",
        _WATCH + "it_is_refused",
    ),
    mutant(
        "watch-survives-lost-leadership", "7.7", _DRIVER,
        "            node.transactions.lost_track()\n", "",
        "tests.node.test_transactions.ClusterTests.test_a_new_leader_ends_the_watch",
    ),
    mutant(
        "watch-does-not-wait-for-writes-before-it", "7.7", _TRANSACTIONS,
        "        if self._is_all_applied() and (before is None or before.ended):\n",
        "        if True:\n",
        _EXEC + "watch_waits_for_the_writes_before_it",
    ),
    mutant(
        "command-without-keys-is-no-write", "7.7", _TRANSACTIONS,
        "                for watch in self._open:\n"
        "                    watch.dirty = watch.dirty or watch.is_registered\n"
        "                return",
        "                continue",
        _EXEC + "a_write_that_names_no_keys_makes_watches_dirty",
    ),
)  # fmt: skip
