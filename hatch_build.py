"""Compiles finn's hot modules with mypyc when a wheel is built, for those who ask for it.

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 pip install .

The modules are listed in pyproject.toml. The wheel has their Python source besides, which is what
tracebacks show. It needs a C compiler and the headers of Python.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledBuild(BuildHookInterface[Any]):
    """The build hook ``custom`` of pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in a copy of the sources, and have the wheel take what came of it."""
        if version == "editable":
            sys.exit("finn: an editable install runs its sources and cannot be compiled")
        root = Path(self.root)
        folder = Path(tempfile.mkdtemp(prefix="finn-build-"))
        # The wheel is written after this, or nothing is after an error.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(root / "finn", folder / "finn", ignore=ignored)
        modules = sorted(
            path.relative_to(folder).as_posix()
            for pattern in self.config["modules"]
            for path in folder.glob(pattern)
        )
        command = [sys.executable, __file__, str(root / "pyproject.toml"), *modules]
        # mypyc looks for modules from where it is; its own output is long and of no use to users.
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if result.returncode:
            sys.exit(
                f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}\n"
                "finn: could not be compiled, for the reason above; it takes a C compiler and the "
                "headers of Python, and needs neither without HATCH_BUILD_HOOK_ENABLE_CUSTOM"
            )
        for path in [*folder.glob("*.so"), *(folder / "finn").rglob("*.so")]:
            build_data["force_include"][str(path)] = path.relative_to(folder).as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_modules(configuration: str, modules: list[str]) -> None:
    """Compile modules below the current directory, together, so that they call each other in C.

    Args:
        configuration: the file with mypy's configuration.
        modules: their paths, from the current directory.
    """
    from mypyc.build import mypycify
    from setuptools import setup

    extensions = mypycify(
        ["--config-file", configuration, *modules],
        group_name="finn",
        opt_level="2",
        debug_level="0",
        multi_file=True,
    )
    setup(
        name="finn-compiled",
        packages=[],
        ext_modules=extensions,
        script_args=["build_ext", "--inplace"],
    )


if __name__ == "__main__":
    compile_modules(sys.argv[1], sys.argv[2:])
