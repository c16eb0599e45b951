"""Mutants of removal: who leaves, and who knows of it."""

from __future__ import annotations

from tests.mutants.mutant import mutant

_LEADER = "finn/raft/leader.py"
_SERVER = "finn/raft/server.py"
_CHANGES = "finn/node/membership.py"
_BUGS = "tests.raft.test_bugs.MembershipBugTests.test_"
_NODE = "tests.node.test_membership.MembershipTests.test_"
_MOVED = "tests.node.test_moved_members.MovedMembers.test_"
_REMOVALS = "tests.node.test_removals.Removals.test_"

REMOVALS = (
    # 4.4
    mutant(
        "removed-id-is-added-again", "4.4", _CHANGES,
        "if not hello.fresh:", "if False:",
        _MOVED + "the_next_leader_knows_who_was_removed",
    ),
    mutant(
        "removed-newcomer-is-added-again", "4.4", _CHANGES,
        "if (term, hello.node_id) in self._removed:", "if False:",
        _MOVED + "a_newcomer_is_removed_while_it_is_added",
    ),
    mutant(
        "newcomer-without-a-cluster-keeps-its-id", "4.4", "finn/node/opening.py",
        "if found is not None and found.cluster_id == 0 and options.join:", "if False:",
        _MOVED + "a_newcomer_that_was_removed_before_it_knew",
    ),
    mutant(
        "removed-member-moves-back", "4.4", _CHANGES,
        "            if c.get(member_id) is None:\n"
        "                raise _removed_before(address)\n"
        "            return c.moved(member_id, address)",
        "            return c.with_member(Member(member_id, address))",
        _MOVED + "a_move_that_comes_after_the_removal",
    ),
    mutant(
        "change-of-an-older-term-is-made", "4.4", _CHANGES,
        "if self._require_leader() != term:", "if self._require_leader() < 0:",
        _MOVED + "a_change_of_an_older_term",
    ),
    mutant(
        "removal-is-never-taken-back", "4.4", "finn/raft/server.py",
        "            self.removed = False\n            self.out", "            self.out",
        _BUGS + "a_later_configuration_takes_a_removal_back",
    ),
    mutant(
        "snapshot-takes-no-removal-back", "4.4", "finn/raft/snapshots.py",
        "            raft.is_member_again()\n", "            pass\n",
        _BUGS + "a_later_configuration_takes_a_removal_back",
    ),
    mutant(
        "removal-stays-in-node-json", "4.4", "finn/node/standing.py",
        "changed = removed != identity.removed", "changed = removed > identity.removed",
        _REMOVALS + "a_newcomer_that_reads_its_removal_when_it_was_added_again",
    ),
    mutant(
        "leaders-word-is-taken-back", "4.4", _SERVER,
        "if self.removed and not self.told_removed:", "if self.removed:",
        _BUGS + "a_leaders_word_is_not_taken_back",
        _REMOVALS + "a_snapshot_of_before_takes_nothing_back",
    ),
    mutant(
        "removal-of-the-log-ends-links", "4.4", "finn/node/links.py",
        "if node.raft is not None and node.raft.told_removed:",
        "if node.raft is not None and node.raft.removed:",
        _REMOVALS + "its_links_are_lost_before_it_reads_on",
        _REMOVALS + "one_that_was_not_told_is_told_by_the_next_leader",
    ),
    mutant(
        "removal-of-the-log-refuses-links", "4.4", "finn/node/links.py",
        "        if node.raft.told_removed:\n            return",
        "        if node.raft.removed:\n            return",
        _REMOVALS + "one_that_was_not_told_is_told_by_the_next_leader",
    ),
    mutant(
        "next-leader-does-not-tell", "4.4", "finn/node/links.py",
        "            if link.peer is not None and self._node.standing.is_outsider(link.peer):",
        "            if False:",
        _REMOVALS + "one_that_was_not_told_is_told_by_the_next_leader",
    ),
    mutant(
        "fresh-for-as-long-as-its-link", "4.4", "finn/node/links.py",
        "            if link.peer is not None and self._node.standing.is_outsider(link.peer):",
        "            if link.peer is not None and self._node.standing.has_removed(link.peer):",
        _REMOVALS + "a_newcomer_that_is_removed_is_told",
    ),
    mutant(
        "removed-newcomer-stays-fresh", "4.4", "finn/node/standing.py",
        "            identity.joined = identity.joined or removed\n", "",
        _REMOVALS + "a_newcomer_that_learns_of_all_at_once_is_told",
    ),
    mutant(
        "leaders-word-is-forgotten", "4.4", "finn/storage/identity.py",
        '"removed": _TOLD if self.told_removed else self.removed', '"removed": self.removed',
        _REMOVALS + "what_it_says_at_a_restart",
        "tests.storage.test_identity.IdentityTests.test_who_said_that_it_was_removed",
    ),
    mutant(
        "told-is-added-nevertheless", "4.4", "finn/node/links.py",
        "            node.membership.told(hello.node_id)\n", "",
        _REMOVALS + "one_that_was_told_is_not_added",
    ),
    mutant(
        "former-member-is-dialled-for-ever", "4.4", "finn/node/links.py",
        "        elif dialer is not None and dialer.problem == LEFT:", "        elif False:",
        _REMOVALS + "one_that_is_told_of_a_former_member_leaves_it_in_peace",
    ),
    mutant(
        "told-node-keeps-its-links", "4.4", "finn/node/standing.py",
        '("added to the cluster again")\n        node.links.follow(raft.peers)\n',
        '("added to the cluster again")\n        if changed:\n'
        "            node.links.follow(raft.peers)\n",
        _REMOVALS + "one_that_was_not_told_is_told_by_the_next_leader",
    ),
    mutant(
        "removal-by-a-wrong-address", "4.4", _CHANGES,
        'if says not in ("", address) and await', "if False and await",
        _MOVED + "removing_an_address_does_not_remove_one_that_lives_elsewhere",
    ),
    mutant(
        "mistaken-member-stays", "4.4", _CHANGES,
        'if says not in ("", address) and await self._answers(member.id, says):',
        'if says not in ("", address):',
        _MOVED + "removing_one_that_is_mistaken_about_its_address",
    ),
    mutant(
        "removed-node-waits-to-be-added", "4.4", "finn/node/opening.py",
        "        if identity.removed:\n            return  # it has said",
        "        if False:\n            return  # it has said",
        _REMOVALS + "what_it_says_at_a_restart",
    ),
    mutant(
        "removed-node-keeps-its-id", "4.4", "finn/node/opening.py",
        "        node.identity = self._draw()\n        return",
        "        return",
        _NODE + "a_removed_node_comes_back_under_a_new_id_only",
    ),
    # 4.8
    mutant(
        "leaving-leader-counts-itself", "4.8", _LEADER,
        "self._is_voter = raft.node_id in configuration.voters", "self._is_voter = True",
        _BUGS + "leader_removes_itself",
    ),
    mutant(
        "leaving-leader-stays", "4.8", _LEADER,
        "            self._leave(raft.now)\n", "            pass\n",
        _BUGS + "leader_removes_itself",
        _BUGS + "leader_that_leaves_always_goes",
    ),
    mutant(
        "leaving-leader-waits-for-ever", "4.8", _LEADER,
        "            if transfer.leaving:\n", "            if False:\n",
        _BUGS + "leader_that_leaves_does_not_wait_for_its_successor",
    ),
    mutant(
        "removed-founder-founds-again", "4.8", "finn/node/joining.py",
        "if options.join[0] != options.address or await self._was_removed():",
        "if options.join[0] != options.address:",
        "tests.node.test_removed_founder.RemovedFounder.test_it_waits_for_its_cluster",
    ),
    mutant(
        "removed-node-accepts-links", "4.8", "finn/node/links.py",
        "        if node.raft.told_removed:\n            return LEFT",
        "        if False:\n            return LEFT",
        _NODE + "a_removed_node_is_quiet",
    ),
    mutant(
        "removed-node-dials-on", "4.8", "finn/node/links.py",
        "            wanted = {}\n", "            pass\n",
        _NODE + "a_removed_node_is_quiet",
    ),
    mutant(
        "removed-node-reads", "4.8", "finn/node/reading.py",
        "if raft is None or raft.removed:", "if raft is None:",
        _NODE + "a_removed_node_serves_nothing",
    ),
    mutant(
        "removal-forgotten-by-a-restart", "4.8", "finn/node/standing.py",
        "identity.removed, identity.told_removed = removed, raft.told_removed", "pass",
        _NODE + "a_removed_node_is_quiet_after_a_restart",
    ),
)  # fmt: skip
