"""Random commands of the key-value machine, as hypothesis strategies: one table."""

from __future__ import annotations

from hypothesis import strategies as st

KEYS = [b"a", b"b", b"c", b"d", b"longer key \x00\xff"]
FIELDS = [b"f", b"g", b"h", b"1", b""]
VALUES = [
    b"", b"x", b"hello", b"0", b"1", b"-7", b"10", b"3.5", b"9223372036854775807",
    b"-9223372036854775808", b"01", b" 1", b"1e3", b"\x00\xff\r\n",
]  # fmt: skip
INTS = [
    b"0", b"1", b"-1", b"2", b"3", b"-2", b"5", b"100", b"-100", b"9223372036854775807",
    b"-9223372036854775808", b"9223372036854775808", b"+1", b"01", b"x", b"", b"1.5",
]  # fmt: skip
SMALL = [b"0", b"1", b"2", b"3", b"-1", b"-2", b"-3", b"10", b"-10"]
FLOATS = [
    b"0.1", b"1.5", b"-0.3", b"3", b"1e2", b"5.0e3", b"1e17", b"-1e-5", b"10.50", b"200",
    b"0.000001", b"123456789.123456789", b"x", b"", b"inf", b"-inf", b"nan", b"1e400", b".5", b"1.",
    b" 1", b"1 ", b"3.0", b"1e5000", b"0.1e-3000",
]  # fmt: skip
# Lifetimes lie far enough in the future or the past for the moment not to matter.
SPANS = [b"1000", b"5000", b"100000", b"0", b"-1", b"x", b"9223372036854775807"]
SPANS_MS = [b"1000000", b"5000000", b"0", b"-1", b"x", b"9223372036854775807"]
TIMES = [b"4000000000", b"4000000001", b"5000000000", b"1000", b"0", b"-5", b"9223372036854775807"]
TIMES_MS = [b"4000000000000", b"4000000000001", b"5000000000000", b"1000", b"0", b"-5"]
PATTERNS = [
    b"*", b"a", b"?", b"[a-c]", b"[^a]", b"l*", b"*key*", b"[", b"[a", b"\\a", b"*\\", b"a*b",
    b"[c-a]", b"[\\a-c]", b"", b"**", b"[^", b"[]", b"[^]",
]  # fmt: skip

_POOLS = {
    "key": KEYS, "field": FIELDS, "value": VALUES, "int": INTS, "small": SMALL, "float": FLOATS,
    "span": SPANS, "span_ms": SPANS_MS, "time": TIMES, "time_ms": TIMES_MS, "pattern": PATTERNS,
    "side": [b"LEFT", b"right", b"Left", b"x"], "where": [b"BEFORE", b"after", b"x"],
    "cursor": [b"0", b"0", b"x"],
    "type": [b"string", b"hash", b"list", b"SET", b"none", b"x"],
}  # fmt: skip

_CONDITIONS = ["NX", "xx", "GT", "lt", "foo"]

COMMANDS: dict[str, tuple[str, list[str]]] = {
    # name: (arguments; ``word+`` means one or more of the group, ``word?`` perhaps one; options)
    "SET": (
        "key value",
        ["NX", "xx", "GET", "KEEPTTL", "EX span", "PX span_ms", "EXAT time", "pxat time_ms", "EX"],
    ),
    "SETNX": ("key value", []),
    "SETEX": ("key span value", []),
    "PSETEX": ("key span_ms value", []),
    "GET": ("key", []),
    "GETSET": ("key value", []),
    "GETDEL": ("key", []),
    "GETEX": ("key", ["EX span", "PX span_ms", "EXAT time", "PXAT time_ms", "PERSIST", "KEEPTTL"]),
    "MGET": ("key+", []),
    "MSET": ("key,value+", []),
    "MSETNX": ("key,value+", []),
    "APPEND": ("key value", []),
    "STRLEN": ("key", []),
    "GETRANGE": ("key small small", []),
    "SUBSTR": ("key int int", []),
    "SETRANGE": ("key small value", []),
    "INCR": ("key", []),
    "DECR": ("key", []),
    "INCRBY": ("key int", []),
    "DECRBY": ("key int", []),
    "INCRBYFLOAT": ("key float", []),
    "DEL": ("key+", []),
    "UNLINK": ("key+", []),
    "EXISTS": ("key+", []),
    "TOUCH": ("key+", []),
    "TYPE": ("key", []),
    "RENAME": ("key key", []),
    "RENAMENX": ("key key", []),
    "COPY": ("key key", ["REPLACE", "DB 0", "x"]),
    "KEYS": ("pattern", []),
    "DBSIZE": ("", []),
    "FLUSHALL": ("", ["ASYNC", "SYNC", "x"]),
    "EXPIRE": ("key span", ["NX", "XX", "foo"]),
    "PEXPIRE": ("key span_ms", ["NX", "XX", "foo"]),
    "EXPIREAT": ("key time", _CONDITIONS),
    "PEXPIREAT": ("key time_ms", _CONDITIONS),
    "PERSIST": ("key", []),
    "TTL": ("key", []),
    "PTTL": ("key", []),
    "EXPIRETIME": ("key", []),
    "PEXPIRETIME": ("key", []),
    "HSET": ("key field,value+", []),
    "HMSET": ("key field,value+", []),
    "HSETNX": ("key field value", []),
    "HGET": ("key field", []),
    "HMGET": ("key field+", []),
    "HGETALL": ("key", []),
    "HKEYS": ("key", []),
    "HVALS": ("key", []),
    "HLEN": ("key", []),
    "HEXISTS": ("key field", []),
    "HSTRLEN": ("key field", []),
    "HSCAN": ("key cursor", ["MATCH pattern", "COUNT 1000", "COUNT 0", "x"]),
    "HDEL": ("key field+", []),
    "HINCRBY": ("key field int", []),
    "HINCRBYFLOAT": ("key field float", []),
    "LPUSH": ("key value+", []),
    "RPUSH": ("key value+", []),
    "LPUSHX": ("key value+", []),
    "RPUSHX": ("key value+", []),
    "LPOP": ("key int?", []),
    "RPOP": ("key small?", []),
    "LMOVE": ("key key side side", []),
    "RPOPLPUSH": ("key key", []),
    "LRANGE": ("key small small", []),
    "LLEN": ("key", []),
    "LINDEX": ("key int", []),
    "LPOS": ("key value", ["RANK small", "COUNT small", "maxlen int", "RANK", "x 1"]),
    "LSET": ("key small value", []),
    "LINSERT": ("key where value value", []),
    "LREM": ("key small value", []),
    "LTRIM": ("key small small", []),
    "SADD": ("key value+", []),
    "SREM": ("key value+", []),
    "SMEMBERS": ("key", []),
    "SISMEMBER": ("key value", []),
    "SMISMEMBER": ("key value+", []),
    "SCARD": ("key", []),
    "SSCAN": ("key cursor", ["MATCH pattern", "count 1000", "COUNT x", "TYPE set"]),
    "SMOVE": ("key key value", []),
    "SINTER": ("key+", []),
    "SINTERCARD": ("small key+", ["LIMIT small", "limit"]),
    "SUNION": ("key+", []),
    "SDIFF": ("key+", []),
    "SINTERSTORE": ("key key+", []),
    "SUNIONSTORE": ("key key+", []),
    "SDIFFSTORE": ("key key+", []),
}

UNORDERED = frozenset(("KEYS", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF"))


def _argument(spec: str) -> st.SearchStrategy[list[bytes]]:
    most = 1
    least = 1
    if spec[-1] == "+":
        spec, most = spec[:-1], 4
    elif spec[-1] == "?":
        spec, least = spec[:-1], 0
    group = st.tuples(*[st.sampled_from(_POOLS[kind]) for kind in spec.split(",")])
    groups = st.lists(group, min_size=least, max_size=most)
    return groups.map(lambda found: [word for group in found for word in group])


def _option(spec: str) -> st.SearchStrategy[list[bytes]]:
    word, *kinds = spec.split()
    arguments = [
        st.sampled_from(_POOLS[kind]) if kind in _POOLS else st.just(kind.encode())
        for kind in kinds
    ]
    return st.tuples(st.just(word.encode()), *arguments).map(list)


def _command(name: str) -> st.SearchStrategy[list[bytes]]:
    arguments, options = COMMANDS[name]
    parts = [_argument(spec) for spec in arguments.split()]
    if options:
        some = st.lists(st.one_of(*map(_option, options)), max_size=3)
        parts.append(some.map(lambda found: [word for option in found for word in option]))
    return st.tuples(*parts).map(
        lambda found: [name.encode(), *[w for part in found for w in part]]
    )


def _misshapen(command: list[bytes], change: int) -> list[bytes]:
    """Take the last word away, or add one, for wrong numbers of arguments."""
    if change == 0:
        return command[:-1] or command
    return [*command, b"extra"] if change == 1 else command


commands: st.SearchStrategy[list[bytes]] = st.builds(
    _misshapen,
    st.sampled_from(sorted(COMMANDS)).flatmap(_command),
    st.integers(0, 15),
)

sequences: st.SearchStrategy[list[list[bytes]]] = st.lists(commands, min_size=1, max_size=40)
