"""Says whether the hot modules run as mypyc compiled them, or as Python."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES

from finn.raft import core


def is_compiled() -> bool:
    """Return True if they are compiled; they are together or not at all."""
    return str(core.__file__).endswith(tuple(EXTENSION_SUFFIXES))
