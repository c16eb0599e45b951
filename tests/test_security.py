"""docs/security.md says what the code does."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from finn.node.builtin import MANY
from finn.node.clients import MAX_NAME
from finn.node.commands import BUILTINS
from finn.node.proposals import MAX_PENDING_BYTES
from finn.node.transactions import MAX_WATCHED
from finn.options import NodeOptions
from finn.protocols import connection, handshake, link
from finn.protocols.server import ClientLimits
from tests.source import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text()
KIB, MIB, GIB = 1024, 1024**2, 1024**3


def rows(title: str) -> dict[str, list[str]]:
    """Return the table under a heading, by its first column."""
    body = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells[2:]}


class SecurityTests(SynchronousTestCase):
    def test_limits(self) -> None:
        """The limits of the table are those of the code."""
        limits = ClientLimits()
        reader = limits.reader
        told = {name: row[0] for name, row in rows("Limits").items()}
        handshake_time = f"{limits.handshake_timeout:.0f} s"
        expected = {
            "before AUTH": f"{connection.UNPROVEN_BYTES // KIB} KiB, {handshake_time} "
            f"(a TLS handshake: {handshake_time} always)",
            "one command": f"{reader.command_bytes // MIB} MiB, {reader.arguments:,} words",
            "one inline command": f"{reader.inline_bytes // KIB} KiB",
            "incomplete commands of all clients": f"{limits.partial_bytes // GIB} GiB",
            "a command that is not finished": f"{limits.partial_timeout:.0f} s of silence",
            "a client between two commands": "`--idle-timeout`, none by default; TCP notices a "
            "host that is gone",
            "arguments of a built-in command": f"{MANY:,} (`WATCH`: {MAX_WATCHED:,} keys)",
            "the name of a client, or of its library": f"{MAX_NAME:,} bytes",
            "the last bytes of a connection that ends": f"{limits.close_timeout:.0f} s in which "
            "it takes nothing",
            "clients": "`--max-clients`",
            "replies that a client has not taken": f"{limits.output_bytes // KIB} KiB, "
            "and what a few commands bring",
            "such replies of all clients": f"{limits.owed_bytes // GIB} GiB",
            "replies that wait for their turn, one client": f"{limits.pending_replies:,}",
            "writes that are not applied yet": f"{MAX_PENDING_BYTES // MIB} MiB",
            "a link's handshake": f"{handshake.HANDSHAKE_BYTES // KIB} KiB, "
            f"{link.HANDSHAKE_TIMEOUT:.0f} s",
            "a link's message": f"{link.MAX_FRAME_BYTES // MIB} MiB, "
            f"{link.MAX_FRAME_PARTS:,} records",
            "a link that is silent": f"{link.SILENCE * link.BEAT:.0f} s",
            "a peer that does not read": f"{link.MAX_BACKLOG // MIB} MiB",
        }
        self.assertEqual(told, expected)
        self.assertEqual(limits.stall_timeout, 60)

    def test_roles(self) -> None:
        """What the client secret may not do is what manages, and CLIENT KILL."""
        (row,) = [row for name, row in rows("Who may do what").items() if "`client`" in name]
        names = re.findall(r"RAFT[A-Z]+", row[1])
        managing = [b.name for b in BUILTINS.values() if b.manages]
        self.assertEqual(sorted(names), sorted(managing))
        self.assertIn("CLIENT KILL", row[1])

    def test_before_authentication(self) -> None:
        """The commands that need no secret are those that are told."""
        told = re.search(r"a connection may say ([A-Z, and]+);", TEXT)
        assert told is not None
        names = re.findall(r"[A-Z]{2,}", told[1])
        self.assertEqual(sorted(names), sorted(b.name for b in BUILTINS.values() if b.before_auth))

    def test_secrets_that_are_none(self) -> None:
        """An application cannot ask for half of it."""
        for wrong in (
            {"client_secret": "a"},
            {"secret": ""},
            {"secret": "a", "client_secret": ""},
            {"secret": "a", "client_secret": "a"},
        ):
            options = NodeOptions(**wrong)  # type: ignore[arg-type]
            self.assertRaises(ValueError, options.check)

    def test_files_exist(self) -> None:
        """Links and paths lead somewhere."""
        for path in re.findall(r"`((?:finn|tests)/[\w/.]+)`", TEXT):
            self.assertTrue((ROOT / path).exists(), path)
