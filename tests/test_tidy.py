"""The source keeps its own rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.source import ROOT, imports_of, name_of, python_files, tree_of

#: A file beyond this has more than one job.
MAX_FILE_LINES = 450

#: A function beyond this does not fit on a screen.
MAX_FUNCTION_LINES = 70

#: Imports that install a reactor.
INSTALLING = ("twisted.internet.reactor", "txredisapi", "twisted.conch.manhole")

SOURCES = ("finn", "twisted", "benchmarks", "examples")


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the dotted name and node of every class and function of a file, nested ones too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node
            yield from definitions(node, f"{prefix}{node.name}.")
        else:
            yield from definitions(node, prefix)


class TidyTests(SynchronousTestCase):
    def test_files_have_one_job(self) -> None:
        """No file is too long."""
        long = {
            name_of(path): lines
            for path in python_files(*SOURCES)
            if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
        }
        self.assertEqual(long, {})

    def test_functions_fit_on_a_screen(self) -> None:
        """No function is too long."""
        long = {}
        for path in python_files(*SOURCES):
            for name, node in definitions(tree_of(path)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    if lines > MAX_FUNCTION_LINES:
                        long[f"{name_of(path)}:{node.lineno} {name}"] = lines
        self.assertEqual(long, {})

    def test_nothing_installs_a_reactor(self) -> None:
        """What installs a reactor is imported inside functions only."""
        wrong = [
            f"{name_of(path)}:{line} imports {name}"
            for path in python_files("finn", "twisted", "tests")
            for line, name in imports_of(path, functions=False)
            if name.startswith(INSTALLING)
        ]
        self.assertEqual(wrong, [])

    def test_public_names_are_described(self) -> None:
        """Every module, public class and public function says what it is for."""
        bare = []
        for path in python_files(*SOURCES):
            tree = tree_of(path)
            if not ast.get_docstring(tree):
                bare.append(name_of(path))
            for node in tree.body:
                if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    continue
                overload = any("overload" in ast.dump(item) for item in node.decorator_list)
                if not (node.name.startswith("_") or overload or ast.get_docstring(node)):
                    bare.append(f"{name_of(path)}:{node.lineno} {node.name}")
        self.assertEqual(bare, [])

    def test_annotations_are_not_evaluated(self) -> None:
        """Files with code begin with the future import, so that types cost nothing."""
        wrong = []
        for path in python_files(*SOURCES, "tests"):
            body = tree_of(path).body
            code = [node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
            names = [
                alias.name
                for node in body
                if isinstance(node, ast.ImportFrom) and node.module == "__future__"
                for alias in node.names
            ]
            if code and "annotations" not in names:
                wrong.append(name_of(path))
        self.assertEqual(wrong, [])

    def test_tests_do_not_sleep(self) -> None:
        """Tests wait for events, on a clock of their own or a deadline, and never for time."""
        wrong = [
            f"{name_of(path)}:{number}"
            for path in python_files("tests")
            if path.name.startswith("test_")
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if re.search(r"\bsleep\([0-9.]", line)
        ]
        self.assertEqual(wrong, [])

    def test_tests_say_what_they_promise(self) -> None:
        """Every test has a docstring with the promise it checks."""
        bare = [
            f"{name_of(path)}:{node.lineno} {name}"
            for path in python_files("tests")
            for name, node in definitions(tree_of(path))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and node.name.startswith("test_")
            and not ast.get_docstring(node)
        ]
        self.assertEqual(bare, [])

    def test_folders_are_packages(self) -> None:
        """Folders of modules and of tests are packages; those of twisted are not: it owns them."""
        folders = {path.parent for path in python_files("finn")}
        folders |= {p.parent for p in python_files("tests") if p.name.startswith("test_")}
        missing = [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()]
        self.assertEqual(missing, [])
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])
