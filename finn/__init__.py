"""finn: fault-tolerant network services in Python, replicated with Raft, served over RESP.

Write a machine (``Machine`` with ``write``, ``read`` and ``local``, or an ``IMachine``) and give
it to a ``Node``, or to ``twistd -n finn --machine``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finn.declarative import Call, Machine, local, read, write
from finn.errors import (
    CommandError,
    Disabled,
    FinnError,
    NotApplied,
    NotLeader,
    OutcomeUnknown,
    UnknownCommand,
    WrongArity,
)
from finn.interfaces import IApplier, IConnection, IConnectionObserver, IMachine
from finn.options import Backend, Consistency, Durability, LogLevel, NodeOptions
from finn.resp.values import OK, Simple
from finn.version import VERSION

if TYPE_CHECKING:
    from finn.node.service import Node

__version__ = VERSION

__all__ = [
    "Backend",
    "Call",
    "CommandError",
    "Consistency",
    "Disabled",
    "Durability",
    "FinnError",
    "IApplier",
    "IConnection",
    "IConnectionObserver",
    "IMachine",
    "LogLevel",
    "Machine",
    "Node",
    "NodeOptions",
    "NotApplied",
    "NotLeader",
    "OK",
    "OutcomeUnknown",
    "Simple",
    "UnknownCommand",
    "WrongArity",
    "local",
    "read",
    "write",
]


def __getattr__(name: str) -> Any:
    # Node needs Twisted's reactor machinery, a machine does not: it is imported when asked for.
    if name == "Node":
        from finn.node.service import Node

        return Node
    raise AttributeError(f"module 'finn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
