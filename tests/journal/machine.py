"""A partition without actors, for tests: events in, steps out, over a store in memory.

Time stands still unless a test moves it, chance comes from a seed, and every event is decided twice
on the same view, since ``step`` must be pure. Acts are recorded, not performed.
"""

import asyncio
from collections.abc import Iterable
from random import Random
from typing import Any, TypeAlias

import msgspec

from perdure.journal import ids, keys
from perdure.journal.attempt import Awaiting, Combinator, Ended, Failed, Frame, Suspended
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    Call,
    ClearState,
    Completion,
    Entry,
    Failure,
    Headers,
    Input,
    InvocationId,
    OneWayCall,
    Output,
    SendSignal,
    SetState,
    SignalResult,
    Value,
    Void,
)
from perdure.journal.events import (
    Act,
    Attach,
    Entropy,
    Event,
    Expired,
    Frames,
    Operate,
    PatchState,
    Quarantine,
    Recover,
    Reply,
    Request,
    SendSignalTo,
    TimerDue,
)
from perdure.journal.partition import step
from perdure.journal.records import Invocation
from perdure.journal.requests import Op
from perdure.journal.schema import Handler, HandlerType, ServiceType
from perdure.journal.store import MemoryStore, Row, Write, next_group
from perdure.journal.tables import Tables
from perdure.journal.turn import Step

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
NO_TIME = b"\x40"  # before every timer

Handlers = dict[tuple[str, str], Handler]


def handler(service: str, name: str, type: HandlerType, **options: Any) -> Handler:
    kind = {
        HandlerType.SERVICE: ServiceType.SERVICE,
        HandlerType.EXCLUSIVE: ServiceType.VIRTUAL_OBJECT,
        HandlerType.WORKFLOW: ServiceType.WORKFLOW,
    }.get(type)
    if kind is None:
        kind = ServiceType.WORKFLOW if service == "Flow" else ServiceType.VIRTUAL_OBJECT
    return Handler(service, name, type, kind, **options)


GREET = handler("Greeter", "greet", HandlerType.SERVICE)
ADD = handler("Counter", "add", HandlerType.EXCLUSIVE)
GET = handler("Counter", "get", HandlerType.SHARED)
BRIEF = handler("Counter", "brief", HandlerType.EXCLUSIVE, journal_retention_ms=0)
RUN = handler("Flow", "run", HandlerType.WORKFLOW)
APPROVE = handler("Flow", "approve", HandlerType.SHARED)
ALL = (GREET, ADD, GET, BRIEF, RUN, APPROVE)


Place: TypeAlias = tuple[str, int]  # deployment id and protocol version
IN_PROCESS: Place = ("", 0)


class Deployed:
    """Which handlers exist."""

    def __init__(self, handlers: Iterable[Handler] = ALL) -> None:
        self.known: Handlers = {(h.service, h.name): h for h in handlers}

    def handler(
        self, service: str, handler: str, deployment_id: str | None = None
    ) -> Handler | None:
        return self.known.get((service, handler))

    def handler_names(self) -> list[str]:
        return [f"{service}/{name}" for service, name in self.known]


class Machine:
    """``log``: every act so far; ``acts``: those of the last event."""

    def __init__(self, *handlers: Handler, seed: int = 1, decide_count: int = 2) -> None:
        self.deployed = Deployed(handlers or ALL)
        self.store = MemoryStore(Random(0))
        self.tables = Tables(self.store, self.deployed)
        self.rng = Random(seed)
        self._group_ids = Random(0)
        self.decide_count = decide_count
        self.now_ms = NOW_MS
        self.acts: list[Act] = []
        self.log: list[Act] = []
        self._token = 0
        self._sealed: list[Write] | None = None

    # ---- events

    def apply(self, event: Event) -> Step:
        """Decide, check that deciding changed nothing, apply."""
        seed = self.rng.randbytes(8)
        decided: Step | None = None
        for _ in range(self.decide_count):
            if type(event) is Frames:
                entropy = Entropy(Random(seed).randbytes)
                event = msgspec.structs.replace(event, entropy=entropy)
            again = step(self.tables, event)
            assert decided is None or again == decided, "the same event decided differently"
            decided = again
        assert decided is not None
        self.tables.apply(decided)
        self.acts = decided.acts
        self.log += decided.acts
        return decided

    def request(
        self,
        target: Handler,
        key: str | None = None,
        *,
        body: bytes = b"",
        headers: Headers = (),
        waits: bool = False,
        delay_ms: int | None = None,
        idempotency_key: str | None = None,
        id: bytes | None = None,
        seed: int | None = None,
        keep_ms: int = 0,
    ) -> bytes:
        """Ask for an invocation; its raw id. ``token`` is the number of the request, from 1."""
        fresh = False
        if id is not None:
            pass
        elif target.type is HandlerType.WORKFLOW:
            id = ids.workflow_id(target.service, key or "")
        elif idempotency_key is not None:
            id = ids.idempotent_id(target.service, key, target.name, idempotency_key)
        else:
            id, fresh = self.fresh_id(target.service, key), True
        token = self.token()
        event = Request(
            id,
            target,
            key,
            Input(headers, body),
            self.now_ms,
            6 + token if seed is None else seed,
            token,
            waits,
            fresh,
            idempotency_key,
            None if delay_ms is None else self.now_ms + delay_ms,
            keep_ms=keep_ms,
        )
        self.apply(event)
        return id

    def burst(
        self, id: bytes, *frames: Frame, attempt: int | None = None, place: Place = IN_PROCESS
    ) -> Step:
        """What an attempt says, the open one unless told otherwise."""
        if attempt is None:
            attempt = self.record(id).attempt
        entropy = Entropy(self.rng.randbytes)
        return self.apply(Frames(id, attempt, frames, self.now_ms, entropy, *place))

    def end(self, id: bytes, content: bytes = b"done") -> Step:
        return self.burst(id, Output(Value(content)), Ended())

    def suspend(self, id: bytes, *completions: int, signals: tuple[int | str, ...] = ()) -> Step:
        """Wait for any of them; the attempt has seen everything so far."""
        awaiting = Awaiting(Combinator.FIRST_COMPLETED, completions, signals)
        return self.burst(id, Suspended(awaiting, self.record(id).entry_count))

    def operate(self, id: bytes, op: Op) -> object:
        """The operation's result."""
        self.apply(Operate(id, op, self.token(), self.now_ms))
        return self.replies()[-1]

    def attach(self, id: bytes, waits: bool = True) -> None:
        self.apply(Attach(id, self.token(), waits))

    def signal(self, id: bytes, signal: int | str, result: SignalResult | None = None) -> None:
        token = self.token()
        self.apply(SendSignalTo(id, signal, result or Void(), token, self.now_ms))

    def patch(self, service: str, key: str, version: str | None = None, **state: bytes) -> None:
        self.apply(PatchState(service, key, state, version, self.token(), self.now_ms))

    def recover(self, id: bytes) -> Step:
        return self.apply(Recover(id, self.now_ms))

    def quarantine(self, id: bytes, reason: str = "poison") -> Step:
        return self.apply(Quarantine(id, reason, self.now_ms))

    def fire(self, row: Row) -> Step:
        return self.apply(TimerDue(*row, self.now_ms))

    def pass_ms(self, delay_ms: int) -> None:
        """Move the clock, firing what comes due on the way, each at its time."""
        until_ms = self.now_ms + delay_ms
        while rows := self.tables.timers(NO_TIME, until_ms, 1):
            self.now_ms = max(self.now_ms, keys.split_timer(rows[0][0])[0])
            self.fire(rows[0])
        self.now_ms = until_ms

    def expire(self) -> int:
        """Forget what is past its retention; how many rows there were."""
        self.commit()
        rows = self.store.scan(keys.EXPIRY, keys.expiries_until(self.now_ms))
        for key, _ in rows:
            _, kind, id = keys.split_expiry(key)
            self.apply(Expired(key, kind, id))
        self.commit()
        return len(rows)

    # ---- commits and crashes

    def seal(self) -> list[Write]:
        """Close the open group; it is in flight from now on."""
        self.land()
        self._sealed = writes = self.tables.seal(self.now_ms)
        written = [key for key, _ in writes]
        assert len(written) == len(set(written)), "a row is written twice in one group"
        return writes

    def land(self) -> None:
        """The group in flight is durable."""
        if self._sealed is None:
            return
        asyncio.run(self._append(self._sealed))
        self._sealed = None
        self.tables.committed()

    def commit(self) -> list[Write]:
        writes = self.seal()
        self.land()
        return writes

    def crash(self) -> None:
        """Lose what is not durable, read the tables again, recover what was running."""
        self._sealed = None
        self.reopen()
        for id in self.tables.running():
            self.recover(id)

    def reopen(self) -> None:
        """Other tables over the same store, with nothing in memory."""
        self.store = self.store.crash()
        self.tables = Tables(self.store, self.deployed)

    async def _append(self, writes: list[Write]) -> None:
        after = self.store.tail
        await self.store.append(next_group(after, self._group_ids.randbytes(16), writes), after)

    # ---- what is there

    def rows(self, table: bytes = b"") -> dict[bytes, bytes]:
        """Durable rows, of one table or of all."""
        return dict(self.store.scan(table or b"\x10", (table or b"\xef") + b"\xff" * 64))

    def find(self, id: bytes) -> Invocation | None:
        return self.tables.invocation(id)

    def record(self, id: bytes) -> Invocation:
        found = self.tables.invocation(id)
        assert found is not None, "there is no such invocation"
        return found

    def status(self, id: bytes) -> object:
        return self.record(id).status

    def journal(self, id: bytes) -> list[Entry]:
        return self.tables.entries(id)

    def state(self, key: str, service: str = "Counter") -> dict[str, bytes]:
        return dict(self.tables.state((service, key)))

    def replies(self) -> list[object]:
        """Answers of the last event."""
        return [act.answer for act in self.acts if type(act) is Reply]

    def did(self, act: type) -> list[Any]:
        """Acts of this kind in the last event."""
        return [each for each in self.acts if type(each) is act]

    def token(self) -> int:
        self._token += 1
        return self._token

    def fresh_id(self, service: str, key: str | None) -> bytes:
        return ids.fresh_id(service, key, self.now_ms, self.rng.randbytes(12))

    @staticmethod
    def text(id: bytes) -> str:
        return ids.format_invocation_id(id)

    @staticmethod
    def send(target_id: str, signal: int | str, result: SignalResult | None = None) -> SendSignal:
        return SendSignal(target_id, signal, result or Void())

    @staticmethod
    def failed(**fields: Any) -> Failed:
        return Failed(fields.pop("code", 500), fields.pop("message", "no"), **fields)

    @staticmethod
    def set(name: str, value: bytes) -> SetState:
        return SetState(name, value)

    @staticmethod
    def ending(content: bytes = b"done") -> tuple[Frame, Frame]:
        return Output(Value(content)), Ended()

    @staticmethod
    def call(target: Handler, key: str = "", number: int = 1, **fields: Any) -> Call:
        """Completion ids ``number`` (the callee's id) and ``number`` + 1 (the result)."""
        parameter = fields.pop("parameter", b"")
        return Call(number, number + 1, target.service, target.name, key, parameter, **fields)

    @staticmethod
    def one_way(target: Handler, key: str = "", number: int = 1, **fields: Any) -> OneWayCall:
        parameter = fields.pop("parameter", b"")
        return OneWayCall(number, target.service, target.name, key, parameter, **fields)

    def callee(self, caller: bytes, completion_id: int = 1) -> bytes:
        """The raw id that a call of ``caller`` was told."""
        for entry in self.journal(caller):
            if type(entry) is Completion and entry.completion_id == completion_id:
                assert type(entry.result) is InvocationId
                return ids.parse_invocation_id(entry.result.id)
        raise AssertionError("there was no such call")

    @staticmethod
    def fail_out(code: int, message: str) -> Output:
        return Output(Failure(code, message))

    @staticmethod
    def ended() -> Ended:
        return Ended()

    @staticmethod
    def attach_to(id: bytes, number: int = 1) -> AttachInvocation:
        return AttachInvocation(number, ById(ids.format_invocation_id(id)))

    @staticmethod
    def input(body: bytes) -> Input:
        return Input((), body)

    @staticmethod
    def clear(name: str) -> ClearState:
        return ClearState(name)
