"""All mutants, by name."""

from __future__ import annotations

from tests.mutants.bounds import BOUNDS
from tests.mutants.clients import CLIENTS
from tests.mutants.crowds import CROWDS
from tests.mutants.elections import ELECTIONS
from tests.mutants.machines import MACHINES
from tests.mutants.membership import MEMBERSHIP
from tests.mutants.mutant import Mutant
from tests.mutants.protocols import PROTOCOLS
from tests.mutants.reads import READS
from tests.mutants.removals import REMOVALS
from tests.mutants.replication import REPLICATION
from tests.mutants.snapshots import SNAPSHOTS
from tests.mutants.storage import STORAGE

_ALL = (
    *ELECTIONS, *REPLICATION, *READS, *MEMBERSHIP, *REMOVALS, *SNAPSHOTS, *STORAGE, *PROTOCOLS,
    *CLIENTS, *CROWDS, *BOUNDS, *MACHINES,
)  # fmt: skip

MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in _ALL}
assert len(MUTANTS) == len(_ALL), "two mutants have the same name"
