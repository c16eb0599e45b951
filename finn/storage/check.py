"""Reading a data directory without changing anything in it: what is there, and the first fault."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from zlib import crc32

from finn.errors import FinnError, LogError
from finn.interfaces import IFiles, SnapshotMeta
from finn.options import Backend
from finn.storage.factory import PLACES
from finn.storage.identity import LOCK_NAME, Identity
from finn.storage.meta import META_NAME, STATE_NAME, decode_meta
from finn.storage.recovery import LogImage, load_segments
from finn.storage.snapshots import BAD, CHECK_BYTES, SNAPSHOTS_NAME, snapshot_order
from finn.storage.statefile import StateFile

FAULT = "first fault: "


def check_directory(files: IFiles, directory: str) -> list[str]:
    """Describe a data directory.

    Returns:
        Lines; the last one begins with ``FAULT`` when something is wrong.
    """
    lines, faults = _look(files, directory)
    if faults and _in_use(files, os.path.join(directory, LOCK_NAME)):
        # The node may have changed a file between two reads of it.
        lines, faults = _look(files, directory)
    return lines + faults[:1]


def _look(files: IFiles, directory: str) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    faults: list[str] = []
    for part in (_identity, _logs, _snapshots):
        try:
            for line in part(files, directory):
                (faults if line.startswith(FAULT) else lines).append(line)
        except FinnError as e:
            faults.append(f"{FAULT}{e}")
        except OSError as e:
            faults.append(f"{FAULT}cannot read {e.filename or directory}: {e.strerror or e}")
    return lines, faults


def _identity(files: IFiles, directory: str) -> Iterator[str]:
    if _in_use(files, os.path.join(directory, LOCK_NAME)):
        yield "in use by a running process: the end of the log may be on its way"
    identity = Identity.load(files, directory)
    if identity is None:
        yield "no node.json: no node has been started here"
        return
    for backend, name in PLACES.items():
        path = os.path.join(directory, name)
        if identity.joined and identity.backend == backend.value and not files.exists(path):
            yield f"{FAULT}{path} is missing"
    yield (
        f"node {identity.node_id:016x}, cluster {identity.cluster_id:016x}, "
        f"address {identity.address or '-'}"
    )
    yield (
        f"backend {identity.backend}, durability {identity.level or '-'}, last stop "
        f"{'clean' if identity.clean else 'not clean'}"
        f"{', amnesic' if identity.amnesic else ''}{', removed' if identity.removed else ''}"
    )


def _in_use(files: IFiles, path: str) -> bool:
    if not files.exists(path):
        # Asking would create it.
        return False
    try:
        release = files.lock(path)
    except OSError:
        # Who may only read the directory cannot ask.
        return False
    if release is None:
        return True
    release()
    return False


def _logs(files: IFiles, directory: str) -> Iterator[str]:
    for backend, name in PLACES.items():
        path = os.path.join(directory, name)
        if not files.exists(path):
            continue
        if backend is Backend.FASTLOG:
            yield from _fastlog(files, directory, path)
        else:
            yield f"{backend.value}:"
            yield from import_module(f"finn.storage.{backend.value}").check_report(directory)


def _fastlog(files: IFiles, directory: str, path: str) -> Iterator[str]:
    state_file = StateFile(files, path)
    try:
        if state_file.load():
            state = state_file.state
            yield f"term {state.term}, vote {state.voted_for:016x}"
        else:
            yield f"{FAULT}{state_file.path} is missing"
    except LogError as e:
        # The log is read nevertheless.
        yield f"{FAULT}{e}"
    image = load_segments(files, path)
    yield from _describe(image)
    if state_file.state.term and not image.segments:
        yield f"{FAULT}the log is missing"
    for notice in (state_file.notice, image.notice):
        if notice:
            yield f"{FAULT}{notice.replace('dropped', 'a start will drop')}"
    yield from _gap(files, directory, image)
    yield from _lost(files, directory, image)


def _describe(image: LogImage) -> Iterator[str]:
    for segment in image.segments:
        entries = "no entries"
        if segment.last_index > segment.base_index:
            entries = f"entries {segment.base_index + 1} to {segment.last_index}"
        yield f"segment {segment.path}: {entries}, {segment.end} bytes"
    for path in image.void:
        yield f"segment {path}: void, a start will remove it"
    if not image.segments:
        yield "log: no segments"
        return
    first = image.segments[0].base_index + 1
    term = image.term_at(image.last_index)
    yield (
        f"log: entries {first} to {image.last_index}, term {term} at the end, "
        f"{len(image.configurations)} configurations"
        if image.last_index >= first
        else f"log: empty behind entry {first - 1}"
    )


def _gap(files: IFiles, directory: str, image: LogImage) -> Iterator[str]:
    if not image.segments:
        return
    reached = max((meta.index for meta in _metas(files, directory)), default=0)
    base = image.segments[0].base_index
    if base > reached:
        yield f"{FAULT}the log begins behind entry {base}, no snapshot reaches so far"


def _lost(files: IFiles, directory: str, image: LogImage) -> Iterator[str]:
    identity = Identity.load(files, directory)
    if identity is None:
        if image.last_index > 1:  # a founding that was cut short leaves one entry
            yield f"{FAULT}this is data of a member, but node.json is missing"
    else:
        lost = identity.lost_since(image.last_index, image.term_at(image.last_index))
        if lost:
            yield f"{FAULT}{lost}"


def _metas(files: IFiles, directory: str) -> list[SnapshotMeta]:
    """The snapshots whose description can be read."""
    path = os.path.join(directory, SNAPSHOTS_NAME)
    metas = []
    for name in files.listdir(path) if files.exists(path) else []:
        if "." not in name:
            try:
                metas.append(decode_meta(files.read(os.path.join(path, name, META_NAME)), name))
            except (LogError, OSError):
                pass
    return sorted(metas, key=snapshot_order)


def _snapshots(files: IFiles, directory: str) -> Iterator[str]:
    path = os.path.join(directory, SNAPSHOTS_NAME)
    if not files.exists(path):
        return
    metas = _metas(files, directory)
    known = {meta.id for meta in metas}
    for name in files.listdir(path):
        if name.endswith(BAD):
            yield f"snapshot {name}: was set aside as damaged"
        elif "." not in name and name not in known:
            yield f"{FAULT}snapshot {name}: its meta.json is missing or damaged"
    for meta in metas:
        wrong = _wrong_with(files, os.path.join(path, meta.id, STATE_NAME), meta)
        yield (
            f"snapshot {meta.id}: up to entry {meta.index}, term {meta.term}, {meta.size} bytes, "
            f"machine {meta.machine or '-'} version {meta.version}, {wrong or 'checksum good'}"
        )
        if wrong:
            yield f"{FAULT}snapshot {meta.id}: {wrong}"


def _wrong_with(files: IFiles, path: str, meta: SnapshotMeta) -> str:
    try:
        file = files.open_readonly(path)
    except FileNotFoundError:
        return "its state is missing"
    try:
        size = file.size()
        if size != meta.size:
            return f"it has {size} bytes instead of {meta.size}"
        crc = 0
        for offset in range(0, size, CHECK_BYTES):
            crc = crc32(file.pread(CHECK_BYTES, offset), crc)
        return "" if crc == meta.crc else "its checksum is wrong"
    finally:
        file.close()
