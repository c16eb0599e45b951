"""The values of the key-value machine that are more than bytes.

Each knows the ``epoch`` in which it was made or last copied (see ``shards``), and iterates in an
order that is the same on every node: it depends on the commands applied and nothing else, never on
the hash seed of the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator


class Hash(dict[bytes, bytes]):
    """A hash: fields to values, in the order in which the fields came."""

    __slots__ = ("epoch",)
    type_name = "hash"

    def __init__(self, epoch: int, items: dict[bytes, bytes] | None = None) -> None:
        super().__init__(items or {})
        self.epoch = epoch

    def twin(self, epoch: int) -> Hash:
        """Return a copy that shares nothing that changes."""
        return Hash(epoch, self)


class List(deque[bytes]):
    """A list, cheap at both ends."""

    __slots__ = ("epoch",)
    type_name = "list"

    def __init__(self, epoch: int, items: Iterable[bytes] = ()) -> None:
        super().__init__(items)
        self.epoch = epoch

    def twin(self, epoch: int) -> List:
        """Return a copy that shares nothing that changes."""
        return List(epoch, self)


class MemberSet:
    """A set whose n-th member can be had, so that a random one costs the same however many.

    The last member takes the place of a removed one.
    """

    __slots__ = ("epoch", "items", "places")
    type_name = "set"

    def __init__(self, epoch: int, items: Iterable[bytes] = ()) -> None:
        self.epoch = epoch
        self.items = list(dict.fromkeys(items))
        self.places = {member: place for place, member in enumerate(self.items)}

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.items)

    def __contains__(self, member: bytes) -> bool:
        return member in self.places

    def add(self, member: bytes) -> bool:
        """Add a member; False when it was there."""
        if member in self.places:
            return False
        self.places[member] = len(self.items)
        self.items.append(member)
        return True

    def discard(self, member: bytes) -> bool:
        """Remove a member; False when it was not there."""
        place = self.places.pop(member, None)
        if place is None:
            return False
        last = self.items.pop()
        if place < len(self.items):
            self.items[place] = last
            self.places[last] = place
        return True

    def extend(self, members: Iterable[bytes]) -> None:
        """Add members."""
        for member in members:
            self.add(member)

    def twin(self, epoch: int) -> MemberSet:
        """Return a copy that shares nothing that changes."""
        copy = MemberSet.__new__(MemberSet)
        copy.epoch = epoch
        copy.items = self.items.copy()
        copy.places = self.places.copy()
        return copy


Container = Hash | List | MemberSet
Value = bytes | Hash | List | MemberSet


def type_name(value: Value) -> str:
    """Return the word of TYPE for a value."""
    return "string" if isinstance(value, bytes) else value.type_name
