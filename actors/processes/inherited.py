"""What every process of the tree has from the watchdog by fork: the plan, the watchdog's line, the log.

Set once in the watchdog before the first fork, read only everywhere else. So neither settings nor
secrets travel in messages.
"""

import logging
import os
import socket

import msgspec

from perdure.actors.processes.plan import Plan


class Inherited(msgspec.Struct, frozen=True):
    plan: Plan
    tree_start: int
    tree_restarts: int
    tree_error: str  # why the tree before this one ended
    is_ordered: bool  # the workers start in stages; not where callers wait for what was up before
    watchdog_pid: int
    sockets: str  # the directory of the sockets
    lines: tuple[int, int]  # descriptors of the line: the watchdog's end, the supervisor's end


_inherited: Inherited | None = None
supervisors_own: set[int] = set()  # descriptors that the supervisor's children close
_worker_end: socket.socket | None = None
_root_logger = logging.getLogger()
_manager = logging.Logger.manager


def leave(inherited: Inherited) -> None:
    """In the watchdog."""
    global _inherited, _root_logger, _manager
    _inherited, _root_logger, _manager = inherited, logging.getLogger(), logging.Logger.manager


def get() -> Inherited:
    assert _inherited is not None, "not a process of a tree"
    return _inherited


def supervisor_line() -> socket.socket:
    """In the supervisor."""
    watchdog_end, own = get().lines
    os.close(watchdog_end)
    line = socket.socket(fileno=own)
    line.setblocking(False)
    supervisors_own.add(own)
    return line


def new_worker_line() -> socket.socket:
    """In the supervisor, before it forks a worker; then ``close_worker_end``."""
    global _worker_end
    own, _worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own.setblocking(False)
    supervisors_own.add(own.fileno())
    return own


def close_worker_end() -> None:
    assert _worker_end is not None
    _worker_end.close()


def worker_line() -> socket.socket:
    """In a worker."""
    assert _worker_end is not None
    _worker_end.setblocking(False)
    return _worker_end


def close_supervisors() -> None:
    """In a worker: whoever holds an end of a line keeps it from closing."""
    while supervisors_own:
        os.close(supervisors_own.pop())


def restore_logging() -> None:
    """Thespian sends records to its logger process; ours go where the watchdog's go."""
    logging.root = _root_logger  # type: ignore[assignment]
    logging.Logger.root = _root_logger  # type: ignore[assignment]
    logging.Logger.manager = _manager
    logging.disable(logging.NOTSET)  # it was disabled around the fork of the Admin
