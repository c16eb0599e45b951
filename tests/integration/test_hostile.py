"""A real node among hostile clients and members: it answers, closes, and serves the others."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time

from tests.integration.attacker import Crowd, run_attack, send_all
from tests.integration.cluster import IntegrationTestCase
from tests.integration.gauge import Gauge
from tests.integration.hostile import ATTACKS, FakeMember, mutated, nonsense
from tests.integration.process import ROOT, NodeProcess, environment
from tests.integration.resp import Client

SECONDS = "4"
#: What the issue promises.
MEMORY = 64.0
P99 = 50.0
#: It promises that for a computer on which a calm node answers a long pipeline in a fifth of it.
PIPELINES = 5


def rest_of(client: Client) -> bytes:
    """Return what comes before a connection is closed, in whatever way."""
    try:
        return client.read_to_end()
    except ConnectionResetError:
        return b""


class ClientsTests(IntegrationTestCase):
    """Hostile clients of one node."""

    def test_every_attack_is_answered(self) -> None:
        """An error where one can be said, and the connection is closed at once."""
        node = self.cluster().found()
        wrong = [text for attack in ATTACKS if (text := run_attack(node.port, attack))]
        self.assertEqual(wrong, [])
        self.assertEqual(node.do("SET", "a", "b"), b"OK")
        self.assertEqual(node.do("GET", "evil"), None)
        self.assertNotIn("Traceback", node.log())

    def test_others_are_served(self) -> None:
        """All attacks at once: who behaves waits no 50 ms, and memory stays within 64 MiB."""
        node = self.cluster().found()
        pace = self.pace(node)
        with Gauge(node.port, node.pid) as gauge:
            done = self.attack(node)
        self.report(f"{done}, a pipeline in {pace:.1f} ms\n    {gauge}")
        self.assertEqual(gauge.trouble, [])
        self.assertNotIn("Traceback", node.log())
        self.assertLess(gauge.grown, MEMORY)
        self.assertLess(gauge.slow(), max(P99, PIPELINES * pace) * gauge.crowding)

    def pace(self, node: NodeProcess) -> float:
        """Return in how many ms a node that nobody troubles answers a long pipeline."""
        crowd = Crowd(node.port, seed=0)
        took = []
        for _ in range(5):
            began = time.monotonic()
            self.assertIsNone(crowd.greedy())
            took.append(time.monotonic() - began)
        return statistics.median(took) * 1000

    def attack(self, node: NodeProcess) -> str:
        """Let a process attack a node for a while; returns what it did."""
        seed = str(random.randrange(1 << 30))
        run = subprocess.run(
            [sys.executable, "-m", "tests.integration.attacker", str(node.port), SECONDS, seed],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        self.assertEqual(run.returncode, 0, f"seed {seed}: {run.stdout}{run.stderr}")
        return run.stdout.splitlines()[0]

    def test_silent_handshakes(self) -> None:
        """A link that is asked for and not proven is closed within its deadline."""
        node = self.cluster().found()
        stats = node.stats()
        with Client(node.port) as client:
            member = FakeMember(client, stats)
            client.do(*member.hello)
            self.assertEqual(rest_of(client), b"")
        self.assertEqual(node.state(), "Leader")


class MembersTests(IntegrationTestCase):
    """Members that lie, or are of another cluster."""

    def shake(self, node: NodeProcess, **claims: int) -> tuple[Client, str]:
        client = node.client()
        self.addCleanup(client.close)
        return client, FakeMember(client, node.stats(), **claims).shake()

    def test_links_of_another_cluster(self) -> None:
        """Are refused, by cluster and by id, and change nothing."""
        node = self.cluster().found()
        client, answer = self.shake(node, cluster_id=1 << 62)
        self.assertIn("-ERR node is in cluster", answer)
        self.assertEqual(rest_of(client), b"")
        own = int(node.stats()["node_id"], 16)
        client, answer = self.shake(node, node_id=own)
        self.assertIn("-ERR this is the dialing node itself", answer)
        self.assertEqual(node.state(), "Leader")

    def test_nonsense_on_a_link(self) -> None:
        """Each ends its link; the leader leads on in its term, and serves."""
        cluster = self.cluster().start()
        node = cluster.leader()
        stats = node.stats()
        term = int(stats["term"])
        follower = cluster.followers()[0].stats()["node_id"]
        for peer in (0xABCDEF, int(follower, 16)):
            for name, data in nonsense(term):
                client, answer = self.shake(node, node_id=peer)
                self.assertEqual(answer, "+OK", name)
                # The link of the true follower may replace it before.
                send_all(client, [data])
                rest_of(client)
        self.assertEqual(cluster.client().insist("SET", "a", "b"), b"OK")
        cluster.wait_equal()
        self.assertEqual(node.stats()["term"], str(term))
        for one in cluster.nodes:
            self.assertNotIn("Traceback", one.log())

    def test_noise_on_links(self) -> None:
        """Random and mutated bytes on accepted links do no harm."""
        node = self.cluster().found()
        chance = random.Random(7)
        for n in range(60):
            client, answer = self.shake(node)
            self.assertEqual(answer, "+OK")
            data = mutated(chance) if n % 2 else chance.randbytes(300)
            send_all(client, [b"*2\r\n" + data if n % 3 else data])
            client.close()
        self.assertEqual(node.do("SET", "a", "b"), b"OK")
        self.assertEqual(node.state(), "Leader")
        self.assertNotIn("Traceback", node.log())
