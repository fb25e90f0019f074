"""What travels in a frame: one msgpack array that begins with a number, its kind. docs/data-plane.md.

Shapes only. Kinds and field orders are those of ``VERSION``: a change of either raises it. Both ends are
of one release, as one supervisor starts them; the version is there to say so clearly where they are not.
"""

from typing import TypeAlias

import msgspec

from perdure.journal.entries import Headers, Outcome

MAGIC = "perdure-plane"
VERSION = 1


class HelloHead(msgspec.Struct, array_like=True, tag=0):
    """The part of a hello that every version has, for telling them apart."""

    magic: str
    version: int


class Hello(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """First frame of who connects. ``wanted`` is whom it believes to be at the other end, by name.

    ``session`` is one client for its life; its connections are counted from 1, and a newer one ends the
    older. ``source``: the partition that sends its outbox here; None: a caller.
    """

    magic: str
    version: int
    wanted: str
    epoch: int
    session: bytes
    connection: int
    source: int | None = None
    source_epoch: int = 0


class Welcome(msgspec.Struct, array_like=True, tag=1, frozen=True):
    name: str
    epoch: int


class Unwelcome(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Last frame before the connection ends."""

    reason: str


# ---- a caller asks; numbers are its own, of one request each ------------------------------------


class Call(msgspec.Struct, array_like=True, tag=3, gc=False):
    """``waits``: answered with the end (``Value`` or ``Ended``), else with ``Took``.

    ``is_new``: the id was drawn at random, and this is the first time that it is sent. ``seed``: of one
    whose id others may send, too, by which it is known when it is sent again.
    """

    number: int
    waits: bool
    id: bytes
    service: str
    handler: str
    key: str | None
    body: bytes
    headers: Headers = ()
    idempotency_key: str | None = None
    is_new: bool = False
    keep_ms: int = 0
    delay_ms: int | None = None
    scope: str | None = None
    limit_key: str | None = None
    trace: str | None = None
    seed: int | None = None


class Ask(msgspec.Struct, array_like=True, tag=4, gc=False):
    """``method``: see methods.py, which has the shape of the arguments."""

    number: int
    method: str
    arguments: msgspec.Raw


class Forget(msgspec.Struct, array_like=True, tag=5, gc=False):
    """Nobody waits for this answer any more."""

    number: int


# ---- and is answered ----------------------------------------------------------------------------


class Value(msgspec.Struct, array_like=True, tag=6, gc=False):
    """The call succeeded just now: the usual case, in its shortest form."""

    number: int
    content: bytes


class Ended(msgspec.Struct, array_like=True, tag=7, gc=False):
    number: int
    result: Outcome
    expires_at_ms: int | None = None


class Took(msgspec.Struct, array_like=True, tag=8, gc=False):
    number: int
    is_new: bool
    execution_time_ms: int | None = None


class Told(msgspec.Struct, array_like=True, tag=9, gc=False):
    """The answer to an ``Ask``, in the shape that its method has."""

    number: int
    answer: msgspec.Raw


class Fault(msgspec.Struct, array_like=True, tag=10, gc=False):
    """An error, by class; see faults.py."""

    number: int
    kind: str
    message: str
    detail: int = 0


# ---- a partition sends its outbox ---------------------------------------------------------------


class Rows(msgspec.Struct, array_like=True, tag=11, gc=False):
    """Messages in the order of their sequence numbers."""

    rows: list[tuple[int, bytes]]


class Ack(msgspec.Struct, array_like=True, tag=12, gc=False):
    """Everything up to ``seq`` is durable at the receiver."""

    seq: int


Message: TypeAlias = (
    Hello
    | Welcome
    | Unwelcome
    | Call
    | Ask
    | Forget
    | Value
    | Ended
    | Took
    | Told
    | Fault
    | Rows
    | Ack
)

encoder = msgspec.msgpack.Encoder()
decode_head = msgspec.msgpack.Decoder(HelloHead).decode
decode = msgspec.msgpack.Decoder(Message).decode
