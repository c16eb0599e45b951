"""Reports: a table to read, and JSON to keep."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import hiredis
from twisted.copyright import version as twisted_version

import finn
from finn.compiled import is_compiled

COLUMNS = (
    ("name", "cell", "{}"),
    ("rps", "requests/s", "{:,.0f}"),
    ("against_redis", "of redis", "{:.0%}"),
    ("p50_ms", "p50 ms", "{:.3g}"),
    ("p99_ms", "p99 ms", "{:.3g}"),
    ("leader_cpu_ms_per_1000", "leader ms/1000", "{:.3g}"),
    ("follower_cpu_ms_per_1000", "follower ms/1000", "{:.3g}"),
    ("stolen", "stolen", "{:.0%}"),
    ("leader_mib", "leader MiB", "{:.0f}"),
    ("follower_mib", "follower MiB", "{:.0f}"),
)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processors": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiled": is_compiled(),
        "twisted": twisted_version,
        "hiredis": hiredis.__version__,
        "finn": finn.__version__,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def against_redis(rows: list[dict[str, Any]]) -> None:
    """Add to each row how fast it is against redis-server under the same load."""
    load = ("command", "clients", "pipeline", "value_bytes")
    measured = [row for row in rows if "rps" in row]
    redis = {
        tuple(row[key] for key in load): row["rps"]
        for row in measured
        if row.get("peer") == "redis-server"
    }
    for row in measured:
        yardstick = redis.get(tuple(row.get(key) for key in load))
        if yardstick and not row.get("peer"):
            row["against_redis"] = round(row["rps"] / yardstick, 4)


def table(rows: list[dict[str, Any]], columns: Any = COLUMNS) -> str:
    """Return rows as a table in Markdown, aligned to be read as it is."""
    used = [column for column in columns if any(row.get(column[0]) is not None for row in rows)]
    lines = [[title for _, title, _ in used]]
    for row in rows:
        if "error" in row:
            lines.append([row["name"], f"failed: {row['error']}", *[""] * (len(used) - 2)])
            continue
        cells = [
            template.format(row[key]) if row.get(key) is not None else ""
            for key, _, template in used
        ]
        if row.get("note"):
            cells[0] += f" ({row['note']})"
        lines.append(cells)
    widths = [max(len(line[n]) for line in lines) for n in range(len(used))]
    widths[1:] = [max(width, 4) for width in widths[1:]]
    rule = ["-" * width if n == 0 else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def facts(title: str, figures: dict[str, Any]) -> str:
    """Return figures that are no cell, one a line."""
    lines = [f"{title}:"]
    for key, value in figures.items():
        if not isinstance(value, list):
            lines.append(f"  {key.replace('_', ' ')}: {value}")
    return "\n".join(lines)


def save(path: str, report: dict[str, Any]) -> None:
    """Write the JSON."""
    Path(path).write_text(json.dumps(report, indent=1) + "\n")
