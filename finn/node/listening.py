"""Listening for clients and members, at an endpoint that may take its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from finn.errors import StartFailed
from finn.node.stopping import ending
from finn.protocols.transport import listen

if TYPE_CHECKING:
    from finn.node.service import Node


def begin_to_listen(node: Node) -> None:
    """Listen where the node's options say. What fails later ends the node.

    Raises:
        StartFailed: with one line for the user.
    """
    options = node.options
    if options.tls_cert is not None:
        from finn.protocols.tls import TLSMaterial

        node.tls = TLSMaterial(options.tls_cert, str(options.tls_key), options.tls_ca)
    try:
        listening = listen(node.reactor, options.endpoint, node.server, node.tls)
    except Exception as e:  # each endpoint's parser raises what it likes
        raise StartFailed(f"cannot listen on {options.endpoint!r}: {e}") from None
    refusals: list[StartFailed] = []
    starting = True
    attempt = node.attempt = object()

    def listens(port: Any) -> None:
        if node.attempt is not attempt:
            port.stopListening()  # this start has failed, for another reason
            return
        node.port = port
        if ending(node) is not None:
            port.stopListening()

    def refused(failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CannotListenError):
            error = error.socketError
        refusal = StartFailed(f"cannot listen on {options.endpoint}: {error}")
        if starting:
            refusals.append(refusal)
        elif node.attempt is attempt:
            node.fatal(refusal)

    listening.addCallbacks(listens, refused)
    starting = False
    if refusals:
        raise refusals[0]
