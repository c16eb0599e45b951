"""Replacing a small file atomically: written aside, synced, renamed."""

from __future__ import annotations

import os

from finn.interfaces import IFiles
from finn.storage.segment import TEMPORARY


def replace_file(files: IFiles, path: str, data: bytes) -> None:
    """Make ``data`` the content of a file; a crash leaves the old content or the new. Blocks."""
    temporary = path + TEMPORARY
    if files.exists(temporary):
        files.unlink(temporary)
    file = files.create(temporary)
    try:
        file.write(data)
        file.datasync()
    finally:
        file.close()
    files.rename(temporary, path)
    files.sync_directory(os.path.dirname(path) or ".")
