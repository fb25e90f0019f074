"""A look at the rows of a store that nobody has open, from a copy; the store itself is not changed.

LevelDB has no read-only mode: opening deletes files and writes new ones (leveldb 1.3), hence the copy.
Damage is reported, not raised. Nothing here repairs anything.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from perdure.journal.datadir import DataDirectory, Format, Mark
from perdure.journal.errors import StoreDamaged, StoreError, StoreFormat
from perdure.journal.leveldb import LevelDBOptions, connect, iter_rows, read_tail
from perdure.journal.manifest import check_files
from perdure.journal.store import FIRST_TAG, Row, Tail

MAX_ROW_PROBLEMS = 100  # the rest is counted
_SPARE_BYTES = 64 << 20  # what opening the copy may write

CheckRow = Callable[[bytes, bytes], str | None]


class TableCount(msgspec.Struct):
    """The rows whose keys begin with one tag."""

    rows: int = 0
    key_bytes: int = 0
    value_bytes: int = 0


class Inspection(msgspec.Struct):
    """What was found. ``problems``: sentences; none means that the store is sound."""

    path: str
    format: Format
    file_bytes: int
    epoch: int | None = None
    mark: Mark | None = None
    tail: Tail | None = None
    tables: dict[int, TableCount] = {}  # by the first byte of the key
    problems: list[str] = []


def inspect(path: str | os.PathLike[str], check_row: CheckRow | None = None) -> Inspection:
    """Read every row of the store at ``path``. ``check_row``: what is wrong with a row, or None.

    Raises StoreBusy while the store has an owner, StoreFormat where there is none or a newer one,
    StoreError where it cannot be read or copied.
    """
    directory, format = _find(path)
    directory.lock_for_reading()
    try:
        size = _size_bytes(directory.db)
        report = Inspection(str(directory.path), format, size)
        try:
            report.epoch = directory.read_epoch()
        except StoreDamaged as e:
            report.problems.append(str(e))
        try:
            report.mark = directory.read_mark()
        except StoreDamaged as e:
            report.problems.append(str(e))
        try:
            check_files(directory.db)
            with tempfile.TemporaryDirectory(prefix="perdure-inspect-") as copy:
                _copy(directory.db, Path(copy), size)
                _read(report, directory, Path(copy), check_row)
        except StoreDamaged as e:
            report.problems.append(str(e))
        return report
    finally:
        directory.unlock()


class Copy:
    """The rows of a copy, until it is closed. ``journal.store.Rows``."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def get(self, key: bytes) -> bytes | None:
        for found, value in iter_rows(self._db, key):
            return value if found == key else None
        return None

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> list[Row]:
        rows: list[Row] = []
        for row in iter_rows(self._db, start):
            if row[0] >= stop or len(rows) == limit:
                break
            rows.append(row)
        return rows


@contextmanager
def read_copy(path: str | os.PathLike[str]) -> Iterator[Copy]:
    """A copy of the store at ``path``, which keeps owners out until the block ends. Raises as ``inspect``,
    and StoreDamaged."""
    directory, _ = _find(path)
    directory.lock_for_reading()
    try:
        check_files(directory.db)
        with tempfile.TemporaryDirectory(prefix="perdure-inspect-") as copy:
            _copy(directory.db, Path(copy), _size_bytes(directory.db))
            db = connect(directory, LevelDBOptions(), create=False, path=Path(copy))
            try:
                yield Copy(db)
            finally:
                db.close()
    finally:
        directory.unlock()


def _find(path: str | os.PathLike[str]) -> tuple[DataDirectory, Format]:
    directory = DataDirectory(path)
    format = directory.find_format()
    if format is None:
        raise StoreFormat(
            f"expected a data directory at {directory.path}, found none; check the path"
        )
    return directory, format


def _size_bytes(db: Path) -> int:
    return sum(file.stat().st_size for file in db.iterdir()) if db.is_dir() else 0


def _copy(db: Path, copy: Path, size_bytes: int) -> None:
    try:
        if shutil.disk_usage(copy).free < size_bytes + _SPARE_BYTES:
            raise StoreError(
                f"{copy} has no room for a copy of {db} ({size_bytes} bytes); set TMPDIR to a "
                "directory that has"
            )
        for file in db.iterdir():
            if file.is_file() and file.name != "LOCK":  # closing LOCK would drop an owner's lock
                shutil.copyfile(file, copy / file.name)
    except OSError as e:
        raise StoreError(f"{db} cannot be copied for inspection: {e}") from e


def _read(
    report: Inspection, directory: DataDirectory, copy: Path, check_row: CheckRow | None
) -> None:
    db = connect(directory, LevelDBOptions(), create=False, path=copy)
    try:
        if report.mark is not None:
            report.tail = read_tail(db, directory, report.format, report.mark)
    except StoreDamaged as e:
        report.problems.append(str(e))
    try:
        _count(report, db, check_row)
    finally:
        db.close()


def _count(report: Inspection, db: Any, check_row: CheckRow | None) -> None:
    wrong = 0
    for key, value in iter_rows(db, bytes([FIRST_TAG])):
        table = report.tables.setdefault(key[0], TableCount())
        table.rows += 1
        table.key_bytes += len(key)
        table.value_bytes += len(value)
        if check_row is not None and (problem := check_row(key, value)) is not None:
            wrong += 1
            if wrong <= MAX_ROW_PROBLEMS:
                report.problems.append(f"row {key.hex()}: {problem}")
    if wrong > MAX_ROW_PROBLEMS:
        report.problems.append(f"and {wrong - MAX_ROW_PROBLEMS} more rows with a problem")
