"""Snapshot stores: writing aside, checking, keeping two, falling back."""

from __future__ import annotations

import errno
from random import Random
from typing import Any
from zlib import crc32

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from finn.errors import DataDirectoryError, DiskFailed, LogError
from finn.interfaces import (
    IDisk,
    ISnapshotSink,
    ISnapshotSource,
    ISnapshotStore,
    SnapshotMeta,
)
from finn.raft.configuration import Configuration, Member
from finn.storage.disk import ImmediateDisk
from finn.storage.memsnapshots import MemorySnapshotStore
from finn.storage.meta import decode_meta, encode_meta
from finn.storage.sink import BUFFER_BYTES, SYNC_BYTES
from finn.storage.snapshots import SnapshotStore
from finn.testing.disks import ManualDisk
from finn.testing.faulty import FaultyFiles

MEMBERS = Configuration((Member(1, ":1"), Member((1 << 64) - 1, "b:2", False)), 4)


def meta_at(index: int, state: bytes = b"") -> SnapshotMeta:
    """Describe a snapshot; with a state, one that is received."""
    return SnapshotMeta(
        index, 3, 1000 + index, MEMBERS, len(state), crc32(state), machine="kv", version=2
    )


class MetaTests(SynchronousTestCase):
    """meta.json."""

    def test_round_trip(self) -> None:
        """All fields come back; the id is the name of the directory."""
        meta = meta_at(7, b"abc")
        found = decode_meta(encode_meta(meta), "3-7-99")
        for field in SnapshotMeta.__slots__:
            expected = "3-7-99" if field == "id" else getattr(meta, field)
            self.assertEqual(getattr(found, field), expected, field)

    def test_every_bit_counts(self) -> None:
        """Damage anywhere is an error."""
        data = encode_meta(meta_at(7, b"abc"))
        for bit in range(8 * (len(data) - 1)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            try:
                found = decode_meta(bytes(damaged), "3-7-99")
            except LogError:
                continue
            # A hexadecimal digit in upper case is the same number.
            self.assertEqual(encode_meta(found), data)

    def test_other_name_and_version(self) -> None:
        """The name must match; a future version is refused as such."""
        self.assertRaises(LogError, decode_meta, encode_meta(meta_at(7)), "3-8-99")
        line = encode_meta(meta_at(7)).split(b"\n")[0].replace(b'"format":1', b'"format":2')
        data = line + b"\n" + format(crc32(line), "08x").encode()
        self.assertRaises(DataDirectoryError, decode_meta, data, "3-7-99")


class StoreContract:
    """What both stores do."""

    def make(self) -> Any:
        """Make a store and open it."""
        raise NotImplementedError

    def take(self, store: ISnapshotStore, index: int, state: bytes) -> SnapshotMeta:
        """Take a snapshot."""
        sink = store.create(meta_at(index))
        half = len(state) // 2
        sink.write(state[:half])
        sink.write(state[half:])
        return self.successResultOf(sink.finish())  # type: ignore[attr-defined,no-any-return]

    def read(self: Any, store: ISnapshotStore, meta: SnapshotMeta) -> bytes:
        """Read a snapshot in pieces."""
        source = self.successResultOf(store.source(meta))
        verifyObject(ISnapshotSource, source)
        pieces = []
        offset = 0
        while piece := self.successResultOf(source.read(offset, 10)):
            pieces.append(piece)
            offset += len(piece)
            self.assertEqual(source.read_now(0, 5), pieces[0][:5])
        self.successResultOf(source.close())
        return b"".join(pieces)

    def test_write_and_read(self: Any) -> None:
        """A snapshot is listed with its size and CRC, and reads as written."""
        store = self.make()
        verifyObject(ISnapshotStore, store)
        verifyObject(ISnapshotSink, store.create(meta_at(1)))
        state = bytes(range(256))
        meta = self.take(store, 5, state)
        self.assertEqual((meta.size, meta.crc), (256, crc32(state)))
        self.assertRegex(meta.id, "^3-5-[0-9]+$")
        self.assertEqual(store.snapshots, [meta])
        self.assertEqual(self.read(store, meta), state)

    def test_empty_state(self: Any) -> None:
        """A machine without state has a snapshot too."""
        store = self.make()
        self.assertEqual(self.read(store, self.take(store, 5, b"")), b"")

    def test_newest_two_are_kept(self: Any) -> None:
        """Oldest first; of one index the later one counts as newer."""
        store = self.make()
        for index in (5, 3, 9, 9):
            self.take(store, index, b"%d" % index)
        self.assertEqual([meta.index for meta in store.snapshots], [9, 9])
        self.assertNotEqual(store.snapshots[0].id, store.snapshots[1].id)

    def test_a_source_pins_its_snapshot(self: Any) -> None:
        """What is being sent can be read to its end, whatever is taken meanwhile."""
        store = self.make()
        meta = self.take(store, 1, b"first")
        source = self.successResultOf(store.source(meta))
        again = self.successResultOf(store.source(meta))
        for index in range(2, 6):
            self.take(store, index, b"later")
        self.assertEqual([m.index for m in store.snapshots], [4, 5])
        self.successResultOf(source.close())
        self.assertEqual(self.successResultOf(again.read(0, 99)), b"first")
        self.successResultOf(again.close())
        self.successResultOf(again.close())
        self.failureResultOf(store.source(meta), LogError)

    def test_received_snapshot_is_checked(self: Any) -> None:
        """Size and CRC of the meta must fit what was received."""
        store = self.make()
        for sent, got in ((b"abcd", b"abc"), (b"abcd", b"abcde"), (b"abcd", b"abcx")):
            sink = store.create(meta_at(1, sent))
            sink.write(got)
            self.failureResultOf(sink.finish(), LogError)
        self.assertEqual(store.snapshots, [])
        sink = store.create(meta_at(1, b"abcd"))
        sink.write(b"ab")
        self.assertEqual(sink.received, 2)
        sink.write(b"cd")
        self.assertEqual(sink.received, 4)
        meta = self.successResultOf(sink.finish())
        self.assertEqual(self.read(store, meta), b"abcd")

    def test_a_bad_one_is_set_aside(self: Any) -> None:
        """It is forgotten at once; whoever reads it goes on."""
        store = self.make()
        older, newer = [self.take(store, index, b"state") for index in (1, 2)]
        self.assertEqual(self.successResultOf(store.check(newer)), "")
        source = self.successResultOf(store.source(newer))
        notice = self.successResultOf(store.set_aside(newer, "it smells"))
        self.assertIn(newer.id, notice)
        self.assertTrue(notice.endswith(": it smells"))
        self.assertEqual(store.snapshots, [older])
        self.assertEqual(self.successResultOf(source.read(0, 9)), b"state")
        self.successResultOf(source.close())
        self.assertNotEqual(self.successResultOf(store.check(newer)), "")

    def test_abort(self: Any) -> None:
        """An aborted snapshot leaves nothing; ended is ended."""
        store = self.make()
        sink = store.create(meta_at(1))
        sink.write(b"abc")
        self.successResultOf(sink.flushed())
        self.successResultOf(sink.abort())
        self.assertEqual(store.snapshots, [])
        self.failureResultOf(sink.abort(), LogError)
        self.failureResultOf(sink.finish(), LogError)


class MemorySnapshotTests(StoreContract, SynchronousTestCase):
    """In memory."""

    def make(self) -> MemorySnapshotStore:
        store = MemorySnapshotStore()
        self.successResultOf(store.open())
        return store


class SnapshotStoreTests(StoreContract, SynchronousTestCase):
    """On files."""

    def setUp(self) -> None:
        self.files = FaultyFiles()
        self.now = 1000

    def make(self, files: FaultyFiles | None = None, disk: IDisk | None = None) -> SnapshotStore:
        store = SnapshotStore(
            files or self.files, disk or ImmediateDisk(), "data", lambda: self.now
        )
        opening = store.open()
        if disk is None:
            self.assertIsNone(self.successResultOf(opening))
        return store

    def test_reopen(self) -> None:
        """Snapshots are found again, with everything they say of themselves."""
        store = self.make()
        metas = [self.take(store, index, b"state %d" % index) for index in (1, 2)]
        found = self.make(self.files.crash())
        self.assertEqual([m.id for m in found.snapshots], [m.id for m in metas])
        self.assertEqual(found.snapshots[1].configuration, MEMBERS)
        self.assertEqual(found.notices, [])
        self.assertEqual(self.read(found, found.snapshots[1]), b"state 2")
        # The clock went back: a name is never used again.
        self.now = 0
        self.assertNotIn(self.take(found, 2, b"x").id, [m.id for m in metas])

    def test_layout(self) -> None:
        """The directories are as documented."""
        meta = self.take(self.make(), 7, b"abc")
        self.assertEqual(meta.id, "3-7-1000")
        self.assertEqual(self.files.listdir("data/snapshots"), ["3-7-1000"])
        self.assertEqual(self.files.listdir("data/snapshots/3-7-1000"), ["meta.json", "state.bin"])

    def test_bad_newest_is_set_aside(self) -> None:
        """A flipped bit, a missing byte, no state or no meta: the older one is used."""
        path = "data/snapshots/3-2-1001"
        for damage in ("bit", "cut", "state", "meta", "metabit"):
            self.files = files = FaultyFiles()
            store = self.make()
            self.take(store, 1, b"older")
            self.take(store, 2, b"newer")
            if damage == "bit":
                files.flip_bit(f"{path}/state.bin", 3)
            elif damage == "cut":
                files.open(f"{path}/state.bin").truncate(4)
            elif damage == "metabit":
                files.flip_bit(f"{path}/meta.json", 3)
            else:
                files.unlink(f"{path}/{'state.bin' if damage == 'state' else 'meta.json'}")
            found = self.make(files)
            self.assertEqual([m.index for m in found.snapshots], [1], damage)
            (notice,) = found.notices
            self.assertIn(f"{path} is set aside", notice)
            self.assertEqual(files.listdir("data/snapshots"), ["3-1-1000", "3-2-1001.bad"])
            self.assertEqual(self.make(files).notices, [])

    def test_what_goes_bad_meanwhile(self) -> None:
        """A check says what is wrong; what is set aside is not found by the next start."""
        store = self.make()
        older, newer = [self.take(store, index, b"state") for index in (1, 2)]
        path = f"data/snapshots/{newer.id}"
        self.files.fail("pread", path=path)
        wrong = self.successResultOf(store.check(newer))
        self.assertEqual(wrong, "it cannot be read: Input/output error")
        self.files.fail("open_readonly", error=errno.EMFILE, path=path)
        self.failureResultOf(store.check(newer), OSError)
        self.files.flip_bit(f"{path}/state.bin", 3)
        self.assertEqual(self.successResultOf(store.check(newer)), "its checksum is wrong")
        self.successResultOf(store.set_aside(newer, "bad"))
        self.assertEqual(self.files.listdir("data/snapshots"), [older.id, newer.id + ".bad"])
        found = self.make(self.files.power_cut(Random(1)))
        self.assertEqual(([m.id for m in found.snapshots], found.notices), ([older.id], []))

    def test_what_cannot_be_set_aside(self) -> None:
        """Then the disk has failed."""
        store = self.make()
        meta = self.take(store, 1, b"state")
        self.files.fail("rename")
        error = self.failureResultOf(store.set_aside(meta, "bad"), DiskFailed).value
        self.assertEqual(str(error), f"cannot rename data/snapshots/{meta.id}: Input/output error")

    def test_leftovers_are_removed(self) -> None:
        """What was being written when the process was killed is gone after the next start."""
        store = self.make()
        sink = store.create(meta_at(1))
        sink.write(bytes(BUFFER_BYTES))
        self.assertEqual(self.files.listdir("data/snapshots"), ["3-1-1000.tmp"])
        files = self.files.crash()
        self.assertEqual(self.make(files).snapshots, [])
        self.assertEqual(files.listdir("data/snapshots"), [])

    def test_pending_and_flushed(self) -> None:
        """Bytes taken and not written are counted, and written behind."""
        disk = ManualDisk()
        store = self.make(disk=disk)
        disk.step_all()
        sink = store.create(meta_at(1))
        sink.write(b"abc")
        self.assertEqual((sink.pending, sink.received, disk.pending), (3, 3, 0))
        sink.write(bytes(BUFFER_BYTES))
        self.assertEqual((sink.pending, disk.pending), (BUFFER_BYTES + 3, 1))
        sink.write(b"xyz")
        flushed = sink.flushed()
        disk.step()
        self.assertEqual(sink.pending, 3)
        self.assertNoResult(flushed)
        disk.step_all()
        self.successResultOf(flushed)
        self.assertEqual((sink.pending, sink.received), (0, BUFFER_BYTES + 6))

    def test_a_source_nobody_waits_for(self) -> None:
        """Its file is closed once it is open, and the snapshot is free."""
        meta = self.take(self.make(), 1, b"first")
        disk = ManualDisk()
        store = self.make(disk=disk)
        disk.step_all()
        opened: list[Any] = []
        open_readonly = self.files.open_readonly

        def note(path: str) -> Any:
            opened.append(open_readonly(path))
            return opened[-1]

        self.patch(self.files, "open_readonly", note)
        sourced = store.source(meta)
        sourced.cancel()
        self.failureResultOf(sourced, CancelledError)
        disk.step_all()
        self.assertRaises(OSError, opened[0].size)
        self.assertEqual(store._pins, {})

    def test_large_snapshots_are_synced_in_steps(self) -> None:
        """No sync has more than a bound to do, as the log waits for the disk meanwhile."""
        synced: list[str] = []
        self.files.on_slow = lambda _: synced.append("datasync")
        self.files.slow("datasync", 0.01, "state.bin")
        sink = self.make().create(meta_at(1))
        for _ in range(4 * SYNC_BYTES // BUFFER_BYTES):
            sink.write(bytes(BUFFER_BYTES))
        self.assertEqual(len(synced), 4)

    def test_full_disk(self) -> None:
        """The failure is told in one line, and the space given back."""
        store = self.make()
        self.take(store, 1, b"abc")
        used = self.files.used
        self.files.capacity = used + 1000
        sink = store.create(meta_at(2))
        sink.write(bytes(BUFFER_BYTES))
        sink.write(bytes(BUFFER_BYTES))
        text = "cannot write data/snapshots/3-2-1001.tmp: No space left on device"
        self.assertEqual(str(self.failureResultOf(sink.flushed(), DiskFailed).value), text)
        self.assertEqual(sink.pending, 0)
        self.assertEqual(str(self.failureResultOf(sink.finish(), DiskFailed).value), text)
        self.assertEqual((self.files.used, len(store.snapshots)), (used, 1))

    def test_unusable_directory(self) -> None:
        """One line says why."""
        self.files.fail("makedirs", error=errno.EACCES)
        store = SnapshotStore(self.files, ImmediateDisk(), "data")
        error = self.failureResultOf(store.open(), DataDirectoryError).value
        self.assertEqual(str(error), "cannot use data: Permission denied")

    def test_power_cut_at_every_change(self) -> None:
        """A finished snapshot is there for good, and there is always a good one."""
        cut = 0
        while self._cut_at(cut := cut + 1):
            pass
        self.assertGreater(cut, 40)

    def _cut_at(self, cut: int) -> bool:
        files = FaultyFiles()
        files.cut_at(cut, Random(cut).random())
        finished = 0
        store = SnapshotStore(files, ImmediateDisk(), "data", lambda: self.now)
        results: list[Any] = []
        store.open().addBoth(results.append)
        if results == [None]:
            for index in range(1, 6):
                sink = store.create(meta_at(index))
                sink.write(b"state %d" % index * 1000)
                finishing: Deferred[Any] = sink.finish()
                finishing.addBoth(results.append)
                if not isinstance(results[-1], SnapshotMeta):
                    break
                finished = index
        outcomes = [files.power_cut(Random(seed)) for seed in range(6)]
        if results != [None] or not files.dead:
            outcomes.append(files.crash())
        for after in outcomes:
            found = self.make(after)
            self.assertEqual(found.notices, [])
            newest = found.snapshots[-1].index if found.snapshots else 0
            self.assertIn(newest, (finished, finished + 1))
            if finished > 1:
                self.assertGreaterEqual(len(found.snapshots), 2)
            for meta in found.snapshots:
                self.assertEqual(self.read_all(found, meta), b"state %d" % meta.index * 1000)
        return finished < 5

    def read_all(self, store: SnapshotStore, meta: SnapshotMeta) -> bytes:
        """Read a snapshot in one piece."""
        source = self.successResultOf(store.source(meta))
        data = self.successResultOf(source.read(0, meta.size + 1))
        self.successResultOf(source.close())
        return data
