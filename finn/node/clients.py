"""The built-in commands about connections: HELLO, AUTH, CLIENT, SELECT, RESET."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from finn.errors import CommandError, printable
from finn.node.builtin import MANY, NO_REPLY, BuiltinTable, Subcommands, subcommand
from finn.node.status import state_of
from finn.protocols.transport import peer_name, plain
from finn.resp.replies import encode_value
from finn.resp.values import OK, Simple

if TYPE_CHECKING:
    from finn.node.service import Node

CLIENT_COMMANDS = BuiltinTable()
_command = CLIENT_COMMANDS.command

# What clients that look for a Redis version are told: the one whose replies ours follow.
REDIS_VERSION = "7.0.0"
_SYNTAX = CommandError("ERR syntax error")
# Bytes of a client's name, or its library's: CLIENT LIST shows those of all clients.
MAX_NAME = 1024


@_command(
    "HELLO",
    0,
    MANY,
    "[protover [AUTH username password] [SETNAME name]]",
    before_auth=True,
    fast=True,
)
def hello(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Choose the protocol, 2 or 3, authenticate and name the connection."""
    version = 3 if connection.resp3 else 2
    if len(cmd) > 1:
        if not cmd[1].isdigit():
            raise CommandError("ERR Protocol version is not an integer or out of range")
        if cmd[1] not in (b"2", b"3"):
            raise CommandError("NOPROTO unsupported protocol version")
        version = int(cmd[1])
    name = None
    at = 2
    while at < len(cmd):
        word = cmd[at].upper()
        if word == b"AUTH" and at + 2 < len(cmd):
            authenticate(node, connection, cmd[at + 1], cmd[at + 2])
            at += 3
        elif word == b"SETNAME" and at + 1 < len(cmd):
            name = _checked_name(cmd[at + 1], "Client names")
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{printable(cmd[at])}'")
    if not connection.authenticated:
        raise CommandError(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
            "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
            "select the RESP protocol version at the same time"
        )
    if name is not None:
        connection.name = name
    connection.resp3 = version == 3
    return {
        # Clients choose what they may use by these two; INFO tells finn's own version.
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": version,
        "id": connection.id,
        "mode": "standalone",
        "role": "master" if state_of(node) == "Leader" else "replica",
        "modules": [],
    }


@_command("AUTH", 1, 2, "[username] password", before_auth=True, fast=True)
def auth(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Prove the cluster's secret."""
    if node.options.secret is None and len(cmd) == 2:
        raise CommandError(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    authenticate(node, connection, cmd[1] if len(cmd) == 3 else b"default", cmd[-1])
    return OK


def authenticate(node: Node, connection: Any, user: bytes, secret: bytes) -> None:
    """Compare a secret in constant time with each that is known, and note the role it gives.

    Where none is known any is right for the user ``default``, as in Redis; no other user is.

    Raises:
        CommandError: it is none of them.
    """
    options = node.options
    if options.secret is None and user == b"default" and connection.authenticated:
        return
    full = (options.secret or "").encode()
    restricted = (options.client_secret or "").encode()
    is_full = hmac.compare_digest(secret, full) and options.secret is not None
    is_restricted = hmac.compare_digest(secret, restricted) and options.client_secret is not None
    if not (is_full or is_restricted):
        node.server.complain("wrong secret from {peer}", peer=connection.peer)
        raise CommandError("WRONGPASS invalid username-password pair or user is disabled.")
    connection.authenticated = True
    connection.restricted = not is_full


@_command("SELECT", 1, 1, "index", queues=True, fast=True)
def select(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Accept database 0, the only one."""
    if not cmd[1].isdigit():
        raise CommandError("ERR value is not an integer or out of range")
    if cmd[1].strip(b"0"):
        raise CommandError("ERR DB index is out of range")
    return OK


@_command("RESET", 0, 0, before_auth=True, immediate=True, fast=True)
def reset(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Put the connection back to how it began."""
    connection.transaction = None
    node.transactions.unwatch(connection)
    connection.resp3 = False
    connection.name = b""
    if node.options.secret is not None:
        connection.authenticated = False
        connection.restricted = False
    return Simple("RESET")


@_command(
    "CLIENT", 1, -1, "subcommand [argument ...]",
    queues=True, changes=(b"SETNAME", b"SETINFO", b"KILL"),
)  # fmt: skip
def client(node: Node, connection: Any, cmd: list[bytes]) -> Any:
    """Tell about connections: ID, INFO, LIST, GETNAME, SETNAME, SETINFO, KILL, NO-EVICT."""
    return subcommand(_SUBCOMMANDS, cmd)(node, connection, cmd[2:])


def _client_id(node: Node, connection: Any, args: list[bytes]) -> Any:
    return connection.id


def _client_info(node: Node, connection: Any, args: list[bytes]) -> Any:
    return _line(node, connection) + "\n"


def _client_list(node: Node, connection: Any, args: list[bytes]) -> Any:
    clients = list(node.server.connections.values())
    if args:
        word = args[0].upper()
        if word == b"ID" and len(args) > 1:
            wanted = {_client_number(a, "ERR Invalid client ID") for a in args[1:]}
            clients = [c for c in clients if c.id in wanted]
        elif word == b"TYPE" and len(args) == 2:
            clients = clients if _is_normal(args[1]) else []
        else:
            raise _SYNTAX
    return "".join(_line(node, c) + "\n" for c in clients)


def _client_number(word: bytes, error: str) -> int:
    number = int(word) if word.isdigit() and len(word) < 20 else 0
    if number < 1:
        raise CommandError(error)
    return number


def _is_normal(kind: bytes) -> bool:
    """Say whether a client type is the one that all connections here have."""
    word = kind.lower()
    if word not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
        raise CommandError(f"ERR Unknown client type '{printable(kind)}'")
    return word == b"normal"


def _client_get_name(node: Node, connection: Any, args: list[bytes]) -> Any:
    return connection.name or None


def _client_set_name(node: Node, connection: Any, args: list[bytes]) -> Any:
    connection.name = _checked_name(args[0], "Client names")
    return OK


def _client_set_info(node: Node, connection: Any, args: list[bytes]) -> Any:
    option = args[0].upper()
    value = _checked_name(args[1], printable(args[0]))
    if option == b"LIB-NAME":
        connection.library = value
    elif option == b"LIB-VER":
        connection.library_version = value
    else:
        raise CommandError(f"ERR Unrecognized option '{printable(args[0])}'")
    return OK


def _client_kill(node: Node, connection: Any, args: list[bytes]) -> Any:
    """Drop clients by address, or by ID, ADDR, LADDR, TYPE, USER, SKIPME."""
    if connection.restricted:
        raise CommandError("NOPERM this secret may not drop connections")
    clients = list(node.server.connections.values())
    if len(args) == 1:
        found = [c for c in clients if c.peer.encode() == args[0]]
        if not found:
            raise CommandError("ERR No such client")
        return _drop(found, connection, OK)
    if len(args) % 2:
        raise _SYNTAX
    skip_me = True
    for option, value in zip(args[::2], args[1::2], strict=True):
        word = option.upper()
        if word == b"ID":
            number = _client_number(value, "ERR client-id should be greater than 0")
            clients = [c for c in clients if c.id == number]
        elif word == b"ADDR":
            clients = [c for c in clients if c.peer.encode() == value]
        elif word == b"LADDR":
            clients = [c for c in clients if _local_address(c).encode() == value]
        elif word == b"TYPE":
            clients = clients if _is_normal(value) else []
        elif word == b"USER":
            if value != b"default":
                raise CommandError(f"ERR No such user '{printable(value)}'")
        elif word == b"SKIPME" and value.lower() in (b"yes", b"no"):
            skip_me = value.lower() == b"yes"
        else:
            raise _SYNTAX
    if skip_me:
        clients = [c for c in clients if c is not connection]
    return _drop(clients, connection, len(clients))


def _drop(clients: list[Any], own: Any, reply: Any) -> Any:
    """Drop connections; the one that asks gets its reply first."""
    for other in clients:
        if other is not own:
            other.abandon()
    if own not in clients:
        return reply
    own.close_after_flush(encode_value(reply))
    return NO_REPLY


def _client_help(node: Node, connection: Any, args: list[bytes]) -> Any:
    return [Simple(f"CLIENT {name.decode()}") for name in sorted(_SUBCOMMANDS)]


def _switch(node: Node, connection: Any, args: list[bytes]) -> Any:
    """Accept ON or OFF for what makes no difference here."""
    if args[0].lower() not in (b"on", b"off"):
        raise _SYNTAX
    return OK


_SUBCOMMANDS: Subcommands = {
    b"ID": (0, 0, _client_id),
    b"INFO": (0, 0, _client_info),
    b"LIST": (0, MANY, _client_list),
    b"GETNAME": (0, 0, _client_get_name),
    b"SETNAME": (1, 1, _client_set_name),
    b"SETINFO": (2, 2, _client_set_info),
    b"KILL": (1, 14, _client_kill),  # each option once: each may have to look at all clients
    b"NO-EVICT": (1, 1, _switch),
    b"NO-TOUCH": (1, 1, _switch),
    b"HELP": (0, 0, _client_help),
}


def _line(node: Node, connection: Any) -> str:
    """Return one line of CLIENT LIST: the fields of Redis 7, for which clients look, and more.

    Those of buffers that are not counted are 0, and which command came last is not kept.
    """
    now = node.reactor.seconds()
    transaction = connection.transaction
    flags, queued, size = "N", -1, 0
    if transaction is not None:
        flags, queued, size = "x", len(transaction), transaction.size
    waiting = connection.waiting
    # One piece: there may be ten thousand such lines.
    return (
        f"id={connection.id} addr={connection.peer} laddr={_local_address(connection)} "
        f"fd={_descriptor(connection)} name={connection.name.decode('utf-8', 'replace')} "
        f"age={int(now - connection.created_at)} idle={int(now - connection.last_active)} "
        f"flags={flags} db=0 sub=0 psub=0 ssub=0 multi={queued} qbuf=0 qbuf-free=0 argv-mem=0 "
        f"multi-mem={size} rbs=0 rbp=0 obl=0 oll=0 omem={waiting} tot-mem={size + waiting} "
        f"events=r cmd=NULL user=default redir=-1 resp={3 if connection.resp3 else 2} "
        f"lib-name={connection.library.decode('utf-8', 'replace')} "
        f"lib-ver={connection.library_version.decode('utf-8', 'replace')} "
        f"tot-cmds={connection.commands_count}"
    )


def _descriptor(connection: Any) -> int:
    """Return the number of a connection's socket, -1 where there is none."""
    fileno = getattr(plain(connection.transport), "fileno", None)
    return -1 if fileno is None else int(fileno())


def _local_address(connection: Any) -> str:
    return peer_name(connection.transport.getHost())


def _checked_name(name: bytes, what: str) -> bytes:
    if len(name) > MAX_NAME:
        raise CommandError(f"ERR {what} cannot be longer than {MAX_NAME} bytes.")
    if any(b <= 32 or b > 126 for b in name):
        raise CommandError(f"ERR {what} cannot contain spaces, newlines or special characters.")
    return name
