"""Commands on hashes."""

from __future__ import annotations

from finn.declarative import Call, read, write
from finn.errors import CommandError, WrongArity
from finn.machines.numeric import INT_MAX, INT_MIN, add_floats, parse_float, parse_int
from finn.machines.pages import check_cursor, page_matcher
from finn.machines.shards import ShardedState
from finn.machines.values import Hash
from finn.resp.values import OK

_KEY = (1, 1, 1)
_NO_FIELDS: dict[bytes, bytes] = {}


class Hashes(ShardedState):
    """Commands on hashes."""

    def _fields(self, now: int, key: bytes) -> dict[bytes, bytes]:
        return self.look_at(now, key, Hash) or _NO_FIELDS

    @write("HSET", keys=_KEY, usage="key field value [field value ...]", group="hash")
    def hset(self, call: Call, key: bytes, field: bytes, value: bytes, *pairs: bytes) -> int:
        """Set fields of a hash; returns how many are new."""
        if len(pairs) % 2:
            raise WrongArity(b"hset")
        return self._set_fields(call.now, key, (field, value, *pairs))

    @write("HMSET", keys=_KEY, usage="key field value [field value ...]", group="hash")
    def hmset(self, call: Call, key: bytes, field: bytes, value: bytes, *pairs: bytes) -> object:
        """Set fields of a hash: the old name of HSET."""
        if len(pairs) % 2:
            raise WrongArity(b"hmset")
        self._set_fields(call.now, key, (field, value, *pairs))
        return OK

    def _set_fields(self, now: int, key: bytes, pairs: tuple[bytes, ...]) -> int:
        self.reap(now, key)
        fields = self.change_or_make(key, Hash)
        before = len(fields)
        fields.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(fields) - before

    @write("HSETNX", keys=_KEY, group="hash")
    def hsetnx(self, call: Call, key: bytes, field: bytes, value: bytes) -> int:
        """Set a field of a hash unless the field exists."""
        self.reap(call.now, key)
        fields = self.change_or_make(key, Hash)
        if field in fields:
            return 0
        fields[field] = value
        return 1

    @read("HGET", keys=_KEY, group="hash")
    def hget(self, call: Call, key: bytes, field: bytes) -> bytes | None:
        """Return the value of a field of a hash."""
        return self._fields(call.now, key).get(field)

    @read("HMGET", keys=_KEY, usage="key field [field ...]", group="hash")
    def hmget(self, call: Call, key: bytes, field: bytes, *fields: bytes) -> list[bytes | None]:
        """Return the values of some fields of a hash."""
        return list(map(self._fields(call.now, key).get, (field, *fields)))

    @read("HGETALL", keys=_KEY, group="hash")
    def hgetall(self, call: Call, key: bytes) -> dict[bytes, bytes]:
        """Return all fields of a hash with their values."""
        return dict(self._fields(call.now, key))

    @read("HKEYS", keys=_KEY, group="hash")
    def hkeys(self, call: Call, key: bytes) -> list[bytes]:
        """Return the fields of a hash."""
        return list(self._fields(call.now, key))

    @read("HVALS", keys=_KEY, group="hash")
    def hvals(self, call: Call, key: bytes) -> list[bytes]:
        """Return the values of a hash."""
        return list(self._fields(call.now, key).values())

    @read("HLEN", keys=_KEY, group="hash")
    def hlen(self, call: Call, key: bytes) -> int:
        """Return the number of fields of a hash."""
        return len(self._fields(call.now, key))

    @read("HEXISTS", keys=_KEY, group="hash")
    def hexists(self, call: Call, key: bytes, field: bytes) -> int:
        """Say whether a hash has a field."""
        return int(field in self._fields(call.now, key))

    @read("HSTRLEN", keys=_KEY, group="hash")
    def hstrlen(self, call: Call, key: bytes, field: bytes) -> int:
        """Return the length of the value of a field of a hash."""
        return len(self._fields(call.now, key).get(field, b""))

    @read("HSCAN", keys=_KEY, usage="key cursor [MATCH pattern] [COUNT count]", group="hash")
    def hscan(self, call: Call, key: bytes, cursor: bytes, *options: bytes) -> list[object]:
        """Return the fields of a hash with their values, all in one page."""
        check_cursor(cursor)
        fields = self.look_at(call.now, key, Hash)
        if fields is None:
            return [b"0", []]
        match = page_matcher(options)
        names = fields if match is None else filter(match, fields)
        return [b"0", [part for name in names for part in (name, fields[name])]]

    @write("HDEL", keys=_KEY, usage="key field [field ...]", group="hash")
    def hdel(self, call: Call, key: bytes, field: bytes, *fields: bytes) -> int:
        """Remove fields of a hash."""
        self.reap(call.now, key)
        held = self.change(key, Hash)
        if held is None:
            return 0
        removed = sum(held.pop(name, None) is not None for name in (field, *fields))
        if not held:
            self.remove(key)
        return removed

    @write("HINCRBY", keys=_KEY, group="hash")
    def hincrby(self, call: Call, key: bytes, field: bytes, increment: int) -> int:
        """Add to the integer in a field of a hash."""
        self.reap(call.now, key)
        fields = self.change(key, Hash)
        before = fields.get(field) if fields else None
        number = increment
        if before is not None:
            number += parse_int(before, "ERR hash value is not an integer")
        if not INT_MIN <= number <= INT_MAX:
            raise CommandError("ERR increment or decrement would overflow")
        self.change_or_make(key, Hash)[field] = b"%d" % number
        return number

    @write("HINCRBYFLOAT", keys=_KEY, group="hash")
    def hincrbyfloat(self, call: Call, key: bytes, field: bytes, increment: bytes) -> bytes:
        """Add to the number in a field of a hash, which may have a fraction."""
        amount = parse_float(increment)
        if amount is None:
            raise CommandError("ERR value is NaN or Infinity")
        self.reap(call.now, key)
        fields = self.change(key, Hash)
        before = fields.get(field, b"0") if fields else b"0"
        after = add_floats(parse_float(before, "ERR hash value is not a float"), amount)
        self.change_or_make(key, Hash)[field] = after
        return after
