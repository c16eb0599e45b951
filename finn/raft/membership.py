"""Which changes of the members are allowed (thesis, chapter 4: one server at a time)."""

from __future__ import annotations

from finn.errors import MembershipError
from finn.raft.configuration import Configuration


def check_change(old: Configuration, new: Configuration) -> None:
    """Refuse a change that is not one step.

    Raises:
        MembershipError: with the reason.
    """
    before = {m.id: m for m in old.members}
    after = {m.id: m for m in new.members}
    if len(after) != len(new.members) or len({m.address for m in new.members}) != len(after):
        raise MembershipError("ERR two members have the same id or address")
    if not new.voters:
        raise MembershipError("ERR the last voter cannot be removed")
    changed = [i for i in sorted(before | after) if before.get(i) != after.get(i)]
    if not changed:
        raise MembershipError("ERR the members are these already")
    # Addresses are no part of a majority: two members may exchange theirs in one step.
    if len(changed) > 1 and any(
        i not in before or i not in after or before[i].voter != after[i].voter for i in changed
    ):
        raise MembershipError("ERR only one member can be changed at a time")
    was, will_be = before.get(changed[0]), after.get(changed[0])
    if was is not None and will_be is not None and was.voter and not will_be.voter:
        raise MembershipError("ERR a voter cannot become a learner again, remove it")
