"""Throws bytes at whole nodes for as long as it is told: ``python -m tests.fuzz --minutes 10``.

The sessions are those of ``tests.node.test_fuzz``: clients with and without the secret, and members
that lie. ``--engine hypothesis`` draws them anew in rounds and shrinks what it finds; ``--engine
atheris``, where that is installed, follows the coverage of finn, and keeps what it found in
``--corpus``. The seed is printed first, and ``--seed`` draws the same again. It ends with 1 when a
promise was not kept, and says which session did it; memory that grows by more than 64 MiB is one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

MIB = 1024 * 1024
MEMORY = 64
ROUND = 400  # examples drawn from one seed
ROUNDS_TO_WARM = 20  # caches are full then


def resident() -> int:
    """Return the resident bytes of this process, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def by_hypothesis(minutes: float, chance: random.Random) -> None:
    """Draw sessions in rounds until the time is over."""
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    from tests.node.target import Target
    from tests.node.test_fuzz import frames, sessions

    target = Target()
    flags = st.booleans()
    kind = st.sampled_from(["raft", "snapshot"])
    drawn: list[tuple[Callable[..., None], Any]] = [
        (target.client, st.tuples(sessions, flags)),
        (target.member, st.tuples(st.lists(frames, max_size=6), flags, flags, kind)),
    ]
    options: Any = settings(
        max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    end = time.monotonic() + minutes * 60
    begun = time.monotonic()
    number = base = 0
    while time.monotonic() < end:
        for session, arguments in drawn:
            test = given(arguments)(_test_of(session))
            seed(chance.getrandbits(60))(options(test))()
        number += 1
        if number == ROUNDS_TO_WARM:
            base = resident()
        if base and resident() - base > MEMORY * MIB:
            raise AssertionError(f"memory grew from {base // MIB} to {resident() // MIB} MiB")
    rate = target.sessions / (time.monotonic() - begun)
    grown = (resident() - base) / MIB if base else 0
    print(f"{target.sessions} sessions, {rate:.0f}/s, memory grew by {grown:.0f} MiB")
    target.close()


def _test_of(session: Callable[..., None]) -> Callable[[Any], None]:
    """Return a function of its own each time: hypothesis keeps the seed in it."""

    def run(arguments: Any) -> None:
        session(*arguments)

    return run


def by_atheris(minutes: float, chance: random.Random, corpus: str) -> None:
    """Let libFuzzer find sessions; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["finn"]):
        from tests.node.target import Target
    from tests.node.test_fuzz import SEEN

    os.makedirs(corpus, exist_ok=True)
    for number, data in enumerate(SEEN):
        with open(os.path.join(corpus, f"seen{number}"), "wb") as file:
            file.write(bytes([number % 4]) + data)
    target = Target()

    def session(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        kind = provider.ConsumeIntInRange(0, 7)
        pieces = [
            provider.ConsumeBytes(provider.ConsumeIntInRange(1, 200))
            for _ in range(provider.ConsumeIntInRange(0, 4))
        ]
        pieces.append(provider.ConsumeBytes(provider.remaining_bytes()))
        chunks = [piece for piece in pieces if piece]
        if kind < 4:
            target.client(chunks, kind % 2 == 1)
        else:
            target.member(chunks, kind % 2 == 1, kind > 5, "raft")

    arguments = [f"-max_total_time={minutes * 60:.0f}", f"-seed={chance.getrandbits(31)}"]
    atheris.Setup(["fuzz", *arguments, "-timeout=60", "-max_len=2000", corpus], session)
    atheris.Fuzz()


def main(argv: list[str]) -> int:
    """Fuzz; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--corpus", default="build/fuzz-corpus", help="folder of atheris' findings")
    options = parser.parse_args(argv)
    print(f"seed {options.seed}, engine {options.engine}", flush=True)
    chance = random.Random(options.seed)
    if options.engine == "atheris":
        by_atheris(options.minutes, chance, options.corpus)
    else:
        by_hypothesis(options.minutes, chance)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
