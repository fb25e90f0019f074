"""Forks servers that need not import anything: `nurse.py SOCKET_FD`, started by ``server.Nursery``.

Each packet that it gets is `[arguments, environment]` as JSON with the descriptors of standard output
and error; the answer is the process id of the new `perdure`. Ends when the socket is closed.
"""

import json
import os
import signal
import socket
import sys

import perdure.gateway.up  # noqa: F401 - imported here, so that no fork has to
from perdure.gateway.cli import main


def serve(socket_fd: int) -> None:
    with socket.socket(fileno=socket_fd) as asked:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
        while True:
            packet, fds, _, _ = socket.recv_fds(asked, 1 << 16, 2)
            if not packet:
                return
            pid = os.fork()
            if pid == 0:
                asked.close()
                _become(*json.loads(packet), fds)
            for fd in fds:
                os.close(fd)
            asked.send(b"%d" % pid)


def _become(arguments: list[str], environ: dict[str, str], fds: list[int]) -> None:
    """Never returns."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, fd in enumerate(fds, start=1):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.update(environ)
    main(arguments, prog_name="perdure")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
