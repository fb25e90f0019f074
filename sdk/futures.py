"""Durable futures: what context methods return at once and handlers await later.

A future knows its handle in the journal and how to read the result; waiting is the attempt's work.
Using a future as if it were its value is a frequent slip, so every such use says what is missing.
"""

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from perdure.current import InsideRun, operating_for
from perdure.handles import (
    RestateDurableCallFuture,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    SendHandle,
)
from perdure.journal.entries import Failure, InvocationId, Result, StateKeys, Value
from perdure.journal.errors import TerminalError, UsageError
from perdure.serde import Serde, read_value

if TYPE_CHECKING:
    from perdure.attempt_core import AttemptCore

T = TypeVar("T")


class _Unset:
    """Marks a value that was not read yet; None is a value."""


_UNSET = _Unset()


class DurableFuture(RestateDurableFuture[T]):
    """The result of one journaled operation. ``what`` says which, as in ``state 'count'``."""

    __slots__ = ("_attempt", "_result", "_serde", "_value", "handle", "place", "what")

    def __init__(
        self,
        attempt: "AttemptCore",
        handle: int | str,
        serde: Serde[Any] | None,
        place: str,
        what: str = "",
        result: Result | None = None,
    ) -> None:
        self._attempt = attempt
        self.handle = handle
        self._serde = serde
        self.place = place
        self.what = what
        self._result = result
        self._value: Any = _UNSET

    def __await__(self) -> Generator[Any, Any, T]:
        owner = operating_for.get()
        if owner is not self._attempt and owner is not None:
            raise foreign(self, owner)
        if self._value is not _UNSET:
            return self._value  # type: ignore[no-any-return]
        if self._result is None:
            yield from self._attempt.wait({self.handle}, False)
            if self._result is None:  # another await of the same future may have been first
                self._result = self._attempt.take(self.handle)
        result = self._result
        codec = self._attempt.codec
        if codec is not None and type(result) is Value:
            content = yield from codec.decode(result.content).__await__()
            result = Value(content)
        self._value = value = self._read(result)
        return value  # type: ignore[no-any-return]

    def _read(self, result: Result) -> Any:
        kind = type(result)
        if kind is Value:
            content = result.content  # type: ignore[union-attr]
            if self._serde is None:
                return None
            return read_value(self._serde, content, self.place, self.what)
        if kind is Failure:
            assert isinstance(result, Failure)
            raise TerminalError(result.message, result.code, result.metadata or None)
        if isinstance(result, InvocationId):
            return result.id
        if isinstance(result, StateKeys):
            return list(result.keys)
        return None

    # ---- for the combinators --------------------------------------------------------------------

    def is_completed(self) -> bool:
        """Whether an await has come across the result. False negatives are impossible in order."""
        return self._result is not None or self._attempt.replay.has(self.handle)

    @property
    def is_taken(self) -> bool:
        """Whether this future holds its result."""
        return self._result is not None

    @property
    def attempt(self) -> "AttemptCore":
        return self._attempt

    # ---- slips ----------------------------------------------------------------------------------

    def _slip(self, *_: object) -> NoReturn:
        raise UsageError(
            f"the result of {self.title} is used before it was awaited: did you forget `await`?"
        )

    @property
    def title(self) -> str:
        return f"{self.place} {self.what!r}" if self.what else self.place

    def __repr__(self) -> str:
        return f"<durable future of {self.title}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        self._slip()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, RestateDurableFuture):
            return False
        self._slip()

    __hash__ = object.__hash__
    __bool__ = __len__ = __iter__ = __int__ = __float__ = __index__ = __format__ = _slip
    __getitem__ = __setitem__ = __delitem__ = __contains__ = __call__ = _slip
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = __abs__ = _slip
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _slip
    __and__ = __rand__ = __or__ = __ror__ = __lt__ = __le__ = __gt__ = __ge__ = _slip
    __enter__ = __exit__ = __aenter__ = __aexit__ = __aiter__ = _slip


class SleepFuture(DurableFuture[None], RestateDurableSleepFuture):
    """A durable timer."""

    __slots__ = ()


class _Callee:
    """Reaches the invocation behind a call or send: its id comes in a completion of its own."""

    __slots__ = ("_attempt", "_id_handle", "_target")

    def __init__(self, attempt: "AttemptCore", id_handle: int, target: str) -> None:
        self._attempt = attempt
        self._id_handle = id_handle
        self._target = target

    def id_future(self) -> DurableFuture[str]:
        return DurableFuture(self._attempt, self._id_handle, None, "invocation id", self._target)


async def _id_of(callee: _Callee) -> str:
    return await callee.id_future()


async def _cancel(callee: _Callee) -> None:
    invocation_id = await callee.id_future()
    callee._attempt.context.cancel_invocation(invocation_id)


class CallFuture(DurableFuture[T], RestateDurableCallFuture[T]):
    """The answer of a called handler."""

    __slots__ = ("_callee",)

    def __init__(
        self,
        attempt: "AttemptCore",
        handle: int,
        id_handle: int,
        serde: Serde[Any],
        target: str,
    ) -> None:
        super().__init__(attempt, handle, serde, "the answer of", target)
        self._callee = _Callee(attempt, id_handle, target)

    def invocation_id(self) -> Coroutine[Any, Any, str]:
        return _id_of(self._known())

    def cancel_invocation(self) -> Coroutine[Any, Any, None]:
        return _cancel(self._known())

    def id_future(self) -> DurableFuture[str]:
        """The same as a future, for handlers that are plain functions."""
        return self._known().id_future()

    def _known(self) -> _Callee:
        """Who asks for the callee's id need not wait for the answer here."""
        self._attempt.check()
        self._attempt.mark_awaited((self.handle,))
        return self._callee


class Sent(SendHandle):
    """An invocation that was sent."""

    __slots__ = ("_callee",)

    def __init__(self, attempt: "AttemptCore", id_handle: int, target: str) -> None:
        self._callee = _Callee(attempt, id_handle, target)

    def invocation_id(self) -> Coroutine[Any, Any, str]:
        return _id_of(self._callee)

    def cancel_invocation(self) -> Coroutine[Any, Any, None]:
        return _cancel(self._callee)

    def id_future(self) -> DurableFuture[str]:
        """The id as a future, for handlers that are plain functions."""
        return self._callee.id_future()


def foreign(future: DurableFuture[Any], owner: object) -> UsageError:
    """The error for waiting outside of the handler that made ``future``."""
    if isinstance(owner, InsideRun):
        return UsageError(
            f"{future.title} is awaited inside the closure of run {owner.name!r}: a run must not use the"
            " context; await it before the run and pass its result to the closure."
        )
    return UsageError(
        f"{future.title} belongs to another invocation: a durable future can be awaited only by the"
        " handler that made it; don't keep futures in module or instance variables."
    )
