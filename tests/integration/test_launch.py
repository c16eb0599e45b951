"""Launching nodes in every order and way, and starting them again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

from tests.integration.cluster import Cluster, IntegrationTestCase
from tests.integration.ports import free_port
from tests.integration.process import NodeProcess, need, need_package, until


class LaunchTests(IntegrationTestCase):
    """The command line of the README, on other ports."""

    def check_serves(self, cluster: Cluster, key: str) -> None:
        """Check that a write reaches every running node."""
        client = cluster.client()
        self.assertEqual(client.insist("SET", key, "value"), b"OK")
        self.assertEqual(client.insist("GET", key), b"value")
        client.close()
        cluster.wait_equal()

    def test_three_terminals(self) -> None:
        """The three commands make a cluster; the data folders derive from the ports."""
        cluster = self.cluster().start()
        first = cluster.nodes[0]
        self.check_serves(cluster, "mykey")
        self.assertEqual(
            until(
                lambda: (peers := cluster.peers()) and "Invalid" not in peers.values() and peers,
                "all peers are seen",
            ),
            {node.address: "Leader" if node is first else "Follower" for node in cluster.nodes},
        )
        for node in cluster.nodes:
            self.assertTrue((node.directory / "node.json").is_file())
            self.assertFalse((cluster.folder / "twistd.pid").exists())

    def test_clients_of_redis(self) -> None:
        """redis-cli, redis-py in both protocols and inline commands by hand work."""
        node = self.cluster().found()
        cli = [need("redis-cli"), "-p", str(node.port)]
        for words, expected in (
            (["SET", "mykey", "my value"], "OK"),
            (["GET", "mykey"], "my value"),
            (["KEYS", "my*"], "mykey"),
            (["DEL", "mykey"], "1"),
        ):
            run = subprocess.run([*cli, *words], capture_output=True, text=True, timeout=30)
            self.assertEqual(run.stdout.strip(), expected, words)
        need_package("redis")
        import redis

        for protocol in (2, 3):
            with redis.Redis(port=node.port, protocol=protocol) as client:
                self.assertTrue(client.set("a", protocol))
                self.assertEqual(client.get("a"), b"%d" % protocol)
        with node.client() as raw:
            raw.send(b"SET a 'b c'\r\nGET a\r\n")
            self.assertEqual([raw.read(), raw.read()], [b"OK", b"b c"])

    def test_redis_benchmark(self) -> None:
        """redis-benchmark runs to its end, pipelines and all."""
        node = self.cluster().found()
        tool = [need("redis-benchmark"), "-p", str(node.port), "-t", "set,get", "-q"]
        run = subprocess.run(
            [*tool, "-n", "2000", "-P", "16", "-c", "10"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("GET", run.stdout)
        self.assertNotIn("rror", run.stdout + run.stderr)

    def test_joiners_start_first(self) -> None:
        """Joiners wait for the first node, which is started last, with itself in --join."""
        cluster = self.cluster()
        first = cluster.add()
        first.flags += ["--join", first.address]
        others = [cluster.add("--join", first.address).start() for _ in range(2)]
        for node in others:
            node.wait_log(f"failed to join node at {first.address}")
            self.assertIsNone(node.leader())
        first.start()
        cluster.wait_ready()
        self.assertEqual(cluster.leader(), first)
        self.check_serves(cluster, "a")

    def test_one_command_line_serves_every_node(self) -> None:
        """--join names all nodes, the first of them founds; the same flags restart each."""
        cluster = self.cluster()
        nodes = [cluster.add() for _ in range(3)]
        joins = ",".join(node.address for node in nodes)
        for node in nodes:
            node.flags += ["--join", joins]
            node.start()
        cluster.wait_ready()
        self.assertEqual(cluster.leader(), nodes[0])
        self.check_serves(cluster, "a")
        for node in nodes:
            self.assertEqual(node.stop(), 0)
            node.start().wait_ready()
        self.check_serves(cluster, "b")
        self.assertEqual(cluster.client().insist("GET", "a"), b"value")
        for node in nodes:
            self.assertEqual(node.stats()["num_peers"], "2")

    def test_all_three_killed(self) -> None:
        """After kill -9 of all, the same flags bring all back; with the data, in any order."""
        cluster = self.cluster().start()
        self.check_serves(cluster, "a")
        for node in cluster.nodes:
            node.kill()
        for node in reversed(cluster.nodes):
            node.start()
        cluster.wait_ready()
        self.assertEqual(cluster.client().insist("GET", "a"), b"value")
        self.check_serves(cluster, "b")

    def test_wiped_disk(self) -> None:
        """A node whose disk was wiped joins again under its address, as another member."""
        cluster = self.cluster().start()
        self.check_serves(cluster, "a")
        node = cluster.nodes[2]
        before = node.stats()["node_id"]
        node.kill()
        shutil.rmtree(node.directory)
        node.start().wait_ready()
        self.assertNotEqual(node.stats()["node_id"], before)
        self.assertEqual(node.stats()["num_peers"], "2")
        self.check_serves(cluster, "b")

    def test_inmem_restarts(self) -> None:
        """Nodes without a disk forget all, join again and have all again; the founder too."""
        cluster = self.cluster("--backend", "inmem")
        first = cluster.found()
        others = [cluster.add("--join", first.address).start() for _ in range(2)]
        cluster.wait_ready()
        first.flags += ["--join", ",".join([first.address, *(node.address for node in others)])]
        self.check_serves(cluster, "a")
        for node in cluster.nodes:
            node.kill()
            cluster.leader()
            node.start().wait_ready()
            self.assertEqual(node.stats()["num_peers"], "2")
            self.check_serves(cluster, "b")
        self.assertEqual(cluster.client().insist("GET", "a"), b"value")

    def test_wait_and_addpeer(self) -> None:
        """--wait: the node waits until RAFTADDPEER; an address nobody answers at is refused."""
        cluster = self.cluster()
        first = cluster.found()
        nobody = f":{free_port()}"
        reply = first.do("RAFTADDPEER", nobody)
        self.assertTrue(str(reply).startswith(f"ERR {nobody} cannot be reached"), reply)
        self.assertEqual(first.stats()["num_peers"], "0")
        node = cluster.add("--wait").start()
        node.wait_log(f"waiting to be added with RAFTADDPEER {node.address}")
        self.assertError(node.do("SET", "a", "b"), "ERR leader not known")
        self.assertEqual(first.do("RAFTADDPEER", node.address), b"OK")
        node.wait_ready()
        self.assertError(first.do("RAFTADDPEER", node.address), "peer already known")
        self.check_serves(cluster, "a")

    def test_removed_node_joins_again(self) -> None:
        """A removed node says so and serves status; with --join it comes back as a new member."""
        cluster = self.cluster().start()
        node = cluster.nodes[1]
        self.assertEqual(cluster.nodes[0].do("RAFTREMOVEPEER", node.address), b"OK")
        node.wait_for("Shutdown")
        self.assertError(node.do("SET", "a", "b"), "raft is already shutdown")
        self.assertIsNone(node.leader())
        self.assertEqual(node.stop(), 0)
        node.start().wait_ready()
        self.check_serves(cluster, "a")

    def test_leader_removes_itself(self) -> None:
        """The others go on under another leader."""
        cluster = self.cluster().start()
        first = cluster.nodes[0]
        self.assertEqual(first.do("RAFTREMOVEPEER", first.address), b"OK")
        first.wait_for("Shutdown")
        self.assertError(first.do("SET", "a", "b"), "raft is already shutdown")
        self.assertEqual(first.stop(), 0)
        self.check_serves(cluster, "a")
        self.assertEqual(cluster.leader().stats()["num_peers"], "1")

    def test_moved_node_announces_itself(self) -> None:
        """The same data under another port: the others learn the new address."""
        cluster = self.cluster().start()
        self.check_serves(cluster, "a")
        old = cluster.nodes[2]
        node_id = old.stats()["node_id"]
        self.assertEqual(old.stop(), 0)
        moved = cluster.add("--dir", str(old.directory), "--join", cluster.nodes[0].address)
        moved.flags += ["--advertise", f"127.0.0.1:{moved.port}"]
        moved.start().wait_ready()
        self.assertEqual(moved.stats()["node_id"], node_id)
        addresses = {cluster.nodes[0].address, cluster.nodes[1].address, moved.flags[-1]}
        until(lambda: set(cluster.peers()) == addresses, "the new address is known")
        self.check_serves(cluster, "b")


class RunnerTests(IntegrationTestCase):
    """twistd in both modes, twist, and signals."""

    def check_stops(self, node: NodeProcess, number: int) -> None:
        """Check that a signal ends a node in order, and that its data is there again."""
        self.assertEqual(node.do("SET", "a", "b"), b"OK")
        with node.client() as client:
            self.assertEqual(client.do("PING"), b"PONG")
            self.assertEqual(node.stop(number), 0, node.tail())
            self.assertEqual(client.read_to_end(), b"")
        self.assertNotIn("Traceback", node.whole_log())
        self.assertIn('"clean": true', (node.directory / "node.json").read_text())
        node.start().wait_for("Leader")
        self.assertEqual(node.do("GET", "a"), b"b")

    def test_sigterm(self) -> None:
        """SIGTERM: exit code 0."""
        self.check_stops(self.cluster().found(), signal.SIGTERM)

    def test_sigint(self) -> None:
        """Ctrl-C: exit code 0."""
        self.check_stops(self.cluster().found(), signal.SIGINT)

    def test_signal_while_joining(self) -> None:
        """A node that nobody answers can be stopped: exit code 0."""
        node = self.cluster().add("--join", f":{free_port()}").start()
        node.wait_log("failed to join")
        self.assertEqual(node.stop(), 0, node.tail())

    def test_twist(self) -> None:
        """``twist finn`` works as ``twistd -n finn`` does."""
        node = self.cluster().add(runner=("twist",)).start().wait_for("Leader")
        self.check_stops(node, signal.SIGTERM)

    def test_daemon(self) -> None:
        """twistd as a daemon: pid file and log are in the data directory, SIGHUP does no harm."""
        node = self.cluster().add(runner=("twistd",)).start()
        self.assertEqual(node.wait(), 0, node.tail())
        pid_file = node.directory / "twistd.pid"
        daemon = Daemon(node, int(until(pid_file.read_text, "there is a pid file")))
        self.addCleanup(daemon.reap)
        until(lambda: node.state() == "Leader", "the daemon leads")
        self.assertEqual(node.do("SET", "a", "b"), b"OK")
        log = node.directory / "twistd.log"
        self.assertIn("Leader", log.read_text())
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "no certificates to reload" in log.read_text(), "SIGHUP is told of")
        daemon.stop()
        self.assertIn('"clean": true', (node.directory / "node.json").read_text())
        self.assertFalse(pid_file.exists())


class Daemon:
    """A process that is not our child.

    Args:
        node: whose process it is.
        pid: of the daemon.
    """

    def __init__(self, node: NodeProcess, pid: int) -> None:
        self.node = node
        self.pid = pid

    @property
    def running(self) -> bool:
        """Whether it is that process still, and no zombie."""
        try:
            with open(f"/proc/{self.pid}/stat") as stat, open(f"/proc/{self.pid}/cmdline") as line:
                state = stat.read().rpartition(")")[2].split()[0]
                return state != "Z" and str(self.node.port) in line.read()
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM, and wait."""
        os.kill(self.pid, signal.SIGTERM)
        until(lambda: not self.running, "the daemon ends")

    def reap(self) -> None:
        """It must not outlive the test."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
