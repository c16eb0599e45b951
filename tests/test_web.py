"""Tests of the status page."""

from __future__ import annotations

import builtins
import json
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from finn import web
from finn.errors import MissingExtra

STATUS: dict[str, Any] = {
    "address": ":7481",
    "state": "Leader",
    "leader": ":7481",
    "term": 3,
    "ready": True,
    "clients": 2,
    "commands_total": 12,
    "snapshots": 1,
    "last_contact": "12.5ms",
    "nothing": None,
    "peers": [{"address": "<b>:7482", "match": 7}],
    "queue_bytes": {"in": 5, "out": 0.5, "text": "no number"},
}


class Node:
    """A node that only has a status."""

    def __init__(self, **changes: Any) -> None:
        self.values = {**STATUS, **changes}

    def status(self) -> dict[str, Any]:
        return self.values


class WebTests(SynchronousTestCase):
    def ask(self, path: str, node: Node | None = None, method: str = "GET") -> tuple[int, str, str]:
        """Return code, headers and body of an answer."""
        site = web.make_site(node or Node(), Clock())
        channel = site.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = transport.value().decode().partition("\r\n\r\n")
        return int(head.split()[1]), head.lower(), body

    def test_page_shows_every_key(self) -> None:
        """The page is HTML with a row for each key, escaped."""
        code, head, body = self.ask("/")
        self.assertEqual(code, 200)
        self.assertIn("text/html", head)
        for key in STATUS:
            self.assertIn(f"<th>{key}</th>", body)
        self.assertIn("&lt;b&gt;:7482", body)
        self.assertNotIn("<b>", body)
        self.assertNotIn("http://", body)

    def test_json_is_the_status(self) -> None:
        """status.json is what the node said."""
        self.assertEqual(json.loads(self.ask("/status.json")[2]), STATUS)

    def test_metrics_are_prometheus_text(self) -> None:
        """Numbers become gauges and counters, lasting words labels, roles one gauge each."""
        code, head, body = self.ask("/metrics")
        self.assertEqual(code, 200)
        self.assertIn("version=0.0.4", head)
        for line in (
            "finn_term 3.0",
            "finn_clients 2.0",
            "finn_commands_total 12.0",
            "finn_snapshots_total 1.0",
            'finn_role{role="Leader"} 1.0',
            'finn_role{role="Follower"} 0.0',
            'finn_queue_bytes{name="out"} 0.5',
            'finn_node_info{address=":7481",leader=":7481"} 1.0',
            "finn_ready 1.0",
            "# TYPE finn_commands_total counter",
        ):
            self.assertIn(line + "\n", body)
        self.assertNotIn("no number", body)
        self.assertNotIn("12.5ms", body)

    def test_health_is_about_failure(self) -> None:
        """A node without leader is healthy: a restart would not help. A failed one is not."""
        self.assertEqual(self.ask("/healthz", Node(leader=None))[0], 200)
        code, _, body = self.ask("/healthz", Node(failed="disk full"))
        self.assertEqual((code, body), (503, "failed: disk full\n"))

    def test_readiness_is_about_serving(self) -> None:
        """Ready means restored and with a known leader."""
        self.assertEqual(self.ask("/readyz")[0], 200)
        self.assertEqual(self.ask("/readyz", Node(ready=False))[2], "not ready: starting\n")
        self.assertEqual(self.ask("/readyz", Node(leader=None))[2], "not ready: no leader known\n")
        self.assertEqual(self.ask("/readyz", Node(failed="x"))[0], 503)

    def test_head_and_others(self) -> None:
        """HEAD has no body; what would change something, or is elsewhere, is refused."""
        code, head, body = self.ask("/healthz", method="HEAD")
        self.assertEqual((code, body), (200, ""))
        self.assertIn("content-length: 3", head)
        self.assertEqual(self.ask("/healthz", method="POST")[0], 405)
        self.assertEqual(self.ask("/elsewhere")[0], 404)
        for method in ("POST", "DELETE", "OPTIONS"):
            code, head, _ = self.ask("/metrics", method=method)
            self.assertEqual(code, 405)
            self.assertIn("allow: get, head", head)
        self.assertEqual(self.ask("/elsewhere", method="POST")[0], 404)
        self.assertEqual(self.flushWarnings(), [])

    def test_missing_package_names_the_extra(self) -> None:
        """Without prometheus_client it is one line that says what to install."""
        real = builtins.__import__

        def without(name: str, *args: Any) -> Any:
            if name.startswith("prometheus_client"):
                raise ImportError(name)
            return real(name, *args)

        self.patch(builtins, "__import__", without)
        error = self.assertRaises(MissingExtra, web.make_site, Node(), Clock())
        self.assertIn("finn-raft[http]", str(error))
