"""Tests that cannot be run where finn is compiled."""

from __future__ import annotations

from typing import Any

from finn.compiled import is_compiled


def replaces_parts(test: Any) -> Any:
    """Mark a test, or a class of them, that puts its own in the place of something within finn.

    Compiled modules are bound to each other once and for all, and take no doubles of each other's
    classes. What the test shows of the logic, it shows where nothing is compiled.
    """
    if is_compiled():
        test.skip = "it replaces what compiled modules are bound to"
    return test
