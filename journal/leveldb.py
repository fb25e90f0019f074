"""The store on LevelDB: one directory, one owner, one writer thread, fail-stop. Alone imports plyvel.

What a row means is not known here. Every call below that looks odd has its reason in leveldb.md §0:
LevelDB acknowledges writes after a failed one, and plyvel crashes when closed under a call.
Files and checks at open: docs/journal-format.md, "The data directory and the log".
"""

import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import plyvel

from perdure.journal.datadir import DataDirectory, Format, Mark
from perdure.journal.errors import (
    AppendBusy,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFailed,
)
from perdure.journal.histogram import LATENCY_S, Histogram
from perdure.journal.manifest import check_files
from perdure.journal.store import (
    EMBEDDED_GROUP_BYTES,
    EMBEDDED_VALUE_BYTES,
    EMPTY,
    Group,
    Row,
    Tail,
    check_follows,
    check_writes,
    open_group,
    outcome,
    tail_of,
)
from perdure.journal.writer import Writer

_APPLIED, _IDENTITY = b"\x00applied", b"\x00store"
_MARKER = struct.Struct(">QQ16s")  # pos, epoch, id
_PART_BYTES = 1 << 20  # of rows that are read one after the other


class LevelDBOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of one store. Two write buffers, the cache and the open tables are its memory."""

    write_buffer_bytes: int = 16 << 20  # bounds recovery to about 0.25 s
    max_file_bytes: int = 8 << 20
    cache_bytes: int = 32 << 20
    bloom_bits: int = 10
    max_open_files: int = 500
    reserve_bytes: int = 48 << 20  # three write buffers: what opening on a full disk takes; 0: none
    mark_interval_s: float = 1.0  # how old the high-water mark may become


class LevelDBStore:
    """A ``journal.store.Store`` in one directory. Made by ``open_store``."""

    max_group_bytes = EMBEDDED_GROUP_BYTES

    def __init__(
        self,
        directory: DataDirectory,
        db: Any,
        tail: Tail,
        fsync_us: float,
        on_failed: Callable[[BaseException], None] | None,
        options: LevelDBOptions,
    ) -> None:
        self.path = directory.path
        self.fsync_us = fsync_us
        self.sync_s = Histogram(LATENCY_S)  # of each group's write with its sync, seconds
        self._directory, self._db, self._options = directory, db, options
        self._on_failed = on_failed
        self._sync = True
        self._pid = os.getpid()
        self._current = _inode(directory.db)
        self._gate = threading.Lock()
        self._idle = threading.Condition(self._gate)
        self._calls = 0  # inside the database now; it may be freed only at zero
        self._refusal: str | None = None  # why no call is let in any more
        self._failed = False
        self._writer = Writer(tail, options.mark_interval_s, self._write, self._note, self._end)

    # ---- the interface -------------------------------------------------------------------------

    @property
    def tail(self) -> Tail:
        return self._writer.tail

    async def append(self, group: Group, after: Tail) -> Tail:
        if self._refusal is not None:
            raise StoreFailed(self._refusal)
        writer = self._writer
        if writer.in_flight:
            raise AppendBusy("an append is in flight; send the group again when it has ended")
        if os.getpid() != self._pid:
            raise StoreFailed("the store was opened before a fork; open it in the child process")
        check_follows(group, after, writer.tail)
        return await writer.append(group)

    async def settle(self, group: Group, after: Tail) -> Tail | None:
        if self._refusal is not None:
            raise StoreFailed(self._refusal)
        return outcome(group, after, await self._writer.flush())

    def get(self, key: bytes) -> bytes | None:
        self._enter()
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
            return value
        except plyvel.Error as e:
            raise self._unreadable(e) from e
        finally:
            self._leave()

    def scan(self, start: bytes, stop: bytes, limit: int | None = None) -> list[Row]:
        rows: list[Row] = []
        self._enter()
        try:
            # Not iterator(): that one takes a damaged block for the end of the data.
            cursor = self._db.raw_iterator(verify_checksums=True)
            try:
                cursor.seek(start)
                while cursor.valid() and (limit is None or len(rows) < limit):
                    key = cursor.key()
                    if key >= stop:
                        break
                    rows.append((key, cursor.value()))
                    cursor.next()
            finally:
                cursor.close()
        except plyvel.Error as e:
            raise self._unreadable(e) from e
        finally:
            self._leave()
        return rows

    def rows(self, start: bytes, stop: bytes) -> Iterator[Row]:
        """As ``scan``, read about a megabyte at a time; nothing is held in between."""
        while True:
            part: list[Row] = []
            size = 0
            self._enter()
            try:
                for row in iter_rows(self._db, start):
                    if row[0] >= stop:
                        break
                    part.append(row)
                    size += len(row[0]) + len(row[1])
                    if size >= _PART_BYTES:
                        break
            except StoreDamaged as e:
                self._fail(e)
                raise
            finally:
                self._leave()
            yield from part
            if size < _PART_BYTES:
                return
            start = part[-1][0] + b"\x00"

    def approximate_bytes(self) -> int:
        """The sizes of LevelDB's files, obsolete ones that are not yet deleted included."""
        size = 0
        for entry in os.scandir(self._directory.db):
            with suppress(FileNotFoundError):  # a compaction has just deleted it
                size += entry.stat().st_size
        return size

    async def close(self) -> None:
        with self._gate:
            self._refusal = self._refusal or f"the store {self.path} is closed; open it again"
        await self._writer.close()

    # ---- health --------------------------------------------------------------------------------

    def check_files(self) -> None:
        """Raise StoreDamaged, for good, where the files are no longer those that were opened."""
        if (found := _inode(self._directory.db)) != self._current:
            what = "is gone" if found is None else "was replaced"
            error = StoreDamaged(
                f"{self._directory.db / 'CURRENT'} {what} under the running store: what is written "
                "now would be lost. Stop, put the data directory back, and start again."
            )
            self._fail(error)
            raise error

    def has_room(self) -> bool:
        """Whether new work may be taken: two write buffers are free, beside the reserve.

        Sets the reserve aside again where it was used up. Cheap enough to ask once a second.
        """
        try:
            return _has_room(self._directory, self._options)
        except OSError as e:
            raise self._fail(e) from e

    # ---- calls in flight -----------------------------------------------------------------------

    def _enter(self) -> None:
        with self._gate:
            if self._refusal is not None:
                raise StoreFailed(self._refusal)
            self._calls += 1

    def _leave(self) -> None:
        with self._gate:
            self._calls -= 1
            if self._calls == 0 and self._refusal is not None:
                self._idle.notify_all()

    def _fail(self, cause: BaseException) -> StoreFailed:
        """Nothing is acknowledged from here on. ``on_failed`` hears of the first cause, once."""
        what = "free some space" if _is_full(cause) else "see to the disk"
        message = f"the store {self.path} has failed ({_text(cause)}): {what}, then open it again"
        with self._gate:
            first, self._failed = not self._failed, True
            self._refusal = self._refusal or message
        if first and self._on_failed is not None:
            self._on_failed(cause)
        return StoreFailed(message)

    def _unreadable(self, e: BaseException) -> StoreError:
        if not isinstance(e, plyvel.CorruptionError):
            return self._fail(e)
        self._fail(e)
        return StoreDamaged(
            f"a row in {self._directory.db} cannot be read: {_text(e)}. The disk, or whoever wrote "
            "to it, has damaged a table: stop, and restore the directory from a backup."
        )

    # ---- on the writer's thread ----------------------------------------------------------------

    def _write(self, group: Group) -> None:
        if self._failed:
            raise StoreFailed(self._refusal)
        batch = self._batch(group)
        begin_s = perf_counter()
        try:
            batch.write()
        except BaseException as e:
            self._fail(e)
            raise StoreFailed(
                f"writing position {group.pos} to {self.path} failed ({_text(e)}): whether it was "
                "written is unknown; open the store again to find out"
            ) from e
        self.sync_s.add(perf_counter() - begin_s)

    def _batch(self, group: Group) -> Any:
        """The group as one synced batch, with the applied marker. Nothing is written yet."""
        check_writes(group.writes, EMBEDDED_GROUP_BYTES, EMBEDDED_VALUE_BYTES)
        batch = self._db.write_batch(sync=self._sync)
        put, delete = batch.put, batch.delete
        for key, value in group.writes:
            if value is None:
                delete(key)
            else:
                put(key, value)
        put(_APPLIED, _MARKER.pack(group.pos, group.epoch, group.id))
        return batch

    def _note(self, tail: Tail) -> None:
        if self._failed:
            return
        try:
            self.check_files()
            self._directory.note(tail)
        except StoreDamaged:
            return  # the store has failed by now, and whoever opened it was told
        except BaseException as e:
            self._fail(e)

    def _end(self) -> None:
        with self._gate:
            self._idle.wait_for(lambda: self._calls == 0)
        self._db.close()
        self._directory.unlock()


# ---- opening ------------------------------------------------------------------------------------


def open_store(
    path: str | os.PathLike[str],
    *,
    new_id: Callable[[], bytes],
    on_failed: Callable[[BaseException], None] | None = None,
    options: LevelDBOptions | None = None,
) -> LevelDBStore:
    """Open the store at ``path``, or create it there, and begin a new epoch. Blocks.

    ``new_id`` gives 16 random bytes. ``on_failed`` is called once, on any thread, with what made
    the store fail; it must not raise. Open after forking, never before. Raises StoreFormat (not
    ours, or newer), StoreBusy (has an owner), StoreDamaged (not what was committed), StoreError
    (no access, no space); after any of them the files are as they were.
    """
    options = options or LevelDBOptions()
    directory = DataDirectory(path)
    directory.find_format()  # before the lock, so that a foreign directory is left untouched
    directory.lock()
    try:
        try:
            return _open(directory, new_id, on_failed, options)
        except (OSError, plyvel.Error) as e:
            if not (_is_full(e) and directory.release_reserve()):
                raise
        return _open(directory, new_id, on_failed, options)
    except BaseException as e:
        directory.unlock()
        if isinstance(e, (OSError, plyvel.Error)):
            raise _refusal(directory, e) from e
        raise


def _open(
    directory: DataDirectory,
    new_id: Callable[[], bytes],
    on_failed: Callable[[BaseException], None] | None,
    options: LevelDBOptions,
) -> LevelDBStore:
    found = directory.find_format()  # again, now that nobody else can change it
    if found is None:
        directory.begin_creation()
        format, epoch, mark = Format(new_id().hex()), 0, None
    else:
        directory.clear_leftovers()
        format, epoch, mark = found, directory.read_epoch(), directory.read_mark()
        check_files(directory.db)
        directory.keep_files()
    fsync_us = directory.measure_fsync_us()
    try:
        db = connect(directory, options, create=found is None)
        try:
            tail = EMPTY if mark is None else read_tail(db, directory, format, mark)
            tail = _begin_epoch(db, directory, format, max(epoch, tail.epoch) + 1, tail, new_id)
            directory.drop_kept()
            if found is None:
                directory.end_creation(format)
            _has_room(directory, options)  # sets the reserve aside
        except BaseException:
            db.close()
            raise
    except StoreDamaged:
        directory.put_files_back()
        raise
    return LevelDBStore(directory, db, tail, fsync_us, on_failed, options)


def _begin_epoch(
    db: Any,
    directory: DataDirectory,
    format: Format,
    epoch: int,
    tail: Tail,
    new_id: Callable[[], bytes],
) -> Tail:
    directory.write_epoch(epoch)
    record = open_group(tail, epoch, new_id())
    batch = db.write_batch(sync=True)
    batch.put(_IDENTITY, bytes.fromhex(format.store))
    batch.put(_APPLIED, _MARKER.pack(record.pos, record.epoch, record.id))
    try:
        batch.write()
    except plyvel.CorruptionError as e:  # found by a compaction that opening has set off
        raise _refusal(directory, e) from e
    directory.note(tail_of(record))
    return tail_of(record)


def _has_room(directory: DataDirectory, options: LevelDBOptions) -> bool:
    margin = 2 * options.write_buffer_bytes
    free = directory.free_bytes()
    if directory.holds_reserve(options.reserve_bytes):
        return free >= margin
    if free < options.reserve_bytes + margin:
        return False
    return directory.set_aside(options.reserve_bytes)


def connect(
    directory: DataDirectory, options: LevelDBOptions, *, create: bool, path: Path | None = None
) -> Any:
    """The opened database, ``path`` standing in for the directory's own. Raises StoreError, or
    what ``_is_full`` knows as a full disk."""
    try:
        return plyvel.DB(
            str(path or directory.db),
            create_if_missing=create,
            error_if_exists=create,
            paranoid_checks=True,
            write_buffer_size=options.write_buffer_bytes,
            max_file_size=options.max_file_bytes,
            lru_cache_size=options.cache_bytes,
            bloom_filter_bits=options.bloom_bits,
            max_open_files=options.max_open_files,
        )
    except plyvel.Error as e:
        if _is_full(e):
            raise OSError(errno.ENOSPC, _text(e)) from e
        raise _refusal(directory, e) from e


def read_tail(db: Any, directory: DataDirectory, format: Format, mark: Mark) -> Tail:
    """The applied marker, checked against what is known from outside. Raises StoreDamaged."""
    try:
        identity: bytes | None = db.get(_IDENTITY, verify_checksums=True)
        marker: bytes | None = db.get(_APPLIED, verify_checksums=True)
    except plyvel.Error as e:
        raise _refusal(directory, e) from e
    if identity is None or marker is None or len(marker) != _MARKER.size:
        raise StoreDamaged(
            f"{directory.db} has lost its first rows, yet position {mark.pos} had been committed; "
            "restore the directory from a backup"
        )
    if identity.hex() != format.store:
        raise StoreDamaged(
            f"{directory.db} belongs to store {identity.hex()}, but {directory.path} is store "
            f"{format.store}; put back the db directory that belongs here"
        )
    tail = Tail(*_MARKER.unpack(marker))
    if tail.pos < mark.pos or (tail.pos == mark.pos and tail.id.hex() != mark.id):
        raise StoreDamaged(
            f"{directory.db} ends at position {tail.pos} (group {tail.id.hex()}), but position "
            f"{mark.pos} (group {mark.id}) had been committed: rows are missing, or an older copy "
            "was put in its place. Restore the directory from a backup."
        )
    return tail


def _refusal(directory: DataDirectory, e: BaseException) -> StoreError:
    """The error of an open that the engine or the disk refused."""
    text = _text(e)
    if _is_full(e):
        return StoreError(
            f"the disk that holds {directory.path} is full; free some space and start again. "
            "What was committed is safe."
        )
    if "/LOCK" in text and (os.strerror(errno.EAGAIN) in text or "already held" in text):
        return StoreBusy(
            f"the database {directory.db} is open in another program ({text}); stop it"
        )
    gone = os.strerror(errno.ENOENT) in text
    if isinstance(e, plyvel.Error) and (gone or not isinstance(e, plyvel.IOError)):
        return StoreDamaged(
            f"the database {directory.db} cannot be opened: {text}. Keep a copy, "
            "and restore the directory from a backup."
        )
    return StoreError(f"the data directory {directory.path} cannot be used: {text}")


def iter_rows(db: Any, start: bytes) -> Iterator[Row]:
    """Every row from ``start`` on, verified. Raises StoreDamaged at the first unreadable one."""
    cursor = db.raw_iterator(verify_checksums=True, fill_cache=False)
    try:
        cursor.seek(start)
        while cursor.valid():
            yield cursor.item()
            cursor.next()
    except plyvel.Error as e:
        raise StoreDamaged(f"a table cannot be read: {_text(e)}") from e
    finally:
        cursor.close()


def _text(e: BaseException) -> str:
    """What an error says; plyvel's arguments are bytes."""
    if e.args and isinstance(e.args[0], bytes):
        return e.args[0].decode(errors="replace")
    return str(e) or type(e).__name__


def _is_full(e: BaseException) -> bool:
    if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    full = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
    return isinstance(e, plyvel.Error) and any(reason in _text(e) for reason in full)


def _inode(db: Path) -> int | None:
    try:
        return (db / "CURRENT").stat().st_ino
    except FileNotFoundError:
        return None
