"""Unix sockets that nobody but us can use: the directory, the socket's mode, who is at the other end.

No frame is known here. The rule: docs/data-plane.md, "Who may connect".
"""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perdure.journal.errors import PerdureError

_MAX_ADDRESS_BYTES = 107  # of sockaddr_un, without the zero at its end
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_BACKLOG = 512


class UnsafeSocket(PerdureError):
    """Somebody else could reach, or has made, what only this user may."""


def prepare_directory(path: Path) -> None:
    """Make the directory of the sockets, for this user alone. Raises UnsafeSocket where it is not."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeSocket(f"{path} is not a directory; sockets are made in one of mode 0700")
    if found.st_uid != os.geteuid():
        raise UnsafeSocket(
            f"{path} belongs to user {found.st_uid}, and this process runs as {os.geteuid()}; remove it"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def listening_socket(path: Path) -> socket.socket:
    """A socket of mode 0600 at ``path``, in place of one that a dead process left."""
    prepare_directory(path.parent)
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UnsafeSocket(f"{path} is there and no socket; remove it")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(path) as address:
            listening.bind(address)
        path.chmod(0o600)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address for ``path`` however long it is; valid inside the block."""
    if len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def check_peer(transport: asyncio.BaseTransport) -> None:
    """Raises UnsafeSocket where the other end is not a process of this user."""
    found = transport.get_extra_info("socket")
    raw = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    if uid != os.geteuid():
        raise UnsafeSocket(
            f"process {pid} of user {uid} is refused: only user {os.geteuid()} may connect"
        )
