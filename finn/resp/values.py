"""Values that are replies of a kind of their own: simple strings, and the null of arrays.

Machines keep them, copy them and derive from them, so this module is not compiled.
"""

from __future__ import annotations

from typing import Any


class Simple:
    """A value that is sent as a simple string: ``finn.Simple("QUEUED")``.

    Args:
        text: what to send; CR and LF become spaces.
    """

    __slots__ = ("encoded", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.encoded = encode_simple(text)

    def __repr__(self) -> str:
        return f"Simple({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Simple) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A copy of OK is OK itself, by which it is known.
        return "OK" if self is OK else super().__reduce_ex__(protocol)


class NullArray:
    """What commands that answer an array return for none: RESP2 has a null of its own for it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NULL_ARRAY"

    def __reduce__(self) -> str:
        return "NULL_ARRAY"


def encode_simple(text: str) -> bytes:
    """Encode a simple string, on one line whatever the text holds."""
    return b"+%b\r\n" % one_line(text).encode("utf-8", "replace")


def one_line(text: str) -> str:
    """Replace every line break, so that a reply cannot be split in two."""
    if text.isprintable():
        return text
    return text.replace("\r\n", " ").replace("\r", " ").replace("\n", " ")


OK = Simple("OK")
NULL_ARRAY = NullArray()
