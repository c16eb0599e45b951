"""Makes ``twistd finn`` and ``twist finn`` known to Twisted."""

from twisted.application.service import ServiceMaker

finn = ServiceMaker(
    "finn",
    "finn.tap",
    "A replicated network service: your machine on Raft, served over the Redis protocol.",
    "finn",
)
