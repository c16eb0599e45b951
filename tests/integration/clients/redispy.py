"""redis-py against a node, blocking and asyncio: python redispy.py PORT PROTOCOL."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import redis
import redis.asyncio

PORT, PROTOCOL = int(sys.argv[1]), int(sys.argv[2])


def same(found: Any, expected: Any) -> None:
    assert found == expected, f"found {found!r} instead of {expected!r}"


def raises(error: type[Exception], text: str, call: Any, *args: Any) -> None:
    try:
        call(*args)
    except error as e:
        assert text in str(e), e
    else:
        raise AssertionError(f"no {error.__name__}")


def blocking() -> None:
    client = redis.Redis(
        port=PORT, protocol=PROTOCOL, decode_responses=True, client_name="tester", db=0
    )
    client.flushall()
    same(client.ping(), True)
    same(client.echo("x"), "x")
    same(client.set("k", "v", ex=100), True)
    same(client.set("k", "w", nx=True), None)
    same(client.set("k", "w", get=True, keepttl=True), "v")
    same(client.get("k"), "w")
    same(90 <= client.ttl("k") <= 100, True)
    same(client.getex("k", persist=True), "w")
    same(client.ttl("k"), -1)
    same(client.mset({"a": "1", "b": "2"}), True)
    same(client.mget("a", "none"), ["1", None])
    same(client.incrbyfloat("f", 1.5), 1.5)
    same(client.hset("h", mapping={"f": "1", "g": "2"}), 2)
    same(client.hgetall("h"), {"f": "1", "g": "2"})
    same(client.hincrby("h", "f", 4), 5)
    same(client.rpush("l", "x", "y", "x"), 3)
    same(client.lpos("l", "x", count=0), [0, 2])
    same(client.lpop("l", 2), ["x", "y"])
    same(client.lpop("none", 2), None)
    same(client.sadd("s", "x", "y"), 2)
    same(client.smembers("s"), {"x", "y"})
    same(client.sismember("s", "x"), 1)
    same(client.sintercard(1, ["s"]), 2)
    same(sorted(client.scan_iter(match="?", count=1000)), ["a", "b", "f", "h", "k", "l", "s"])
    same(dict(client.hscan_iter("h")), {"f": "5", "g": "2"})
    same(set(client.sscan_iter("s")), {"x", "y"})
    same(client.copy("k", "k2"), True)
    same(client.rename("k2", "k3"), True)
    same(client.type("h"), "hash")
    same(client.dbsize(), 8)
    same(client.expire("k3", 100, nx=True), True)
    same(client.delete("k3", "none"), 1)
    raises(redis.ResponseError, "WRONGTYPE", client.lpush, "k", "x")
    raises(redis.ResponseError, "unknown command", client.execute_command, "NONSENSE")

    # What tells about the server.
    info = client.info()
    same(info["redis_mode"], "standalone")
    same(info["db0"], {"keys": 7, "expires": 0, "avg_ttl": 0})
    same(client.info("raft")["state"], "Leader")
    same(client.client_getname(), "tester")
    same([c["name"] for c in client.client_list()], ["tester"])
    same(client.client_info()["lib-name"].startswith("redis-py"), True)
    same(client.client_kill_filter(_id=12345), 0)
    same(client.config_get("save", "appendonly"), {"save": "", "appendonly": "yes"})
    same(client.slowlog_get(), [])
    same(client.slowlog_len(), 0)
    same(client.command_count(), len(client.command()))
    same("get" in client.command_list(), True)
    same(client.role()[0], "master")
    same(len(client.time()), 2)
    same(client.select(0), True)
    transactions(client)
    client.close()


def transactions(client: Any) -> None:
    for transaction in (True, False):
        with client.pipeline(transaction=transaction) as pipe:
            pipe.set("n", 1).incr("n").lpush("n", "x").get("n")
            replies = pipe.execute(raise_on_error=False)
        same((replies[0], replies[1], replies[3]), (True, 2, "2"))
        same(type(replies[2]), redis.ResponseError)
    with client.pipeline() as pipe:
        pipe.watch("n")
        same(pipe.get("n"), "2")
        client.set("n", 5)
        pipe.multi()
        pipe.set("n", 3)
        raises(redis.WatchError, "", pipe.execute)
    same(client.get("n"), "5")
    same(client.transaction(lambda pipe: pipe.multi() or pipe.incr("n"), "n"), [6])
    with client.pipeline() as pipe:
        pipe.execute_command("SET", "n")
        pipe.set("n", 7)
        raises(redis.ResponseError, "wrong number of arguments", pipe.execute)
    same(client.get("n"), "6")
    with client.pipeline(transaction=False) as pipe:
        for i in range(10_000):
            pipe.rpush("many", i)
        same(pipe.execute()[-1], 10_000)


async def concurrent() -> None:
    client = redis.asyncio.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True)
    await client.flushall()
    same(await client.set("k", "v"), True)
    same(await client.get("k"), "v")
    same(sorted(await asyncio.gather(*[client.incr("n") for _ in range(50)])), [*range(1, 51)])
    same(await client.hset("h", mapping={"f": "1"}), 1)
    same(await client.hgetall("h"), {"f": "1"})
    for transaction in (True, False):
        async with client.pipeline(transaction=transaction) as pipe:
            same(await pipe.set("t", 1).incr("t").execute(), [True, 2])
    async with client.pipeline() as pipe:
        await pipe.watch("t")
        await client.set("t", 5)
        pipe.multi()
        pipe.incr("t")
        try:
            await pipe.execute()
            raise AssertionError("the watched key was written")
        except redis.WatchError:
            pass
    same([key async for key in client.scan_iter(match="k")], ["k"])
    await client.aclose()


blocking()
asyncio.run(concurrent())
print("passed", redis.__version__)
