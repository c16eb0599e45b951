"""Commands on strings."""

from __future__ import annotations

from collections.abc import Sequence
from operator import setitem
from typing import Any
from zlib import crc32

from finn.declarative import Call, read, write
from finn.errors import CommandError, WrongArity
from finn.machines.deadlines import NEVER
from finn.machines.numeric import (
    INT_MAX,
    INT_MIN,
    add_floats,
    parse_float,
    parse_int,
)
from finn.machines.shards import MASK, ShardedState, WrongType
from finn.machines.words import deadline, expiry_in, invalid_expiry, read_words
from finn.resp.values import OK

MAX_STRING_BYTES = 512 * 1024 * 1024
TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"

_SET_WORDS = {
    b"EX": 1, b"PX": 1, b"EXAT": 1, b"PXAT": 1, b"KEEPTTL": 0, b"NX": 0, b"XX": 0, b"GET": 0,
}  # fmt: skip
_SET_EXCLUSIVE = ((b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL"), (b"NX", b"XX"))
_GETEX_WORDS = {b"EX": 1, b"PX": 1, b"EXAT": 1, b"PXAT": 1, b"PERSIST": 0}
_GETEX_EXCLUSIVE = (tuple(_GETEX_WORDS),)
_EXPIRY_USAGE = (
    "[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | %s]"
)

_KEY = (1, 1, 1)
_STRINGS = frozenset((bytes, type(None)))


class Strings(ShardedState):
    """Commands on strings."""

    @write(
        "SET",
        keys=_KEY,
        usage="key value [NX | XX] [GET] " + _EXPIRY_USAGE % "KEEPTTL",
        group="string",
        pipelined="set_pipelined",
    )
    def set_(self, call: Call, key: bytes, value: bytes, *options: bytes) -> object:
        """Set a key to a string."""
        if options:
            return self._set_with(call.now, key, value, options)
        if call.now >= self.next_expiry:
            self.reap(call.now, key)
        number = crc32(key) & MASK
        shard = self.writable[number]
        if shard is None:
            shard = self.own(number)
        expiries = self.expiries[number]
        if expiries and key in expiries:
            self.clear_deadline(key)
        shard[key] = value
        return OK

    def set_pipelined(
        self, call: Call, keys: Sequence[bytes], values: Sequence[bytes]
    ) -> list[object]:
        """Set several keys, one after another."""
        if call.now >= self.next_expiry:
            return [self.set_(call, key, value) for key, value in zip(keys, values, strict=True)]
        writable, all_expiries = self.writable, self.expiries
        if self.next_expiry == NEVER:
            shards: list[Any] = [writable[crc32(key) & MASK] for key in keys]
            try:
                any(map(setitem, shards, keys, values))  # no step of Python for each key
                return [OK] * len(keys)
            except TypeError:
                pass  # a shard has to be copied first; what is set by now is set once more
        for key, value in zip(keys, values, strict=True):
            number = crc32(key) & MASK
            shard = writable[number]
            if shard is None:
                shard = self.own(number)
            expiries = all_expiries[number]
            if expiries and key in expiries:
                self.clear_deadline(key)
            shard[key] = value
        return [OK] * len(keys)

    def _set_with(self, now: int, key: bytes, value: bytes, options: tuple[bytes, ...]) -> object:
        found = read_words(options, _SET_WORDS, _SET_EXCLUSIVE)
        at = expiry_in(found, now, "set")
        self.reap(now, key)
        before = self.look_string(now, key) if b"GET" in found else None
        exists = self.look(now, key) is not None
        done = not (b"NX" in found and exists) and not (b"XX" in found and not exists)
        if done and b"KEEPTTL" in found:
            self.put(key, value)
        elif done:
            self._put_until(now, key, value, at)
        if b"GET" in found:
            return before
        return OK if done else None

    def _put_until(self, now: int, key: bytes, value: bytes, at: int | None) -> None:
        if at is None:
            self.replace(key, value)
        else:
            self.put(key, value)
            self.expire_at(now, key, at)

    @write("SETNX", keys=_KEY, group="string")
    def setnx(self, call: Call, key: bytes, value: bytes) -> int:
        """Set a key to a string unless the key exists."""
        self.reap(call.now, key)
        if self.look(call.now, key) is not None:
            return 0
        self.replace(key, value)
        return 1

    @write("SETEX", keys=_KEY, group="string")
    def setex(self, call: Call, key: bytes, seconds: int, value: bytes) -> object:
        """Set a key to a string that expires after some seconds."""
        return self._set_for(call.now, key, seconds, 1000, value, "setex")

    @write("PSETEX", keys=_KEY, group="string")
    def psetex(self, call: Call, key: bytes, milliseconds: int, value: bytes) -> object:
        """Set a key to a string that expires after some milliseconds."""
        return self._set_for(call.now, key, milliseconds, 1, value, "psetex")

    def _set_for(
        self, now: int, key: bytes, number: int, unit: int, value: bytes, command: str
    ) -> object:
        if number <= 0:
            raise invalid_expiry(command)
        at = deadline(number, unit, now, command)
        self.reap(now, key)
        self._put_until(now, key, value, at)
        return OK

    @read("GET", keys=_KEY, group="string", pipelined="get_pipelined")
    def get(self, call: Call, key: bytes) -> object:
        """Return the string at a key."""
        if call.now >= self.next_expiry:
            return self.look_string(call.now, key)
        value = self.shards[crc32(key) & MASK].get(key)
        if value is None or value.__class__ is bytes:
            return value
        raise WrongType

    def get_pipelined(self, call: Call, keys: Sequence[bytes]) -> list[object]:
        """Return the strings at several keys."""
        if call.now >= self.next_expiry:
            return [self.look_string(call.now, key) for key in keys]
        shards = self.shards
        values: list[object] = [shards[crc32(key) & MASK].get(key) for key in keys]
        if not _STRINGS.issuperset(map(type, values)):
            raise WrongType
        return values

    @write("GETSET", keys=_KEY, group="string")
    def getset(self, call: Call, key: bytes, value: bytes) -> bytes | None:
        """Set a key to a string and return the one before."""
        self.reap(call.now, key)
        before = self.look_string(call.now, key)
        self.replace(key, value)
        return before

    @write("GETDEL", keys=_KEY, group="string")
    def getdel(self, call: Call, key: bytes) -> bytes | None:
        """Return the string at a key and remove the key."""
        self.reap(call.now, key)
        before = self.look_string(call.now, key)
        self.remove(key)
        return before

    @write(
        "GETEX",
        keys=_KEY,
        usage="key " + _EXPIRY_USAGE % "PERSIST",
        group="string",
    )
    def getex(self, call: Call, key: bytes, *options: bytes) -> bytes | None:
        """Return the string at a key and set or remove its time to live."""
        found = read_words(options, _GETEX_WORDS, _GETEX_EXCLUSIVE)
        self.reap(call.now, key)
        value = self.look_string(call.now, key)
        if value is None:
            return None
        at = expiry_in(found, call.now, "getex")
        if at is not None:
            self.expire_at(call.now, key, at)
        elif found:
            self.clear_deadline(key)
        return value

    @read("MGET", keys=(1, -1, 1), usage="key [key ...]", group="string")
    def mget(self, call: Call, key: bytes, *keys: bytes) -> list[object]:
        """Return the strings at some keys."""
        values = [self.look(call.now, name) for name in (key, *keys)]
        return [value if value.__class__ is bytes else None for value in values]

    @write("MSET", keys=(1, -1, 2), usage="key value [key value ...]", group="string")
    def mset(self, call: Call, key: bytes, value: bytes, *pairs: bytes) -> object:
        """Set some keys to strings."""
        if len(pairs) % 2:
            raise WrongArity(b"mset")
        self._set_pairs(call.now, (key, value, *pairs))
        return OK

    @write("MSETNX", keys=(1, -1, 2), usage="key value [key value ...]", group="string")
    def msetnx(self, call: Call, key: bytes, value: bytes, *pairs: bytes) -> int:
        """Set some keys to strings unless one of the keys exists."""
        if len(pairs) % 2:
            raise WrongArity(b"msetnx")
        if any(self.look(call.now, name) is not None for name in (key, *pairs[::2])):
            return 0
        self._set_pairs(call.now, (key, value, *pairs))
        return 1

    def _set_pairs(self, now: int, pairs: tuple[bytes, ...]) -> None:
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.reap(now, name)
            self.replace(name, value)

    @write("APPEND", keys=_KEY, group="string")
    def append(self, call: Call, key: bytes, value: bytes) -> int:
        """Append to the string at a key."""
        self.reap(call.now, key)
        before = self.look_string(call.now, key) or b""
        if len(before) + len(value) > MAX_STRING_BYTES:
            raise CommandError(TOO_LONG)
        self.put(key, before + value)
        return len(before) + len(value)

    @read("STRLEN", keys=_KEY, group="string")
    def strlen(self, call: Call, key: bytes) -> int:
        """Return the length of the string at a key."""
        return len(self.look_string(call.now, key) or b"")

    @read("GETRANGE", keys=_KEY, group="string")
    def getrange(self, call: Call, key: bytes, start: int, end: int) -> bytes:
        """Return a part of the string at a key."""
        value = self.look_string(call.now, key) or b""
        if start < 0 and end < 0 and start > end:
            return b""
        size = len(value)
        first = max(start + size, 0) if start < 0 else start
        last = max(end + size, 0) if end < 0 else end
        return value[first : last + 1]

    @read("SUBSTR", keys=_KEY, group="string")
    def substr(self, call: Call, key: bytes, start: int, end: int) -> bytes:
        """Return a part of the string at a key: the old name of GETRANGE."""
        return self.getrange(call, key, start, end)

    @write("SETRANGE", keys=_KEY, group="string")
    def setrange(self, call: Call, key: bytes, offset: int, value: bytes) -> int:
        """Overwrite a part of the string at a key."""
        if offset < 0:
            raise CommandError("ERR offset is out of range")
        self.reap(call.now, key)
        before = self.look_string(call.now, key) or b""
        if not value:
            return len(before)
        end = offset + len(value)
        if end > MAX_STRING_BYTES:
            raise CommandError(TOO_LONG)
        self.put(key, before[:offset].ljust(offset, b"\0") + value + before[end:])
        return max(len(before), end)

    @write("INCR", keys=_KEY, group="string")
    def incr(self, call: Call, key: bytes) -> int:
        """Add one to the integer at a key."""
        return self._add(call.now, key, 1)

    @write("DECR", keys=_KEY, group="string")
    def decr(self, call: Call, key: bytes) -> int:
        """Subtract one from the integer at a key."""
        return self._add(call.now, key, -1)

    @write("INCRBY", keys=_KEY, group="string")
    def incrby(self, call: Call, key: bytes, increment: int) -> int:
        """Add to the integer at a key."""
        return self._add(call.now, key, increment)

    @write("DECRBY", keys=_KEY, group="string")
    def decrby(self, call: Call, key: bytes, decrement: int) -> int:
        """Subtract from the integer at a key."""
        if decrement == INT_MIN:
            raise CommandError("ERR decrement would overflow")
        return self._add(call.now, key, -decrement)

    def _add(self, now: int, key: bytes, increment: int) -> int:
        if now >= self.next_expiry:
            self.reap(now, key)
        place = crc32(key) & MASK
        before = self.shards[place].get(key)
        if before is None:
            number = increment
        elif before.__class__ is bytes:
            number = parse_int(before) + increment
        else:
            raise WrongType
        if not INT_MIN <= number <= INT_MAX:
            raise CommandError("ERR increment or decrement would overflow")
        self.shard_to_change(place)[key] = b"%d" % number
        return number

    @write("INCRBYFLOAT", keys=_KEY, group="string")
    def incrbyfloat(self, call: Call, key: bytes, increment: bytes) -> bytes:
        """Add to the number at a key, which may have a fraction."""
        self.reap(call.now, key)
        before = self.look_string(call.now, key)
        number = parse_float(b"0" if before is None else before)
        after = add_floats(number, parse_float(increment))
        self.put(key, after)
        return after
