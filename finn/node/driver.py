"""The driver: once per reactor turn, feeds the core and does what its ``Ready`` asks, in order.

All events of one turn of the reactor (client commands, messages, disk completions) only leave a
note; ``turn`` runs once after them. So Raft, disk and network costs are paid per turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel

from finn.errors import NotApplied, NotLeader, OutcomeUnknown, Removed
from finn.node.stopping import ending
from finn.options import Durability
from finn.raft.core import Raft, Role
from finn.raft.entries import CONFIGURATION

if TYPE_CHECKING:
    from finn.interfaces import ILogStore
    from finn.node.service import Node
    from finn.raft.entries import Entry
    from finn.raft.ready import Ready

# A timer that fires so late means that the reactor stalled: input waits that it must see first.
STALL = 0.05
# Proposals that lost their leader wait so long for the name of the next one before they fail.
LEADER_WAIT = 0.5
# At medium a sync outstanding for longer means that the disk hangs (DESIGN section 4).
SYNC_LIMIT = 2.0

_LEVELS = {
    "debug": LogLevel.debug,
    "verbose": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}


class Driver:
    """Runs one ``Raft`` on a store, links and a clock.

    Attributes:
        is_due: a turn was asked for and has not begun.
        turns: changes whenever the core was given input.
    """

    log: ClassVar[Logger] = Logger(namespace="finn.node")

    def __init__(self, node: Node, raft: Raft, store: ILogStore) -> None:
        self._node = node
        self.raft = raft
        self.store = store
        self.turns = 0
        self._turn_call: Any = None
        self.is_due = False
        self._timer: Any = None
        self._timer_at = 0.0
        self._leaderless_since: float | None = None
        self._was_leader = False
        self.stopped = False

    # -- waking -------------------------------------------------------------------------------

    def wake(self) -> None:
        """Ask for a turn after the events of this one."""
        if not self.is_due and not self.stopped:
            self.is_due = True
            self._turn_call = self._node.soon(self._turn)

    def stop(self) -> None:
        """No more turns and timers."""
        self.stopped = True
        self.turns += 1
        for call in (self._turn_call, self._timer):
            if call is not None and call.active():
                call.cancel()
        self._turn_call = self._timer = None
        self.is_due = False

    def _turn(self) -> None:
        if not self.is_due:
            return  # a timer was faster
        self.is_due = False
        self._turn_call = None
        try:
            self.turn()
        except BaseException as e:
            # Also what ends a process elsewhere: of a machine's command it must not end a reactor.
            self._node.fatal(e, unexpected=True)

    def turn(self) -> None:
        """Do everything there is to do now, for at most a slice of applying."""
        if self.stopped:
            return
        self.turns += 1
        node = self._node
        raft = self.raft
        now = node.now()
        # Input first: what arrived may end or begin leadership.
        self._drain(now)
        if node.reading.asked or node.proposals.queued:
            self._submit(now)
            self._drain(now)
        more = node.applying.run()
        node.reading.applied(node.applying.last_applied)
        node.server.flush()
        node.dispatch.release()
        if not node.is_ready:
            node.check_ready()
        if not node.identity.joined:
            node.standing.check_joined()
        if more:
            self.wake()
        self._arm(raft.next_deadline())

    def _submit(self, now: float) -> None:
        node = self._node
        raft = self.raft
        if node.reading.asked:
            node.reading.submit(raft, now)
        if node.proposals.queued:
            if raft.role is Role.LEADER:
                if not raft.transferring:
                    node.proposals.submit(raft, node.wall_ms(), now)
            else:
                self._withdraw(now)

    def _withdraw(self, now: float) -> None:
        """Refuse what is queued here, naming the next leader if it is known soon."""
        raft = self.raft
        if self._leaderless_since is None:
            self._leaderless_since = now
        if raft.removed:
            self._node.proposals.withdraw(Removed())
        elif raft.leader_address or now - self._leaderless_since > LEADER_WAIT:
            self._leaderless_since = None
            self._node.proposals.withdraw(NotLeader(raft.leader_address))

    # -- time ---------------------------------------------------------------------------------

    def _arm(self, deadline: float) -> None:
        if self.stopped:
            return
        timer = self._timer
        if timer is not None and timer.active():
            if self._timer_at <= deadline:
                return  # it will look again when it fires
            timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - self._node.now())
        self._timer = self._node.reactor.callLater(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        now = self._node.now()
        if now - self._timer_at > STALL:
            # After a stall, pending input is read before an election timer is believed.
            self._timer = self._node.reactor.callLater(0, self._after_input)
        else:
            self._tick()

    def _after_input(self) -> None:
        reactor = self._node.reactor
        self._timer = reactor.callLater(0, self._tick)
        poller = getattr(reactor, "poller", None)
        if poller is not None:
            # Clients may have sent more than could be read; what members sent must be heard.
            poller.hear_preferred()

    def _tick(self) -> None:
        self._timer = None
        now = self._node.now()
        self._watch_disk(now)
        self._node.links.note_progress(now)
        self.raft.tick(now)
        self._turn_now()

    def _turn_now(self) -> None:
        call = self._turn_call
        if call is not None and call.active():
            call.cancel()
        self.is_due = True
        self._turn()

    def _watch_disk(self, now: float) -> None:
        """Give up leadership while the disk hangs (DESIGN section 6)."""
        options = self._node.options
        busy = self.store.busy_since
        limit = options.election_timeout
        if options.durability is not Durability.HIGH:
            limit = max(limit, SYNC_LIMIT)
        hangs = busy is not None and self._node.now() - busy > limit
        raft = self.raft
        if hangs and not raft.hold_off:
            self.log.warn("the disk has not answered for {limit} s", limit=limit)
            raft.hold_off = True
            if raft.role is Role.LEADER:
                raft.step_down(now, "the disk hangs")
        elif not hangs and raft.hold_off:
            self.log.info("the disk answers again")
            raft.hold_off = False

    # -- Ready --------------------------------------------------------------------------------

    def _drain(self, now: float) -> None:
        """Do what the core wants done.

        What else gives it input meanwhile asks for a turn; only a store that is done at once is
        told to the core, and its answer awaited, in this one.
        """
        while not self.stopped:
            ready = self.raft.ready()
            if ready is None or not self._handle(ready, now):
                return

    def _handle(self, ready: Ready, now: float) -> bool:
        """Do one ``Ready``: its fields are in the order of the duties.

        Returns:
            Whether something of it is durable already, which the core knows now.
        """
        done = False
        self.turns += 1  # what was asked of the core before may hold no longer
        node = self._node
        raft = self.raft
        store = self.store
        for level, text, fields in ready.events:
            self._log_event(level, text, fields)
        if ready.state is not None:
            done = self._save_state(ready.state, ready.state_ticket)
        if ready.reset_to is not None:
            store.reset(*ready.reset_to)
        if ready.truncate_from:
            store.truncate_suffix(ready.truncate_from)
        # The leader sends before and while it writes (thesis 10.2.1): the core counts its own copy
        # only once it is durable, and holds back by itself what must not be sent earlier.
        send = node.links.send
        for peer, message in ready.messages:
            send(peer, message)
        if ready.entries:
            store.append(ready.entries)
        if ready.log_ticket:
            # At every level: who forgets members takes a few of them, or itself, for a majority.
            durable = CONFIGURATION in [entry.kind for entry in ready.entries]
            done = self._sync(ready.log_ticket, durable) or done
        if self.stopped:
            return False  # the disk failed at once
        for peer, first, size in ready.fetches:
            self._fetch(peer, first, size)
        for peer in ready.snapshots:
            node.snapshots.transfers.send(peer)
        for token, index in ready.reads:
            error: NotApplied = NotLeader(raft.leader_address)
            node.reading.confirmed(token, index, error)
        if ready.configuration_changed:
            node.links.follow(raft.peers)
        if ready.role_changed:
            self._role_changed(now)
        if ready.cured:
            node.standing.cured()
        if ready.reinstall:
            self.log.warn("applied entries were overwritten: waiting for a snapshot")
            node.snapshots.interrupt()
            node.applying.pause()
        return done

    def _log_event(self, level: str, text: str, fields: dict[str, Any]) -> None:
        self.log.emit(
            _LEVELS.get(level, LogLevel.info), text, finn_verbose=level == "verbose", **fields
        )

    def _save_state(self, state: Any, ticket: int) -> bool:
        return self._when_durable(self.store.save_state(state), self.raft.state_persisted, ticket)

    def _sync(self, ticket: int, durable: bool) -> bool:
        return self._when_durable(self.store.sync(durable), self.raft.persisted, ticket)

    def _fetch(self, peer: int, first: int, size: int) -> None:
        def fetched(entries: list[Entry] | None) -> None:
            if not self.stopped:
                self.raft.fetched(peer, entries, self._node.now())
                self.wake()

        def failed(failure: Any) -> None:
            from finn.errors import Compacted

            if failure.check(Compacted):
                fetched(None)
            else:
                self._node.fatal(failure.value)

        self.store.read(first, size).addCallbacks(fetched, failed)

    def _when_durable(
        self, deferred: Deferred[None], tell: Callable[[int], None], ticket: int
    ) -> bool:
        """Tell the core when the disk is done; its failure is the end of this node.

        Returns:
            Whether it was done already.
        """
        if deferred.called and deferred.result is None:
            self.turns += 1
            tell(ticket)
            return True

        def done(_: object) -> None:
            if not self.stopped:
                tell(ticket)
                self.wake()

        deferred.addCallbacks(done, lambda failure: self._node.fatal(failure.value))
        return False

    # -- roles --------------------------------------------------------------------------------

    def _role_changed(self, now: float) -> None:
        node = self._node
        raft = self.raft
        leads = raft.role is Role.LEADER
        if self._was_leader and not leads:
            node.transactions.lost_track()
            node.snapshots.transfers.leadership_lost()
            node.proposals.forget(OutcomeUnknown(), above=raft.commit_index)
            if node.proposals.queued:
                self._withdraw(now)
        if leads or raft.leader_address:
            self._leaderless_since = None
        self._was_leader = leads
        node.role_changed()
        node.forwarding.leader_known()

    def abandon(self, reason: str) -> None:
        """This node failed: nothing is sent, persisted or applied any more."""
        self.refuse_all(reason)
        self.stop()
        self._node.links.stop()
        self._node.dispatch.release()
        self._node.server.flush()

    def refuse_all(self, unknown: str) -> None:
        """Fail everything that waits, truthfully: queued work is withdrawn, the rest unknown.

        And what waits for that, or comes now, is refused: nobody would see to it.
        """
        self._node.raft = None
        self.turns += 1
        refusal = ending(self._node)
        assert refusal is not None
        self._node.proposals.withdraw(refusal)
        self._node.proposals.forget(OutcomeUnknown(unknown))
        self._node.applying.abandon(OutcomeUnknown(unknown))
        self._node.reading.fail_all(refusal)
        self._node.snapshots.give_up(refusal)
