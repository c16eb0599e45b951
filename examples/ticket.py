"""A machine of your own: ticket numbers that no two customers share, whichever node fails.

Run three nodes, each in a terminal of its own:

    twistd -n finn --port 7481 --machine examples.ticket:Tickets
    twistd -n finn --port 7482 --machine examples.ticket:Tickets --join :7481
    twistd -n finn --port 7483 --machine examples.ticket:Tickets --join :7481

and draw:

    redis-cli -p 7481 TICKET bakery
    redis-cli -p 7481 TICKET bakery 10
    redis-cli -p 7481 RAFFLE bakery
"""

from __future__ import annotations

import finn


class Tickets(finn.Machine):
    """Hands out increasing numbers, one series per queue.

    The state is ordinary data in ordinary attributes: finn takes the snapshots.
    """

    def __init__(self) -> None:
        self.last: dict[bytes, int] = {}
        self.drawn_at: dict[bytes, int] = {}

    @finn.write("TICKET", keys=(1, 1, 1))
    def ticket(self, call: finn.Call, queue: bytes, step: int = 1) -> int:
        """Return a number greater than any before in this queue."""
        if step < 1:
            raise finn.CommandError("ERR step must be positive")
        self.last[queue] = self.last.get(queue, 0) + step
        self.drawn_at[queue] = call.now  # not time.time(): it must be the same on every node
        return self.last[queue]

    @finn.write("RAFFLE", keys=(1, 1, 1))
    def raffle(self, call: finn.Call, queue: bytes) -> int | None:
        """Pick a winner among the numbers of a queue, and close it."""
        self.drawn_at.pop(queue, None)
        last = self.last.pop(queue, 0)
        return call.random.randint(1, last) if last else None

    @finn.read("LAST", keys=(1, 1, 1))
    def show(self, call: finn.Call, queue: bytes) -> list[int] | None:
        """Return the last number of a queue, and when it was drawn, in ms since 1970."""
        if queue not in self.last:
            return None
        return [self.last[queue], self.drawn_at[queue]]

    @finn.read("QUEUES")
    def queues(self, call: finn.Call) -> list[bytes]:
        """List the queues."""
        return sorted(self.last)
