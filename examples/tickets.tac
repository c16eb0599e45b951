"""An application of your own with a node inside: ticket numbers by HTTP, on every member.

Run three of them, each in a terminal of its own:

    PORT=7481 WEB=8081 twistd --pidfile= -ny examples/tickets.tac
    PORT=7482 WEB=8082 JOIN=:7481 twistd --pidfile= -ny examples/tickets.tac
    PORT=7483 WEB=8083 JOIN=:7481 twistd --pidfile= -ny examples/tickets.tac

and draw from any of them, whichever leads:

    curl -X POST http://127.0.0.1:8082/bakery
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application import service, strports
from twisted.internet import reactor
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

import finn

# The machine is in ticket.py beside this file, which twistd does not run as a module of a package.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ticket import Tickets

PORT = int(os.environ.get("PORT", "7481"))
WEB = int(os.environ.get("WEB", "8081"))
JOIN = [address for address in os.environ.get("JOIN", "").split(",") if address]
LOOPBACK = "127.0.0.1"

# What a client should know of a command that gave no result: whether it may simply ask again.
STATUS = {finn.CommandError: 400, finn.NotApplied: 503, finn.OutcomeUnknown: 504}


class Counter(Resource):
    """``POST /queue`` draws a ticket."""

    isLeaf = True

    def __init__(self, node: finn.Node) -> None:
        super().__init__()
        self.node = node

    def render_POST(self, request: Request) -> int:
        """Draw one, on whatever member this is: a follower forwards it to the leader."""
        drawing = self.node.execute(b"TICKET", request.path.strip(b"/"))
        drawing.addCallback(lambda number: b"%d\n" % number)
        drawing.addErrback(self.explain, request)
        drawing.addCallback(self.reply, request)
        return NOT_DONE_YET

    def explain(self, failure: Failure, request: Request) -> bytes:
        """Turn one of the three kinds of failure into an HTTP status."""
        kind = failure.trap(*STATUS)
        request.setResponseCode(STATUS[kind])
        return failure.getErrorMessage().encode() + b"\n"

    def reply(self, body: bytes, request: Request) -> None:
        """Send it, if somebody still waits."""
        if request.channel is not None:
            request.write(body)
            request.finish()


def stop(error: Exception) -> None:
    """The node cannot go on: it says so and leaves the decision to the application."""
    print(f"the node failed: {error}")
    running: Any = reactor
    running.callWhenRunning(running.stop)


node = finn.Node(
    reactor,
    Tickets(),
    finn.NodeOptions(
        address=f":{PORT}",
        listen=f"tcp:{PORT}:interface={LOOPBACK}",
        directory=os.path.abspath(os.path.join("data", str(PORT))),
        join=JOIN,
    ),
)
node.when_failed().addCallback(stop)

application = service.Application("tickets")
node.setServiceParent(application)
web = strports.service(f"tcp:{WEB}:interface={LOOPBACK}", Site(Counter(node)))
web.setServiceParent(application)
