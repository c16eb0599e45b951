"""The state of the key-value machine: keys in shards, which are copied on write after a freeze.

A snapshot must see the state of one moment while commands go on. Copying all keys at that moment
would stall the node (15-35 ms per million), so the keys live in ``SHARDS`` dicts: a freeze notes
the dicts, and the first write to each afterwards copies that one, a few microseconds. Containers
are shared between the copies, and are copied themselves on their first change.

A key expires when the replicated clock (``call.now``) reaches its deadline: from then on every
command treats it as absent, so it is gone at the same place of the log on every node. *When* it is
taken out of memory is nobody's business: a few with each write, or when it is written itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar
from zlib import crc32

from finn.declarative import Machine
from finn.errors import CommandError
from finn.machines.deadlines import BUCKET_BITS, NEVER, Deadlines
from finn.machines.values import Container, Hash, List, MemberSet, Value

SHARDS = 1024
"""Few enough to freeze in microseconds, many enough that one of a million keys is 1,000 keys."""

MASK = SHARDS - 1

REAPED_PER_WRITE = 20
"""Expired keys removed with a write: more than a write can add, so they cannot pile up."""

TRASH_PER_COPY = 4
"""Old shards freed with the copy of a shard: 0.2 ms each in a million keys."""

Shard = dict[bytes, Value]
C = TypeVar("C", Hash, List, MemberSet)


class WrongType(CommandError):
    """The key holds a value of another type than the command is for."""

    def __init__(self) -> None:
        super().__init__("WRONGTYPE Operation against a key holding the wrong kind of value")


def shard_of(key: bytes) -> int:
    """Return the number of the shard that holds a key: the same in every process."""
    return crc32(key) & MASK


class Frozen:
    """The state of one moment, to be let go of shard by shard (``ShardedState.release``).

    Attributes:
        shards: the values; shared with the state, so not to be changed.
        expiries: the deadlines.
        expired_by: keys with a deadline up to this were gone, though still in memory; None when
            there were no such keys.
        held: the counts of the state that it was taken from.
        unreleased: every shard below this number was released.
    """

    def __init__(
        self,
        shards: list[Shard],
        expiries: list[dict[bytes, int]],
        expired_by: int | None,
        held: list[int],
    ) -> None:
        self.shards = shards
        self.expiries = expiries
        self.expired_by = expired_by
        self.held = held
        self.unreleased = 0

    def live(self, number: int) -> Shard:
        """Return a shard without the keys that had expired."""
        shard, clock = self.shards[number], self.expired_by
        if clock is None:
            return shard
        expiries = self.expiries[number]
        return {key: value for key, value in shard.items() if expiries.get(key, NEVER) > clock}


class ShardedState(Machine):
    """Keys with their values and deadlines; the base of the modules that bring the commands.

    Attributes:
        shards: the values, by the number of the shard.
        writable: the same dicts, or None where a freeze shares one and it must be copied first.
        expiries: deadlines in ms by key, for the keys that have one; shared and copied as the
            shard of the same number.
        next_expiry: no key expires before this time; NEVER when none has a deadline.
        clock: a time up to which expired keys are known to be gone for every command.
        trash: what ``clear`` took away and was not freed yet.
        epoch: counts freezes; a container of an older epoch may be shared.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0
        self.clock = 0
        self.trash: list[object] = []
        self.reset([{} for _ in range(SHARDS)], [{} for _ in range(SHARDS)], Deadlines())

    def reset(
        self, shards: list[Shard], expiries: list[dict[bytes, int]], deadlines: Deadlines
    ) -> None:
        """Take fresh state in place of all there is; a freeze keeps what it has."""
        self.shards = shards
        self.writable: list[Shard | None] = list(shards)
        self.expiries = expiries
        self.deadlines = deadlines
        self.next_expiry = deadlines.first()
        self.held = [0] * SHARDS

    def clear(self) -> None:
        """Remove everything, without the time that it takes to free it (0.2 s for a million keys).

        The old shards are freed one by one, with the first write to each new one.
        """
        self.trash += self.deadlines.buckets()
        self.trash += self.expiries
        self.trash += self.shards
        self.reset([{} for _ in range(SHARDS)], [{} for _ in range(SHARDS)], Deadlines())
        self.writable = [None] * SHARDS

    # -- freezing -----------------------------------------------------------------------------

    def freeze(self) -> Frozen:
        """Hold the state of this moment."""
        self.epoch += 1
        self.writable = [None] * SHARDS
        # In place: ``release`` tells by this list whether the state was reset meanwhile.
        self.held[:] = [count + 1 for count in self.held]
        expired_by = self.clock if self.clock >= self.next_expiry else None
        return Frozen(list(self.shards), list(self.expiries), expired_by, self.held)

    def release(self, frozen: Frozen, upto: int = SHARDS) -> None:
        """Let go of the shards below ``upto``."""
        for number in range(frozen.unreleased, upto):
            frozen.shards[number] = {}
            frozen.expiries[number] = {}
            if frozen.held is self.held:
                self.held[number] -= 1
                if not self.held[number]:
                    self.writable[number] = self.shards[number]
        frozen.unreleased = max(frozen.unreleased, upto)

    def own(self, number: int) -> Shard:
        """Copy a shard that a freeze may share, so that it can be changed."""
        del self.trash[-TRASH_PER_COPY:]
        copy = self.shards[number] = self.writable[number] = self.shards[number].copy()
        self.expiries[number] = self.expiries[number].copy()
        return copy

    def shard_to_change(self, number: int) -> Shard:
        """Return a shard that may be changed."""
        shard = self.writable[number]
        return self.own(number) if shard is None else shard

    # -- looking up ---------------------------------------------------------------------------

    def look(self, now: int, key: bytes) -> Value | None:
        """Return a key's value, or None; changes nothing."""
        number = crc32(key) & MASK
        value = self.shards[number].get(key)
        if value is not None and now >= self.next_expiry:
            at = self.expiries[number].get(key)
            if at is not None and at <= now:
                return None
        return value

    def look_string(self, now: int, key: bytes) -> bytes | None:
        """Return the string at a key, or None."""
        value = self.look(now, key)
        if value is None or value.__class__ is bytes:
            return value
        raise WrongType

    def look_at(self, now: int, key: bytes, kind: type[C]) -> C | None:
        """Return the container of that kind at a key, or None; it must not be changed."""
        value = self.look(now, key)
        if value is None or value.__class__ is kind:
            return value
        raise WrongType

    def deadline_of(self, key: bytes) -> int | None:
        """Return when a key that is there expires, or None when it never does."""
        return self.expiries[crc32(key) & MASK].get(key)

    def live_keys(self, now: int, number: int) -> Iterator[bytes]:
        """Iterate over the keys of a shard that have not expired."""
        shard = self.shards[number]
        if now < self.next_expiry:
            return iter(shard)
        expiries = self.expiries[number]
        return (key for key in shard if expiries.get(key, NEVER) > now)

    def count(self, now: int) -> int:
        """Return the number of keys that have not expired."""
        total = sum(map(len, self.shards))
        if now >= self.next_expiry:
            total -= sum(
                self.expiries[shard_of(key)][key] <= now
                for key in self.deadlines.near(self.next_expiry, now)
            )
        return total

    # -- changing (``reap`` comes first: what has expired must not be found) -------------------

    def reap(self, now: int, key: bytes) -> None:
        """Remove ``key`` if it has expired, and a few others that have."""
        if now < self.next_expiry:
            return
        self.clock = max(self.clock, now)
        at = self.expiries[crc32(key) & MASK].get(key)
        if at is not None and at <= now:
            self.remove(key)
        if now >> BUCKET_BITS > self.next_expiry >> BUCKET_BITS:
            for expired in self.deadlines.take_past(now, REAPED_PER_WRITE):
                number = crc32(expired) & MASK
                del self.shard_to_change(number)[expired], self.expiries[number][expired]
            self.next_expiry = self.deadlines.first()

    def change(self, key: bytes, kind: type[C]) -> C | None:
        """Return the container of that kind at a key, to be changed in place, or None."""
        number = crc32(key) & MASK
        value = self.shards[number].get(key)
        if value is None:
            return None
        if value.__class__ is not kind:
            raise WrongType
        return self.unshared(number, key, value)  # type: ignore[return-value]

    def change_or_make(self, key: bytes, kind: type[C]) -> C:
        """Return the container of that kind at a key, made if need be."""
        container = self.change(key, kind)
        if container is None:
            container = kind(self.epoch)
            self.shard_to_change(crc32(key) & MASK)[key] = container
        return container

    def unshared(self, number: int, key: bytes, container: Container) -> Container:
        """Return the container, or the copy put in its place if a freeze may share it."""
        if self.held[number] and container.epoch != self.epoch:
            container = container.twin(self.epoch)
            self.shard_to_change(number)[key] = container
        return container

    def put(self, key: bytes, value: Value) -> None:
        """Set a key's value; a deadline stays."""
        self.shard_to_change(crc32(key) & MASK)[key] = value

    def replace(self, key: bytes, value: Value) -> None:
        """Set a key's value; it never expires."""
        number = crc32(key) & MASK
        self.shard_to_change(number)[key] = value
        if key in self.expiries[number]:
            self.clear_deadline(key)

    def remove(self, key: bytes) -> bool:
        """Remove a key; False when it was not there."""
        number = crc32(key) & MASK
        if key not in self.shards[number]:
            return False
        del self.shard_to_change(number)[key]
        at = self.expiries[number].pop(key, None)
        if at is not None:
            self.deadlines.discard(key, at)
        return True

    def set_deadline(self, key: bytes, at: int) -> None:
        """Let a key expire at ``at``."""
        number = crc32(key) & MASK
        self.shard_to_change(number)
        before = self.expiries[number].get(key)
        if before is not None:
            self.deadlines.discard(key, before)
        self.expiries[number][key] = at
        self.deadlines.add(key, at)
        if at < self.next_expiry:
            self.next_expiry = at

    def expire_at(self, now: int, key: bytes, at: int) -> None:
        """Let a key expire at ``at``; it is removed when that is past."""
        if at <= now:
            self.remove(key)
        else:
            self.set_deadline(key, at)

    def clear_deadline(self, key: bytes) -> bool:
        """Let a key never expire; False when it had no deadline."""
        number = crc32(key) & MASK
        if key not in self.expiries[number]:
            return False
        self.shard_to_change(number)
        self.deadlines.discard(key, self.expiries[number].pop(key))
        return True
