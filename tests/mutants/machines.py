"""Mutants of how machines are run: equal everywhere, or not at all."""

from __future__ import annotations

from tests.mutants.mutant import mutant

_HOST = "finn/node/host.py"
_APPLYING = "finn/node/applying.py"
_REPLICATED = "tests.node.test_machines.ReplicatedTests.test_"
_OPAQUE = "tests.node.test_machines.OpaqueTests.test_"
_NODE = "tests.node.test_equal.EqualTests.test_"
_TOGETHER = "tests.node.test_together.TogetherTests.test_"
_STRINGS = "finn/machines/strings.py"

MACHINES = (
    # 6.5
    mutant(
        "state-hides-its-command", "6.5", "finn/declarative.py",
        "        if not callable(run):", "        if False:",
        "tests.test_signatures.OptionTests.test_attributes_that_hide_a_command",
    ),
    mutant(
        "dispatched-command-is-dropped", "6.5", "finn/signatures.py",
        "isinstance(value, (cached_property, singledispatchmethod))",
        "isinstance(value, cached_property)",
        "tests.test_signatures.OptionTests.test_other_decorators",
    ),
    mutant(
        "part-of-no-command-is-dropped", "6.5", "finn/signatures.py",
        "isinstance(value, (partial, partialmethod)) and not _has_member(cls, value.func)", "False",
        "tests.test_signatures.OptionTests.test_other_decorators",
    ),
    mutant(
        "write-that-exits-ends-nodes", "6.5", _HOST,
        "RAISED = (Exception, SystemExit, asyncio.CancelledError, GeneratorExit)",
        "RAISED = (Exception,)",
        "tests.node.test_exits.ExitTests.test_writes_that_call_for_the_end",
    ),
    mutant(
        "mock-is-async", "6.5", "finn/declarative.py",
        "    return method if type(method) is FunctionType else None", "    return method",
        "tests.test_state.MethodTests.test_mocks",
    ),
    mutant(
        "note-of-typing-is-state", "6.5", "finn/declarative.py",
        ' if name != "__orig_class__"}', "}",
        "tests.test_state.PlaceTests.test_what_typing_notes_in_an_instance",
    ),
    mutant(
        "error-has-two-texts", "6.5", "finn/errors.py",
        '    text = " ".join(str(error).splitlines())\n',
        '    text = " ".join((str(error) or type(error).__name__).splitlines())\n',
        "tests.node.test_words.WordTests.test_nothing",
    ),
    # 6.7
    mutant(
        "machine-sees-its-own-clock", "6.7", _HOST,
        "        return Call(now, seed, self.log)",
        "        import time\n\n        return Call(time.time_ns(), seed, self.log)",
        _REPLICATED + "clock_and_chance_survive_a_change_of_leader",
    ),
    mutant(
        "machine-draws-its-own-chance", "6.7", _HOST,
        "        return Call(now, seed, self.log)",
        '        return Call(now, __import__("random").getrandbits(64), self.log)',
        _REPLICATED + "clock_and_chance_survive_a_change_of_leader",
    ),
    mutant(
        "commands-of-an-entry-draw-the-same", "6.7", "finn/declarative.py",
        "random.Random(seed << _POSITION_BITS | position)", "random.Random(seed)",
        _REPLICATED + "commands_of_one_entry_draw_differently",
    ),
    mutant(
        "marks-of-a-transaction-do-not-count", "6.7", _APPLYING,
        "done = execute(commands, call, position,", "done = execute(commands, call, position - 1,",
        "tests.node.test_transactions.ClusterTests.test_all_nodes_run_it",
    ),
    mutant(
        "long-run-forgets-its-position", "6.7", _APPLYING,
        "self.host.execute(part, call, position + i, replies, run.resp3)",
        "self.host.execute(part, call, position, replies, run.resp3)",
        _NODE + "chance_in_a_long_pipeline_is_the_same_everywhere",
    ),
    mutant(
        "time-of-entries-goes-back", "6.7", "finn/raft/leader.py",
        "log.last_index + 1, raft.current_term, kind, max(time, log.last_time),",
        "log.last_index + 1, raft.current_term, kind, time,",
        _REPLICATED + "clock_and_chance_survive_a_change_of_leader",
    ),
    mutant(
        "sets-are-answered-as-they-lie", "6.7", "finn/resp/replies.py",
        "sorted(", "list(",
        "tests.resp.test_replies.EncodeValueTests.test_sets_are_sorted",
    ),
    mutant(
        "error-undoes-nothing-but-on-the-leader", "6.7", _HOST,
        "            except RAISED as e:\n                reply =",
        "            except RAISED as e:\n                if replies is None:\n"
        "                    raise\n                reply =",
        _REPLICATED + "an_error_in_a_machine_is_a_reply_and_all_nodes_stay_equal",
    ),
    mutant(
        "leader-uses-its-first-closure", "6.7", _APPLYING,
        "        if isinstance(run, OpaqueRun):\n            value, ok = values[0]\n",
        "        if isinstance(run, OpaqueRun):\n"
        "            value, ok = run.call.mutate(), True  # type: ignore[misc]\n",
        _NODE + "the_mutation_is_that_of_the_call_at_apply",
    ),
    mutant(
        "several-draw-from-one-place", "6.7", "finn/declarative.py",
        "        if self.position == NOWHERE:", "        if False:",
        "tests.test_declarative.PipelinedTests.test_chance_is_not_for_several",
    ),
    mutant(
        "half-done-writes-are-an-error", "6.7", _HOST,
        "if route.kind == Kind.WRITE or isinstance(e, (MemoryError, RecursionError)):",
        "if isinstance(e, (MemoryError, RecursionError)):",
        _TOGETHER + "a_write_that_raises_stops_the_node",
    ),
    mutant(
        "override-is-passed-over", "6.7", "finn/signatures.py",
        "    if not issubclass(together, alone):\n        return None\n", "",
        "tests.test_declarative.PipelinedTests"
        ".test_an_override_of_the_command_is_not_passed_over",
    ),
    mutant(
        "results-of-a-write-may-come-later", "6.7", _HOST,
        "            if not isinstance(values, (list, tuple)):\n", "            if False:\n",
        _TOGETHER + "a_write_whose_results_are_no_list",
    ),
    mutant(
        "several-write-into-a-freeze", "6.7", _STRINGS,
        "            shard = writable[number]\n            if shard is None:\n"
        "                shard = self.own(number)\n            expiries = all",
        "            shard = self.shards[number]\n            expiries = all",
        _TOGETHER + "a_freeze_is_not_written_to",
    ),
    mutant(
        "several-keep-their-deadlines", "6.7", _STRINGS,
        "            if expiries and key in expiries:\n                self.clear_deadline(key)\n"
        "            shard[key] = value\n        return [OK]",
        "            shard[key] = value\n        return [OK]",
        _TOGETHER + "deadlines",
    ),
    # 7.5
    mutant(
        "memory-error-is-a-reply", "7.5", _HOST,
        "            except (MemoryError, RecursionError):\n                raise\n"
        "            except RAISED as e:\n                reply =",
        "            except RAISED as e:\n                reply =",
        _REPLICATED + "memory_error_stops_the_node",
    ),
    mutant(
        "memory-error-of-an-imachine-is-a-reply", "7.5", _HOST,
        "        except (MemoryError, RecursionError):\n            raise\n"
        "        except RAISED as e:\n            return self._error_of",
        "        except RAISED as e:\n            return self._error_of",
        _NODE + "memory_error_in_an_imachine_stops_the_node",
    ),
    mutant(
        "unknown-committed-command-is-skipped", "7.5", _HOST,
        "            raise UnknownCommand(name)\n        return route",
        "            return next(iter(self._routes.values()))\n        return route",
        _NODE + "a_committed_command_nobody_knows_stops_the_node",
    ),
    mutant(
        "command-that-nobody-awaits", "7.5", "finn/declarative.py",
        "        if inspect.isgeneratorfunction(_function(machine.command)):", "        if False:",
        "tests.test_state.MethodTests.test_the_command_of_the_other_style",
    ),
    mutant(
        "failed-look-at-a-machine-says-nothing", "7.5", "finn/launch.py",
        """with _step(f"machine {options['machine']} cannot be run", but=_REFUSED):""",
        "with suppress(ValueError):",
        "tests.test_tap.LaunchTests"
        ".test_machines_that_cannot_be_looked_at_are_refused_in_one_line",
    ),
    mutant(
        "commands-of-no-docstring", "7.5", "finn/node/builtin.py",
        """.strip().partition("\\n")[0]""", ".strip().splitlines()[0]",
        "tests.test_packaging.PackagingTests.test_without_docstrings",
    ),
    mutant(
        "tested-write-may-wait", "7.5", "finn/testing/applier.py",
        "        if spec.kind is Kind.LOCAL:  # the others may not wait\n", "        if True:\n",
        "tests.testing.test_applier.DeclaredTests.test_other_commands_may_not_wait",
    ),
    mutant(
        "status-of-nobody", "7.5", "finn/node/status.py",
        '    if not hasattr(node, "identity"):', "    if False:",
        "tests.node.test_life.LifeTests.test_it_has_no_status_before",
    ),
    mutant(
        "failed-node-serves-on", "7.5", "finn/node/driver.py",
        "        self._node.raft = None\n        self.turns += 1\n", "",
        _NODE + "a_failed_node_serves_nothing",
    ),
)  # fmt: skip
