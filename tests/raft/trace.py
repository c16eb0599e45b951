"""A cluster in one process that obeys a script and writes down what it does.

Heartbeats and answers that tell nothing new are left out. Commands, one a line (times in seconds):

    nodes 1 2 3 [learner 4] [option=value ...]    start these nodes; all know all
    run T          let T pass: ticks and messages, which arrive at once
    advance T      let T pass with ticks only; messages wait
    deliver [A B]  deliver waiting messages (from A to B only), and what they cause
    drop [A B]     lose waiting messages (from A to B only)
    tick A         tick node A at its deadline
    propose A n    propose n batches at once
    read A name    ask for a linearizable read
    lease A        say whether A's lease holds
    transfer A [B]     suspect A       stepdown A
    add A B [voter]    remove A B      readdress A B address
    crash A [forget N]   lose N acknowledged entries, too: the node is amnesic
    restart A
    cut A B        messages between A and B are lost (and the links, with "cut A B links")
    mend           undo all cuts
    snapshot A keep    snapshot, compact but for ``keep`` entries
    slow A             the disk of A waits ...
    sync A             ... for this
    status             a line for each node: role, term, commit index, log as index^term
"""

from __future__ import annotations

from finn.errors import FinnError
from finn.raft import Configuration, Entry, Member, Raft, RaftOptions, Role
from finn.raft.messages import (
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from finn.raft.progress import ProgressState
from tests.raft.host import Host, members


def show(message: Message) -> str:
    """Render a message; entries as index^term."""
    flags = [f for f in ("pre_vote", "transfer", "amnesic") if getattr(message, f, False)]
    words = [type(message).__name__, f"term={message.term}"]
    if isinstance(message, RequestVote):
        words.append(f"last={message.last_log_index}^{message.last_log_term}")
    elif isinstance(message, VoteReply):
        words.append("granted" if message.granted else "refused")
    elif isinstance(message, AppendEntries):
        words.append(f"prev={message.prev_log_index}^{message.prev_log_term}")
        words.append(f"commit={message.leader_commit} round={message.round}")
        words.append(show_entries(message.entries))
    elif isinstance(message, AppendReply):
        words.append(f"round={message.round}")
        if message.success:
            words.append(f"match={message.match_index}")
        else:
            words.append(f"refused {message.rejected_index}")
            words.append(f"conflict={message.conflict_index}^{message.conflict_term}")
    else:
        assert isinstance(message, TimeoutNow)
    return " ".join([*words, *flags])


def show_entries(entries: list[Entry]) -> str:
    """``[2^1 3^1]``, or ``[2^1 .. 9^1]`` for a longer run of one term."""
    if len(entries) > 4 and entries[0].term == entries[-1].term:
        return f"[{entries[0].index}^{entries[0].term} .. {entries[-1].index}^{entries[-1].term}]"
    return "[" + " ".join(f"{e.index}^{e.term}" for e in entries) + "]"


class Script:
    """Runs commands; ``lines`` is what happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.hosts: dict[int, Host] = {}
        self.waiting: list[tuple[int, int, Message]] = []
        self.cuts: set[frozenset[int]] = set()
        self.options = RaftOptions(spare_delay=0.0)
        self._told: dict[tuple[int, int, type], object] = {}

    def _is_news(self, source: int, target: int, message: Message) -> bool:
        told: object
        if isinstance(message, AppendEntries) and not message.entries:
            told = (message.term, message.prev_log_index, message.leader_commit, message.amnesic)
        elif isinstance(message, AppendReply) and message.success:
            told = (message.term, message.match_index, message.amnesic)
        elif isinstance(message, (AppendEntries, RequestVote, VoteReply)):
            told = message
        else:
            return True
        key = (source, target, type(message))
        before, self._told[key] = self._told.get(key), told
        return before != told

    def command(self, text: str) -> list[str]:
        """Run one line; returns what happened."""
        self.lines = []
        name, *words = text.split()
        try:
            getattr(self, f"do_{name}")(*words)
        except FinnError as e:
            self.lines.append(f"{type(e).__name__}: {e}")
        return self.lines

    # -- setting up -------------------------------------------------------------------------------

    def do_nodes(self, *words: str) -> None:
        voters: list[int] = []
        learners: list[int] = []
        into = voters
        for word in words:
            key, equals, value = word.partition("=")
            if equals:
                setattr(self.options, key, type(getattr(self.options, key))(float(value)))
            elif word == "learner":
                into = learners
            else:
                into.append(int(word))
        founded = members(*voters, learners=tuple(learners))
        for member in founded.members:
            self.hosts[member.id] = Host(member.id, founded, self.options)
            self._start(member.id)

    def _start(self, node_id: int) -> None:
        host = self.hosts[node_id]
        host.start(self.now)
        for peer, other in self.hosts.items():
            if other.raft is not None and peer != node_id:
                other.raft.peer_connected(node_id, self.now)
                self._drain(peer)
        self._drain(node_id)

    def _raft(self, word: str) -> Raft:
        return self.hosts[int(word)].live

    # -- what a driver does -----------------------------------------------------------------------

    def _drain(self, node_id: int) -> None:
        host = self.hosts[node_id]
        if host.raft is None:
            return
        seen = len(host.events)
        messages = host.drain()
        for level, text in host.events[seen:]:
            if not text.startswith("Election timeout reached"):
                self.lines.append(f"{node_id} {level}: {text}")
        for token, index in host.reads:
            self.lines.append(f"{node_id} read {token}: {'lost' if index < 0 else index}")
        host.reads.clear()
        for peer, message in messages:
            self.waiting.append((node_id, peer, message))
        if host.fetches:
            for peer, first, _ in host.fetches:
                self.lines.append(f"{node_id} reads entries from {first} on for {peer}")
            host.answer_fetches(self.now)
            self._drain(node_id)
        wanted, host.snapshots_wanted = host.snapshots_wanted, []
        for peer in wanted:
            self._send_snapshot(host, peer)

    def _send_snapshot(self, host: Host, peer: int) -> None:
        target = self.hosts[peer]
        if not host.snapshot.index:
            host.take_snapshot()
        raft, snapshot = host.live, host.snapshot
        ok = target.raft is not None and frozenset((host.id, peer)) not in self.cuts
        said = f"{host.id} > {peer} snapshot {snapshot.index}^{snapshot.term}"
        self.lines.append(said if ok else said + " (fails)")
        if ok:
            target.install(snapshot, host.id, raft.current_term, self.now)
            self._drain(peer)
        raft.snapshot_sent(peer, snapshot.index, ok, self.now)
        self._drain(host.id)

    def _deliver(self, sender: int | None = None, receiver: int | None = None) -> None:
        at = 0
        while at < len(self.waiting):
            source, target, message = self.waiting[at]
            if (sender, receiver) != (None, None) and (source, target) != (sender, receiver):
                at += 1
                continue
            del self.waiting[at]
            host = self.hosts.get(target)
            line = f"{source} > {target} {show(message)}"
            if host is None or host.raft is None or frozenset((source, target)) in self.cuts:
                self.lines += [line + " (lost)"] if self._is_news(source, target, message) else []
                continue
            self.lines += [line] if self._is_news(source, target, message) else []
            host.raft.receive(source, message, self.now)
            self._drain(target)

    def _pass(self, seconds: float, deliver: bool) -> None:
        end = self.now + seconds
        while True:
            if deliver:
                self._deliver()
            live = [h for h in self.hosts.values() if h.raft is not None]
            host = min(live, key=lambda h: (h.live.next_deadline(), h.id))
            if host.live.next_deadline() > end:
                break
            self.now = max(self.now, host.live.next_deadline())
            host.live.tick(self.now)
            self._drain(host.id)
        self.now = end

    def do_run(self, seconds: str) -> None:
        self._pass(float(seconds), True)

    def do_advance(self, seconds: str) -> None:
        self._pass(float(seconds), False)

    def do_deliver(self, *pair: str) -> None:
        self._deliver(*(int(word) for word in pair))

    def do_drop(self, *pair: str) -> None:
        ids = tuple(int(word) for word in pair)
        self.waiting = [w for w in self.waiting if ids and (w[0], w[1]) != ids]

    def do_tick(self, node: str) -> None:
        raft = self._raft(node)
        self.now = max(self.now, raft.next_deadline())
        raft.tick(self.now)
        self._drain(int(node))

    # -- what clients and operators do ------------------------------------------------------------

    def do_propose(self, node: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self._raft(node).propose([b"x" * 16], 1, int(self.now * 1000), self.now)
        self._drain(int(node))

    def do_read(self, node: str, token: str) -> None:
        self._raft(node).read_index(token, self.now)
        self._drain(int(node))

    def do_lease(self, node: str) -> None:
        holds = self._raft(node).lease_valid(self.now)
        self.lines.append(f"{node} lease {'holds' if holds else 'is over'}")

    def do_transfer(self, node: str, target: str = "") -> None:
        self._raft(node).transfer_leadership(int(target) if target else None, self.now)
        self._drain(int(node))

    def do_suspect(self, node: str) -> None:
        self._raft(node).leader_suspect(self.now)
        self._drain(int(node))

    def do_stepdown(self, node: str) -> None:
        self._raft(node).step_down(self.now, "Asked to")
        self._drain(int(node))

    def _change(self, node: str, configuration: Configuration) -> None:
        self._raft(node).change_membership(configuration, int(self.now * 1000), self.now)
        self._drain(int(node))

    def do_add(self, node: str, new: str, kind: str = "learner") -> None:
        member = Member(int(new), f":{7480 + int(new)}", kind == "voter")
        self._change(node, self._raft(node).configuration.with_member(member))
        if member.id not in self.hosts:
            self.hosts[member.id] = Host(member.id, Configuration(), self.options)
            self._start(member.id)

    def do_remove(self, node: str, old: str) -> None:
        self._change(node, self._raft(node).configuration.without(int(old)))

    def do_readdress(self, node: str, member: str, address: str) -> None:
        old = self._raft(node).configuration.get(int(member))
        assert old is not None
        changed = Member(old.id, address, old.voter)
        self._change(node, self._raft(node).configuration.with_member(changed))

    # -- what goes wrong --------------------------------------------------------------------------

    def do_crash(self, node: str, forget: str = "", count: str = "0") -> None:
        host = self.hosts[int(node)]
        host.crash()
        if forget:
            host.amnesic = True
            host.disk.truncate(host.disk.last + 1 - int(count))
        self.waiting = [w for w in self.waiting if host.id not in w[:2]]
        for other in self.hosts.values():
            if other.raft is not None:
                other.raft.peer_lost(host.id, self.now)
                self._drain(other.id)

    def do_restart(self, node: str) -> None:
        self._start(int(node))

    def do_cut(self, a: str, b: str, links: str = "") -> None:
        self.cuts.add(frozenset((int(a), int(b))))
        if links:
            self._raft(a).peer_lost(int(b), self.now)
            self._raft(b).peer_lost(int(a), self.now)
            self._drain(int(a))
            self._drain(int(b))

    def do_mend(self) -> None:
        for a, b in sorted(tuple(sorted(c)) for c in self.cuts):
            for one, other in ((a, b), (b, a)):
                raft = self.hosts[one].raft
                if raft is not None and self.hosts[other].raft is not None:
                    raft.peer_connected(other, self.now)
                    self._drain(one)
        self.cuts.clear()

    def do_snapshot(self, node: str, keep: str = "0") -> None:
        host = self.hosts[int(node)]
        host.take_snapshot(int(keep))
        self.lines.append(f"{node} snapshot {host.snapshot.index}^{host.snapshot.term}")
        self._drain(int(node))

    def do_slow(self, node: str) -> None:
        self.hosts[int(node)].slow = True

    def do_sync(self, node: str) -> None:
        self.hosts[int(node)].sync()
        self._drain(int(node))

    def do_status(self) -> None:
        for host in self.hosts.values():
            if host.raft is None:
                self.lines.append(f"{host.id} down")
                continue
            raft = host.raft
            words = [f"{host.id} {raft.role.value} term={raft.current_term}"]
            words.append(f"leader={raft.leader_id} commit={raft.commit_index}")
            if host.snapshot.index:
                words.append(f"snapshot={host.snapshot.index}^{host.snapshot.term}")
            words.append(show_entries(host.store.entries))
            voters = ",".join(str(v) for v in raft.configuration.voters)
            learners = ",".join(str(m.id) for m in raft.configuration.members if not m.voter)
            words.append(f"voters={voters}" + (f" learners={learners}" if learners else ""))
            words += ["amnesic"] if raft.amnesic else []
            words += ["removed"] if raft.removed else []
            self.lines.append(" ".join(words))
            if raft.role is Role.LEADER and raft.leader is not None:
                for peer, pr in raft.leader.progress.items():
                    if pr.state is not ProgressState.REPLICATE:
                        self.lines.append(f"  {peer} {pr.state.value} match={pr.match_index}")
