"""Keeps one outgoing link to a peer up, with backoff between attempts."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.protocols import transport
from finn.protocols.link import MemberLink, dial

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

FIRST_DELAY = 0.01
LAST_DELAY = 1.0


class Dialer:
    """Dials a peer until it answers, and again when the link is lost.

    Args:
        reactor: to connect with, and its clock.
        peer_id: the id that has to answer.
        address: where; looked up at every attempt.
        handler: an ``ILinkHandler``.
        random: for jitter, so that nodes do not dial in step.
        kind: of the link.
        tls: a ``TLSMaterial``, or None.
        connect: how to connect, ``finn.protocols.transport.connect`` or a stand-in.

    Attributes:
        link: the link while it is up, else None.
        problem: why the last attempt failed, empty when it did not.
        last_instance: instance of the process that answered last, 0 for none yet.
        progress: of the link, as the node has seen it last.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        peer_id: int,
        address: str,
        handler: Any,
        random: Random,
        kind: str = "raft",
        tls: Any = None,
        connect: Callable[..., Deferred[Any]] = transport.connect,
        nonces: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.peer_id = peer_id
        self.address = address
        self.link: MemberLink | None = None
        self.problem = ""
        self.last_instance = 0
        self.progress = 0
        self._reactor = reactor
        self._handler = handler
        self._random = random
        self._kind = kind
        self._tls = tls
        self._connect = connect
        self._nonces = nonces
        self._delay = FIRST_DELAY
        self._waiting: IDelayedCall | None = None
        self._dialling: Deferred[Any] | None = None
        self._running = False

    def start(self) -> None:
        """Dial now, and keep the link up from here on."""
        self._running = True
        self.dial_now()

    def stop(self) -> Deferred[None]:
        """Close the link and dial no more; nothing but the loss of the link is reported now.

        Returns:
            Fires when the link is lost.
        """
        self._running = False
        self._cancel_wait()
        if self._dialling is not None:
            dialling, self._dialling = self._dialling, None
            dialling.cancel()
        if self.link is None:
            return succeed(None)
        link, self.link = self.link, None
        stopped: Deferred[None] = Deferred()
        link.on_lost = lambda reason: stopped.callback(None)
        link.close()
        return stopped

    def set_address(self, address: str) -> None:
        """The peer moved: dial there from now on; a link that is up stays."""
        if address != self.address:
            self.address = address
            if self._running and self.link is None:
                if self._dialling is not None:
                    self._dialling.cancel()
                else:
                    self.dial_now()

    def dial_now(self) -> None:
        """Do not wait for the next attempt; nothing happens while the link is up or under way."""
        if self._running and self.link is None and self._dialling is None:
            self._cancel_wait()
            self._dial()

    def _cancel_wait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _dial(self) -> None:
        self._waiting = None
        dialling = dial(
            self._reactor,
            self.address,
            self,
            self.peer_id,
            self._kind,
            self._tls,
            connect=self._connect,
            nonces=self._nonces,
        )
        if self.link is None:  # else it was made at once
            self._dialling = dialling
        address = self.address
        dialling.addErrback(self._failed, address)
        dialling.addErrback(lambda f: self.log.failure("dialing failed", f))

    def _failed(self, failure: Failure, address: str) -> None:
        self._dialling = None
        if not self._running:
            return
        if failure.check(CancelledError) or address != self.address:
            self._delay = FIRST_DELAY
            self._dial()
            return
        refused = failure.check(ConnectionRefusedError) is not None
        problem = failure.getErrorMessage()
        if problem != self.problem:
            self.problem = problem
            self.log.info("no link to {address}: {problem}", address=address, problem=problem)
        self._again()
        self._handler.dial_failed(self.peer_id, address, refused)

    def _again(self) -> None:
        delay = self._delay * self._random.uniform(0.5, 1.0)
        self._delay = min(self._delay * 2, LAST_DELAY)
        self._waiting = self._reactor.callLater(delay, self._dial)

    # -- the handler of the link, until it is made ---------------------------------------------

    def identity(self) -> Any:
        """Who this node is now."""
        return self._handler.identity()

    def link_made(self, link: MemberLink) -> None:
        """Note the link, then tell the node."""
        self._dialling = None
        if not self._running:
            link.close()
            return
        self.link = link
        self.problem = ""
        self._delay = FIRST_DELAY
        link.instance_changed = self.last_instance not in (0, link.peer_instance)
        self.last_instance = link.peer_instance
        link.receiver = self._handler
        self.progress = link.progress
        self._handler.link_made(link)

    def link_lost(self, link: MemberLink, reason: Failure) -> None:
        """Tell the node, then dial again."""
        if self.link is link:
            self.link = None
        if link.receiver is not self._handler:
            return  # it came too late and was never announced
        self._handler.link_lost(link, reason)
        if self._running and self.link is None and not (self._waiting or self._dialling):
            self._again()
