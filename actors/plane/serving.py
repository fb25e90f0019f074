"""The partition's side of one caller's connection: requests go to the engine, answers come back.

The engine decides everything. When the caller gives up, or its connection ends, what waits for an answer
ends without a trace; the invocation goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, cast

import msgspec

from perdure.actors.engine import Engine
from perdure.actors.plane import methods
from perdure.actors.plane.connection import Connection, FrameTooLarge
from perdure.actors.plane.driving import Drive
from perdure.actors.plane.faults import fault
from perdure.actors.plane.messages import Ask, Call, Ended, Forget, Message, Told, Took, Value
from perdure.actors.plane.methods import METHODS, Method
from perdure.actors.plane.options import PlaneOptions
from perdure.journal import entries
from perdure.journal.errors import Overloaded, PerdureError, ProtocolError
from perdure.journal.requests import Accepted, Invoke
from perdure.journal.schema import Handler

Served = Callable[[bytes], Awaitable[bytes]]
_End: TypeAlias = tuple[bytes, entries.Outcome, int | None]  # see Engine.end_of


class Behind:
    """What a server stands in front of. Without an engine only ``control`` is answered.

    ``control`` changes this process, such as its registry; ``inspect`` looks at it.
    """

    def __init__(
        self,
        engine: Engine | None,
        inspect: Served | None,
        control: Served | None,
        options: PlaneOptions,
    ) -> None:
        self._engine = engine
        self.inspect = inspect
        self._control = control
        self._wait_s = options.registry_wait_s
        self.limit = options.in_flight_limit
        self._registry_changed = asyncio.Event()

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise PerdureError("this process has no partition")
        return self._engine

    async def control(self, request: bytes) -> bytes:
        if self._control is None:
            raise PerdureError("this process has nothing to control")
        answer = await self._control(request)
        self.registry_changed()
        return answer

    def registry_changed(self) -> None:
        """Requests for handlers that were not known may go on."""
        event, self._registry_changed = self._registry_changed, asyncio.Event()
        event.set()

    async def handler(self, service: str, name: str) -> Handler:
        """Wait a moment for one that is being registered. Raises Overloaded where it does not come."""
        deadline_s = asyncio.get_running_loop().time() + self._wait_s
        while (found := self.engine.registry.handler(service, name)) is None:
            left_s = deadline_s - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._registry_changed.wait(), left_s)
            except TimeoutError:
                raise Overloaded(
                    f"{service}/{name} is not known to this partition, though it is to who asks; "
                    "try again when the registration has reached all processes"
                ) from None
        return found


class Serving:
    """One caller. ``running``: what can be given up, by the caller's number."""

    def __init__(self, connection: Connection, behind: Behind) -> None:
        self._connection = connection
        self._behind = behind
        self._drives: dict[int, Drive] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def running_count(self) -> int:
        return len(self._drives) + len(self._tasks)

    def received(self, message: Message) -> None:
        """Raises ProtocolError."""
        kind = type(message)
        if kind is Call:
            self._call(cast(Call, message))
        elif kind is Ask:
            self._start(cast(Ask, message).number, self._ask(cast(Ask, message)))
        elif kind is Forget:
            self._forget(cast(Forget, message).number)
        else:
            raise ProtocolError(f"{kind.__name__} is not for a partition to hear from a caller")

    def _forget(self, number: int) -> None:
        if (drive := self._drives.pop(number, None)) is not None:
            drive.close()
        elif (task := self._tasks.pop(number, None)) is not None:
            task.cancel()

    def writable(self) -> None:
        self._connection.resume_reading()

    def lost(self) -> None:
        drives, self._drives = self._drives, {}
        tasks, self._tasks = self._tasks, {}
        for drive in drives.values():
            drive.close()
        for task in tasks.values():
            task.cancel()

    # ---- calls and sends

    def _call(self, call: Call) -> None:
        try:
            engine = self._behind.engine
            handler = engine.registry.handler(call.service, call.handler)
        except PerdureError as error:
            self._send(call.number, fault(call.number, error))
            return
        if handler is None:
            self._start(call.number, self._call_later(call))
            return
        invoke = _invoke(call, handler)
        coroutine: Coroutine[Any, Any, Any]
        coroutine = engine.end_of(invoke) if call.waits else engine.send(invoke)
        drive = self._drives[call.number] = Drive(coroutine, call.number, self._done)
        drive.go_on()

    async def _call_later(self, call: Call) -> None:
        handler = await self._behind.handler(call.service, call.handler)
        call.is_new = False  # it may have been sent again since, on another connection
        invoke, engine = _invoke(call, handler), self._behind.engine
        found: Accepted | _End
        found = await (engine.end_of(invoke) if call.waits else engine.send(invoke))
        self._send(call.number, _answer(call.number, found))

    def _done(self, number: int, found: Any, error: BaseException | None) -> None:
        self._drives.pop(number, None)
        self._send(number, _answer(number, found) if error is None else fault(number, error))

    def _send(self, number: int, answer: Message) -> None:
        connection = self._connection
        try:
            connection.send(answer)
        except FrameTooLarge as error:
            connection.send(fault(number, error))
        if connection.paused:
            connection.pause_reading()  # who does not read is not asked for more work

    # ---- everything else

    def _start(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= self._behind.limit:
            work.close()
            busy = Overloaded(
                f"{len(self._tasks)} questions of one process wait here; try again later"
            )
            self._send(number, fault(number, busy))
            return
        self._tasks[number] = asyncio.ensure_future(self._carry_out(number, work))

    async def _carry_out(self, number: int, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self._send(number, fault(number, error))
        finally:
            if self._tasks.get(number) is asyncio.current_task():
                del self._tasks[number]

    async def _ask(self, ask: Ask) -> None:
        method = METHODS.get(ask.method)
        if method is None:
            raise PerdureError(f"a partition does not know how to {ask.method!r}")
        try:
            arguments = method.decode_arguments(ask.arguments)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"{ask.method} is asked in another shape: {error}") from None
        answer = await self._answer(method, arguments)
        self._send(ask.number, Told(ask.number, method.encode(answer)))

    async def _answer(self, method: Method, arguments: Any) -> object:
        match method.name:
            case "attach":
                return methods.end_of(await self._behind.engine.attach(*arguments))
            case "output":
                return methods.end_of(await self._behind.engine.output(*arguments))
            case "restart":
                return methods.restart_end_of(await self._behind.engine.restart(*arguments))
            case "control":
                return await self._behind.control(*arguments)
            case "inspect":
                if self._behind.inspect is None:
                    raise PerdureError("this process has nothing to inspect")
                return await self._behind.inspect(*arguments)
            case name:
                place: object = self._behind.engine
                if name.startswith("schedules."):
                    place, name = self._behind.engine.schedules, name.removeprefix("schedules.")
                return await getattr(place, name)(*arguments)


def _invoke(call: Call, handler: Handler) -> Invoke:
    return Invoke(
        handler,
        call.key,
        call.body,
        call.headers,
        call.idempotency_key,
        call.delay_ms,
        call.scope,
        call.limit_key,
        call.id,
        call.trace,
        call.is_new,
        call.keep_ms,
        call.seed,
    )


def _answer(number: int, found: Accepted | _End) -> Message:
    if type(found) is Accepted:
        return Took(number, found.is_new, found.execution_time_ms)
    assert type(found) is tuple
    _, result, expires_at_ms = found
    if expires_at_ms is None and type(result) is entries.Value:
        return Value(number, result.content)
    return Ended(number, result, expires_at_ms)
