"""A small clone of Redis, in the style of the original finn: one ``command`` method.

Run three nodes, each in a terminal of its own:

    twistd -n finn --port 7481 --machine examples.clone:Clone
    twistd -n finn --port 7482 --machine examples.clone:Clone --join :7481
    twistd -n finn --port 7483 --machine examples.clone:Clone --join :7481

and talk to any of them:

    redis-cli -p 7481 SET mykey "my value"
    redis-cli -p 7481 GET mykey

(``examples/ticket.py`` shows the declarative style, which is shorter and faster.)
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

from zope.interface import implementer

from finn import IApplier, IMachine, UnknownCommand, WrongArity
from finn.interfaces import IReader, IWriter


@implementer(IMachine)
class Clone:
    """Keys with values, and the commands SET, GET, DEL and KEYS.

    Each command calls ``applier.apply`` with what changes the state, on every node (None: nothing
    does), and what answers the client, on its node. ``conn`` is None while a committed command is
    applied, so only the second may touch it.
    """

    def __init__(self) -> None:
        self.keys: dict[bytes, bytes] = {}

    def command(self, applier: IApplier, conn: Any, cmd: list[bytes]) -> Any:
        """Run one command."""
        name = cmd[0].lower()
        if name == b"set":
            return self.set(applier, conn, cmd)
        if name == b"get":
            return self.get(applier, conn, cmd)
        if name == b"del":
            return self.delete(applier, conn, cmd)
        if name == b"keys":
            return self.find(applier, conn, cmd)
        raise UnknownCommand(cmd[0])

    def set(self, applier: IApplier, conn: Any, cmd: list[bytes]) -> Any:
        """SET key value."""
        if len(cmd) != 3:
            raise WrongArity(cmd[0])
        _, key, value = cmd

        def mutate() -> None:
            self.keys[key] = value

        return applier.apply(conn, cmd, mutate, lambda _: conn.write_string("OK"))

    def get(self, applier: IApplier, conn: Any, cmd: list[bytes]) -> Any:
        """GET key."""
        if len(cmd) != 2:
            raise WrongArity(cmd[0])

        def respond(_: None) -> None:
            value = self.keys.get(cmd[1])
            if value is None:
                conn.write_null()
            else:
                conn.write_bulk(value)

        return applier.apply(conn, cmd, None, respond)

    def delete(self, applier: IApplier, conn: Any, cmd: list[bytes]) -> Any:
        """DEL key [key ...]."""
        if len(cmd) < 2:
            raise WrongArity(cmd[0])

        def mutate() -> int:
            return sum(self.keys.pop(key, None) is not None for key in cmd[1:])

        return applier.apply(conn, cmd, mutate, lambda count: conn.write_integer(count))

    def find(self, applier: IApplier, conn: Any, cmd: list[bytes]) -> Any:
        """KEYS pattern."""
        if len(cmd) != 2:
            raise WrongArity(cmd[0])

        def respond(_: None) -> None:
            found = sorted(key for key in self.keys if fnmatchcase(key, cmd[1]))
            conn.write_array(len(found))
            for key in found:
                conn.write_bulk(key)

        return applier.apply(conn, cmd, None, respond)

    def snapshot(self, file: IWriter) -> None:
        """Write all keys at once: fine for a small machine, it stops the node meanwhile."""
        # Latin-1 has a character for each byte, which JSON has not.
        state = {key.decode("latin-1"): value.decode("latin-1") for key, value in self.keys.items()}
        file.write(json.dumps(state).encode())

    def restore(self, file: IReader) -> None:
        """Replace all keys."""
        state: dict[str, str] = json.loads(file.read())
        self.keys = {key.encode("latin-1"): value.encode("latin-1") for key, value in state.items()}
