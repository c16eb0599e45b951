"""Mutants of the links between members: who they are, and what is believed."""

from __future__ import annotations

from tests.mutants.mutant import mutant

_HANDSHAKE = "finn/protocols/handshake.py"
_LINK = "finn/protocols/link.py"
_WIRE = "finn/protocols/wire.py"
_ATTACKS = "tests.protocols.test_handshake.Attacks.test_"
_LINKS = "tests.protocols.test_link."
_NONSENSE = "tests.protocols.test_wire.Nonsense.test_"

PROTOCOLS = (
    # 7.2
    mutant(
        "any-secret-will-do", "7.2", _HANDSHAKE,
        "if not hmac.compare_digest(_prove(secret, label, hello, answer, binding), proof):",
        "if False:",
        "tests.protocols.test_handshake.Refusals.test_another_secret",
    ),
    mutant(
        "no-secret-will-do", "7.2", _HANDSHAKE,
        'raise LinkRefused("this node has a secret (--auth-file), the other side has none")',
        "return",
        "tests.protocols.test_handshake.Refusals.test_a_secret_on_one_side_only",
    ),
    mutant(
        "proof-can-be-reflected", "7.2", _HANDSHAKE,
        "for field in (label, *hello, *answer, binding):",
        "for field in (*hello, *answer, binding):",
        _ATTACKS + "a_reflected_proof",
    ),
    mutant(
        "proof-can-be-replayed", "7.2", _HANDSHAKE,
        "for field in (label, *hello, *answer, binding):",
        "for field in (label, *hello, binding):",
        _ATTACKS + "a_replayed_handshake",
    ),
    mutant(
        "proof-can-be-relayed", "7.2", _HANDSHAKE,
        "for field in (label, *hello, *answer, binding):",
        "for field in (label, *hello, *answer):",
        _ATTACKS + "a_relay_between_two_channels",
    ),
    mutant(
        "proof-fields-can-be-shifted", "7.2", _HANDSHAKE,
        '        proof.update(len(field).to_bytes(4, "little"))\n', "",
        _ATTACKS + "fields_cannot_be_shifted",
    ),
    mutant(
        "claims-are-judged-before-the-proof", "7.2", _HANDSHAKE,
        "_check_proof(identity.secret, frame[1], _DIALER, self._hello, self._answer, "
        "self._binding)",
        "pass",
        _ATTACKS + "claims_are_judged_after_the_proof",
        "tests.protocols.test_handshake.Refusals.test_another_secret",
    ),
    mutant(
        "certificate-is-not-demanded", "7.2", _LINK,
        "if identity.certificates and not tls_module.peer_certified(self.transport):",
        "if False:",
        _LINKS + "Handshakes.test_a_certificate_may_be_demanded",
    ),
    mutant(
        "refused-by-the-node-and-open", "7.2", _LINK,
        "        if refusal is not None:\n            raise LinkRefused(refusal)\n"
        "        self._output",
        "        self._output",
        _LINKS + "Handshakes.test_the_node_may_refuse",
    ),
    mutant(
        "other-version-is-spoken", "7.2", _HANDSHAKE,
        'if version != b"%d" % VERSION:', "if False:",
        "tests.protocols.test_handshake.Refusals.test_another_version",
    ),
    # 7.3
    mutant(
        "any-term-is-believed", "7.3", _WIRE,
        "if not 0 < term < TERM_LIMIT:", "if False:",
        _NONSENSE + "nonsense_terms_and_indexes",
    ),
    mutant(
        "any-index-is-believed", "7.3", _WIRE,
        "if indexes >= INDEX_LIMIT:", "if False:",
        _NONSENSE + "nonsense_terms_and_indexes",
    ),
    mutant(
        "entries-out-of-place-are-believed", "7.3", _WIRE,
        "if entry.index != index or not newest <= entry.term <= term:", "if False:",
        _NONSENSE + "entries_out_of_place",
    ),
    mutant(
        "core-believes-entries-out-of-place", "7.3", "finn/raft/follower.py",
        "if oldest.index != previous + 1 or newest.index != last:", "if False:",
        "tests.raft.test_bugs.ReplicationBugTests.test_nonsense_changes_nothing",
    ),
    mutant(
        "damaged-records-are-believed", "7.3", "finn/raft/entries.py",
        "if crc32(memoryview(record)[4:]) != crc:", "if False:",
        _NONSENSE + "flipped_bits_in_records",
        "tests.raft.test_words.EntryTests.test_damage",
    ),
    mutant(
        "unknown-flags-are-believed", "7.3", _WIRE,
        "if flags & ~(PRE_VOTE | TRANSFER | AMNESIC):", "if False:",
        _NONSENSE + "flags_nobody_knows",
    ),
    mutant(
        "nonsense-leaves-the-link-open", "7.3", _LINK,
        "            self.abort(str(e))\n", "            pass\n",
        _LINKS + "Messages.test_nonsense_ends_the_link",
    ),
    mutant(
        "silent-link-stays", "7.3", _LINK,
        "if self._silent >= SILENCE:", "if False:",
        _LINKS + "SignsOfLife.test_silence_ends_both_sides",
    ),
    mutant(
        "bad-chunk-is-taken", "7.3", "finn/protocols/transfer.py",
        "if crc32(message.data) != message.crc:", "if False:",
        "tests.protocols.test_transfer.Transfers.test_a_bad_chunk_is_not_taken",
    ),
    mutant(
        "core-messages-on-any-link", "7.3", "finn/node/links.py",
        '            if link.kind != "raft":\n                return\n', "",
        "tests.node.test_membership.MembershipTests.test_only_raft_links_carry_votes",
    ),
    mutant(
        "clients-send-core-messages", "7.3", "finn/protocols/connection.py",
        "        if first[0] == MEMBER:\n", "        if False:\n",
        "tests.protocols.test_server.Admission.test_nothing_may_follow_raftlink",
    ),
)  # fmt: skip
