"""Status page of a node over HTTP.

The paths are ``/``, ``/status.json``, ``/metrics``, ``/healthz`` and ``/readyz``. They are
read-only, need no secret, and are on loopback unless the user says otherwise.

Everything shown comes from ``node.status()``, a dictionary. Keys that are not known here are shown
too: numbers become gauges, counters if they end in ``_total``; a dictionary of numbers becomes one
gauge with a label.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

from twisted.web.http import NOT_ALLOWED
from twisted.web.pages import errorPage, notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site

from finn.errors import MissingExtra

if TYPE_CHECKING:
    from twisted.web.server import Request

#: What the metrics of known keys tell; one without a text is told by its name.
HELP = {
    "term": "Current Raft term.",
    "commit_index": "Index of the last committed entry.",
    "applied_index": "Index of the last applied entry.",
    "last_log_index": "Index of the last entry in the log.",
    "last_log_term": "Term of the last entry in the log.",
    "first_log_index": "Index of the first entry in the log.",
    "last_snapshot_index": "Last entry the newest snapshot contains.",
    "last_snapshot_term": "Term of that entry.",
    "fsm_pending": "Committed entries that wait to be applied.",
    "log_bytes": "Bytes the log occupies.",
    "memory_bytes": "Resident memory of the process.",
    "num_peers": "Other members of the cluster.",
    "voter": "1 when this node is a voting member.",
    "amnesic": "1 while this node may have forgotten what it acknowledged, and does not vote.",
    "clients": "Connections of clients.",
    "pending_bytes": "Bytes of writes proposed and not yet applied.",
    "pending_reads": "Reads that wait for their turn.",
    "commands_total": "Commands that clients sent.",
    "commands_applied": "Commands of the log that were applied.",
}

#: Keys that only grow and lack the suffix by which Prometheus knows a counter.
COUNTERS = frozenset(
    {"clients_refused", "commands_applied", "snapshots", "snapshots_installed", "snapshots_taken"}
)

#: Words that seldom change: labels of ``finn_node_info``. A label that changes makes a new series.
WORDS = (
    "address",
    "backend",
    "cluster_id",
    "consistency",
    "durability",
    "leader",
    "machine",
    "node_id",
    "version",
)

ROLES = ("Follower", "Candidate", "Leader", "Shutdown")

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="refresh" content="5">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 48em; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .2em .6em; border-bottom: 1px solid #ccc; font-weight: 400 }}
td {{ font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #ddd }} }}
</style></head><body>
<h1>{title}</h1>
<table>
{rows}</table>
<p><a href="status.json">status.json</a> <a href="metrics">metrics</a>
<a href="healthz">healthz</a> <a href="readyz">readyz</a></p>
</body></html>
"""


class StatusNode(Protocol):
    """What the page needs of a node."""

    def status(self) -> dict[str, Any]:
        """Return what is to be told of the node now."""


def is_ready(status: dict[str, Any]) -> bool:
    """Say whether a node can serve: it is restored and knows its leader."""
    return bool(status.get("ready", True)) and bool(status.get("leader"))


def is_healthy(status: dict[str, Any]) -> bool:
    """Say whether a restart would not help: the node has not failed."""
    return not status.get("failed")


class QuietSite(Site):
    """A site without access log: a scrape every few seconds is not worth a line each."""

    noisy = False

    def log(self, request: object) -> None:
        """Say nothing."""


class Page(Resource):
    """A resource whose content is made at each request.

    Args:
        kind: the content type.
        make: returns status code and text.
    """

    isLeaf = True

    def __init__(self, kind: str, make: Callable[[], tuple[int, str]]) -> None:
        super().__init__()
        self.kind = kind
        self.make = make

    def render(self, request: Request) -> Any:
        """Answer GET and HEAD, and 405 to others: the page of ``Resource`` itself is deprecated."""
        if request.method in (b"GET", b"HEAD"):
            return super().render(request)
        request.setHeader("allow", "GET, HEAD")
        page = errorPage(NOT_ALLOWED, "Method Not Allowed", "GET and HEAD are allowed here.")
        return page.render(request)

    def render_GET(self, request: Request) -> bytes:
        """Answer GET."""
        code, text = self.make()
        request.setResponseCode(code)
        request.setHeader("content-type", self.kind)
        request.setHeader("cache-control", "no-store")
        request.setHeader("x-content-type-options", "nosniff")
        return text.encode("utf-8")

    def render_HEAD(self, request: Request) -> bytes:
        """Answer HEAD: as GET, without the body."""
        request.setHeader("content-length", str(len(self.render_GET(request))))
        return b""


class Status(Resource):
    """The tree of pages of one node.

    Raises:
        MissingExtra: prometheus_client is not installed.
    """

    def __init__(self, node: StatusNode) -> None:
        super().__init__()
        self.node = node
        kind = "text/plain; charset=utf-8"
        self.putChild(b"", Page("text/html; charset=utf-8", self._page))
        self.putChild(b"status.json", Page("application/json", self._json))
        self.putChild(b"metrics", Page(f"{kind}; version=0.0.4", metrics_of(node)))
        self.putChild(b"healthz", Page(kind, self._health))
        self.putChild(b"readyz", Page(kind, self._readiness))

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Answer 404 to every other path: the page of ``Resource`` itself is deprecated."""
        return notFound()

    def _page(self) -> tuple[int, str]:
        status = self.node.status()
        title = f"finn {status.get('address', '')}: {status.get('state', 'unknown')}"
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(shown(status[key]))}</td></tr>\n"
            for key in sorted(status)
        )
        return 200, PAGE.format(title=escape(title), rows=rows)

    def _json(self) -> tuple[int, str]:
        return 200, json.dumps(self.node.status(), sort_keys=True, default=str, indent=1) + "\n"

    def _health(self) -> tuple[int, str]:
        status = self.node.status()
        return (200, "ok\n") if is_healthy(status) else (503, f"failed: {status['failed']}\n")

    def _readiness(self) -> tuple[int, str]:
        status = self.node.status()
        if is_healthy(status) and is_ready(status):
            return 200, "ready\n"
        return 503, "not ready: " + ("no leader known\n" if status.get("ready") else "starting\n")


def shown(value: Any) -> str:
    """Return a value as the status page has it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(shown(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


def metrics_of(node: StatusNode) -> Callable[[], tuple[int, str]]:
    """Return the maker of the Prometheus text of a node."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError:
        raise MissingExtra("the status page", "prometheus_client", "http") from None

    class Collector:
        """Makes the metrics anew at each scrape."""

        def describe(self) -> Iterable[Any]:
            return ()

        def collect(self) -> Iterator[Any]:
            return families(node.status())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return lambda: (200, generate_latest(registry).decode("utf-8"))


def families(status: dict[str, Any]) -> Iterator[Any]:
    """Yield the metric families of a status."""
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    role = GaugeMetricFamily("finn_role", "1 for the role of this node.", labels=["role"])
    for name in ROLES:
        role.add_metric([name], float(status.get("state") == name))
    yield role
    words = {key: str(status[key]) for key in WORDS if key in status}
    info = InfoMetricFamily("finn_node", "Words about this node.")
    info.add_metric([], words)
    yield info
    yield GaugeMetricFamily(
        "finn_ready", "1 when this node is restored and knows its leader.", float(is_ready(status))
    )
    for key, value in sorted(status.items()):
        if key in ("ready", "failed") or value is None:
            continue
        yield from family(key, value)


def family(key: str, value: Any) -> Iterator[Any]:
    """Yield the metric family of one key; nothing for what is no number."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    text = HELP.get(key, key.replace("_", " ").capitalize() + ".")
    counter = key.endswith("_total") or key in COUNTERS
    kind: Any = CounterMetricFamily if counter else GaugeMetricFamily
    if isinstance(value, (bool, int, float)):
        yield kind(f"finn_{key}", text, float(value))
    elif isinstance(value, dict):
        numbers = {
            str(name): float(item)
            for name, item in value.items()
            if isinstance(item, (bool, int, float))
        }
        if numbers:
            labelled = kind(f"finn_{key}", text, labels=["name"])
            for name, item in numbers.items():
                labelled.add_metric([name], item)
            yield labelled


def make_site(node: StatusNode, reactor: Any) -> Site:
    """Return the factory that serves the pages of a node.

    Args:
        node: the node.
        reactor: for the time-outs of connections.

    Raises:
        MissingExtra: prometheus_client is not installed.
    """
    site = QuietSite(Status(node), timeout=30, reactor=reactor)
    site.displayTracebacks = False
    return site
