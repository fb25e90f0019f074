"""The watchdog: the root of the tree, a plain process with one thread that starts it anew when it breaks.

It watches Thespian's Admin and the supervisor by their descriptors, and waits for every process below
it. When it is killed, the kernel kills the Admin, and so on down the tree: nobody is left.
"""

import contextlib
import gc
import importlib
import logging
import os
import secrets
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from thespian.actors import ActorSystem, ActorSystemException

from perdure.actors.processes import hygiene, inherited, messages, wire
from perdure.actors.processes.lookout import TreeFailed, children, looking_out
from perdure.actors.processes.plan import Plan, soon
from perdure.actors.processes.run_directory import RunDirectory
from perdure.actors.processes.supervisor import BEGIN, Supervisor
from perdure.actors.processes.worker import StartRefused, StoreRefused
from perdure.journal.errors import PerdureError

log = logging.getLogger("perdure.watchdog")

FIRST_BACKOFF_S: Final = 0.1
LONGEST_BACKOFF_S: Final = 10.0
FIRST_PATIENCE_S: Final = 3.0  # for the supervisor's first sign of life
LONGEST_PATIENCE_S: Final = 24.0
STEADY_S: Final = 1.0  # a tree that had entirely started so long ago starts anew without delay
_SILENCE_S: Final = (
    3.0  # the supervisor beats every heartbeat interval; it does nothing that takes long
)
_STOP_MARGIN_S: Final = 2.0
_GONE_PATIENCE_S: Final = 5.0
_LOOK_S: Final = 0.1
_MOST_AFTER_UP: Final = 5
_FIRST_TRIES: Final = 3  # of the first tree, until somebody else has to look at it


class _Ended(msgspec.Struct, frozen=True):
    """Why a tree is over. ``reason`` "": because we were asked to stop."""

    reason: str


class Failures:
    """Trees that ended in a row, and how long to wait for that."""

    def __init__(self) -> None:
        self.count = 0
        self._unstarted_count = 0  # the last ones, which had not even started

    def note(self, up_for_s: float | None) -> None:
        """``up_for_s``: since the tree had entirely started, None where it had not."""
        if up_for_s is None:
            self._unstarted_count += 1
            self.count += 1
            return
        self._unstarted_count = 0
        # whoever ends it from outside, however often, shall find it back within about a second
        self.count = 1 if up_for_s > STEADY_S else min(self.count + 1, _MOST_AFTER_UP)

    @property
    def backoff_s(self) -> float:
        """Before the next start; the first time at once."""
        if self.count <= 1:
            return 0.0
        return min(FIRST_BACKOFF_S * 2.0 ** min(self.count - 2, 30), LONGEST_BACKOFF_S)

    @property
    def patience_s(self) -> float:
        """For the next start: where the last ones failed, perhaps this machine is that slow.

        A supervisor that is killed before anybody has seen it gives no other sign.
        """
        return min(FIRST_PATIENCE_S * 2.0 ** min(self._unstarted_count, 30), LONGEST_PATIENCE_S)


class Watchdog:
    """Runs one tree after the other until a signal. Call from the main thread of a process of its own."""

    def __init__(self, data: str, on_up: Callable[[messages.Up], None] | None = None) -> None:
        """Raises AlreadyRunning, StoreError. ``on_up``: called each time the whole tree has started."""
        self._plan: Plan
        self._on_up = on_up
        self._run = RunDirectory(data)
        self._stopping = False
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._was_up = False  # any tree
        self._up_since_s: float | None = None  # the present one, or the last

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """No process is left. A start that was refused leaves nothing of its own in the data directory."""
        is_refused = kind is not None and issubclass(kind, PerdureError)
        if is_refused:
            self._run.discard()
        else:
            self._run.close()

    def run(self, plan: Plan) -> None:
        """Within ``with``. Returns after SIGTERM or SIGINT and a drain.

        Raises StartRefused, TreeFailed or StoreError where the first start can't be.
        """
        self._plan = plan
        hygiene.become_subreaper()
        hygiene.stay_on_loopback()
        hygiene.log_to(self._run.log)
        hygiene.tie_to(os.getpid())
        gc.disable()  # imports leave no garbage; to look for it took a tenth of a start
        for module in self._plan.preload:
            importlib.import_module(module)
        gc.enable()
        gc.freeze()  # what all share is never looked at again, so that its pages stay shared
        error, restarts, failures = "", 0, Failures()
        with self._signals():
            while True:
                ended = self._one_tree(restarts, error, failures.patience_s)
                if not ended.reason:
                    return
                up_since_s = self._up_since_s
                failures.note(None if up_since_s is None else time.monotonic() - up_since_s)
                if not self._was_up and failures.count >= _FIRST_TRIES:
                    raise TreeFailed(ended.reason)
                error, restarts = ended.reason, restarts + 1
                log.error("%s; everything is started again %s", error, soon(failures.backoff_s))
                if self._pause(failures.backoff_s):
                    return

    # ---- one tree

    def _one_tree(self, restarts: int, error: str, limit_s: float) -> _Ended:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire.install(secrets.token_bytes(wire.KEY_BYTES))
        inherited.leave(
            inherited.Inherited(
                plan=self._plan,
                tree_start=self._run.next_start(),
                tree_restarts=restarts,
                tree_error=error,
                is_ordered=not self._was_up,
                watchdog_pid=os.getpid(),
                sockets=self._run.sockets,
                lines=(ours.fileno(), theirs.fileno()),
            )
        )
        self._up_since_s = None
        tree = _Tree(ours)
        try:
            try:
                tree.start(limit_s)
            except TreeFailed as failure:
                return _Ended(str(failure))
            finally:
                theirs.close()
            return self._watch(tree)
        finally:
            tree.kill()
            ours.close()

    def _watch(self, tree: "_Tree") -> _Ended:
        """Until the tree has broken, or has drained after a signal."""
        poll = select.poll()
        for fd in (*tree.fds, tree.line.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        drain_until = 0.0
        while True:
            ready = {fd for fd, _ in poll.poll(_LOOK_S * 1000)}
            _reap()
            if self._wake in ready:
                self._swallow()
            if self._stopping and not drain_until:
                drain_until = time.monotonic() + self._drain_limit_s()
                tree.line.send(messages.STOP)
            if tree.line.fileno() in ready:
                ended = self._hear(tree)
                if ended is not None:
                    return ended
            broken = tree.broken(ready)
            if drain_until and (broken or time.monotonic() > drain_until):
                log.warning(
                    "not all processes stopped in order: %s", broken or "they took too long"
                )
                return _Ended("")
            if broken:
                return _Ended(broken)

    def _hear(self, tree: "_Tree") -> _Ended | None:
        data = tree.line.recv(messages.LIMIT_BYTES)
        if not data:
            return None  # its descriptor tells
        tree.heard_at_s = time.monotonic()
        match messages.decode_for_watchdog(data):
            case messages.Up() as up:
                if self._was_up:
                    log.warning("everything is up again")
                self._was_up, self._up_since_s = True, time.monotonic()
                if self._on_up is not None:
                    self._on_up(up)
            case messages.Refused(reason, is_of_store):
                if not self._was_up:
                    raise (StoreRefused if is_of_store else StartRefused)(reason)
                return _Ended(reason)
            case messages.Escalated(reason):
                return _Ended(reason)
            case messages.Drained():
                return _Ended("")
            case messages.Beat():
                return None
        return None

    def _drain_limit_s(self) -> float:
        stages = {each.stage for each in self._plan.workers}
        return self._plan.strategy.stop_timeout_s * len(stages) + _STOP_MARGIN_S

    # ---- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_signum: int, _frame: object) -> None:
            self._stopping = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        # A handler, so that the end of a child writes to the pipe, too.
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        woken = signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _swallow(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def _pause(self, seconds: float) -> bool:
        """Returns early with True when we were asked to stop."""
        end = time.monotonic() + seconds
        while not self._stopping and (left_s := end - time.monotonic()) > 0:
            select.select([self._wake], [], [], left_s)
            self._swallow()
            _reap()
        return self._stopping


class _Tree:
    """The processes of one start, from the outside."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.heard_at_s = 0.0
        self._pids: dict[str, int] = {}
        self._fds: dict[int, str] = {}
        self._stopped: set[int] = set()
        self._looked_at_s = 0.0

    @property
    def fds(self) -> list[int]:
        return list(self._fds)

    def start(self, limit_s: float) -> None:
        """Raises TreeFailed, also where it takes longer than ``limit_s``."""
        capabilities = {"Admin Port": hygiene.free_port()}
        self.line.settimeout(limit_s)
        try:
            with looking_out(limit_s):
                logging.disable(logging.INFO)  # Thespian greets, on the root logger
                try:
                    system = ActorSystem(
                        "multiprocTCPBase",
                        capabilities,
                        logDefs=hygiene.log_definitions(),
                        transientUnique=True,
                    )
                finally:
                    logging.disable(logging.NOTSET)
                self._system = system  # its port is bound in all forks; it must not become free
                system.tell(system.createActor(Supervisor), BEGIN)
                beat = messages.decode_for_watchdog(self.line.recv(messages.LIMIT_BYTES))
            assert isinstance(beat, messages.Beat)
            self._pids = {"the Admin": beat.admin_pid, "the supervisor": beat.supervisor_pid}
            for name, pid in self._pids.items():
                self._fds[os.pidfd_open(pid)] = name
        except (ActorSystemException, OSError) as error:
            raise TreeFailed(f"the supervisor did not start: {error!r}") from error
        self.heard_at_s = self._looked_at_s = time.monotonic()

    def broken(self, ready: set[int]) -> str:
        """What has broken, "" for nothing."""
        for fd in ready & set(self._fds):
            return f"{self._fds[fd]} died"
        now = time.monotonic()
        if now - self._looked_at_s < _LOOK_S:
            return ""
        paused_s, self._looked_at_s = now - self._looked_at_s, now
        if paused_s > _SILENCE_S / 2:  # it was us who stood still
            self.heard_at_s = now
        if stopped := self._stopped_twice():
            return f"{stopped} was stopped by a signal"
        if now - self.heard_at_s > _SILENCE_S:
            return "the supervisor gave no sign of life"
        return ""

    def _stopped_twice(self) -> str:
        """Who was found stopped at two looks, "" for nobody. A logger is killed: the Admin makes another."""
        looked_at = children(self._pids["the Admin"]) | set(self._pids.values())
        stopped = {pid for pid in looked_at if hygiene.process_state(pid) == "T"}
        twice, self._stopped = stopped & self._stopped, stopped
        for name, pid in self._pids.items():
            if pid in twice:
                return name
        for pid in twice:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return ""

    def kill(self) -> None:
        """Kill all that is left, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._pids:
                os.killpg(os.getpgid(self._pids["the Admin"]), signal.SIGKILL)
        for pid in children(os.getpid()):  # whoever left the group, or had lost its Admin
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for fd in self._fds:
            os.close(fd)
        deadline = time.monotonic() + _GONE_PATIENCE_S
        while _reap() and time.monotonic() < deadline:
            time.sleep(0.002)
            for pid in children(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _reap() -> bool:
    """Wait for all that have ended; whether there are others left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return False
    return True
