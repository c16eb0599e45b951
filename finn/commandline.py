"""The command line of the cluster client: ``python -m finn.client ADDR... COMMAND [ARG...]``.

Exit codes: 0 for a reply, 1 for an error (nothing was applied, or the reply says so), 2 when it is
not known whether the command was applied, 64 for wrong usage, 74 when the command succeeded and its
reply could not be written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import usage

from finn.client import ClusterClient
from finn.errors import CommandError, FinnError, OutcomeUnknown
from finn.flags import read_secrets
from finn.options import LONGEST, split_address
from finn.protocols.tls import TLSMaterial

FAILED = 1
UNKNOWN = 2
USAGE = 64  # EX_USAGE
UNWRITTEN = 74  # EX_IOERR


def seconds(text: str) -> float:
    """Turn the text of a flag into seconds."""
    value = float(text)
    if not 0 < value <= LONGEST:
        raise ValueError(f"seconds are more than 0, {LONGEST:.0f} at most, not {text}")
    return value


class ClientOptions(usage.Options):
    """The flags before the addresses."""

    synopsis = "Usage: python -m finn.client [options] ADDR [ADDR...] COMMAND [ARG...]"
    longdesc = (
        "Runs one command on the leader of the cluster that has a member at one of the addresses. "
        "Exit code: 0 reply, 1 error, 2 it is not known whether the command was applied, 64 wrong "
        "usage, 74 the command succeeded and its reply could not be written. "
        "FINN_SECRET in the environment may hold the secret instead of --auth-file."
    )
    optParameters = [
        ["auth-file", None, None, "File that holds the secret."],
        ["timeout", "t", 10.0, "Seconds until the command is given up.", seconds],
        ["tls-cert", None, None, "Certificate of this client (PEM), where the cluster asks."],
        ["tls-key", None, None, "Its private key (PEM)."],
        ["tls-ca", None, None, "Certificates of who may sign the servers' (PEM)."],
    ]
    addresses: list[str]
    words: list[str]

    def parseArgs(self, *words: str) -> None:
        """Split addresses from the command."""
        self.addresses, self.words = split_words(words)

    def postOptions(self) -> None:
        """Refuse what cannot work."""
        first = self.words[0] if self.words else ""
        if "," in first and split_words(first.split(","))[0]:
            raise usage.UsageError(f"{first}: addresses are words of their own, as in :7481 :7482")
        if not self.addresses:
            raise usage.UsageError("no address given, for instance :7481")
        if not self.words:
            raise usage.UsageError("no command given")
        if bool(self["tls-cert"]) != bool(self["tls-key"]):
            raise usage.UsageError("--tls-cert and --tls-key go together")


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split ``ADDR... COMMAND [ARG...]``: addresses end at the first word that is none."""
    for i, word in enumerate(words):
        try:
            split_address(word)
        except ValueError:
            return list(words[:i]), list(words[i:])
    return list(words), []


def render(value: Any) -> str:
    """Render a reply for people, one line per element."""
    if value is None:
        return "(nil)"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return "\n".join(map(render, value)) if value else "(empty)"
    return f"(error) {value}" if isinstance(value, CommandError) else str(value)


def put(stream: Any, text: str) -> str | None:
    """Write a line to standard output or error; what its encoding has no character for is escaped.

    Returns:
        None, or why it could not be written.
    """
    if stream is None:  # closed by who started this
        return "it is closed"
    encoding = getattr(stream, "encoding", None) or "utf-8"
    data = f"{text}\n".encode(encoding, "backslashreplace")
    try:
        if hasattr(stream, "buffer"):
            stream.buffer.write(data)
        else:
            stream.write(data.decode(encoding))
        stream.flush()
    except (OSError, ValueError) as e:
        drop(stream)
        return getattr(e, "strerror", None) or str(e)
    return None


def drop(stream: Any) -> None:
    """Send what a stream could not write nowhere: Python would try again, and end with its code."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def secret_of(options: ClientOptions) -> str | None:
    """Return the secret from the file or the environment.

    Raises:
        ValueError: the file cannot be used.
    """
    if options["auth-file"] is None:
        return os.environ.get("FINN_SECRET")
    return read_secrets(options["auth-file"]).full


def tls_of(options: ClientOptions) -> TLSMaterial | None:
    """Return what TLS needs, or None without TLS.

    Raises:
        StartFailed, MissingExtra: it cannot be had.
    """
    cert, key, ca = options["tls-cert"], options["tls-key"], options["tls-ca"]
    return TLSMaterial(cert, key, ca) if cert or ca else None


async def run(reactor: Any, options: ClientOptions) -> int:
    """Run the command and print its reply, or one line that says what is wrong.

    Returns:
        The exit code.
    """
    try:
        client = ClusterClient(
            reactor,
            options.addresses,
            secret=secret_of(options),
            tls=tls_of(options),
            timeout=options["timeout"],
        )
        try:
            # As they were typed, which need not be text.
            reply = await client.execute(*map(os.fsencode, options.words))
        finally:
            client.close()
    except OutcomeUnknown as e:
        put(sys.stderr, str(e))
        return UNKNOWN
    except (FinnError, ValueError, OSError) as e:
        put(sys.stderr, " ".join(str(e).split()))
        return FAILED
    problem = put(sys.stdout, render(reply))
    if problem is not None:
        put(sys.stderr, f"the command succeeded, its reply could not be written: {problem}")
        return UNWRITTEN
    return 0


def main(argv: Sequence[str]) -> None:
    """Run ``python -m finn.client``; ends with SystemExit."""
    from twisted.internet.task import react

    options = ClientOptions()
    try:
        options.parseOptions(list(argv))
    except usage.UsageError as e:
        print(f"{e}; try --help", file=sys.stderr)
        raise SystemExit(USAGE) from None
    codes: list[int] = []

    def begin(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(run(reactor, options)).addCallback(codes.append)

    try:
        react(begin)
    except SystemExit as e:
        raise SystemExit(codes[0] if codes else e.code) from None
