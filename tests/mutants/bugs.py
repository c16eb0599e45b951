"""Known bugs of Raft implementations, and of systems built on them: what the tests must find.

Keys are section and number. Sections 1 to 6 hold bugs that real systems had (project#issue where
public); section 7 holds guards of promises that only finn makes.
"""

from __future__ import annotations

SECTIONS = {
    "1": "Elections, terms, votes",
    "2": "Replication and commit",
    "3": "Reads",
    "4": "Membership",
    "5": "Snapshots and log files",
    "6": "Client protocol",
    "7": "Promises of finn's own",
}

BUGS = {
    "1.1": "Vote or term not durable before the reply (PySyncObj#84, tikv#3572, #8381)",
    "1.2": "Term and vote stored separately (hashicorp#661)",
    "1.3": "Restarted node resets its term, a stale log looks newer (PySyncObj PR#202)",
    "1.4": "PreVote: stuck below the term, double votes, reply taken for a vote, leader refuses "
    "its own successor, contact refreshed (etcd#8243, #9586, canonical/raft#196, #279, "
    "hashicorp#605, #609)",
    "1.5": "Rejoining or removed member with a high term topples the leader (etcd#8499, #14893, "
    "hashicorp#524)",
    "1.6": "Leader that reaches one bridge only blocks a connected majority (openraft#2080, "
    "jgroups-raft#211)",
    "1.7": "Leader keeps heartbeating though it cannot write (hashicorp#503, dqlite#589, "
    "tarantool#9606)",
    "1.8": "Learner does not answer votes, or campaigns (raft-rs#57, redpanda#8495)",
    "1.9": "Higher term in a reply ignored, stale vote reply counted",
    "1.10": "Leader that steps down leaves clients waiting (openraft 43dd8b6f, old-raft-rs#115)",
    "1.11": "Old leader's heartbeat accepted after a higher term was seen (butane oracles#32)",
    "2.1": "Entry of an earlier term committed by counting, figure 8 (PySyncObj#169, "
    "async-raft#106)",
    "2.2": "Commit or match index moves back, or is taken from a probe (PySyncObj#166, #167, "
    "raftos#25, raft.tla#18, CCF#5325)",
    "2.3": "Suffix deleted without a conflict on a late duplicate (hashicorp v0.1.0, raftos#26, "
    "#31, openraft 9540c904)",
    "2.4": "Follower commits or acknowledges beyond what is verified (copycat#265)",
    "2.5": "Conflict not detected when there are no entries (openraft 6202138f)",
    "2.6": "Many conflicts live-lock, wrong index refused (openraft 6d53aa12, cubefs#2428)",
    "2.7": "Quorum arithmetic: half, learners, without peers, unsorted (openraft d60f1e85, "
    "beb0302b, #1802)",
    "2.8": "Entry cache disagrees with the store (openraft 8cd24ba0, redisraft#189)",
    "2.9": "Removed follower still gets or blocks replication (openraft 6d680484)",
    "2.10": "Follower wedged for ever after a disk stall or a lost window (hashicorp#612)",
    "3.1": "New leader serves reads before committing in its term (etcd#7331, redisraft#18, #19)",
    "3.2": "Local read on a deposed leader (etcd#741, d-engine#381)",
    "3.3": "Request id of ReadIndex used again, late answers count (etcd#20418)",
    "3.4": "Leadership verified, then read late (hashicorp#603)",
    "3.5": "Lease read with a clock jump or a pause",
    "3.6": "Lock service without fencing tokens (Jepsen etcd 3.4.3)",
    "4.1": "Two changes in flight, adopted late, or before a commit of the own term "
    "(hashicorp#158, #16, #84, valkey#3926, the single-server bug of 2015, hydro#3192)",
    "4.2": "Truncated configuration not rolled back (hashicorp, scylla#31257)",
    "4.3": "Historic nodes resurrected, membership of an old snapshot (redisraft PR#31, "
    "PySyncObj#133, openraft dba24036, 447dc11c)",
    "4.4": "Re-added id reads its own removal and quits (redisraft#2)",
    "4.5": "Lost updates with partition and removal, split brain, voter flag (redisraft#17, #28, "
    "#44, #48)",
    "4.6": "Add answered before commit, peer list loses peers (redisraft#265, arcadedb#4795)",
    "4.7": "Join twice, through another cluster, two halves bootstrapped, one node under two "
    "addresses (rqlite#2086, #2087, Go finn)",
    "4.8": "Leader that removes itself stays, or the removed one is not quiet",
    "5.1": "Fail-over or restart loses all data (redisraft#14)",
    "5.2": "Conflicting log kept after an install, figure 13 rule 7 (hashicorp#697)",
    "5.3": "Gap between snapshot and log after a crash (redisraft#43, canonical/raft#199, #218, "
    "RATIS-2507)",
    "5.4": "Log written past metadata, or metadata past the log (PySyncObj PR#197, RaftKeeper#320)",
    "5.5": "Messages while a snapshot loads, install concurrent with apply (redisraft#449, "
    "PR#33, openraft eed681d5)",
    "5.6": "Out-of-order chunk begins anew, unread bytes poison the connection (openraft "
    "2eccb9e1, hashicorp#212)",
    "5.7": "Leader refuses to snapshot because a follower is ill, and it needs the snapshot "
    "(typesense#2821)",
    "5.8": "Crash at each step of creating a snapshot, switching logs, renaming (redisraft#654, "
    "etcd#10219)",
    "5.9": "Applied index saved separately from the data (etcd 3.5, etcd#13766)",
    "5.10": "Several retained snapshots and a gap behind the older one (camunda#3573)",
    "5.11": "Deleted range reappears after a reload, suffix deleted as prefix (Go finn, uhaha)",
    "5.12": "Corrupt byte in the middle: truncated, led with, or deleted by (Jepsen NATS 2.12.1)",
    "5.13": "Acknowledged before the fsync of data or of names (NATS, Go finn)",
    "5.14": "fsync fails, is tried again and succeeds (fsyncgate)",
    "6.1": "One command executed for ever (redisraft#13)",
    "6.2": "Replies to the wrong client, transactions torn, replies shifted (redisraft#26, PR#27)",
    "6.3": "'No leader' for a write that is committed (redisraft#23, Go finn, uhaha)",
    "6.4": "Healthy cluster answers that there is no leader (redisraft#21)",
    "6.5": "Empty values after restart, lost and doubled writes, conflict with a committed entry, "
    "spontaneous assertions (redisraft#18, #30, #42, #52, #53)",
    "6.6": "Retried write applied twice (redisraft#659, pranadb#306)",
    "6.7": "Commands that are not deterministic: time, chance, order of sets, hash seed",
    "7.1": "Amnesic nodes neither vote nor are believed",
    "7.2": "Links only between members of one cluster that prove it",
    "7.3": "What makes no sense is not believed: the link ends",
    "7.4": "Program order of a connection: reads see the writes before them, none behind",
    "7.5": "A node that cannot be trusted any more stops, and says so",
    "7.6": "Withdrawn is certainly not applied, in flight is unknown",
    "7.7": "WATCH notices every write since, and a lost leadership",
    "7.8": "What clients can make a node keep is bounded, however they send it",
}

#: Bugs that finn cannot have, and why.
NOT_APPLICABLE = {
    "3.6": "finn ships no lock: a machine that has one gets the index of an entry, which only "
    "grows, for a token",
}
