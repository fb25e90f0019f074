"""How attempts end badly: user errors, mismatches, run retries, and slips of the programmer."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure import server_context
from perdure.asyncio import as_completed, gather, select, wait_completed
from perdure.context import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RestateDurableFuture,
    RunOptions,
)
from perdure.hosting import Hosted
from perdure.journal.attempt import Failed
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    Completion,
    Entry,
    Failure,
    Input,
    Outcome,
    Run,
    SetState,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.errors import RetryableError, TerminalError
from perdure.object import VirtualObject
from perdure.service import Service
from tests.sdk.lab import Lab, settle

Body = Callable[[Any], Coroutine[Any, Any, Any]]

Target = Service("Target")
Thing = VirtualObject("Thing")


@Target.handler()
async def answer(ctx: Context, number: int) -> int:
    return number


@Thing.handler()
async def poke(ctx: ObjectContext, number: int) -> int:
    return number


def lab_of(body: Body, *, kind: str = "exclusive", **more: Any) -> Lab:
    """A lab for one handler whose code is ``body``."""
    if kind == "service":
        service: Any = Service("Probe")
        service.handler(name="go")(body)
    else:
        service = VirtualObject("Probe")
        service.handler(name="go", kind=kind)(body)
    return Lab([service, Target, Thing], "Probe/go", **more)


def end_of(body: Body, **more: Any) -> tuple[Lab, Outcome]:
    async def run() -> tuple[Lab, Outcome]:
        lab = lab_of(body, **more)
        return lab, await lab.run()

    return asyncio.run(run())


def failed_of(body: Body, **more: Any) -> Failed:
    """The first failure of an attempt that is not retried."""

    async def run() -> Failed:
        lab = lab_of(body, **more)
        lab.retries = False
        lab.start()
        assert lab.over is not None
        await asyncio.wait_for(lab.over, 5)
        lab.hosted.close()
        [failed] = lab.failures
        return failed

    return asyncio.run(run())


# ---- slips --------------------------------------------------------------------------------------


async def future_in_if(ctx: ObjectContext) -> None:
    if ctx.get("x"):
        pass


async def future_in_sum(ctx: ObjectContext) -> None:
    ctx.set("x", ctx.get("x") + 1)  # type: ignore[operator]


async def future_in_text(ctx: ObjectContext) -> None:
    ctx.set("x", f"{ctx.service_call(answer, 1)}")


async def future_compared(ctx: ObjectContext) -> None:
    ctx.set("x", ctx.run_typed("r", int) == 3)  # type: ignore[comparison-overlap]


async def future_attribute(ctx: ObjectContext) -> None:
    ctx.get("x").value  # type: ignore[attr-defined]  # noqa: B018


async def future_iterated(ctx: ObjectContext) -> None:
    for _ in ctx.state_keys():  # type: ignore[attr-defined]
        pass


async def future_as_value(ctx: ObjectContext) -> None:
    ctx.set("x", ctx.get("y"))


async def future_as_result(ctx: ObjectContext) -> Any:
    return ctx.get("y")


async def coroutine_to_run(ctx: ObjectContext) -> None:
    async def fetch() -> int:
        return 1

    await ctx.run_typed("fetch", fetch())  # type: ignore[call-overload]


async def value_to_run(ctx: ObjectContext) -> None:
    await ctx.run_typed("five", 5)  # type: ignore[call-overload]


async def options_forgotten(ctx: ObjectContext) -> None:
    await ctx.run_typed("five", answer, 5)  # type: ignore[call-overload]


async def generator_to_run(ctx: ObjectContext) -> None:
    async def many() -> AsyncIterator[int]:
        yield 1

    await ctx.run_typed("many", many)


async def not_a_handler(ctx: ObjectContext) -> None:
    await ctx.service_call(len, "abc")  # type: ignore[arg-type]


async def key_missing(ctx: ObjectContext) -> None:
    await ctx.service_call(poke, 1)


async def key_superfluous(ctx: ObjectContext) -> None:
    await ctx.object_call(answer, "k", 1)


async def key_of_wrong_type(ctx: ObjectContext) -> None:
    await ctx.object_call(poke, 7, 1)  # type: ignore[call-overload]


async def bad_value(ctx: ObjectContext) -> None:
    ctx.set("x", object())


async def bad_argument(ctx: ObjectContext) -> None:
    ctx.service_send(answer, object())  # type: ignore[arg-type]


async def bad_result(ctx: ObjectContext) -> Any:
    return object()


async def bad_run_result(ctx: ObjectContext) -> None:
    await ctx.run_typed("make", object)


async def bad_sleep(ctx: ObjectContext) -> None:
    await ctx.sleep(5)  # type: ignore[arg-type]


async def bad_awakeable(ctx: ObjectContext) -> None:
    ctx.resolve_awakeable("nonsense", 1)


async def bad_invocation_id(ctx: ObjectContext) -> None:
    ctx.cancel_invocation("nonsense")


async def bad_scope(ctx: ObjectContext) -> None:
    ctx.scope("a b")


async def bad_limit_key(ctx: ObjectContext) -> None:
    ctx.generic_send("A", "b", b"", limit_key="x")


async def bad_header(ctx: ObjectContext) -> None:
    ctx.service_send(answer, 1, headers={"n": 1})  # type: ignore[dict-item]


async def bad_type_in_state(ctx: ObjectContext) -> None:
    ctx.set("n", "text")
    await ctx.get("n", type_hint=int)


async def foreign_in_gather(ctx: ObjectContext) -> None:
    await gather(asyncio.sleep(0))  # type: ignore[arg-type]


async def promise_in_object(ctx: ObjectContext) -> None:
    ctx.promise("x")  # type: ignore[attr-defined]


async def context_in_run(ctx: ObjectContext) -> None:
    async def inner() -> None:
        ctx.set("x", 1)

    await ctx.run_typed("inner", inner)


async def future_in_run(ctx: ObjectContext) -> None:
    nap = ctx.sleep(timedelta(days=1))

    async def inner() -> None:
        await nap

    await ctx.run_typed("inner", inner)


async def context_in_thread(ctx: ObjectContext) -> None:
    await asyncio.to_thread(ctx.set, "x", 1)


SLIPS: list[tuple[Body, list[str]]] = [
    (future_in_if, ["state 'x'", "forget `await`"]),
    (future_in_sum, ["state 'x'", "forget `await`"]),
    (future_in_text, ["Target/answer", "forget `await`"]),
    (future_compared, ["run 'r'", "forget `await`"]),
    (future_attribute, ["forget `await`"]),
    (future_iterated, ["state keys", "forget `await`"]),
    (future_as_value, ["state 'y'", "forget `await`"]),
    (future_as_result, ["state 'y'", "forget `await`"]),
    (coroutine_to_run, ["coroutine object instead of a function", "'fetch', fetch)"]),
    (value_to_run, ["'five' needs a function"]),
    (options_forgotten, ["RunOptions", "come after it"]),
    (generator_to_run, ["generator"]),
    (not_a_handler, ["len", "not a handler"]),
    (key_missing, ["Thing/poke", "needs a key", "ctx.object_call"]),
    (key_superfluous, ["Target/answer", "has no key", "ctx.service_call"]),
    (key_of_wrong_type, ["Thing/poke", "str, not int"]),
    (bad_value, ["state 'x'", "object"]),
    (bad_argument, ["Target/answer", "object"]),
    (bad_result, ["Probe/go", "object"]),
    (bad_run_result, ["run 'make'", "object"]),
    (bad_sleep, ["timedelta", "int"]),
    (bad_awakeable, ["'nonsense'", "awakeable"]),
    (bad_invocation_id, ["'nonsense'", "invocation id"]),
    (bad_scope, ["scope", "'a b'"]),
    (bad_limit_key, ["limit key", "scope"]),
    (bad_header, ["headers map str to str"]),
    (bad_type_in_state, ["state 'n'", "int"]),
    (foreign_in_gather, ["SDK created futures", "coroutine"]),
    (promise_in_object, ["promises belong to workflows"]),
    (context_in_run, ["inside the closure of run 'inner'"]),
    (future_in_run, ["inside the closure of run 'inner'"]),
    (context_in_thread, ["another thread"]),
]


@pytest.mark.parametrize(("body", "texts"), SLIPS, ids=[b.__name__ for b, _ in SLIPS])
def test_slip_ends_the_invocation_at_once_with_what_to_do(body: Body, texts: list[str]) -> None:
    lab, result = end_of(body)
    assert isinstance(result, Failure)
    for text in texts:
        assert text in result.message, result.message
    assert lab.attempt_count == 1
    assert not lab.failures


async def write_state(ctx: Any) -> None:
    ctx.set("x", 1)


async def read_state(ctx: Any) -> None:
    await ctx.get("x")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (write_state, "shared", "shared handler"),
        (read_state, "service", "plain service"),
    ],
)
def test_what_a_kind_of_handler_may_not_do_is_refused(body: Body, kind: str, text: str) -> None:
    _, result = end_of(body, kind=kind)
    assert isinstance(result, Failure)
    assert text in result.message


def test_shared_handler_reads_state() -> None:
    async def body(ctx: ObjectSharedContext) -> Any:
        return [await ctx.get("x"), await ctx.state_keys(), ctx.key()]

    _, result = end_of(body, kind="shared", state={"x": b"1"})
    assert result == Value(b'[1,["x"],"k"]')


def test_context_of_an_ended_handler_says_so() -> None:
    kept: list[ObjectContext] = []

    async def keep(ctx: ObjectContext) -> None:
        kept.append(ctx)

    async def use(ctx: ObjectContext) -> None:
        kept[0].set("x", 1)

    async def ask(ctx: ObjectContext) -> None:
        await calls[0].invocation_id()

    calls: list[Any] = []

    async def call(ctx: ObjectContext) -> None:
        calls.append(ctx.generic_call("Any", "one", b""))
        calls[0].invocation_id().close()

    end_of(keep)
    end_of(call)
    for late in (use, ask):
        _, result = end_of(late)
        assert isinstance(result, Failure)
        assert "used after the handler ended" in result.message


def test_future_and_context_of_another_invocation_are_refused() -> None:
    kept: list[Any] = []

    async def lend(ctx: ObjectContext) -> None:
        kept.extend((ctx, ctx.sleep(timedelta(days=1))))
        await kept[1]

    async def use_context(ctx: ObjectContext) -> None:
        kept[0].set("x", 1)

    async def use_future(ctx: ObjectContext) -> None:
        await kept[1]

    async def select_future(ctx: ObjectContext) -> None:
        await select(a=kept[1])

    async def mix_futures(ctx: ObjectContext) -> None:
        await gather(kept[1], ctx.sleep(timedelta(1)))

    async def run() -> None:
        lender = lab_of(lend)
        lender.auto_fire = False
        lender.start()
        await settle()
        for body, text in (
            (use_context, "by another invocation"),
            (use_future, "belongs to another invocation"),
            (select_future, "belongs to another invocation"),
            (mix_futures, "same SDK context"),
        ):
            result = await lab_of(body).run()
            assert isinstance(result, Failure)
            assert text in result.message
        lender.hosted.close()
        await settle()

    asyncio.run(run())


def test_run_that_is_never_awaited_ends_the_invocation() -> None:
    ran: list[int] = []

    async def body(ctx: ObjectContext) -> None:
        ctx.run_typed("lost", ran.append, RunOptions(), 1)
        await select(a=ctx.run_typed("kept", int), b=ctx.get("x"))

    _, outcome = end_of(body)
    assert ran == []
    assert isinstance(outcome, Failure)
    assert "without awaiting run 'lost'" in outcome.message
    assert "'kept'" not in outcome.message


def test_empty_combinators() -> None:
    async def body(ctx: ObjectContext) -> list[Any]:
        none: tuple[RestateDurableFuture[Any], ...] = ()
        nothing = [each async for each in as_completed(*none)]
        with pytest.raises(ValueError, match="At least one"):
            await select()
        return [await gather(), await wait_completed(), nothing]

    _, result = end_of(body)
    assert result == Value(b"[[],[[],[]],[]]")


# ---- errors of user code ------------------------------------------------------------------------


def test_terminal_error_is_the_answer_also_as_a_cause() -> None:
    async def body(ctx: ObjectContext) -> None:
        try:
            raise TerminalError("no", 418, {"a": "b"})
        except TerminalError as e:
            raise ValueError("wrapped") from e

    _, result = end_of(body)
    assert result == Failure(418, "no", {"a": "b"})


def test_other_errors_fail_the_attempt_with_their_trace() -> None:
    async def body(ctx: ObjectContext) -> None:
        ctx.set("x", 1)
        raise KeyError("missing")

    failed = failed_of(body)
    assert (failed.code, failed.message) == (500, "KeyError('missing')")
    assert "test_attempt_errors.py" in failed.stacktrace
    assert failed.next_retry_delay_ms is None


def test_retryable_error_sets_the_delay() -> None:
    async def body(ctx: ObjectContext) -> None:
        raise RetryableError("busy", 503, retry_after=timedelta(seconds=3))

    failed = failed_of(body)
    assert (failed.code, failed.message, failed.next_retry_delay_ms) == (503, "busy", 3000)


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_errors_that_would_end_the_process_only_fail_the_attempt(
    error: type[BaseException],
) -> None:
    async def body(ctx: ObjectContext) -> None:
        raise error

    assert failed_of(body).code == 500


def test_commands_before_a_failure_are_kept_and_the_retry_goes_on_behind_them() -> None:
    attempts: list[int] = []

    async def body(ctx: ObjectContext) -> str:
        ctx.set("x", 1)
        await ctx.sleep(timedelta(seconds=1))
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("again")
        return "done"

    lab, result = end_of(body)
    assert result == Value(b'"done"')
    assert lab.attempt_count == 3
    assert [type(c).__name__ for c in lab.commands] == ["Input", "SetState", "Sleep", "Output"]


def test_unknown_handler_fails_with_its_name() -> None:
    async def run() -> Failed:
        lab = Lab([Target], "Target/gone")
        lab.retries = False
        lab.start()
        assert lab.bursts == []
        await settle()
        lab.hosted.close()
        return lab.failures[0]

    failed = asyncio.run(run())
    assert "unknown handler Target/gone" in failed.message


def test_bad_input_is_a_terminal_400() -> None:
    async def run() -> Outcome:
        return await Lab([Target], "Target/answer", b'"text"').run()

    result = asyncio.run(run())
    assert isinstance(result, Failure)
    assert result.code == 400
    assert "Target/answer" in result.message


# ---- mismatches ---------------------------------------------------------------------------------


def test_mismatch_names_file_line_and_both_commands() -> None:
    async def body(ctx: ObjectContext) -> None:
        ctx.set("same", 1)
        ctx.set("other", 2)

    entries = (Input((), b""), SetState("same", b"1"), SetState("recorded", b"2"))
    failed = failed_of(body, entries=entries)
    line = body.__code__.co_firstlineno + 2
    assert failed.code == 570
    assert failed.related_command_index == 2
    for text in (
        "command 2 of Probe/go",
        f"test_attempt_errors.py:{line}",
        "set_state 'recorded'",
        "set_state 'other'",
    ):
        assert text in failed.message, failed.message


def test_mismatch_cannot_be_swallowed_by_except_exception() -> None:
    async def body(ctx: ObjectContext) -> str:
        try:
            ctx.set("other", 2)
        except Exception:
            return "swallowed"
        return "no"

    entries = (Input((), b""), SetState("recorded", b"2"))
    assert failed_of(body, entries=entries).code == 570


def test_await_that_the_record_went_past_is_a_mismatch_at_its_line() -> None:
    async def body(ctx: ObjectContext) -> None:
        nap = ctx.sleep(timedelta(seconds=1), name="nap")
        await nap
        ctx.set("x", 1)

    entries = (Input((), b""), Sleep(1, 5, "nap"), SetState("x", b"1"))
    failed = failed_of(body, entries=entries)
    assert failed.code == 570
    assert "waits for sleep 'nap'" in failed.message
    assert f"test_attempt_errors.py:{body.__code__.co_firstlineno + 2}" in failed.message


def test_handler_that_ends_early_is_a_mismatch() -> None:
    async def body(ctx: ObjectContext) -> None:
        pass

    failed = failed_of(body, entries=(Input((), b""), SetState("x", b"1")))
    assert failed.code == 570
    assert "the handler ended" in failed.message
    assert f"test_attempt_errors.py:{body.__code__.co_firstlineno}" in failed.message


# ---- runs ---------------------------------------------------------------------------------------


def test_run_error_ends_the_attempt_and_names_the_run() -> None:
    async def body(ctx: ObjectContext) -> None:
        ctx.set("x", 1)
        await ctx.run_typed("charge", lambda: 1 / 0)

    failed = failed_of(body)
    assert failed.message == "ZeroDivisionError('division by zero')"
    assert failed.next_retry_delay_ms is None
    assert (failed.related_command_index, failed.related_command_name) == (2, "charge")
    assert failed.related_command_type == "run"


def test_run_retries_by_its_policy_then_gives_up_with_the_error() -> None:
    calls: list[int] = []

    async def body(ctx: ObjectContext) -> str:
        def flaky() -> None:
            calls.append(1)
            raise ValueError("nope")

        try:
            await ctx.run_typed("flaky", flaky, RunOptions(max_attempts=3))
        except TerminalError as e:
            return f"{e.status_code} {e.message}"
        return "no error"

    lab, result = end_of(body)
    assert result == Value(b"\"500 ValueError('nope')\"")
    assert len(calls) == 3
    assert [f.next_retry_delay_ms for f in lab.failures] == [50, 100]


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        (RunOptions(initial_retry_interval=timedelta(seconds=1)), [1000, 2000, 4000]),
        (RunOptions(max_retry_interval=timedelta(milliseconds=60)), [50, 60, 60]),
        (RunOptions(retry_interval_factor=3.0), [50, 150, 450]),
        (RunOptions(max_duration=timedelta(hours=1)), [50, 100, 200]),
        (RunOptions(), [None, None, None]),
    ],
)
def test_delays_of_a_run_grow_by_its_options(
    options: RunOptions[Any], delays: list[int | None]
) -> None:
    calls: list[int] = []

    async def body(ctx: ObjectContext) -> None:
        async def flaky() -> None:
            calls.append(1)
            if len(calls) < 4:
                raise ValueError("nope")

        await ctx.run_typed("flaky", flaky, options)

    lab, _ = end_of(body)
    assert [f.next_retry_delay_ms for f in lab.failures] == delays


def test_a_new_command_begins_the_count_anew() -> None:
    async def body(ctx: ObjectContext) -> None:
        ctx.set("x", 1)
        await ctx.run("flaky", lambda: 1 / 0, max_attempts=2)

    async def run() -> None:
        lab = lab_of(body, entries=(Input((), b""), SetState("x", b"1")))
        lab.retry_count = 5  # of earlier failures, before the run was reached
        _ = await lab.run()
        assert len(lab.failures) == 1
        assert isinstance(lab.result, Failure)

    asyncio.run(run())


def test_retryable_error_in_a_run_sets_the_delay_and_counts() -> None:
    async def body(ctx: ObjectContext) -> None:
        def busy() -> None:
            raise RetryableError("busy", 503, retry_after=timedelta(seconds=9))

        await ctx.run("busy", busy, max_attempts=2)

    lab, result = end_of(body)
    assert [f.next_retry_delay_ms for f in lab.failures] == [9000]
    assert result == Failure(503, "busy")


def test_run_without_a_recorded_result_runs_again_and_others_do_not() -> None:
    ran: list[str] = []

    async def body(ctx: ObjectContext) -> None:
        runs = [ctx.run_typed(n, ran.append, RunOptions(), n) for n in "ab"]
        await gather(*runs)

    entries = (Input((), b""), Run(1, "a"), Run(2, "b"), Completion(2, Value(b"")))
    end_of(body, entries=entries)
    assert ran == ["a"]


def test_closure_starts_only_behind_its_barrier() -> None:
    ran: list[int] = []

    async def body(ctx: ObjectContext) -> None:
        await ctx.run_typed("r", ran.append, RunOptions(), 1)

    async def run() -> None:
        lab = lab_of(body)
        lab.hold_barriers = True
        lab.start()
        await settle()
        assert [type(f).__name__ for f in lab.bursts[0]] == ["Run", "Barrier"]
        assert ran == []
        assert lab.attempt is not None
        lab.attempt.pass_barrier(1)
        await lab.finish()
        assert ran == [1]

    asyncio.run(run())


def test_closures_run_at_the_same_time() -> None:
    async def body(ctx: ObjectContext) -> list[str]:
        barrier = threading.Barrier(2, timeout=5)
        runs = [ctx.run_typed(n, barrier.wait) for n in "ab"]
        await gather(*runs)
        return ["both"]

    _, result = end_of(body)
    assert result == Value(b'["both"]')


def test_lambda_around_a_coroutine_function_is_awaited() -> None:
    async def body(ctx: ObjectContext) -> int:
        async def fetch() -> int:
            return 7

        return await ctx.run_typed("fetch", lambda: fetch())

    _, result = end_of(body)
    assert result == Value(b"7")


def test_hosted_on_its_own_closes_twice() -> None:
    hosted = Hosted([Target], threads=1)
    hosted.close()
    hosted.close()


# ---- what nobody waited for -----------------------------------------------------------------------


async def _forgets_a_sleep(ctx: ObjectContext) -> None:
    ctx.sleep(timedelta(seconds=1), name="cool down")


async def _forgets_a_call(ctx: ObjectContext) -> None:
    ctx.service_call(answer, arg=1)
    ctx.service_call(answer, arg=2)


@pytest.mark.parametrize(
    ("body", "named"),
    [(_forgets_a_sleep, "sleep 'cool down'"), (_forgets_a_call, "Target/answer")],
)
def test_a_forgotten_await_is_told_in_the_log(
    body: Body, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, end = end_of(body, callees={"Target/answer": Value})
    assert isinstance(end, Value)
    expected = f"Probe/go ended without awaiting {named}: did you forget `await`?"
    assert [each.getMessage() for each in caplog.records] == [expected]


async def _races(ctx: ObjectContext) -> None:
    await select(answer=ctx.service_call(answer, arg=1), late=ctx.sleep(timedelta(seconds=9)))


async def _asks_for_the_id_only(ctx: ObjectContext) -> str:
    return await ctx.service_call(answer, arg=1).invocation_id()


async def _catches_a_cancellation(ctx: ObjectContext) -> None:
    with pytest.raises(TerminalError, match="cancelled"):
        await ctx.sleep(timedelta(seconds=9))


CANCELLED = (Input((), b""), Signal(CANCEL_SIGNAL, Void()))


@pytest.mark.parametrize(
    ("body", "entries"),
    [(_races, ()), (_asks_for_the_id_only, ()), (_catches_a_cancellation, CANCELLED)],
)
def test_what_was_waited_for_in_some_way_is_not_forgotten(
    body: Body, entries: tuple[Entry, ...], caplog: pytest.LogCaptureFixture
) -> None:
    _, end = end_of(body, callees={"Target/answer": Value}, entries=entries)
    assert isinstance(end, Value)
    assert not caplog.records


def test_a_stop_iteration_fails_the_attempt_of_a_plain_function_as_of_a_coroutine() -> None:
    def body(ctx: Any) -> int:
        return next(iter([]))

    failed = failed_of(body)  # type: ignore[arg-type]
    assert failed.message == "RuntimeError('a function raised StopIteration')"
    assert "return next(iter([]))" in failed.stacktrace


def test_an_exception_that_a_context_manager_swallows_fails_the_attempt() -> None:
    @asynccontextmanager
    async def swallow() -> AsyncIterator[None]:
        with contextlib.suppress(ValueError):
            yield

    async def body(ctx: ObjectContext) -> str:
        raise ValueError("swallowed")

    service = Service("Probe")
    service.handler(name="go", invocation_context_managers=[swallow])(body)

    async def run() -> Failed:
        lab = Lab([service], "Probe/go")
        lab.retries = False
        lab.start()
        assert lab.over is not None
        await asyncio.wait_for(lab.over, 5)
        lab.hosted.close()
        return lab.failures[0]

    assert "a context manager of the handler swallowed its exception" in asyncio.run(run()).message


# ---- what the official context has ------------------------------------------------------------------


async def _looks_ahead(ctx: Any) -> list[Any]:
    future = ctx.run("one", lambda: 1)
    before = future.is_completed()
    await future
    return [before, future.is_completed()]


async def _keeps_extension_data(ctx: Any) -> Any:
    ctx.set_extension_data("k", 1)
    server_context.set_extension_data(ctx, "l", 2)
    return [server_context.get_extension_data(ctx, "k"), ctx.get_extension_data("l")]


async def _reads_raw(ctx: Any) -> str:
    ctx.set("n", {"a": 1})
    return str(await ctx.get("n", serde=None))


async def _asks_for_a_key(ctx: Any) -> Any:
    return ctx.key()


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (_looks_ahead, "exclusive", b"[false,true]"),
        (_keeps_extension_data, "exclusive", b"[1,2]"),
        (_reads_raw, "exclusive", b'"b\'{\\"a\\":1}\'"'),
        (_asks_for_a_key, "service", b'""'),
    ],
)
def test_a_context_has_what_the_official_one_has(body: Body, kind: str, value: bytes) -> None:
    assert end_of(body, kind=kind)[1] == Value(value)
