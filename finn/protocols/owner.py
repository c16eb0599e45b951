"""Descriptors that are closed when nobody needs them any more."""

from __future__ import annotations

import os
import weakref


class Owner:
    """Closes a descriptor once nothing refers to its owner, whoever that was.

    Not at the exit: what is opened then may get its number while threads still live.
    """

    def __init__(self, descriptor: int) -> None:
        weakref.finalize(self, os.close, descriptor).atexit = False
