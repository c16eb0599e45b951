"""A network between members that can be cut: one TCP proxy in front of each.

Nodes advertise the port of their proxy. A member link begins with ``RAFTLINK``, which tells who
dials: a cut concerns just one pair of members, and one direction if that is wanted. Clients always
get through. What is cut is silent, as a cut wire: nothing is closed, bytes wait and come late.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import hiredis

from tests.integration.ports import free_port
from tests.integration.process import DEADLINE
from tests.integration.resp import LOOPBACK, port_of

CHUNK = 65536
CLIENT = 0


class Network:
    """Proxies, in a thread of their own. Members are named by the ports they advertise."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: dict[int, asyncio.Server] = {}
        self._targets: dict[int, int] = {}
        self._cuts: set[tuple[int, int]] = set()
        self._changed = asyncio.Event()
        self._connections: dict[asyncio.Task[None], tuple[int, int]] = {}

    def add(self, target: int) -> int:
        """Make a proxy in front of a node's port; returns the port to advertise."""
        port = free_port()
        self._targets[port] = target
        self.up(port)
        return port

    def up(self, port: int) -> None:
        """The node is there: connections are accepted."""
        self._run(self._listen(port))

    def down(self, port: int) -> None:
        """The node is gone: connections are refused, as the system of a dead process does."""
        self._run(self._unlisten(port))

    def cut(self, source: int, target: int, both: bool = True) -> None:
        """Let nothing through from one member to another, or in both directions."""
        pairs = {(source, target), (target, source)} if both else {(source, target)}
        self._call(lambda: self._cuts.update(pairs))

    def heal(self, reset: bool) -> None:
        """Let everything through again; what waited comes late, or its connections are lost."""

        def heal() -> None:
            if reset:
                for task, (source, target) in list(self._connections.items()):
                    if (source, target) in self._cuts or (target, source) in self._cuts:
                        task.cancel()
            self._cuts.clear()
            self._changed.set()
            self._changed = asyncio.Event()

        self._call(heal)

    def close(self) -> None:
        """End all connections and the thread."""

        async def close() -> None:
            for port in list(self._servers):
                await self._unlisten(port)
            tasks = list(self._connections)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- in the thread ------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    def _call(self, function: Callable[[], Any]) -> None:
        async def call() -> None:
            function()

        self._run(call())

    async def _listen(self, port: int) -> None:
        if port not in self._servers:
            self._servers[port] = await asyncio.start_server(
                lambda reader, writer: self._serve(port, reader, writer),
                LOOPBACK,
                port,
                reuse_address=True,
            )

    async def _unlisten(self, port: int) -> None:
        server = self._servers.pop(port, None)
        if server is not None:
            server.close()

    async def _serve(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = [writer]
        self._connections[task] = (CLIENT, port)
        try:
            first = await reader.read(CHUNK)
            source = await self._who(reader, first)
            self._connections[task] = (source[0], port)
            await self._passage(source[0], port)
            back, forth = await asyncio.open_connection(LOOPBACK, self._targets[port])
            writers.append(forth)
            forth.write(source[1])
            await self._both(
                self._pump(reader, forth, source[0], port),
                self._pump(back, writer, port, source[0]),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            del self._connections[task]
            for each in writers:
                with suppress(Exception):
                    each.transport.abort()

    async def _who(self, reader: asyncio.StreamReader, data: bytes) -> tuple[int, bytes]:
        """Return the member that dials, or CLIENT, and all that was read for it."""
        while b"RAFTLINK" in data[:24]:
            parser = hiredis.Reader(notEnoughData=None)
            parser.feed(data)
            words = parser.gets()
            if words is not None:
                return port_of(words[4].decode()), data
            more = await reader.read(CHUNK)
            if not more:
                break
            data += more
        return CLIENT, data

    @staticmethod
    async def _both(*pumps: Coroutine[Any, Any, None]) -> None:
        """Run both directions until one ends."""
        tasks = [asyncio.ensure_future(pump) for pump in pumps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: int, target: int
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._passage(source, target)
            writer.write(data)
            await writer.drain()

    async def _passage(self, source: int, target: int) -> None:
        while (source, target) in self._cuts:
            await self._changed.wait()
