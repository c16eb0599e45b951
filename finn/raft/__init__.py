"""Raft without I/O: messages and the clock go in, duties come out.

The core knows no socket, file, clock, thread or Twisted. It is a set of plain objects around
``Raft``; whoever owns one is its *driver*. This text is what a driver has to know; "the paper" is
"In Search of an Understandable Consensus Algorithm", "the thesis" is Ongaro's.

Going in
    Every input is a method of ``Raft``. It returns at once and does nothing but change memory.
    ``now`` is monotonic seconds, always of the same clock. Input may be collected: call
    ``receive``, ``propose``, ``read_index``... as often as there is something, and then ``ready``
    until it returns None. That is one *turn*, and costs are paid per turn.

Coming out
    ``ready()`` returns a ``Ready``: what has to be done, in this order.

    1. ``state``: save term and vote; when that is durable, ``state_persisted(state_ticket)``.
       The core holds back what must not be said earlier, so nothing else has to wait.
    2. ``reset_to``, ``truncate_from``, ``entries``: change the log, in this order.
    3. ``messages``: send them; before, while or after the log is written. A link may lose messages
       only when it is lost itself (``peer_lost``), and delivers in order.
    4. When ``entries`` are durable: ``persisted(log_ticket)``. One call for the newest ticket is
       enough. A leader counts itself, and a follower answers, for what is durable only.
    5. ``fetches``, ``snapshots``: entries to read from the store, snapshots to send. Each has to be
       ended: with ``fetched``, with ``snapshot_sent``. With no snapshot at hand, take one.
    6. ``commit_index``: apply up to there, at your own pace; say ``applied(index)``. Entries come
       from ``log.entries(first, last, bytes)``, or from the store when that is None.
    7. ``reads``: serve each when its index is applied; -1 means that leadership was lost.
    8. ``role_changed``, ``configuration_changed`` (let the links follow ``Raft.peers``),
       ``cured`` (note it durably), ``reinstall`` (stop applying and reading), ``events``.

The loop, all in all::

    def turn(raft, now):
        while (ready := raft.ready()) is not None:
            if ready.state is not None:
                store.save_state(ready.state, then=lambda: raft.state_persisted(ready.state_ticket))
            if ready.reset_to is not None:
                store.reset(*ready.reset_to)
            if ready.truncate_from:
                store.truncate_suffix(ready.truncate_from)
            for peer, message in ready.messages:
                links[peer].send(message)
            if ready.entries:
                store.append(ready.entries)
                store.sync(then=lambda: raft.persisted(ready.log_ticket))
            for peer, first, size in ready.fetches:
                store.read(first, size, then=lambda entries: raft.fetched(peer, entries, clock()))
            for peer in ready.snapshots:
                send_snapshot(peer, then=lambda ok: raft.snapshot_sent(peer, index, ok, clock()))
            for token, index in ready.reads:
                serve(token, index)
            apply_up_to(ready.commit_index)
        set_timer(raft.next_deadline())  # then raft.tick(now) and another turn

Time
    Call ``tick`` when ``next_deadline`` has come. After a stall of the process read what has
    arrived first: a leader's message may be among it. The deadline changes with every input; a
    timer that fires too early does no harm.

Reads
    ``read_index`` is linearizable and costs a round to a majority, shared by all reads of a turn.
    ``lease_valid(now)`` tells whether a read may be served here without one, *at this moment*:
    ask when the read is executed, with a fresh ``now``, after ``commit_index`` is applied.

Snapshots
    An own one: ``snapshot_taken`` when it is durable, ``compacted`` when the store dropped entries
    (none above the snapshot). A received one: ask ``snapshot_offered`` first; when it is durable,
    and ``index`` is still above what is applied (or ``reinstalling``), restore the machine and call
    ``snapshot_installed``. A log that ends before the newest snapshot at start, or conflicts with
    it, is reset by the core.

Crashes
    ``leader_suspect`` when the leader's address refuses connections or another process answers
    there: elections begin within 50 ms instead of after a timeout. ``amnesic=True`` when this node
    may have lost what it acknowledged. ``hold_off`` and ``step_down`` when the disk is in trouble.

One file per job: ``server`` (figure 2's state and rules for all servers), ``core`` (the driver's
API), ``follower``, ``candidate``, ``leader``, ``voting``, ``timer``, ``replication`` and
``progress`` (what goes to which peer), ``reads`` (rounds, lease, ReadIndex), ``transfer``,
``membership``, ``snapshots``, ``amnesia``, ``log``, ``outbox``; the words in between are
``entries``, ``messages``, ``ready``, ``configuration``, ``settings``.
"""

from __future__ import annotations

from finn.raft.configuration import Configuration, Member
from finn.raft.core import Raft
from finn.raft.entries import Entry
from finn.raft.log import RaftLog
from finn.raft.ready import HardState, Ready
from finn.raft.server import Role
from finn.raft.settings import RaftOptions

__all__ = [
    "Configuration", "Entry", "HardState", "Member", "Raft", "RaftLog", "RaftOptions", "Ready",
    "Role",
]  # fmt: skip
