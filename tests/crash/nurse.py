"""Forks processes of `perdure` that need not import anything: `nurse.py SOCKET_FD`, started by
``server.Nursery``.

A packet `[arguments, environment, directory]` as JSON with three descriptors, for standard input, output
and error, is answered with the process id of the new `perdure`; a packet that is a process id, with the
exit code of that process, once it has ended. Ends when the socket is closed.
"""

import json
import os
import socket
import sys

# imported here, so that no fork has to; httpx loads httpcore only when a client is made
import httpcore  # noqa: F401

import perdure.gateway.cli_call
import perdure.gateway.cli_doctor
import perdure.gateway.cli_invocations
import perdure.gateway.cli_services
import perdure.gateway.cli_state
import perdure.gateway.up  # noqa: F401
from perdure.gateway.cli import main


def serve(socket_fd: int) -> None:
    with socket.socket(fileno=socket_fd) as asked:
        while True:
            packet, fds, _, _ = socket.recv_fds(asked, 1 << 16, 3)
            if not packet:
                return
            wanted = json.loads(packet)
            if isinstance(wanted, int):
                _, status = os.waitpid(wanted, 0)
                asked.send(b"%d" % os.waitstatus_to_exitcode(status))
                continue
            pid = os.fork()
            if pid == 0:
                asked.close()
                arguments, environ, directory = wanted
                _become(arguments, environ, directory, fds)
            for fd in fds:
                os.close(fd)
            asked.send(b"%d" % pid)


def _become(arguments: list[str], environ: dict[str, str], directory: str, fds: list[int]) -> None:
    """Never returns."""
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.update(environ)
    os.chdir(directory)
    main(arguments, prog_name="perdure")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
