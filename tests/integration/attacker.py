"""A process full of hostile clients: ``python -m tests.integration.attacker PORT SECONDS SEED``.

Every attack is repeated until the time is over, several at once. What an attack was answered wrong,
or not in time, is printed, and is the exit code.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from collections.abc import Callable

from tests.integration.hostile import ATTACKS, GOOD, Attack, mutated
from tests.integration.resp import LOOPBACK, Client

#: A connection that has to be closed is, within this.
DEADLINE = 5.0
#: The system may make those wait that connect among many: it asks again after 1, 3, and 7 s.
CONNECTING = 20.0
HALF_OPEN = 200
PIECE = 64


def reach(port: int) -> Client:
    """Connect."""
    client = Client(port, CONNECTING)
    client.socket.settimeout(DEADLINE)
    return client


def send_all(client: Client, pieces: list[bytes]) -> None:
    """Send what the other side takes: it may close before the end."""
    try:
        for piece in pieces:
            client.send(piece)
    except OSError:
        pass


def run_attack(port: int, attack: Attack) -> str | None:
    """Do one attack; returns what is wrong with the answer."""
    with reach(port) as client:
        send_all(client, attack.data)
        try:
            got = client.read_to_end()
        except ConnectionResetError:
            return None  # closed before all was sent
        except TimeoutError:
            return f"{attack.name}: not closed in {DEADLINE} s"
    last = b"\r\n".join(got.splitlines()[-1:])
    if not last.startswith(attack.error):
        return f"{attack.name}: answered {got[-200:]!r}"
    return None


class Attacker:
    """Does one kind of thing again and again, in a thread of its own.

    Args:
        work: does it once; returns what went wrong, or None.
        until: monotonic seconds.
    """

    def __init__(self, work: Callable[[], str | None], until: float) -> None:
        self.count = 0
        self.wrong: list[str] = []
        self._work = work
        self._until = until
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while time.monotonic() < self._until and len(self.wrong) < 5:
            try:
                wrong = self._work()
            except OSError as e:
                wrong = f"{self._work}: {e!r}"
            self.count += 1
            if wrong:
                self.wrong.append(wrong)


class Crowd:
    """All kinds of attackers of one node."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._next = 0

    def catalogue(self) -> str | None:
        """One attack after the other."""
        attack = ATTACKS[self._next % len(ATTACKS)]
        self._next += 1
        return run_attack(self._port, attack)

    def noise(self) -> str | None:
        """Random bytes, then nothing more: answered and closed."""
        return self._closing(self._random.randbytes(self._random.randint(1, 5000)))

    def mutations(self) -> str | None:
        """Commands with something wrong."""
        return self._closing(mutated(self._random))

    def _closing(self, data: bytes) -> str | None:
        with reach(self._port) as client:
            send_all(client, [data])
            try:
                client.socket.shutdown(socket.SHUT_WR)
                client.read_to_end()
            except TimeoutError:
                return f"not closed in {DEADLINE} s after {data[:200]!r}"
            except OSError:
                pass
        return None

    def bytewise(self) -> str | None:
        """A command byte for byte; it is still one."""
        with reach(self._port) as client:
            for at in range(len(GOOD)):
                client.send(GOOD[at : at + 1])
            reply = client.read()
        return None if reply == b"OK" else f"byte for byte: {reply!r}"

    def half_open(self) -> str | None:
        """Many connections at once that stop in the middle: of a command, a line, a handshake."""
        begun = [
            b"",
            b"*3\r\n$3\r\nSET\r\n$50000000\r\nab",
            b"SET a ",
            b"*10\r\n$8\r\nRAFTLINK\r\n",
        ]
        sockets = []
        try:
            for n in range(HALF_OPEN):
                sockets.append(socket.create_connection((LOOPBACK, self._port), CONNECTING))
                sockets[-1].sendall(begun[n % len(begun)])
        finally:
            for one in sockets:
                one.close()
        return None

    def greedy(self) -> str | None:
        """A pipeline of thousands of commands, answered in order."""
        with reach(self._port) as client:
            count = 2000
            client.send(b"".join(b"ECHO %d\r\n" % n for n in range(count)))
            got = [client.read() for _ in range(count)]
        return None if got == [b"%d" % n for n in range(count)] else "a pipeline out of order"


def main(port: int, seconds: float, seed: int) -> int:
    """Attack, print what was done, and return the number of wrong answers."""
    crowd = Crowd(port, seed)
    until = time.monotonic() + seconds
    kinds = (
        crowd.catalogue, crowd.noise, crowd.mutations, crowd.bytewise, crowd.half_open,
        crowd.greedy,
    )  # fmt: skip
    attackers = {work.__name__: Attacker(work, until) for work in kinds}
    wrong = []
    for attacker in attackers.values():
        attacker.thread.join()
        wrong += attacker.wrong
    print(", ".join(f"{name} {attacker.count}" for name, attacker in attackers.items()))
    for line in wrong:
        print(line)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])), 100))
