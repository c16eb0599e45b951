"""The members of a cluster, as one entry or snapshot carries them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from finn.errors import ProtocolError


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A member: its id never changes and is never used again, its address may change."""

    id: int
    address: str
    voter: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        return Member, (self.id, self.address, self.voter)  # as in ``Entry``


@dataclass(frozen=True, slots=True)
class Configuration:
    """The set of members, sorted by id.

    Attributes:
        members: all of them, voters and learners.
        index: log index of the entry that brought it; 0 for none.
    """

    members: tuple[Member, ...] = ()
    index: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Configuration, (self.members, self.index)  # as in ``Entry``

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of the voters."""
        return tuple(m.id for m in self.members if m.voter)

    @property
    def quorum(self) -> int:
        """Smallest majority of the voters."""
        return len(self.voters) // 2 + 1

    def get(self, member_id: int) -> Member | None:
        """Return the member of that id, or None."""
        return next((m for m in self.members if m.id == member_id), None)

    def by_address(self, address: str) -> Member | None:
        """Return the member at that address, or None."""
        return next((m for m in self.members if m.address == address), None)

    def with_member(self, member: Member) -> Configuration:
        """Return a copy in which ``member`` is added or replaces the one of its id."""
        rest = tuple(m for m in self.members if m.id != member.id)
        return replace(self, members=tuple(sorted((*rest, member))))

    def moved(self, member_id: int, address: str) -> Configuration:
        """Return a copy in which a member has another address.

        A member that was there gets the former one: two may have exchanged theirs, and if not, that
        member is not where it was in any case.
        """
        member = self.get(member_id)
        assert member is not None, "only a member can move"
        holder = self.by_address(address)
        left = self
        if holder is not None and holder.id != member_id:
            left = self.with_member(replace(holder, address=member.address))
        return left.with_member(replace(member, address=address))

    def without(self, member_id: int) -> Configuration:
        """Return a copy without that member."""
        return replace(self, members=tuple(m for m in self.members if m.id != member_id))

    def encode(self) -> bytes:
        """Encode the members as JSON, ids as hexadecimal text."""
        rows = [[format(m.id, "016x"), m.address, m.voter] for m in self.members]
        return json.dumps({"members": rows}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes, index: int = 0) -> Configuration:
        """Decode ``encode``'s bytes.

        Raises:
            ProtocolError: when they are something else.
        """
        try:
            rows = json.loads(data)["members"]
            members = [Member(int(i, 16), str(a), bool(v)) for i, a, v in rows]
        except (ValueError, TypeError, KeyError, UnicodeDecodeError) as e:
            raise ProtocolError(f"configuration cannot be read: {e}") from None
        return cls(tuple(sorted(members)), index)
