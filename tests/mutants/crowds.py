"""Mutants of what runs the commands of several clients together."""

from __future__ import annotations

from tests.mutants.mutant import Edit, mutant

_GATHERING = "finn/protocols/crowd.py"
_CONNECTION = "finn/protocols/connection.py"
_REPLIES = "finn/protocols/replies.py"
_POLLER = "finn/protocols/poller.py"
_CROWD = "finn/node/crowd.py"
_RUNS = "finn/node/runs.py"
_HOST = "finn/node/host.py"
_GATHERED = "tests.protocols.test_crowd.Crowds.test_"
_STATES = _GATHERED + "states_in_which_a_client_is_not_gathered"
_POLLED = "tests.protocols.test_poller.PollerTests.test_"
_WRITES = "tests.node.test_crowd.Writes.test_"
_READS = "tests.node.test_crowd.Reads.test_"
_LARGE = "tests.node.test_crowd_large.Large.test_"
_OTHERS = "tests.node.test_crowd.Others.test_"
_ENDS = "tests.node.test_runs.CrowdRunTests.test_"

CROWDS = (
    # 3.2
    mutant(
        "crowd-reads-without-a-lease", "3.2", _CROWD,
        "elif node.reading.at_once(level, part):", "elif True:",
        _READS + "a_round_for_all", _READS + "without_a_majority",
    ),
    mutant(
        "lease-is-not-looked-at-again-in-a-pipeline", "3.2", "finn/node/dispatch.py",
        "while not connection.has_pending and node.reading.at_once(level, commands):",
        "while not connection.has_pending and (total or node.reading.at_once(level, commands)):",
        _LARGE + "a_lease_that_ends_meanwhile",
    ),
    # 6.4
    mutant(
        "crowd-keeps-the-reactor-for-slow-reads", "6.4", _CROWD,
        "return route.spec.pipelined is not None and size == route.low", "return True",
        _OTHERS + "reads_that_may_take_long",
    ),
    mutant(
        "crowd-reads-for-any-time", "6.4", _CROWD,
        "if node.now() > time_is_up:", "if False:",
        _LARGE + "reads_that_take_long",
    ),
    mutant(
        "slow-commands-are-gathered", "6.4", _GATHERING,
        " or not self._factory.dispatcher.gathers(command):", ":",
        _GATHERED + "commands_that_may_take_long", _OTHERS + "reads_that_may_take_long",
    ),
    # 6.2
    mutant(
        "crowd-mixes-versions-of-the-protocol", "6.2", _GATHERING,
        "elif crowd.resp3 is not connection.resp3:", "elif False:",
        _GATHERED + "versions_of_the_protocol_are_not_mixed",
    ),
    mutant(
        "crowd-speaks-the-older-protocol-only", "6.2", _HOST,
        "        null = NULL_RESP3 if resp3 else NULL_REPLY\n        return [",
        "        null = NULL_REPLY\n        return [",
        _READS + "the_newer_protocol",
    ),
    mutant(
        "crowd-takes-commands-of-other-sizes", "6.2", _GATHERING,
        "if rest or count > LONGEST", "if count > LONGEST",
        _GATHERED + "what_is_of_another_size_is_handled_at_once",
    ),
    mutant(
        "crowd-counts-by-another-shape", "6.2", _GATHERING,
        "            return self.take(connection, data)  #", "            pass  #",
        _GATHERED + "another_shape_is_learned_while_a_piece_is_taken",
    ),
    mutant(
        "crowd-changes-its-shape-while-pieces-wait", "6.2", _GATHERING,
        "if (crowd is not None and crowd.members) or not", "if not",
        _GATHERED + "the_shape_is_not_changed_while_pieces_wait",
    ),
    mutant(
        "crowd-runs-commands-of-closed-clients", "6.2", _GATHERING,
        "is_open = not any(member.closing for member in members)", "is_open = True",
        _GATHERED + "a_client_that_is_closed_meanwhile",
    ),
    mutant(
        "crowd-that-is-refused-gets-no-replies", "6.2", _GATHERING,
        "(members, counts, commands, raw):\n                return False",
        "(members, counts, commands, raw):\n                return True",
        _GATHERED + "commands_that_the_node_takes_one_by_one", _OTHERS + "on_a_follower",
    ),
    mutant(
        "crowd-fails-in-silence", "6.2", _GATHERING,
        "self._guard(member, member.fail)", "pass",
        _GATHERED + "a_failure_ends_the_clients_it_concerns",
    ),
    mutant(
        "crowd-is-lost-with-one-of-it", "6.2", _GATHERING,
        "        except BaseException:\n            # As from",
        "        except OverflowError:\n            # As from",
        _GATHERED + "one_that_fails_when_it_is_read_alone",
    ),
    mutant(
        "crowd-gets-the-replies-of-its-first", "6.2", _CROWD,
        "execute(commands, connections[0].resp3, counts)",
        "execute(commands, connections[0].resp3)",
        _READS + "with_a_lease_nobody_waits",
    ),
    mutant(
        "crowd-that-waits-gets-the-replies-of-its-first", "6.2", "finn/node/reading.py",
        "run.resp3, run.parts, NO_LIMIT)", "run.resp3, None, NO_LIMIT)",
        _READS + "a_round_for_all",
    ),
    mutant(
        "crowd-that-writes-gets-the-replies-of-its-first", "6.2", "finn/node/applying.py",
        "replies, run.resp3, run.parts)", "replies, run.resp3)",
        _WRITES + "one_entry_for_all",
    ),
    mutant(
        "crowd-shares-one-reply", "6.2", _RUNS,
        'return [b"".join(islice(rest, count)) for count in parts]',
        'return [b"".join(islice(rest, 1)) for count in parts]',
        _WRITES + "everybody_gets_the_own_replies", _ENDS + "errors",
    ),
    mutant(
        "crowd-ends-twice", "6.2", _RUNS,
        "            self.slot = None\n            for slot, data", "            for slot, data",
        _ENDS + "it_ends_once",
    ),
    mutant(
        "crowd-is-asked-for-anything-and-says-pong", "6.2", _CROWD,
        "        assert route is self._ping\n", "",
        _OTHERS + "local_commands", _OTHERS + "mistakes",
        also=(Edit(_CROWD, "(route is self._ping and size == 1)", "size == 1"),),
    ),
    mutant(
        "gathered-is-what-comes-alone", "6.2", _CONNECTION,
        "if factory.batch.crowded or self.is_gathered:", "if True:",
        _GATHERED + "an_event_that_comes_alone_is_handled_at_once",
    ),
    mutant(
        "gathered-within-a-command", "6.2", _CONNECTION,
        "            and self._reader.idle\n", "",
        _GATHERED + "a_key_that_looks_like_a_command",
    ),
    mutant(
        "gathered-within-a-transaction", "6.2", _CONNECTION,
        "            and self.transaction is None\n", "", _STATES, _OTHERS + "mistakes",
    ),
    mutant(
        "gathered-without-authentication", "6.2", _CONNECTION,
        "            and self.authenticated\n", "", _STATES,
    ),
    mutant(
        "gathered-before-it-is-known-who-it-is", "6.2", _CONNECTION,
        "            self.gathers\n            and not self._slots", "            not self._slots",
        _STATES, _GATHERED + "one_client_cannot_spoil_it_for_all",
    ),
    mutant(
        "last-of-the-events-is-forgotten", "6.2", _POLLER,
        "        while self._at_end:\n            self._call(self._at_end.pop(0))\n", "",
        _POLLED + "the_end_is_like_a_last_event",
    ),
    mutant(
        "last-of-the-events-comes-behind-them", "6.2", _POLLER,
        "        while self._at_end:\n            self._call(self._at_end.pop(0))\n"
        "        self.handling = self.crowded = False\n",
        "        self.handling = self.crowded = False\n"
        "        while self._at_end:\n            self._call(self._at_end.pop(0))\n",
        _POLLED + "the_end_is_like_a_last_event",
    ),
    mutant(
        "last-of-the-events-fails-and-ends-the-poller", "6.2", _POLLER,
        "self._call(self._at_end.pop(0))", "self._at_end.pop(0)()",
        _POLLED + "an_end_that_fails_ends_nothing_else",
    ),
    mutant(
        "one-client-spoils-all-crowds", "6.2", _GATHERING,
        "member.gathers = False", "pass",
        _GATHERED + "one_client_cannot_spoil_it_for_all",
    ),
    mutant(
        "crowd-hangs-behind-one-that-fails", "6.2", _GATHERING,
        "        except BaseException:\n            self.log.failure(\"commands of",
        "        except Exception:\n            self.log.failure(\"commands of",
        _GATHERED + "a_failure_ends_the_clients_it_concerns",
    ),
    mutant(
        "answer-that-cannot-be-written-ends-all", "6.2", _REPLIES,
        "        except Exception:\n", "        except OverflowError:\n",
        _GATHERED + "an_answer_that_cannot_be_written",
    ),
    mutant(
        "read-that-fails-ends-its-neighbours", "6.2", "finn/node/reading.py",
        "            alone = ", "            raise\n            alone = ",
        _OTHERS + "reads_that_would_end_a_node",
    ),
    mutant(
        "read-that-fails-ends-the-node", "6.2", "finn/node/reading.py",
        "        except BaseException as e:\n            return host",
        "        except OverflowError as e:\n            return host",
        _OTHERS + "reads_that_would_end_a_node",
    ),
    # 7.4
    mutant(
        "what-comes-while-a-crowd-is-run-is-first", "7.4", _GATHERING,
        "        if connection.is_gathered:\n            self._beyond",
        "        if False:\n            self._beyond",
        _GATHERED + "what_comes_while_commands_are_run",
    ),
    mutant(
        "what-comes-while-a-crowd-is-run-is-first-in-the-next", "7.4", _GATHERING,
        "            if member.is_gathered:\n", "            if False:\n",
        _GATHERED + "what_comes_while_commands_are_run",
    ),
    mutant(
        "end-of-a-client-overtakes-its-command", "7.4", _CONNECTION,
        "        if self.is_gathered:\n            self.factory",
        "        if False:\n            self.factory",
        _GATHERED + "clients_that_end_their_side_behind_a_command",
    ),
    mutant(
        "server-closes-before-what-is-gathered", "7.4", "finn/protocols/server.py",
        "        self.crowds.run()\n", "",
        _GATHERED + "clients_that_end_their_side_behind_a_command",
    ),
    mutant(
        "gathered-before-what-it-waits-for", "7.4", _CONNECTION,
        "            and not self._slots\n", "",
        _GATHERED + "a_client_that_waits_is_not_gathered",
    ),
    mutant(
        "gathered-before-its-replies-are-written", "7.4", _CONNECTION,
        "            and not self._out\n", "", _STATES,
    ),
    mutant(
        "second-piece-is-handled-first", "7.4", _CONNECTION,
        "        if self.is_gathered:\n            # TLS", "        if False:\n            # TLS",
        _GATHERED + "a_second_piece_keeps_its_place",
    ),
    mutant(
        "gathered-and-nobody-knows", "7.4", _GATHERING,
        "connection.is_gathered = True", "pass",
        _GATHERED + "a_second_piece_keeps_its_place",
        _GATHERED + "nothing_is_run_before_the_last_event",
    ),
    mutant(
        "answer-overtakes-slots", "7.4", _REPLIES,
        "            if self._slots or self._out:\n", "            if self._out:\n",
        _GATHERED + "replies_are_in_order_with_what_is_queued",
    ),
    mutant(
        "answer-overtakes-replies", "7.4", _REPLIES,
        "            if self._slots or self._out:\n", "            if self._slots:\n",
        _GATHERED + "replies_are_in_order_with_what_is_queued",
    ),
    mutant(
        "crowd-is-not-waited-for", "7.4", _CROWD,
        "            connection.last_run = run\n", "",
        _WRITES + "a_client_sees_what_it_wrote", _READS + "a_write_behind_a_read",
    ),
    mutant(
        "crowd-never-ends-for-those-behind-it", "7.4", _RUNS,
        "                slot.fill(data)\n            if self.followers is not None:\n"
        "                self._go_on()\n",
        "                slot.fill(data)\n",
        _READS + "a_write_behind_a_read", _ENDS + "it_ends_once",
    ),
    # 7.8
    mutant(
        "gathered-though-it-is-not-read", "7.8", _CONNECTION,
        "            and not self._paused\n", "", _STATES,
    ),
    mutant(
        "gathered-though-it-takes-nothing", "7.8", _CONNECTION,
        "            and not self.owed\n", "", _STATES,
    ),
    mutant(
        "crowd-takes-pieces-of-any-size", "7.8", _GATHERING,
        "            if count > crowd.most:\n                return False\n", "",
        _GATHERED + "more_than_fits_at_all",
    ),
    mutant(
        "crowd-takes-long-pipelines", "7.8", _GATHERING,
        "count > LONGEST or ", "",
        _LARGE + "few_at_a_time",
    ),
    mutant(
        "crowd-takes-more-than-a-portion", "7.8", _GATHERING,
        "or count > connection.portion:", ":",
        _LARGE + "few_at_a_time",
    ),
    mutant(
        "crowd-of-any-size", "7.8", _GATHERING,
        "if crowd.count + count > crowd.most:", "if False:",
        _GATHERED + "many_commands_are_run_before_the_end",
    ),
    mutant(
        "kinds-are-kept-for-ever", "7.8", _GATHERING,
        "if crowd is None and len(self._kinds) >= KINDS:", "if False:",
        _GATHERED + "kinds_are_forgotten_when_there_are_too_many",
    ),
    mutant(
        "answer-is-not-counted", "7.8", _REPLIES,
        "                self._account()\n                self._bound()\n",
        "                self._bound()\n",
        _GATHERED + "an_answer_that_is_not_taken_is_owed",
    ),
    mutant(
        "answer-has-no-bound", "7.8", _REPLIES,
        "                self._account()\n                self._bound()\n",
        "                self._account()\n",
        _GATHERED + "an_answer_that_is_not_taken_is_owed",
    ),
    mutant(
        "crowd-writes-without-a-bound", "7.8", _CROWD,
        "if node.proposals.full:", "if False:",
        _WRITES + "clients_wait_while_there_is_too_much",
    ),
    mutant(
        "crowd-reads-large-values-all-at-once", "7.8", _CROWD,
        "portion = min(portion, connections[last].portion)", "portion = 64",
        _LARGE + "portions",
    ),
    mutant(
        "crowd-is-one-portion", "7.8", _CROWD,
        "if end + counts[last] - begin > portion:", "if False:",
        _LARGE + "portions",
    ),
    mutant(
        "reads-run-on-behind-a-large-reply", "7.8", _HOST,
        "                limit -= len(reply)\n", "",
        _LARGE + "large_replies_behind_small_ones",
    ),
    mutant(
        "large-results-are-replies-all-at-once", "7.8", _HOST,
        "sum(map(len, filter(None, values))) <= limit", "True",
        _LARGE + "large_replies_behind_small_ones",
    ),
    mutant(
        "reads-one-by-one-have-no-bound", "7.8", "finn/node/reading.py",
        "[*up_to(limit, alone)]", "[*alone]",
        _LARGE + "large_replies_of_reads_that_fail",
    ),
    mutant(
        "rest-of-a-client-in-a-crowd-is-lost", "6.2", _CROWD,
        "            if end > done:", "            if False:",
        _LARGE + "clients_of_a_crowd_whose_replies_do_not_fit",
    ),
    mutant(
        "answer-says-nothing-of-its-size", "7.8", _REPLIES,
        "            self._write(data)\n            if",
        "            self._output.write(data)\n            if",
        _LARGE + "portions",
    ),
    mutant(
        "crowd-that-was-answered-is-not-applied", "7.6", _RUNS,
        "        self._give([encode_error(error_text(error))] * len(self.commands))\n",
        "        self.complete([encode_error(error_text(error))] * len(self.commands))\n",
        "tests.node.test_crowd.LostLeadership.test_writes_that_time_out_are_applied_all_the_same",
    ),
    mutant(
        "clients-pin-the-crowd-of-their-last-command", "7.8", _RUNS,
        "        self._give(replies)\n        self.drop()\n", "        self._give(replies)\n",
        _ENDS + "replies",
    ),
)  # fmt: skip
