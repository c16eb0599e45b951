"""Commands on the time that keys have to live.

All of them reckon with the replicated clock, ``call.now``: a key expires at the same place of the
log on every node. A read sees the clock of the last entry applied, which stands still while
nothing is written; ``needs_tick`` tells the node when a read must move it first.
"""

from __future__ import annotations

from collections.abc import Sequence

from finn.declarative import Call, read, write
from finn.errors import CommandError, printable
from finn.machines.deadlines import NEVER
from finn.machines.numeric import parse_int
from finn.machines.shards import ShardedState, shard_of
from finn.machines.words import deadline

_KEY = (1, 1, 1)
_NO_KEY = -2
_NO_DEADLINE = -1
_CONDITIONS = frozenset((b"NX", b"XX", b"GT", b"LT"))

TICK_MS = 100
"""How stale the clock may be for a reply that tells a time to live."""

_CLOCK_READS = frozenset((b"TTL", b"PTTL"))


class Lifetimes(ShardedState):
    """Commands on the time that keys have to live."""

    @write("EXPIRE", keys=_KEY, usage="key seconds [NX | XX | GT | LT]", group="generic")
    def expire(self, call: Call, key: bytes, seconds: bytes, *options: bytes) -> int:
        """Let a key expire after some seconds."""
        return self._expire(call.now, key, seconds, 1000, True, options, "expire")

    @write("PEXPIRE", keys=_KEY, usage="key milliseconds [NX | XX | GT | LT]", group="generic")
    def pexpire(self, call: Call, key: bytes, milliseconds: bytes, *options: bytes) -> int:
        """Let a key expire after some milliseconds."""
        return self._expire(call.now, key, milliseconds, 1, True, options, "pexpire")

    @write(
        "EXPIREAT", keys=_KEY, usage="key unix-time-seconds [NX | XX | GT | LT]", group="generic"
    )
    def expireat(self, call: Call, key: bytes, seconds: bytes, *options: bytes) -> int:
        """Let a key expire at a Unix time in seconds."""
        return self._expire(call.now, key, seconds, 1000, False, options, "expireat")

    @write(
        "PEXPIREAT",
        keys=_KEY,
        usage="key unix-time-milliseconds [NX | XX | GT | LT]",
        group="generic",
    )
    def pexpireat(self, call: Call, key: bytes, milliseconds: bytes, *options: bytes) -> int:
        """Let a key expire at a Unix time in milliseconds."""
        return self._expire(call.now, key, milliseconds, 1, False, options, "pexpireat")

    def _expire(
        self,
        now: int,
        key: bytes,
        number: bytes,
        unit: int,
        relative: bool,
        options: Sequence[bytes],
        command: str,
    ) -> int:
        conditions = _conditions(options)
        at = deadline(parse_int(number), unit, now if relative else 0, command)
        self.reap(now, key)
        if self.look(now, key) is None:
            return 0
        before = self.deadline_of(key)
        # Without a deadline a key lives for ever: GT is never true then, and LT always.
        if (
            (b"NX" in conditions and before is not None)
            or (b"XX" in conditions and before is None)
            or (b"GT" in conditions and (before is None or at <= before))
            or (b"LT" in conditions and before is not None and at >= before)
        ):
            return 0
        self.expire_at(now, key, at)
        return 1

    @write("PERSIST", keys=_KEY, group="generic")
    def persist(self, call: Call, key: bytes) -> int:
        """Let a key never expire."""
        self.reap(call.now, key)
        return int(self.clear_deadline(key))

    @read("TTL", keys=_KEY, group="generic")
    def ttl(self, call: Call, key: bytes) -> int:
        """Return the seconds that a key has to live; -1 without end, -2 without key."""
        left = self.pttl(call, key)
        return left if left < 0 else (left + 500) // 1000

    @read("PTTL", keys=_KEY, group="generic")
    def pttl(self, call: Call, key: bytes) -> int:
        """Return the milliseconds that a key has to live; -1 without end, -2 without key."""
        at = self.pexpiretime(call, key)
        return at if at < 0 else at - call.now

    @read("EXPIRETIME", keys=_KEY, group="generic")
    def expiretime(self, call: Call, key: bytes) -> int:
        """Return the Unix time in seconds when a key expires; -1 never, -2 without key."""
        at = self.pexpiretime(call, key)
        return at if at < 0 else (at + 500) // 1000

    @read("PEXPIRETIME", keys=_KEY, group="generic")
    def pexpiretime(self, call: Call, key: bytes) -> int:
        """Return the Unix time in ms when a key expires; -1 never, -2 without key."""
        if self.look(call.now, key) is None:
            return _NO_KEY
        at = self.deadline_of(key)
        return _NO_DEADLINE if at is None else at

    # -- the hook for the node ----------------------------------------------------------------

    def needs_tick(
        self, commands: Sequence[Sequence[bytes]], applied_ms: int, wall_ms: int
    ) -> bool:
        """Say whether reads would answer wrongly unless an entry moves the clock first.

        An optional method of a machine. It goes with the attribute ``next_expiry``, before which
        no key expires: until then it need not be asked, unless the clock is older than
        ``TICK_MS`` and ``next_expiry`` is not ``NEVER``.

        After one entry the reads are to be served without asking again: they see the time at
        which they came, and other keys may go on expiring for ever.

        Args:
            commands: the reads, each with its name.
            applied_ms: the replicated clock: time of the last entry applied.
            wall_ms: the leader's clock.

        Returns:
            True when a key that is read exists by ``applied_ms`` and has expired by ``wall_ms``;
            or when a time to live is asked for, and ``applied_ms`` is too old to tell it.
        """
        due = wall_ms >= self.next_expiry
        stale = wall_ms - applied_ms >= TICK_MS
        if applied_ms >= wall_ms or not (due or stale):
            return False
        table = self.__finn_commands__
        for name, *args in commands:
            upper = name.upper()
            if not due and upper not in _CLOCK_READS:
                continue
            found = table.get(upper)
            if found is None:
                continue
            keys = found[1].keys
            if keys is None:
                if self._any_expires(applied_ms, wall_ms):
                    return True
                continue
            last = NEVER if stale and upper in _CLOCK_READS else wall_ms
            for key in args if keys[1] < 0 else args[: keys[1]]:
                at = self.expiries[shard_of(key)].get(key)
                if at is not None and applied_ms < at <= last:
                    return True
        return False

    def _any_expires(self, after: int, upto: int) -> bool:
        near = self.deadlines.near(after, upto)
        return any(after < self.expiries[shard_of(key)][key] <= upto for key in near)


def _conditions(options: Sequence[bytes]) -> set[bytes]:
    found = set()
    for option in options:
        word = option.upper()
        if word not in _CONDITIONS:
            raise CommandError(f"ERR Unsupported option {printable(option)}")
        found.add(word)
    if b"NX" in found and len(found) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= found:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    return found
