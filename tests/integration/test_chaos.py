"""A short chaos; ``python -m tests.integration.chaos`` is the long one."""

from __future__ import annotations

import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from finn.testing.linearizability import Verdict
from tests.integration.chaos import LEVELS, Chaos
from tests.integration.cluster import IntegrationTestCase
from tests.integration.faults import (
    Fault,
    all_killed,
    bridge,
    follower_killed,
    follower_paused,
    leader_isolated,
    leader_killed,
    leader_paused,
    members_change,
    one_way,
    rolling_restart,
    snapshots,
    transfer,
)
from tests.integration.proxy import Network
from tests.integration.resp import pack

# Every fault once; what could make reads stale is done to the levels that promise something.
PLAN: dict[str, list[Fault]] = {
    "low": [members_change, follower_killed, all_killed, follower_paused],
    "medium": [leader_paused, leader_killed, one_way, snapshots],
    "high": [leader_isolated, bridge, transfer, leader_killed, rolling_restart],
}


class ChaosTests(IntegrationTestCase):
    """Three clusters at once, at each level of durability and consistency."""

    def test_chaos(self) -> None:
        """What clients were told is linearizable, and nothing acknowledged is lost."""
        seed = int(os.environ.get("FINN_SEED") or random.SystemRandom().getrandbits(32))
        self.report(f"seed {seed} (FINN_SEED)")
        folder = Path(self.mktemp()).resolve()
        runs = []
        for durability, consistency in zip(LEVELS, LEVELS, strict=True):
            chaos = Chaos(folder / consistency, durability, consistency, seed=seed, pause=0.02)
            self._clusters.append(chaos.cluster)
            self.addCleanup(chaos.book.closed.set)
            runs.append(chaos)
        with ThreadPoolExecutor(len(runs)) as pool:
            running = [pool.submit(chaos.run, PLAN[chaos.consistency]) for chaos in runs]
        for future in running:
            report = future.result()
            self.report(str(report))
            assert report.result is not None
            self.assertIs(report.result.verdict, Verdict.LINEARIZABLE)
            self.assertGreater(report.operations, 100)


class NetworkTests(IntegrationTestCase):
    """The proxies themselves: a chaos that cuts nothing would prove nothing."""

    def test_cuts_concern_members_only(self) -> None:
        """A cut stops the bytes of one pair in one direction, and healing delivers them late."""
        network = Network()
        self.addCleanup(network.close)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(20)
            target = server.getsockname()[1]
            port = network.add(target)
            hello = pack(["RAFTLINK", "1", "2", "3", ":1234", "5"])
            network.cut(1234, port, both=False)
            with (
                socket.create_connection(("127.0.0.1", port)) as member,
                socket.create_connection(("127.0.0.1", port)) as client,
            ):
                member.sendall(hello)
                client.sendall(b"PING\r\n")
                first, _ = server.accept()
                self.assertEqual(first.recv(100), b"PING\r\n")
                server.settimeout(0.2)
                self.assertRaises(TimeoutError, server.accept)
                server.settimeout(20)
                network.heal(reset=False)
                second, _ = server.accept()
                self.assertEqual(second.recv(200), hello)
                network.cut(1234, port, both=False)
                member.sendall(b"late")
                second.settimeout(0.2)
                self.assertRaises(TimeoutError, second.recv, 100)
                second.sendall(b"back")
                self.assertEqual(member.recv(100), b"back")
                network.heal(reset=False)
                second.settimeout(20)
                self.assertEqual(second.recv(100), b"late")
                network.cut(1234, port)
                network.heal(reset=True)
                self.assertEqual(second.recv(100), b"")
                first.close()
                second.close()
