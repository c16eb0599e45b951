"""Whether there is no such host, or nobody can tell."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

# What a resolver answers that knows the name to be none, or to have no address.
_NONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def is_unknown(reactor: Any, host: str, timeout: float) -> Deferred[bool]:
    """Ask the system's resolver whether there is certainly no such host.

    Twisted says for every failure that there are no results: also where no server answered, or
    this machine has no network yet.

    Args:
        reactor: has threads.
        host: the name.
        timeout: seconds.

    Returns:
        Fires with the answer, False where nobody can tell; fails with TimeoutError.
    """
    asking: Deferred[bool] = deferToThreadPool(reactor, reactor.getThreadPool(), _is_unknown, host)
    return asking.addTimeout(timeout, reactor)


def _is_unknown(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        return e.errno in _NONE
    return False
