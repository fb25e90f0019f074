"""Which files LevelDB's MANIFEST says there must be, read without LevelDB, before it changes anything.

A MANIFEST that lost its end opens without complaint, drops the tables of the lost part and may write
over them (leveldb 2). It then names a log that is long gone: that is how it is found. The same for a log
with a successor: its lost end would be a hole that the newest row cannot show. Checksums are left to
LevelDB's paranoid open. Nothing here writes.
"""

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from perdure.journal.errors import StoreDamaged

_BLOCK_BYTES = 32768
_BATCH = struct.Struct("<QI")  # sequence of the first row, row count
_HEADER = struct.Struct("<IHB")  # masked checksum, length, kind
_FULL, _FIRST, _LAST = 1, 2, 4  # 3: a middle part
# tags of an edit
_COMPARATOR, _LOG, _NEXT_FILE, _SEQUENCE, _COMPACT_POINTER = 1, 2, 3, 4, 5
_DELETED, _ADDED, _OLD_LOG = 6, 7, 9


class Manifest(msgspec.Struct):
    """What all edits together say."""

    log_number: int = 0  # the oldest log that is still needed; it is never deleted
    tables: dict[int, int] = {}  # number and size


def check_files(db: Path) -> None:
    """Raise StoreDamaged, naming the file, where one that the database needs is not what it was."""
    path = _manifest_path(db)
    try:
        manifest = parse(path.read_bytes())
    except (IndexError, ValueError) as e:
        raise StoreDamaged(f"{path} cannot be read ({e}); {_RESTORE}") from e
    except OSError as e:
        raise StoreDamaged(f"{path} cannot be read ({e.strerror}); {_RESTORE}") from e
    if not manifest.log_number:
        raise StoreDamaged(f"{path} ends before it names a log; {_RESTORE}")
    log = db / f"{manifest.log_number:06d}.log"
    if not log.exists():
        raise StoreDamaged(
            f"{log} is missing, although {path.name} needs it: the one was removed, or the other "
            f"has lost its end; {_RESTORE}"
        )
    for number, size_bytes in manifest.tables.items():
        table = db / f"{number:06d}.ldb"
        try:
            found = table.stat().st_size
        except FileNotFoundError:
            raise StoreDamaged(f"{table} is missing; {_RESTORE}") from None
        if found != size_bytes:
            raise StoreDamaged(
                f"{table} has {found} bytes, {path.name} says {size_bytes}; {_RESTORE}"
            )
    _check_logs(db, manifest.log_number)


def _check_logs(db: Path, first: int) -> None:
    """Rows are numbered without holes, also from one log to the next."""
    logs = sorted(db.glob("*.log"))
    for older, newer in pairwise(
        log for log in logs if log.stem.isdigit() and int(log.stem) >= first
    ):
        begin = next(_batches(newer), None)
        if begin is None:
            continue
        end = None
        for sequence, count in _batches(older):
            end = sequence + count
        if end != begin[0]:
            raise StoreDamaged(
                f"{older} has lost its end: {newer.name} goes on with row {begin[0]}, expected "
                f"{'the first' if end is None else end}; {_RESTORE}"
            )


def _batches(log: Path) -> Iterator[tuple[int, int]]:
    """First sequence and row count of each batch."""
    for record in _records(log.read_bytes()):
        if len(record) < _BATCH.size:
            return  # LevelDB's to refuse
        yield _BATCH.unpack_from(record)


_RESTORE = "restore the directory from a backup. Nothing was touched."


def _manifest_path(db: Path) -> Path:
    current = db / "CURRENT"
    try:
        name = current.read_text()
    except (OSError, ValueError) as e:
        what = "is missing" if isinstance(e, FileNotFoundError) else f"cannot be read ({e})"
        raise StoreDamaged(f"{current} {what} although a store was created here; {_RESTORE}") from e
    if not (name.startswith("MANIFEST-") and name.endswith("\n") and "/" not in name):
        raise StoreDamaged(f"{current} names no MANIFEST but {name[:40]!r}; {_RESTORE}")
    return db / name[:-1]


def parse(content: bytes) -> Manifest:
    """Raises ValueError or IndexError for what is no list of edits; a record cut short ends it."""
    manifest = Manifest()
    for record in _records(content):
        _apply(manifest, record)
    return manifest


def _records(content: bytes) -> Iterator[bytes]:
    """The records up to the end, or up to what is cut short or no record."""
    at, parts = 0, bytearray()
    while at + _HEADER.size <= len(content):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER.size:
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(content, at)
        begin = at + _HEADER.size
        at = begin + length
        if at > len(content) or not _FULL <= kind <= _LAST:
            return
        if kind in (_FULL, _FIRST):
            parts.clear()
        parts += content[begin:at]
        if kind in (_FULL, _LAST):
            yield bytes(parts)


def _apply(manifest: Manifest, record: bytes) -> None:
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = record[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def skip_text() -> None:
        nonlocal at
        size = number()
        at += size
        if at > len(record):
            raise ValueError("an edit ends within a text")

    while at < len(record):
        tag = number()
        if tag == _COMPARATOR:
            skip_text()
        elif tag == _LOG:
            manifest.log_number = number()
        elif tag in (_NEXT_FILE, _SEQUENCE, _OLD_LOG):
            number()
        elif tag == _COMPACT_POINTER:
            number()
            skip_text()
        elif tag == _DELETED:
            number()
            manifest.tables.pop(number(), None)
        elif tag == _ADDED:
            number()
            table = number()
            manifest.tables[table] = number()
            skip_text()
            skip_text()
        else:
            raise ValueError(f"unknown tag {tag}")
