"""The built-in commands that every machine gets: about the cluster and about this node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from finn.errors import CommandError, MembershipError, NotReady
from finn.node.builtin import NO_REPLY, BuiltinTable, Raw
from finn.node.clients import CLIENT_COMMANDS
from finn.node.info import INFO_COMMANDS
from finn.node.introspection import INTROSPECTION
from finn.node.status import original_stats, state_of, status_of
from finn.node.transactions import Queued
from finn.resp.replies import OK_REPLY, PONG_REPLY
from finn.resp.values import OK, Simple

if TYPE_CHECKING:
    from finn.node.service import Node

BUILTINS = BuiltinTable()
_command = BUILTINS.command
_PONG = Raw(PONG_REPLY)


# -- the cluster ------------------------------------------------------------------------------


@_command("RAFTLEADER", 0, 0, group="cluster", queues=True, fast=True)
def raft_leader(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Address of the leader, null if none is known."""
    return node.raft.leader_address if node.raft is not None else None


@_command("RAFTSTATE", 0, 0, group="cluster", queues=True, fast=True)
def raft_state(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Role of this node: Leader, Follower, Candidate or Shutdown."""
    return state_of(node)


@_command("RAFTPEERS", 0, 0, group="cluster", queues=True)
def raft_peers(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Addresses of the members with their state, sorted by address."""
    states = node.links.peer_states()
    if not states and node.identity.cluster_id:
        raise NotReady()  # an empty answer would say that there is no cluster here
    return [word for pair in states for word in pair]


@_command("RAFTSTATS", 0, 0, group="cluster", queues=True)
def raft_stats(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Figures of this node: the original's eleven keys, then more."""
    stats = original_stats(node)
    status = status_of(node)
    more = {key: str(status[key]) for key in sorted(status) if key not in stats}
    return [word for pair in (stats | more).items() for word in pair]


@_command("RAFTADDPEER", 1, 1, "address", group="cluster", manages=True)
def raft_add_peer(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Add the node at an address; it learns first and votes once it has caught up."""
    return _ok(node.membership.add(cmd[1].decode("utf-8", "replace")))


@_command("RAFTREMOVEPEER", 1, 1, "address", group="cluster", manages=True)
def raft_remove_peer(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Remove the member at an address, the leader itself too."""
    return _ok(node.membership.remove(cmd[1].decode("utf-8", "replace")))


@_command("RAFTTRANSFER", 0, 1, "[address]", group="cluster", manages=True)
def raft_transfer(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Hand leadership to a member, the one that is furthest if none is named."""
    refusal = node.dispatch.refusal()
    raft = node.raft
    if refusal is not None or raft is None:
        raise refusal or CommandError("ERR raft not ready")
    target = None
    if len(cmd) == 2:
        member = raft.configuration.by_address(cmd[1].decode("utf-8", "replace"))
        if member is None:
            raise MembershipError("peer is unknown")
        target = member.id
    raft.transfer_leadership(target, node.now())
    node.wake()
    return OK


@_command("RAFTSNAPSHOT", 0, 0, group="cluster", manages=True)
def raft_snapshot(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Take a snapshot of this node's machine now; answers when it is on the disk."""
    return node.snapshots.take().addCallback(lambda _: OK)


@_command("RAFTSHRINKLOG", 0, 0, group="cluster", manages=True)
def raft_shrink_log(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Give back the disk space of log entries that a snapshot covers."""
    return node.snapshots.shrink().addCallback(lambda _: OK)


@_command("RAFTHELP", 0, 0, group="cluster", queues=True)
def raft_help(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """This text: one line per command of this node and its machine."""
    return node.catalogue.help()


def _ok(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine).addCallback(Simple)


# -- the connection ---------------------------------------------------------------------------


@_command("PING", 0, 1, "[message]", queues=True, fast=True)
def ping(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Answer PONG, or the message."""
    return cmd[1] if len(cmd) == 2 else _PONG


@_command("ECHO", 1, 1, "message", yields=True, queues=True, fast=True)
def echo(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Answer the message."""
    return cmd[1]


@_command("QUIT", 0, -1, before_auth=True, immediate=True, fast=True)
def quit_connection(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Answer OK and close the connection."""
    connection.close_after_flush(OK_REPLY)
    return NO_REPLY


# -- transactions -----------------------------------------------------------------------------


@_command("MULTI", 0, 0, group="transactions", immediate=True, fast=True)
def multi(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Begin a transaction: commands are queued until EXEC."""
    if connection.transaction is not None:
        raise CommandError("ERR MULTI calls can not be nested")
    connection.transaction = Queued()
    return OK


@_command("EXEC", 0, 0, group="transactions", immediate=True)
def execute(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Run the queued commands as one atomic piece of the log."""
    if connection.transaction is None:
        raise CommandError("ERR EXEC without MULTI")
    node.transactions.execute(connection)
    return NO_REPLY


@_command("DISCARD", 0, 0, group="transactions", immediate=True, fast=True)
def discard(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Forget the queued commands and the watched keys."""
    if connection.transaction is None:
        raise CommandError("ERR DISCARD without MULTI")
    connection.transaction = None
    node.transactions.unwatch(connection)
    return OK


@_command("WATCH", 1, -1, "key [key ...]", group="transactions", immediate=True)
def watch(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Make the next EXEC answer null if one of the keys is written before it."""
    if connection.transaction is not None:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    return node.transactions.watch(connection, cmd[1:])


@_command("UNWATCH", 0, 0, group="transactions", queues=True, fast=True)
def unwatch(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Forget the watched keys."""
    node.transactions.unwatch(connection)
    return OK


BUILTINS.update(CLIENT_COMMANDS)
BUILTINS.update(INFO_COMMANDS)
BUILTINS.update(INTROSPECTION)
