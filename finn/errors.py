"""The exception tree, and the one table from exceptions to RESP error texts."""

from __future__ import annotations

from typing import Any


class FinnError(Exception):
    """Base of every error that finn raises on purpose.

    Copies of it, by ``copy`` or ``pickle``, have the same text and attributes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class: its arguments are what the text was made of.
        return _made_again, (type(self), self.args), self.__dict__


def _made_again(kind: type[FinnError], args: tuple[Any, ...]) -> FinnError:
    return kind.__new__(kind, *args)


class Disabled(FinnError):
    """A machine raises this from ``snapshot`` to say that it takes none."""


class CommandError(FinnError):
    """An error reply for the client: the text is sent as it is, after ``-``.

    It begins with a word in capitals, as ``ERR`` is. ``TRY``, ``UNKNOWN`` and texts
    like ``ERR request timed out`` are finn's own, which clients act upon: ``ERR`` is put before
    them.
    """


class UnknownCommand(CommandError):
    """No command of that name; the client's spelling is kept."""

    def __init__(self, name: bytes) -> None:
        super().__init__(f"ERR unknown command '{printable(name)}'")


class WrongArity(CommandError):
    """The command exists, with another number of arguments."""

    def __init__(self, name: bytes) -> None:
        super().__init__(f"ERR wrong number of arguments for '{printable(name)}' command")


class ProtocolError(FinnError):
    """The other side broke the protocol: it gets an error and the connection is lost."""


class NotApplied(FinnError):
    """Certainly not applied: the command may be sent again without harm."""

    reply = "ERR not applied"

    def __str__(self) -> str:
        return self.args[0] if self.args else self.reply


class NotLeader(NotApplied):
    """This node is not the leader.

    Args:
        leader: address of the leader, or None when none is known.
    """

    def __init__(self, leader: str | None = None) -> None:
        super().__init__(f"TRY {leader}" if leader else "ERR leader not known")
        self.leader = leader


class NotReady(NotApplied):
    """The node is still restoring its snapshot or replaying its log."""

    reply = "ERR raft not ready"


class Stopping(NotReady):
    """The node is being stopped in order, or was."""

    reply = "ERR node is stopping"


class Removed(NotApplied):
    """The node was removed from its cluster and serves its status only."""

    reply = "raft is already shutdown"


class Overloaded(NotApplied):
    """A bound on queued work was reached before anything was appended."""

    reply = "ERR server is overloaded, try again later"


class DeadlinePassed(NotApplied):
    """The request's deadline passed before anything was appended or executed."""

    reply = "ERR request timed out"


class OutcomeUnknown(FinnError):
    """The command was appended, and then this node lost sight of it: it may or may not be applied.

    Args:
        reason: why, in a few words; the reply is ``UNKNOWN`` and the reason.
    """

    def __init__(self, reason: str = "leadership lost while committing log") -> None:
        super().__init__(f"UNKNOWN {reason}")


class MembershipError(NotApplied):
    """A change of membership was refused; nothing changed."""


class MembershipBusy(MembershipError):
    """The change cannot be made now; a moment later it may."""


class LogError(FinnError):
    """Base of the errors of log and snapshot stores."""


class Compacted(LogError):
    """The entries asked for are gone: a snapshot covers them."""


class BadRecord(LogError):
    """The scan met bytes that are no record.

    Args:
        offset: where the record would begin.
        reason: what is wrong.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} at offset {offset}")
        self.offset = offset
        self.reason = reason


class CorruptLog(LogError):
    """Stored bytes before the last sync mark are damaged.

    Args:
        path: the file.
        offset: position of the first bad byte's record, in bytes.
        reason: what is wrong there.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{path} is damaged at offset {offset}: {reason}. The other members have the data: "
            "move this directory away and join again"
        )
        self.path = path
        self.offset = offset


class DataDirectoryError(LogError):
    """The data directory cannot be used: locked, of another backend, version or cluster."""


class DiskFailed(LogError):
    """A write or fsync failed; it is never retried, the node stops."""


class TransferFailed(FinnError):
    """A transfer ended before the snapshot was installed; it may be tried again."""


class SnapshotUnusable(TransferFailed):
    """Its bytes cannot be read, or the receiver could not use them: they may be bad."""


class MissingExtra(FinnError):
    """An optional package is not installed.

    Args:
        what: what needs it, for instance ``"the bolt backend"``.
        package: the package to import.
        extra: the extra of the distribution that brings it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'finn-raft[{extra}]'")


class StartFailed(FinnError):
    """The node cannot start; the text says what is wrong and what to do."""


class BadMachine(FinnError, TypeError):
    """What was given as a machine is none, or holds what its snapshot cannot keep."""


def printable(data: bytes, limit: int = 128) -> str:
    """Render client bytes for one line of an error reply: no CR, LF or undecodable bytes."""
    text = data[:limit].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


# Error replies that say that nothing was applied, and that another try may succeed.
AGAIN = frozenset(
    (
        "ERR leader not known",
        "ERR node has failed",
        "ERR max number of clients reached",
        *(kind.reply for kind in (NotReady, Stopping, Removed, Overloaded, DeadlinePassed)),
    )
)


def command_error_text(text: str) -> str:
    """Return the text of a ``CommandError`` as it is sent: never one that finn's clients act upon.

    They would repeat a write that was done.
    """
    is_ours = text in AGAIN or text.split(None, 1)[:1] in (["TRY"], ["UNKNOWN"])
    return f"ERR {text}" if is_ours else text


def error_text(error: BaseException) -> str:
    """Return the RESP error text (without ``-``) of an exception.

    This is the only place where exceptions become replies. An error that is not finn's gives
    ``ERR`` and its text, on one line.
    """
    text = " ".join(str(error).splitlines())
    if isinstance(error, CommandError):
        return command_error_text(text)  # an empty one, too, as where it is returned
    text = text or type(error).__name__
    if isinstance(error, (NotApplied, OutcomeUnknown)):
        return text
    return f"ERR {text}"
