"""What a disk holds at a power cut: pages of files and names of directories, each kept or lost."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

PAGE = 4096


class Inode:
    """The bytes of one file: as the process sees them, and as they are on the platter.

    Attributes:
        data: what a reader sees.
        durable: what certainly survives a power cut.
        pending: changes since the last sync, oldest first: ``(offset, bytes)`` is a write,
            ``(size, None)`` cuts the file.
    """

    __slots__ = ("data", "durable", "pending")

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.durable = bytearray(data)
        self.pending: list[tuple[int, bytes | None]] = []

    def append(self, data: bytes) -> None:
        """Write at the end."""
        self.pending.append((len(self.data), data))
        self.data += data

    def rewrite(self, offset: int) -> None:
        """Write the end once more: what a failed sync forgot; the same bytes change nothing."""
        content = bytearray(self.durable)
        for change in self.pending:
            _change(content, *change)
        if len(content) > len(self.data):
            self.pending.append((len(self.data), None))
        while content[offset : offset + 1] == self.data[offset : offset + 1] != b"":
            offset += 1
        if offset < len(self.data):
            self.pending.append((offset, bytes(self.data[offset:])))

    def truncate(self, size: int) -> None:
        """Cut, or extend with zeros."""
        self.pending.append((size, None))
        _change(self.data, size, None)

    def sync(self) -> None:
        """Make everything durable."""
        for offset, data in self.pending:
            _change(self.durable, offset, data)
        self.pending.clear()

    def forget_pending(self) -> None:
        """A sync failed: the pages count as clean and no later sync writes them ("fsyncgate")."""
        self.pending.clear()

    def copy(self) -> Inode:
        """Return an independent copy in the same state."""
        twin = Inode()
        twin.data = bytearray(self.data)
        twin.durable = bytearray(self.durable)
        twin.pending = list(self.pending)
        return twin

    def after_power_cut(self, random: Random) -> Inode:
        """Return the file as it may be found afterwards.

        Nothing of what was pending is kept, or all, or a prefix that ends at any byte, or each
        page as it was at any moment since the last sync, whatever became of the others.
        """
        if not self.pending:
            return Inode(bytes(self.durable))
        fate = random.choice(("lost", "kept", "torn", "torn", "mixed", "mixed"))
        if fate == "lost":
            return Inode(bytes(self.durable))
        if fate == "mixed":
            return Inode(self._mixed(random))
        kept = len(self.pending)
        if fate == "torn":
            kept = random.randrange(kept)
        content = bytearray(self.durable)
        for offset, data in self.pending[:kept]:
            _change(content, offset, data)
        if fate == "torn":
            offset, data = self.pending[kept]
            if data is not None:
                _change(content, offset, data[: random.randint(0, len(data))])
        return Inode(bytes(content))

    def _mixed(self, random: Random) -> bytes:
        moments = len(self.pending)
        size = self._size_at(_moment(random, moments), random)
        pages = range(0, max(size, len(self.durable)), PAGE)
        wanted: dict[int, list[int]] = {}
        for page in pages:
            wanted.setdefault(_moment(random, moments), []).append(page)
        result = bytearray(size)
        content = bytearray(self.durable)
        for moment in range(moments + 1):
            for page in wanted.get(moment, ()):
                piece = content[page : min(page + PAGE, size)]
                result[page : page + len(piece)] = piece
            if moment < moments:
                _change(content, *self.pending[moment])
        return bytes(result)

    def _size_at(self, moment: int, random: Random) -> int:
        size = len(self.durable)
        for offset, data in self.pending[:moment]:
            size = offset if data is None else max(size, offset + len(data))
        if moment and (last := self.pending[moment - 1][1]) and random.random() < 0.5:
            size -= random.randrange(len(last))
        return size


def _moment(random: Random, last: int) -> int:
    """Draw a moment between 0 and ``last``; the extremes are as likely as all between."""
    return random.choice((0, last, random.randint(0, last)))


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write at ``offset``, filling a gap with zeros; without data cut there."""
    if len(content) < offset:
        content += bytes(offset - len(content))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


class Directory:
    """Names in a directory: as the process sees them, and as they are on the platter."""

    __slots__ = ("durable", "names")

    def __init__(self) -> None:
        self.names: dict[str, Inode | Directory] = {}
        self.durable: dict[str, Inode | Directory] = {}


Node = Inode | Directory
Place = tuple[Directory, str]


class NameChange:
    """A change of names that may not have reached the platter yet.

    Args:
        removed: the name that goes away, if any.
        added: the name that comes, if any.
        node: what ``added`` stands for.
    """

    __slots__ = ("added", "node", "removed", "touched")

    def __init__(self, removed: Place | None, added: Place | None, node: Node | None) -> None:
        self.removed = removed
        self.added = added
        self.node = node
        self.touched = {(id(place[0]), place[1]) for place in (removed, added) if place}

    def touches(self, directory: Directory) -> bool:
        """Say whether a sync of ``directory`` covers it."""
        return any(place and place[0] is directory for place in (self.removed, self.added))

    def apply(self) -> None:
        """Make it durable."""
        if self.removed:
            directory, name = self.removed
            directory.durable.pop(name, None)
        if self.added and self.node is not None:
            directory, name = self.added
            directory.durable[name] = self.node


class Platter:
    """A tree of directories with the changes of names that are not durable yet."""

    def __init__(self) -> None:
        self.root = Directory()
        self._pending: list[NameChange] = []

    def change(self, removed: Place | None, added: Place | None, node: Node | None = None) -> None:
        """Remove and add a name, atomically; durable when a directory of them is synced."""
        if removed:
            del removed[0].names[removed[1]]
        if added and node is not None:
            added[0].names[added[1]] = node
        self._pending.append(NameChange(removed, added, node))

    def sync(self, directory: Directory) -> None:
        """Make the names of ``directory`` durable, with older changes that they build on."""
        needed: set[tuple[int, str]] = set()
        chosen: list[NameChange] = []
        for change in reversed(self._pending):
            if change.touches(directory) or change.touched & needed:
                needed |= change.touched
                chosen.append(change)
        for change in reversed(chosen):
            change.apply()
        self._pending = [c for c in self._pending if c not in chosen]

    def after_crash(self) -> Platter:
        """Return a copy: a process that dies loses nothing of what it wrote."""
        copies: dict[int, Node] = {}
        twin = Platter()
        twin.root = _copy_directory(self.root, copies)
        for change in self._pending:
            twin._pending.append(
                NameChange(
                    _moved(change.removed, copies),
                    _moved(change.added, copies),
                    None if change.node is None else _copy(change.node, copies),
                )
            )
        return twin

    def after_power_cut(self, random: Random) -> Platter:
        """Return the tree as it may be found afterwards.

        Every change of a name is lost or kept by itself, unless it builds on a lost one (the same
        name in the same directory).
        """
        before = self.after_crash()
        lost: set[tuple[int, str]] = set()
        chance = random.choice((0.0, 0.5, 1.0))
        for change in before._pending:
            if change.touched & lost or random.random() < chance:
                lost |= change.touched
            else:
                change.apply()
        twin = Platter()
        _settle(before.root, twin.root, random)
        return twin


def _copy(node: Node, copies: dict[int, Node]) -> Node:
    if id(node) not in copies:
        if isinstance(node, Directory):
            return _copy_directory(node, copies)
        copies[id(node)] = node.copy()
    return copies[id(node)]


def _copy_directory(directory: Directory, copies: dict[int, Node]) -> Directory:
    twin = copies[id(directory)] = Directory()
    twin.names = {name: _copy(node, copies) for name, node in directory.names.items()}
    twin.durable = {name: _copy(node, copies) for name, node in directory.durable.items()}
    return twin


def _moved(place: Place | None, copies: dict[int, Node]) -> Place | None:
    if place is None:
        return None
    directory = _copy(place[0], copies)
    assert isinstance(directory, Directory)
    return directory, place[1]


def _settle(source: Directory, target: Directory, random: Random) -> None:
    """Fill ``target`` with what is durable in ``source``, each file after its power cut."""
    for name, node in _sorted(source.durable.items()):
        settled: Node
        if isinstance(node, Inode):
            settled = node.after_power_cut(random)
        else:
            settled = Directory()
            _settle(node, settled, random)
        target.names[name] = target.durable[name] = settled


def _sorted(items: Iterable[tuple[str, Node]]) -> list[tuple[str, Node]]:
    return sorted(items, key=lambda item: item[0])
