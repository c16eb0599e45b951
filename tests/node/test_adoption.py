"""A fresh node that a leader makes a member of its cluster."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import DataDirectoryError
from finn.protocols.handshake import PeerHello
from finn.storage.identity import Identity
from finn.testing.cluster import MemoryCluster
from tests.node.support import Client, Journal


class AdoptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = MemoryCluster(Journal, size=1, join=[], wait=True)
        self.addCleanup(self.cluster.close)
        self.cluster.computers[0].start()
        self.node = self.cluster.nodes[0]
        self.cluster.wait_until(lambda: self.node.raft is not None)
        self.hello = PeerHello(7, 8, "10.0.0.9:7481", 9, False)

    def test_it_is_saved_before_the_link_is_accepted(self) -> None:
        """From then on the node is of that cluster, whatever happens."""
        self.assertIsNone(self.node.links.accept_link(self.hello))
        saved = Identity.load(self.node.files, self.node.options.directory)
        assert saved is not None
        self.assertEqual(saved.cluster_id, 8)

    def test_it_does_not_say_that_it_has_no_cluster(self) -> None:
        """Nor has it a list of the members yet: who asks whether to found one has to know."""
        self.assertEqual(Client(self.cluster, 0).ask("RAFTPEERS"), b"*0\r\n")
        self.assertIsNone(self.node.links.accept_link(self.hello))
        self.assertEqual(Client(self.cluster, 0).ask("RAFTPEERS"), b"-ERR raft not ready\r\n")

    def test_a_disk_that_fails_is_the_end_of_the_node(self) -> None:
        """The link is refused, and the node says why it fails."""
        error = DataDirectoryError("cannot write node.json: Input/output error")

        def save(*_: Any) -> None:
            raise error

        self.patch(self.node.identity, "save", save)
        failed = self.node.when_failed()
        self.assertEqual(self.node.links.accept_link(self.hello), "the node has failed")
        self.assertIs(self.successResultOf(failed), error)
