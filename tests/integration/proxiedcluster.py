"""A cluster whose members reach each other through proxies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.integration.cluster import Cluster
from tests.integration.process import DEADLINE, NodeProcess, until
from tests.integration.proxy import Network
from tests.integration.resp import port_of


class ProxiedNode(NodeProcess):
    """A node that advertises the port of its proxy."""

    advertised = 0


class ProxiedCluster(Cluster):
    """Nodes that are all started with the same addresses in ``--join``.

    Args:
        folder: of all of them.
        flags: of all of them.
        size: how many.
    """

    def __init__(self, folder: Path, flags: Sequence[str] = (), size: int = 3) -> None:
        super().__init__(folder, flags)
        self.network = Network()
        self.nodes: list[ProxiedNode] = []  # type: ignore[assignment]
        for _ in range(size):
            self.add_proxied()
        joins = ",".join(f":{node.advertised}" for node in self.nodes)
        for node in self.nodes:
            node.flags += ["--join", joins]

    def add_proxied(self) -> ProxiedNode:
        """Make one more node, that joins those which are there; it is not started."""
        node = super().add()
        proxied = ProxiedNode(node.folder, node.port, node.flags)
        proxied.advertised = self.network.add(node.port)
        proxied.flags += ["--advertise", f":{proxied.advertised}"]
        if self.nodes[0] is not node and any(other.running for other in self.nodes[:-1]):
            addresses = [f":{other.advertised}" for other in self.nodes[:-1]]
            proxied.flags += ["--join", ",".join(addresses)]
        self.nodes[-1] = proxied
        return proxied

    def start_all(self) -> ProxiedCluster:
        """Start all and wait until they are a cluster."""
        for node in self.nodes:
            node.start()
        self.wait_ready()
        return self

    @property
    def running(self) -> list[ProxiedNode]:  # type: ignore[override]
        """The nodes whose process is there."""
        return [node for node in self.nodes if node.running]

    @property
    def ports(self) -> list[int]:
        """Where clients may ask: the proxies, as ``TRY`` names them."""
        return [node.advertised for node in self.nodes]

    def by_address(self, address: str) -> NodeProcess | None:
        """Return the node called so."""
        port = port_of(address) if address else 0
        return next((node for node in self.nodes if node.advertised == port), None)

    def leader(self, deadline: float = DEADLINE) -> ProxiedNode:
        """Wait until all running nodes agree on a leader, and return it."""
        found = super().leader(deadline)
        assert isinstance(found, ProxiedNode)
        return found

    def followers(self) -> list[ProxiedNode]:  # type: ignore[override]
        """Return the running nodes that do not lead."""
        leader = self.leader()
        return [node for node in self.running if node is not leader]

    def kill(self, node: NodeProcess) -> None:
        """kill -9, and nobody answers at its address any more."""
        assert isinstance(node, ProxiedNode)
        node.kill()
        self.network.down(node.advertised)

    def restart(self, *nodes: NodeProcess) -> None:
        """Start nodes, on the data they have; connections are refused until they listen."""
        for node in nodes:
            node.start()
        for node in nodes:
            assert isinstance(node, ProxiedNode)
            until(lambda node=node: self._up(node), f"{node.address} listens")  # type: ignore[misc]

    def _up(self, node: ProxiedNode) -> bool:
        assert node.running, f"{node.address} ended:\n{node.tail()}"
        node.do("PING")
        self.network.up(node.advertised)
        return True

    def forget(self, node: NodeProcess) -> None:
        """It is no member any more."""
        assert isinstance(node, ProxiedNode)
        self.network.down(node.advertised)
        self.nodes.remove(node)

    def reap(self) -> None:
        """No process and no thread is left."""
        super().reap()
        self.network.close()
