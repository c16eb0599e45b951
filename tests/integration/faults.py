"""What is done to a cluster under load. Each fault ends with everything up and connected again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence

from tests.integration.process import NodeProcess
from tests.integration.proxiedcluster import ProxiedCluster
from tests.integration.resp import ErrorReply

Fault = Callable[[ProxiedCluster, random.Random], None]

# With ``--election-timeout 500`` a silent leader is replaced after 0.5 to 1 s.
LONG = 1.6
SHORT = 0.4


def leader_killed(cluster: ProxiedCluster, draw: random.Random) -> None:
    """kill -9 of the leader, and its return."""
    _killed(cluster, [cluster.leader()], draw)


def follower_killed(cluster: ProxiedCluster, draw: random.Random) -> None:
    """kill -9 of a follower, and its return."""
    _killed(cluster, [draw.choice(cluster.followers())], draw)


def all_killed(cluster: ProxiedCluster, draw: random.Random) -> None:
    """kill -9 of every node, which return in any order."""
    _killed(cluster, list(cluster.running), draw)


def _killed(cluster: ProxiedCluster, nodes: Sequence[NodeProcess], draw: random.Random) -> None:
    for node in nodes:
        cluster.kill(node)
    pause(draw.uniform(0, SHORT))
    cluster.restart(*draw.sample(nodes, len(nodes)))


def leader_paused(cluster: ProxiedCluster, draw: random.Random) -> None:
    """SIGSTOP of the leader until there is another one, then SIGCONT."""
    _paused(cluster.leader())


def follower_paused(cluster: ProxiedCluster, draw: random.Random) -> None:
    """SIGSTOP of a follower, then SIGCONT."""
    _paused(draw.choice(cluster.followers()))


def _paused(node: NodeProcess) -> None:
    node.pause()
    try:
        pause(LONG)
    finally:
        node.resume()


def rolling_restart(cluster: ProxiedCluster, draw: random.Random) -> None:
    """Each node is stopped in order and started, one after the other."""
    for node in draw.sample(cluster.running, len(cluster.running)):
        code = node.stop(draw.choice([signal.SIGTERM, signal.SIGINT]))
        assert code == 0, f"{node.address} ended with {code}"
        cluster.network.down(node.advertised)
        cluster.restart(node)
        cluster.wait_ready()


def leader_isolated(cluster: ProxiedCluster, draw: random.Random) -> None:
    """The leader is cut off from the other members, but not from its clients."""
    leader = cluster.leader()
    for other in cluster.nodes:
        if other is not leader:
            cluster.network.cut(leader.advertised, other.advertised)
    _healed_later(cluster, draw)


def bridge(cluster: ProxiedCluster, draw: random.Random) -> None:
    """Two members do not see each other; a third sees both."""
    one, other = draw.sample(cluster.nodes, 2)
    cluster.network.cut(one.advertised, other.advertised)
    _healed_later(cluster, draw)


def one_way(cluster: ProxiedCluster, draw: random.Random) -> None:
    """What the leader sends to one member is lost; what that one sends arrives. Or the reverse."""
    pair = [cluster.leader().advertised, draw.choice(cluster.followers()).advertised]
    draw.shuffle(pair)
    cluster.network.cut(*pair, both=False)
    _healed_later(cluster, draw)


def _healed_later(cluster: ProxiedCluster, draw: random.Random) -> None:
    try:
        pause(LONG)
    finally:
        cluster.network.heal(reset=draw.random() < 0.5)


def transfer(cluster: ProxiedCluster, draw: random.Random) -> None:
    """Leadership is handed to another member."""
    leader = cluster.leader()
    target = draw.choice(cluster.followers())
    leader.do("RAFTTRANSFER", f":{target.advertised}")
    pause(SHORT)


def snapshots(cluster: ProxiedCluster, draw: random.Random) -> None:
    """Each node takes a snapshot and shrinks its log, while one is down and needs it later."""
    missing = draw.choice(cluster.followers())
    cluster.kill(missing)
    for _ in range(2):
        for node in cluster.running:
            node.do("RAFTSNAPSHOT")
        pause(SHORT / 2)
    for node in cluster.running:
        node.do("RAFTSHRINKLOG")
    cluster.restart(missing)


def members_change(cluster: ProxiedCluster, draw: random.Random) -> None:
    """A node is added, another one removed, perhaps the leader, and joins again."""
    added = cluster.add_proxied()
    cluster.restart(added)
    cluster.wait_ready()
    removed = draw.choice([node for node in cluster.nodes if node is not added])
    _change(cluster, "RAFTREMOVEPEER", removed)
    removed.wait_for("Shutdown")
    assert removed.stop() == 0
    cluster.network.down(removed.advertised)
    cluster.restart(removed)
    cluster.wait_ready()
    _change(cluster, "RAFTREMOVEPEER", added)
    added.wait_for("Shutdown")
    assert added.stop() == 0
    cluster.forget(added)


def _change(cluster: ProxiedCluster, command: str, node: NodeProcess) -> None:
    client = cluster.client()
    reply = client.insist(command, f":{node.advertised}")
    client.close()
    known = ErrorReply("peer is unknown")  # an attempt before had an unknown outcome
    assert reply in (b"OK", known), reply


def pause(seconds: float) -> None:
    """Let the clients work."""
    time.sleep(seconds)


FAULTS: list[Fault] = [
    leader_killed,
    follower_killed,
    all_killed,
    leader_paused,
    follower_paused,
    rolling_restart,
    leader_isolated,
    bridge,
    one_way,
    transfer,
    snapshots,
    members_change,
]
# Without a disk all is lost then.
LOSES_ALL = (all_killed,)
