"""What keeps a tree of processes clean on Linux: nobody outlives its parent, nobody listens to the network.

Thespian 4.0.1 lets children outlive parents, dies with its logger, and binds all interfaces; each of
these is set right here, by few and small changes to its classes. Source: spec/thespian.md 5 and 6.1.
"""

import contextlib
import ctypes
import logging
import os
import random
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from thespian.system import multiprocCommon
from thespian.system.transport import IPBase

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
LOOPBACK: Final = "127.0.0.1"
_FIRST_USER_PORT: Final = 1024
_PORT_TRIES: Final = 100
CRASHED: Final = 70  # exit code of a process that ends on an error that nobody handled

_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


_forker_pid = 0  # in a child: who forked it


def _remember_forker() -> None:
    global _forker_pid
    _forker_pid = os.getpid()


os.register_at_fork(before=_remember_forker)


def die_with_parent(parent_pid: int = 0) -> None:
    """The kernel kills this process when its parent dies: the one that forked it, where no other is given."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != (parent_pid or _forker_pid):  # it died before, and nobody would end us
        os.kill(os.getpid(), signal.SIGKILL)


def become_subreaper() -> None:
    """Orphans below this process become its children, so that it can wait for all of them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` show, 15 bytes of it."""
    Path("/proc/self/comm").write_bytes(name.encode()[:15])


def process_state(pid: int) -> str:
    """One letter as in proc(5), such as R, S, T (stopped), Z (ended, not waited for); "" for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    return process_state(pid) not in ("", "Z", "X")


def free_port() -> int:
    """A port that nobody listens on, and that the kernel gives to no other socket until it is bound."""
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    below = range(_FIRST_USER_PORT, int(first))
    for port in random.sample(below, min(len(below), _PORT_TRIES)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        given: int = probe.getsockname()[1]
    return given


def crash(error: BaseException) -> NoReturn:
    """End this process at once; its parent decides what follows."""
    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(CRASHED)


def crash_on_error(handler: Callable[..., _T]) -> Callable[..., _T]:
    """For ``receiveMessage``: Thespian would call it again with the same message, then drop that."""

    @wraps(handler)
    def handle(*args: Any) -> _T:
        try:
            return handler(*args)
        except BaseException as error:
            crash(error)

    return handle


# ---- Thespian -----------------------------------------------------------------------------------


def stay_on_loopback() -> None:
    """In every process that takes part, before its transport is made."""
    os.environ["THESPIAN_BASE_IPADDR"] = LOOPBACK
    IPBase.IPActorAddress.bindArgs = property(lambda address: ((LOOPBACK, address.bindname[1]),))


def log_to(path: Path) -> None:
    """Where Thespian writes about itself, in place of one file for all systems of this machine."""
    os.environ["THESPLOG_FILE"] = str(path)  # it keeps 50 kB, and as much before


class _Admin(multiprocCommon.MultiProcAdmin):  # type: ignore[misc]
    """The Admin, tied to the watchdog that reaps it."""

    def __init__(self, *args: Any) -> None:
        _be_adopted()
        die_with_parent(_watchdog_pid)
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(signum, signal.SIG_DFL)
        super().__init__(*args)

    @property
    def logDefs(self) -> Any:
        return self.logdefs

    def childDied(self) -> Any:
        """Ends with a child that ended before it had connected: whoever waits for that one would not
        hear of it for 50 s, and the watchdog starts all anew."""
        for child in getattr(self, "_child_procs", ()):
            if not hasattr(child, "childRealAddr") and not child.childProc.is_alive():
                os.kill(os.getpid(), signal.SIGKILL)
        return super().childDied()


def _be_adopted() -> None:
    """Until the process between the watchdog and this one, which only forks, has ended."""
    try:
        between = os.pidfd_open(os.getppid())
    except ProcessLookupError:
        return
    if os.getppid() == _watchdog_pid:
        os.close(between)
        return
    poll = select.poll()
    poll.register(between, select.POLLIN)
    poll.poll()
    os.close(between)


_watchdog_pid = 0


def tie_to(watchdog_pid: int) -> None:
    """Every Admin that is started from now on ends with this process."""
    global _watchdog_pid
    _watchdog_pid = watchdog_pid
    multiprocCommon.MultiProcAdmin = _Admin


def _log_handler() -> logging.Handler:
    """Made inside Thespian's logger process, which is tied to the Admin in this way."""
    die_with_parent()
    return logging.StreamHandler()


def log_definitions() -> dict[str, Any]:
    """For ``ActorSystem(logDefs=...)``."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"()": _log_handler}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
    }
