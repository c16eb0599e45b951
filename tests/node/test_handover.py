"""Who leadership is handed to before a stop, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.node.handover import ANSWER_TIMEOUT, MAX_LAG, READY_TIMEOUT, find_successor
from finn.protocols.messages import Status
from finn.raft.core import Role

OWN, OTHER, THIRD = 1, 2, 3
LAST = 100_000


class FindSuccessorTests(SynchronousTestCase):
    """With statuses as peers might tell them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: dict[int, Status] = {}
        self.asked = 2
        self.node: Any = SimpleNamespace(
            raft=SimpleNamespace(
                node_id=OWN,
                role=Role.LEADER,
                transferring=False,
                configuration=SimpleNamespace(voters={OWN, OTHER, THIRD}),
                log=SimpleNamespace(last_index=LAST),
            ),
            applying=SimpleNamespace(last_applied=LAST),
            links=SimpleNamespace(
                ask_statuses=lambda: self.asked, statuses_since=lambda moment: self.told
            ),
            now=self.clock.seconds,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.clock.callLater(seconds, done.callback, None)
        return done

    def tells(self, peer: int, applied: int = LAST, last: int = LAST) -> None:
        self.told[peer] = Status("Follower", f":{peer}", 1, ":1", last, applied, applied, 0)

    def find(self) -> tuple[list[Any], Deferred[Any]]:
        found: list[Any] = []
        deferred = Deferred.fromCoroutine(find_successor(self.node)).addCallback(found.append)
        return found, deferred

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds / 0.01))

    def test_who_has_applied_most(self) -> None:
        """One that still replays could not serve, though it has the whole log."""
        self.tells(OTHER, applied=LAST - 50_000)
        self.tells(THIRD)
        found, _ = self.find()
        self.pass_time(0.02)
        self.assertEqual(found, [THIRD])

    def test_waits_while_it_replays(self) -> None:
        """Meanwhile this node serves, for a bounded time."""
        self.tells(OTHER, applied=LAST - MAX_LAG - 1)
        found, _ = self.find()
        self.pass_time(READY_TIMEOUT - 0.1)
        self.assertEqual(found, [])
        self.tells(OTHER)
        self.pass_time(0.02)
        self.assertEqual(found, [OTHER])

    def test_does_not_wait_for_ever(self) -> None:
        """The best of bad ones after the time."""
        self.tells(OTHER, applied=5)
        self.tells(THIRD, applied=6)
        found, _ = self.find()
        self.pass_time(READY_TIMEOUT + 0.1)
        self.assertEqual(found, [THIRD])

    def test_waits_for_a_majority(self) -> None:
        """Who lacks many entries cannot help to commit the first one of the next leader."""
        self.tells(OTHER)
        self.tells(THIRD, last=LAST - MAX_LAG - 1)
        found, _ = self.find()
        self.pass_time(1)
        self.assertEqual(found, [])
        self.tells(THIRD, applied=1)
        self.pass_time(0.02)
        self.assertEqual(found, [OTHER])

    def test_nobody_waits_for_the_dead(self) -> None:
        """A member that is down or does not answer delays the stop by a moment only."""
        self.tells(OTHER)
        found, _ = self.find()
        self.pass_time(ANSWER_TIMEOUT + 0.05)
        self.assertEqual(found, [OTHER])

    def test_no_answers(self) -> None:
        """Without any the core has to choose; without links at once."""
        found, _ = self.find()
        self.pass_time(ANSWER_TIMEOUT + 0.05)
        self.assertEqual(found, [None])
        self.asked = 0
        found, _ = self.find()
        self.assertEqual(found, [None])

    def test_followers_and_lone_nodes_have_none(self) -> None:
        """There is nothing to hand over, or nobody to take it."""
        self.node.raft.configuration.voters = {OWN}
        self.assertEqual(self.find()[0], [None])
        self.node.raft.role = Role.FOLLOWER
        self.assertEqual(self.find()[0], [None])
