"""What is built and imported is what it should be."""

from __future__ import annotations

import os
import pydoc
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import finn.testing
from tests.source import ROOT, module_of, name_of, python_files

#: Modules that need an extra, or run when they are imported.
NOT_IMPORTED = ("finn.storage.bolt", "finn.storage.leveldb")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the root of the repository."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


class PackagingTests(SynchronousTestCase):
    def build(self, target: str) -> Path:
        """Build a distribution, and return its path."""
        folder = Path(self.mktemp()).resolve()
        result = run("-m", "hatchling", "build", "-t", target, "-d", str(folder))
        self.assertEqual(result.returncode, 0, result.stderr)
        (built,) = folder.iterdir()
        return built

    def test_wheel_has_finn_and_the_plugin(self) -> None:
        """The wheel holds the package, one file of twisted/plugins, and nothing else."""
        with zipfile.ZipFile(self.build("wheel")) as wheel:
            names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        expected = {name_of(path) for path in python_files("finn")}
        expected |= {"finn/py.typed", "twisted/plugins/finn_plugin.py"}
        self.assertEqual(names, expected)

    def test_source_distribution_is_whole(self) -> None:
        """What is built from source can be tested, and has the documents."""
        with tarfile.open(self.build("sdist")) as archive:
            names = {name.split("/", 1)[1] for name in archive.getnames()}
        for name in ("README.md", "CHANGELOG.md", "LICENSE", "tests/test_packaging.py"):
            self.assertIn(name, names)
        self.assertEqual([name for name in names if name.endswith((".pyc", ".cache"))], [])

    def test_importing_installs_no_reactor(self) -> None:
        """No module of finn installs a reactor: the application chooses it."""
        names = [module_of(path) for path in python_files("finn") if path.stem != "__main__"]
        names = [name for name in names if name not in NOT_IMPORTED]
        code = (
            f"import sys, {', '.join(names)}\n"
            "print([n for n in ('twisted.internet.reactor', 'txredisapi') if n in sys.modules])"
        )
        result = run("-c", code)
        self.assertEqual((result.stdout.strip(), result.stderr), ("[]", ""))

    def test_without_docstrings(self) -> None:
        """A node can be made, and a machine tested, where Python drops docstrings and asserts."""
        code = (
            "from twisted.internet.task import Clock\n"
            "from finn.machines.kv import KV\n"
            "from finn.node.service import Node\n"
            "from finn.testing.applier import FakeApplier\n"
            "Node(Clock(), KV())\n"
            "print(FakeApplier(KV()).execute('INCR', 'n'))"
        )
        result = run("-OO", "-c", code)
        self.assertEqual((result.stdout.strip(), result.stderr), ("1", ""))

    def test_public_names_are_found(self) -> None:
        """``dir`` and ``help`` show those too that are imported when they are asked for."""
        for module in (finn, finn.testing):
            self.assertEqual(set(module.__all__) - set(dir(module)), set())
            text = pydoc.plain(pydoc.render_doc(module))
            for name in module.__all__:
                self.assertIn(name, text)
        self.assertIn("class Node(", pydoc.plain(pydoc.render_doc(finn)))

    def test_plugin_is_light(self) -> None:
        """Listing the plugins of Twisted does not import finn."""
        result = run("-c", "import sys, twisted.plugins.finn_plugin; print('finn' in sys.modules)")
        self.assertEqual((result.stdout.strip(), result.stderr), ("False", ""))

    def test_twistd_knows_finn(self) -> None:
        """The plugin is found, and a bad value is one line and exit code 1."""
        result = run("-m", "twisted", "finn", "--port", "x")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("finn: --port"), result.stderr)
        self.assertEqual(result.stdout, "")
