"""Messages of a link that are not the core's; ``finn.protocols.wire`` gives them bytes."""

from __future__ import annotations

from dataclasses import dataclass

from finn.interfaces import SnapshotMeta
from finn.raft.messages import Message

APPLIED = 0
NOT_APPLIED = 1
UNKNOWN = 2


@dataclass(slots=True)
class Forward:
    """A command for the leader, from an application beside another member."""

    request_id: int
    consistency: int
    deadline_ms: int
    command: bytes


@dataclass(slots=True)
class ForwardReply:
    """The outcome of a Forward: APPLIED with the reply, NOT_APPLIED or UNKNOWN with the text."""

    request_id: int
    outcome: int
    payload: bytes


@dataclass(slots=True)
class StatusRequest:
    """Asks a member how it is."""

    request_id: int = 0


@dataclass(slots=True)
class Status:
    """How a member is: its RAFTSTATE, its own address, and the leader's as far as it knows."""

    state: str
    address: str
    term: int
    leader: str = ""
    last_log_index: int = 0
    commit_index: int = 0
    last_applied: int = 0
    request_id: int = 0


@dataclass(slots=True)
class SnapshotOffer:
    """The leader of ``term`` has a snapshot to send."""

    term: int
    meta: SnapshotMeta


@dataclass(slots=True)
class SnapshotAccept:
    """Send it from ``offset`` on; or it is not wanted."""

    offset: int
    refused: bool = False


@dataclass(slots=True)
class SnapshotChunk:
    """Bytes of the state at ``offset``."""

    offset: int
    crc: int
    data: bytes


@dataclass(slots=True)
class SnapshotAck:
    """Everything below ``offset`` is taken."""

    offset: int


@dataclass(slots=True)
class SnapshotDone:
    """The snapshot is durable at the receiver, or had to be thrown away."""

    ok: bool


@dataclass(slots=True)
class Ping:
    """Asks for a sign of life."""


@dataclass(slots=True)
class Pong:
    """A sign of life."""


LinkMessage = (
    Message
    | Forward
    | ForwardReply
    | StatusRequest
    | Status
    | SnapshotOffer
    | SnapshotAccept
    | SnapshotChunk
    | SnapshotAck
    | SnapshotDone
    | Ping
    | Pong
)
