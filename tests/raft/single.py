"""One core among made-up peers, for tests that speak for the others themselves."""

from __future__ import annotations

from typing import TypeVar

from finn.raft import Configuration, HardState, Raft, RaftOptions, Role
from finn.raft.entries import COMMANDS, CONFIGURATION, Entry, make_entry
from finn.raft.messages import AppendEntries, AppendReply, Message, RequestVote, VoteReply
from tests.raft.host import Host, members

M = TypeVar("M")


def entry(index: int, term: int) -> Entry:
    return make_entry(index, term, COMMANDS, 0, 0, 1, [b"x"])


def configuration_entry(index: int, term: int, configuration: Configuration) -> Entry:
    return make_entry(index, term, CONFIGURATION, 0, 0, 0, [configuration.encode()])


class Single:
    """Node 1 of ``members``; time passes by ``wait``; the test plays the others."""

    def __init__(
        self, configuration: Configuration | None = None, terms: tuple[int, ...] = (),
        state: HardState | None = None, amnesic: bool = False,
        options: RaftOptions | None = None,
    ) -> None:  # fmt: skip
        configuration = configuration or members(1, 2, 3)
        self.now = 100.0
        # The followers the test plays get what is new at once.
        self.host = Host(1, configuration, options or RaftOptions(spare_delay=0))
        self.host.amnesic = amnesic
        self.host.state = state or HardState(terms[-1] if terms else 0)
        self.host.disk.append([entry(i, term) for i, term in enumerate(terms, 1)])
        self.raft: Raft = self.host.start(self.now)
        self.sent: list[tuple[int, Message]] = []
        self.drain()

    # -- going on ---------------------------------------------------------------------------------

    def drain(self) -> None:
        self.sent += self.host.drain()
        while self.host.fetches:
            self.host.answer_fetches(self.now)
            self.sent += self.host.drain()

    def wait(self, seconds: float) -> None:
        """Let time pass, with all ticks that are due."""
        end = self.now + seconds
        while self.raft.next_deadline() <= end:
            self.now = max(self.now, self.raft.next_deadline())
            self.raft.tick(self.now)
            self.drain()
        self.now = end

    def sync(self) -> None:
        self.host.sync()
        self.drain()

    def restart(self, **kept: int) -> None:
        """Crash and start again."""
        self.host.crash(**kept)
        self.raft = self.host.start(self.now)
        self.sent.clear()
        self.drain()

    # -- messages ---------------------------------------------------------------------------------

    def gets(self, sender: int, message: Message) -> None:
        self.raft.receive(sender, message, self.now)
        self.drain()

    def said(self, kind: type[M], to: int | None = None) -> list[M]:
        """Messages of that kind since the last time this was asked."""
        found = [m for p, m in self.sent if isinstance(m, kind) and to in (None, p)]
        self.sent = [(p, m) for p, m in self.sent if not (isinstance(m, kind) and to in (None, p))]
        return found

    def append(
        self, previous: tuple[int, int] = (0, 0), *entries: Entry, term: int | None = None,
        commit: int = 0, leader: int = 2, round: int = 1, amnesic: bool = False,
    ) -> list[AppendReply]:  # fmt: skip
        """Get AppendEntries and return the answers."""
        term = self.raft.current_term if term is None else term
        self.said(AppendReply)
        self.gets(
            leader,
            AppendEntries(term, *previous, commit, round, list(entries), amnesic),
        )
        return self.said(AppendReply)

    def asked(
        self, candidate: int = 2, term: int | None = None, last: tuple[int, int] = (99, 99),
        **flags: bool,
    ) -> list[VoteReply]:  # fmt: skip
        """Get RequestVote (for the next term) and return the answers."""
        term = self.raft.current_term + 1 if term is None else term
        self.said(VoteReply)
        self.gets(candidate, RequestVote(term, *last, **flags))
        return self.said(VoteReply)

    def acknowledge(self, peer: int, match: int | None = None, **fields: bool) -> None:
        """Answer what was sent to a peer last."""
        messages = self.said(AppendEntries, peer)
        last = messages[-1]
        if match is None:
            match = last.prev_log_index + len(last.entries)
        self.gets(peer, AppendReply(last.term, True, last.round, match, **fields))

    # -- states -----------------------------------------------------------------------------------

    def campaign(self) -> None:
        """Become a candidate of the next term."""
        while self.raft.role is not Role.CANDIDATE:
            self.wait(0.1)
        term = self.raft.current_term + 1
        for peer in self.raft.configuration.voters:
            if self.raft.current_term < term:
                self.gets(peer, VoteReply(term, True, True))
        assert self.raft.current_term == term

    def lead(self) -> None:
        """Become the leader; nothing is acknowledged yet."""
        self.campaign()
        for peer in self.raft.configuration.voters:
            if self.raft.role is Role.CANDIDATE and peer != 1:
                self.gets(peer, VoteReply(self.raft.current_term, True))
        assert self.raft.role is Role.LEADER

    def lead_on(self) -> None:
        """Become the leader with an entry of the own term committed."""
        self.lead()
        for peer in self.raft.configuration.voters:
            if peer != 1:
                self.acknowledge(peer)
        assert self.raft.commit_index == self.raft.log.last_index

    def propose(self) -> Entry:
        made = self.raft.propose([b"x"], 1, 0, self.now)
        self.drain()
        return made

    @property
    def terms(self) -> list[int]:
        """Terms of the log's entries."""
        return [e.term for e in self.host.store.entries]
