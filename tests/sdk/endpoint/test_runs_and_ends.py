"""How attempts end, and how results of runs travel: acks, failures, cancellation, suspension, time."""

import asyncio
import threading
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

import perdure
from perdure.journal.attempt import (
    AwaitingOn,
    Combinator,
    Ended,
    Failed,
    ProposeRun,
    Suspended,
)
from perdure.journal.entries import (
    Call,
    Completion,
    Entry,
    Failure,
    Input,
    InvocationId,
    Output,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.wire.control import run_ack_frame
from perdure.journal.wire.frames import FrameType
from tests.sdk.endpoint.peer import CALLEE, INVOCATION, Peer, begin

VERSIONS = [5, 6, 7]
CANCEL = Signal(1, Void())

service = perdure.Service("S")
thing = perdure.VirtualObject("O")
app = perdure.app([service, thing])


@service.handler()
async def greet(ctx: perdure.Context, name: str) -> str:
    return f"hello {name}"


@service.handler()
async def ran(ctx: perdure.Context) -> str:
    return await ctx.run_typed("side", lambda: "effect")


@service.handler()
async def napping(ctx: perdure.Context) -> str:
    await ctx.sleep(timedelta(seconds=60))
    return "rested"


@service.handler()
async def refusing(ctx: perdure.Context) -> None:
    raise perdure.TerminalError("out of stock", 409, {"item": "7"})


@service.handler()
async def breaking(ctx: perdure.Context) -> None:
    raise perdure.RetryableError("later", 503, timedelta(seconds=3))


@service.handler()
async def limited(ctx: perdure.Context) -> str:
    def fails() -> str:
        raise ValueError("no luck")

    options = perdure.RunOptions[str](
        max_attempts=2, initial_retry_interval=timedelta(milliseconds=10)
    )
    return await ctx.run_typed("try", fails, options)


@service.handler()
async def calling(ctx: perdure.Context) -> str:
    return await ctx.service_call(greet, arg="x")


@service.handler()
async def both(ctx: perdure.Context) -> list[str]:
    first, second = ctx.service_call(greet, arg="1"), ctx.service_call(greet, arg="2")
    await perdure.gather(first, second)
    return [await first, await second]


@service.handler()
async def drawing(ctx: perdure.Context) -> str:
    return str(ctx.uuid())


@service.handler()
async def about(ctx: perdure.Context) -> list[Any]:
    request = ctx.request()
    return [request.id, request.headers, request.attempt_headers["x-tenant"]]


@service.handler()
def thinking(ctx: perdure.BlockingContext) -> str:
    ctx.sleep(timedelta(seconds=60))
    return threading.current_thread().name


@thing.handler()
async def storing(ctx: perdure.ObjectContext, size: int) -> int:
    ctx.set("blob", "x" * size)
    return size


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_response_ends_when_the_request_has_ended_and_not_before(version: int) -> None:
    async def scenario() -> None:
        peer = begin(app, service, "greet", version, entries=[Input((), b'"Ada"')])
        assert await peer.next() == Output(Value(b'"hello Ada"'))
        assert await peer.next() == Ended()
        await asyncio.sleep(0)
        assert not peer.is_over
        await peer.finish()
        assert peer.status == 200
        assert peer.headers["content-type"] == f"application/vnd.restate.invocation.v{version}"
        assert peer.headers["x-restate-server"].startswith("perdure/")
        assert len(peer.bursts) == 1, "what leaves at once leaves in one piece"

    run(scenario())


def test_a_request_may_be_cut_anywhere() -> None:
    async def scenario() -> None:
        whole = Peer(app, "/invoke/S/greet")
        data = whole.start_data(service, "greet", [Input((("h", "v"),), b'"Ada"')])
        peer = Peer(app, "/mounted/here/invoke/S/greet").open()
        for each in data:
            peer.write(bytes((each,)))
        assert await peer.next() == Output(Value(b'"hello Ada"'))
        assert await peer.next() == Ended()
        await peer.finish()

    run(scenario())


def test_a_notification_may_come_before_the_input() -> None:
    async def scenario() -> None:
        journal: list[Entry] = [Signal("other", Void()), Input((), b'"Ada"')]
        peer = begin(app, service, "greet", entries=journal)
        assert await peer.next() == Output(Value(b'"hello Ada"'))
        assert await peer.next() == Ended()
        await peer.finish()

    run(scenario())


# ---- runs ---------------------------------------------------------------------------------------


def test_from_v7_on_the_result_of_a_run_is_kept_until_its_ack() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "ran", 7)
        assert await peer.next() == Run(1, "side")
        raw = await peer.next_raw()
        assert (raw.type, raw.flags) == (FrameType.PROPOSE_RUN_COMPLETION, 0x8000)
        peer.write(run_ack_frame(1))
        assert await peer.take(Output) == Output(Value(b'"effect"'))
        assert await peer.next() == Ended()
        await peer.finish()

    run(scenario())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_full_notification_of_a_run_wins_over_what_was_proposed(version: int) -> None:
    async def scenario() -> None:
        peer = begin(app, service, "ran", version)
        await peer.take(Run)
        await peer.take(ProposeRun)
        peer.notify(Completion(1, Value(b'"stored"')))
        assert await peer.take(Output) == Output(Value(b'"stored"'))
        assert await peer.next() == Ended()
        await peer.finish()

    run(scenario())


def test_below_v7_no_ack_is_asked_for() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "ran", 6)
        await peer.take(Run)
        raw = await peer.next_raw()
        assert (raw.type, raw.flags) == (FrameType.PROPOSE_RUN_COMPLETION, 0)
        peer.disconnect()
        await peer.done()

    run(scenario())


def test_a_run_that_fails_names_itself_and_its_delay_and_in_the_end_gives_up() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "limited")
        await peer.take(Run)
        failed = await peer.take(Failed)
        assert (failed.code, failed.message) == (500, "ValueError('no luck')")
        assert "ValueError" in failed.stacktrace
        assert failed.next_retry_delay_ms == 10
        assert (failed.related_command_index, failed.related_command_name) == (1, "try")
        assert failed.related_command_type == "run"
        await peer.finish()
        journal: list[Entry] = [Input((), b""), Run(1, "try")]
        again = begin(app, service, "limited", entries=journal, retry_count=1)
        proposal = await again.take(ProposeRun)
        assert isinstance(proposal.result, Failure)
        again.acknowledge(proposal)
        output = await again.take(Output)
        assert output.result.message == "ValueError('no luck')"
        await again.take(Ended)
        await again.finish()

    run(scenario())


# ---- failures -----------------------------------------------------------------------------------


def test_a_terminal_error_is_an_answer_with_its_metadata() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "refusing", 6)
        output = await peer.take(Output)
        assert output.result == Failure(409, "out of stock", {"item": "7"})
        await peer.take(Ended)
        await peer.finish()

    run(scenario())


def test_v5_has_no_metadata_of_failures_and_the_attempt_says_so() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "refusing", 5)
        failed = await peer.take(Failed)
        assert failed.code == 573
        assert "needs version 6" in failed.message
        await peer.finish()

    run(scenario())


def test_a_retryable_error_ends_the_attempt_with_its_delay() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "breaking")
        failed = await peer.take(Failed)
        assert (failed.code, failed.message, failed.next_retry_delay_ms) == (503, "later", 3000)
        await peer.finish()

    run(scenario())


def test_a_journal_of_another_program_is_a_mismatch() -> None:
    async def scenario() -> None:
        journal: list[Entry] = [Input((), b""), SetState("x", b"1")]
        peer = begin(app, service, "napping", entries=journal)
        failed = await peer.take(Failed)
        assert (failed.code, failed.related_command_index) == (570, 1)
        await peer.finish()

    run(scenario())


# ---- waiting ------------------------------------------------------------------------------------


def test_from_v7_on_what_is_awaited_is_told() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "both", 7)
        await peer.take(Call)
        await peer.take(Call)
        awaiting = (await peer.take(AwaitingOn)).awaiting
        assert awaiting.signals == (1,)
        (every,) = awaiting.nested
        assert (every.combinator, every.completions) == (Combinator.ALL_COMPLETED, (2, 4))
        peer.notify(Completion(4, Value(b'"b"')), Completion(2, Value(b'"a"')))
        assert await peer.take(Output) == Output(Value(b'["a","b"]'))
        await peer.take(Ended)
        await peer.finish()

    run(scenario())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handler_that_waits_suspends_when_the_request_ends(version: int) -> None:
    async def scenario() -> None:
        peer = begin(app, service, "both", version)
        await peer.take(Call)
        await peer.take(Call)
        peer.end()
        suspended = await peer.take(Suspended)
        tree = suspended.awaiting
        completions = tree.completions or tree.nested[0].completions
        assert set(completions) == {2, 4}
        assert 1 in tree.signals
        await peer.done()
        assert peer.is_over

    run(scenario())


def test_a_blocking_handler_suspends_when_the_request_ends() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "thinking")
        await peer.take(Sleep)
        await peer.take(AwaitingOn)
        peer.end()
        await peer.take(Suspended)
        await peer.done()

    run(scenario())


def test_a_cancellation_reaches_the_callees_and_then_the_handler() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "calling")
        await peer.take(Call)
        peer.notify(CANCEL)
        peer.notify(Completion(1, InvocationId(CALLEE)))
        assert await peer.take(SendSignal) == SendSignal(CALLEE, 1, Void())
        output = await peer.take(Output)
        assert output.result == Failure(409, "cancelled")
        await peer.take(Ended)
        await peer.finish()

    run(scenario())


def test_a_completion_that_comes_twice_or_for_nobody_changes_nothing() -> None:
    async def scenario() -> None:
        peer = begin(app, service, "calling")
        await peer.take(Call)
        first, second = Completion(2, Value(b'"a"')), Completion(2, Value(b'"b"'))
        peer.notify(Completion(99, Void()), first, second, first)
        assert await peer.take(Output) == Output(Value(b'"a"'))
        await peer.take(Ended)
        peer.notify(second)
        await peer.finish()

    run(scenario())


# ---- the request --------------------------------------------------------------------------------


def test_v5_draws_its_random_numbers_from_the_id() -> None:
    async def drawn(version: int, seed: int) -> Output:
        peer = Peer(app, "/invoke/S/drawing", version).open()
        peer.write(peer.start_data(service, "drawing", random_seed=seed))
        output: Output = await peer.take(Output)
        await peer.take(Ended)
        await peer.finish()
        return output

    async def scenario() -> None:
        assert await drawn(5, 1) == await drawn(5, 2)
        assert await drawn(6, 1) == await drawn(7, 1) != await drawn(6, 2)

    run(scenario())


def test_headers_of_the_invocation_and_of_the_attempt_are_told_apart() -> None:
    async def scenario() -> None:
        type = "application/vnd.restate.invocation.v6"
        peer = Peer(app, "/invoke/S/about", 6, headers={"content-type": type, "x-tenant": "t"})
        peer.open().write(peer.start_data(service, "about", [Input((("from", "caller"),), b"")]))
        output = await peer.take(Output)
        assert output.result == Value(f'["{INVOCATION}",{{"from":"caller"}},"t"]'.encode())
        await peer.take(Ended)
        await peer.finish()

    run(scenario())


def test_a_large_value_goes_through() -> None:
    async def scenario() -> None:
        size = 5 << 20
        peer = begin(app, thing, "storing", entries=[Input((), str(size).encode())], state={})
        stored = await peer.take(SetState)
        assert len(stored.value) == size + 2
        await peer.take(Output)
        await peer.take(Ended)
        await peer.finish()

    run(scenario())
