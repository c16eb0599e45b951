"""The examples do what their docstrings say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import finn
from examples.clone import Clone
from examples.ticket import Tickets
from finn.testing.applier import FakeApplier
from tests.source import ROOT


class CloneTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Drive the clone."""
        self.applier = FakeApplier(Clone())
        self.execute = self.applier.execute

    def test_it_is_a_machine(self) -> None:
        """With all that the interface asks for."""
        self.assertTrue(verifyObject(finn.IMachine, Clone()))

    def test_commands(self) -> None:
        """Replies as the original gives them."""
        self.assertEqual(self.execute("SET", "mykey", "my value"), b"OK")
        self.assertEqual(self.execute("get", "mykey"), b"my value")
        self.assertIsNone(self.execute("GET", "missing"))
        self.execute("SET", "my other", b"\xff\0\r\n")
        self.assertEqual(self.execute("KEYS", "my*"), [b"my other", b"mykey"])
        self.assertEqual(self.execute("KEYS", "x*"), [])
        self.assertEqual(self.execute("DEL", "mykey", "missing"), 1)
        self.assertEqual(self.execute("DEL", "mykey"), 0)

    def test_errors(self) -> None:
        """The client's spelling is kept."""
        for command, text in (
            (["FooBar"], "ERR unknown command 'FooBar'"),
            (["Set", "a"], "ERR wrong number of arguments for 'Set' command"),
            (["GET"], "ERR wrong number of arguments for 'GET' command"),
            (["DEL"], "ERR wrong number of arguments for 'DEL' command"),
            (["KEYS"], "ERR wrong number of arguments for 'KEYS' command"),
        ):
            with self.assertRaises(finn.CommandError) as caught:
                self.execute(*command)
            self.assertEqual(str(caught.exception), text)

    def test_snapshot(self) -> None:
        """Any bytes survive."""
        self.execute("SET", bytes(range(256)), b"\r\n\xff")
        other = FakeApplier(Clone())
        other.restore(self.applier.snapshot())
        self.assertEqual(other.machine.keys, self.applier.machine.keys)


class ApplicationTests(SynchronousTestCase):
    """``tickets.tac``; that it runs is tested with real processes."""

    def test_wherever_it_lies(self) -> None:
        """It takes the machine that lies beside it, whatever folder twistd is run in."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for name in ("tickets.tac", "ticket.py"):
            shutil.copy(ROOT / "examples" / name, folder)
        code = (
            "from twisted.persisted.sob import loadValueFromFile\n"
            f"node = loadValueFromFile({str(folder / 'tickets.tac')!r}, 'node')\n"
            "import sys; print(sys.modules[type(node.host.machine).__module__].__file__)"
        )
        command = [sys.executable, "-c", code]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(
            command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(result.stdout.strip(), str(folder / "ticket.py"), result.stderr)


class TicketTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Drive the tickets."""
        self.applier = FakeApplier(Tickets())
        self.execute = self.applier.execute

    def test_numbers_increase(self) -> None:
        """One series per queue."""
        self.assertEqual(self.execute("TICKET", "bakery"), 1)
        self.assertEqual(self.execute("TICKET", "bakery", 10), 11)
        self.assertEqual(self.execute("TICKET", "post"), 1)
        self.assertEqual(self.execute("QUEUES"), [b"bakery", b"post"])
        self.assertEqual(self.execute("LAST", "bakery"), [11, self.applier.now])
        self.assertIsNone(self.execute("LAST", "none"))
        self.assertRaises(finn.CommandError, self.execute, "TICKET", "bakery", 0)

    def test_raffle(self) -> None:
        """One winner, the same on every node, and the queue is closed."""
        other = FakeApplier(Tickets())
        for applier in (self.applier, other):
            applier.execute("TICKET", "bakery", 1000)
        winner = self.execute("RAFFLE", "bakery")
        self.assertEqual(winner, other.execute("RAFFLE", "bakery"))
        self.assertTrue(1 <= winner <= 1000)
        self.assertIsNone(self.execute("RAFFLE", "bakery"))

    def test_snapshot(self) -> None:
        """The default one keeps it all."""
        self.execute("TICKET", "bakery")
        other = FakeApplier(Tickets())
        other.restore(self.applier.snapshot())
        self.assertEqual(vars(other.machine), vars(self.applier.machine))
