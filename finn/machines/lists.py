"""Commands on lists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from finn.declarative import Call, read, write
from finn.errors import CommandError
from finn.machines.numeric import INT_MAX, parse_int
from finn.machines.shards import ShardedState
from finn.machines.values import List
from finn.machines.words import SYNTAX_ERROR
from finn.resp.values import NULL_ARRAY, OK

_KEY = (1, 1, 1)
_NOT_POSITIVE = "ERR value is out of range, must be positive"
_NO_SUCH_KEY = "ERR no such key"
_RANK_ZERO = (
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... "
    "or use negative to start from the end of the list"
)
_ENDS = {b"LEFT": True, b"RIGHT": False}


def _bounds(size: int, start: int, stop: int) -> tuple[int, int]:
    """Return the half-open range that Redis' ``start stop`` means in a list of ``size``."""
    first = max(start + size, 0) if start < 0 else start
    last = stop + size if stop < 0 else min(stop, size - 1)
    return (first, last + 1) if first <= last and first < size else (0, 0)


def _part(items: List, first: int, last: int) -> list[bytes]:
    """Return ``items[first:last]``, walking from the nearer end."""
    size = len(items)
    if first <= size - last:
        return list(islice(items, first, last))
    part = list(islice(reversed(items), size - last, size - first))
    part.reverse()
    return part


def _lpos_options(options: Sequence[bytes]) -> tuple[int, int | None, int]:
    """Return RANK, COUNT and MAXLEN; whatever is wrong first is told, as Redis does."""
    rank, count, length = 1, None, 0
    rest = iter(options)
    for word in rest:
        argument = next(rest, None)
        name = word.upper()
        if argument is None or name not in (b"RANK", b"COUNT", b"MAXLEN"):
            raise CommandError(SYNTAX_ERROR)
        if name == b"RANK":
            rank = parse_int(argument)
            if rank == 0:
                raise CommandError(_RANK_ZERO)
            continue
        text = f"ERR {name.decode()} can't be negative"
        number = parse_int(argument, text)
        if number < 0:
            raise CommandError(text)
        if name == b"COUNT":
            count = number
        else:
            length = number
    return rank, count, length


class Lists(ShardedState):
    """Commands on lists."""

    @write("LPUSH", keys=_KEY, usage="key element [element ...]", group="list")
    def lpush(self, call: Call, key: bytes, element: bytes, *elements: bytes) -> int:
        """Put elements before a list, one after another."""
        return self._push(call.now, key, (element, *elements), left=True, make=True)

    @write("RPUSH", keys=_KEY, usage="key element [element ...]", group="list")
    def rpush(self, call: Call, key: bytes, element: bytes, *elements: bytes) -> int:
        """Put elements behind a list."""
        return self._push(call.now, key, (element, *elements), left=False, make=True)

    @write("LPUSHX", keys=_KEY, usage="key element [element ...]", group="list")
    def lpushx(self, call: Call, key: bytes, element: bytes, *elements: bytes) -> int:
        """Put elements before a list that exists."""
        return self._push(call.now, key, (element, *elements), left=True, make=False)

    @write("RPUSHX", keys=_KEY, usage="key element [element ...]", group="list")
    def rpushx(self, call: Call, key: bytes, element: bytes, *elements: bytes) -> int:
        """Put elements behind a list that exists."""
        return self._push(call.now, key, (element, *elements), left=False, make=False)

    def _push(
        self, now: int, key: bytes, elements: tuple[bytes, ...], *, left: bool, make: bool
    ) -> int:
        self.reap(now, key)
        items = self.change_or_make(key, List) if make else self.change(key, List)
        if items is None:
            return 0
        (items.extendleft if left else items.extend)(elements)
        return len(items)

    @write("LPOP", keys=_KEY, usage="key [count]", group="list")
    def lpop(self, call: Call, key: bytes, count: bytes | None = None) -> object:
        """Remove and return the first element of a list, or the first ``count``."""
        return self._pop(call.now, key, count, left=True)

    @write("RPOP", keys=_KEY, usage="key [count]", group="list")
    def rpop(self, call: Call, key: bytes, count: bytes | None = None) -> object:
        """Remove and return the last element of a list, or the last ``count``."""
        return self._pop(call.now, key, count, left=False)

    def _pop(self, now: int, key: bytes, count: bytes | None, *, left: bool) -> object:
        number = 1 if count is None else parse_int(count, _NOT_POSITIVE)
        if number < 0:
            raise CommandError(_NOT_POSITIVE)
        self.reap(now, key)
        items = self.change(key, List)
        if items is None:
            return None if count is None else NULL_ARRAY
        pop = items.popleft if left else items.pop
        popped = [pop() for _ in range(min(number, len(items)))]
        if not items:
            self.remove(key)
        return popped[0] if count is None else popped

    @write(
        "LMOVE", keys=(1, 2, 1), usage="source destination LEFT | RIGHT LEFT | RIGHT", group="list"
    )
    def lmove(
        self, call: Call, source: bytes, destination: bytes, wherefrom: bytes, whereto: bytes
    ) -> bytes | None:
        """Move an element from an end of a list to an end of a list."""
        left = _ENDS.get(wherefrom.upper())
        to_left = _ENDS.get(whereto.upper())
        if left is None or to_left is None:
            raise CommandError(SYNTAX_ERROR)
        return self._move(call.now, source, destination, left, to_left)

    @write("RPOPLPUSH", keys=(1, 2, 1), group="list")
    def rpoplpush(self, call: Call, source: bytes, destination: bytes) -> bytes | None:
        """Move the last element of a list before a list."""
        return self._move(call.now, source, destination, False, True)

    def _move(
        self, now: int, source: bytes, destination: bytes, left: bool, to_left: bool
    ) -> bytes | None:
        self.reap(now, source)
        self.reap(now, destination)
        items = self.change(source, List)
        if items is None:
            return None
        others = self.change_or_make(destination, List)
        element = items.popleft() if left else items.pop()
        (others.appendleft if to_left else others.append)(element)
        if not items:
            self.remove(source)
        return element

    @read("LRANGE", keys=_KEY, group="list")
    def lrange(self, call: Call, key: bytes, start: int, stop: int) -> list[bytes]:
        """Return a part of a list."""
        items = self.look_at(call.now, key, List)
        return _part(items, *_bounds(len(items), start, stop)) if items else []

    @read("LLEN", keys=_KEY, group="list")
    def llen(self, call: Call, key: bytes) -> int:
        """Return the length of a list."""
        return len(self.look_at(call.now, key, List) or ())

    @read("LINDEX", keys=_KEY, group="list")
    def lindex(self, call: Call, key: bytes, index: bytes) -> bytes | None:
        """Return an element of a list."""
        items = self.look_at(call.now, key, List)
        if items is None:
            return None
        place = parse_int(index)
        return items[place] if -len(items) <= place < len(items) else None

    @read(
        "LPOS",
        keys=_KEY,
        usage="key element [RANK rank] [COUNT matches] [MAXLEN length]",
        group="list",
    )
    def lpos(self, call: Call, key: bytes, element: bytes, *options: bytes) -> object:
        """Return where an element is in a list, or up to COUNT places, 0 for all."""
        rank, count, length = _lpos_options(options)
        items = self.look_at(call.now, key, List)
        places: list[int] = []
        if items is not None:
            size = len(items)
            order = (
                enumerate(items)
                if rank > 0
                else zip(range(size)[::-1], reversed(items), strict=True)
            )
            matches = (place for place, item in islice(order, length or None) if item == element)
            most = 1 if count is None else count or size
            skipped = abs(rank) - 1
            if skipped < size:
                places = list(islice(matches, skipped, skipped + most))
        if count is not None:
            return places
        return places[0] if places else None

    @write("LSET", keys=_KEY, group="list")
    def lset(self, call: Call, key: bytes, index: bytes, element: bytes) -> object:
        """Replace an element of a list."""
        self.reap(call.now, key)
        items = self.change(key, List)
        if items is None:
            raise CommandError(_NO_SUCH_KEY)
        place = parse_int(index)
        if not -len(items) <= place < len(items):
            raise CommandError("ERR index out of range")
        items[place] = element
        return OK

    @write("LINSERT", keys=_KEY, usage="key BEFORE | AFTER pivot element", group="list")
    def linsert(self, call: Call, key: bytes, where: bytes, pivot: bytes, element: bytes) -> int:
        """Put an element before or behind the first one that equals ``pivot``."""
        word = where.upper()
        if word not in (b"BEFORE", b"AFTER"):
            raise CommandError(SYNTAX_ERROR)
        self.reap(call.now, key)
        items = self.change(key, List)
        if items is None:
            return 0
        try:
            place = items.index(pivot)
        except ValueError:
            return -1
        items.insert(place + (word == b"AFTER"), element)
        return len(items)

    @write("LREM", keys=_KEY, group="list")
    def lrem(self, call: Call, key: bytes, count: int, element: bytes) -> int:
        """Remove up to ``count`` equal elements, from the end if negative, all if 0."""
        self.reap(call.now, key)
        items = self.change(key, List)
        if items is None:
            return 0
        limit = abs(count) or INT_MAX
        source = reversed(items) if count < 0 else iter(items)
        kept: list[bytes] = []
        removed = 0
        for item in source:
            if item == element and removed < limit:
                removed += 1
            else:
                kept.append(item)
        if removed:
            items.clear()
            items.extend(reversed(kept) if count < 0 else kept)
        if not items:
            self.remove(key)
        return removed

    @write("LTRIM", keys=_KEY, group="list")
    def ltrim(self, call: Call, key: bytes, start: int, stop: int) -> object:
        """Keep a part of a list."""
        self.reap(call.now, key)
        items = self.change(key, List)
        if items is None:
            return OK
        first, last = _bounds(len(items), start, stop)
        for _ in range(len(items) - last):
            items.pop()
        for _ in range(min(first, len(items))):
            items.popleft()
        if not items:
            self.remove(key)
        return OK
