"""Turns the text of flags, and of the files they name, into values.

Every function raises ValueError with one line for the user; ``refuse`` shows it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

from finn.options import LOOPBACK, is_loopback, split_address

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

#: An auth file is a few lines; a larger file is something else, given by mistake.
MAX_AUTH_FILE_BYTES = 64 * 1024


def refuse(text: str) -> NoReturn:
    """End the process, before anything has started, with one line and exit code 1."""
    raise SystemExit(f"finn: {' '.join(text.split())}")


def words(kind: Any) -> list[str]:
    """Return the words of an enum, as the command line has them."""
    return [member.name.lower() for member in kind]


def one_of(name: str, kind: Any, aliases: dict[str, str] | None = None) -> Callable[[str], Any]:
    """Return a coercion from a word to a member of an enum."""

    def coerce(text: str) -> Any:
        word = (aliases or {}).get(text.lower(), text.lower())
        if word not in words(kind):
            raise ValueError(f"--{name} must be one of {', '.join(words(kind))}, not {text!r}")
        return kind[word.upper()]

    return coerce


def number(name: str, least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a coercion to a whole number within bounds."""

    def coerce(text: str) -> int:
        value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if value < least or (most is not None and value > most):
            bounds = f"{least} to {most}" if most is not None else f"{least} or more"
            raise ValueError(f"--{name} must be a whole number, {bounds}, not {text!r}")
        return value

    return coerce


def size(name: str, least: int) -> Callable[[str], int]:
    """Return a coercion to a number of bytes; k, m and g are powers of 1024."""

    def coerce(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,18})(k|m|g|)b?", text.lower())
        value = int(match[1]) * UNITS[match[2]] if match else -1
        if value < least:
            raise ValueError(
                f"--{name} must be a size of at least {least} bytes, "
                f"for instance 67108864 or 64mb, not {text!r}"
            )
        return value

    return coerce


def addresses(text: str) -> list[str]:
    """Turn addresses with commas between them into a list."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    for address in found:
        try:
            split_address(address)
        except ValueError as error:
            raise ValueError(f"--join: {error}") from None
    if not found:
        # As of a variable that is not set: the node would found a cluster of its own.
        raise ValueError(f"--join {text!r} names nobody: give ADDR[,ADDR...], or leave it out")
    return found


def http_address(text: str) -> tuple[str, int]:
    """Turn ``PORT``, which means loopback, or ``HOST:PORT`` into host and port."""
    try:
        return split_address(text if ":" in text else f":{text}")
    except ValueError as error:
        raise ValueError(f"--http: {error}") from None


def default_address(interface: str, port: int) -> str:
    """Return how others on this machine reach a node that listens on a loopback interface."""
    if interface in (LOOPBACK, "localhost"):
        return f":{port}"
    return f"[{interface}]:{port}" if ":" in interface else f"{interface}:{port}"


# Endpoints that are known without a look at Twisted's plugins.
_TCP = ("tcp", "tcp6", "ssl", "tls")
_KNOWN = (*_TCP, "unix")


class Listening:
    """What the description of an endpoint tells without making the endpoint.

    Attributes:
        port: the TCP port, None when it does not tell.
        interface: the interface, empty for all.
        private: nobody outside this machine can connect.
    """

    def __init__(self, description: str) -> None:
        # A colon behind a backslash belongs to the value, as in twisted.internet.endpoints.
        parts = [part.replace("\\:", ":") for part in re.split(r"(?<!\\):", description)]
        keywords = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
        if len(parts) == 1:
            raise ValueError(
                f"--listen must be an endpoint such as tcp:7481:interface={LOOPBACK}, "
                f"not {description!r}"
            )
        if parts[0] not in _KNOWN:
            kinds = {parser.prefix for parser in getPlugins(IStreamServerEndpointStringParser)}
            if parts[0] not in kinds:
                raise ValueError(f"--listen {description}: there is no endpoint {parts[0]!r}")
        positional = [part for part in parts[1:] if "=" not in part]
        port = keywords.get("port", positional[0] if positional else "")
        tcp = parts[0] in _TCP
        self.port = int(port) if tcp and re.fullmatch(r"[0-9]{1,5}", port) else None
        self.interface = keywords.get("interface", "")
        self.private = parts[0] == "unix" or (tcp and is_loopback(self.interface))


@dataclass
class Secrets:
    """The content of an auth file.

    Attributes:
        full: the secret of members, and of clients that may do everything.
        client: the secret of clients that cannot change the cluster.
        warnings: what the log should say about the file.
    """

    full: str
    client: str | None = None
    warnings: list[str] = field(default_factory=list)


def read_secrets(path: str) -> Secrets:
    """Read an auth file: a line with the secret, optionally one ``client SECRET``.

    Empty lines, and lines that begin with ``#``, mean nothing.

    Raises:
        ValueError: the content is not that.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(MAX_AUTH_FILE_BYTES + 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"--auth-file {path}: not a text file") from None
    if len(data) > MAX_AUTH_FILE_BYTES:
        raise ValueError(f"--auth-file {path}: too large for an auth file")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    client = [line.split(None, 1)[1] for line in lines if re.match(r"client\s+\S", line)]
    full = [line for line in lines if not re.match(r"client\s+\S", line)]
    if len(full) != 1 or len(client) > 1:
        raise ValueError(
            f"--auth-file {path}: one line with the secret, and at most one 'client SECRET', "
            "is what it should hold"
        )
    if client == full:
        raise ValueError(f"--auth-file {path}: the two secrets must differ")
    secrets = Secrets(full[0], client[0] if client else None)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        secrets.warnings.append(
            f"{path} can be read or written by other users: chmod 600 is what a secret needs"
        )
    return secrets
