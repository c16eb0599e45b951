"""Mutants of snapshots: taken, sent, installed, restored, and the log behind them."""

from __future__ import annotations

from tests.mutants.mutant import Edit, mutant

_CORE = "finn/raft/snapshots.py"
_DECLARATIVE = "finn/declarative.py"
_TAKING = "finn/node/snapshotting.py"
_TRANSFERS = "finn/node/transfers.py"
_OPENING = "finn/node/opening.py"
_SINK = "finn/storage/sink.py"
_STORE = "finn/storage/snapshots.py"
_TRANSFER = "finn/protocols/transfer.py"
_BUGS = "tests.raft.test_bugs.SnapshotBugTests.test_"
_PAPER = "tests.raft.test_paper.InstallSnapshotTests.test_"
_METHODS = "tests.test_state.MethodTests.test_"
_PLACES = "tests.test_state.PlaceTests.test_"
_NAMES = "tests.test_state.NameTests.test_"
_NODE = "tests.node.test_snapshots.SnapshotTests.test_"
_ROTTEN = "tests.node.test_transfers.Rotten.test_"
_FILES = "tests.storage.test_snapshots.SnapshotStoreTests.test_"
_WIRE = "tests.protocols.test_transfer.Transfers.test_"
_FAR_BEHIND = "tests.node.test_failure.FailureTests.test_a_far_behind_member_gets_a_snapshot"
_RESTART = (
    "tests.node.test_machines.ReplicatedTests.test_clock_and_chance_survive_snapshot_and_restart"
)

SNAPSHOTS = (
    # 5.1
    mutant(
        "state-is-not-restored", "5.1", _TAKING,
        "steps = node.host.restore(reader)", "steps = None",
        _RESTART, _FAR_BEHIND,
    ),
    mutant(
        "state-in-slots-is-not-looked-for", "5.1", _DECLARATIVE,
        "        if inspect.ismemberdescriptor(value):", "        if False:",
        _PLACES + "slots",
    ),
    mutant(
        "state-in-the-class-is-not-looked-for", "5.1", _DECLARATIVE,
        "        if isinstance(value, _MUTABLE) and", "        if False and",
        _PLACES + "what_can_be_changed_in_the_class",
    ),
    mutant(
        "snapshot-may-do-nothing", "5.1", _DECLARATIVE,
        "    if steps is None or isinstance(steps, Generator):\n        return steps\n",
        "    return steps if isinstance(steps, Generator) else None\n",
        _METHODS + "what_they_return", _METHODS + "a_snapshot_that_is_not_written",
    ),
    mutant(
        "snapshot-nobody-reads-is-taken", "5.1", _DECLARATIVE,
        "        if any(name in vars(c) for c in owners) and", "        if False and",
        _METHODS + "one_without_the_other",
    ),
    mutant(
        "log-is-not-replayed", "5.1", "finn/node/applying.py",
        "self.host.execute(commands, call, 0, None, False)", "pass",
        "tests.testing.test_cluster.TestCluster.test_a_crash_is_survived",
    ),
    mutant(
        "log-is-thrown-away-at-start", "5.1", _OPENING,
        "        if identity.cluster_id == 0:\n            founded",
        "        if True:\n            founded",
        "tests.testing.test_cluster.TestCluster.test_a_loss_of_power_is_survived_at_high",
        _NODE + "everything_survives_a_restart_of_all",
    ),
    # 5.2
    mutant(
        "conflicting-log-is-kept", "5.2", _CORE,
        "if raft.reinstalling or (index > raft.commit_index and log.term_at(index) != term):",
        "if raft.reinstalling or (index > raft.commit_index and log.last_index < index):",
        _BUGS + "conflicting_log_is_discarded",
        _PAPER + "rule_7",
    ),
    mutant(
        "log-behind-a-snapshot-is-discarded", "5.2", _CORE,
        "if raft.reinstalling or (index > raft.commit_index and log.term_at(index) != term):",
        "if True:",
        _PAPER + "rule_6",
    ),
    # 5.3
    mutant(
        "gap-is-accepted", "5.3", "finn/raft/log.py",
        "if first_index > snapshot_index + 1:", "if False:",
        "tests.raft.test_log.RaftLogTests.test_gap_is_refused",
    ),
    mutant(
        "node-starts-over-a-gap", "5.3", _OPENING,
        "if store.first_index > index + 1:", "if False:",
        _NODE + "a_gap_behind_the_snapshot_is_refused_with_one_line",
    ),
    mutant(
        "short-log-outlives-a-snapshot", "5.3", "finn/raft/log.py",
        "if self._stored_term(snapshot_index) != snapshot_term:", "if False:",
        _BUGS + "crash_between_installing_and_the_log",
    ),
    mutant(
        "segment-gap-is-accepted", "5.3", "finn/storage/recovery.py",
        "if after.header.number != before.header.number + 1:", "if False:",
        "tests.storage.test_fastlog_damage.SegmentsTests.test_a_missing_segment_is_corruption",
    ),
    # 5.4
    mutant(
        "log-without-term-and-vote", "5.4", "finn/storage/fastlog.py",
        "            if not has_state:\n                raise CorruptLog(",
        "            if False:\n                raise CorruptLog(",
        "tests.storage.test_fastlog_damage.SegmentsTests.test_missing_state",
    ),
    mutant(
        "term-and-vote-without-log", "5.4", "finn/storage/fastlog.py",
        "if state_file.state.term:", "if False:",
        "tests.storage.test_fastlog_damage.SegmentsTests.test_missing_log",
    ),
    mutant(
        "cluster-id-before-its-entry", "5.4", "finn/node/joining.py",
        "        await node.standing.save_identity()\n        return entry",
        "        return entry",
        _NODE + "a_founding_cut_short_begins_again",
        also=(
            Edit(
                "finn/node/joining.py",
                "        await store.save_state(HardState(1, 0))\n",
                "        node.identity.cluster_id = node.standing.new_cluster_id()\n"
                "        node.identity.joined = True\n"
                "        await node.standing.save_identity()\n"
                "        await store.save_state(HardState(1, 0))\n",
            ),
            Edit(
                "finn/node/joining.py",
                "        await store.sync(durable=True)\n"
                "        node.identity.cluster_id = node.standing.new_cluster_id()\n",
                "        await store.sync(durable=True)\n",
            ),
        ),
    ),
    # 5.5
    mutant(
        "entries-while-a-snapshot-is-needed", "5.5", "finn/raft/follower.py",
        "        if raft.reinstalling:\n            self._refuse(sender, message, 0, 0)\n"
        "            return\n",
        "",
        _BUGS + "committed_entries_are_never_truncated",
    ),
    mutant(
        "applies-while-installing", "5.5", _TRANSFERS,
        "            node.applying.pause()\n", "",
        _FAR_BEHIND,
    ),
    mutant(
        "snapshot-while-one-loads", "5.5", _TRANSFERS,
        "if raft is None or self._stopped or node.snapshots.restoring:",
        "if raft is None or self._stopped:",
        _NODE + "no_second_snapshot_while_one_loads",
    ),
    mutant(
        "old-snapshot-is-wanted", "5.5", _CORE,
        "if index > raft.commit_index and raft.log.term_at(index) != snapshot_term:", "if True:",
        _BUGS + "old_snapshot_is_not_wanted",
    ),
    mutant(
        "outdated-snapshot-replaces-the-state", "5.5", _TRANSFERS,
        "outdated = meta.index <= node.applying.last_applied and not raft.reinstalling",
        "outdated = False",
        _NODE + "a_snapshot_that_was_overtaken_changes_nothing",
    ),
    # 5.6
    mutant(
        "any-chunk-is-the-next", "5.6", _TRANSFER,
        "if message.offset != sink.received:", "if False:",
        _WIRE + "a_bad_chunk_is_not_taken",
    ),
    mutant(
        "other-snapshot-goes-on-with-old-bytes", "5.6", _TRANSFER,
        "        if key == _key(meta):\n", "        if True:\n",
        _WIRE + "another_snapshot_does_not_go_on_with_the_old_bytes",
    ),
    mutant(
        "older-leader-replaces-a-transfer", "5.6", _TRANSFER,
        "if running is not None and (running.finishing or running.term > offer.term):",
        "if running is not None and running.finishing:",
        _WIRE + "an_older_leader_cannot_replace_a_transfer",
    ),
    mutant(
        "bytes-behind-the-handshake-are-lost", "5.6", "finn/protocols/link.py",
        "        if rest and not self._closing:\n", "        if False:\n",
        "tests.protocols.test_link.Handshakes.test_messages_behind_the_acceptance_are_not_lost",
    ),
    # 5.7
    mutant(
        "snapshot-keeps-the-log-waiting", "5.7", "finn/node/opening.py",
        "node.options, node.files, node.snapshot_disk, node.wall_ms",
        "node.options, node.files, node.disk, node.wall_ms",
        "tests.node.test_life.RealTests.test_a_snapshot_whose_disk_hangs",
    ),
    mutant(
        "ill-follower-pins-the-log-for-ever", "5.7", _TRANSFERS,
        "if self._node.store.log_bytes > MAX_PINNED_BYTES:", "if False:",
        _NODE + "a_transfer_pins_the_log_within_a_bound",
    ),
    mutant(
        "running-transfer-pins-nothing", "5.7", _TRANSFERS,
        "return min([index, *self._pins.values()])", "return index",
        _NODE + "a_transfer_pins_the_log_within_a_bound",
    ),
    mutant(
        "compacted-entries-are-waited-for", "5.7", "finn/raft/replication.py",
        "self._raft.out.want_snapshot(pr.peer)", "pass",
        _PAPER + "sent_when_the_log_is_compacted",
    ),
    mutant(
        "snapshot-that-cannot-be-noted-is-never-over", "5.7", _TAKING,
        "        except BaseException as e:\n"
        '            self.log.failure("the machine failed to write a snapshot")\n'
        '            self._abort(CommandError(f"ERR snapshot failed: {e}"))\n'
        "            return\n        self._write(steps, sink, bytes_applied)\n",
        "        except BaseException as e:\n"
        '            self.log.failure("the machine failed to write a snapshot")\n'
        "            if self._sink is None:\n                raise\n"
        '            self._abort(CommandError(f"ERR snapshot failed: {e}"))\n'
        "            return\n        self._write(steps, sink, bytes_applied)\n",
        _NODE + "a_machine_that_cannot_be_noted",
    ),
    mutant(
        "any-version-is-noted", "5.7", _DECLARATIVE,
        "    if not isinstance(version, int) or isinstance(version, bool) or version < 0:",
        "    if False:",
        _NAMES + "versions",
    ),
    mutant(
        "any-name-is-noted", "5.7", _DECLARATIVE,
        "    if not (isinstance(name, str) and name):", "    if False:",
        _NAMES + "names",
    ),
    mutant(
        "snapshot-takes-no-file", "5.7", _DECLARATIVE,
        "inspect.signature(method, follow_wrapped=False).bind(*parameters)", "pass",
        _METHODS + "those_that_cannot_be_called",
        _METHODS + "the_command_of_the_other_style",
    ),
    # 5.8
    mutant(
        "snapshot-state-not-synced", "5.8", _SINK,
        "        file.datasync()\n        self._close()", "        self._close()",
        _FILES + "power_cut_at_every_change",
    ),
    mutant(
        "snapshot-meta-not-synced", "5.8", _SINK,
        "            file.write(encode_meta(meta))\n            file.datasync()\n",
        "            file.write(encode_meta(meta))\n",
        _FILES + "power_cut_at_every_change",
    ),
    mutant(
        "snapshot-names-not-synced", "5.8", _SINK,
        "        self._files.sync_directory(self._directory)\n", "",
        _FILES + "power_cut_at_every_change",
    ),
    mutant(
        "snapshot-is-not-written-aside", "5.8", _SINK,
        "self._aside = self._path + TEMPORARY", "self._aside = self._path",
        _FILES + "power_cut_at_every_change",
        _FILES + "layout",
        also=(Edit(_SINK, "self._files.rename(self._aside, self._path)", "pass"),),
    ),
    mutant(
        "snapshot-is-removed-in-place", "5.8", _STORE,
        "        self._files.rename(path, path + TEMPORARY)\n"
        "        self._files.sync_directory(self._directory)\n"
        "        self._files.rmtree(path + TEMPORARY)\n",
        "        self._files.rmtree(path)\n",
        _FILES + "power_cut_at_every_change",
    ),
    mutant(
        "segment-header-not-synced", "5.8", "finn/storage/segment.py",
        "        file.datasync()\n        files.rename(temporary, segment.path)",
        "        files.rename(temporary, segment.path)",
        "tests.storage.test_fastlog_power.PowerTests.test_high",
        "tests.storage.test_fastlog_power.PowerTests.test_medium",
    ),
    # 5.9
    mutant(
        "snapshot-names-what-is-committed", "5.9", _TAKING,
        "            applying.last_applied, applying.last_term, applying.last_time,\n",
        "            node.raft.commit_index, applying.last_term, applying.last_time,\n",
        _NODE + "a_snapshot_is_of_whole_entries",
    ),
    mutant(
        "snapshot-in-the-middle-of-an-entry", "5.9", _TAKING,
        "node.applying.between_entries(self._freeze)", "self._freeze()",
        _NODE + "a_snapshot_is_of_whole_entries",
    ),
    mutant(
        "short-entry-is-never-half-applied", "5.9", "finn/node/applying.py",
        "steps = self._steps = _NO_STEPS", "steps = _NO_STEPS",
        _NODE + "a_snapshot_asked_for_within_an_entry",
    ),
    mutant(
        "nested-turn-applies-the-entry-again", "5.9", "finn/node/applying.py",
        "        if self._is_running:\n", "        if False:\n",
        "tests.node.test_overtaken.Overtaken.test_a_nested_turn_within_an_entry",
    ),
    mutant(
        "restored-state-has-another-index", "5.9", _TAKING,
        "node.applying.start_at(meta.index, meta.term", "node.applying.start_at(0, meta.term",
        _RESTART,
    ),
    # 5.10
    mutant(
        "log-behind-the-older-snapshot-goes", "5.10", _TAKING,
        "        index = metas[0].index\n        if trailing_bytes:",
        "        index = metas[-1].index\n        if trailing_bytes:",
        _NODE + "a_damaged_newest_snapshot_falls_back_to_the_older",
    ),
    mutant(
        "log-goes-with-the-first-snapshot", "5.10", _TAKING,
        "        if len(metas) < 2:\n            return", "        if False:\n            return",
        _NODE + "a_damaged_only_snapshot_falls_back_to_the_log",
    ),
    mutant(
        "damaged-snapshot-is-trusted", "5.10", _STORE,
        '            return "" if crc == meta.crc else "its checksum is wrong"',
        '            return ""',
        _FILES + "bad_newest_is_set_aside",
        _NODE + "a_damaged_newest_snapshot_falls_back_to_the_older",
    ),
    mutant(
        "received-snapshot-is-not-checked", "5.10", _SINK,
        "            if self._crc != meta.crc:\n", "            if False:\n",
        _FILES + "received_snapshot_is_checked",
    ),
    mutant(
        "snapshot-of-another-machine-is-restored", "5.10", _TAKING,
        "if meta.machine != node.host.name or meta.version > node.host.version:", "if False:",
        _NODE + "a_snapshot_of_another_machine_is_refused",
    ),
    mutant(
        "newer-snapshot-is-stored-first", "5.10", _TRANSFERS,
        "                node.snapshots.check_writer(meta)\n", "                pass\n",
        _NODE + "a_snapshot_of_a_newer_version_is_not_stored",
    ),
    mutant(
        "log-gives-way-to-a-newer-snapshot", "5.10", _OPENING,
        "        node.snapshots.check_writer(meta)\n", "",
        _NODE + "the_log_does_not_give_way_to_a_newer_version",
    ),
    mutant(
        "rotten-snapshot-is-sent-for-ever", "5.10", _TRANSFERS,
        "            await node.snapshots.doubt(meta)\n", "",
        _ROTTEN + "it_is_replaced",
    ),
    mutant(
        "rotten-snapshot-is-the-newest", "5.10", _TAKING,
        "newest.index >= applying.last_applied and not self.is_bad(newest):",
        "newest.index >= applying.last_applied:",
        _ROTTEN + "it_is_replaced",
    ),
    mutant(
        "only-snapshot-is-set-aside", "5.10", _TAKING,
        "if self._node.store.first_index <= max(others, default=0) + 1:", "if True:",
        _ROTTEN + "the_only_one_stays_until_there_is_another",
    ),
    mutant(
        "look-that-fails-finds-a-good-snapshot", "5.10", _TAKING,
        "        reason = await self.store.check(meta)\n"
        "        self._trusted = meta.id, now + TRUST\n",
        "        self._trusted = meta.id, now + TRUST\n"
        "        reason = await self.store.check(meta)\n",
        _ROTTEN + "a_look_that_fails_tells_nothing",
    ),
    mutant(
        "good-snapshot-is-checked-again-and-again", "5.10", _TAKING,
        "if self.is_bad(meta) or (meta.id == trusted and now < until):", "if False:",
        _ROTTEN + "a_receiver_that_is_broken",
    ),
)  # fmt: skip
