"""The default log store: segmented append-only files.

Where a record will stand is known when ``append`` returns; ``GroupCommit`` sees to it that it gets
there. Only segments change: a truncation, a reset and a full file each begin a new one, whose
header says what it makes void, and compaction removes whole ones.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from functools import partial
from random import Random, SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import classImplements

from finn.errors import Compacted, CorruptLog, DataDirectoryError, DiskFailed, LogError
from finn.interfaces import IDisk, IFiles, ILogStore
from finn.options import Durability
from finn.raft.entries import Entry
from finn.raft.ready import HardState
from finn.storage.commit import GroupCommit
from finn.storage.records import MARK_SIZE, SEGMENT_HEADER_SIZE, SegmentHeader, encode_mark
from finn.storage.recovery import LogImage, load_segments
from finn.storage.segment import (
    TEMPORARY,
    Segment,
    SegmentReader,
    cut_front,
    disk_failed,
    segment_path,
)
from finn.storage.statefile import StateFile
from finn.storage.tail import TailWriter

LOG_NAME = "log"
SEGMENT_BYTES = 64 * 1024 * 1024

_UNUSABLE = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EROFS, errno.ENOENT, errno.EEXIST}


class FastLog:
    """``ILogStore`` in segment files; the format is specified in ``finn.storage.records``.

    ``dropped_tail`` is True whenever ``open`` found bytes behind the end of the log. They may be
    what a killed process was writing, which nobody had been told of, but nothing in the file can
    tell that from a tail that was cut. Nothing is removed before the first change, so that the
    node can record first that it is amnesic.

    Args:
        files: the file system.
        disk: where everything that may block runs.
        clock: for the sync of durability medium, and ``busy_since``.
        directory: data directory of the node.
        durability: what ``sync`` promises.
        segment_bytes: a segment is full at this size.
        random: source of the segments' nonces.

    Attributes:
        notice: what ``open`` dropped, one line for the log.
        base_term: term of the entry before ``first_index``, 0 when there is none.
        last_time: not below the time of any entry, ms; valid as ``terms``.
    """

    def __init__(
        self,
        files: IFiles,
        disk: IDisk,
        clock: IReactorTime,
        directory: str,
        durability: Durability = Durability.MEDIUM,
        segment_bytes: int = SEGMENT_BYTES,
        random: Random | None = None,
    ) -> None:
        self.first_index = 1
        self.last_index = 0
        self.base_term = 0
        self.state = HardState()
        self.terms: list[tuple[int, int]] = []
        self.configurations: list[Entry] = []
        self.last_time = 0
        self.dropped_tail = False
        self.notice = ""
        self._files = files
        self._data_directory = directory
        self._directory = os.path.join(directory, LOG_NAME)
        self._segment_bytes = segment_bytes
        self._random = random if random is not None else SystemRandom()
        self._state_file = StateFile(files, self._directory)
        self._tail = TailWriter(files, self._directory)
        self._reader = SegmentReader(files)
        self._commit = GroupCommit(self._tail, disk, clock, durability, self._synced)
        self._segments: list[Segment] = []
        self._compacted = 0
        # Runs of terms, kept up to date: a segment's header has the term of its base.
        self._runs: list[tuple[int, int]] = []
        # There are bytes behind the end of the log, to be cut before the first change.
        self._torn = False
        # What the next sync mark in the last segment has to name, 0: there is nothing new.
        self._mark = 0

    # -- opening and closing ------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        return self._commit.submit(self._load).addCallbacks(self._opened, self._not_opened)

    def _load(self) -> LogImage:
        """Runs on the disk thread."""
        files, directory, state_file = self._files, self._directory, self._state_file
        files.makedirs(directory)
        for name in files.listdir(directory):
            if name.endswith(TEMPORARY):
                files.unlink(os.path.join(directory, name))
        has_state = state_file.load()
        image = load_segments(files, directory)
        # A process that was killed may have left things un-synced that count from now on.
        files.sync_directory(directory)
        if image.segments:
            if not has_state:
                raise CorruptLog(state_file.path, 0, "term and vote are missing")
            if len(image.segments) > 1:
                self._seal(image.segments[-2], image.unmarked)
            self._tail.attach(image.segments[-1], image.file_size)
        else:
            # Term and vote are made first, the first segment before they are used.
            if state_file.state.term:
                raise CorruptLog(segment_path(directory, 1), 0, "the log is missing")
            if not has_state:
                state_file.save(HardState())
            image.segments.append(self._new_segment(1, 0, 0, False))
            self._tail.begin(image.segments[0])
        if has_state:
            state_file.renew()
        self._unlink(image.void)
        return image

    def _seal(self, segment: Segment, unmarked: bool) -> None:
        """Do what a crash may have kept ``begin`` from: say durably that there is a successor.

        Before anything is appended to that: its loss would not be missed.
        """
        self._tail.attach(segment, segment.end)
        if unmarked:
            self._tail.cut(segment.end)
            self._tail.seal()
            segment.end += MARK_SIZE
        else:
            self._tail.close()

    def _opened(self, image: LogImage) -> None:
        self._segments = image.segments
        first, last = image.segments[0], image.segments[-1]
        self.first_index = first.base_index + 1
        self.base_term = first.header.base_term
        self.last_index = image.last_index
        self.state = self._state_file.state
        self.terms = image.terms
        self._runs = list(image.terms)
        self.configurations = image.configurations
        self.last_time = image.last_time
        self._torn = bool(image.notice)
        self.notice = "; ".join(filter(None, (image.notice, self._state_file.notice)))
        self.dropped_tail = bool(self.notice)
        nothing_new = image.marked or last.end == SEGMENT_HEADER_SIZE
        self._mark = 0 if nothing_new else last.end
        self._commit.rebase(image.last_index)
        self._commit.position = (last, last.end)

    def _not_opened(self, failure: Failure) -> Deferred[None]:
        return self._commit.submit(self._close).addBoth(lambda _: self._why_not_opened(failure))

    def _why_not_opened(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, OSError):
            return failure
        path = error.filename or self._data_directory
        if error.errno in _UNUSABLE:
            return Failure(DataDirectoryError(f"cannot use {path}: {error.strerror}"))
        return Failure(disk_failed("open", path, error))

    def close(self) -> Deferred[None]:
        return self._commit.finish().addBoth(self._finished)

    def _finished(self, result: Any) -> Deferred[Any]:
        # The files are closed whatever became of the sync.
        return self._commit.submit(self._close).addCallback(lambda _: result)

    def _close(self) -> None:
        """On the disk thread: a last mark, as all of the log is known durable now."""
        try:
            if self._mark and not self._torn and self._commit.failed is None:
                segment = self._segments[-1]
                self._tail.write(encode_mark(segment.header.nonce, segment.end, segment.end))
                self._tail.sync()
        finally:
            self._reader.close()
            self._state_file.close()
            self._tail.close()

    # -- changes ------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        index = self.last_index
        for place, entry in enumerate(entries, index + 1):
            assert entry.index == place, (entry, place)
        if not entries:
            return
        if self._torn:
            self._cut_torn()
        segment = self._segments[-1]
        if segment.end >= self._segment_bytes:
            segment = self._begin_segment(index, False)
        pieces: list[bytes] = []
        if self._mark:
            pieces.append(encode_mark(segment.header.nonce, segment.end, self._mark))
            segment.end += MARK_SIZE
            self._mark = 0
        runs = self._runs
        for entry in entries:
            index = entry.index
            record = entry.record
            pieces.append(record)
            segment.add(index, len(record))
            if not runs or runs[-1][1] != entry.term:
                runs.append((index, entry.term))
        self.last_index = index
        commit = self._commit
        commit.last_index = index
        commit.position = (segment, segment.end)
        commit.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def truncate_suffix(self, index: int) -> None:
        assert index >= self.first_index, (index, self.first_index)
        if index > self.last_index:
            return
        last = index - 1
        for segment in self._segments:
            segment.last_index = min(segment.last_index, last)
        while self._runs and self._runs[-1][0] > last:
            self._runs.pop()
        self.last_index = last
        self._commit.lower(last)
        # What comes after cannot be on the disk before the header that makes the suffix void.
        self._begin_segment(last, False)
        self._commit.start()

    def compact(self, index: int) -> None:
        self._compacted = max(self._compacted, index)
        keep = 0
        for place, segment in enumerate(self._segments):
            if segment.base_index <= index:
                keep = place
        if keep:
            self._remove_segments(keep)
            self.first_index = self._segments[0].base_index + 1
            self.base_term = self._segments[0].header.base_term

    def reset(self, index: int, term: int) -> None:
        self._runs.clear()
        self.base_term = term
        self.first_index = index + 1
        self.last_index = index
        self._commit.rebase(index)
        self._begin_segment(index, True)
        self._remove_segments(len(self._segments) - 1)
        self._commit.start()

    def shrink(self) -> Deferred[None]:
        """Also rewrites the segment in which the compacted entries end, without them."""
        base = min(self._compacted, self.last_index)
        if base >= self.first_index:
            if self._segments[-1].base_index < base:
                self._begin_segment(self.last_index, False)
            term = self._term_at(base)
            self.compact(base)
            first = self._segments[0]
            if first.base_index < base:
                self._commit.add(partial(self._cut_front, first, base, term))
            self.first_index = base + 1
            self.base_term = term
            self._commit.start()
        return self._commit.wait_written()

    def _cut_torn(self) -> None:
        self._torn = False
        self._commit.add(partial(self._tail.cut, self._segments[-1].end))

    def _new_segment(self, number: int, base: int, term: int, void_before: bool) -> Segment:
        header = SegmentHeader(number, base, term, void_before, self._random.getrandbits(64))
        return Segment(segment_path(self._directory, number), header)

    def _begin_segment(self, base: int, void_before: bool) -> Segment:
        """Plan the next segment; ``start`` must follow."""
        if self._torn:
            self._cut_torn()
        before = self._segments[-1]
        before.end += MARK_SIZE  # the one that says that it has a successor
        number = before.header.number + 1
        segment = self._new_segment(number, base, self._term_at(base), void_before)
        self._segments.append(segment)
        self._mark = 0
        self._commit.position = (segment, segment.end)
        self._commit.add(partial(self._tail.begin, segment))
        return segment

    def _remove_segments(self, count: int) -> None:
        removed, self._segments = self._segments[:count], self._segments[count:]
        self._commit.add_behind(partial(self._unlink, [segment.path for segment in removed]))

    def _term_at(self, index: int) -> int:
        if not self._runs or index < self._runs[0][0]:
            return self.base_term
        return next(term for first, term in reversed(self._runs) if first <= index)

    def _synced(self, position: tuple[Segment, int]) -> None:
        segment, end = position
        if segment is self._segments[-1]:
            self._mark = end

    # -- on the disk thread -------------------------------------------------------------------

    def _unlink(self, paths: list[str]) -> None:
        for path in paths:
            self._reader.forget(path)
            try:
                self._files.unlink(path)
                # One by one and the oldest first: a power loss leaves no gap between the numbers.
                self._files.sync_directory(self._directory)
            except OSError as e:
                raise disk_failed("remove", path, e) from e

    def _cut_front(self, segment: Segment, base: int, term: int) -> None:
        self._reader.forget(segment.path)
        try:
            segment.become(cut_front(self._files, self._directory, segment, base, term))
        except OSError as e:
            raise disk_failed("rewrite", segment.path, e) from e

    # -- the rest of ILogStore ----------------------------------------------------------------

    @property
    def log_bytes(self) -> int:
        return sum(segment.end for segment in self._segments)

    @property
    def durable_index(self) -> int:
        return self._commit.durable_index

    @property
    def busy_since(self) -> float | None:
        return self._commit.busy_since

    def sync(self, durable: bool = False) -> Deferred[None]:
        return self._commit.wait_durable() if durable else self._commit.wait()

    def save_state(self, state: HardState) -> Deferred[None]:
        if self._commit.failed is not None:
            return fail(self._commit.failed)
        self.state = state
        return self._commit.submit(self._state_file.save, state).addErrback(self._state_failed)

    def _state_failed(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, DiskFailed):
            error = DiskFailed(f"cannot save term and vote: {failure.getErrorMessage()}")
        self._commit.fail(error)
        return Failure(error)

    def read(self, first: int, max_bytes: int) -> Deferred[list[Entry]]:
        if self._commit.failed is not None:
            return fail(self._commit.failed)
        if first < self.first_index:
            return fail(Compacted(f"entry {first} is gone, the log begins at {self.first_index}"))
        if first > self.last_index:
            return fail(LogError(f"entry {first} is not in the log, it ends at {self.last_index}"))
        last = self._commit.written_index
        if first > last:
            return self._commit.wait_written().addCallback(lambda _: self.read(first, max_bytes))
        parts = [(s, min(s.last_index, last)) for s in self._segments if s.last_index >= first]
        return self._commit.submit(self._reader.read, parts, first, max_bytes).addErrback(
            self._not_read
        )

    def _not_read(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, OSError):
            return Failure(disk_failed("read", error.filename or self._directory, error))
        return failure


classImplements(FastLog, ILogStore)
