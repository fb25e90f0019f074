"""The interface of a codec between serdes and the journal: encryption or compression of values.

It sees handler inputs and results, run results, state values, call arguments and answers, values of
awakeables, promises and signals; never failures.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeAlias


class JournalValueCodec(ABC):
    """Transforms values after they were serialized and before they are deserialized."""

    @abstractmethod
    def encode(self, buf: bytes) -> bytes:
        """To what is stored; ``buf`` may be empty. The same input may give different output."""

    @abstractmethod
    async def decode(self, buf: bytes) -> bytes:
        """Back to what was given to ``encode``; an error here is a retryable error."""


JournalValueCodecProvider: TypeAlias = Callable[[], Awaitable[JournalValueCodec]]
"""Makes the codec, once for an endpoint; for codecs that must load a key first."""
