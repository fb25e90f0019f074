"""The supervisor: the one process that forks. It carries out what supervision.py decides.

It holds no store, no thread, and no socket but Thespian's and the watchdog's line, so that nothing is
inherited by workers. An error of its own ends it; the watchdog then starts the tree anew.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from thespian.actors import (
    Actor,
    ActorExitRequest,
    ActorSystemMessage,
    ThespianWatch,
    WakeupMessage,
)

from perdure.actors.processes import hygiene, inherited, messages, supervision
from perdure.actors.processes.broadcasts import Broadcasts
from perdure.actors.processes.status import ProcessTree
from perdure.actors.processes.worker import WorkerActor

log = logging.getLogger("perdure.supervisor")

BEGIN: Final = b"begin"
_LONGEST_REASON: Final = 1_000  # characters; a message has a limit


class _Process:
    """One process of a worker. The descriptor of the process outlives it: no signal hits a stranger."""

    def __init__(self, process: Any, line: socket.socket, path: str) -> None:
        self.pid: int = process.pid
        self.fd = os.pidfd_open(self.pid)
        inherited.supervisors_own.add(self.fd)
        self.line = line
        self.socket = path
        self.is_pinged = False
        self.info: dict[str, str] = {}
        self._process = process

    def send(self, message: messages.ToWorker) -> None:
        try:
            self.line.send(messages.encode(message))
        except BlockingIOError:
            self.kill()  # it has not read for long
        except OSError:
            return  # it has ended, as its descriptor tells

    def receive(self) -> Iterator[messages.ToSupervisor]:
        with contextlib.suppress(OSError):  # nothing there, or it has ended
            while data := self.line.recv(messages.LIMIT_BYTES):
                yield messages.decode_for_supervisor(data)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def forget(self) -> None:
        inherited.supervisors_own -= {self.fd, self.line.fileno()}
        os.close(self.fd)
        self.line.close()
        Path(self.socket).unlink(missing_ok=True)

    def how_it_ended(self) -> str:
        code = self._process.exitcode
        if code is None:
            return "ended"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return "crashed" if code == hygiene.CRASHED else f"ended with exit code {code}"


class Supervisor(Actor):  # type: ignore[misc]
    """Created by the watchdog; BEGIN starts it."""

    def __init__(self) -> None:
        hygiene.die_with_parent()
        hygiene.name_process("perdure-super")
        inherited.restore_logging()
        self._given = inherited.get()
        self._line: socket.socket = inherited.supervisor_line()
        self._processes: dict[str, _Process] = {}
        self._supervision = supervision.Supervision(
            self._given.plan, self._given.tree_start, is_ordered=self._given.is_ordered
        )
        self._interval = timedelta(seconds=self._given.plan.strategy.heartbeat_interval_s)
        self._broadcasts = Broadcasts()

    @hygiene.crash_on_error
    def receiveMessage(self, message: Any, sender: Any) -> ThespianWatch:
        if isinstance(message, WakeupMessage):
            self._tick()
        elif message == BEGIN:
            self._tell_watchdog(messages.Beat(os.getpid(), os.getppid()))
            self._carry_out(self._supervision.begin(time.monotonic()))
            self.wakeupAfter(self._interval)
        elif isinstance(message, ActorExitRequest):
            self._carry_out(self._supervision.stop(time.monotonic()))
        else:
            assert isinstance(message, ActorSystemMessage)
        self._hear_workers()
        self._see_who_ended()
        self._hear_watchdog()
        fds = [fd for each in self._processes.values() for fd in (each.fd, each.line.fileno())]
        return ThespianWatch([self._line.fileno(), *fds])  # it lasts until the next message

    # ---- what comes in

    def _hear_workers(self) -> None:
        for process in tuple(self._processes.values()):
            for message in process.receive():
                self._from_worker(message)

    def _from_worker(self, message: messages.ToSupervisor) -> None:
        now = time.monotonic()
        child = self._supervision.children.get(message.name)
        process = self._processes.get(message.name)
        if child is None or process is None or child.epoch != message.epoch:
            return  # of an earlier process
        match message:
            case messages.Ready():
                process.info = message.info
                self._carry_out(self._supervision.ready(message.name, message.epoch, now))
            case messages.Failed():
                self._carry_out(
                    self._supervision.failed(
                        message.name,
                        message.epoch,
                        message.reason,
                        message.is_refused,
                        message.is_of_store,
                    )
                )
            case messages.Pong():
                process.is_pinged = False
                self._supervision.heard(message.name, message.epoch, now)
            case messages.AskTree():
                self._send(message.name, messages.TreeAnswer(message.id, self._tree()))
            case messages.Broadcast():
                self._broadcast(message)
            case messages.Heard():
                origin = (message.sender, message.sender_epoch, message.id)
                self._finish(self._broadcasts.heard(origin, message.name))

    def _tick(self) -> None:
        self._tell_watchdog(messages.Beat(os.getpid(), os.getppid()))
        stopped = frozenset(
            name for name, each in self._processes.items() if hygiene.process_state(each.pid) == "T"
        )
        self._carry_out(self._supervision.tick(time.monotonic(), stopped))
        for name in self._supervision.names(supervision.UP):
            process = self._processes[name]
            if not process.is_pinged:  # one on its way is enough
                process.is_pinged = True
                self._send(name, messages.Ping())
        self.wakeupAfter(self._interval)

    def _see_who_ended(self) -> None:
        while self._processes:
            poll = select.poll()
            by_fd = {each.fd: name for name, each in self._processes.items()}
            for fd in by_fd:
                poll.register(fd, select.POLLIN)
            ended = poll.poll(0)
            if not ended:
                return
            for fd, _ in ended:
                name = by_fd[fd]
                process = self._processes.pop(name)
                process.forget()
                self._finish(self._broadcasts.gone(name))
                acts = self._supervision.exited(name, process.how_it_ended(), time.monotonic())
                self._carry_out(acts)

    def _hear_watchdog(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._line.recv(len(messages.STOP)) == messages.STOP:
                self._carry_out(self._supervision.stop(time.monotonic()))

    # ---- what goes out

    def _carry_out(self, acts: list[supervision.Act]) -> None:
        for act in acts:
            match act:
                case supervision.Spawn(name, epoch):
                    self._spawn(name, epoch)
                case supervision.Kill(name):
                    self._processes[name].kill()
                case supervision.AskToStop(name):
                    self._send(name, messages.Stop())
                case supervision.Introduce():
                    self._introduce()
                case supervision.AllUp():
                    self._tell_watchdog(messages.Up(self._peers(), self._down()))
                case supervision.Refuse(reason, is_of_store):
                    self._tell_watchdog(messages.Refused(reason, is_of_store))
                case supervision.Escalate(reason):
                    self._tell_watchdog(messages.Escalated(reason))
                case supervision.AllStopped():
                    self._tell_watchdog(messages.Drained())
                case supervision.Note(text):
                    log.warning("%s", text)

    def _spawn(self, name: str, epoch: int) -> None:
        line = inherited.new_worker_line()
        self.createActor(WorkerActor)
        inherited.close_worker_end()
        # Thespian tells nobody the process of a child; it is the last in its list.
        process = self._myRef._child_procs[-1].childProc
        path = os.path.join(self._given.sockets, f"{name}.{epoch:x}.sock")
        self._processes[name] = _Process(process, line, path)
        self._send(name, messages.Init(name, epoch, path))

    def _send(self, name: str, message: messages.ToWorker) -> None:
        self._processes[name].send(message)

    def _introduce(self) -> None:
        down = {
            name: error[:_LONGEST_REASON] for name, error in self._supervision.given_up().items()
        }
        introduction = messages.Introduction(self._peers(), down)
        for name in self._supervision.names(supervision.UP):
            self._send(name, introduction)

    def _broadcast(self, message: messages.Broadcast) -> None:
        """To everybody who is up, but not back; who starts later reads what it is about by itself."""
        others = set(self._supervision.names(supervision.UP)) - {message.name}
        origin = (message.name, message.epoch, message.id)
        self._finish(self._broadcasts.begin(origin, others))
        for name in others:
            self._send(name, messages.Told(*origin, message.body))

    def _finish(self, done: list[tuple[str, int, int]]) -> None:
        for sender, epoch, id in done:
            child = self._supervision.children[sender]
            if child.epoch == epoch and sender in self._processes:
                self._send(sender, messages.BroadcastDone(id))

    def _tell_watchdog(self, message: messages.ToWatchdog) -> None:
        with contextlib.suppress(BlockingIOError):  # it is stopped; it will see pidfds later
            self._line.send(messages.encode(message))

    # ---- a look

    def _peers(self) -> tuple[messages.Peer, ...]:
        found = []
        for name in self._supervision.names(supervision.UP):
            child, process = self._supervision.children[name], self._processes[name]
            spec = child.spec
            found.append(
                messages.Peer(
                    name, spec.kind, spec.index, child.epoch, process.socket, process.info
                )
            )
        return tuple(found)

    def _down(self) -> dict[str, str]:
        names = self._supervision.names(supervision.DOWN)
        return {name: self._supervision.children[name].last_error for name in names}

    def _tree(self) -> ProcessTree:
        given = self._given
        pids = {name: each.pid for name, each in self._processes.items()}
        return ProcessTree(
            given.watchdog_pid,
            os.getppid(),
            os.getpid(),
            given.tree_restarts,
            given.tree_error,
            self._supervision.status(time.monotonic(), pids),
        )
