"""Tests of the determinism guard: it finds each kind of dependence and nothing else."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from finn.machines.kv import KV
from finn.testing.determinism import (
    Surroundings,
    assert_deterministic,
    commands,
    find_divergence,
)
from tests.testing import machines

PAIR = (Surroundings(0), Surroundings(1, clock_offset=86_400.0, restores=1))


class DeterminismTests(SynchronousTestCase):
    """find_divergence names the first command after which copies differ."""

    def test_good_machine(self) -> None:
        """What uses only replicated things does not differ, whatever it prints and raises."""
        history = commands(["PUT", "a"], ["BAD"], ["NOSUCH"], ["PUT"], ["PUT", "b"], ["COUNT"])
        assert_deterministic(machines.Good, history)

    def test_order_of_a_set(self) -> None:
        """The first command whose state depends on the hash seed is named."""
        history = commands(["PUT", "x"], ["SADD", *(f"member{n}" for n in range(50))], ["PUT", "y"])
        found = find_divergence(machines.OrderOfSet, history, PAIR)
        assert found is not None
        self.assertEqual((found.position, found.what), (1, "state"))
        text = str(found)
        self.assertIn("state differs after SADD member0 member1", text)
        self.assertIn("hash seed 0", text)
        self.assertIn("hash seed 1", text)

    def test_clock(self) -> None:
        """A reply that depends on the node's clock is shown."""
        history = commands(["PUT", "x"], ["TOUCH"])
        with self.assertRaises(AssertionError) as caught:
            assert_deterministic(machines.Clock, history)
        self.assertIn("reply differs after TOUCH (number 2)", str(caught.exception))
        found = find_divergence(machines.Clock, commands(["TOUCH2"]), PAIR)
        assert found is not None
        self.assertEqual((found.position, found.what), (0, "state"))

    def test_chance(self) -> None:
        """So is one from the node's own random source."""
        found = find_divergence(machines.Chance, commands(["PUT", "x"], ["ROLL"]), PAIR)
        assert found is not None
        self.assertEqual((found.position, found.what), (1, "reply"))

    def test_state_outside_the_snapshot(self) -> None:
        """A copy restored from a snapshot must be the same."""
        found = find_divergence(machines.Forgetful, commands(*[["HIDE"]] * 4), PAIR)
        assert found is not None
        self.assertEqual((found.position, found.what), (2, "reply"))

    def test_first_command_is_found_when_states_are_compared_rarely(self) -> None:
        """Comparing every tenth state finds the same command."""
        history = commands(*[["PUT", n] for n in range(25)])
        history[12:12] = commands(["SADD", *(f"member{n}" for n in range(50))])
        found = find_divergence(machines.OrderOfSet, history, PAIR, every=10)
        assert found is not None
        self.assertEqual(found.position, 12)

    def test_machine_without_snapshots(self) -> None:
        """Then replies are all there is to compare."""
        assert_deterministic("tests.testing.machines:NoSnapshot", commands(["PUT", "a"]))

    def test_machine_that_cannot_be_imported(self) -> None:
        """Say what to give instead."""
        with self.assertRaises(ValueError) as caught:
            find_divergence(lambda: None, [])
        self.assertIn("package.module:Factory", str(caught.exception))
        with self.assertRaises(RuntimeError) as failed:
            find_divergence("tests.nowhere:Machine", [])
        self.assertIn("tests.nowhere", str(failed.exception))

    def test_bundled_machine(self) -> None:
        """The bundled machine is deterministic over a random history of its commands."""
        random = Random(7)
        keys = [f"k{n}" for n in range(8)]
        lines: list[list[str | int]] = []
        for _ in range(300):
            key = random.choice(keys)
            lines.append(
                random.choice(
                    [
                        ["SET", key, random.randint(0, 9)],
                        ["INCR", key],
                        ["SADD", key + "s", *random.sample(keys, 4)],
                        ["SPOP", key + "s"],
                        ["SREM", key + "s", random.choice(keys)],
                        ["HSET", key + "h", *random.sample(keys, 4)],
                        ["RPUSH", key + "l", *random.sample(keys, 3)],
                        ["LPOP", key + "l"],
                        ["EXPIRE", key, 1],
                        ["DEL", key],
                        ["KEYS", "*"],
                        ["SMEMBERS", key + "s"],
                        ["HGETALL", key + "h"],
                        ["RANDOMKEY"],
                    ]
                )
            )
        assert_deterministic(KV, commands(*lines), every=20)
