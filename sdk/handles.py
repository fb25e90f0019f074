"""What a handler gets back at once and awaits later: durable futures and send handles. Only shapes.

The runtime of handlers implements them; users see them through `perdure` and `perdure.context`.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class RestateDurableFuture(Awaitable[T], Generic[T]):
    """The result of a journaled operation. Awaiting it again gives the same result."""

    @abstractmethod
    def __await__(self) -> Generator[Any, Any, T]:
        """Raises TerminalError where the operation ended in a failure, or on cancellation."""


class RestateDurableCallFuture(RestateDurableFuture[T]):
    """The answer of a called handler."""

    @abstractmethod
    async def invocation_id(self) -> str:
        """The id of the called invocation."""

    @abstractmethod
    async def cancel_invocation(self) -> None:
        """Ask the called invocation to stop; its answer becomes a failure unless it ends first."""


class RestateDurableSleepFuture(RestateDurableFuture[None]):
    """A durable timer."""

    @abstractmethod
    def __await__(self) -> Generator[Any, Any, None]:
        """Returns once the time has come."""


class SendHandle(ABC):
    """An invocation that was sent, and whose answer nobody here waits for."""

    @abstractmethod
    async def invocation_id(self) -> str:
        """The id of the sent invocation."""

    @abstractmethod
    async def cancel_invocation(self) -> None:
        """Ask the sent invocation to stop."""


class AttemptFinishedEvent(ABC):
    """Set when this attempt is over, however it ended; then clean up what only it needs."""

    @abstractmethod
    def is_set(self) -> bool:
        """Whether the attempt is over."""

    @abstractmethod
    async def wait(self) -> None:
        """Return once the attempt is over."""
