"""Ports that nobody uses."""

from __future__ import annotations

import random
import socket

from tests.integration.resp import LOOPBACK

FIRST = 15000
RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"

_given: set[int] = set()
_random = random.SystemRandom()


def free_port() -> int:
    """Return a port nobody uses, and that this process has not got before.

    It lies below those that the system gives to outgoing connections: one of these, among the many
    of a test, could take the port of a node while that is down.
    """
    last = max(_first_ephemeral() - 1, FIRST + 1000)
    while True:
        port = _random.randint(FIRST, last)
        if port not in _given and is_free(port):
            _given.add(port)
            return port


def is_free(port: int) -> bool:
    """Say whether a node could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _first_ephemeral() -> int:
    try:
        with open(RANGE_FILE) as file:
            return int(file.read().split()[0])
    except OSError:
        return 32768
