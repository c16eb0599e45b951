"""Options of a node, their allowed words, and the parsing of addresses."""

from __future__ import annotations

import enum
import math
import os
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from os import PathLike
from typing import Any


class Consistency(enum.IntEnum):
    """How fresh a read is (DESIGN section 7)."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2


class Durability(enum.IntEnum):
    """What a write survives once it is acknowledged."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2


class Backend(enum.Enum):
    """Where the log is kept."""

    FASTLOG = "fastlog"
    BOLT = "bolt"
    LEVELDB = "leveldb"
    INMEM = "inmem"


class LogLevel(enum.IntEnum):
    """How much is logged; each level includes those above it."""

    QUIET = 0
    WARNING = 1
    NOTICE = 2
    VERBOSE = 3
    DEBUG = 4


LOOPBACK = "127.0.0.1"

LONGEST = 30 * 24 * 3600.0
"""The longest that a command may wait, seconds: the wire counts milliseconds in 32 bits."""


def check_word(name: str, kind: type[enum.Enum], value: object) -> None:
    """Refuse what is of another type: a level of another kind, for one, equals one of this.

    Raises:
        ValueError: with one line for the user.
    """
    if not isinstance(value, kind):
        members = ", ".join(f"{kind.__name__}.{word}" for word in kind.__members__)
        raise ValueError(f"{name} must be one of {members}, not {value!r}")


def checked_timeout(seconds: object) -> float:
    """Return how long a command may wait, ``LONGEST`` at most.

    Raises:
        ValueError: it is no number of seconds.
    """
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(f"a timeout of {seconds!r} seconds")
    return min(seconds, LONGEST)


#: What the levels and the backend of a node are chosen from.
_WORDS: dict[str, Any] = {
    "backend": Backend,
    "durability": Durability,
    "consistency": Consistency,
}

#: Seconds of the other times at most: a timer can still be set.
FOREVER = 1e9

#: Characters of a host name that can be looked up (RFC 1035), and of an address. Whether a name is
#: one takes some microseconds for each of them.
LONGEST_NAME = 253
LONGEST_ADDRESS = LONGEST_NAME + len("[]:65535")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")

#: Whole numbers among the options, and the least of each.
_COUNTS = {"max_clients": 1, "snapshot_bytes": 0, "trailing_bytes": 0}


def split_address(address: str) -> tuple[str, int]:
    """Split ``host:port`` or ``:port`` (loopback) or ``[v6]:port``.

    Returns:
        Host and port, fit to be dialled.

    Raises:
        ValueError: with a text for the user, when it is not an address.
    """
    if len(address) > LONGEST_ADDRESS:
        raise ValueError(f"an address of {len(address)} characters is too long")
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError(f"address {address!r} has no port, write host:port or :port")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"address {address!r} has a bad port, 1 to 65535 is allowed")
    in_brackets = host.startswith("[") and host.endswith("]")
    if in_brackets:
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"address {address!r}: write an IPv6 host in brackets")
    is_plain = all(c.isprintable() and not c.isspace() for c in host)
    if not (is_plain and (_is_ipv6(host) if in_brackets else _is_name(host or LOOPBACK))):
        raise ValueError(f"address {address!r} has a bad host name")
    return host or LOOPBACK, int(port)


def _is_path(value: str | PathLike[str]) -> bool:
    try:
        return "\0" not in os.fsdecode(value)
    except TypeError:
        return False


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    """Say whether a host can be looked up: Twisted knows letters, digits and hyphens only."""
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    labels = name.removesuffix(".").split(".")
    return len(name) <= LONGEST_NAME and all(map(_LABEL.fullmatch, labels))


def is_loopback(host: str) -> bool:
    """Say whether an interface can be reached from this machine only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    number = _number(host)
    return number is not None and number.is_loopback


def _is_any(host: str) -> bool:
    """Say whether a host stands for all interfaces of a machine."""
    number = _number(host)
    return number is not None and number.is_unspecified


def _number(host: str) -> IPv4Address | IPv6Address | None:
    try:
        number = ip_address(host)
    except ValueError:
        return None
    return getattr(number, "ipv4_mapped", None) or number


def tcp_description(interface: str, port: int) -> str:
    """Return the endpoint description of an interface and a port."""
    kind = "tcp6" if ":" in interface else "tcp"
    quoted = interface.replace("\\", "\\\\").replace(":", "\\:")
    return f"{kind}:{port}:interface={quoted}"


@dataclass
class NodeOptions:
    """All settings of a node; times in seconds, sizes in bytes.

    Attributes:
        address: how this node is called in the cluster and reached by others (``--advertise``).
        listen: a Twisted server endpoint description, for instance
            ``tcp:7481:interface=10.0.0.1``; None is the port of ``address``, which is on this
            machine then.
        directory: data directory; unused by ``inmem`` but for the lock and the identity.
        join: addresses to ask for membership, in order.
        wait: a fresh node waits to be added instead of bootstrapping or joining.
        secret: shared secret of members and full clients (``--auth-file``).
        client_secret: second secret, whose holders cannot change the cluster.
        tls_cert, tls_key: files of this node's certificate and key: every connection is TLS.
        tls_ca: file with the CA of the members' certificates; clients need one too where no
            ``secret`` is asked of them.
        max_clients: connections beyond this are refused politely.
        idle_timeout: a client silent for longer is dropped; 0 means never.
        request_timeout: deadline of a request, ``LONGEST`` at most.
        snapshot_bytes: a snapshot is taken when the log since the last one exceeds
            max(this, size of that snapshot), the first one earlier on some members so that they
            do not all write at once.
        trailing_bytes: log kept behind a snapshot for slow followers.
    """

    address: str = ":7481"
    listen: str | None = None
    directory: str = "data/7481"
    join: list[str] = field(default_factory=list)
    wait: bool = False
    backend: Backend = Backend.FASTLOG
    durability: Durability = Durability.MEDIUM
    consistency: Consistency = Consistency.MEDIUM
    heartbeat: float = 0.1
    election_timeout: float = 1.0
    request_timeout: float = 10.0
    snapshot_bytes: int = 64 * 1024 * 1024
    trailing_bytes: int = 16 * 1024 * 1024
    max_clients: int = 10_000
    idle_timeout: float = 0.0
    secret: str | None = None
    client_secret: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None

    def check(self) -> None:
        """Refuse values that cannot work together.

        Raises:
            ValueError: with one line for the user.
        """
        self._check_words()
        self._check_numbers()
        self._check_guards()
        self._check_own_address()
        for address in self.join:
            split_address(address)
        if self.wait and self.join:
            raise ValueError("--wait and --join exclude each other")

    @property
    def endpoint(self) -> str:
        """The description of where to listen: ``listen``, or the port of ``address``."""
        if self.listen is not None:
            return self.listen
        host, port = split_address(self.address)
        return tcp_description(host if _number(host) else LOOPBACK, port)

    def _check_own_address(self) -> None:
        """Refuse an address that others cannot dial, or that does not tell where to listen."""
        host, _ = split_address(self.address)
        if _is_any(host):
            raise ValueError(
                f"address {self.address!r} is every interface: others cannot dial it; give one "
                "that they can (--advertise HOST:PORT)"
            )
        if self.listen is None and not is_loopback(host):
            raise ValueError(
                f"address {self.address!r} is beyond this machine: say where to listen, for "
                "instance listen='tcp:7481:interface=10.0.0.1', and give a secret or certificates"
            )

    def _check_words(self) -> None:
        """Refuse what is of another type: a word, for one, would be taken for some level."""
        for name, kind in _WORDS.items():
            check_word(name, kind, getattr(self, name))
        if not isinstance(self.join, (list, tuple)):
            raise ValueError(f"join must be a list of addresses, not {self.join!r}")
        for address in [self.address, *self.join]:
            if not isinstance(address, str):
                raise ValueError(f"an address must be a str, not {address!r}")
        if not isinstance(self.wait, bool):
            raise ValueError(f"wait must be True or False, not {self.wait!r}")
        for name in ("directory", "tls_cert", "tls_key", "tls_ca"):
            value = getattr(self, name)
            if name != "directory" and not value and isinstance(value, (str, type(None))):
                continue  # left out
            if not isinstance(value, (str, PathLike)) or not value or not _is_path(value):
                raise ValueError(f"{name} must be a path, not {value!r}")

    def _check_numbers(self) -> None:
        """Refuse what is no number, or beyond its bounds."""
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number, {least} or more, not {value!r}")
        for name in ("request_timeout", "heartbeat", "election_timeout", "idle_timeout"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of seconds, not {value!r}")
            most = LONGEST if name == "request_timeout" else FOREVER
            if value > most:
                raise ValueError(f"{name} must be {most:.0f} seconds at most, not {value!r}")
            if value == 0 and name == "request_timeout":
                raise ValueError(f"{name} must be more than 0 seconds, not {value!r}")
        # A little less is three of them, too, as 0.3 is of 0.1.
        if not 0 < 3 * self.heartbeat <= self.election_timeout + 1e-9:
            raise ValueError("the election timeout must be at least three heartbeats")

    def _check_guards(self) -> None:
        """Refuse secrets and certificates that would not guard what they seem to."""
        for secret in (self.secret, self.client_secret):
            if not isinstance(secret, (str, type(None))):
                raise ValueError(f"a secret must be a str, not {type(secret).__name__}")
        if self.client_secret is not None and self.secret is None:
            raise ValueError("a client secret needs the secret of the members beside it")
        if self.secret == "" or self.client_secret == "":
            raise ValueError("a secret must not be empty")
        if self.client_secret is not None and self.client_secret == self.secret:
            raise ValueError("the two secrets must differ")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        if self.tls_ca and not self.tls_cert:
            raise ValueError("--tls-ca needs --tls-cert and --tls-key")


def checked_options(options: object) -> NodeOptions:
    """Return options that were checked, the default ones for None.

    Raises:
        TypeError: they are none.
        ValueError: they cannot work together.
    """
    found = NodeOptions() if options is None else options
    if not isinstance(found, NodeOptions):
        raise TypeError(f"options must be finn.NodeOptions, not {type(options).__name__}")
    found.check()
    return found
