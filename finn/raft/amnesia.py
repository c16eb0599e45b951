"""A node that may have forgotten what it acknowledged must not vote as if it had not.

It is cured when it holds everything up to a commit index of a current leader, taken from a message
that the leader sent *after* it had learned of the amnesia: from then on the leader counts nothing
the node acknowledged in its former life. (A commit index from before is not enough: an old
acknowledgement still on its way could raise it afterwards.)
"""

from __future__ import annotations

from finn.raft.configuration import Configuration


class Amnesia:
    """The amnesia of this node and what it knows of others'.

    Attributes:
        active: this node is amnesic.
    """

    def __init__(self, active: bool, node_id: int) -> None:
        self.active = active
        self._node_id = node_id
        self._cure_index: int | None = None
        self._others: dict[int, bool] = {}

    def heard(self, peer: int, amnesic: bool) -> None:
        """Note what a peer says of itself in requests and replies of votes."""
        self._others[peer] = amnesic

    def leader_knows(self, commit_index: int) -> None:
        """A leader that knows of the amnesia told its commit index."""
        if self._cure_index is None:
            self._cure_index = commit_index

    def is_cured_at(self, index: int) -> bool:
        """Say whether holding everything up to ``index``, durably and verified, is the cure."""
        return self.active and self._cure_index is not None and index >= self._cure_index

    def cure(self) -> None:
        """The node is amnesic no longer."""
        self.active = False
        self._cure_index = None

    def is_emergency(self, configuration: Configuration, leaderless: float, limit: float) -> bool:
        """Say whether amnesic nodes may elect: those that remember are no majority, for long."""
        forgotten = sum(
            1 for v in configuration.voters if v == self._node_id or self._others.get(v, False)
        )
        remembering = len(configuration.voters) - forgotten
        return self.active and leaderless >= limit and remembering < configuration.quorum
