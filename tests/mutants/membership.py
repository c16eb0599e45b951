"""Mutants of membership: changes, joining, removal, founding."""

from __future__ import annotations

from tests.mutants.mutant import Edit, mutant

_LEADER = "finn/raft/leader.py"
_SERVER = "finn/raft/server.py"
_CHANGES = "finn/node/membership.py"
_BUGS = "tests.raft.test_bugs.MembershipBugTests.test_"
_NODE = "tests.node.test_membership.MembershipTests.test_"
_MOVED = "tests.node.test_moved_members.MovedMembers.test_"
_REMOVALS = "tests.node.test_removals.Removals.test_"
_MISTAKEN = "tests.node.test_mistaken_address.MistakenAddress.test_"
_DOUBTS = "tests.node.test_bootstrap_guard.Doubts.test_those_"

MEMBERSHIP = (
    # 4.1
    mutant(
        "two-changes-in-flight", "4.1", _LEADER,
        "if raft.configuration.index > raft.commit_index:", "if False:",
        _BUGS + "one_change_at_a_time",
    ),
    mutant(
        "leader-adopts-late", "4.1", _LEADER,
        "        if kind == CONFIGURATION:\n", "        if False:\n",
        _BUGS + "removed_peer_neither_counts_nor_stays",
        _BUGS + "leader_removes_itself",
    ),
    mutant(
        "adopted-when-committed", "4.1", "finn/raft/log.py",
        "return self._configurations[-1] if self._configurations else self.snapshot_configuration",
        "return self.snapshot_configuration",
        _BUGS + "adopted_when_appended",
    ),
    mutant(
        "change-before-a-commit-of-the-term", "4.1", _LEADER,
        "        if not self._is_own_term_committed:\n            # BUGS 5.4",
        "        if False:\n            # BUGS 5.4",
        _BUGS + "needs_a_commit_of_the_own_term",
    ),
    mutant(
        "promotion-before-a-commit-of-the-term", "4.1", _LEADER,
        "if self.transfer is not None or not self._is_own_term_committed:",
        "if self.transfer is not None:",
        _BUGS + "new_leader_promotes_nobody_at_once",
    ),
    mutant(
        "promotion-while-a-change-is-in-flight", "4.1", _LEADER,
        "if raft.leader is not self or configuration.index > raft.commit_index:",
        "if raft.leader is not self:",
        _BUGS + "learner_is_promoted_when_it_has_caught_up",
    ),
    mutant(
        "several-members-at-once", "4.1", "finn/raft/membership.py",
        "if len(changed) > 1 and any(", "if False and any(",
        _BUGS + "one_step_only",
    ),
    mutant(
        "exchange-that-changes-more", "4.1", "finn/raft/membership.py",
        "i not in before or i not in after or", "False or",
        _BUGS + "addresses_are_exchanged_in_one_step",
    ),
    # 4.2
    mutant(
        "truncated-configuration-holds", "4.2", "finn/raft/log.py",
        "            self._configurations.pop()\n", "            break\n",
        _BUGS + "rolled_back",
    ),
    mutant(
        "truncated-configuration-on-the-disk-holds", "4.2", "finn/storage/recovery.py",
        "        image.configurations.pop()\n", "        break\n",
        "tests.storage.test_contract_fastlog.FastLogMedium",
    ),
    # 4.3
    mutant(
        "history-removes-a-newcomer", "4.3", _SERVER,
        "elif previous.get(self.node_id) is not None:", "else:",
        _BUGS + "history_removes_nobody",
    ),
    mutant(
        "snapshot-wins-over-the-log", "4.3", "finn/raft/log.py",
        "if snapshot_index < e.index <= self.last_index", "if False",
        _BUGS + "log_wins_over_the_snapshot",
    ),
    mutant(
        "members-forgotten-by-a-restart", "4.3", "finn/node/opening.py",
        "terms, configurations = list(store.terms), list(store.configurations)",
        "terms, configurations = list(store.terms), []",
        _NODE + "members_survive_a_restart",
    ),
    mutant(
        "members-forgotten-by-a-snapshot", "4.3", "finn/storage/meta.py",
        "configuration=Configuration.decode(members, fields[\"configuration_index\"]),",
        "configuration=Configuration(),",
        "tests.storage.test_snapshots.MetaTests.test_round_trip",
    ),
    # 4.5
    mutant(
        "majorities-that-do-not-meet", "4.5", _LEADER,
        "        if kind == CONFIGURATION:\n", "        if False:\n",
        *[f"seed {seed} 60" for seed in (1, 3, 49, 209, 606)],
    ),
    mutant(
        "voter-becomes-a-learner", "4.5", "finn/raft/membership.py",
        "if was is not None and will_be is not None and was.voter and not will_be.voter:",
        "if False:",
        _BUGS + "one_step_only",
    ),
    mutant(
        "last-voter-is-removed", "4.5", "finn/raft/membership.py",
        "    if not new.voters:\n", "    if False:\n",
        _BUGS + "one_step_only",
    ),
    mutant(
        "removal-that-those-left-cannot-commit", "4.5", _LEADER,
        "        if len(left) < configuration.quorum:\n", "        if False:\n",
        _BUGS + "those_that_stay_have_to_be_there",
    ),
    mutant(
        "lagging-learner-is-promoted", "4.5", _LEADER,
        "if progress.state is ProgressState.REPLICATE and is_caught_up:", "if True:",
        _BUGS + "learner_is_promoted_when_it_has_caught_up",
    ),
    # 4.6
    mutant(
        "change-answered-before-commit", "4.6", _CHANGES,
        "        await waiter.deferred\n", "",
        _NODE + "an_addition_is_answered_when_it_is_committed",
    ),
    mutant(
        "change-of-an-old-list", "4.6", _CHANGES,
        "        deadline = node.now() + node.options.request_timeout\n",
        "        deadline = node.now() + node.options.request_timeout\n"
        "        changed = change(self._members())\n",
        _NODE + "additions_at_once_lose_nobody",
        also=(
            Edit(_CHANGES, "change(raft.configuration), node.wall_ms()", "changed, node.wall_ms()"),
        ),
    ),
    # 4.7
    mutant(
        "joined-twice", "4.7", _CHANGES,
        "if member is not None and member.address == address:", "if False:",
        _NODE + "a_member_is_not_added_twice",
    ),
    mutant(
        "joined-from-another-cluster", "4.7", _CHANGES,
        "if hello.cluster_id not in (0, node.identity.cluster_id):", "if False:",
        _NODE + "a_member_of_another_cluster_is_not_added",
    ),
    mutant(
        "link-into-another-cluster", "4.7", "finn/protocols/handshake.py",
        "if cluster_id and cluster_id != dialer_cluster:", "if False:",
        "tests.protocols.test_handshake.Refusals.test_another_cluster",
    ),
    mutant(
        "link-to-another-id", "4.7", "finn/protocols/handshake.py",
        "if dialled and dialled != node_id:", "if False:",
        "tests.protocols.test_handshake.Refusals.test_another_id",
    ),
    mutant(
        "link-to-itself", "4.7", "finn/protocols/handshake.py",
        'if peer.kind != "probe" and peer.node_id == identity.node_id:', "if False:",
        "tests.protocols.test_handshake.Refusals.test_itself",
    ),
    mutant(
        "everybody-founds-a-cluster", "4.7", "finn/node/joining.py",
        "if options.join[0] != options.address or await self._was_removed():",
        "if await self._was_removed():",
        _NODE + "only_the_first_of_the_list_founds",
    ),
    mutant(
        "join-of-nobody-founds", "4.7", "finn/flags.py",
        "    if not found:\n", "    if False:\n",
        "tests.test_tap.OptionsTests.test_bad_values_are_refused_in_one_line",
    ),
    mutant(
        "wiped-first-node-founds-again", "4.7", "finn/node/joining.py",
        "                    if await self._has_cluster(address):", "                    if False:",
        _NODE + "a_wiped_first_node_joins_its_cluster",
    ),
    mutant(
        "refusal-is-nobody", "4.7", "finn/node/joining.py",
        "if not nobody:", "if False:",
        _DOUBTS + "with_too_many_clients", _DOUBTS + "that_are_silent",
    ),
    mutant(
        "restarted-member-is-nobody", "4.7", "finn/node/joining.py",
        "self._gone.add(address)", "del self._reasons[address]",
        _DOUBTS + "that_are_restarted",
    ),
    mutant(
        "own-failure-is-a-doubt-for-ever", "4.7", "finn/node/joining.py",
        "if not _is_own(e):", "if True:",
        _DOUBTS + "that_could_not_be_asked", _DOUBTS + "whose_names_could_not_be_looked_up",
    ),
    mutant(
        "silence-is-an-own-failure", "4.7", "finn/node/joining.py",
        "and e.osError in _OWN", "",
        _DOUBTS + "whose_names_could_not_be_looked_up",
    ),
    mutant(
        "adopted-node-has-no-cluster", "4.7", "finn/node/commands.py",
        "if not states and node.identity.cluster_id:",
        "if node.raft is None and node.identity.cluster_id:",
        "tests.node.test_adoption.AdoptionTests.test_it_does_not_say_that_it_has_no_cluster",
    ),
    mutant(
        "mistaken-founder-goes-on", "4.7", "finn/node/standing.py",
        'if hello.kind == "raft" and 0 < hello.cluster_id < self._node.identity.cluster_id:',
        "if False:",
        _NODE + "a_mistaken_founder_stops",
    ),
    mutant(
        "one-node-under-two-addresses", "4.7", _CHANGES,
        "        if member is not None:\n            await", "        if False:\n            await",
        _NODE + "a_node_that_moved_is_one_member",
        also=(Edit("finn/node/service.py", "        self.membership.look()\n", ""),),
    ),
    mutant(
        "two-members-under-one-address", "4.7", "finn/raft/configuration.py",
        "if holder is not None and holder.id != member_id:", "if False:",
        _MOVED + "two_exchange_their_addresses",
        _MOVED + "a_leader_exchanges_its_address",
        _MOVED + "the_address_of_one_that_is_down",
    ),
    mutant(
        "mistaken-leader-takes-an-address", "4.7", _CHANGES,
        "if displaces and not await self._answers(own, address):", "if False:",
        _MOVED + "a_leader_that_is_mistaken_about_its_address",
    ),
    mutant(
        "silence-is-consent-to-a-move", "4.7", _CHANGES,
        "== member_id\n        return False", "== member_id\n        return True",
        _MOVED + "a_leader_that_is_mistaken_about_its_address",
    ),
    mutant(
        "member-is-where-it-says", "4.7", _CHANGES,
        "if await self._answers(hello.node_id, hello.address):", "if True:",
        _MOVED + "one_that_is_mistaken_about_its_address",
    ),
    mutant(
        "wrong-address-stays", "4.7", "finn/node/service.py",
        "        self.membership.look()\n", "",
        _MOVED + "one_whose_address_another_had_meanwhile",
        _MOVED + "one_that_is_linked_is_corrected",
        _MOVED + "all_come_back_with_one_noted_elsewhere",
    ),
    mutant(
        "leader-stays-noted-elsewhere", "4.7", _CHANGES,
        "            await self.rename(node.options.address)\n", "            pass\n",
        _MOVED + "a_leader_that_is_noted_elsewhere",
    ),
    mutant(
        "newcomer-removes-one-that-is-linked", "4.7", _CHANGES,
        "                raise _left(address)\n", "                pass\n",
        _MOVED + "a_newcomer_where_a_linked_member_is_noted",
    ),
    mutant(
        "removed-though-it-moved-away", "4.7", _CHANGES,
        "if self._is_misplaced(member_id, only_at):", "if False:",
        _MOVED + "one_that_moved_away_meanwhile_is_not_removed",
    ),
    mutant(
        "address-corrected-without-rest", "4.7", _CHANGES,
        "self._next_look = node.now() + CORRECTION_REST", "self._next_look = 0.0",
        _MOVED + "one_id_at_two_addresses",
    ),
    mutant(
        "leader-adds-itself-under-another-address", "4.7", _CHANGES,
        "        if hello.node_id == node.identity.node_id:\n", "        if False:\n",
        _NODE + "a_leader_is_not_added_by_another_name",
    ),
    mutant(
        "mistaken-leader-floods-its-log", "4.7", "finn/node/joining.py",
        "if text != self._said:", "if True:",
        _MISTAKEN + "a_leader_says_so_once",
    ),
    mutant(
        "mistaken-leader-asks-ten-times-a-second", "4.7", "finn/node/joining.py",
        "            await node.sleep(pause)\n            pause = min(pause * 2, LAST_PAUSE)\n\n"
        "    async def _is_added",
        "            await node.sleep(FIRST_PAUSE)\n\n    async def _is_added",
        _MISTAKEN + "a_leader_says_so_once",
    ),
    mutant(
        "mistaken-newcomer-says-nothing", "4.7", "finn/node/joining.py",
        "            elif not patient:", "            elif False:",
        _MISTAKEN + "a_newcomer_says_so",
    ),
    mutant(
        "only-member-tells-its-address-once", "4.7", "finn/node/joining.py",
        "        while not self._stopped and not self._is_settled():\n            try:\n",
        "        for _ in range(1):\n            try:\n",
        "tests.node.test_moved_leader.MovedLeader.test_the_only_member_tries_again",
    ),
)  # fmt: skip
