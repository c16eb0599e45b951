"""Term and vote: one file of small records, of which the last one counts.

A save appends a record and fsyncs. Records are 32 bytes, little endian, so none lies across two
sectors:

======  ====  =============================================================
offset  size  field
======  ====  =============================================================
0       4     CRC-32 of everything behind it
4       3     magic, ``vot``
7       1     format version, 1
8       8     sequence, one higher in each record
16      8     term, never going down
24      8     id of the node voted for in that term, 0 for nobody
======  ====  =============================================================

A bad record at the end is a save that was interrupted. A bad one before a good one is corruption.
When the file grows beyond a bound, and after an interrupted save, it is written anew aside.
"""

from __future__ import annotations

import os
import struct
from zlib import crc32

from finn.errors import CorruptLog, DataDirectoryError, DiskFailed
from finn.interfaces import IFile, IFiles
from finn.raft.ready import HardState
from finn.storage.segment import TEMPORARY, disk_failed

STATE_NAME = "state"
FORMAT_VERSION = 1

_MAGIC = b"vot"
_RECORD = struct.Struct("<I3sBQQQ")
_BODY = struct.Struct("<3sBQQQ")
_CRC = struct.Struct("<I")
RECORD_SIZE = _RECORD.size
assert RECORD_SIZE == 32

# 2048 elections.
MAX_SIZE = 64 * 1024


def encode_state(state: HardState, sequence: int) -> bytes:
    """Return the record of a save."""
    body = _BODY.pack(_MAGIC, FORMAT_VERSION, sequence, state.term, state.voted_for)
    return _CRC.pack(crc32(body)) + body


class StateFile:
    """The file; all methods block.

    Args:
        files: the file system.
        directory: where the file is.

    Attributes:
        path: of the file.
        state: as last saved.
        notice: what ``load`` dropped, empty when nothing.
    """

    def __init__(self, files: IFiles, directory: str) -> None:
        self.path = os.path.join(directory, STATE_NAME)
        self.state = HardState()
        self.notice = ""
        self._files = files
        self._directory = directory
        self._file: IFile | None = None
        self._size = 0
        self._sequence = 0
        self._broken = False

    def load(self) -> bool:
        """Read the file; changes nothing.

        Returns:
            False when there is none.

        Raises:
            CorruptLog: it is damaged.
            DataDirectoryError: it has an unknown format version.
        """
        if not self._files.exists(self.path):
            return False
        data = self._files.read(self.path)
        bad = -1
        for offset in range(0, len(data), RECORD_SIZE):
            state = self._decode(data[offset : offset + RECORD_SIZE])
            if state is None:
                bad = offset if bad < 0 else bad
            elif bad >= 0:
                raise CorruptLog(self.path, bad, "term and vote: the record is damaged")
            else:
                self.state = state
        if not self._sequence:
            # The first record is durable before the file has its name.
            raise CorruptLog(self.path, 0, "term and vote: there is no good record")
        if bad >= 0:
            self.notice = f"{self.path}: dropped an unfinished record of term and vote"
        self._size = len(data)
        return True

    def _decode(self, record: bytes) -> HardState | None:
        if len(record) < RECORD_SIZE:
            return None
        crc, magic, version, sequence, term, voted_for = _RECORD.unpack(record)
        if magic != _MAGIC or crc32(record[4:]) != crc:
            return None
        if version != FORMAT_VERSION:
            raise DataDirectoryError(
                f"{self.path} has format version {version}, this finn knows {FORMAT_VERSION} only"
            )
        if sequence <= self._sequence or term < self.state.term:
            return None
        self._sequence = sequence
        return HardState(term, voted_for)

    def renew(self) -> None:
        """Make what ``load`` found durable: the process that wrote it may not have got so far.

        It is written anew: that may have ended as its sync failed, and a sync of the same bytes
        says nothing then (fsyncgate). What precedes an unfinished record was durable before that
        was begun; the record stays until the next save, for a start that begins once more.
        """
        if not self.notice:
            self._write_anew(encode_state(self.state, self._sequence + 1))
            self._sequence += 1

    def save(self, state: HardState) -> None:
        """Write and fsync.

        Raises:
            DiskFailed: it did not work, now or before: others were asked for while the disk
                hung, and what follows a record that failed would make it corruption.
        """
        if self._broken:
            raise DiskFailed(f"{self.path}: an earlier save failed")
        try:
            record = encode_state(state, self._sequence + 1)
            if self._file is None or self._size >= MAX_SIZE or self.notice:
                self._write_anew(record)
            else:
                self._file.write(record)
                self._file.datasync()
                self._size += RECORD_SIZE
        except OSError as e:
            self._broken = True
            raise disk_failed("save term and vote in", self.path, e) from e
        self._sequence += 1
        self.state = state

    def _write_anew(self, record: bytes) -> None:
        self.close()
        temporary = self.path + TEMPORARY
        if self._files.exists(temporary):
            self._files.unlink(temporary)
        self._file = self._files.create(temporary)
        self._file.write(record)
        self._file.datasync()
        self._files.rename(temporary, self.path)
        self._files.sync_directory(self._directory)
        self._size = RECORD_SIZE
        self.notice = ""

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
