"""txredisapi against a node: python txredis.py PORT."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

PORT = int(sys.argv[1])


def same(found: Any, expected: Any) -> None:
    assert found == expected, f"found {found!r} instead of {expected!r}"


async def check(reactor: Any) -> None:
    import txredisapi

    pool = await txredisapi.ConnectionPool("127.0.0.1", PORT, dbid=0, poolsize=3)
    await pool.flushall()
    same(await pool.ping(), "PONG")
    same(await pool.set("k", "v", expire=100), "OK")
    same(await pool.get("k"), "v")
    same(await pool.get("none"), None)
    same(90 <= await pool.ttl("k") <= 100, True)
    same(await pool.incr("n", 5), 5)
    same(await pool.hmset("h", {"f": "x", "g": "y"}), "OK")
    same(await pool.hgetall("h"), {"f": "x", "g": "y"})
    same(await pool.rpush("l", ["a", "b"]), 2)
    same(await pool.lrange("l", 0, -1), ["a", "b"])
    same(await pool.sadd("s", ["x"]), 1)
    same(await pool.smembers("s"), {"x"})
    same(await pool.mget(["k", "none"]), ["v", None])
    same(sorted(await pool.keys("?")), ["h", "k", "l", "n", "s"])
    cursor, keys = await pool.scan(0, count=100000)
    same((int(cursor), len(keys)), (0, 5))
    results = await gatherResults([pool.incr("many") for _ in range(300)])
    same(sorted(results), list(range(1, 301)))
    try:
        await pool.lpush("k", "x")
        raise AssertionError("LPUSH on a string")
    except txredisapi.ResponseError as e:
        assert str(e).startswith("WRONGTYPE"), e

    # Pipelines and transactions.
    pipeline = await pool.pipeline()
    pipeline.set("p", 1)
    pipeline.incr("p")
    pipeline.get("p")
    same(await pipeline.execute_pipeline(), ["OK", 2, 2])
    transaction = await pool.multi()
    await transaction.set("t", 1)
    await transaction.incr("t")
    same(await transaction.commit(), ["OK", 2])
    transaction = await pool.multi()
    await transaction.set("t", 9)
    await transaction.discard()
    same(await pool.get("t"), 2)

    # multi(keys) is WATCH, and then MULTI once the reads are done.
    transaction = await pool.multi(["t"])
    await transaction.set("t", 3)
    same(await transaction.commit(), ["OK"])
    transaction = await pool.multi("t")
    await pool.set("t", 4)
    await transaction.set("t", 5)
    try:
        await transaction.commit()
        raise AssertionError("the watched key was written")
    except txredisapi.WatchError:
        pass
    same(await pool.get("t"), 4)
    same(await pool.dbsize(), 8)
    assert "redis_version" in await pool.info()
    await pool.disconnect()

    lazy = txredisapi.lazyConnection("127.0.0.1", PORT)
    same(await lazy.get("k"), "v")
    await lazy.disconnect()
    print("passed", version("txredisapi"))


react(lambda reactor: Deferred.fromCoroutine(check(reactor)))
