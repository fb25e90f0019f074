"""What the console reads of a running engine, and how: committed rows, beside the loop.

Decodes only the head of a record where that is enough. Nothing is written here.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from perdure.actors.engine import Engine
from perdure.journal.store import Store

T = TypeVar("T")

_WORDS: Final = {"inboxed": "pending", "backing_off": "backing-off"}


class Head(msgspec.Struct, array_like=True, gc=False):
    """The first fields of an invocation's record; the rest is skipped."""

    service: str
    handler: str
    key: str | None
    type: msgspec.Raw
    raw_status: msgspec.Raw
    created_at_ms: int
    modified_at_ms: int

    @property
    def status(self) -> str:
        """As operators call it; read off the tag, so that no result is decoded."""
        raw = memoryview(self.raw_status)
        size = raw[1] & 0x1F  # a short string in a short array
        word = bytes(raw[2 : 2 + size]).decode()
        return _WORDS.get(word, word)


decode_head = msgspec.msgpack.Decoder(Head).decode


async def read(engine: Engine, function: Callable[[Store], T]) -> T:
    """``function`` of the store in a thread, once all that was decided so far is on disk."""
    await engine.drain()
    return await asyncio.to_thread(function, engine.store)
