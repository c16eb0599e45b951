"""The public test kit: what finn tests itself with, for machines, stores and services of others.

``FakeApplier``
    runs a machine's commands without a cluster.
``MemoryCluster``
    a whole cluster in memory, on a fake clock, network and disk.
``LogStoreContract``, ``DurableLogStoreContract``
    every promise of ``ILogStore`` as tests, for a log store of your own.
``assert_deterministic``
    replays commands on copies of a machine under other hash seeds and clocks.
``check_history`` (``finn.testing.linearizability.check``)
    judges a history of concurrent operations.

``python -m finn.testing.simulate`` runs clusters under random faults, from a seed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finn.testing.applier import FakeApplier
    from finn.testing.cluster import MemoryCluster
    from finn.testing.contract import DurableLogStoreContract, LogStoreContract
    from finn.testing.determinism import assert_deterministic
    from finn.testing.linearizability import check as check_history

__all__ = [
    "DurableLogStoreContract",
    "FakeApplier",
    "LogStoreContract",
    "MemoryCluster",
    "assert_deterministic",
    "check_history",
]

_PLACES = {
    "DurableLogStoreContract": ("contract", "DurableLogStoreContract"),
    "FakeApplier": ("applier", "FakeApplier"),
    "LogStoreContract": ("contract", "LogStoreContract"),
    "MemoryCluster": ("cluster", "MemoryCluster"),
    "assert_deterministic": ("determinism", "assert_deterministic"),
    "check_history": ("linearizability", "check"),
}


def __getattr__(name: str) -> Any:
    # Each is imported when it is asked for: a test of a machine needs neither disks nor nodes.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
