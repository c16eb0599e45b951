"""Load generator on Twisted, run in a process of its own: ``python -m benchmarks.load --help``.

Closed loop: each client has a pipeline in flight, and sends the next when all of it is answered.
Open loop (``--rate``): commands are due at fixed times whatever the server does, and latency counts
from the time a command was due, so that a stall shows in full. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import hiredis
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

KEYS = 100_000

#: Of values of a mebibyte and more: they have to fit in memory three times.
LARGE_KEYS = 200

#: Bytes of all values together, of smaller ones.
FILL_BYTES = 64 * 1024 * 1024

#: An open-loop client sends what is due at most this often.
PACE_SECONDS = 0.002


def key(number: int) -> bytes:
    """Return a key as redis-benchmark spells it, so that one fills what the other reads."""
    return b"key:%012d" % number


def keys_of(value_bytes: int) -> int:
    """Return how many keys clients draw from: so many as a server is filled with."""
    if value_bytes >= 1024 * 1024:
        return LARGE_KEYS
    return min(KEYS, FILL_BYTES // max(1, value_bytes))


def maker(command: str, value_bytes: int, source: random.Random) -> Callable[[], bytes]:
    """Return what makes the bytes of the next command."""
    value = b"x" * value_bytes
    pack: Any = hiredis.pack_command
    count = keys_of(value_bytes)
    if command == "ping":
        ping = pack((b"PING",))
        return lambda: ping
    if command == "set":
        return lambda: pack((b"SET", key(source.randrange(count)), value))
    if command == "get":
        return lambda: pack((b"GET", key(source.randrange(count))))
    if command == "get-missing":
        return lambda: pack((b"GET", b"missing:%012d" % source.randrange(count)))
    if command == "etcd-put":
        text = base64.b64encode(value)
        return lambda: http_put(base64.b64encode(key(source.randrange(count))), text)
    raise ValueError(f"no such command: {command}")


def http_put(name: bytes, value: bytes) -> bytes:
    """Return the request with which etcd's JSON gateway takes a key."""
    body = b'{"key":"%b","value":"%b"}' % (name, value)
    return b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


class HTTPReader:
    """Reads HTTP answers with a length, in the manner of ``hiredis.Reader``."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._data += data

    def gets(self) -> Any:
        """Return the next body, an error if the status is not 200, False if more is needed."""
        head, end, rest = self._data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
        if not end or length is None or len(rest) < int(length[1]):
            return False
        size = int(length[1])
        self._data = rest[size:]
        if not head.startswith(b"HTTP/1.1 200"):
            return hiredis.ReplyError(head.split(b"\r\n")[0].decode("latin-1"))
        return rest[:size]


class Results:
    """Latencies and errors of all clients.

    Attributes:
        latencies: seconds of each reply.
        errors: how often each error reply came.
        lost: connections that were lost.
        longest_pause: seconds without any reply, at most.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.lost = 0
        self.longest_pause = 0.0
        self.first = self.last = now()

    def answered(self, replies: int, sent: float) -> None:
        """Note replies to what was sent, or due, at a time."""
        now = self.now()
        self.latencies.extend([now - sent] * replies)
        self.longest_pause = max(self.longest_pause, now - self.last)
        self.last = now

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        ordered = sorted(self.latencies)
        seconds = max(self.last - self.first, 1e-9)

        def percentile(fraction: float) -> float:
            place = min(len(ordered) - 1, int(len(ordered) * fraction))
            return round(ordered[place] * 1000, 4) if ordered else 0.0

        return {
            "requests": len(ordered),
            "rps": round(len(ordered) / seconds, 1),
            "p50_ms": percentile(0.5),
            "p99_ms": percentile(0.99),
            "p999_ms": percentile(0.999),
            "max_ms": round(ordered[-1] * 1000, 4) if ordered else 0.0,
            "longest_pause_ms": round(self.longest_pause * 1000, 4),
            "errors": dict(self.errors),
            "lost": self.lost,
        }


class Client(Protocol):
    """One connection with a pipeline of commands in flight."""

    def __init__(
        self, results: Results, make: Callable[[], bytes], pipeline: int, reader: Any = None
    ) -> None:
        self.results = results
        self.make = make
        self.pipeline = pipeline
        self.sending = True
        self.waiting: list[float] = []  # when each command in flight was sent, or due
        self._reader = reader or hiredis.Reader()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]

    def send(self, times: list[float]) -> None:
        """Send as many commands as there are times, which are when they are due."""
        self.waiting += times
        self.transport.write(b"".join([self.make() for _ in times]))  # type: ignore[union-attr]

    def send_pipeline(self) -> None:
        """Send a pipeline now."""
        self.send([self.results.now()] * self.pipeline)

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        count = 0
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                self.results.errors[str(reply)] += 1
            count += 1
        for sent in self.waiting[:count]:
            self.results.answered(1, sent)
        del self.waiting[:count]
        if not self.waiting and self.sending and self.pipeline:
            self.send_pipeline()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.sending:
            self.results.lost += 1


async def drive(reactor: Any, options: argparse.Namespace) -> None:
    """Connect, send for the time, and print the results."""
    source = random.Random(options.seed)
    make = maker(options.command, options.value_bytes, source)
    results = Results(reactor.seconds)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", options.port, timeout=10)
    pipeline = 0 if options.rate else options.pipeline
    http = options.command.startswith("etcd")
    clients = [
        Client(results, make, pipeline, HTTPReader() if http else None)
        for _ in range(options.clients)
    ]
    for client in clients:
        await connectProtocol(endpoint, client)
    results.first = results.last = reactor.seconds()
    if options.rate:
        pacing = task.LoopingCall(Pacer(clients, options.rate, reactor.seconds).send_due)
        pacing.clock = reactor
        pacing.start(PACE_SECONDS, now=True)
    else:
        for client in clients:
            client.send_pipeline()
    await sleep(reactor, options.seconds)
    print(json.dumps(results.as_dict()))
    for client in clients:
        client.sending = False
    sys.stdout.flush()


class Pacer:
    """Sends commands at a fixed rate, over clients in turn."""

    def __init__(self, clients: list[Client], rate: float, now: Callable[[], float]) -> None:
        self.clients = clients
        self.rate = rate
        self.now = now
        self.began = now()
        self.sent = 0

    def send_due(self) -> None:
        """Send what has become due since the last time."""
        due = int((self.now() - self.began) * self.rate)
        parts: list[list[float]] = [[] for _ in self.clients]
        while self.sent < due:
            parts[self.sent % len(parts)].append(self.began + self.sent / self.rate)
            self.sent += 1
        for client, times in zip(self.clients, parts, strict=True):
            if times and client.connected:
                client.send(times)


def sleep(reactor: Any, seconds: float) -> Deferred[None]:
    """Return a Deferred that fires later."""
    return task.deferLater(reactor, seconds)


def main() -> None:
    """Run the generator."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--command", default="set", help="ping, set, get, get-missing, etcd-put")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=0.0, help="commands a second; 0: closed loop")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    task.react(lambda reactor: Deferred.fromCoroutine(drive(reactor, options)))


if __name__ == "__main__":
    main()
