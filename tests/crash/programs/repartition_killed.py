"""Repartitions a data directory and kills itself before step N: `repartition_killed.py DATA COUNT N`."""

import os
import signal
import sys
from pathlib import Path

from perdure.journal.repartitioning import Watcher, repartition


class Killer(Watcher):
    """Counts the steps and the times that rows were counted."""

    def __init__(self, at: int) -> None:
        self._left = at

    def step(self, name: str, path: Path, total_rows: int | None = None) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


if __name__ == "__main__":
    repartition(sys.argv[1], int(sys.argv[2]), watcher=Killer(int(sys.argv[3])))
