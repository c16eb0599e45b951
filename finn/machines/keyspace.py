"""Commands on keys of any type."""

from __future__ import annotations

from itertools import islice

from finn.declarative import Call, read, write
from finn.errors import CommandError
from finn.machines.glob import anything, matcher
from finn.machines.numeric import parse_int
from finn.machines.pages import check_cursor, page_options
from finn.machines.shards import SHARDS, ShardedState, shard_of
from finn.machines.values import Value, type_name
from finn.machines.words import SYNTAX_ERROR, read_words
from finn.resp.values import OK, Simple

_KEY = (1, 1, 1)
_KEYS = (1, -1, 1)
_TWO_KEYS = (1, 2, 1)
_NO_SUCH_KEY = "ERR no such key"
_COPY_WORDS = {b"DB": 1, b"REPLACE": 0}
_FLUSH_WORDS = {b"ASYNC": 0, b"SYNC": 0}


class Keyspace(ShardedState):
    """Commands on keys of any type."""

    @write("DEL", keys=_KEYS, usage="key [key ...]", group="generic")
    def del_(self, call: Call, key: bytes, *keys: bytes) -> int:
        """Remove keys; returns how many there were."""
        removed = 0
        for name in (key, *keys):
            self.reap(call.now, name)
            removed += self.remove(name)
        return removed

    @write("UNLINK", keys=_KEYS, usage="key [key ...]", group="generic")
    def unlink(self, call: Call, key: bytes, *keys: bytes) -> int:
        """Remove keys: the same as DEL."""
        return self.del_(call, key, *keys)

    @read("EXISTS", keys=_KEYS, usage="key [key ...]", group="generic")
    def exists(self, call: Call, key: bytes, *keys: bytes) -> int:
        """Return how many of the keys exist; one named twice counts twice."""
        return sum(self.look(call.now, name) is not None for name in (key, *keys))

    @read("TOUCH", keys=_KEYS, usage="key [key ...]", group="generic")
    def touch(self, call: Call, key: bytes, *keys: bytes) -> int:
        """Return how many of the keys exist; there is no access time to change."""
        return self.exists(call, key, *keys)

    @read("TYPE", keys=_KEY, group="generic")
    def type_(self, call: Call, key: bytes) -> Simple:
        """Return the type of a key's value: string, hash, list, set, or none."""
        value = self.look(call.now, key)
        return Simple("none" if value is None else type_name(value))

    @write("RENAME", keys=_TWO_KEYS, group="generic")
    def rename(self, call: Call, key: bytes, newkey: bytes) -> object:
        """Give a key another name, in place of what had that name."""
        self.reap(call.now, key)
        self.reap(call.now, newkey)
        self._rename(key, newkey, self._value(call.now, key))
        return OK

    @write("RENAMENX", keys=_TWO_KEYS, group="generic")
    def renamenx(self, call: Call, key: bytes, newkey: bytes) -> int:
        """Give a key another name unless that is taken."""
        self.reap(call.now, key)
        self.reap(call.now, newkey)
        value = self._value(call.now, key)
        if self.look(call.now, newkey) is not None:
            return 0
        self._rename(key, newkey, value)
        return 1

    def _value(self, now: int, key: bytes) -> Value:
        value = self.look(now, key)
        if value is None:
            raise CommandError(_NO_SUCH_KEY)
        return value

    def _rename(self, key: bytes, newkey: bytes, value: Value) -> None:
        if key == newkey:
            return
        if not isinstance(value, bytes):
            # A freeze that holds the old shard need not hold the new one.
            value = self.unshared(shard_of(key), key, value)
        at = self.deadline_of(key)
        self.remove(key)
        self.replace(newkey, value)
        if at is not None:
            self.set_deadline(newkey, at)

    @write("COPY", keys=_TWO_KEYS, usage="source destination [DB 0] [REPLACE]", group="generic")
    def copy(self, call: Call, source: bytes, destination: bytes, *options: bytes) -> int:
        """Copy a key's value and time to live."""
        found = read_words(options, _COPY_WORDS)
        if parse_int(found.get(b"DB", b"0")):
            raise CommandError("ERR DB index is out of range")
        if source == destination:
            raise CommandError("ERR source and destination objects are the same")
        self.reap(call.now, source)
        self.reap(call.now, destination)
        value = self.look(call.now, source)
        if value is None:
            return 0
        if self.look(call.now, destination) is not None and b"REPLACE" not in found:
            return 0
        at = self.deadline_of(source)
        self.replace(destination, value if isinstance(value, bytes) else value.twin(self.epoch))
        if at is not None:
            self.set_deadline(destination, at)
        return 1

    def keyspace(self) -> dict[str, int]:
        """Return what INFO tells of the keys, nothing when there are none.

        It costs the same however many there are; like Redis it counts the expired keys that are
        still in memory.
        """
        keys = sum(map(len, self.shards))
        if not keys:
            return {}
        return {"keys": keys, "expires": sum(map(len, self.expiries)), "avg_ttl": 0}

    # -- all keys -----------------------------------------------------------------------------

    @read("DBSIZE", group="generic")
    def dbsize(self, call: Call) -> int:
        """Return the number of keys."""
        return self.count(call.now)

    @read("KEYS", group="generic")
    def keys(self, call: Call, pattern: bytes) -> list[bytes]:
        """Return the keys that match a pattern, sorted bytewise."""
        match = matcher(pattern)
        found: list[bytes] = []
        for number in range(SHARDS):
            keys = self.live_keys(call.now, number)
            found.extend(keys if match is anything else filter(match, keys))
        found.sort()
        return found

    @read("SCAN", usage="cursor [MATCH pattern] [COUNT count] [TYPE type]", group="generic")
    def scan(self, call: Call, cursor: bytes, *options: bytes) -> list[object]:
        """Return some of the keys and the cursor for the next ones, 0 at the end.

        The cursor is the number of a shard: a key that is there during the whole scan is
        returned, exactly once, even when the scan goes on at another node.
        """
        check_cursor(cursor)
        found = page_options(options, (b"MATCH", b"COUNT", b"TYPE"))
        wanted = int(found.get(b"COUNT", b"10"))
        match = matcher(found[b"MATCH"]) if b"MATCH" in found else None
        kind = found[b"TYPE"].decode("latin-1").lower() if b"TYPE" in found else None
        keys: list[bytes] = []
        seen = 0
        number = int(cursor)
        while 0 <= number < SHARDS and seen < wanted:
            names = list(self.live_keys(call.now, number))
            seen += len(names)
            if match is not None:
                names = [name for name in names if match(name)]
            if kind is not None:
                shard = self.shards[number]
                names = [name for name in names if type_name(shard[name]) == kind]
            keys += names
            number += 1
        return [b"%d" % number if 0 <= number < SHARDS else b"0", keys]

    @read("RANDOMKEY", group="generic")
    def randomkey(self, call: Call) -> bytes | None:
        """Return a random key."""
        sizes = list(map(len, self.shards))
        while total := sum(sizes):
            place = int(call.random.random() * total)
            number = 0
            while place >= sizes[number]:
                place -= sizes[number]
                number += 1
            key = next(islice(self.shards[number], place, None))
            if self.look(call.now, key) is not None:
                return key
            # An expired one that is still in memory: look among the live ones of its shard.
            live = list(self.live_keys(call.now, number))
            if live:
                return live[int(call.random.random() * len(live))]
            sizes[number] = 0
        return None

    @write("FLUSHALL", usage="[ASYNC | SYNC]", group="generic")
    def flushall(self, call: Call, *mode: bytes) -> object:
        """Remove all keys."""
        read_words(mode, _FLUSH_WORDS)
        if len(mode) > 1:
            raise CommandError(SYNTAX_ERROR)
        self.clear()
        return OK

    @write("FLUSHDB", usage="[ASYNC | SYNC]", group="generic")
    def flushdb(self, call: Call, *mode: bytes) -> object:
        """Remove all keys: the same as FLUSHALL."""
        return self.flushall(call, *mode)
