"""Thespian's wire between processes, authenticated: only what our own processes wrote is unpickled.

Thespian 4.0.1 unpickles whatever reaches a port. Here each message carries a keyed hash in front of its
pickle, and the hash is checked first. The key is drawn at each start and inherited by fork, so it is in no
file and in no message. The hash covers the receiver's port: what was sent to one process can't be
played to another. Messages are bounded, also before their length is known.
"""

import hashlib
import hmac
import pickle
from typing import Any, Final

from thespian.system.transport import TCPTransport as tcp

KEY_BYTES: Final = 32
MESSAGE_LIMIT_BYTES: Final = 4 << 20  # control messages; a few hundred bytes as a rule
STRANGERS_LIMIT: Final = 64  # connections that have not yet shown a message of ours
_HASH_BYTES: Final = 32
_PREFIX_BYTES: Final = 8  # decimal length and '>'
_MESSAGE, _CONTROL = b"M", b"C"

_own_port = 0  # of this process's transport: Thespian has one in each


class _Sealed:
    """What Thespian calls ``serializer``; it loads through Buffer alone."""

    @staticmethod
    def loads(data: bytes) -> Any:
        raise ValueError("sealed messages are opened by Buffer")


class Sealer:
    """Seals and opens messages with one key."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._key = key

    def _hash(self, kind: bytes, port: int, pickled: bytes) -> bytes:
        made = hashlib.blake2b(
            kind + port.to_bytes(2, "big"), key=self._key, digest_size=_HASH_BYTES
        )
        made.update(pickled)
        return made.digest()

    def seal(self, message: Any, port: int) -> bytes:
        """``message``, framed, for the process that listens on ``port``."""
        return self._framed(_MESSAGE, port, pickle.dumps(message))

    def seal_control(self, message: str) -> bytes:
        """Thespian's answer on the same connection, such as ACK."""
        return self._framed(_CONTROL, 0, pickle.dumps(message))

    def _framed(self, kind: bytes, port: int, pickled: bytes) -> bytes:
        sealed = kind + self._hash(kind, port, pickled) + pickled
        if len(sealed) > MESSAGE_LIMIT_BYTES:
            raise ValueError(f"a control message of {len(sealed)} bytes is too large")
        return b"%d>%b" % (len(sealed), sealed)

    def open(self, sealed: bytes) -> Any:
        """The message; raises ValueError for anything that was not sealed with our key for our port."""
        kind, found, pickled = sealed[:1], sealed[1 : 1 + _HASH_BYTES], sealed[1 + _HASH_BYTES :]
        port = {_MESSAGE: _own_port, _CONTROL: 0}.get(kind)
        if port is None or not hmac.compare_digest(found, self._hash(kind, port, pickled)):
            raise ValueError("a message that no process of ours sealed")
        return pickle.loads(pickled)


class Buffer:
    """One message on its way in. In place of Thespian's ReceiveBuffer, whose method names it has.

    Never raises: what is too long, malformed or not ours is complete at once and has no content, upon
    which Thespian closes the connection.
    """

    sealer: Sealer

    def __init__(self, _serializer: Any = None) -> None:
        self._head = b""
        self._parts = bytearray()
        self._size: int | None = None
        self._extra = b""
        self._is_bad = False

    def addMore(self, data: bytes | str) -> None:
        if not data or isinstance(data, str):
            return
        if self._size is None:
            self._head += data
            digits, mark, data = self._head.partition(b">")
            if not mark:
                self._is_bad = len(digits) >= _PREFIX_BYTES
                return
            if not digits.isdigit() or int(digits) > MESSAGE_LIMIT_BYTES:
                self._is_bad = True
                return
            self._size, self._head = int(digits), b""
        missing = self._size - len(self._parts)
        self._parts += data[:missing]
        self._extra += data[missing:]

    def is_empty(self) -> bool:
        return self._size is None and not self._head

    def remainingAmount(self) -> int:
        """Never more than is known to belong to this message."""
        if self._size is None:
            return _HASH_BYTES  # no message is shorter
        return max(1, self._size - len(self._parts))

    def isDone(self) -> bool:
        return self._is_bad or (self._size is not None and len(self._parts) == self._size)

    def removeExtra(self) -> None:
        self._extra = b""

    def completed(self) -> tuple[Any, bytes] | None:
        if self._is_bad or self._size is None or len(self._parts) != self._size:
            return None
        try:
            return self.sealer.open(bytes(self._parts)), self._extra
        except ValueError:
            return None


def install(key: bytes) -> None:
    """Seal the TCP transport of this process and of all that are forked from it."""
    sealer = Buffer.sealer = Sealer(key)
    tcp.serializer = _Sealed
    tcp.ReceiveBuffer = Buffer
    tcp.ackMsg = sealer.seal_control(tcp.ackPacket)
    tcp.ackDataErrMsg = sealer.seal_control("ACK+DATAERR")

    def serializer(transport: Any, intent: Any) -> bytes:
        port = intent.targetAddr.addressDetails.sockname[1]
        return sealer.seal((transport.myAddress, intent.message), port)

    tcp.TCPTransport.serializer = serializer
    if not getattr(tcp.TCPTransport, "_perdure_is_sealed", False):
        tcp.TCPTransport._perdure_is_sealed = True
        _know_own_port()
        _limit_strangers()


def _know_own_port() -> None:
    begin = tcp.TCPTransport.__init__

    def __init__(transport: Any, *args: Any) -> None:
        begin(transport, *args)
        global _own_port
        _own_port = transport.socket.getsockname()[1]

    tcp.TCPTransport.__init__ = __init__


def _limit_strangers() -> None:
    """The oldest connection without a message of ours goes, so that nobody uses up our files."""
    accept = tcp.TCPTransport._acceptNewIncoming

    def _acceptNewIncoming(transport: Any) -> None:
        accept(transport)
        strangers = [
            (fd, each)
            for fd, each in transport._incomingSockets.items()
            if each.fromAddress.addressDetails is None
        ]
        for fd, each in strangers[:-STRANGERS_LIMIT]:
            del transport._incomingSockets[fd]
            each.close()

    tcp.TCPTransport._acceptNewIncoming = _acceptNewIncoming
