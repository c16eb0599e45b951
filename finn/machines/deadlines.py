"""Which keys expire when: an index by time, so that expired keys can be removed a few at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

NEVER = 1 << 63
"""A time after every other: later than any that a client can name."""

BUCKET_BITS = 10
"""Keys are gathered by 1024 ms: fine enough to free memory soon, coarse enough for few buckets."""


class Deadlines:
    """Keys by the bucket of time in which they expire.

    It answers no question about a single key (``ShardedState.expiries`` does), and only says where
    to look: the order of keys within a bucket depends on the process, so nothing that a client
    can see may depend on it.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, set[bytes]] = {}
        self._heap: list[int] = []

    def add(self, key: bytes, at: int) -> None:
        """Note that ``key`` expires at ``at``."""
        number = at >> BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {key}
            heappush(self._heap, number)
        else:
            bucket.add(key)

    def discard(self, key: bytes, at: int) -> None:
        """Forget that ``key`` expires at ``at``."""
        number = at >> BUCKET_BITS
        bucket = self._buckets[number]
        bucket.remove(key)
        if not bucket:
            del self._buckets[number]
            # Numbers of vanished buckets stay in the heap until they come up, or are too many.
            if len(self._heap) > 2 * len(self._buckets) + 64:
                self._heap = list(self._buckets)
                heapify(self._heap)

    def first(self) -> int:
        """Return a time before which no key expires; NEVER when there is no key."""
        heap = self._heap
        while heap and heap[0] not in self._buckets:
            heappop(heap)
        return heap[0] << BUCKET_BITS if heap else NEVER

    def take_past(self, now: int, limit: int) -> list[bytes]:
        """Remove and return up to ``limit`` keys of the buckets that are wholly past."""
        end = now >> BUCKET_BITS
        taken: list[bytes] = []
        while len(taken) < limit and self.first() >> BUCKET_BITS < end:
            bucket = self._buckets[self._heap[0]]
            while bucket and len(taken) < limit:
                taken.append(bucket.pop())
            if not bucket:
                del self._buckets[heappop(self._heap)]
        return taken

    def buckets(self) -> Iterable[set[bytes]]:
        """Return the buckets."""
        return self._buckets.values()

    def near(self, first: int, last: int) -> Iterator[bytes]:
        """Yield the keys of every bucket that touches the time from ``first`` to ``last``."""
        low, high = first >> BUCKET_BITS, last >> BUCKET_BITS
        if high - low > len(self._buckets):
            numbers = [number for number in self._buckets if low <= number <= high]
        else:
            numbers = [number for number in range(low, high + 1) if number in self._buckets]
        for number in numbers:
            yield from self._buckets[number]
