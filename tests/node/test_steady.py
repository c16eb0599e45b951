"""Timers that follow the wall clock are put right when it is set back."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import OutcomeUnknown
from finn.machines.kv import KV
from finn.node.service import ASK_TIMEOUT
from finn.node.steady import FEW, SteadyReactor
from finn.testing.cluster import MemoryCluster


class StubReactor(Clock):
    """A clock that can be set back, and takes calls from threads."""

    def __init__(self) -> None:
        super().__init__()
        self.steady = 0.0
        self.called = Event()
        self.calls: list[Callable[..., Any]] = []

    def pass_time(self, seconds: float) -> None:
        self.steady += seconds
        self.advance(seconds)

    def callFromThread(self, function: Callable[..., Any]) -> None:
        self.calls.append(function)
        self.called.set()


class SteadyReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StubReactor()
        self.reactor = SteadyReactor(self.clock, lambda: self.clock.steady)
        self.fired: list[str] = []

    def later(self, delay: float, what: str) -> Any:
        return self.reactor.callLater(delay, self.fired.append, what)

    def test_an_hour_back(self) -> None:
        """What was to happen happens in time; what ended before stays as it is."""
        self.later(0, "now")
        self.later(2, "soon")
        self.later(3, "cancelled").cancel()
        self.clock.pass_time(1)
        self.clock.rightNow -= 3600
        self.reactor.look()
        self.clock.pass_time(0.9)
        self.assertEqual(self.fired, ["now"])
        self.clock.pass_time(0.2)
        self.assertEqual(self.fired, ["now", "soon"])

    def test_a_timer_made_after_the_step(self) -> None:
        """It is not moved, and those before it are."""
        self.later(2, "before")
        self.clock.rightNow -= 3600
        self.later(3, "after")
        self.reactor.look()
        self.clock.pass_time(2)
        self.assertEqual(self.fired, ["before"])
        self.clock.pass_time(1)
        self.assertEqual(self.fired, ["before", "after"])

    def test_a_turn_that_was_asked_for(self) -> None:
        """Even what comes next is late after a step, and is put right."""
        self.later(0, "next")
        self.clock.rightNow -= 3600
        self.clock.pass_time(1)
        self.assertEqual(self.fired, [])
        self.reactor.look()
        self.clock.pass_time(0)
        self.assertEqual(self.fired, ["next"])

    def test_forward(self) -> None:
        """A step forward moves nothing."""
        timer = self.later(5000, "late")
        self.clock.advance(3600)
        self.reactor.look()
        self.assertEqual(timer.getTime(), 5000)

    def test_ended_timers_are_forgotten(self) -> None:
        """They do not pile up."""
        self.later(100, "kept")
        for _ in range(10 * FEW):
            self.later(1, "").cancel()
        self.assertLessEqual(len(self.reactor._timers), FEW)
        self.assertTrue(self.reactor._timers[0].active())

    def test_the_reactor_otherwise(self) -> None:
        """It is the one given in all else."""
        self.assertTrue(IReactorTime.providedBy(self.reactor))
        self.clock.pass_time(1)
        self.assertEqual(self.reactor.seconds(), 1.0)

    def test_the_thread(self) -> None:
        """It wakes the reactor once the clock was set back, and only then."""
        self.reactor.watch()
        self.addCleanup(self.reactor.stop_watching)
        self.assertFalse(self.clock.called.wait(0.6))
        self.clock.rightNow -= 1
        self.assertTrue(self.clock.called.wait(10))
        self.assertEqual(self.clock.calls[0], self.reactor.look)


class ClusterTests(SynchronousTestCase):
    def cluster(self, size: int = 3) -> MemoryCluster:
        cluster = MemoryCluster(KV, size)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def test_a_newcomer_asks_again(self) -> None:
        """Nobody sends it anything: it has to notice by itself."""
        cluster = self.cluster()
        leader = cluster.leader()
        newcomer = cluster.add()
        cluster.partition([0, 1, 2])
        cluster.advance(12)
        cluster.computers[newcomer].jump(-4000)
        cluster.advance(1)
        cluster.heal()
        cluster.wait_until(lambda: cluster.nodes[newcomer].is_ready, 10)
        self.assertEqual(cluster.leader(), leader)

    def test_nobody_is_asked_for_anything(self) -> None:
        """All clocks go back an hour: heartbeats go on, and the leader stays."""
        cluster = self.cluster()
        leader = cluster.leader()
        raft = cluster.nodes[leader].raft
        assert raft is not None
        term = raft.current_term
        for computer in cluster.computers:
            computer.jump(-3600)
        cluster.advance(5)
        self.assertEqual((cluster.leader(1), raft.current_term), (leader, term))

    def test_an_attempt_to_connect(self) -> None:
        """It is given up in time."""
        cluster = self.cluster()
        node = cluster.nodes[0]
        cluster.partition([0])
        asked = Deferred.fromCoroutine(node.ask_node(cluster.computers[1].address, b"PING"))
        cluster.computers[0].jump(-3600)
        self.assertRaises(ConnectTimeout, cluster.result, asked, ASK_TIMEOUT + 0.5)

    def test_all_clocks_an_hour(self) -> None:
        """A cluster that is asked for something finds its timers again."""
        cluster = self.cluster()
        leader = cluster.leader()
        for computer in cluster.computers:
            computer.jump(-3600)
        cluster.advance(10)
        # Nobody heard of anybody for too long, as far as they know: this one is lost on them.
        reply = cluster.computers[leader].node.execute("SET", "a", "1", timeout=5)
        reply.addErrback(lambda failure: failure.trap(OutcomeUnknown))
        cluster.advance(5)
        self.assertEqual(cluster.execute("SET", "a", "2", timeout=5), b"OK")

    def test_a_follower_still_stands_for_election(self) -> None:
        """Messages of the leader keep its timer alive: when they end, it fires in time."""
        cluster = self.cluster()
        leader = cluster.leader()
        others = [m for m in range(3) if m != leader]
        for member in others:
            cluster.computers[member].jump(-3600)
        cluster.advance(1)
        cluster.cut_power(leader)
        cluster.wait_until(lambda: any(cluster.computers[m].leads for m in others), 5)
