"""Commands on sets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from finn.declarative import Call, read, write
from finn.errors import CommandError
from finn.machines.numeric import parse_int
from finn.machines.pages import check_cursor, page_matcher
from finn.machines.shards import ShardedState
from finn.machines.values import MemberSet
from finn.machines.words import SYNTAX_ERROR

_KEY = (1, 1, 1)
_NOT_POSITIVE = "ERR value is out of range, must be positive"
_NUMKEYS = "ERR numkeys should be greater than 0"
_LIMIT = "ERR LIMIT can't be negative"
_MOST_REPEATED = 1 << 20  # of SRANDMEMBER's negative counts: a reply must fit into memory
_NO_MEMBERS = MemberSet(0)


def _pick(random: Random, size: int) -> int:
    """Return a place below ``size``. Only ``random()`` is promised to stay as it is in Python."""
    return int(random.random() * size)


def _limit_in(words: Sequence[bytes]) -> int:
    """Return what follows the last LIMIT, 0 without one; the first error in order is told."""
    limit = 0
    rest = iter(words)
    for word in rest:
        argument = next(rest, None)
        if word.upper() != b"LIMIT" or argument is None:
            raise CommandError(SYNTAX_ERROR)
        limit = parse_int(argument, _LIMIT)
        if limit < 0:
            raise CommandError(_LIMIT)
    return limit


class Sets(ShardedState):
    """Commands on sets."""

    def _members(self, now: int, key: bytes) -> MemberSet:
        return self.look_at(now, key, MemberSet) or _NO_MEMBERS

    @write("SADD", keys=_KEY, usage="key member [member ...]", group="set")
    def sadd(self, call: Call, key: bytes, member: bytes, *members: bytes) -> int:
        """Add members to a set; returns how many are new."""
        self.reap(call.now, key)
        held = self.change_or_make(key, MemberSet)
        before = len(held)
        held.extend((member, *members))
        return len(held) - before

    @write("SREM", keys=_KEY, usage="key member [member ...]", group="set")
    def srem(self, call: Call, key: bytes, member: bytes, *members: bytes) -> int:
        """Remove members of a set."""
        self.reap(call.now, key)
        held = self.change(key, MemberSet)
        if held is None:
            return 0
        removed = sum(map(held.discard, (member, *members)))
        if not held:
            self.remove(key)
        return removed

    @read("SMEMBERS", keys=_KEY, group="set")
    def smembers(self, call: Call, key: bytes) -> set[bytes]:
        """Return the members of a set."""
        return set(self._members(call.now, key))

    @read("SISMEMBER", keys=_KEY, group="set")
    def sismember(self, call: Call, key: bytes, member: bytes) -> int:
        """Say whether a set has a member."""
        return int(member in self._members(call.now, key))

    @read("SMISMEMBER", keys=_KEY, usage="key member [member ...]", group="set")
    def smismember(self, call: Call, key: bytes, member: bytes, *members: bytes) -> list[int]:
        """Say of each of some members whether a set has it."""
        held = self._members(call.now, key)
        return [int(name in held) for name in (member, *members)]

    @read("SCARD", keys=_KEY, group="set")
    def scard(self, call: Call, key: bytes) -> int:
        """Return the number of members of a set."""
        return len(self._members(call.now, key))

    @read("SSCAN", keys=_KEY, usage="key cursor [MATCH pattern] [COUNT count]", group="set")
    def sscan(self, call: Call, key: bytes, cursor: bytes, *options: bytes) -> list[object]:
        """Return the members of a set, all in one page."""
        check_cursor(cursor)
        held = self.look_at(call.now, key, MemberSet)
        if held is None:
            return [b"0", []]
        match = page_matcher(options)
        return [b"0", list(held if match is None else filter(match, held))]

    @write("SMOVE", keys=(1, 2, 1), group="set")
    def smove(self, call: Call, source: bytes, destination: bytes, member: bytes) -> int:
        """Move a member from a set to another."""
        self.reap(call.now, source)
        self.reap(call.now, destination)
        held = self.change(source, MemberSet)
        if held is None:
            return 0
        self.look_at(call.now, destination, MemberSet)
        if source == destination:
            return int(member in held)
        if not held.discard(member):
            return 0
        if not held:
            self.remove(source)
        self.change_or_make(destination, MemberSet).add(member)
        return 1

    @write("SPOP", keys=_KEY, group="set")
    def spop(self, call: Call, key: bytes, count: bytes | None = None) -> object:
        """Remove and return a random member of a set, or up to ``count`` of them."""
        number = 1 if count is None else parse_int(count, _NOT_POSITIVE)
        if number < 0:
            raise CommandError(_NOT_POSITIVE)
        self.reap(call.now, key)
        held = self.change(key, MemberSet)
        if held is None:
            return None if count is None else set()
        popped = []
        for _ in range(min(number, len(held))):
            member = held.items[_pick(call.random, len(held))]
            held.discard(member)
            popped.append(member)
        if not held:
            self.remove(key)
        return popped[0] if count is None else set(popped)

    @read("SRANDMEMBER", keys=_KEY, group="set")
    def srandmember(self, call: Call, key: bytes, count: bytes | None = None) -> object:
        """Return a random member of a set, or ``count`` (negative: with repetitions)."""
        number = 1 if count is None else parse_int(count)
        items = self._members(call.now, key).items
        if count is None:
            return items[_pick(call.random, len(items))] if items else None
        if not items:
            return []
        if number < 0:
            if number < -_MOST_REPEATED:
                raise CommandError("ERR value is out of range")
            return [items[_pick(call.random, len(items))] for _ in range(-number)]
        if number >= len(items):
            return list(items)
        return call.random.sample(items, number)

    # -- several sets -------------------------------------------------------------------------

    @read("SINTER", keys=(1, -1, 1), usage="key [key ...]", group="set")
    def sinter(self, call: Call, key: bytes, *keys: bytes) -> set[bytes]:
        """Return the members that some sets have in common."""
        return set(self._intersection(call.now, (key, *keys)))

    @read("SINTERCARD", usage="numkeys key [key ...] [LIMIT limit]", group="set")
    def sintercard(self, call: Call, numkeys: bytes, key: bytes, *rest: bytes) -> int:
        """Return how many members some sets have in common, counting up to LIMIT, 0 for all."""
        number = parse_int(numkeys, _NUMKEYS)
        if number < 1:
            raise CommandError(_NUMKEYS)
        if number > len(rest) + 1:
            raise CommandError("ERR Number of keys can't be greater than number of args")
        keys = (key, *rest)[:number]
        limit = _limit_in(rest[number - 1 :])
        count = len(self._intersection(call.now, keys))
        return min(count, limit) if limit else count

    @read("SUNION", keys=(1, -1, 1), usage="key [key ...]", group="set")
    def sunion(self, call: Call, key: bytes, *keys: bytes) -> set[bytes]:
        """Return the members of some sets."""
        return set(self._union(call.now, (key, *keys)))

    @read("SDIFF", keys=(1, -1, 1), usage="key [key ...]", group="set")
    def sdiff(self, call: Call, key: bytes, *keys: bytes) -> set[bytes]:
        """Return the members of a set that some others have not."""
        return set(self._difference(call.now, (key, *keys)))

    @write("SINTERSTORE", keys=(1, -1, 1), usage="destination key [key ...]", group="set")
    def sinterstore(self, call: Call, destination: bytes, key: bytes, *keys: bytes) -> int:
        """Keep the members that some sets have in common."""
        return self._keep(call.now, destination, self._intersection(call.now, (key, *keys)))

    @write("SUNIONSTORE", keys=(1, -1, 1), usage="destination key [key ...]", group="set")
    def sunionstore(self, call: Call, destination: bytes, key: bytes, *keys: bytes) -> int:
        """Keep the members of some sets."""
        return self._keep(call.now, destination, self._union(call.now, (key, *keys)))

    @write("SDIFFSTORE", keys=(1, -1, 1), usage="destination key [key ...]", group="set")
    def sdiffstore(self, call: Call, destination: bytes, key: bytes, *keys: bytes) -> int:
        """Keep the members of a set that some others have not."""
        return self._keep(call.now, destination, self._difference(call.now, (key, *keys)))

    def _keep(self, now: int, destination: bytes, members: Collection[bytes]) -> int:
        self.reap(now, destination)
        if members:
            self.replace(destination, MemberSet(self.epoch, members))
        else:
            self.remove(destination)
        return len(members)

    # Results are lists, in an order that is the same on every node: they may be stored.

    def _intersection(self, now: int, keys: tuple[bytes, ...]) -> list[bytes]:
        held = sorted((self._members(now, key) for key in keys), key=len)
        return [member for member in held[0] if all(member in other for other in held[1:])]

    def _union(self, now: int, keys: tuple[bytes, ...]) -> list[bytes]:
        return list(dict.fromkeys(m for key in keys for m in self._members(now, key)))

    def _difference(self, now: int, keys: tuple[bytes, ...]) -> list[bytes]:
        first, *others = [self._members(now, key) for key in keys]
        return [member for member in first if not any(member in other for other in others)]
