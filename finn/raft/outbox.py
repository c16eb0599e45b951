"""What the core wants done, until ``ready`` hands it over; and what must not be said too early."""

from __future__ import annotations

from typing import Any

from finn.raft.log import RaftLog
from finn.raft.messages import Message
from finn.raft.ready import HardState, Ready


class Outbox:
    """Collects the next ``Ready``.

    Messages that depend on term and vote are held back until those are durable.
    """

    def __init__(self, commit_index: int) -> None:
        self._messages: list[tuple[int, Message]] = []
        self._held: list[tuple[int, int, Message]] = []
        self._state: HardState | None = None
        self._state_ticket = self._state_durable = 0
        self._commit_index = commit_index  # as told last
        self._news = Ready()  # what is rare is collected here
        self._has_news = False

    # -- messages ---------------------------------------------------------------------------------

    def send(self, peer: int, message: Message) -> None:
        """Send a message that depends on nothing that is not durable."""
        self._messages.append((peer, message))

    def send_durable(self, peer: int, message: Message) -> None:
        """Send a message once term and vote of now are durable (figure 2, persistent state)."""
        # BUGS 5.1 (PySyncObj#84, tikv#3572): never an answer before the vote is on the disk.
        if self._state_durable < self._state_ticket:
            self._held.append((self._state_ticket, peer, message))
        else:
            self._messages.append((peer, message))

    def save_state(self, state: HardState) -> None:
        """Have term and vote saved."""
        self._state = state
        self._state_ticket += 1

    def term_changed(self) -> None:
        """Withdraw what was promised in the old term and is not sent yet.

        Said in the new one, the old leader could count an entry that the new one removes.
        """
        self._held.clear()

    def state_persisted(self, ticket: int) -> None:
        """Release what waited for that."""
        self._state_durable = max(self._state_durable, ticket)
        held, self._held = self._held, []
        for needed, peer, message in held:
            if needed <= self._state_durable:
                self._messages.append((peer, message))
            else:
                self._held.append((needed, peer, message))

    @property
    def is_state_durable(self) -> bool:
        """Whether term and vote of now are durable."""
        return self._state_durable == self._state_ticket

    # -- what is rare -----------------------------------------------------------------------------

    def event(self, level: str, text: str, **fields: Any) -> None:
        """Add a line for the log."""
        self._news.events = [*self._news.events, (level, text, fields)]
        self._has_news = True

    def role_changed(self) -> None:
        """Role, term or known leader changed."""
        self._news.role_changed = self._has_news = True

    def configuration_changed(self) -> None:
        """The members to keep links to changed."""
        self._news.configuration_changed = self._has_news = True

    def cured(self) -> None:
        """Amnesia ended."""
        self._news.cured = self._has_news = True

    def reinstall(self) -> None:
        """Only a snapshot helps."""
        self._news.reinstall = self._has_news = True

    def serve_reads(self, reads: list[tuple[Any, int]]) -> None:
        """Hand out answers to reads."""
        if reads:
            self._news.reads = [*self._news.reads, *reads]
            self._has_news = True

    def want_snapshot(self, peer: int) -> None:
        """Have a snapshot sent."""
        self._news.snapshots = [*self._news.snapshots, peer]
        self._has_news = True

    def want_entries(self, peer: int, first: int, max_bytes: int) -> None:
        """Have entries read from the store."""
        self._news.fetches = [*self._news.fetches, (peer, first, max_bytes)]
        self._has_news = True

    # -- handing over -----------------------------------------------------------------------------

    def has_output(self, log: RaftLog, commit_index: int) -> bool:
        """Whether there is something to hand over."""
        return (
            bool(self._messages)
            or self._has_news
            or commit_index != self._commit_index
            or log.has_news
            or self._state is not None
        )

    def take(self, log: RaftLog, commit_index: int) -> Ready | None:
        """Return what has to be done, None when there is nothing."""
        if not self.has_output(log, commit_index):
            return None
        if self._has_news:
            ready, self._news = self._news, Ready()
            self._has_news = False
        else:
            ready = Ready()
        ready.commit_index = self._commit_index = commit_index
        if self._state is not None:
            ready.state, self._state = self._state, None
            ready.state_ticket = self._state_ticket
        if log.has_news:
            ready.reset_to, ready.truncate_from, ready.entries, ready.log_ticket = log.take()
        if self._messages:
            ready.messages, self._messages = self._messages, []
        return ready
