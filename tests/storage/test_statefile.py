"""Term and vote on the disk."""

from __future__ import annotations

import errno
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from finn.errors import CorruptLog, DataDirectoryError, DiskFailed
from finn.raft.ready import HardState
from finn.storage.statefile import MAX_SIZE, RECORD_SIZE, StateFile, encode_state
from finn.testing.faulty import FaultyFiles


class StateFileTests(SynchronousTestCase):
    """On files in memory."""

    def setUp(self) -> None:
        self.files = FaultyFiles()
        self.files.makedirs("d")

    def load(self, files: FaultyFiles | None = None) -> StateFile:
        """Load anew."""
        state_file = StateFile(files or self.files, "d")
        self.assertTrue(state_file.load())
        return state_file

    def put(self, data: bytes) -> None:
        """Make these bytes the file."""
        if self.files.exists("d/state"):
            self.files.unlink("d/state")
        self.files.create("d/state").write(data)

    def test_last_save_counts(self) -> None:
        """Saves before and after a restart are there again."""
        self.assertFalse(StateFile(self.files, "d").load())
        for term in range(1, 6):
            if term == 1:
                state_file = StateFile(self.files, "d")
            elif term == 3:
                state_file = self.load()
                state_file.renew()
            state_file.save(HardState(term, term * 7))
            self.assertEqual(self.load().state, HardState(term, term * 7))
            self.assertEqual(self.load().notice, "")

    def test_save_is_one_sync(self) -> None:
        """A save is a write and a sync, once the file is there."""
        state_file = StateFile(self.files, "d")
        state_file.save(HardState(1, 0))
        before = self.files.operations
        state_file.save(HardState(1, 2))
        self.assertEqual(self.files.operations - before, 2)

    def test_file_stays_small(self) -> None:
        """Beyond a bound the file is written anew."""
        state_file = StateFile(self.files, "d")
        for term in range(MAX_SIZE // RECORD_SIZE + 10):
            state_file.save(HardState(term, 0))
        self.assertLess(len(self.files.read("d/state")), 20 * RECORD_SIZE)
        self.assertEqual(self.load().state.term, term)

    def test_unfinished_save_is_dropped_with_a_notice(self) -> None:
        """Cut in the last record at any byte, or with any bit of it flipped."""
        good = encode_state(HardState(1, 5), 1)
        last = encode_state(HardState(2, 6), 2)
        damaged = [last[:size] for size in range(1, RECORD_SIZE)]
        for bit in range(8 * RECORD_SIZE):
            flipped = bytearray(last)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(flipped))
        for tail in damaged:
            self.put(good + tail)
            state_file = self.load()
            self.assertEqual(state_file.state, HardState(1, 5))
            self.assertIn("d/state", state_file.notice)
        # Loading changed nothing; the next save does away with the rest.
        self.assertEqual(self.files.read("d/state"), good + tail)
        state_file.renew()
        state_file.save(HardState(3, 1))
        self.assertEqual(self.load().state, HardState(3, 1))
        self.assertEqual(self.load().notice, "")

    def test_damage_before_the_end_is_corruption(self) -> None:
        """A forgotten vote must not pass for an unfinished save."""
        records = [encode_state(HardState(n, n), n) for n in (1, 2, 3)]
        records[1] = bytes(RECORD_SIZE)
        self.put(b"".join(records))
        error = self.assertRaises(CorruptLog, StateFile(self.files, "d").load)
        self.assertIn("d/state is damaged at offset 32", str(error))
        for data in (b"", b"x", bytes(RECORD_SIZE)):
            self.put(data)
            self.assertRaises(CorruptLog, StateFile(self.files, "d").load)

    def test_going_back_is_corruption(self) -> None:
        """A copy of an old record is not taken for a new one."""
        old, new = encode_state(HardState(1, 1), 1), encode_state(HardState(2, 2), 2)
        self.put(old + new + old + encode_state(HardState(3, 3), 3))
        self.assertRaises(CorruptLog, StateFile(self.files, "d").load)

    def test_unknown_version(self) -> None:
        """A version of the future is refused as such."""
        from zlib import crc32

        record = bytearray(encode_state(HardState(1, 1), 1))
        record[7] = 9
        record[:4] = crc32(record[4:]).to_bytes(4, "little")
        self.put(bytes(record))
        error = self.assertRaises(DataDirectoryError, StateFile(self.files, "d").load)
        self.assertIn("format version 9", str(error))

    def test_errors_are_one_line(self) -> None:
        """A save that fails says which file and why."""
        state_file = StateFile(self.files, "d")
        state_file.save(HardState(1, 1))
        self.files.fail("datasync", error=errno.EIO)
        error = self.assertRaises(DiskFailed, state_file.save, HardState(2, 2))
        self.assertEqual(str(error), "cannot save term and vote in d/state: Input/output error")

    def test_nothing_is_saved_behind_what_failed(self) -> None:
        """Saves queue up while the disk hangs; the first that fails is the last one."""
        for kind in ("write", "datasync"):
            state_file = StateFile(self.files, kind)
            self.files.makedirs(kind)
            state_file.save(HardState(1, 1))
            self.files.fail(kind, error=errno.EIO)
            self.assertRaises(DiskFailed, state_file.save, HardState(2, 2))
            self.assertRaises(DiskFailed, state_file.save, HardState(3, 3))
            state_file.close()
            self.files = self.files.crash()
            again = StateFile(self.files, kind)
            self.assertTrue(again.load())
            self.assertLess(again.state.term, 3)

    def test_power_cut_at_any_change(self) -> None:
        """After a cut there is what was saved last, or what was being saved."""
        cut = 0
        done = False
        while not done:
            cut += 1
            files = FaultyFiles()
            files.makedirs("d")
            state_file = StateFile(files, "d")
            state_file.save(HardState(0, 0))
            files.cut_at(files.operations + cut, Random(cut).random())
            saved = 0
            try:
                for term in range(1, 5):
                    if term == 3:
                        state_file._size = MAX_SIZE
                    state_file.save(HardState(term, term))
                    saved = term
                done = True
            except Exception:
                pass
            for seed in range(10):
                found = self.load(files.power_cut(Random(seed))).state
                self.assertIn(found, [HardState(n, n) for n in (saved, saved + 1)])
        self.assertGreater(cut, 10)
