"""Frames of a link out of its bytes: RESP arrays of bulk strings and nothing else.

Not by hiredis, as clients' commands are: a frame has few bulk strings, some of them large, so the
parsing costs little next to checksums; the declared lengths are known and bounded before anything
is kept for them; and a large record is copied once.
"""

from __future__ import annotations

from collections.abc import Mapping

OPENING = 16  # bytes
LARGE = 64 * 1024  # bytes of a bulk string that is joined of its pieces, and not cut out of them
_HEADER = 12  # longest "*N CR LF" or "$N CR LF"


class FrameReader:
    """Cuts frames out of a stream.

    Args:
        max_bytes: of one frame.
        max_parts: bulk strings of one frame.
        openings: frames that come often, by their first ``OPENING`` bytes, which end behind the
            header of their second bulk string: their first one, how many are missing, and the
            length of the second.

    Attributes:
        error: what broke the framing; frames before it were returned, nothing after it is read.
    """

    __slots__ = (
        "error",
        "_openings",
        "_max_bytes",
        "_max_parts",
        "_pieces",
        "_size",
        "_needed",
        "_parts",
        "_missing",
        "_bulk",
        "_total",
        "_after",
    )

    def __init__(
        self,
        max_bytes: int,
        max_parts: int,
        openings: Mapping[bytes, tuple[bytes, int, int]] | None = None,
    ) -> None:
        self.error: str | None = None
        self._openings = openings or {}
        self._max_bytes = max_bytes
        self._max_parts = max_parts
        self._pieces: list[bytes] = []  # not parsed yet
        self._size = 0  # of the pieces
        self._needed = 1  # bytes without which nothing new can be parsed
        self._parts: list[bytes] = []
        self._missing = 0  # bulk strings of the frame to come, 0 between frames
        self._bulk = -1  # length of the bulk string that comes next, -1 before its header
        self._total = 0  # bytes of the frame so far, headers not counted
        self._after = 0  # where the header ends that was read last

    @property
    def begun(self) -> bytes:
        """The first bulk string of the frame that is not complete yet; empty before it came."""
        return self._parts[0] if self._missing and self._parts else b""

    def feed(self, data: bytes, most: int = 0) -> list[list[bytes]]:
        """Take bytes and return the frames complete now; ``most`` of them, if given."""
        frames: list[list[bytes]] = []
        if self._pieces:
            self._pieces.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return []
            if self._bulk >= LARGE and self._size - self._bulk <= len(data):
                data = self._large_bulk()
                if self._missing == 0:
                    frames.append(self._parts)
            else:
                data = b"".join(self._pieces)
            self._pieces.clear()
        position = 0
        size = len(data)
        while position < size and self.error is None and not (most and len(frames) == most):
            if not self._missing:
                opening = self._openings.get(data[position : position + OPENING])
                if opening is not None:
                    kind, self._missing, self._bulk = opening
                    self._parts = [kind]
                    self._total = self._bulk
                    position += OPENING
                else:
                    count = self._number(data, position, 0x2A)
                    if count < 0:
                        break
                    if not 0 < count <= self._max_parts:
                        self.error = "a frame with a wrong number of parts"
                        break
                    position = self._after
                    self._missing = count
                    self._parts = []
                    self._total = 0
            position = self._bulks(data, position)
            if self._missing:
                break
            frames.append(self._parts)
        if position < size:
            self._pieces.append(data[position:] if position else data)
        self._size = size - position
        return frames

    def take_rest(self) -> bytes:
        """Return and forget what was received behind the frames returned."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return rest

    def _large_bulk(self) -> bytes:
        """Take the bulk string that ends in the last piece; returns what is behind it."""
        pieces = self._pieces
        last = pieces.pop()
        end = len(last) - (self._size - self._bulk)
        if last[end : end + 2] == b"\r\n":
            self._parts.append(b"".join([*pieces, memoryview(last)[:end]]))
            self._missing -= 1
        else:
            self.error = "a bulk string without its end"
        self._bulk = -1
        return last[end + 2 :]

    def _bulks(self, data: bytes, position: int) -> int:
        """Read the bulk strings that are there; returns where the rest begins."""
        parts = self._parts
        size = len(data)
        bulk = self._bulk
        missing = self._missing
        while missing:
            if bulk < 0:
                bulk = self._number(data, position, 0x24)
                if bulk < 0:
                    break
                position = self._after
                self._total += bulk
                if self._total > self._max_bytes:
                    self.error = "a frame that is too large"
                    break
            end = position + bulk
            if end + 2 > size:
                self._needed = end + 2 - position
                break
            if data[end : end + 2] != b"\r\n":
                self.error = "a bulk string without its end"
                break
            parts.append(data[position:end])
            position = end + 2
            bulk = -1
            missing -= 1
        self._bulk = bulk
        self._missing = missing
        return position

    def _number(self, data: bytes, position: int, sign: int) -> int:
        """Read ``sign digits CR LF`` and set ``_after``; -1 when it is incomplete or none."""
        end = data.find(b"\r\n", position, position + _HEADER)
        if end > position:
            digits = data[position + 1 : end]
            if data[position] == sign and digits.isdigit():
                self._after = end + 2
                return int(digits)
            self.error = "bytes that are no frame"
            return -1
        here = data[position : position + _HEADER]
        digits = here[1:].removesuffix(b"\r")
        if here and (len(here) == _HEADER or here[0] != sign or (digits and not digits.isdigit())):
            self.error = "bytes that are no frame"
        self._needed = len(here) + 1
        return -1
