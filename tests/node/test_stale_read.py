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
from tests.node.cores import follow, make_follower


def entry(index: int, term: int, value: bytes) -> Entry:
    payload = pack_command([b"SET", b"key%d" % index, value])
    return make_entry(index, term, COMMANDS, 0, 0, 1, [payload])


class StaleReadTests(SynchronousTestCase):
    def test_a_replaced_entry_is_not_applied(self) -> None:
        """What was read before a truncation is read again, though its index is committed now."""
        reads: list[Deferred[Any]] = []

        def fetch(first: int, size: int) -> Deferred[Any]:
            reads.append(Deferred())
            return reads[-1]

        errors: list[BaseException] = []
        host = Host(KV(), errors.append)
        applying = Applying(host, Proposals(), fetch, lambda: None, errors.append, lambda: 0.0)
        # Of the two entries on its disk, only the first is committed, and none is in memory.
        raft = applying.raft = make_follower(stored=2, memory_bytes=0)
        follow(raft, (1, 1), 1)
        applying.run()
        self.assertEqual((raft.commit_index, len(reads)), (1, 1))
        follow(raft, (1, 1), 2, entry(2, 2, b"new"))
        self.assertEqual((raft.commit_index, raft.log.term_at(2)), (2, 2))
        reads[0].callback([entry(1, 1, b"old"), entry(2, 1, b"old")])
        applying.run()
        self.assertEqual((applying.last_applied, len(reads)), (1, 2))
        reads[1].callback([entry(2, 2, b"new")])
        applying.run()
        self.assertEqual((applying.last_applied, errors), (2, []))
        replies: list[bytes] = []
        commands = [[b"GET", b"key1"], [b"GET", b"key2"]]
        host.execute(commands, host.call(0, 0), 0, replies, False)
        self.assertEqual(replies, [b"$3\r\nold\r\n", b"$3\r\nnew\r\n"])
