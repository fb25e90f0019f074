"""The processes below a server: who they are, and whether they have ended. By what Linux tells in /proc."""

import os
import select
import time
from pathlib import Path

ROLES = ("watchdog", "Admin", "supervisor", "logger", "gateway", "partition")

_GONE_S = 20.0


def descendants(pid: int) -> list[int]:
    """All processes below one, in no order."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        try:
            children = Path(f"/proc/{waiting[0]}/task/{waiting[0]}/children").read_text()
        except OSError:  # it ended meanwhile
            children = ""
        waiting = [*waiting[1:], *map(int, children.split())]
        found += map(int, children.split())
    return found


def role_of(pid: int, watchdog_pid: int) -> str:
    """One of ROLES; a fork on its way to one counts as logger. Raises OSError where it has ended."""
    if pid == watchdog_pid:
        return "watchdog"
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    if name.startswith(("gateway-", "partition-")):
        return name.partition("-")[0]
    if name == "perdure-super":
        return "supervisor"
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    return "Admin" if parent == watchdog_pid else "logger"


def open_pidfds(pids: list[int]) -> list[int]:
    fds = []
    for pid in pids:
        try:
            fds.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    return fds


def all_gone(pidfds: list[int]) -> bool:
    """Whether all of them end within the time; closes them."""
    deadline, left = time.monotonic() + _GONE_S, set(pidfds)
    while left and (rest := deadline - time.monotonic()) > 0:
        left -= set(select.select(left, [], [], rest)[0])
    for fd in pidfds:
        os.close(fd)
    return not left
