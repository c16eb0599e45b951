"""Mutants of bounds: how much one client may keep, and for how long it may keep others waiting."""

from __future__ import annotations

from tests.mutants.mutant import mutant

_RUNS = "finn/node/runs.py"
_EXEC = "tests.node.test_bounds.TransactionBound.test_"

BOUNDS = (
    # 7.8
    mutant(
        "builtin-takes-any-number-of-arguments", "7.8", "finn/node/builtin.py",
        "MANY = 1024\n", "MANY = 1 << 62\n",
        "tests.node.test_clients.ClientTests.test_many_arguments",
    ),
    mutant(
        "name-of-any-length", "7.8", "finn/node/clients.py",
        "if len(name) > MAX_NAME:", "if False:",
        "tests.node.test_clients.ClientTests.test_long_names",
    ),
    mutant(
        "slow-reader-is-cut-off-as-it-closes", "7.8", "finn/protocols/connection.py",
        "if output.congested and output.progress != self._progress:\n                # It",
        "if False:\n                # It",
        "tests.protocols.test_server.Deadlines.test_a_client_that_takes_its_last_bytes_slowly",
    ),
    mutant(
        "lines-are-read-one-by-one", "7.8", "finn/resp/strict.py",
        'end = buffer.find(b"\\n*", at, bound) + 1 or buffer.rfind(b"\\n", at, bound) + 1',
        'end = buffer.find(b"\\n", at, bound) + 1',
        "tests.resp.test_strict.InlineTests.test_lines_behind_a_command_are_read_together",
    ),
    mutant(
        "slow-commands-of-a-transaction-have-no-bound", "7.8", "finn/node/transactions.py",
        "if self._slow > MAX_QUEUED_SLOW:", "if False:",
        _EXEC + "slow_commands",
    ),
    mutant(
        "same-words-are-run-again", "7.8", "finn/node/transactions.py",
        "                if builtin.fast:\n", "                if False:\n",
        _EXEC + "the_same_words",
    ),
    mutant(
        "slow-commands-are-run-once", "7.8", "finn/node/transactions.py",
        "                if builtin.fast:\n", "                if True:\n",
        _EXEC + "the_same_words",
    ),
    mutant(
        "replies-of-a-transaction-have-no-bound", "7.8", _RUNS,
        "self.room = MAX_REPLY_BYTES", "self.room = 1 << 62",
        _EXEC + "replies", _EXEC + "replies_are_not_made_in_vain",
    ),
    mutant(
        "replies-of-other-machines-have-no-bound", "7.8", _RUNS,
        "        if self.room > 0:\n", "        if True:\n",
        _EXEC + "replies_of_other_machines",
    ),
    mutant(
        "values-are-kept-until-a-transaction-ends", "7.8", _RUNS,
        "        call.drop()\n        if self", "        call.early.clear()\n        if self",
        "tests.node.test_kept.KeptTests.test_within_a_transaction",
    ),
    mutant(
        "last-value-of-a-client-is-kept", "7.8", _RUNS,
        "        self.call.drop()\n        self.call = _DROPPED\n", "        pass\n",
        "tests.node.test_kept.KeptTests.test_by_a_client_that_sends_nothing_more",
    ),
    mutant(
        "local-replies-of-a-transaction-have-no-bound", "7.8", "finn/node/transactions.py",
        "if call.early and room < 0:", "if False:",
        _EXEC + "replies_of_other_machines",
    ),
    mutant(
        "what-has-no-room-to-answer-is-not-run", "7.8", "finn/node/applying.py",
        "if done < len(commands):", "if False:",
        _EXEC + "replies",
    ),
    mutant(
        "slow-commands-end-no-portion", "7.8", "finn/node/dispatch.py",
        "if not route.fast and self._node.now() > until:", "if False:",
        "tests.node.test_bounds.PortionBound.test_slow_commands_end_a_portion",
    ),
    mutant(
        "what-never-changes-is-made-again", "7.8", "finn/node/introspection.py",
        "found = self._infos.setdefault(resp3, {})", "found: dict[str, bytes] = {}",
        "tests.node.test_bounds.KeptReplies.test_what_never_changes_is_made_once",
    ),
)  # fmt: skip
