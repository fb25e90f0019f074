"""The actor of one object key (or of one plain service): it hosts the attempts of its invocations.

It decides nothing: which invocation runs is the partition's decision. Its memory is a cache of the
journal; when it fails, its parent makes a new one and the attempts come back by replay.
"""

from collections.abc import Callable
from typing import Any, assert_never

from thespian.actors import ActorExitRequest, ActorSystemMessage

from perdure.actors.cell import Cell, SupervisedActor
from perdure.actors.messages import Abort, Burst, CloseInput, Open, ToObject
from perdure.journal.attempt import Attempt, Deployment, Ended, Failed, Frame, Suspended
from perdure.journal.events import Deliver, PassBarrier


class ObjectActor(SupervisedActor):
    """Created by the partition actor, on demand; passivated when it has been idle."""

    def __init__(
        self,
        deployment: Deployment,
        partition: Cell,
        now_ms: Callable[[], int],
        ready: Callable[[Callable[[], None]], bool],
    ) -> None:
        self._deployment = deployment
        self._ready = ready
        self._partition = partition
        self._now_ms = now_ms
        self._open: dict[bytes, _Outlet] = {}

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if isinstance(msg, ActorSystemMessage):
            if isinstance(msg, ActorExitRequest):
                self._abort_all()
            return
        try:
            self._receive(msg)
        except BaseException:
            self._abort_all()  # a successor replays them
            raise

    def _receive(self, msg: ToObject) -> None:
        match msg:
            case Open():
                outlet = _Outlet(self, msg.id, msg.start.attempt)
                self._open[msg.id] = outlet
                outlet.handler_side = self._deployment.start(msg.start, outlet)
            case Deliver():
                if (attempt := self._find(msg.id, msg.attempt)) is not None:
                    attempt.deliver(msg.entries)
            case PassBarrier():
                if (attempt := self._find(msg.id, msg.attempt)) is not None:
                    attempt.pass_barrier(msg.completion_id)
            case CloseInput():
                if (attempt := self._find(msg.id, msg.attempt)) is not None:
                    attempt.close_input()
            case Abort():
                if (attempt := self._find(msg.id, msg.attempt)) is not None:
                    self._open.pop(msg.id).close()
                    attempt.abort()
            case _:
                assert_never(msg)

    def _find(self, id: bytes, number: int) -> Attempt | None:
        """The open attempt of that number; None where it ended in the meantime."""
        outlet = self._open.get(id)
        return outlet.handler_side if outlet is not None and outlet.attempt == number else None

    def _abort_all(self) -> None:
        open_now, self._open = self._open, {}
        for outlet in open_now.values():
            outlet.close()
            if outlet.handler_side is not None:
                outlet.handler_side.abort()


class _Outlet:
    """The sink of one attempt: its frames become messages to the partition."""

    __slots__ = ("_actor", "attempt", "handler_side", "id")

    def __init__(self, actor: ObjectActor, id: bytes, attempt: int) -> None:
        self._actor: ObjectActor | None = actor
        self.id = id
        self.attempt = attempt
        self.handler_side: Attempt | None = None

    def emit(self, frames: tuple[Frame, ...]) -> None:
        actor = self._actor
        if actor is None:  # aborted: what it says does not count
            return
        if type(frames[-1]) in (Ended, Suspended, Failed):
            actor._open.pop(self.id, None)
            self._actor = None
        actor._partition.deliver(Burst(self.id, self.attempt, frames), actor._myRef)

    def now_ms(self) -> int:
        actor = self._actor
        return 0 if actor is None else actor._now_ms()

    def ready(self, go_on: Callable[[], None]) -> bool:
        actor = self._actor
        return actor is None or actor._ready(go_on)

    def close(self) -> None:
        self._actor = None
