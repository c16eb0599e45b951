"""Folders are floors: a file imports from its own floor and below."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.source import ROOT, imports_of, module_of, name_of, python_files

#: Floor of each module or package of finn; a longer name wins over a shorter one.
FLOORS = {
    "finn": 5,  # what is not listed is a way in
    "finn.errors": 0,
    "finn.options": 0,
    "finn.table": 0,
    "finn.version": 0,
    "finn.interfaces": 0,
    "finn.raft": 1,
    "finn.resp": 1,
    "finn.compiled": 1,
    "finn.declarative": 1,
    "finn.signatures": 1,
    "finn.plain": 1,
    "finn.storage": 2,
    "finn.protocols": 3,
    "finn.node": 4,
}

#: Lower than their floor: they see what users see.
SIGHT = {"finn.machines": 1}

#: Packages beside the standard library that floors bring in; each floor has those below it too.
PACKAGES = {
    0: {"zope"},
    1: {"hiredis"},
    2: {"twisted", "lmdb", "plyvel"},
    3: {"txredisapi", "OpenSSL", "service_identity", "cryptography"},
    4: set(),
    5: {"prometheus_client", "hypothesis"},
}

#: The consensus core knows no clock, file, socket, thread or package.
CORE_BANS = {
    *("time", "datetime", "os", "io", "pathlib", "socket", "select", "selectors", "asyncio"),
    *(
        "threading",
        "concurrent",
        "subprocess",
        "signal",
        "tempfile",
        "logging",
        "twisted",
        "hiredis",
    ),
}


def longest(table: dict[str, int], module: str) -> int | None:
    """Return what a table says of a module or of the nearest package above it."""
    while module:
        if module in table:
            return table[module]
        module = module.rpartition(".")[0]
    return None


def floor_of(module: str) -> int:
    """Return the floor of a module of finn."""
    floor = longest(FLOORS, module)
    assert floor is not None
    return floor


class FloorTests(SynchronousTestCase):
    def files(self) -> list[Path]:
        return [path for path in python_files("finn") if name_of(path) != "finn/__init__.py"]

    def test_imports_stay_on_their_floor(self) -> None:
        """No file imports from a floor above its own; the bundled machines see two floors."""
        wrong = []
        for path in self.files():
            module = module_of(path)
            sight = longest(SIGHT, module)
            own = floor_of(module) if sight is None else sight
            package = next((name for name in SIGHT if module.startswith(name)), None)
            for line, name in imports_of(path):
                if name.split(".")[0] != "finn" or name == "finn.__version__":
                    continue
                if package is not None and name.startswith(package):
                    continue
                # ``from finn import redislog`` names a module, ``from finn import Machine`` none.
                if name.count(".") == 1 and not self.is_module(name):
                    continue
                if floor_of(name) > own:
                    wrong.append(f"{name_of(path)}:{line} imports {name}")
        self.assertEqual(wrong, [])

    def is_module(self, name: str) -> bool:
        path = ROOT.joinpath(*name.split("."))
        return path.is_dir() or path.with_suffix(".py").is_file()

    def test_packages_stay_on_their_floor(self) -> None:
        """Each package is used from the floor on that brings it in, and none is a surprise."""
        wrong = []
        for path in self.files():
            own = longest(SIGHT, module_of(path)) or floor_of(module_of(path))
            allowed = {name for floor, names in PACKAGES.items() if floor <= own for name in names}
            for line, name in imports_of(path):
                top = name.split(".")[0]
                if top not in allowed and top != "finn" and top not in sys.stdlib_module_names:
                    wrong.append(f"{name_of(path)}:{line} imports {name}")
        self.assertEqual(wrong, [])

    def test_core_does_no_io(self) -> None:
        """finn.raft imports nothing that could reach a clock, a disk, a thread or the network."""
        wrong = [
            f"{name_of(path)}:{line} imports {name}"
            for path in python_files("finn/raft")
            for line, name in imports_of(path)
            if name.split(".")[0] in CORE_BANS
        ]
        self.assertEqual(wrong, [])

    def test_package_shows_the_two_lowest_floors_only(self) -> None:
        """``import finn`` brings words and machines; Node comes when it is asked for."""
        wrong = [
            name
            for _, name in imports_of(ROOT / "finn" / "__init__.py", functions=False)
            if name.startswith("finn.") and floor_of(name) > 1
        ]
        self.assertEqual(wrong, [])

    def test_core_runs_without_twisted(self) -> None:
        """Importing finn, its core and its machines leaves Twisted aside."""
        names = ["finn", *(module_of(path) for path in python_files("finn/raft", "finn/machines"))]
        code = f"import sys, {', '.join(names)}\nprint('twisted' in sys.modules)"
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        self.assertEqual((result.stdout.strip(), result.stderr), ("False", ""))
