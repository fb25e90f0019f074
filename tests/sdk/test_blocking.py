"""Handlers that are plain functions: values instead of futures, threads, suspension by unwinding."""

import asyncio
import json
import queue
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from perdure.asyncio import gather
from perdure.blocking import BlockingContext
from perdure.context import Context, RunOptions
from perdure.hosting import Hosted
from perdure.journal.attempt import Ended
from perdure.journal.entries import (
    Failure,
    GetEagerState,
    Input,
    Outcome,
    Output,
    SetState,
    Signal,
    Sleep,
    Value,
)
from perdure.journal.errors import TerminalError
from perdure.object import VirtualObject
from perdure.service import Service
from perdure.threads import HandlerThreads
from perdure.workflow import Workflow
from tests.sdk.lab import CALLEE, Callee, Lab, settle

PATIENCE_S = 30

till = VirtualObject("Till")
echo = Service("Echo")
flow = Workflow("Flow")


@echo.handler()
async def say(ctx: Context, text: str) -> str:
    return text


@till.handler()
def add(ctx: BlockingContext, amount: int) -> int:
    total = (ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total


@till.handler()
def everything(ctx: BlockingContext) -> list[Any]:
    ctx.set("a", 1)
    keys = ctx.state_keys()
    ctx.clear("a")
    ctx.clear_all()
    doubled = ctx.run_typed("double", lambda x: x * 2, RunOptions(), 4)
    tripled = ctx.run("triple", lambda x: x * 3, args=(4,))
    ctx.sleep(timedelta(days=1), name="nap")
    said = ctx.service_call(say, "hi")
    sent = ctx.service_send(say, "later")
    other = ctx.object_call(add, "k2", 1)
    raw = ctx.generic_call("Echo", "say", b'"raw"')
    one, two = ctx.start.service_call(say, "x"), ctx.start.sleep(timedelta(seconds=1))
    both = ctx.gather(one, two)
    winner = ctx.select(slow=ctx.start.sleep(timedelta(days=9)), fast=ctx.start.get("none"))
    return [
        keys,
        doubled,
        tripled,
        said,
        sent.invocation_id(),
        other,
        raw.decode(),
        both,
        winner,
        ctx.key(),
        str(ctx.uuid()),
        ctx.time(),
        ctx.request().id[:5],
    ]


@till.handler()
def fails(ctx: BlockingContext) -> str:
    try:
        ctx.service_call(say, "bad")
    except TerminalError as e:
        return f"{e.status_code} {e.message}"
    return ""


@flow.main()
def approve(ctx: BlockingContext) -> list[Any]:
    promise = ctx.promise("p", type_hint=int)
    before = promise.peek()
    promise.resolve(3)
    return [before, promise.value()]


CALLEES: dict[str, Callee] = {
    "Echo/say": lambda body: Failure(418, "tea") if body == b'"bad"' else Value(body),
    "Till/add": lambda body: Value(b"2"),
}


def lab_of(target: str, **more: Any) -> Lab:
    return Lab([till, echo, flow], target, callees=CALLEES, **more)


def outcome(target: str, **more: Any) -> tuple[Lab, Any]:
    async def run() -> tuple[Lab, Outcome]:
        lab = lab_of(target, **more)
        return lab, await lab.run()

    lab, result = asyncio.run(run())
    assert isinstance(result, Value), result
    return lab, json.loads(result.content)


def test_handler_that_only_uses_state_emits_one_burst() -> None:
    lab, result = outcome("Till/add", argument=b"5", state={"total": b"7"})
    assert result == 12
    assert lab.bursts == [
        (GetEagerState("total", b"7"), SetState("total", b"12"), Output(Value(b"12")), Ended())
    ]


@pytest.mark.parametrize("suspend", [False, True])
def test_methods_return_values(suspend: bool) -> None:
    lab, result = outcome("Till/everything", always_suspend=suspend)
    assert result[:4] == [["a"], 8, 12, "hi"]
    assert result[4] == CALLEE
    assert result[5:10] == [2, '"raw"', ["x", None], ["fast", None], "k"]
    assert result[12] == "inv_1"
    assert (lab.attempt_count > 2) == suspend
    again, replayed = outcome("Till/everything", entries=tuple(lab.entries))
    assert again.bursts == [(Ended(),)]
    assert replayed == result


def test_failures_of_calls_are_raised() -> None:
    assert outcome("Till/fails")[1] == "418 tea"


def test_promises_return_values() -> None:
    assert outcome("Flow/approve")[1] == [None, 3]


def end_of(body: Callable[..., Any], **more: Any) -> tuple[Lab, Outcome]:
    service = VirtualObject("Probe")
    service.handler(name="go")(body)

    async def run() -> tuple[Lab, Outcome]:
        lab = Lab([service, echo], "Probe/go", callees=CALLEES, **more)
        return lab, await lab.run()

    return asyncio.run(run())


def test_suspension_unwinds_the_thread() -> None:
    unwound: queue.SimpleQueue[str] = queue.SimpleQueue()

    def body(ctx: BlockingContext) -> str:
        try:
            ctx.sleep(timedelta(days=1))
        finally:
            unwound.put(threading.current_thread().name)
        return "woken"

    lab, result = end_of(body, always_suspend=True)
    assert result == Value(b'"woken"')
    assert lab.attempt_count == 2
    for _ in range(2):  # the first attempt's thread may be the last to get there
        assert unwound.get(timeout=PATIENCE_S).startswith("perdure-handler")


def test_cancellation_is_raised_in_the_thread() -> None:
    def body(ctx: BlockingContext) -> str:
        try:
            ctx.sleep(timedelta(days=1))
        except TerminalError as e:
            return e.message
        return ""

    async def run() -> None:
        service = VirtualObject("Probe")
        service.handler(name="go")(body)
        lab = Lab([service], "Probe/go")
        lab.auto_fire = False
        lab.start()
        while lab.awaiting is None:
            await asyncio.sleep(0)
        lab.cancel()
        assert await lab.finish() == Value(b'"cancelled"')

    asyncio.run(run())


def test_abort_lets_the_thread_go() -> None:
    ended = threading.Event()

    def body(ctx: BlockingContext) -> None:
        try:
            ctx.sleep(timedelta(days=1))
        finally:
            ended.set()

    async def run() -> None:
        service = VirtualObject("Probe")
        service.handler(name="go")(body)
        lab = Lab([service], "Probe/go")
        lab.auto_fire = False
        lab.start()
        while lab.awaiting is None:
            await asyncio.sleep(0)
        count = len(lab.bursts)
        assert lab.attempt is not None
        lab.attempt.abort()
        assert await asyncio.to_thread(ended.wait, 5)
        await settle()
        assert len(lab.bursts) == count
        lab.hosted.close()

    asyncio.run(run())


def test_context_managers_around_a_plain_handler_set_context_variables() -> None:
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    from perdure.context_managers import contextvar

    @contextvar
    @asynccontextmanager
    async def resource() -> AsyncIterator[str]:
        yield "from the manager"

    service = Service("Managed", invocation_context_managers=[resource])

    @service.handler()
    def go(ctx: BlockingContext) -> str:
        return resource.value

    async def run() -> Outcome:
        return await Lab([service], "Managed/go").run()

    assert asyncio.run(run()) == Value(b'"from the manager"')


def test_sends_leave_before_the_function_ends() -> None:
    may_end = threading.Event()

    def body(ctx: BlockingContext) -> None:
        ctx.service_send(say, "now")
        assert may_end.wait(5)

    async def run() -> None:
        service = VirtualObject("Probe")
        service.handler(name="go")(body)
        lab = Lab([service, echo], "Probe/go")
        lab.start()
        while not lab.bursts:
            await asyncio.sleep(0)
        assert [type(f).__name__ for f in lab.bursts[0]] == ["OneWayCall"]
        may_end.set()
        await lab.finish()

    asyncio.run(run())


def test_handlers_that_wait_make_room_for_others() -> None:
    order: list[str] = []

    def waits(ctx: BlockingContext) -> None:
        order.append("waits")
        ctx.signal("go")

    def short(ctx: BlockingContext) -> str:
        order.append("short")
        return "done"

    async def run() -> None:
        service = VirtualObject("Probe")
        service.handler(name="waits")(waits)
        service.handler(name="short")(short)
        hosted = Hosted([service], threads=1)
        first = Lab([service], "Probe/waits", hosted=hosted)
        first.start()
        while first.awaiting is None:
            await asyncio.sleep(0)
        second = Lab([service], "Probe/short", hosted=hosted)
        second.start()
        assert second.over is not None
        await asyncio.wait_for(second.over, 5)
        assert len(first.suspensions) == 1
        first.notify(Signal("go", Value(b"1")))
        assert first.over is not None
        await asyncio.wait_for(first.over, 5)
        assert order == ["waits", "short", "waits"]
        hosted.close()

    asyncio.run(run())


def test_a_handler_that_still_waits_when_its_closure_ends_makes_room_then() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def closure() -> str:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        return "over"

    def waits(ctx: BlockingContext) -> None:
        ctx.gather(ctx.start.run_typed("closure", closure), ctx.start.signal("go"))

    def short(ctx: BlockingContext) -> str:
        return "done"

    async def run() -> None:
        service = VirtualObject("Probe")
        service.handler(name="waits")(waits)
        service.handler(name="short")(short)
        hosted = Hosted([service], threads=1)
        first = Lab([service], "Probe/waits", hosted=hosted)
        first.start()
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)
        second = Lab([service], "Probe/short", hosted=hosted)
        second.start()
        while not hosted.handler_threads.scarce:
            await asyncio.sleep(0)
        may_end.set()
        assert second.over is not None
        await asyncio.wait_for(second.over, PATIENCE_S)
        assert len(first.suspensions) == 1
        first.notify(Signal("go", Value(b"1")))
        assert first.over is not None
        await asyncio.wait_for(first.over, PATIENCE_S)
        hosted.close()

    asyncio.run(run())


def test_a_closure_that_fails_does_not_overtake_what_the_thread_has_sent() -> None:
    """Else the journal had a hole where the send was, and no replay would fit it."""
    selected, failing, sent = threading.Event(), threading.Event(), threading.Event()
    attempts: list[int] = []
    begun: list[bool] = []

    async def closure() -> str:
        if len(attempts) > 1:
            return "ok"
        begun.append(True)
        while not selected.is_set():
            await asyncio.sleep(0)
        failing.set()
        sent.wait(PATIENCE_S)  # the loop stands still meanwhile
        raise RuntimeError("first try fails")

    def body(ctx: BlockingContext) -> str:
        attempts.append(1)
        risky = ctx.start.run_typed("risky", closure)
        ctx.select(risky=risky, go=ctx.start.signal("go"))
        selected.set()
        assert failing.wait(PATIENCE_S)
        ctx.service_send(say, "now")
        ctx.set("sent", True)
        sent.set()
        return str(ctx.result(risky))

    async def run() -> None:
        service = VirtualObject("Probe")
        service.handler(name="go")(body)
        lab = Lab([service, echo], "Probe/go")
        lab.start()
        while not begun:
            await asyncio.sleep(0)
        lab.notify(Signal("go", Value(b"1")))
        await lab.finish()
        assert len(attempts) == 2
        assert [each.message for each in lab.failures] == ["RuntimeError('first try fails')"]
        kinds = [type(entry).__name__ for entry in lab.entries]
        assert kinds.index("OneWayCall") < kinds.index("SetState")
        assert kinds[-1] == "Output"

    asyncio.run(run())


def test_mismatch_names_the_line_of_the_plain_function() -> None:
    def body(ctx: BlockingContext) -> None:
        ctx.set("other", 1)

    def stuck(ctx: BlockingContext) -> None:
        ctx.sleep(timedelta(days=1))

    for handler, entries in (
        (body, (Input((), b""), SetState("x", b"1"))),
        (stuck, (Input((), b""), Sleep(1, 5), SetState("x", b"1"))),
    ):
        with pytest.raises(AssertionError) as caught:
            end_of(handler, entries=entries)
        line = handler.__code__.co_firstlineno + 1
        assert f"test_blocking.py:{line}" in str(caught.value)


def test_slips_in_a_plain_function_end_the_invocation() -> None:
    def in_run(ctx: BlockingContext) -> None:
        ctx.run_typed("inner", ctx.set, RunOptions(), "x", 1)

    def no_future(ctx: BlockingContext) -> None:
        ctx.result(ctx.get("x"))  # type: ignore[arg-type]

    def other_thread(ctx: BlockingContext) -> None:
        caught: list[BaseException] = []

        def use() -> None:
            try:
                ctx.get("x")
            except TerminalError as e:
                caught.append(e)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        raise caught[0]

    for body, text in (
        (in_run, "inside the closure of run 'inner'"),
        (no_future, "instead of a future"),
        (other_thread, "another thread"),
    ):
        _, result = end_of(body)
        assert isinstance(result, Failure)
        assert text in result.message


async def _adds_up(ctx: Context, text: str) -> list[Any]:
    both = await gather(ctx.run("one", lambda: 1), ctx.service_call(say, text))
    return [await each for each in both]


@pytest.mark.parametrize("suspend", [False, True])
def test_a_plain_function_that_returns_a_coroutine_runs_on_the_loop(suspend: bool) -> None:
    service = Service("Wrapped")
    service.handler("go")(lambda ctx, text: _adds_up(ctx, text))

    async def run() -> Outcome:
        lab = Lab([service, echo], "Wrapped/go", b'"x"', callees=CALLEES, always_suspend=suspend)
        return await lab.run()

    assert asyncio.run(run()) == Value(b'[1,"x"]')
    assert not service.handlers["go"].blocking
    assert asyncio.run(run()) == Value(b'[1,"x"]')


def test_a_coroutine_that_comes_behind_an_operation_is_refused() -> None:
    def body(ctx: BlockingContext) -> Any:
        ctx.set("n", 1)
        return _adds_up(ctx, "x")  # type: ignore[arg-type]

    _, result = end_of(body)
    assert isinstance(result, Failure)
    assert "was not awaited" in result.message


def test_a_turn_that_was_given_counts_before_it_is_taken() -> None:
    async def run() -> None:
        threads = HandlerThreads(1)
        loop = asyncio.get_running_loop()
        gates = [threading.Event() for _ in range(3)]
        tasks: list[asyncio.Task[bool]] = []

        def begin(gate: threading.Event) -> None:
            attempt = Mock(loop=loop, **{"suspend_if_idle.return_value": False})
            tasks.append(loop.create_task(threads.run(attempt, gate.wait)))

        for gate in gates[:2]:
            begin(gate)
            await asyncio.sleep(0)
        freed = threads._freed

        def let_in_and_begin(*args: Any) -> None:
            begin(gates[2])
            freed(*args)

        threads._freed = let_in_and_begin  # type: ignore[method-assign,assignment]
        gates[0].set()
        while len(tasks) < 3:
            await asyncio.sleep(0)
        await settle()
        assert threads.scarce  # the third one came in the turn in which the second was let in
        for gate in gates:
            gate.set()
        threads._freed = freed  # type: ignore[method-assign]
        assert await asyncio.gather(*tasks) == [True] * 3
        assert not threads.scarce
        threads.close()

    asyncio.run(run())
