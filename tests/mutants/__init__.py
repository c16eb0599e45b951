"""Proof that the tests find the bugs: each guard of finn taken out, one at a time.

``python -m tests.mutants`` shows for every known bug of Raft implementations (``bugs``) that a
test fails when the guard against it is removed. ``docs/correctness.md`` has the table.
"""
