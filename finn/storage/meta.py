"""``meta.json`` of a snapshot."""

from __future__ import annotations

import json
from zlib import crc32

from finn.errors import DataDirectoryError, LogError, ProtocolError
from finn.interfaces import SnapshotMeta
from finn.raft.configuration import Configuration

META_NAME = "meta.json"
STATE_NAME = "state.bin"
FORMAT_VERSION = 1


def encode_meta(meta: SnapshotMeta) -> bytes:
    """Encode all but the id, which is the directory's name; one line, then its CRC-32."""
    fields = {
        "format": FORMAT_VERSION,
        "index": meta.index,
        "term": meta.term,
        "time": meta.time,
        "members": json.loads(meta.configuration.encode())["members"],
        "configuration_index": meta.configuration.index,
        "size": meta.size,
        "crc": format(meta.crc, "08x"),
        "machine": meta.machine,
        "version": meta.version,
    }
    line = json.dumps(fields, separators=(",", ":")).encode()
    return line + b"\n" + format(crc32(line), "08x").encode() + b"\n"


def decode_meta(data: bytes, name: str) -> SnapshotMeta:
    """Decode and check.

    Args:
        data: the file.
        name: the snapshot's id.

    Raises:
        LogError: it is damaged.
        DataDirectoryError: it has an unknown format version.
    """
    line, _, rest = data.partition(b"\n")
    try:
        if int(rest, 16) != crc32(line):
            raise LogError("the checksum of its meta.json is wrong")
        fields = json.loads(line)
        if fields["format"] != FORMAT_VERSION:
            raise DataDirectoryError(
                f"snapshot {name} has format version {fields['format']}, this finn knows "
                f"{FORMAT_VERSION} only"
            )
        members = json.dumps({"members": fields["members"]}).encode()
        meta = SnapshotMeta(
            index=fields["index"],
            term=fields["term"],
            time=fields["time"],
            configuration=Configuration.decode(members, fields["configuration_index"]),
            size=fields["size"],
            crc=int(fields["crc"], 16),
            machine=fields["machine"],
            version=fields["version"],
            id=name,
        )
    except (ValueError, TypeError, KeyError, ProtocolError) as e:
        raise LogError(f"its meta.json cannot be read ({e})") from e
    if name.split("-")[:2] != [str(meta.term), str(meta.index)]:
        raise LogError("its meta.json belongs to another snapshot")
    return meta
