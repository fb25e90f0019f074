"""What the partition actor and its object actors tell each other. Data only, never changed once sent.

Two of the machine's acts are passed on as they are: ``Deliver`` and ``PassBarrier``.
"""

from typing import TypeAlias

import msgspec

from perdure.journal.attempt import Frame, Start
from perdure.journal.events import Deliver, PassBarrier


class Message(msgspec.Struct, frozen=True, gc=False):
    """Base: immutable."""


class Open(Message, frozen=True):
    """Begin an attempt."""

    id: bytes
    start: Start


class CloseInput(Message, frozen=True):
    """Ask the attempt to suspend."""

    id: bytes
    attempt: int


class Abort(Message, frozen=True):
    """Drop the attempt."""

    id: bytes
    attempt: int


class Burst(Message, frozen=True):
    """From an object actor: what an attempt emitted at once."""

    id: bytes
    attempt: int
    frames: tuple[Frame, ...]


ToObject: TypeAlias = Open | Deliver | PassBarrier | CloseInput | Abort
