"""When the leader was heard, when to give it up, and what that means for votes (section 5.2)."""

from __future__ import annotations

from random import Random

from finn.raft.settings import RaftOptions


class ElectionTimer:
    """The patience of a node that does not lead.

    Args:
        options: settings.
        random: source of chance.
        now: when the node began to listen.
        has_past: it may have promised a lease to a leader before it fell.

    Attributes:
        last_contact: when the leader was last heard, None for never.
        suspect: the leader's process seems to be gone.
        deadline: when to campaign.
    """

    def __init__(self, options: RaftOptions, random: Random, now: float, has_past: bool) -> None:
        self._options = options
        self._random = random
        self._started = now
        self._refuse_until = now + options.election_timeout if has_past else now
        self._suspect_until = now
        self._timeout = self._draw()
        self.deadline = now + self._timeout
        self.last_contact: float | None = None
        self.suspect = False

    def _draw(self) -> float:
        # Section 5.2: random, so that split votes are rare.
        return self._options.election_timeout * (1.0 + self._random.random())

    def restart(self, now: float) -> None:
        """Wait a whole election timeout."""
        self._timeout = self._draw()
        self.deadline = now + self._timeout

    def restart_soon(self, now: float) -> None:
        """Wait for as long as a candidate that was refused does: pre-votes disturb nobody."""
        if now < self._suspect_until:
            delay = self._options.heartbeat * self._random.uniform(0.5, 1.0)
        else:
            delay = self._options.election_timeout * self._random.uniform(0.25, 0.5)
        self.deadline = now + delay

    def expire(self, now: float) -> None:
        """Campaign with the next tick."""
        self.deadline = now

    def heard(self, now: float) -> None:
        """The leader of this term was heard."""
        self.last_contact = now
        self.deadline = now + self._timeout
        self.suspect = False

    def led(self, now: float) -> None:
        """This node became the leader: what it thought of the one before is void."""
        self.suspect = False
        self._suspect_until = now

    def suspects(self, now: float) -> None:
        """The leader seems to have crashed: do not wait for the timeout."""
        self.suspect = True
        self._suspect_until = now + self._options.election_timeout
        self.deadline = now + self._random.uniform(*self._options.suspect_delay)

    def may_have_leader(self, now: float) -> bool:
        """Say whether this node owes it to a leader to refuse votes (section 6).

        A node that has just started may have promised a lease before it fell, so it refuses too;
        but not once it heard a leader that crashed since: that one's election shows that the lease
        of any before it was over, and its own ended with it.
        """
        if self.suspect:
            return False
        if now < self._refuse_until:
            return True
        if self.last_contact is None:
            return False
        return now < self.last_contact + self._options.election_timeout

    def leaderless(self, now: float) -> float:
        """Seconds since a leader was heard, or since the start."""
        return now - (self._started if self.last_contact is None else self.last_contact)
