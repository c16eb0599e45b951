"""What a simulated run is like: everything that is drawn from its seed before it begins."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Any

from finn.options import Consistency, Durability
from finn.testing.network import NetworkSettings

NETWORKS = {
    "rack": (0.0001, 0.0004),
    "site": (0.001, 0.005),
    "country": (0.01, 0.02),
    "world": (0.05, 0.05),
}
DISKS = {"ssd": 0.0001, "slow": 0.002, "worn": 0.02}

FAULTS = {
    "crash": 4.0,
    "power": 3.0,
    "stop": 2.0,
    "pause": 3.0,
    "isolate": 3.0,
    "split": 2.0,
    "bridge": 1.0,
    "star": 1.0,
    "one_way": 3.0,
    "slow_link": 1.0,
    "loss": 1.0,
    "reset": 2.0,
    "slow_disk": 1.0,
    "hang_disk": 1.0,
    "fail_disk": 1.0,
    "jump": 1.0,
    "transfer": 2.0,
    "snapshot": 2.0,
    "remove": 1.0,
    "add": 1.0,
    "move": 1.0,
}
"""Kinds of faults and how often each happens, relative to the others."""


@dataclass
class Drawn:
    """The options of one run.

    Attributes:
        size: members at the start.
        spares: computers that may be added later.
        network: how far apart they are, a key of NETWORKS.
        loss: chance that a piece is lost on the network.
        disk: a key of DISKS.
        drift: largest error of the monotonic clocks' speed.
        keys: how many the clients use.
        clients: how many there are; together they do ``rate`` operations a second.
        pace: mean seconds between two faults.
        faults: kinds that happen.
        finale: all of a weak durability's members lose power in the end.
        gather: seconds for which a node gathers what clients send, to run it together; 0: never.
        split: chance that what is sent arrives in two pieces.
    """

    size: int = 3
    spares: int = 1
    durability: Durability = Durability.MEDIUM
    consistency: Consistency = Consistency.MEDIUM
    network: str = "rack"
    loss: float = 0.0
    disk: str = "ssd"
    drift: float = 0.0
    snapshot_bytes: int = 32 * 1024
    trailing_bytes: int = 8 * 1024
    keys: int = 4
    clients: int = 4
    rate: float = 10.0
    pace: float = 6.0
    faults: tuple[str, ...] = tuple(FAULTS)
    finale: bool = False
    gather: float = 0.0
    split: float = 0.02

    def __str__(self) -> str:
        return "\n".join(f"  {f.name:15} {_shown(getattr(self, f.name))}" for f in fields(self))

    @property
    def network_settings(self) -> NetworkSettings:
        """How the network is when nothing is wrong."""
        latency, jitter = NETWORKS[self.network]
        return NetworkSettings(latency, jitter, self.loss, split=self.split)


def _shown(value: Any) -> str:
    if isinstance(value, (Durability, Consistency)):
        return value.name.lower()
    return " ".join(value) if isinstance(value, tuple) else str(value)


def draw(random: Random) -> Drawn:
    """Draw the options of a run."""
    durability = random.choice(list(Durability))
    faults = [kind for kind in FAULTS if random.random() < 0.7]
    if "power" in faults and "fail_disk" in faults:
        # After a failed fsync nothing is certain about a disk; losing power too is beyond help.
        faults.remove(random.choice(("power", "fail_disk")))
    size = random.choice((3, 3, 3, 3, 5, 4, 2, 1))
    weak = durability is not Durability.HIGH
    if weak and size == 1 and "power" in faults:
        # A sole voter goes on with what it has, whatever it may have forgotten.
        faults.remove("power")
    return Drawn(
        size=size,
        spares=random.choice((0, 1, 1, 2)),
        durability=durability,
        consistency=random.choice(list(Consistency)),
        network=random.choice(("rack", "rack", "site", "country", "world")),
        loss=random.choice((0.0, 0.0, 0.001, 0.02)),
        disk=random.choice(("ssd", "ssd", "slow", "worn")),
        drift=random.choice((0.0, 0.0, 0.001, 0.02)),
        snapshot_bytes=random.choice((8, 32, 128)) * 1024,
        trailing_bytes=random.choice((1, 8, 64)) * 1024,
        keys=random.choice((1, 3, 6)),
        clients=random.choice((3, 5, 8)),
        pace=random.choice((2.0, 4.0, 8.0, 15.0)),
        faults=tuple(faults),
        finale=weak and size > 1 and "fail_disk" not in faults and random.random() < 0.15,
        gather=random.choice((0.0, 0.002, 0.03, 0.15)),
        split=random.choice((0.02, 0.02, 0.02, 1.0)),
    )
