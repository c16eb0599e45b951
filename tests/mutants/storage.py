"""Mutants of the log files: damage, power loss, errors of the disk."""

from __future__ import annotations

from tests.mutants.mutant import Edit, mutant

_COMMIT = "finn/storage/commit.py"
_RECOVERY = "finn/storage/recovery.py"
_RECORDS = "finn/storage/records.py"
_SEGMENT = "finn/storage/segment.py"
_FASTLOG = "finn/storage/fastlog.py"
_TAIL = "finn/storage/tail.py"
_KV = "finn/storage/kvstore.py"
_STATE = "finn/storage/statefile.py"
_HIGH = "tests.storage.test_fastlog.HighTests.test_"
_MEDIUM = "tests.storage.test_fastlog.MediumTests.test_"
_ERRORS = "tests.storage.test_fastlog.ErrorTests.test_"
_DAMAGE = "tests.storage.test_fastlog_damage."
_POWER = "tests.storage.test_fastlog_power.PowerTests.test_"
_CONTRACT = "tests.storage.test_contract_fastlog.FastLogMedium"
_KVTESTS = "tests.storage.test_kvstore.KeyValueStoreTests.test_"
_LEVELDB = "tests.storage.test_leveldb.LevelDBTests.test_"

STORAGE = (
    # 5.11
    mutant(
        "truncated-suffix-reappears", "5.11", _RECOVERY,
        "    else:\n        truncate_image(image, header.base_index)\n",
        "    else:\n        pass\n",
        _CONTRACT, _POWER + "medium",
    ),
    mutant(
        "truncation-leaves-no-trace", "5.11", _FASTLOG,
        "        self._begin_segment(last, False)\n        self._commit.start()\n\n    def compact",
        "\n    def compact",
        _CONTRACT,
    ),
    mutant(
        "suffix-deleted-as-prefix", "5.11", "finn/storage/inmem.py",
        "self._remove(index - self.first_index, len(self._entries))",
        "self._remove(0, index - self.first_index)",
        "tests.storage.test_contract_fastlog.InMemLogTests",
    ),
    mutant(
        "database-keeps-the-suffix", "5.11", _KV,
        "            batch.delete = min(first, index), max(last, self._stored)\n", "",
        "tests.storage.test_contract.BoltContract",
        _KVTESTS + "truncation_lowers_what_is_under_way",
    ),
    mutant(
        "compacted-segments-reappear", "5.11", _RECOVERY,
        "        if found[place].header.void_before:\n", "        if False:\n",
        _CONTRACT, _POWER + "medium",
    ),
    # 5.12
    mutant(
        "corrupt-middle-is-cut", "5.12", _RECOVERY,
        "if not is_last or last_mark(file, size, e.offset, header.nonce) > e.offset:",
        "if not is_last:",
        _DAMAGE + "TailTests.test_any_flipped_bit",
        _DAMAGE + "TailTests.test_any_cut_at_all",
    ),
    mutant(
        "corrupt-older-segment-is-cut", "5.12", _RECOVERY,
        "if not is_last or last_mark(file, size, e.offset, header.nonce) > e.offset:",
        "if last_mark(file, size, e.offset, header.nonce) > e.offset:",
        _DAMAGE + "SegmentsTests.test_a_torn_segment_with_a_successor_is_corruption",
    ),
    mutant(
        "lost-newest-segment-is-not-noticed", "5.12", _RECOVERY,
        "if image.continued and not", "if False and not",
        _DAMAGE + "SegmentsTests.test_the_newest_segment_is_missing",
    ),
    mutant(
        "rewritten-segment-forgets-its-successor", "5.12", _SEGMENT,
        "twin.end, twin.end, HAS_SUCCESSOR", "twin.end, twin.end",
        _DAMAGE + "SegmentsTests.test_the_newest_segment_is_missing",
    ),
    mutant(
        "unfinished-mark-is-corruption", "5.12", _RECOVERY,
        "if not is_last and size - e.offset <= MARK_SIZE:", "if False:",
        _DAMAGE + "SegmentsTests.test_a_mark_of_a_successor_that_was_not_finished",
        _POWER + "high",
    ),
    mutant(
        "unfinished-mark-stops-compaction", "5.12", _SEGMENT,
        "Window(source, segment.end, READ_CHUNK)", "Window(source, source.size(), READ_CHUNK)",
        _DAMAGE + "SegmentsTests.test_a_mark_of_a_successor_that_was_not_finished",
    ),
    mutant(
        "mark-before-its-successor", "5.12", _TAIL,
        "            self.sync()\n        try:\n            file = make_segment",
        "            self.sync()\n"
        "            self.write(encode_mark(self._nonce, self.offset, self.offset, 1))\n"
        "        try:\n            file = make_segment",
        _POWER + "high",
    ),
    mutant(
        "mark-of-a-successor-is-not-synced", "5.12", _TAIL,
        "        self.sync()\n        self.close()", "        self.close()",
        _POWER + "a_segment_that_goes_after_a_cut_is_missed",
    ),
    mutant(
        "mark-that-a-crash-prevented-is-not-made-up-for", "5.12", _FASTLOG,
        "        if unmarked:\n", "        if False:\n",
        _POWER + "a_segment_that_goes_after_a_cut_is_missed",
        _DAMAGE + "SegmentsTests.test_the_mark_is_made_up_for",
        _DAMAGE + "SegmentsTests.test_the_newest_segment_of_an_earlier_version_is_missing",
    ),
    mutant(
        "unfinished-mark-stays", "5.12", _FASTLOG,
        "            self._tail.cut(segment.end)\n", "",
        _POWER + "a_segment_that_goes_after_a_cut_is_missed",
        _DAMAGE + "SegmentsTests.test_the_mark_is_made_up_for",
    ),
    mutant(
        "checksums-are-not-compared", "5.12", _RECORDS,
        "if crc32(memoryview(window.data)[at + 4 : at + size]) != crc:", "if False:",
        "tests.storage.test_records.ScanTests.test_any_flipped_bit_is_noticed",
    ),
    mutant(
        "payload-passes-for-a-mark", "5.12", _RECORDS,
        "(length, kind, magic, found_nonce, found_position) != (\n        0,\n        MARK,\n"
        "        _MARK_MAGIC,\n        nonce,\n        position,\n    ):",
        "(length, kind, magic) != (0, MARK, _MARK_MAGIC):",
        "tests.storage.test_records.MarkTests.test_a_mark_belongs_to_its_segment_and_place",
    ),
    mutant(
        "sync-marks-are-not-written", "5.12", _FASTLOG,
        "            self._mark = end\n", "            pass\n",
        _HIGH + "every_write_carries_the_mark_of_the_sync_before",
    ),
    mutant(
        "dropped-tail-is-not-told", "5.12", _FASTLOG,
        "self.dropped_tail = bool(self.notice)", "self.dropped_tail = False",
        _DAMAGE + "TailTests.test_any_cut_behind_the_mark",
    ),
    mutant(
        "corrupt-minority-goes-on", "5.12", "finn/node/opening.py",
        "        await node.store.open()\n",
        "        try:\n            await node.store.open()\n"
        "        except CorruptLog:\n            pass\n",
        "tests.node.test_disk.DiskTests.test_a_damaged_log_stops_the_node_and_harms_nobody",
    ),
    mutant(
        "damaged-vote-is-dropped", "5.12", _STATE,
        "            elif bad >= 0:\n", "            elif False:\n",
        "tests.storage.test_statefile.StateFileTests.test_damage_before_the_end_is_corruption",
    ),
    mutant(
        "hole-before-the-mark-is-dropped", "5.12", "finn/storage/kvengine.py",
        "if content.last < content.synced:", "if False:",
        _LEVELDB + "hole_before_the_sync_mark",
    ),
    mutant(
        "damage-found-by-a-read-is-served", "5.12", "finn/raft/entries.py",
        "if crc32(memoryview(record)[4:]) != crc:", "if False:",
        "tests.raft.test_words.EntryTests.test_damage",
        _DAMAGE + "SegmentsTests.test_damage_found_by_a_read",
    ),
    # 5.13
    mutant(
        "acknowledged-before-fsync", "5.13", _COMMIT,
        "        if self._direct:\n            return self._wait(self._write_waiters",
        "        if True:\n            return self._wait(self._write_waiters",
        _HIGH + "group_commit",
        _POWER + "high",
        also=(
            Edit(
                _COMMIT,
                "sync = self._sync_wanted or not self._direct",
                "sync = self._sync_wanted",
            ),
        ),
    ),
    mutant(
        "high-does-not-sync", "5.13", _TAIL,
        "            self._file.datasync()\n        except OSError as e:\n"
        "            raise disk_failed(\"sync\"",
        "            pass\n        except OSError as e:\n            raise disk_failed(\"sync\"",
        _POWER + "high",
    ),
    mutant(
        "medium-never-syncs", "5.13", _COMMIT,
        "        if self._timer is None and self._periodic:\n", "        if False:\n",
        _MEDIUM + "synced_once_a_second_when_dirty",
    ),
    mutant(
        "node-does-not-wait-for-the-log", "5.13", "finn/node/driver.py",
        "return self._when_durable(self.store.sync(durable), self.raft.persisted, ticket)",
        "self._when_durable(self.store.sync(durable), bool, ticket)\n"
        "        self.raft.persisted(ticket)\n        return True",
        "tests.node.test_disk.DiskTests.test_an_acknowledged_write_is_on_a_majority_of_disks",
    ),
    mutant(
        "founding-is-not-durable", "5.13", "finn/node/joining.py",
        "await store.sync(durable=True)", "await store.sync()",
        "tests.node.test_snapshots.SnapshotTests.test_a_founding_cut_short_begins_again",
    ),
    mutant(
        "sync-before-the-first-write-never-ends", "5.13", _FASTLOG,
        "        self._commit.position = (last, last.end)\n", "",
        _HIGH + "shrink_first_after_an_open",
    ),
    mutant(
        "segment-name-not-synced", "5.13", _SEGMENT,
        "        files.rename(temporary, segment.path)\n"
        "        files.sync_directory(directory)\n    except",
        "        files.rename(temporary, segment.path)\n    except",
        _POWER + "high", _POWER + "medium",
    ),
    mutant(
        "void-segments-are-removed-all-at-once", "5.13", _FASTLOG,
        "        self._unlink(image.void)\n",
        "        for path in image.void:\n            files.unlink(path)\n",
        _POWER + "power_cuts_after_void_segments_were_removed",
    ),
    mutant(
        "directory-made-before-a-crash-is-not-durable", "5.13", "finn/storage/identity.py",
        "                self._sync_parents()\n", "                pass\n",
        "tests.storage.test_identity.DirectoryLockTests."
        "test_the_directory_made_before_a_crash_is_durable",
    ),
    mutant(
        "replaced-file-name-not-synced", "5.13", "finn/storage/aside.py",
        '    files.sync_directory(os.path.dirname(path) or ".")\n', "",
        "tests.storage.test_identity.IdentityTests.test_saved_is_durable",
    ),
    mutant(
        "new-vote-file-name-not-synced", "5.13", _STATE,
        "        self._files.sync_directory(self._directory)\n", "",
        "tests.storage.test_statefile.StateFileTests.test_power_cut_at_any_change",
    ),
    mutant(
        "successor-before-its-segment-is-synced", "5.13", _TAIL,
        "        if self._file is not None:\n            self.sync()\n        try:", "        try:",
        _POWER + "low",
    ),
    mutant(
        "what-a-killed-process-wrote-is-trusted", "5.13", _TAIL,
        "        self._file.datasync()\n        self.offset = file_size",
        "        self.offset = file_size",
        _POWER + "kill_then_power_cut",
    ),
    mutant(
        "mark-of-a-killed-process-is-trusted", "5.13", _FASTLOG,
        "if len(image.segments) > 1:", "if len(image.segments) > 1 and image.unmarked:",
        _POWER + "a_segment_that_goes_after_a_cut_is_missed",
    ),
    mutant(
        "leveldb-log-just-ended-not-synced", "5.13", "finn/storage/leveldb.py",
        "                self._sync_logs()\n", "                pass\n",
        _LEVELDB + "medium_is_durable_within_a_second",
    ),
    mutant(
        "writes-during-its-sync", "5.13", _COMMIT,
        "if self._direct and not self._running and not self._queue and len(data) <= INLINE_BYTES:",
        "if self._direct and not self._queue and len(data) <= INLINE_BYTES:",
        _MEDIUM + "no_write_while_a_sync_runs",
    ),
    # 5.14
    mutant(
        "failed-sync-is-tried-again", "5.14", _COMMIT,
        "            self.failed = error\n", "            pass\n",
        _ERRORS + "failing_sync",
        also=(
            Edit(_COMMIT, "waiter.errback(self.failed)", "waiter.errback(error)"),
        ),
    ),
    mutant(
        "log-is-removed-behind-a-failure", "5.14", _TAIL,
        "            self._failure = e\n", "",
        _ERRORS + "nothing_is_removed_once_a_segment_cannot_be_begun",
    ),
    mutant(
        "what-a-failed-sync-left-is-trusted", "5.14", "finn/storage/tail.py",
        "        self._files.rewrite(segment.path, segment.synced)\n", "",
        _ERRORS + "what_a_failed_sync_left_is_written_anew",
    ),
    mutant(
        "marks-name-nothing", "5.14", "finn/storage/recovery.py",
        "            segment.synced = index\n", "            segment.synced = segment.end\n",
        _ERRORS + "what_a_failed_sync_left_is_written_anew",
    ),
    mutant(
        "vote-that-a-failed-sync-left-is-trusted", "5.14", "finn/storage/statefile.py",
        "        if not self.notice:\n            self._write_anew",
        "        if False:\n            self._write_anew",
        _ERRORS + "a_vote_that_a_failed_sync_left_is_written_anew",
    ),
    mutant(
        "failed-open-leaves-files-open", "5.14", _FASTLOG,
        "return self._commit.submit(self._close).addBoth(lambda _: self._why_not_opened(failure))",
        "return self._why_not_opened(failure)",
        _ERRORS + "an_open_that_fails_leaves_no_file_open",
    ),
    mutant(
        "failed-vote-is-tried-again", "5.14", _FASTLOG,
        "        self._commit.fail(error)\n", "",
        _ERRORS + "failing_save_of_the_state",
    ),
    mutant(
        "failed-database-is-tried-again", "5.14", _KV,
        "            self._failure = error\n", "            return error\n",
        _KVTESTS + "failed_write",
    ),
    mutant(
        "node-survives-a-failed-sync", "5.14", "finn/node/driver.py",
        "deferred.addCallbacks(done, lambda failure: self._node.fatal(failure.value))",
        "deferred.addCallbacks(done, lambda failure: done(None))",
        "tests.node.test_disk.DiskTests.test_a_failing_sync_stops_the_node",
    ),
    mutant(
        "failed-stop-counts-as-clean", "5.14", "finn/node/stopping.py",
        "            clean = False\n", "            pass\n",
        "tests.node.test_disk.DiskTests.test_a_stop_with_a_failing_disk_is_not_clean",
    ),
)  # fmt: skip
