"""Finding out what a directory of segments holds. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from finn.errors import BadRecord, CorruptLog
from finn.interfaces import IFile, IFiles
from finn.raft.entries import CONFIGURATION, Entry, decode_entry
from finn.storage.records import (
    HAS_SUCCESSOR,
    MARK,
    MARK_SIZE,
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    last_mark,
    scan,
)
from finn.storage.segment import Segment, segment_number, segment_path


@dataclass
class LogImage:
    """What segments hold.

    Attributes:
        segments: in order, the void ones left out.
        void: paths of segments that later ones made void, in order.
        terms: (first index, term) of each run of entries of one term.
        configurations: configuration entries.
        last_index: of the last entry, or the base.
        last_time: not below the time of any entry, ms.
        notice: what was dropped from the tail, one line; empty when nothing was.
        file_size: of the last segment, what is dropped included.
        marked: the last record is a mark that names all before it.
        continued: the last segment has a mark that says that it has a successor.
        unmarked: the one before the last, if any, has none, or not a whole one.
    """

    segments: list[Segment] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    terms: list[tuple[int, int]] = field(default_factory=list)
    configurations: list[Entry] = field(default_factory=list)
    last_index: int = 0
    last_time: int = 0
    notice: str = ""
    file_size: int = 0
    marked: bool = False
    continued: bool = False
    unmarked: bool = False

    def term_at(self, index: int) -> int:
        """Term of an entry, or of the base; 0 when neither."""
        term = 0
        if self.segments and index == self.segments[0].base_index:
            return self.segments[0].header.base_term
        for first, of_run in self.terms:
            if first > index:
                break
            term = of_run
        return term


def load_segments(files: IFiles, directory: str) -> LogImage:
    """Read all segments and check every byte.

    Raises:
        CorruptLog: something is damaged that was known durable.
        DataDirectoryError: a segment has an unknown format version.
        OSError: the disk failed.
    """
    found = _headers(files, directory)
    image = LogImage()
    for place in reversed(range(len(found))):
        if found[place].header.void_before:
            image.void = [segment.path for segment in found[:place]]
            found = found[place:]
            break
    for before, after in pairwise(found):
        if after.header.number != before.header.number + 1:
            raise CorruptLog(_successor(directory, before), 0, "the segment is missing")
    for segment in found:
        image.unmarked = not image.continued
        _load(files, image, segment, segment is found[-1])
    # Who only looks at the log of a node that runs may find that it has just begun a segment.
    if image.continued and not files.exists(_successor(directory, found[-1])):
        raise CorruptLog(_successor(directory, found[-1]), 0, "the segment is missing")
    return image


def _successor(directory: str, segment: Segment) -> str:
    return segment_path(directory, segment.header.number + 1)


def _headers(files: IFiles, directory: str) -> list[Segment]:
    found = []
    for name in files.listdir(directory):
        number = segment_number(name)
        if number is None:
            continue
        path = segment_path(directory, number)
        file = files.open_readonly(path)
        try:
            header = SegmentHeader.decode(file.pread(SEGMENT_HEADER_SIZE, 0), path)
        finally:
            file.close()
        if header.number != number:
            raise CorruptLog(path, 0, f"this is segment {header.number}")
        found.append(Segment(path, header))
    found.sort(key=lambda segment: segment.header.number)
    return found


def _load(files: IFiles, image: LogImage, segment: Segment, is_last: bool) -> None:
    """Add the entries of one segment to the image."""
    header = segment.header
    if not image.segments:
        image.last_index = header.base_index
    elif header.base_index > image.last_index:
        raise CorruptLog(
            segment.path,
            0,
            f"it begins behind entry {header.base_index}, the segment before ends with entry "
            f"{image.last_index}",
        )
    elif header.base_index < image.segments[0].base_index:
        # Compaction was interrupted: these segments were truncated away and about to go.
        image.void += [before.path for before in image.segments]
        image.segments.clear()
        truncate_image(image, header.base_index)
    elif image.term_at(header.base_index) != header.base_term:
        raise CorruptLog(segment.path, 0, "it does not continue the segment before")
    else:
        truncate_image(image, header.base_index)
    image.segments.append(segment)
    file = files.open_readonly(segment.path)
    try:
        size = file.size()
        if is_last:
            image.file_size = size
        try:
            _scan(image, segment, file, size)
        except BadRecord as e:
            if not is_last and size - e.offset <= MARK_SIZE:
                return  # the mark of its successor was not finished; an entry is longer
            # Marks before the bad record name offsets below it: only those behind can tell.
            if not is_last or last_mark(file, size, e.offset, header.nonce) > e.offset:
                raise CorruptLog(segment.path, e.offset, e.reason) from None
            image.notice = (
                f"{segment.path}: dropped {size - e.offset} bytes at the end of the log, behind "
                f"entry {image.last_index}: {e.reason} (offset {e.offset})"
            )
    finally:
        file.close()


def _scan(image: LogImage, segment: Segment, file: IFile, size: int) -> None:
    header = segment.header
    terms = image.terms
    last_term = header.base_term
    if terms:
        last_term = terms[-1][1]
    records = scan(
        file, size, SEGMENT_HEADER_SIZE, header.nonce, header.base_index, header.base_term
    )
    known = bool(terms)
    image.marked = image.continued = False
    for offset, record_size, kind, term, index, time, record in records:
        if kind == MARK:
            segment.end += record_size
            segment.synced = index
            image.marked = index == offset
            image.continued = bool(term & HAS_SUCCESSOR)
            continue
        image.marked = False
        segment.add(index, record_size)
        image.last_index = index
        if term != last_term or not known:
            terms.append((index, term))
            last_term = term
            known = True
        if time > image.last_time:
            image.last_time = time
        if kind == CONFIGURATION:
            image.configurations.append(decode_entry(record))


def truncate_image(image: LogImage, last: int) -> None:
    """Forget the entries above ``last``."""
    for segment in image.segments:
        segment.last_index = min(segment.last_index, last)
    while image.terms and image.terms[-1][0] > last:
        image.terms.pop()
    while image.configurations and image.configurations[-1].index > last:
        image.configurations.pop()
    image.last_index = last
