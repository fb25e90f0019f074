"""Starts `perdure up` as a process of its own, waits until it serves, and ends it by signal.

Ports are chosen by the system and read from what the server prints, so nothing is guessed and no
fixed time is waited for. Two ways to start: a fresh interpreter, and a fork of one that has imported
everything already (``Nursery``), which makes fifty starts cheap.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeAlias

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE_S = 60.0  # before a server that says nothing counts as hanging

_NURSE = Path(__file__).parent / "nurse.py"


Streams: TypeAlias = tuple[int, int, int]  # standard input, output and error


class DidNotStart(Exception):
    """The server ended, or was killed, before it said that it is ready. The message has its output."""


class Launched(Protocol):
    """A started process."""

    @property
    def pidfd(self) -> int: ...

    def wait(self) -> int:
        """Its exit code; negative for a signal. It has ended already."""


class Launch(Protocol):
    """How to start `perdure` with these arguments."""

    def __call__(
        self, arguments: list[str], environ: dict[str, str], directory: Path, fds: Streams
    ) -> Launched: ...


class _Executed:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.pidfd = os.pidfd_open(process.pid)

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)


def execute(
    arguments: list[str],
    environ: dict[str, str],
    directory: Path,
    fds: Streams,
    *,
    through: tuple[str, ...] = (),
) -> Launched:
    """A fresh interpreter, as a user starts it; ``through`` is a command that starts the rest."""
    stdin, stdout, stderr = fds
    command = [*through, sys.executable, "-m", "perdure", *arguments]
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=os.environ | environ,
        cwd=directory,
        start_new_session=True,  # a Ctrl-C at the tests' terminal is not the server's
    )
    return _Executed(process)


class _Forked:
    """The nurse is its parent, so the nurse has to be asked how it ended."""

    def __init__(self, pid: int, nurse: socket.socket) -> None:
        self.pidfd = os.pidfd_open(pid)
        self._pid, self._nurse = pid, nurse

    def wait(self) -> int:
        self._nurse.send(b"%d" % self._pid)
        return int(self._nurse.recv(64))


class Nursery:
    """A process that has imported Perdure and forks a server whenever it is asked to."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, str(_NURSE), str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(PATIENCE_S)

    def launch(
        self, arguments: list[str], environ: dict[str, str], directory: Path, fds: Streams
    ) -> Launched:
        asked = json.dumps([arguments, environ, str(directory)]).encode()
        socket.send_fds(self._socket, [asked], fds)
        answer = self._socket.recv(64)
        assert answer, "the nurse has died"
        return _Forked(int(answer), self._socket)


class Server:
    """`perdure up` on one data directory; ``start`` it as often as wanted."""

    def __init__(
        self,
        data: Path,
        *targets: Path | str,
        flags: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
        launch: Launch = execute,
    ) -> None:
        self.data = data
        self.ingress_url = self.admin_url = ""
        self._arguments = [
            "up", *(str(each) for each in targets), "--data", str(data),
            "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0", *flags,
        ]  # fmt: skip
        self._environ = environ or {}
        self._launch = launch
        self._process: Launched | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``
        self._stdout = -1
        self.said = ""  # on standard output, since the last start

    def __enter__(self) -> "Server":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print(self.log()[-8000:], file=sys.stderr)
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        self._log.close()

    # ---- start -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start and wait until it serves. Raises DidNotStart."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start, and wait for nothing."""
        assert self._process is None, "it runs already"
        self._stdout, theirs = os.pipe()
        self.said = ""
        with open(os.devnull, "rb") as nothing:
            try:
                fds = nothing.fileno(), theirs, self._log.fileno()
                here = self.data.parent
                self._process = self._launch(self._arguments, self._environ, here, fds)
            finally:
                os.close(theirs)

    def await_ready(self) -> None:
        """Read what it prints until it says that it is ready. Raises DidNotStart."""
        while "Ready.\n" not in self.said:
            if not self._read():
                code = self.wait()
                raise DidNotStart(f"exit code {code}\n{self.said}\n{self.log()}")
        for line in self.said.splitlines():
            name, _, url = line.partition("  ")
            if name == "Ingress":
                self.ingress_url = url.strip().rstrip("/")
            elif name == "Admin":
                self.admin_url = url.strip().rstrip("/")

    def await_said(self, text: str, times: int = 1) -> None:
        """Until it has said ``text`` that often since its start. Fails where it ends before."""
        while self.said.count(text) < times:
            assert self._read(), f"it ended, and said:\n{self.said}\n{self.log()}"

    def _read(self) -> bool:
        """More of its output; False at the end. Fails where it says nothing for too long."""
        ready, _, _ = select.select([self._stdout], [], [], PATIENCE_S)
        assert ready, f"the server hangs; it said:\n{self.said}\n{self.log()}"
        chunk = os.read(self._stdout, 1 << 16)
        self.said += chunk.decode()
        return bool(chunk)

    # ---- end -------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        signal.pidfd_send_signal(self._process.pidfd, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone, and its locks with it."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        process = self._process
        assert process is not None
        while self._read():
            pass
        ended, _, _ = select.select([process.pidfd], [], [], PATIENCE_S)
        assert ended, f"the server does not end:\n{self.said}\n{self.log()}"
        code = process.wait()
        os.close(process.pidfd)
        os.close(self._stdout)
        self._process = None
        return code

    def log(self) -> str:
        """What it wrote to standard error, over all starts."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        info = Path(f"/proc/self/fdinfo/{self._process.pidfd}").read_text()
        return next(int(line.split()[1]) for line in info.splitlines() if line.startswith("Pid:"))
