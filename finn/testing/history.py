"""What clients did and what they were told: the input of the linearizability checker."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Outcome(enum.Enum):
    """The three things a client can know of an operation."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Operation:
    """One operation of one client.

    Attributes:
        client: who asked.
        invoke: when it was asked.
        complete: when the answer came; of no meaning for an unknown outcome, as the operation may
            take effect at any later time.
        input: what was asked.
        output: what was answered.
        outcome: done, certainly not done, or unknown.
    """

    client: Any
    invoke: float
    complete: float
    input: Any
    output: Any = None
    outcome: Outcome = Outcome.OK


def render(history: Sequence[Operation], most: int | None = None) -> str:
    """Lay operations out as a table, in the order in which they were invoked.

    Args:
        history: the operations.
        most: show only so many, the last.
    """
    rows = [("client", "from", "to", "operation", "reply")]
    shown = sorted(history, key=lambda op: (op.invoke, op.complete))
    if most is not None and most < len(shown):
        rows.append(("...", "", "", f"({len(shown) - most} before)", ""))
        shown = shown[-most:]
    for operation in shown:
        known = operation.outcome is Outcome.OK
        rows.append(
            (
                str(operation.client),
                _time(operation.invoke),
                "?" if operation.outcome is Outcome.UNKNOWN else _time(operation.complete),
                words(operation.input),
                words(operation.output) if known else operation.outcome.value,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def words(value: Any) -> str:
    """Write a command or a reply as a person would."""
    if value is None:
        return "nil"
    if isinstance(value, bytes):
        text = value.decode("ascii", "backslashreplace")
        return text if text.isprintable() and text and " " not in text else repr(text)
    if isinstance(value, (list, tuple)):
        return " ".join(words(item) for item in value) or "(empty)"
    return str(value)


def _time(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".") if isinstance(seconds, float) else str(seconds)
