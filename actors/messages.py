"""What the partition actor and its object actors tell each other. Data only, never changed once sent."""

from typing import TypeAlias

import msgspec

from perdure.journal.attempt import Frame, Start
from perdure.journal.entries import Notification


class Message(msgspec.Struct, frozen=True, gc=False):
    """Base: immutable."""


class Open(Message, frozen=True):
    """Begin an attempt."""

    id: bytes
    start: Start


class Notify(Message, frozen=True):
    """Notifications with their entry index, in journal order."""

    id: bytes
    attempt: int
    entries: tuple[tuple[int, Notification], ...]


class Pass(Message, frozen=True):
    """What was emitted before the barrier is durable."""

    id: bytes
    attempt: int
    completion_id: int


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


ToObject: TypeAlias = Open | Notify | Pass | CloseInput | Abort
