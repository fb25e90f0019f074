"""Every operation of a context is a command on the wire, and the same journal replays to the same end."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import perdure
from perdure.endpoint import App
from perdure.journal import ids
from perdure.journal.attempt import Ended, ProposeRun, Suspended
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    Call,
    ClearAllState,
    ClearState,
    Command,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    InvocationId,
    Notification,
    OneWayCall,
    Output,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
)
from tests.sdk.endpoint.peer import CALLEE, RAW_ID, Peer, begin, is_command

VERSIONS = [5, 6, 7]
AWAKEABLE = ids.format_awakeable_id(RAW_ID, 17)

objects = perdure.VirtualObject("Objects")
flows = perdure.Workflow("Flows")
plain = perdure.Service("Plain")
app = perdure.app([objects, flows, plain])


@objects.handler()
async def states(ctx: perdure.ObjectContext) -> list[Any]:
    first = await ctx.get("n", type_hint=int)
    missing = await ctx.get("none")
    ctx.set("n", 2)
    keys = await ctx.state_keys()
    ctx.clear("n")
    ctx.clear_all()
    return [first, missing, keys, await ctx.get("n")]


@objects.handler()
async def calls(ctx: perdure.ObjectContext, name: str) -> list[str]:
    call = ctx.object_call(other, key="o", arg=name)
    handle = ctx.service_send(greet, arg="x", send_delay=timedelta(seconds=1))
    raw = await ctx.generic_call("Foreign", "do", b"raw", headers={"h": "1"}, idempotency_key="i")
    return [await call, await handle.invocation_id(), raw.decode()]


@objects.handler()
async def other(ctx: perdure.ObjectContext, name: str) -> str:
    return f"other {name}"


@plain.handler()
async def greet(ctx: perdure.Context, name: str) -> str:
    return f"hello {name}"


@plain.handler()
async def waits(ctx: perdure.Context) -> list[Any]:
    id, awakeable = ctx.awakeable(type_hint=str)
    ctx.resolve_awakeable(id, "mine")
    ctx.reject_awakeable(id, "no", 400)
    ctx.resolve_signal(CALLEE, "s", 1)
    ctx.cancel_invocation(CALLEE)
    await ctx.sleep(timedelta(seconds=1))
    attached = await ctx.attach_invocation(CALLEE, type_hint=str)
    return [await awakeable, await ctx.signal("go", type_hint=int), attached]


@flows.main()
async def flow(ctx: perdure.WorkflowContext) -> list[Any]:
    peeked = await ctx.promise("p").peek()
    value = await ctx.promise("p", type_hint=str).value()
    await ctx.promise("q").resolve("done")
    return [peeked, value]


@plain.handler()
def blocking(ctx: perdure.BlockingContext) -> str:
    first = ctx.run_typed("one", lambda: "1")
    ctx.sleep(timedelta(seconds=1))
    return first + ctx.run_typed("two", lambda: "2")


@plain.handler()
async def ran(ctx: perdure.Context) -> str:
    return await ctx.run_typed("side", side)


async def side() -> str:
    return "effect"


def answers(command: Command) -> list[Notification]:
    """What a server says to a command, at once."""
    match command:
        case Call():
            id = InvocationId(CALLEE)
            result = Value(b"raw" if command.service == "Foreign" else b'"answer"')
            return [
                Completion(command.id_completion_id, id),
                Completion(command.completion_id, result),
            ]
        case OneWayCall():
            return [Completion(command.id_completion_id, InvocationId(CALLEE))]
        case Sleep() | CompletePromise() | PeekPromise():
            return [Completion(command.completion_id, Void())]
        case GetLazyState():
            known = command.key == "n"
            return [Completion(command.completion_id, Value(b"1") if known else Void())]
        case GetLazyStateKeys():
            return [Completion(command.completion_id, StateKeys(("a", "n")))]
        case GetPromise() | AttachInvocation():
            return [Completion(command.completion_id, Value(b'"promised"'))]
        case CompleteAwakeable(result=Value()):
            return [Signal(17, command.result), Signal("go", Value(b"7"))]
        case _:
            return []


async def drive(peer: Peer, journal: list[Entry]) -> None:
    """Answer until the handler ends; ``journal`` grows."""
    while True:
        said = await peer.next()
        if isinstance(said, Ended):
            return await peer.finish()
        if isinstance(said, ProposeRun):
            journal.append(Completion(said.completion_id, said.result))
            peer.acknowledge(said)
        elif is_command(said):
            journal.append(said)
            for each in answers(said):
                journal.append(each)
                peer.notify(each)


def both_ways(
    service: Any, handler: str, version: int, argument: bytes = b"", **options: Any
) -> list[Entry]:
    """Run a handler live, then replay its journal; the replay says End and nothing else."""
    journal: list[Entry] = [Input((), argument)]

    async def live() -> None:
        await drive(begin(app, service, handler, version, entries=journal[:1], **options), journal)

    async def replay() -> None:
        again = begin(app, service, handler, version, entries=journal, **options)
        assert isinstance(await again.next(), Ended)
        await again.finish()

    asyncio.run(live())
    asyncio.run(replay())
    return journal


def commands(journal: list[Entry]) -> list[Entry]:
    return [each for each in journal[1:] if not isinstance(each, Completion | Signal)]


@pytest.mark.parametrize("version", VERSIONS)
def test_state_that_came_with_the_start_is_read_without_asking(version: int) -> None:
    journal = both_ways(objects, "states", version, state={"n": b"1", "a": b"0"})
    assert commands(journal) == [
        GetEagerState("n", b"1"),
        GetEagerState("none", None),
        SetState("n", b"2"),
        GetEagerStateKeys(("a", "n")),
        ClearState("n"),
        ClearAllState(),
        GetEagerState("n", None),
        Output(Value(b'[1,null,["a","n"],null]')),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_state_that_is_not_known_is_asked_for(version: int) -> None:
    journal = both_ways(objects, "states", version)
    assert commands(journal) == [
        GetLazyState(1, "n"),
        GetLazyState(2, "none"),
        SetState("n", b"2"),
        GetLazyStateKeys(3),
        ClearState("n"),
        ClearAllState(),
        GetEagerState("n", None),
        Output(Value(b'[1,null,["a","n"],null]')),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_calls_and_sends(version: int) -> None:
    journal = both_ways(objects, "calls", version, b'"Ada"')
    call, send, raw, output = commands(journal)
    assert call == Call(1, 2, "Objects", "other", "o", b'"Ada"')
    assert isinstance(send, OneWayCall)
    assert (send.id_completion_id, send.service, send.handler) == (3, "Plain", "greet")
    assert send.invoke_at_ms > 1_700_000_000_000
    assert raw == Call(4, 5, "Foreign", "do", "", b"raw", (("h", "1"),), "i")
    assert output == Output(Value(b'["answer","%s","raw"]' % CALLEE.encode()))


@pytest.mark.parametrize("version", VERSIONS)
def test_awakeables_signals_and_timers(version: int) -> None:
    journal = both_ways(plain, "waits", version)
    resolve, reject, signal, cancel, sleep, attach, output = commands(journal)
    assert resolve == CompleteAwakeable(AWAKEABLE, Value(b'"mine"'))
    assert reject == CompleteAwakeable(AWAKEABLE, Failure(400, "no"))
    assert signal == SendSignal(CALLEE, "s", Value(b"1"))
    assert cancel == SendSignal(CALLEE, 1, Void())
    assert isinstance(sleep, Sleep)
    assert attach == AttachInvocation(2, ById(CALLEE))
    assert output == Output(Value(b'["mine",7,"promised"]'))


@pytest.mark.parametrize("version", VERSIONS)
def test_promises_of_a_workflow(version: int) -> None:
    journal = both_ways(flows, "flow", version)
    assert commands(journal) == [
        PeekPromise(1, "p"),
        GetPromise(2, "p"),
        CompletePromise(3, "q", Value(b'"done"')),
        Output(Value(b'[null,"promised"]')),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_blocking_handler_says_what_an_async_one_does(version: int) -> None:
    journal = both_ways(plain, "blocking", version)
    one, sleep, two, output = commands(journal)
    assert one == Run(1, "one")
    assert isinstance(sleep, Sleep)
    assert two == Run(3, "two")
    assert output == Output(Value(b'"12"'))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_closure_runs_once_and_its_result_is_replayed(version: int) -> None:
    journal = both_ways(plain, "ran", version)
    assert journal[1:] == [
        Run(1, "side"),
        Completion(1, Value(b'"effect"')),
        Output(Value(b'"effect"')),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_that_ends_first_suspends_at_the_first_thing_that_is_missing(
    version: int,
) -> None:
    async def scenario() -> None:
        peer = begin(app, plain, "ran", version)
        peer.end()
        assert await peer.next() == Run(1, "side")
        assert isinstance(await peer.next(), ProposeRun)
        suspended = await peer.next()
        assert isinstance(suspended, Suspended)
        assert suspended.awaiting.completions == (1,)
        assert suspended.awaiting.signals == (1,)
        await peer.done()

    asyncio.run(scenario())


def test_an_app_of_many_definitions_is_one_endpoint() -> None:
    assert isinstance(app, App)
    assert list(app.services) == ["Objects", "Flows", "Plain"]
