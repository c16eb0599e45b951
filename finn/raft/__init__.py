"""."""

from finn.raft.configuration import Configuration, Member
from finn.raft.core import Raft, Role
from finn.raft.entries import Entry
from finn.raft.log import RaftLog
from finn.raft.ready import HardState, Ready
from finn.raft.settings import RaftOptions

__all__ = [
    "Configuration", "Entry", "HardState", "Member", "Raft", "RaftLog", "RaftOptions", "Ready",
    "Role",
]  # fmt: skip
