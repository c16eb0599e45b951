"""Random runs of 3 to 5 cores with everything going wrong; one seed is one run.

``python -m tests.raft.simulation SEED`` replays one with a trace.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from random import Random

from finn.errors import MembershipError, NotLeader, Overloaded
from finn.raft import Configuration, Member, RaftOptions, Role
from finn.raft.messages import AppendReply, Message, RequestVote, VoteReply
from tests.raft.host import Host, Snapshot, members


class Checker:
    """The promises of Raft (figure 3), over the whole history of a run."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.newest = 0  # committed anywhere
        self.machines: dict[int, int] = {0: 0}
        self.votes: dict[tuple[int, int], int] = {}
        self.terms: dict[int, int] = {}
        self.commits: dict[int, int] = {}

    def look_at(self, host: Host) -> None:
        """Check one node after it did something."""
        raft = host.live
        term = raft.current_term
        assert term >= self.terms.get(host.id, 0), "term went back"
        self.terms[host.id] = term
        if raft.role is Role.LEADER and self.leaders.get(term) != host.id:
            assert term not in self.leaders, f"two leaders in term {term}"
            self.leaders[term] = host.id
            self._check_completeness(host)
        before = self.commits.get(host.id, 0)
        commit = min(raft.commit_index, host.store.last)
        assert raft.commit_index >= before, "commit index went back"
        for index in range(max(before, host.store.base) + 1, commit + 1):
            entry = host.store.get(index)
            known = self.committed.setdefault(index, (entry.term, entry.record))
            assert known == (entry.term, entry.record), f"two entries committed at {index}"
        self.newest = max(self.newest, commit)
        self.commits[host.id] = commit
        machine = self.machines.setdefault(host.applied, host.machine)
        assert machine == host.machine, f"machines differ at {host.applied}"

    def _check_completeness(self, host: Host) -> None:
        log = host.live.log
        assert log.last_index >= self.newest, "leader lacks committed entries"
        for index in range(log.first_index, self.newest + 1):
            if index in self.committed:
                term = self.committed[index][0]
                assert log.term_at(index) == term, f"leader has another entry at {index}"

    def crashed(self, host: Host) -> None:
        """Volatile state may go back now."""
        self.commits[host.id] = 0
        self.terms[host.id] = host.state.term

    def sends(self, host: Host, peer: int, message: Message) -> None:
        """Check that a message promises nothing that is not durable."""
        if isinstance(message, VoteReply) and message.granted and not message.pre_vote:
            assert host.state.term == message.term and host.state.voted_for == peer
            vote = self.votes.setdefault((host.id, message.term), peer)
            assert vote == peer, "second vote in a term"
        elif isinstance(message, RequestVote) and not message.pre_vote:
            assert host.state.term >= message.term
            vote = self.votes.setdefault((host.id, message.term), host.id)
            assert vote == host.id, "second vote in a term"
        elif isinstance(message, AppendReply) and message.success:
            durable = max(host.disk.last, host.snapshot.index)
            assert message.match_index <= durable, "acknowledged before it was durable"
            assert host.state.term >= message.term, "acknowledged in a term that may be lost"


class Simulation:
    """One run."""

    def __init__(
        self, seed: int, trace: Callable[[str], None] | None = None, amnesia: bool = False,
        changes: bool = True,
    ) -> None:  # fmt: skip
        self.seed = seed
        self.random = random = Random(seed)
        self.trace = trace
        self.now = 0.0
        self.checker = Checker()
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.loss = random.choice([0.0, 0.02, 0.1])
        self.duplicates = random.choice([0.0, 0.05, 0.2])
        self.delay = random.choice([0.002, 0.02, 0.1])
        self.disk_delay = random.choice([0.0, 0.005, 0.05])
        self.amnesia = amnesia
        self.changes = changes
        self.chaos = True
        self.cut: set[tuple[int, int]] = set()
        self.lives: dict[int, int] = {}
        self.reads: dict[object, int] = {}
        self.served = self.leases = 0
        self.options = RaftOptions(
            max_message_bytes=random.choice([100, 1000, 1 << 20]),
            window_messages=random.choice([1, 3, 256]),
            memory_bytes=random.choice([500, 1 << 20]),
            spare_delay=(0.0, 0.01, 0.05)[seed % 3],
            hedge_delay=(0.004, 0.05)[seed // 3 % 2],
        )
        founded = members(*range(1, random.choice([3, 3, 4, 5]) + 1))
        self.hosts = {m.id: Host(m.id, founded, self.options, seed) for m in founded.members}
        for host in self.hosts.values():
            self._start(host)

    # -- time -------------------------------------------------------------------------------------

    def after(self, delay: float, call: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + delay, self.count, call))

    def run(self, until: float) -> None:
        while self.queue and self.queue[0][0] <= until:
            self.now, _, call = heapq.heappop(self.queue)
            call()
        self.now = until

    def say(self, text: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.now:8.3f} {text}")

    # -- nodes ------------------------------------------------------------------------------------

    def _start(self, host: Host) -> None:
        self.lives[host.id] = self.lives.get(host.id, 0) + 1
        host.start(self.now)
        host.slow = self.disk_delay > 0
        self.say(f"{host.id} starts {host.live.log} amnesic={host.amnesic}")
        # As with real links: all of the life before is over before the new one is heard.
        for other in self.hosts.values():
            if other.raft is not None and other is not host:
                other.raft.peer_lost(host.id, self.now)
                other.raft.peer_connected(host.id, self.now)
        self._tick(host.id, self.lives[host.id])

    def _tick(self, node_id: int, life: int) -> None:
        host = self.hosts[node_id]
        if host.raft is None or self.lives[node_id] != life:
            return
        host.raft.tick(self.now)
        self._turn(host)
        if host.raft is not None:
            delay = min(max(host.raft.next_deadline() - self.now, 0.001), 0.05)
            self.after(delay, lambda: self._tick(node_id, life))

    def _turn(self, host: Host) -> None:
        """The driver's turn."""
        raft = host.raft
        if raft is None:
            return
        had = len(host.events)
        messages = host.drain()
        for level, text in host.events[had:]:
            self.say(f"{host.id} {level}: {text}")
        self.checker.look_at(host)
        for token, index in host.reads:
            newest = self.reads.pop(token)
            if index >= 0:
                self.served += 1
                assert index >= newest, f"stale read: {index} < {newest}"
        host.reads.clear()
        for peer, message in messages:
            self.checker.sends(host, peer, message)
            self._send(host.id, peer, message)
        if host.pending:
            life = self.lives[host.id]
            self.after(self.random.random() * self.disk_delay, lambda: self._disk(host.id, life))
        if host.fetches:
            host.answer_fetches(self.now)
            self._turn(host)
        for peer in host.snapshots_wanted:
            self._send_snapshot(host, peer)
        host.snapshots_wanted.clear()

    def _disk(self, node_id: int, life: int) -> None:
        host = self.hosts[node_id]
        if self.lives[node_id] == life and host.raft is not None and host.pending:
            host.sync(self.random.randint(1, len(host.pending)))
            self._turn(host)

    # -- network ----------------------------------------------------------------------------------

    def _send(self, sender: int, receiver: int, message: Message) -> None:
        life = self.lives.get(receiver, 0)

        def arrive() -> None:
            host = self.hosts.get(receiver)
            if host is None or host.raft is None or (sender, receiver) in self.cut:
                return
            if self.lives[receiver] != life:
                return  # it was sent to the life before
            self.say(f"{sender} > {receiver} {message}")
            host.raft.receive(sender, message, self.now)
            self._turn(host)

        copies = 1
        if self.chaos and self.random.random() < self.loss:
            copies = 0
        elif self.chaos and self.random.random() < self.duplicates:
            copies = 2
        for _ in range(copies):
            self.after(self.random.random() * self.delay, arrive)

    def _send_snapshot(self, host: Host, peer: int) -> None:
        snapshot, term, life = host.snapshot, host.live.current_term, self.lives[host.id]
        target = self.hosts.get(peer)
        arrives = target is not None and snapshot is not None and self.random.random() > self.loss

        def arrive(snapshot: Snapshot = snapshot) -> None:
            ok = arrives and target is not None and target.raft is not None
            ok = ok and (host.id, peer) not in self.cut and snapshot.index > 0
            if ok and target is not None:
                self.say(f"{host.id} > {peer} snapshot {snapshot.index}^{snapshot.term}")
                target.install(snapshot, host.id, term, self.now)
                self._turn(target)
            if host.raft is not None and self.lives[host.id] == life:
                host.raft.snapshot_sent(peer, snapshot.index, bool(ok), self.now)
                self._turn(host)

        if host.snapshot.index == 0 or host.snapshot.index < host.store.base:
            host.take_snapshot()
            snapshot = host.snapshot
        self.after(self.random.random() * self.delay * 3, lambda: arrive(host.snapshot))

    # -- what happens -----------------------------------------------------------------------------

    def step(self) -> None:
        """One random thing."""
        random = self.random
        host = random.choice(list(self.hosts.values()))
        dice = random.random()
        if host.raft is None:
            if dice < 0.3:
                self._start(host)
                self._turn(host)
            return
        if dice < 0.05:
            self._crash(host)
        elif dice < 0.08:
            others = [i for i in self.hosts if i != host.id]
            self.cut = {
                p for i in others for p in [(i, host.id), (host.id, i)] if random.random() < 0.6
            }
            self.say(f"cut {sorted(self.cut)}")
        elif dice < 0.14:
            self.cut = set()
        elif dice < 0.17:
            host.take_snapshot(random.choice([0, 2, 10]))
        elif dice < 0.19:
            self._transfer(host)
        elif dice < 0.23 and self.changes:
            self._change(host)
        elif dice < 0.27:
            other = random.choice(list(self.hosts))
            if other != host.id:
                host.raft.peer_lost(other, self.now)
                host.raft.peer_connected(other, self.now)
        else:
            self._client(host)
        self._turn(host)

    def _crash(self, host: Host) -> None:
        down = sum(1 for h in self.hosts.values() if h.raft is None)
        if down * 2 + 2 > len(self.hosts) and self.random.random() < 0.7:
            return
        amnesic = self.amnesia and self._may_forget(host)
        host.crash(self.random.randint(0, len(host.pending)))
        self.lives[host.id] += 1
        self.checker.crashed(host)
        self.say(f"{host.id} crashes")
        if amnesic:
            # Power loss: the end of what was acknowledged is gone.
            lowest = max(host.disk.base, host.snapshot.index)
            if host.disk.last > lowest:
                host.disk.truncate(self.random.randint(lowest + 1, host.disk.last))
            host.amnesic = True
            self._start(host)
            return
        for other in self.hosts.values():
            if other.raft is not None and other.raft.leader_id == host.id:
                other.raft.leader_suspect(self.now)
                self._turn(other)

    def _may_forget(self, host: Host) -> bool:
        """Whether only a minority would be amnesic."""
        return not any(h.amnesic for h in self.hosts.values() if h is not host)

    def _client(self, host: Host) -> None:
        raft = host.live
        if raft.lease_valid(self.now):
            self.leases += 1
            assert raft.commit_index >= self.checker.newest, "stale lease read"
        try:
            if self.random.random() < 0.5:
                for _ in range(self.random.randint(1, 5)):
                    chunk = b"x" * self.random.randint(0, 60)
                    raft.propose([chunk], 1, int(self.now * 1000), self.now)
            else:
                token = object()
                self.reads[token] = self.checker.newest
                raft.read_index(token, self.now)
        except (NotLeader, Overloaded):
            pass

    def _transfer(self, host: Host) -> None:
        try:
            host.live.transfer_leadership(None, self.now)
        except (NotLeader, MembershipError):
            pass

    def _change(self, host: Host) -> None:
        raft = host.live
        if raft.role is not Role.LEADER:
            return
        configuration = raft.configuration
        if len(configuration.members) < 4:
            new = max(self.hosts) + 1
            changed = configuration.with_member(Member(new, f":{7480 + new}", False))
        else:
            changed = configuration.without(self.random.choice(configuration.members).id)
            new = 0
        if self.amnesia and len(changed.voters) < 3:
            # Half of two voters is no minority: an amnesic one that also forgot this change would
            # wait for the other members of its past for ever.
            return
        try:
            raft.change_membership(changed, 0, self.now)
        except MembershipError:
            return
        self.say(f"{host.id} changes to {[m.id for m in changed.members]}")
        if new:
            self.hosts[new] = Host(new, Configuration(), self.options, self.seed)
            self._start(self.hosts[new])

    # -- the end ----------------------------------------------------------------------------------

    def play(self, steps: int = 150) -> None:
        """A run: trouble, then healing, then progress is demanded."""
        for _ in range(steps):
            self.run(self.now + self.random.random() * 0.15)
            self.step()
        self.say("heal")
        self.chaos = False
        self.cut = set()
        self.delay = min(self.delay, 0.02)
        for host in list(self.hosts.values()):
            if host.raft is None:
                self._start(host)
        self._demand_progress()

    def _demand_progress(self) -> None:
        """Within a bound, a leader commits something new on every member."""
        deadline = self.now + 20.0
        entry = None
        while self.now < deadline:
            self.run(self.now + 0.25)
            leaders = [h for h in self.hosts.values() if h.raft and h.raft.role is Role.LEADER]
            if not leaders:
                continue
            leader = max(leaders, key=lambda h: h.live.current_term)
            raft = leader.live
            if entry is None or raft.log.term_at(entry.index) != entry.term:
                try:
                    entry = raft.propose([b"end"], 1, 0, self.now)
                    self._turn(leader)
                except NotLeader:
                    continue
            ids = [m.id for m in raft.configuration.members]
            done = all(self.hosts[i].applied >= entry.index for i in ids)
            if done and not any(self.hosts[i].live.amnesic for i in ids):
                return
        states = [
            (h.id, h.raft and (h.raft.role.value, h.raft.log, h.raft.commit_index))
            for h in self.hosts.values()
        ]
        raise AssertionError(f"no progress after healing: {states}")


def main() -> None:
    """Replay one seed."""
    simulation = Simulation(int(sys.argv[1]), print, amnesia="amnesia" in sys.argv)
    simulation.play()


if __name__ == "__main__":
    main()
