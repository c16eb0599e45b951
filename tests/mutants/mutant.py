"""One guard taken out: which text of which file, and which tests have to notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class Moved(Exception):
    """The text of a patch is not where it was, or no longer there just once."""


@dataclass(frozen=True)
class Edit:
    """Text to be replaced; it occurs exactly once in its file."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A small patch that makes one known bug.

    Attributes:
        name: on the command line.
        bug: key in ``finn``'s list of bugs, ``tests.mutants.bugs``.
        edits: the patch.
        tests: names of tests, any of which notices; ``seed N SECONDS`` is a simulated run.
    """

    name: str
    bug: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        """The files it changes."""
        return list(dict.fromkeys(edit.file for edit in self.edits))

    def apply(self, root: Path, write: bool = True) -> None:
        """Patch the tree at ``root``, or only see whether that is possible.

        Raises:
            Moved: it is not.
        """
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.file)
            if text is None:
                text = (root / edit.file).read_text()
            count = text.count(edit.old)
            if count != 1:
                raise Moved(f"{self.name}: {edit.old!r} occurs {count} times in {edit.file}")
            texts[edit.file] = text.replace(edit.old, edit.new)
        for file, text in texts.items():
            compile(text, file, "exec")
            if write:
                (root / file).write_text(text)
                for compiled in (root / file).parent.glob(f"__pycache__/{Path(file).stem}.*"):
                    compiled.unlink()


def mutant(
    name: str, bug: str, file: str, old: str, new: str, *tests: str, also: tuple[Edit, ...] = ()
) -> Mutant:
    """Return a mutant with one edit, or with some more."""
    return Mutant(name, bug, (Edit(file, old, new), *also), tests)
