"""DATA/run: the lock of a running tree, the count of its starts, its sockets, Thespian's own log.

Nothing in it outlives the tree but the count, which makes epochs grow over restarts.
"""

import errno
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final

from perdure.journal.datadir import unusable
from perdure.journal.durable import replace_file
from perdure.journal.errors import StoreBusy

_LOCK_PATIENCE_S: Final = 3.0  # a tree whose watchdog was killed is gone after milliseconds
_LOCK_POLL_S: Final = 0.02
_COUNT_CHARS: Final = (
    12  # of the file; always as many, so that a full disk has room for the next one
)


class AlreadyRunning(StoreBusy):
    """Another tree serves this data directory."""


class RunDirectory:
    """Owned by one watchdog. All processes of the tree inherit the lock, so it is free when all are gone."""

    def __init__(self, data: str) -> None:
        """Raises AlreadyRunning, StoreError."""
        self._data = data
        self.path = Path(data, "run")
        self._made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self._lock = self._take_lock()
            self.remove_sockets()
        except OSError as error:
            raise unusable(Path(data), error) from error

    def _take_lock(self) -> int:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            fd = self._open_lock()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_the_lock(fd):
                    _note_owner(fd)
                    return fd
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._in_use(fd) from None
                time.sleep(_LOCK_POLL_S)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _open_lock(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.path.chmod(0o700)
        return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _is_the_lock(self, fd: int) -> bool:
        """False where its former owner has removed it after we had opened it."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path / "lock"))
        except FileNotFoundError:
            return False

    def _in_use(self, fd: int) -> AlreadyRunning:
        owner = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        return AlreadyRunning(
            f"the data directory {self._data} is in use by process {owner}, another `perdure up`; "
            "stop that process, or name another directory"
        )

    @property
    def log(self) -> Path:
        return self.path / "thespian.log"

    @property
    def sockets(self) -> str:
        """The directory of the sockets."""
        return str(self.path.absolute())

    def next_start(self) -> int:
        """How often the tree was started here, this start included. Raises StoreError."""
        path = self.path / "starts"
        try:
            count = int(path.read_text())
        except (FileNotFoundError, ValueError):
            count = 0
        content = f"{count + 1:0{_COUNT_CHARS}d}\n".encode()
        try:
            try:
                replace_file(path, content, sync_directory=False)
            except OSError as error:
                path.with_name(path.name + ".tmp").unlink(missing_ok=True)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
                    raise
                _overwrite(path, content)
        except OSError as error:
            raise unusable(Path(self._data), error) from error
        return count + 1

    def remove_sockets(self) -> None:
        for each in self.path.glob("*.sock"):
            each.unlink(missing_ok=True)

    def close(self) -> None:
        self.remove_sockets()
        os.close(self._lock)

    def discard(self) -> None:
        """``close`` after a start that was refused; removes what it made, where nobody put anything in.

        Call it when no process of the tree is left.
        """
        if self.path in self._made:
            shutil.rmtree(self.path, ignore_errors=True)
            for path in self._made[1:]:
                try:
                    path.rmdir()
                except OSError:
                    break  # somebody has put something there
        self.close()


def _note_owner(fd: int) -> None:
    """For whoever comes next. The lock holds without it."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _overwrite(path: Path, content: bytes) -> None:
    """In place: as many bytes as are there take no more room."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
