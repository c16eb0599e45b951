"""The seams of finn: what a machine, a store, a disk and a connection promise each other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.logger import Logger
    from twisted.python.failure import Failure

    from finn.raft.configuration import Configuration
    from finn.raft.entries import Entry
    from finn.raft.ready import HardState
    from finn.resp.commands import UniformCommands


# -- machines ---------------------------------------------------------------------------------


class IConnection(Interface):
    """A client's connection, as a machine sees it: the reply slot of one command.

    Exactly one reply per command; what is written fills the slot of that command, so a late write
    cannot break the order of a pipeline. Writing twice to a filled slot is an error.
    """

    id: int = Attribute("number of the connection, unique while the process lives")
    context: Any = Attribute("a place for the machine, shared by all commands of the connection")
    peer: str = Attribute("the client's address")

    def write_string(text: str) -> None:
        """Reply with a simple string; CR and LF become spaces."""

    def write_bulk(data: bytes | str) -> None:
        """Reply with a bulk string."""

    def write_integer(number: int) -> None:
        """Reply with an integer."""

    def write_array(count: int) -> None:
        """Begin an array of ``count`` replies, which the next writes fill."""

    def write_null() -> None:
        """Reply with null."""

    def write_error(text: str) -> None:
        """Reply with an error; the text includes its code, for instance ``ERR``.

        ``TRY`` and ``UNKNOWN`` are finn's own, see ``finn.CommandError``.
        """

    def write_raw(data: bytes) -> None:
        """Reply with RESP bytes as they are: exactly one reply."""


class IApplier(Interface):
    """What a machine gets with each command."""

    log: Logger = Attribute("the machine's logger")
    now: int = Attribute(
        "replicated time in ms since 1970; equal on every node, never goes back; 0 before an entry"
    )
    random: Random = Attribute("replicated random source, equal on every node for a command")

    def apply(
        conn: IConnection | None,
        cmd: list[bytes],
        mutate: Callable[[], Any] | None,
        respond: Callable[[Any], None] | None,
    ) -> Deferred[Any]:
        """Replicate a command (``mutate``) or wait until it may read (``mutate`` is None).

        Call it at most once per command, synchronously. ``mutate`` runs when the entry is applied,
        on every node, and is always the one of the call made *at apply*, in which ``conn`` is
        None. ``respond(value)`` runs on the node that has the client and writes the reply: at once
        within EXEC, and else before the time of a request is over; then the client gets an error.

        Returns:
            Fires with mutate's value after ``respond``; fails with NotApplied or OutcomeUnknown.
        """


class IMachine(Interface):
    """The state of a service and its commands, in the original's style.

    ``finn.Machine`` is the declarative way, easier and faster; it is not an ``IMachine``.
    """

    def command(applier: IApplier, conn: IConnection | None, cmd: list[bytes]) -> Any:
        """Run one command; ``cmd[0]`` is its name as the client spelled it.

        A command is 64 MiB long at most, whoever sent it.

        Those of a transaction are called when EXEC comes. Where EXEC turns out to be null, what
        they asked to apply is not done; what they did without asking is.

        Raises:
            finn.errors.UnknownCommand: no such command, whatever the state and the arguments: where
                one that is in the log is unknown, this machine is older than the one that wrote it,
                and the node ends.
            finn.errors.WrongArity: wrong number of arguments.
            finn.errors.CommandError: any other error reply.
        """

    def snapshot(file: IWriter) -> Generator[None, None, None] | None:
        """Write the state, at once or as a generator; what is returned otherwise is an error.

        A generator is run to its first ``yield`` between two entries: what precedes that
        ``yield`` is the freeze. The rest runs in slices while commands keep flowing.

        Raises:
            finn.errors.Disabled: this machine takes no snapshots.
        """

    def restore(file: IReader) -> Generator[None, None, None] | None:
        """Replace the state by what ``snapshot`` wrote, at once or as a generator in slices."""


class IConnectionObserver(Interface):
    """Optional for a machine: told of client connections."""

    def connection_made(conn: IConnection) -> bool:
        """A client came; False refuses it. Only ``id``, ``context``, ``peer`` are usable."""

    def connection_lost(conn: IConnection, reason: Failure) -> None:
        """The connection is gone; not called for refused ones."""


class IWriter(Interface):
    """Where a snapshot is written."""

    def write(data: bytes) -> None:
        """Take bytes; never blocks (they are written behind, with a bound the node watches)."""


class IReader(Interface):
    """Where a snapshot is read from."""

    def read(size: int = -1) -> bytes:
        """Return up to ``size`` bytes, all that is left for -1, empty at the end."""


# -- the disk ---------------------------------------------------------------------------------


class IDisk(Interface):
    """Runs blocking functions off the reactor, one at a time, in order (one dedicated thread)."""

    def run(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Queue a function; the Deferred fires in the reactor with its result or exception."""

    def stop() -> Deferred[None]:
        """Finish what is queued, then end the thread. ``run`` afterwards fails."""


class IFile(Interface):
    """An open file that is appended to and read at offsets. Used from one thread at a time."""

    def write(data: bytes) -> None:
        """Append all of ``data``. Raises OSError."""

    def pread(size: int, offset: int) -> bytes:
        """Read up to ``size`` bytes at ``offset``."""

    def datasync() -> None:
        """fdatasync: what was written survives a power loss once this returns."""

    def truncate(size: int) -> None:
        """Cut the file to ``size`` bytes."""

    def size() -> int:
        """Current size in bytes."""

    def close() -> None:
        """Close; not a sync."""


class IFiles(Interface):
    """The file system, so that tests can put a faulty one in its place. All raise OSError."""

    def create(path: str) -> IFile:
        """Create an empty file for appending and reading; fails when it exists."""

    def open(path: str) -> IFile:
        """Open an existing file for appending and reading."""

    def open_readonly(path: str) -> IFile:
        """Open an existing file for reading."""

    def rewrite(path: str, offset: int) -> None:
        """Write what a file holds from ``offset`` on once more, in place; not a sync.

        Where a sync failed the system may take it for written: without this the next says nothing.
        """

    def read(path: str) -> bytes:
        """Return the whole content of a small file."""

    def exists(path: str) -> bool:
        """Say whether there is a file or directory."""

    def listdir(path: str) -> list[str]:
        """Names in a directory, sorted."""

    def makedirs(path: str) -> None:
        """Create a directory and its parents; fine when it exists; each new entry is synced."""

    def rename(old: str, new: str) -> None:
        """Rename atomically, replacing ``new`` if it is a file."""

    def unlink(path: str) -> None:
        """Remove a file."""

    def rmtree(path: str) -> None:
        """Remove a directory and all in it."""

    def sync_directory(path: str) -> None:
        """fsync a directory: names created, renamed or removed in it survive a power loss."""

    def lock(path: str) -> Callable[[], None] | None:
        """Take an exclusive lock on ``path``; returns its release, or None when held elsewhere."""


class ILogStore(Interface):
    """The durable log with its term and vote. Created closed; nothing is touched before ``open``.

    All calls come from the reactor thread, in this order: ``open`` (wait), then any of the others,
    ``close`` (wait) last. ``append``, ``truncate_suffix``, ``compact`` and ``reset`` take effect
    on the attributes at once and on the disk in call order. A failure of the disk makes the
    Deferred of the ``sync``, ``save_state`` or other call fail with DiskFailed and every later one
    too; nothing is retried.
    """

    first_index: int = Attribute("index of the oldest entry held; last_index + 1 when empty")
    last_index: int = Attribute("index of the newest entry held; the base when empty")
    state: HardState = Attribute("term and vote as last saved")
    terms: list[tuple[int, int]] = Attribute(
        "(first index, term) for each run of entries of one term, oldest first; the first pair may "
        "begin at first_index. Valid after open and only until the first change."
    )
    configurations: list[Entry] = Attribute("configuration entries in the log; valid as ``terms``")
    last_time: int = Attribute("not below the time of any entry, ms; valid as ``terms``")
    notice: str = Attribute("what ``open`` dropped, one line for the log; empty if nothing")
    dropped_tail: bool = Attribute("open dropped something: the node may be amnesic")
    log_bytes: int = Attribute("bytes the log occupies, for metrics and the snapshot threshold")
    durable_index: int = Attribute("last index known to survive power loss")
    busy_since: float | None = Attribute(
        "clock seconds when the oldest unfinished disk operation began, None when idle"
    )

    def open() -> Deferred[None]:
        """Load or create. Fails with CorruptLog, DataDirectoryError, MissingExtra or DiskFailed."""

    def append(entries: Sequence[Entry]) -> None:
        """Write at the end; contiguous, beginning at last_index + 1 (asserted)."""

    def sync(durable: bool = False) -> Deferred[None]:
        """Fires when all that was appended before is as durable as the level says.

        With ``durable`` it survives a power loss, whatever the level says.
        """

    def truncate_suffix(index: int) -> None:
        """Remove ``index`` and everything above it."""

    def compact(index: int) -> None:
        """Entries up to ``index`` are no longer needed; whole segments may be kept longer."""

    def reset(index: int, term: int) -> None:
        """Remove everything; the log is empty with base ``index``: the next entry is index + 1."""

    def save_state(state: HardState) -> Deferred[None]:
        """Save term and vote; fires when fsynced, at every level."""

    def read(first: int, max_bytes: int) -> Deferred[list[Entry]]:
        """Read entries from ``first`` on, at least one, up to ``max_bytes``. Off the reactor.

        Fails with Compacted when ``first`` is below first_index.
        """

    def shrink() -> Deferred[None]:
        """Give back the space of compacted entries now. CommandError if the backend cannot."""

    def close() -> Deferred[None]:
        """Sync everything, whatever the level, and close."""


class SnapshotMeta:
    """What a snapshot says of itself (``meta.json``).

    Attributes:
        index: last entry it contains.
        term: term of that entry.
        time: time of that entry, ms.
        configuration: members as of ``index``.
        size: bytes of the state.
        crc: CRC-32 of the state.
        machine: name of the machine that wrote it.
        version: version of the machine's snapshot format.
        id: directory name, ``<term>-<index>-<ms>``.
    """

    __slots__ = (
        "index", "term", "time", "configuration", "size", "crc", "machine", "version", "id",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        term: int,
        time: int,
        configuration: Configuration,
        size: int = 0,
        crc: int = 0,
        machine: str = "",
        version: int = 1,
        id: str = "",
    ) -> None:
        self.index = index
        self.term = term
        self.time = time
        self.configuration = configuration
        self.size = size
        self.crc = crc
        self.machine = machine
        self.version = version
        self.id = id


class ISnapshotSink(Interface):
    """A snapshot being written aside. Give it bytes, then ``finish`` or ``abort``."""

    pending: int = Attribute("bytes taken and not yet on the disk: pause above a few MiB")
    received: int = Attribute("bytes taken so far: where a transfer resumes")

    def write(data: bytes) -> None:
        """Take bytes; they are written on the disk thread, in order."""

    def flushed() -> Deferred[None]:
        """Fires when all that was taken so far is written (not synced)."""

    def finish() -> Deferred[SnapshotMeta]:
        """Sync, check size and CRC if the meta has them, rename, sync the directory, keep two.

        Fails with LogError (it is aborted then) or DiskFailed.
        """

    def abort() -> Deferred[None]:
        """Remove what was written."""


class ISnapshotSource(Interface):
    """A snapshot being read; pinned against removal until closed."""

    meta: SnapshotMeta = Attribute("what it is")

    def read(offset: int, size: int) -> Deferred[bytes]:
        """Read off the reactor; fewer bytes only at the end."""

    def close() -> Deferred[None]:
        """Unpin."""


class ISnapshotStore(Interface):
    """The snapshots of a node: the newest two are kept."""

    snapshots: list[SnapshotMeta] = Attribute("complete ones, oldest first; valid after open")

    def open() -> Deferred[None]:
        """List and check; leftovers are removed, a snapshot with a bad checksum is set aside."""

    def create(meta: SnapshotMeta) -> ISnapshotSink:
        """Begin a snapshot; size and crc of ``meta`` are 0 for our own, set for a received one."""

    def source(meta: SnapshotMeta) -> Deferred[ISnapshotSource]:
        """Open one for reading."""

    def check(meta: SnapshotMeta) -> Deferred[str]:
        """Read one through; fires with what is wrong with it, an empty string when nothing is.

        Fails with OSError when it cannot be told, as there are too many open files, say.
        """

    def set_aside(meta: SnapshotMeta, reason: str) -> Deferred[str]:
        """Forget a bad one at once; fires with a line for the log when no later ``open`` finds it.

        It is kept for whoever wants to look at it, until the next one is set aside.
        """

    def discard(metas: list[SnapshotMeta]) -> Deferred[None]:
        """Forget these at once; fires when no later ``open`` finds them, readers or not."""


# -- protocols --------------------------------------------------------------------------------


class ISlot(Interface):
    """The place of one or more replies in a connection's pipeline."""

    def fill(data: bytes) -> None:
        """Give the RESP bytes; they are written when all slots before are filled. Once only."""


class IDispatcher(Interface):
    """What the client protocol hands its commands to: the node."""

    def connection_made(connection: Any) -> bool:
        """A client came (a ``finn.protocols.server.ClientConnection``); False refuses it."""

    def connection_lost(connection: Any, reason: Failure) -> None:
        """It is gone; slots still open may be filled, to no effect."""

    def commands_received(
        connection: Any, commands: Sequence[list[bytes]], raw: bytes | None
    ) -> None:
        """Run commands, in order.

        ``raw``, when not None, is exactly the RESP encoding of ``commands`` and nothing else. The
        dispatcher calls ``connection.reply`` or ``connection.reserve`` once per command, in order.
        """

    def gathers(command: list[bytes]) -> bool:
        """Say whether commands like this one may wait for others, and be run with them.

        Nothing else happens until all are done: none of them may take long.
        """

    def crowd_received(
        connections: Sequence[Any],
        counts: Sequence[int],
        commands: UniformCommands,
        raw: bytes,
    ) -> bool:
        """Run commands that it gathers, of clients of which none waits for anything, in any order.

        The first ``counts[0]`` of the commands are the first client's, and so on; ``raw`` is
        exactly their encoding. The dispatcher calls ``answer`` or ``reserve`` once per connection,
        for all of its commands. False: nothing was done, each is to be handed over alone.
        """

    def link_requested(connection: Any, command: list[bytes], rest: bytes) -> None:
        """The first command was RAFTLINK: the connection becomes a member link.

        ``rest`` is what was received behind it. The node detaches the transport.
        """
