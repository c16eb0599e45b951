"""``Node``: one member of a cluster, as a Twisted service."""

from __future__ import annotations

import os
import random as random_module
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import MultiService
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from finn.errors import FinnError, StartFailed, Stopping, UnknownCommand
from finn.node.applying import Applying
from finn.node.commands import BUILTINS
from finn.node.dispatch import Dispatch
from finn.node.driver import Driver
from finn.node.executing import Executing
from finn.node.forwarding import Forwarding
from finn.node.host import Host
from finn.node.introspection import Catalogue
from finn.node.joining import Joining
from finn.node.links import Links
from finn.node.listening import begin_to_listen
from finn.node.membership import Membership
from finn.node.opening import Opening
from finn.node.proposals import Proposals
from finn.node.reading import Reading
from finn.node.snapshotting import Snapshotting
from finn.node.standing import Standing
from finn.node.status import status_of
from finn.node.steady import SteadyReactor
from finn.node.stopping import stop_node
from finn.node.transactions import Transactions
from finn.node.waiters import Waiters
from finn.options import Consistency, NodeOptions, check_word, checked_options, checked_timeout
from finn.protocols.outside import connect_redis
from finn.protocols.server import ClientFactory, client_limits
from finn.protocols.transport import write_through
from finn.raft.core import Raft, Role
from finn.resp.replies import parse_reply
from finn.resp.request import Word, encode_words
from finn.storage.disk import ThreadDisk
from finn.storage.files import OSFiles
from finn.storage.identity import DirectoryLock, Identity, read_boot_id

if TYPE_CHECKING:
    from finn.interfaces import IDisk, IFiles, ILogStore

# How often deadlines of requests are looked at, seconds.
SWEEP = 0.5
# Another node that does not connect or answer for so long is given up, seconds.
ASK_TIMEOUT = 5.0  # Linux takes three to say that there is no such host


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Monotonic seconds that go on during suspend where the system can tell (DESIGN section 4)."""
    return time.clock_gettime(_CLOCK)


class Node(MultiService):
    """A member of a cluster: replicates a machine and serves it.

    Add it to an application with ``setServiceParent``, or call ``startService`` and
    ``stopService``. It never stops the reactor: a fatal error fires ``when_failed``.

    Args:
        reactor: the reactor, or a fake one.
        machine: a ``finn.Machine`` or an ``IMachine``.
        options: all settings.
        files, disk, random, monotonic, wall, boot_id: stand-ins for tests: the file system,
            the disk thread, the random source (nonces of links and files come of it then too),
            monotonic seconds, wall clock seconds, and what names this run of the operating
            system.

    Attributes:
        store: the log store, None before it is open.
        log: the node's logger.
    """

    log = Logger(namespace="finn.node")

    def __init__(
        self,
        reactor: Any,
        machine: Any,
        options: NodeOptions | None = None,
        *,
        files: IFiles | None = None,
        disk: IDisk | None = None,
        random: random_module.Random | None = None,
        monotonic: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
        boot_id: Callable[[], str] | None = None,
    ) -> None:
        if not hasattr(reactor, "callLater"):
            raise TypeError(f"{type(reactor).__name__} is no reactor: it comes before the machine")
        super().__init__()
        self.options = checked_options(options)
        self.nonces: Callable[[int], bytes] = random.randbytes if random is not None else os.urandom
        self.store_random = random
        self.random = random or random_module.Random(random_module.SystemRandom().getrandbits(64))
        self._is_real = isinstance(reactor, ReactorBase)
        self.now: Callable[[], float] = monotonic or (
            boot_time if self._is_real else reactor.seconds
        )
        self.reactor = cast(Any, SteadyReactor(write_through(reactor), self.now))
        self.soon: Callable[[Callable[[], None]], Any] = getattr(
            self.reactor, "soon", lambda action: self.reactor.callLater(0, action)
        )
        self._wall: Callable[[], float] = wall or reactor.seconds
        self.files: IFiles = files or OSFiles()
        self.boot_id: Callable[[], str] = boot_id or (lambda: read_boot_id(self.files))
        self.disk: IDisk = disk or ThreadDisk(self.reactor, "finn-disk")
        # A thread of its own: a snapshot's sync must not keep the log's waiting.
        self.snapshot_disk: IDisk = disk or ThreadDisk(self.reactor, "finn-snapshots")
        self.instance = self.random.getrandbits(63) | 1
        self.host = Host(machine, self.fatal, self.wake)
        self.identity: Identity
        self.store: ILogStore
        self.raft: Raft | None = None
        self.driver: Driver | None = None
        self.proposals = Proposals()
        self.reading = Reading(self)
        self.executing = Executing(self)
        self.applying = Applying(
            self.host, self.proposals, self._read_log, self.wake, self._apply_failed, self.now
        )
        self.transactions = Transactions(self)
        self.dispatch = Dispatch(self, BUILTINS)
        self.catalogue = Catalogue(self)
        self.links = Links(self)
        self.membership = Membership(self)
        self.joining = Joining(self)
        self.forwarding = Forwarding(self)
        self.snapshots = Snapshotting(self)
        self.standing = Standing(self)
        self.server = ClientFactory(self.dispatch, client_limits(self.options), self.reactor)
        self.tls: Any = None
        self.port: Any = None
        self.attempt: object = None  # to listen, of the start that counts
        self.lock: DirectoryLock
        self.store_open = self.stopping = False
        self.started_at = 0.0
        self.failure: BaseException | None = None
        self._sweep_call: Any = None
        self._sleeps: list[Any] = []
        self._ready, self._leading, self._failing = Waiters(), Waiters(), Waiters()
        self._ends = Waiters()
        self._was_started = self._has_stopped = self._is_ready = False
        self.opened: Deferred[Any] = succeed(None)
        self._observers: list[Callable[[str], None]] = []

    # -- life ---------------------------------------------------------------------------------

    def startService(self) -> None:
        """Lock the data directory, bind the port, and begin to restore in the background.

        Raises:
            StartFailed: with one line for the user. It can be tried again then, in another turn
                of the reactor; once a node was started, it cannot be started again.
        """
        if self._was_started or self.stopping:
            again = "was stopped: make another one to start it again"
            raise StartFailed(f"this node {again if self.stopping else 'is started already'}")
        self.started_at = self.reactor.seconds()
        opening = Opening(self)
        try:
            opening.prepare()
            begin_to_listen(self)
            super().startService()
        except FinnError as e:
            self._give_up_start()
            raise StartFailed(str(e)) from None
        except BaseException:
            self._give_up_start()
            raise
        self._was_started = True
        self._sweep_call = self.reactor.callLater(SWEEP, self._sweep)
        if self._is_real:
            self.reactor.watch()
        self.opened = Deferred.fromCoroutine(opening.open())
        self.opened.addCallbacks(self._announce, self.failed, (opening,))

    def _announce(self, _: object, opening: Opening) -> None:
        if self.driver is not None:
            Deferred.fromCoroutine(opening.announce()).addErrback(self.failed)

    def _give_up_start(self) -> None:
        self.attempt = None
        if self.port is not None:
            self.port.stopListening()
            self.port = None
        self.lock.release()
        if self.running:  # but a part of it could not be started
            super().stopService()

    def reload_certificates(self) -> None:
        """Read the TLS files again, for connections made from now on; others go on as they are.

        Raises:
            StartFailed: they cannot be used; those loaded before stay in use.
        """
        if self.tls is not None:
            self.tls.reload()

    def stopService(self) -> Deferred[Any]:
        """Hand over leadership, sync, and close.

        Returns:
            Fires when the directory is free again, however often it is called; cancelling it does
            not keep the node from stopping.
        """
        if self.running and not self.stopping:
            parts = super().stopService()
            done: Deferred[Any] = Deferred.fromCoroutine(stop_node(self))
            if isinstance(parts, Deferred):
                done.addCallback(lambda _: parts)
            done.addErrback(lambda failure: self.log.failure("stopping failed", failure))
            done.addCallback(self._stopped)
        return self._ends.add() if self.stopping and not self._has_stopped else succeed(None)

    def _stopped(self, _: object) -> None:
        self.reactor.stop_watching()
        self._has_stopped = True
        self._ends.fire(None)

    def fatal(self, error: BaseException, unexpected: bool = False) -> None:
        """This node cannot go on: say so once, fail what waits truthfully, and stop serving."""
        is_stopping = self.stopping and not self._has_stopped
        if self.failure is not None or not (self.running or is_stopping):
            return
        self.failure = error
        if unexpected:
            self.log.failure("node failed", Failure(error))
        else:
            self.log.critical("{error}", error=str(error) or type(error).__name__)
        self.joining.stop()
        if self.driver is not None:
            self.driver.abandon("node failed")  # from here on all is refused
        if not is_stopping:
            self.reactor.stop_watching()
            if self.port is not None:
                self.port.stopListening()  # which tells the other members
        self._failing.fire(error)
        self.disappoint(error)

    def disappoint(self, error: BaseException) -> None:
        """Fail those who wait until this node is ready, or leads."""
        self._ready.fail(error)
        self._leading.fail(error)

    def failed(self, failure: Failure) -> None:
        """Give up: the last errback of whatever the node cannot do without."""
        error = failure.value or FinnError("failed")
        self.fatal(error, unexpected=not isinstance(error, FinnError))

    def _apply_failed(self, error: BaseException) -> None:
        if isinstance(error, UnknownCommand):
            other = "" if self.host.declarative else ", or not only names are unknown to it"
            error = StartFailed(
                f"a committed command is unknown to this machine ({error}): "
                f"it is older than the one that wrote it, or another one{other}"
            )
        self.fatal(error, unexpected=not isinstance(error, FinnError))

    # -- time ---------------------------------------------------------------------------------

    def wall_ms(self) -> int:
        """Wall clock, milliseconds since 1970."""
        return int(self._wall() * 1000)

    def sleep(self, seconds: float) -> Deferred[None]:
        """Return a Deferred that fires later, or at once when the node stops."""
        deferred: Deferred[None] = Deferred()

        def wake() -> None:
            self._sleeps.remove(item)
            deferred.callback(None)

        item = (self.reactor.callLater(seconds, wake), deferred)
        self._sleeps.append(item)
        return deferred

    def wake_sleepers(self) -> None:
        """End every ``sleep`` now."""
        sleeps, self._sleeps = self._sleeps, []
        for call, deferred in sleeps:
            call.cancel()
            deferred.callback(None)

    def wake(self) -> None:
        """Ask for a turn of the driver."""
        if self.driver is not None:
            self.driver.wake()
        else:
            self.server.flush()

    def _sweep(self) -> None:
        """Twice a second: fail what waited too long."""
        self._sweep_call = self.reactor.callLater(SWEEP, self._sweep)
        before = self.now() - self.options.request_timeout
        self.proposals.expire(before)
        self.reading.expire(before)
        self.forwarding.expire(before)
        self.host.expire(before)
        self.forwarding.leader_known()
        self.links.poll()
        self.membership.look()
        self.snapshots.check()
        if self.proposals.queued:
            self.wake()  # what waits for a leader's name does not wait for ever
        self.server.flush()

    def stop_sweeping(self) -> None:
        """No more timers of the node itself."""
        if self._sweep_call is not None and self._sweep_call.active():
            self._sweep_call.cancel()

    # -- what the application asks ------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Restored, a member, and applied up to what is known to be committed."""
        return self._is_ready and self.raft is not None

    @property
    def is_member(self) -> bool:
        """Whether this node belongs to a cluster's configuration."""
        raft = self.raft
        return raft is not None and raft.configuration.get(self.identity.node_id) is not None

    def when_ready(self) -> Deferred[Any]:
        """Fires with the node once it has restored its state and knows a leader."""
        return self._when(self._ready, self.is_ready)

    def when_leader(self) -> Deferred[Any]:
        """Fires with the node once it is the leader."""
        return self._when(self._leading, self.raft is not None and self.raft.role is Role.LEADER)

    def when_failed(self) -> Deferred[Any]:
        """Fires with the exception when the node cannot go on; never on a normal stop."""
        return self._failing.add() if self.failure is None else succeed(self.failure)

    def _when(self, waiting: Waiters, now: bool) -> Deferred[Any]:
        if self.failure is not None:
            return fail(self.failure)
        if self.stopping:
            return fail(Stopping())
        return succeed(self) if now else waiting.add()

    def observe_role(self, observer: Callable[[str], None]) -> None:
        """Call ``observer`` with the new state, RAFTSTATE's word, whenever it changes."""
        self._observers.append(observer)

    def role_changed(self) -> None:
        """Tell whoever waits for a role (called by the driver)."""
        raft = self.raft
        assert raft is not None
        self.standing.check_removed()
        state = "Shutdown" if raft.removed else raft.role.value
        for observer in self._observers:
            try:
                observer(state)
            except Exception:
                self.log.failure("a role observer failed")
        if raft.role is Role.LEADER:
            self._leading.fire(self)
        self.check_ready()

    def check_ready(self) -> None:
        """Fire ``when_ready`` once it is time."""
        raft = self.raft
        if self._is_ready or raft is None or not raft.leader_id:
            return
        if self.applying.last_applied >= raft.commit_index > 0:
            self._is_ready = True
            self._ready.fire(self)

    def status(self) -> dict[str, Any]:
        """Return the figures of RAFTSTATS, INFO and /metrics by name.

        Raises:
            NotReady: it was not started.
        """
        return status_of(self)

    # -- for its parts ------------------------------------------------------------------------

    async def ask_node(self, address: str, *words: bytes) -> Any:
        """Send one command to another node, as a client does.

        Raises:
            CommandError: an error reply.
            Exception: whatever kept the reply from coming.
        """
        options = self.options
        connection = await connect_redis(
            self.reactor, address, ASK_TIMEOUT, options.secret, self.tls
        )
        try:
            return await connection.execute(*words)
        finally:
            connection.close()

    def yield_turn(self) -> Deferred[None]:
        """Return a Deferred that fires in the next turn of the reactor."""
        return self.sleep(0)

    def _read_log(self, first: int, size: int) -> Deferred[Any]:
        return self.store.read(first, size)

    # -- executing ----------------------------------------------------------------------------

    def execute(
        self,
        *words: Word,
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> Deferred[Any]:
        """Run one command of the machine, on whatever member this is.

        Args:
            words: name and arguments, 64 MiB in all at most; text is encoded as UTF-8, numbers
                in digits.
            consistency: of a read; the node's own level if None.
            timeout: seconds, a month at most; the node's request timeout if None.

        Raises:
            ValueError: an argument is none of these, or too large; nothing was done.

        Returns:
            Fires with the value as a RESP client would see it (bytes, int, list, None...). Fails
            with CommandError (the machine said no), NotApplied (certainly not applied, try again)
            or OutcomeUnknown. Who cancels it looks away: it may be applied.
        """
        cmd = encode_words(words)
        level = self.options.consistency if consistency is None else consistency
        check_word("consistency", Consistency, level)
        seconds = checked_timeout(self.options.request_timeout if timeout is None else timeout)
        return self.executing.run(cmd, level, seconds, parse_reply)
