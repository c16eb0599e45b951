"""``python -m finn.storage check DIR``: look at a data directory without changing it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from finn.storage.check import FAULT, check_directory
from finn.storage.files import OSFiles

USAGE = """\
usage: python -m finn.storage check DIR

Reads the data directory of a node, changes nothing, and reports segments, index range, term,
vote, snapshots and the first fault. Exit code: 0 all is well, 1 a fault, 2 wrong usage.
"""


def main(arguments: Sequence[str], output: TextIO, errors: TextIO) -> int:
    """Run the command.

    Args:
        arguments: of the command line, without the program.
        output: for the report.
        errors: for what is wrong with the command line.

    Returns:
        The exit code.
    """
    for argument in arguments:
        if argument in ("-h", "--help"):
            output.write(USAGE)
            return 0
        if argument.startswith("-"):
            errors.write(f"unknown option {argument}, see --help\n")
            return 2
    if len(arguments) != 2 or arguments[0] != "check":
        errors.write(USAGE)
        return 2
    directory = arguments[1]
    if not os.path.isdir(directory):
        errors.write(f"{directory} is not a directory\n")
        return 2
    lines = check_directory(OSFiles(), directory)
    for line in lines:
        output.write(f"{line}\n")
    if lines and lines[-1].startswith(FAULT):
        return 1
    output.write("no fault found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout, sys.stderr))
