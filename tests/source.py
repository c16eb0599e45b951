"""Reads the source tree, for the tests of its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below folders of the repository, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the path as a person names it."""
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    """Return the dotted name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the parsed source of a file."""
    return ast.parse(path.read_text(), str(path))


def is_typing_only(node: ast.stmt) -> bool:
    """Say whether a statement is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports_of(path: Path, functions: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything a file imports when it runs.

    Args:
        path: the file.
        functions: also what is imported only when a function is called.
    """
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    waiting: list[ast.AST] = [tree_of(path)]
    while waiting:
        node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield child.lineno, alias.name
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parent = package.split(".")[: len(package.split(".")) - child.level + 1]
                    base = ".".join([*parent, base] if base else parent)
                for alias in child.names:
                    yield child.lineno, f"{base}.{alias.name}"
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not functions:
                continue
            elif isinstance(child, ast.stmt) and is_typing_only(child):
                assert isinstance(child, ast.If)
                waiting.extend(child.orelse)
            else:
                waiting.append(child)
