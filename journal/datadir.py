"""The files around the database: whose directory it is, its lock, its format, how far it had come.

Nothing here knows the engine's own files except that they are in ``db/``. Each refusal leaves the
directory as it was. Rules: docs/journal-format.md, "The data directory and the log"; leveldb 0, 7.1.
"""

import errno
import fcntl
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from perdure.journal.durable import replace_file, sync_path
from perdure.journal.errors import StoreBusy, StoreDamaged, StoreError, StoreFormat
from perdure.journal.ids import SLOT_COUNT
from perdure.journal.layout import PARTITIONS, check_current, is_partition
from perdure.journal.store import Tail

FORMAT_VERSION = 1
ENGINE = "leveldb"
SLOT_HASH = "xxh3-64"

_LOCK, _FORMAT, _EPOCH, _MARK = "owner.lock", "FORMAT", "EPOCH", "HIGHWATER"
_RESERVE, _CREATING, _PROBE = "reserve", "CREATING", "fsync-probe"
_NOT_OURS = {"lost+found", "run", "code"}  # may be there before the store is
_TRIES = 7  # syncs measured at open; the first ones warm up the file
_PROBE_BYTES = 300  # a small commit

T = TypeVar("T")


class Format(msgspec.Struct, frozen=True):
    """What the directory is; fixed when it is created."""

    store: str  # 32 hex digits, also inside the database
    format: int = FORMAT_VERSION
    engine: str = ENGINE
    slots: int = SLOT_COUNT
    hash: str = SLOT_HASH


class Mark(msgspec.Struct, frozen=True):
    """A position that the log has reached."""

    pos: int
    epoch: int
    id: str  # 32 hex digits


class Epoch(msgspec.Struct, frozen=True):
    epoch: int


class DataDirectory:
    """One data directory, locked from ``lock`` to ``unlock``. Not thread-safe but for ``note``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.db = self.path / "db"
        self._kept, self._refused = self.path / "db.kept", self.path / "db.refused"
        self._lock_fd: int | None = None

    # ---- what it is ----------------------------------------------------------------------------

    def find_format(self) -> Format | None:
        """What FORMAT says, or None where a store may be created. Raises StoreFormat."""
        check_current(self.path)
        try:
            names = set(os.listdir(self.path)) - _NOT_OURS
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise StoreFormat(
                f"expected a data directory at {self.path}, found a file; name another directory"
            ) from None
        except OSError as e:
            raise unusable(self.path, e) from e
        if PARTITIONS in names:
            raise StoreFormat(
                f"expected one store at {self.path}, found {PARTITIONS}: the stores are in directories "
                "below it. Nothing was touched. Name one of those, or start `perdure up`."
            )
        if _FORMAT in names:
            return self._read_format()
        if _CREATING in names or names <= {_LOCK, _CREATING + ".tmp"}:
            return None
        found = ", ".join(sorted(names)[:5])
        raise StoreFormat(
            f"expected an empty directory or a Perdure store at {self.path}, found no {_FORMAT} file "
            f"but: {found}. Nothing was touched. Name another directory, or put {_FORMAT} back."
        )

    def _read_format(self) -> Format:
        path = self.path / _FORMAT
        try:
            version = msgspec.json.decode(path.read_bytes(), type=dict[str, object]).get("format")
        except (OSError, ValueError, msgspec.MsgspecError) as e:
            raise StoreFormat(f"{path} cannot be read ({e}); restore it from a backup") from e
        if not isinstance(version, int) or version < 1:
            raise StoreFormat(f"{path} names no format version; restore it from a backup")
        if version > FORMAT_VERSION:
            raise StoreFormat(
                f"{path} says format {version}, this release reads up to {FORMAT_VERSION}; "
                "start the newer release that wrote it. Nothing was touched."
            )
        format = self._read(_FORMAT, Format)
        expected = (ENGINE, SLOT_COUNT, SLOT_HASH)
        if (found := (format.engine, format.slots, format.hash)) != expected:
            raise StoreFormat(f"{path}: expected engine, slots, hash {expected}, found {found}")
        return format

    # ---- the lock --------------------------------------------------------------------------------

    def lock(self) -> None:
        """Become the owner, making the directory where needed. Raises StoreBusy, StoreError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise unusable(self.path, e) from e
        self._take(fd)
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except OSError as e:
            if e.errno != errno.ENOSPC:  # the id only helps people; a full disk is dealt with later
                self.unlock()
                raise unusable(self.path, e) from e

    def lock_for_reading(self) -> None:
        """Keep owners out without changing anything. Raises StoreBusy, StoreError."""
        try:
            fd = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # a copy that no process has opened yet
        except OSError as e:
            raise unusable(self.path, e) from e
        self._take(fd)

    def _take(self, fd: int) -> None:
        # flock belongs to the open file: unlike LevelDB's own lock, no other close() can drop it.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            owner = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            stop = "stop its server" if is_partition(self.path) else "stop that process"
            raise StoreBusy(
                f"the data directory {self.path} is in use by process {owner}; "
                f"{stop}, or name another directory"
            ) from e
        self._lock_fd = fd

    def unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    # ---- creation --------------------------------------------------------------------------------

    def begin_creation(self) -> None:
        """From here to ``end_creation`` a crash leaves a directory that is started over."""
        self.path.chmod(0o700)
        replace_file(self.path / _CREATING, b"")
        if self.db.exists():
            shutil.rmtree(self.db)
        self.db.mkdir(mode=0o700)

    def end_creation(self, format: Format) -> None:
        replace_file(self.path / _FORMAT, msgspec.json.encode(format))
        self.clear_leftovers()

    def clear_leftovers(self) -> None:
        """Finish what a crash interrupted at the end of ``end_creation`` or ``put_files_back``."""
        (self.path / _CREATING).unlink(missing_ok=True)
        if not self.db.exists() and self._kept.exists():
            self._kept.rename(self.db)

    def remove(self) -> None:
        """Delete the store, FORMAT first, so that a crash leaves nothing that would be opened.

        Whatever else is in the directory stays, and so does the lock.
        """
        (self.path / _FORMAT).unlink(missing_ok=True)
        sync_path(self.path)
        for name in (_EPOCH, _MARK, _RESERVE, _CREATING, _PROBE):
            (self.path / name).unlink(missing_ok=True)
            (self.path / (name + ".tmp")).unlink(missing_ok=True)
        for directory in (self.db, self._kept, self._refused):
            if directory.exists():
                shutil.rmtree(directory)

    # ---- while the engine looks ------------------------------------------------------------------

    def keep_files(self) -> None:
        """Second names for the database's files: opening turns the log into a table and deletes it.

        LevelDB does not change a file of an earlier opening that its MANIFEST knows, so that these
        names keep what there was.
        """
        self.drop_kept()
        self._kept.mkdir(mode=0o700)
        try:
            for file in os.listdir(self.db):
                if file not in ("LOCK", "LOG", "LOG.old"):
                    os.link(self.db / file, self._kept / file)
        except OSError as e:
            self.drop_kept()
            if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise  # but a file system without hard links goes without

    def put_files_back(self) -> None:
        """Make the database what it was at ``keep_files``. It must be closed."""
        if self._kept.exists():
            shutil.rmtree(self._refused, ignore_errors=True)
            self.db.rename(self._refused)
            self._kept.rename(self.db)
            shutil.rmtree(self._refused)

    def drop_kept(self) -> None:
        shutil.rmtree(self._kept, ignore_errors=True)

    # ---- how far it had come ---------------------------------------------------------------------

    def read_epoch(self) -> int:
        return self._read(_EPOCH, Epoch).epoch

    def write_epoch(self, epoch: int) -> None:
        replace_file(self.path / _EPOCH, msgspec.json.encode(Epoch(epoch)))

    def read_mark(self) -> Mark:
        return self._read(_MARK, Mark)

    def note(self, tail: Tail) -> None:
        """Move the high-water mark to ``tail``, which is durable. A crash may keep the old mark."""
        mark = Mark(tail.pos, tail.epoch, tail.id.hex())
        replace_file(self.path / _MARK, msgspec.json.encode(mark), sync_directory=False)

    def _read(self, name: str, type: type[T]) -> T:
        path = self.path / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=type)
        except FileNotFoundError:
            raise StoreDamaged(
                f"{path} is missing; restore it, or the whole directory, from a backup"
            ) from None
        except (OSError, ValueError, msgspec.MsgspecError) as e:
            raise StoreDamaged(f"{path} cannot be read ({e}); restore it from a backup") from e

    # ---- space and speed -------------------------------------------------------------------------

    def free_bytes(self) -> int:
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def holds_reserve(self, size_bytes: int) -> bool:
        """Whether ``reserve`` is there in full."""
        try:
            return (self.path / _RESERVE).stat().st_size == size_bytes
        except FileNotFoundError:
            return size_bytes == 0

    def set_aside(self, size_bytes: int) -> bool:
        """Make ``reserve``; False where the disk has no room for it."""
        path = self.path / _RESERVE
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if size_bytes:
                os.posix_fallocate(fd, 0, size_bytes)
        except OSError as e:
            path.unlink()
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        finally:
            os.close(fd)
        return True

    def release_reserve(self) -> bool:
        """Give the reserve back to the file system; whether there was one."""
        try:
            (self.path / _RESERVE).unlink()
        except FileNotFoundError:
            return False
        return True

    def measure_fsync_us(self) -> float:
        """Median microseconds of syncing a small append here."""
        path = self.path / _PROBE
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        times = []
        try:
            for _ in range(_TRIES):
                os.write(fd, bytes(_PROBE_BYTES))
                begin = time.perf_counter_ns()
                os.fdatasync(fd)
                times.append((time.perf_counter_ns() - begin) / 1000)
        finally:
            os.close(fd)
            path.unlink()
        return statistics.median(times)


def unusable(path: Path, e: OSError) -> StoreError:
    """The system does not let us use the data directory."""
    return StoreError(
        f"the data directory {path} cannot be used: {e.strerror}. "
        "Expected a directory that this user may write; change its owner, or name another one."
    )
