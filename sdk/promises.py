"""A workflow's durable promise, as one of its handlers sees it."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from perdure.arguments import serde_of_value
from perdure.context import DurablePromise
from perdure.futures import DurableFuture
from perdure.journal.entries import (
    CompletePromise,
    Failure,
    GetPromise,
    Outcome,
    PeekPromise,
    Value,
)
from perdure.serde import Serde, write_value

if TYPE_CHECKING:
    from perdure.attempt_core import AttemptCore


class Promise(DurablePromise[Any]):
    """A workflow's promise, as one handler sees it."""

    def __init__(self, attempt: "AttemptCore", name: str, serde: Serde[Any]) -> None:
        super().__init__(name, serde)
        self._attempt = attempt

    def value(self) -> DurableFuture[Any]:
        self._attempt.check()
        handle = self._attempt.replay.new_completion_id()
        self._attempt.issue(GetPromise(handle, self.name))
        return DurableFuture(self._attempt, handle, self.serde, "promise", self.name)

    def peek(self) -> DurableFuture[Any]:
        self._attempt.check()
        handle = self._attempt.replay.new_completion_id()
        self._attempt.issue(PeekPromise(handle, self.name))
        return DurableFuture(self._attempt, handle, self.serde, "promise", self.name)

    def resolve(self, value: Any) -> DurableFuture[None]:
        self._attempt.check()
        content = write_value(serde_of_value(self.serde, value), value, "promise", self.name)
        return self._complete(Value(self._attempt.encode(content)))

    def reject(self, message: str, code: int = 500) -> DurableFuture[None]:
        self._attempt.check()
        return self._complete(Failure(code, message))

    def _complete(self, outcome: Outcome) -> DurableFuture[None]:
        handle = self._attempt.replay.new_completion_id()
        self._attempt.issue(CompletePromise(handle, self.name, outcome))
        return DurableFuture(self._attempt, handle, None, "completing promise", self.name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.value().__await__()
