"""Entries that the apply loop reads back from the store may be replaced while they are read."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.node.applying import Applying
from finn.node.host import Host
from finn.node.proposals import Proposals
from finn.raft.entries import COMMANDS, Entry, make_entry
from finn.resp.replies import pack_command
from tests.compiled import replaces_parts


class Log:
    """A log that holds nothing in memory."""

    def __init__(self, term: int) -> None:
        self.term = term

    def entries(self, first: int, last: int, size: int) -> None:
        return None

    def term_at(self, index: int) -> int:
        return self.term


class Core:
    """As much of a core as the apply loop looks at."""

    def __init__(self) -> None:
        self.log = Log(1)
        self.commit_index = 1
        self.leader = None

    def applied(self, index: int) -> None:
        """Take note."""


def entry(term: int, value: bytes) -> Entry:
    return make_entry(1, term, COMMANDS, 0, 0, 1, [pack_command([b"SET", b"key", value])])


class StaleReadTests(SynchronousTestCase):
    @replaces_parts
    def test_a_replaced_entry_is_not_applied(self) -> None:
        """What was read before a truncation is read again, though its index is committed now."""
        reads: list[Deferred[Any]] = []

        def fetch(first: int, size: int) -> Deferred[Any]:
            reads.append(Deferred())
            return reads[-1]

        machine = KV()
        host = Host(machine, lambda error: None)
        applying = Applying(host, Proposals(), fetch, lambda: None, lambda error: None, lambda: 0.0)
        core: Any = Core()
        applying.raft = core
        applying.run()
        core.log.term = 2
        reads[0].callback([entry(1, b"old")])
        applying.run()
        self.assertEqual(applying.last_applied, 0)
        reads[1].callback([entry(2, b"new")])
        applying.run()
        self.assertEqual(applying.last_applied, 1)
        replies: list[bytes] = []
        host.execute([[b"GET", b"key"]], host.call(0, 0), 0, replies, False)
        self.assertEqual(replies, [b"$3\r\nnew\r\n"])
