"""DATA/run: the lock of a running tree, the count of its starts, its sockets, Thespian's own log.

Nothing in it outlives the tree but the count, which makes epochs grow over restarts.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from perdure.journal.errors import StoreError

_LOCK_PATIENCE_S: Final = 3.0  # a tree whose watchdog was killed is gone after milliseconds
_LOCK_POLL_S: Final = 0.02


class AlreadyRunning(StoreError):
    """Another tree serves this data directory."""


class RunDirectory:
    """Owned by one watchdog. All processes of the tree inherit the lock, so it is free when all are gone."""

    def __init__(self, data: str) -> None:
        """Raises AlreadyRunning, OSError."""
        self.path = Path(data, "run")
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._take_lock(data)
        self.remove_sockets()

    def _take_lock(self, data: str) -> None:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(_LOCK_POLL_S)
                    continue
                os.close(self._lock)
                raise AlreadyRunning(
                    f"another `perdure up` serves {data}; stop it first, or choose another --data"
                ) from None
            return

    @property
    def log(self) -> Path:
        return self.path / "thespian.log"

    @property
    def sockets(self) -> str:
        """The directory of the sockets."""
        return str(self.path.absolute())

    def next_start(self) -> int:
        """How often the tree was started here, this start included."""
        path = self.path / "starts"
        try:
            count = int(path.read_text())
        except (FileNotFoundError, ValueError):
            count = 0
        new = path.with_suffix(".new")
        with new.open("w") as file:
            file.write(f"{count + 1}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        return count + 1

    def remove_sockets(self) -> None:
        for each in self.path.glob("*.sock"):
            each.unlink(missing_ok=True)

    def close(self) -> None:
        self.remove_sockets()
        os.close(self._lock)
