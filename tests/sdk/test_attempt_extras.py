"""What surrounds a handler: request, logs, codec, context managers, extension data, scopes, tasks."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure.asyncio import gather
from perdure.attempt import HandlerAttempt
from perdure.context import Context, ObjectContext
from perdure.current import (
    clear_extension_data,
    current_context,
    get_extension_data,
    set_extension_data,
)
from perdure.entry_codec import JournalValueCodec
from perdure.hosting import Hosted
from perdure.journal.entries import (
    Call,
    Failure,
    Input,
    OneWayCall,
    Outcome,
    Output,
    SetState,
    Value,
)
from perdure.journal.errors import UsageError
from perdure.logcontext import InvocationFields, record_factory
from perdure.logging import RestateLoggingFilter
from perdure.object import VirtualObject
from perdure.service import Service
from tests.sdk.lab import INVOCATION, Lab, settle

Target = Service("Target")


@Target.handler()
async def answer(ctx: Context, number: int) -> int:
    return number


def run_of(body: Any, **more: Any) -> tuple[Lab, Outcome]:
    service = VirtualObject("Probe")
    service.handler(name="go")(body)
    hosted = Hosted([service], codec=more.pop("codec", None))

    async def run() -> tuple[Lab, Outcome]:
        lab = Lab([service, Target], "Probe/go", hosted=hosted, **more)
        return lab, await lab.run()

    return asyncio.run(run())


# ---- the request --------------------------------------------------------------------------------


def test_request_shows_id_headers_and_body() -> None:
    async def body(ctx: ObjectContext, raw: str) -> list[Any]:
        request = ctx.request()
        assert not request.attempt_finished_event.is_set()
        return [request.id, request.headers, request.body.decode(), current_context() is ctx]

    _, result = run_of(body, argument=b'"x"', headers=(("a", "b"),))
    assert result == Value(f'["{INVOCATION}",{{"a":"b"}},"\\"x\\"",true]'.encode())
    assert current_context() is None


def test_attempt_finished_event_is_set_at_the_end() -> None:
    events: list[Any] = []

    async def body(ctx: ObjectContext) -> None:
        events.append(ctx.request().attempt_finished_event)
        await ctx.sleep(timedelta(seconds=1))

    run_of(body, always_suspend=True)
    assert len(events) == 2
    assert all(each.is_set() for each in events)


def test_random_and_uuid_are_the_same_in_every_attempt() -> None:
    seen: list[tuple[float, str]] = []

    async def body(ctx: ObjectContext) -> None:
        seen.append((ctx.random().random(), str(ctx.uuid())))
        await ctx.sleep(timedelta(seconds=1))

    run_of(body, always_suspend=True)
    assert len(seen) == 2
    assert seen[0] == seen[1]


# ---- logs ---------------------------------------------------------------------------------------


def test_lines_of_a_replay_are_dropped_and_the_others_are_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger("tests.replayed")
    filter_ = RestateLoggingFilter()
    log.addFilter(filter_)

    async def body(ctx: ObjectContext) -> None:
        log.warning("begin")
        ctx.set("a", 1)
        log.warning("after a")
        ctx.set("b", 1)
        log.warning("after b")
        await ctx.run_typed("r", lambda: log.warning("in run"))
        log.warning("end")

    with caplog.at_level(logging.WARNING, "tests.replayed"):
        run_of(body, entries=(Input((), b""), SetState("a", b"1"), SetState("b", b"1")))
    log.removeFilter(filter_)
    assert [r.message for r in caplog.records] == ["after b", "in run", "end"]


def test_log_records_carry_the_attempt() -> None:
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    log = logging.getLogger("tests.fields")
    handler = Keep()
    handler.addFilter(InvocationFields())
    log.addHandler(handler)

    async def body(ctx: ObjectContext) -> None:
        log.error("handler")
        await ctx.run_typed("r", lambda: log.error("run"))

    run_of(body)
    log.error("outside")
    log.removeHandler(handler)
    names = ("invocation_id", "target", "attempt")
    fields = [tuple(vars(each)[name] for name in names) for each in records]
    assert fields == [(INVOCATION, "Probe/k/go", 1)] * 2 + [("", "", 0)]
    made = record_factory(logging.LogRecord)("n", 10, "p", 1, "m", (), None)
    assert vars(made)["attempt"] == 0


# ---- the codec ----------------------------------------------------------------------------------


class Reverse(JournalValueCodec):
    def encode(self, buf: bytes) -> bytes:
        return b"!" + buf[::-1]

    async def decode(self, buf: bytes) -> bytes:
        await asyncio.sleep(0)
        if not buf.startswith(b"!"):
            raise ValueError("not encoded")
        return buf[1:][::-1]


def test_codec_sees_every_value_and_no_failure() -> None:
    async def body(ctx: ObjectContext, number: int) -> list[Any]:
        ctx.set("x", number)
        ran = await ctx.run_typed("r", lambda: 12)
        called = await ctx.service_call(answer, 34)
        return [await ctx.get("x"), ran, called, await ctx.get("absent")]

    lab, result = run_of(
        body, argument=b"!01", codec=Reverse(), callees={"Target/answer": lambda p: Value(p)}
    )
    assert result == Value(b"!" + b"[10,12,34,null]"[::-1])
    assert SetState("x", b"!01") in lab.commands
    assert any(type(c) is Call and c.parameter == b"!43" for c in lab.commands)


def test_codec_that_refuses_the_input_is_a_terminal_400() -> None:
    async def body(ctx: ObjectContext, number: int) -> None:
        raise AssertionError("not reached")

    _, result = run_of(body, argument=b"1", codec=Reverse())
    assert isinstance(result, Failure)
    assert (result.code, "not encoded" in result.message) == (400, True)


# ---- around the handler -------------------------------------------------------------------------


def test_context_managers_wrap_every_attempt() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        seen.append("open")
        try:
            yield
        finally:
            seen.append("close")

    service = Service("Managed", invocation_context_managers=[resource])

    @service.handler()
    async def go(ctx: Context) -> None:
        seen.append("run")
        await ctx.sleep(timedelta(seconds=1))

    async def run() -> None:
        await Lab([service], "Managed/go", always_suspend=True).run()

    asyncio.run(run())
    assert seen == ["open", "run", "close"] * 2


def test_extension_data_is_closed_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    class Plain:
        def __close__(self) -> None:
            closed.append("plain")

    class Async:
        async def __close__(self) -> None:
            closed.append("async")

    class Bad:
        def __close__(self) -> None:
            raise ValueError("no")

    async def body(ctx: ObjectContext) -> None:
        for name, each in (("p", Plain()), ("b", Bad()), ("a", Async()), ("n", 1)):
            set_extension_data(ctx, name, each)
        set_extension_data(ctx, "gone", Plain())
        clear_extension_data(ctx, "gone")
        assert get_extension_data(ctx, "gone") is None
        assert get_extension_data(ctx, "n") == 1

    run_of(body)
    assert closed == ["plain", "async"]
    assert "closing the extension data 'b' failed" in caplog.text


# ---- scopes and generic calls -------------------------------------------------------------------


def test_scoped_calls_carry_scope_and_limit_key() -> None:
    async def body(ctx: ObjectContext) -> None:
        scoped = ctx.scope("tenant")
        scoped.service_send(answer, 1, limit_key="a/b")
        scoped.service_send(answer, 1, send_delay=timedelta(seconds=2))
        await scoped.service_call(answer, 1)
        ctx.generic_send("Target", "answer", b"1", scope="tenant", limit_key="c")

    lab, _ = run_of(body, callees={"Target/answer": lambda p: Value(p)})
    sends = [c for c in lab.commands if type(c) is OneWayCall]
    assert [(c.scope, c.limit_key) for c in sends] == [
        ("tenant", "a/b"),
        ("tenant", None),
        ("tenant", "c"),
    ]
    assert [c.invoke_at_ms - lab.clock_ms for c in sends if c.invoke_at_ms] == [2000]
    [call] = [c for c in lab.commands if type(c) is Call]
    assert call.scope == "tenant"


# ---- tasks --------------------------------------------------------------------------------------


def test_tasks_of_the_handler_may_wait_side_by_side() -> None:
    async def body(ctx: ObjectContext) -> list[Any]:
        async def one(n: int) -> int:
            await ctx.sleep(timedelta(seconds=n), name=str(n))
            return n

        return list(await asyncio.gather(one(3), one(1), one(2)))

    for suspend in (False, True):
        _, result = run_of(body, always_suspend=suspend)
        assert result == Value(b"[3,1,2]")


def test_timeout_of_asyncio_only_ends_the_await() -> None:
    async def body(ctx: ObjectContext) -> str:
        nap = ctx.sleep(timedelta(days=1), name="nap")
        try:
            async with asyncio.timeout(0):
                await nap
        except TimeoutError:
            await gather(nap)
        return "slept"

    _, result = run_of(body)
    assert result == Value(b'"slept"')


def test_same_future_awaited_twice_gives_the_same_value() -> None:
    async def body(ctx: ObjectContext) -> list[Any]:
        future = ctx.run_typed("r", lambda: [1])
        return [await future, await future]

    _, result = run_of(body)
    assert result == Value(b"[[1],[1]]")


def test_an_attempt_that_is_over_leaves_no_garbage() -> None:
    async def body(ctx: ObjectContext) -> None:
        ctx.set("x", await ctx.get("x"))
        await ctx.sleep(timedelta(seconds=1))

    gc.collect()
    gc.disable()
    try:
        run_of(body)
        found = [each for each in gc.get_objects() if type(each) is HandlerAttempt]
    finally:
        gc.enable()
    assert len(found) <= 1  # the lab holds the last one


def test_what_outlives_its_handler_is_refused() -> None:
    kept: list[Any] = []

    async def lend(ctx: ObjectContext) -> None:
        kept.extend((ctx, ctx.sleep(timedelta(days=1)), ctx.run_typed("r", int)))

    async def late() -> list[str]:
        said = []
        for use in (
            lambda: kept[0].get("x"),
            lambda: kept[1],
            lambda: gather(kept[1], kept[2]),
            lambda: kept[0].scope("a").service_call(answer, 1),
        ):
            try:
                await use()
            except UsageError as e:
                said.append(e.message)
        return said

    run_of(lend)
    said = asyncio.run(late())
    assert len(said) == 4
    assert all("after the handler ended" in each for each in said)


def test_closing_the_host_ends_what_is_left() -> None:
    service = VirtualObject("Probe")

    @service.handler()
    async def go(ctx: ObjectContext) -> None:
        await ctx.sleep(timedelta(days=1))

    async def run() -> None:
        lab = Lab([service], "Probe/go")
        lab.auto_fire = False
        lab.start()
        await settle()
        assert lab.hosted.running_count == 1
        lab.hosted.close()
        await settle()
        assert lab.hosted.running_count == 0
        assert not any(type(c) is Output for c in lab.entries)

    asyncio.run(run())
