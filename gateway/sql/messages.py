"""What the server and a query worker say to each other over the worker's pipes. Shapes and framing only.

The server sends one ``Query`` at a time; the worker answers with ``Chunk``s and ``End``, or ``Refused``, and
asks for rows in between, one question at a time. A frame is four bytes of length, then msgpack.
"""

import struct
from typing import Any, Final, TypeAlias

import msgspec

LENGTH: Final = struct.Struct(">I")


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of both directions."""


# ---- to the worker -------------------------------------------------------------------------------


class Query(Message, frozen=True, tag=1):
    """``memory_bytes``: what its rows and intermediate results may take."""

    sql: str
    json: bool  # else an Arrow stream
    memory_bytes: int


class Rows(Message, frozen=True, tag=2):
    """The answer to ``Scan``, ``Fetch`` and ``Live``. ``then``: the key to go on with; None: no more."""

    rows: list[tuple[bytes, bytes]] = []
    live: list[dict[str, Any]] = []
    then: bytes | None = None


# ---- from the worker -----------------------------------------------------------------------------


class Scan(Message, frozen=True, tag=1):
    """Rows of the store from ``start`` up to ``stop``, at most ``limit``."""

    start: bytes
    stop: bytes
    limit: int
    keys_only: bool = False


class Fetch(Message, frozen=True, tag=2):
    """The rows with these keys, where they exist, in this order."""

    keys: list[bytes]


class Live(Message, frozen=True, tag=3):
    """Rows that are not in the store, such as ``sys_service``; see gateway/sql/reading.py."""

    table: str


class Chunk(Message, frozen=True, tag=4):
    """A piece of the answer's body."""

    data: bytes


class End(Message, frozen=True, tag=5):
    pass


class Refused(Message, frozen=True, tag=6):
    """The query failed. After a ``Chunk`` it can only cut the answer short."""

    status: int
    message: str


Question: TypeAlias = Scan | Fetch | Live
ToWorker: TypeAlias = Query | Rows
FromWorker: TypeAlias = Scan | Fetch | Live | Chunk | End | Refused

_encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def frame(message: ToWorker | FromWorker) -> bytes:
    body = _encode(message)
    return LENGTH.pack(len(body)) + body
