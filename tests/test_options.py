"""Options of a node: what an application may ask for, and how the rest is refused."""

from __future__ import annotations

import math
import pathlib
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from finn.options import LONGEST, Backend, Consistency, Durability, NodeOptions


class CheckTests(SynchronousTestCase):
    """``NodeOptions.check``, which a node calls before anything else."""

    def refused(self, **options: Any) -> str:
        """Return the line with which options are refused."""
        error = self.assertRaises(ValueError, NodeOptions(**options).check)
        text = str(error)
        self.assertEqual(len(text.splitlines()), 1)
        return text

    def test_words_are_no_levels(self) -> None:
        """A word or number in place of a level is refused: it would be taken for some level."""
        for name, kind in (
            ("consistency", Consistency), ("durability", Durability), ("backend", Backend)
        ):  # fmt: skip
            for wrong in ("high", "bolt", 2, None):
                text = self.refused(**{name: wrong})
                self.assertIn(f"{name} must be one of {kind.__name__}.", text)
                self.assertIn(f"not {wrong!r}", text)
            for right in kind:
                NodeOptions(**{name: right}).check()

    def test_addresses(self) -> None:
        """One address is no list of them, and bytes are none."""
        self.assertIn("join must be a list", self.refused(join=":22399"))
        self.assertIn("must be a str", self.refused(join=[b":22399"]))
        self.assertIn("must be a str", self.refused(address=b":22399"))
        self.assertIn("no port", self.refused(join=["host"]))
        for name in ("a..b", ".a", "a" * 64, "a b", "a." * 127 + "a", "[host]", "[1:2]",
            "[::1%\r\n]", "[::1%\u202e]", "[::1% ]", "a_b"):  # fmt: skip
            self.assertIn("bad host name", self.refused(join=[f"{name}:1"]))
        for name in ("", "host", "HOST.example.", "1.2.3.4", "caf\xe9.example", "[::1]"):
            NodeOptions(join=[f"{name}:1"]).check()

    def test_it_listens_where_its_address_is(self) -> None:
        """On the port of an address of this machine, unless it is told where."""
        for address, endpoint in (
            (":7481", "tcp:7481:interface=127.0.0.1"),
            (":22399", "tcp:22399:interface=127.0.0.1"),
            ("localhost:22399", "tcp:22399:interface=127.0.0.1"),
            ("LocalHost.:22399", "tcp:22399:interface=127.0.0.1"),
            ("[0:0::1]:22399", r"tcp6:22399:interface=0\:0\:\:1"),
            ("[::ffff:127.0.0.1]:22399", r"tcp6:22399:interface=\:\:ffff\:127.0.0.1"),
            ("127.0.0.2:22399", "tcp:22399:interface=127.0.0.2"),
            ("[::1]:22399", r"tcp6:22399:interface=\:\:1"),
        ):
            options = NodeOptions(address=address)
            options.check()
            self.assertEqual(options.endpoint, endpoint)
            self.assertEqual(NodeOptions(address=address, listen="tcp:1").endpoint, "tcp:1")
        self.assertEqual(NodeOptions().endpoint, "tcp:7481:interface=127.0.0.1")

    def test_an_address_elsewhere_does_not_tell_where_to_listen(self) -> None:
        """It is refused alone: on loopback nobody else would reach the node."""
        for address in ("10.0.0.1:7481", "box:7481", "[fe80::1]:7481"):
            text = self.refused(address=address)
            self.assertIn(f"address {address!r} is beyond this machine: say where to listen", text)
            self.assertIn("listen='tcp:7481:interface=10.0.0.1'", text)
            NodeOptions(address=address, listen="tcp:7481").check()

    def test_every_interface_is_no_address(self) -> None:
        """A leader that others are told to find at 0.0.0.0 is found by each at itself."""
        for host in ("0.0.0.0", "[::]", "[0:0::0]", "[::ffff:0.0.0.0]"):
            text = self.refused(address=f"{host}:7481", listen="tcp:7481")
            self.assertIn(f"address '{host}:7481' is every interface", text)
            self.assertIn("--advertise HOST:PORT", text)

    def test_names_that_twisted_does_not_look_up(self) -> None:
        """They are refused at the start, not wherever somebody is to be reached."""
        found = []
        for name in ("host.x", "xn--caf-dma.example", "under_score", "a.b-", "\u0378.example"):
            refused: list[Failure] = []
            connecting = HostnameEndpoint(MemoryReactorClock(), name, 1).connect(Factory())
            connecting.addErrback(refused.append)  # also of others: nobody looks them up here
            if refused and refused[0].check(ValueError):
                self.assertIn("bad host name", self.refused(join=[f"{name}:1"]))
                found.append(name)
            else:
                NodeOptions(join=[f"{name}:1"]).check()
                connecting.cancel()
        self.assertEqual(found, ["under_score", "a.b-", "\u0378.example"])

    def test_an_address_that_is_too_long_is_not_looked_at(self) -> None:
        """Nor told: the first could take seconds, and the second megabytes."""
        text = self.refused(join=["\xe9." * 100_000 + ":1"])
        self.assertEqual(text, "an address of 200002 characters is too long")

    def test_paths_and_flags(self) -> None:
        """What is true in some way is not True, and a number is no path."""
        self.assertIn("wait must be True or False", self.refused(wait="no"))
        for name in ("directory", "tls_cert", "tls_key", "tls_ca"):
            self.assertIn(f"{name} must be a path, not 5", self.refused(**{name: 5}))
        self.assertIn("directory must be a path, not None", self.refused(directory=None))
        for wrong in ("", "\0", "data/\0x", pathlib.Path("\0")):
            text = self.refused(directory=wrong)
            self.assertIn(f"directory must be a path, not {wrong!r}", text)
        self.assertIn("tls_ca must be a path", self.refused(tls_ca="\0"))

        class Strange:
            def __fspath__(self) -> int:
                return 5

        self.assertIn("directory must be a path", self.refused(directory=Strange()))
        NodeOptions(directory=pathlib.Path("data")).check()  # type: ignore[arg-type]

    def test_whole_numbers(self) -> None:
        """Counts and sizes are whole, and not below nothing."""
        for name in ("max_clients", "snapshot_bytes", "trailing_bytes"):
            for wrong in (-5, -1, 1e6, math.nan, "64mb", None):
                self.assertIn(f"{name} must be a whole number", self.refused(**{name: wrong}))
        self.assertIn("1 or more", self.refused(max_clients=0))
        NodeOptions(max_clients=1, snapshot_bytes=1, trailing_bytes=0).check()

    def test_times(self) -> None:
        """Times are finite numbers that are not below nothing; those that must pass are above."""
        for name in ("heartbeat", "election_timeout", "request_timeout", "idle_timeout"):
            for wrong in (-1, -0.5, math.nan, math.inf, "10", None):
                self.assertIn(
                    f"{name} must be a number of seconds, not {wrong!r}",
                    self.refused(**{name: wrong}),
                )
        for name in ("heartbeat", "election_timeout", "idle_timeout"):
            text = self.refused(**{name: 10**400})
            self.assertIn(f"{name} must be 1000000000 seconds at most, not 1000", text)
        self.assertIn("three heartbeats", self.refused(heartbeat=0))
        self.assertIn("three heartbeats", self.refused(heartbeat=0.5))
        NodeOptions(heartbeat=0.1, election_timeout=0.3).check()
        NodeOptions(idle_timeout=0, heartbeat=0.01, election_timeout=5).check()

    def test_longest_request(self) -> None:
        """A deadline fits in the milliseconds that the wire has, and is not over at once."""
        self.assertLess(LONGEST * 1000, 1 << 32)
        self.assertIn("must be more than 0 seconds, not 0", self.refused(request_timeout=0))
        for wrong in (LONGEST + 1, 1 << 80):
            self.assertIn("must be 2592000 seconds at most", self.refused(request_timeout=wrong))
        for right in (0.001, 10, LONGEST):
            NodeOptions(request_timeout=right).check()

    def test_secrets_are_text(self) -> None:
        """Bytes are refused, and not shown."""
        self.assertEqual(self.refused(secret=b"hush"), "a secret must be a str, not bytes")
        self.assertIn("must be a str", self.refused(secret="a", client_secret=b"b"))
        NodeOptions(secret="a", client_secret="b").check()
