"""Every feature of a context: plain, replayed from each point of its journal, always suspended."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from perdure.asyncio import as_completed, gather, select, wait_completed
from perdure.context import (
    Context,
    ObjectContext,
    RunOptions,
    WorkflowContext,
    WorkflowSharedContext,
)
from perdure.journal.attempt import AwaitingOn, Barrier, Ended, ProposeRun
from perdure.journal.entries import (
    ClearAllState,
    ClearState,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    Input,
    InvocationId,
    Outcome,
    Output,
    Run,
    SendSignal,
    SetState,
    Signal,
    Value,
    Void,
    is_command,
)
from perdure.journal.errors import TerminalError
from perdure.object import VirtualObject
from perdure.service import Service
from perdure.workflow import Workflow
from tests.sdk.lab import CALLEE, INVOCATION, Lab, settle

counter = VirtualObject("Counter")
echo = Service("Echo")
flow = Workflow("Flow")


@echo.handler()
async def say(ctx: Context, text: str) -> str:
    return text


@echo.handler()
async def never(ctx: Context) -> str:
    return ""


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total


@counter.handler()
async def housekeeping(ctx: ObjectContext) -> list[str]:
    ctx.set("a", 1)
    ctx.set("b", b"raw")
    ctx.clear("total")
    before = await ctx.state_keys()
    raw = await ctx.get("b", type_hint=bytes)
    missing = await ctx.get("missing")
    ctx.clear_all()
    after = await ctx.state_keys()
    return [*before, str(raw), str(missing), *after, ctx.key()]


@counter.handler()
async def runs(ctx: ObjectContext) -> list[Any]:
    def plain(x: int) -> int:
        return x * 2

    async def slow(x: int, y: int = 0) -> int:
        await asyncio.sleep(0)
        return x + y

    first = await ctx.run_typed("plain", plain, RunOptions(), 21)
    both = [ctx.run_typed("slow", slow, RunOptions(), 1, y=2), ctx.run("old", plain, args=(3,))]
    done = await gather(*both)
    now = await ctx.time()
    return [first, [await each for each in done], now, str(ctx.uuid()), ctx.random().random()]


@counter.handler()
async def calls(ctx: ObjectContext) -> list[Any]:
    one = ctx.service_call(say, "one")
    two = ctx.object_call(add, "other", 2, idempotency_key="i", headers={"h": "v"})
    sent = ctx.service_send(say, "later", send_delay=timedelta(seconds=5))
    raw = ctx.generic_call("Echo", "say", b'"raw"')
    ctx.generic_send("Counter", "add", b"1", key="x")
    return [
        await one,
        await two,
        await sent.invocation_id(),
        await one.invocation_id(),
        (await raw).decode(),
    ]


@counter.handler()
async def timers(ctx: ObjectContext) -> list[str]:
    slow = ctx.sleep(timedelta(days=30), name="slow")
    fast = ctx.sleep(timedelta(seconds=1), name="fast")
    race = await select(slow=slow, fast=fast)
    order = []
    async for each in as_completed(slow, ctx.sleep(timedelta(hours=1), name="third")):
        await each
        order.append(repr(each))
    return [race[0], *order]


@counter.handler()
async def loops(ctx: ObjectContext) -> list[str]:
    naps = [ctx.sleep(timedelta(seconds=n), name=str(n)) for n in (4, 1, 3, 2)]
    order = []
    async for each in as_completed(*naps, naps[0]):
        order.append(repr(each)[-3:-1])
        if len(order) == 1:
            await naps[3]  # while the yielded one is never awaited
    return order


@counter.handler()
async def waits(ctx: ObjectContext) -> list[Any]:
    naps = [ctx.sleep(timedelta(seconds=n), name=str(n)) for n in (3, 1, 2)]
    done, waiting = await wait_completed(*naps)
    all_done = await gather(*waiting)
    return [len(done), repr(done[0]), len(waiting), len(all_done)]


@counter.handler()
async def failing_call(ctx: ObjectContext) -> str:
    try:
        await ctx.service_call(say, "bad")
    except TerminalError as e:
        return f"{e.status_code} {e.message} {e.metadata}"
    return "no error"


@counter.handler()
async def sagas(ctx: ObjectContext) -> str:
    def charge() -> str:
        raise TerminalError("no money", 402, {"card": "x"})

    try:
        await ctx.run_typed("charge", charge)
    except TerminalError as e:
        ctx.set("compensated", e.message)
        await ctx.sleep(timedelta(seconds=1))
        raise
    return "charged"


@flow.main()
async def approve(ctx: WorkflowContext) -> list[Any]:
    promise = ctx.promise("approval", type_hint=str)
    before = await promise.peek()
    await ctx.promise("other").resolve({"n": 1})
    try:
        await ctx.promise("other").reject("twice")
    except TerminalError as e:
        twice = e.status_code
    other = await ctx.promise("other").value()
    return [before, twice, other, await promise]


@flow.handler()
async def look(ctx: WorkflowSharedContext) -> Any:
    return await ctx.promise("approval").peek()


FEATURES: dict[str, dict[str, Any]] = {
    "Counter/add": {"argument": b"5", "state": {"total": b"7"}},
    "Counter/housekeeping": {"state": {"total": b"7", "z": b"1"}},
    "Counter/runs": {},
    "Counter/calls": {
        "callees": {"Echo/say": lambda body: Value(body), "Counter/add": lambda body: Value(b"3")}
    },
    "Counter/timers": {},
    "Counter/loops": {},
    "Counter/waits": {},
    "Counter/failing_call": {"callees": {"Echo/say": lambda _: Failure(418, "tea", {"a": "b"})}},
    "Counter/sagas": {},
    "Flow/approve": {"promises": {"approval": Value(b'"yes"')}},
    "Flow/look": {"promises": {"approval": Value(b'"yes"')}},
}


def features() -> list[str]:
    return list(FEATURES)


def make(target: str, **more: Any) -> Lab:
    return Lab([counter, echo, flow], target, **{**FEATURES[target], **more})


def outcome(target: str, **more: Any) -> tuple[Lab, Outcome]:
    async def run() -> tuple[Lab, Outcome]:
        lab = make(target, **more)
        return lab, await lab.run()

    return asyncio.run(run())


def value(result: Outcome) -> Any:
    assert isinstance(result, Value), result
    return json.loads(result.content)


EXPECTED: dict[str, Callable[[Any], bool]] = {
    "Counter/add": lambda v: v == 12,
    "Counter/housekeeping": lambda v: v == ["a", "b", "z", "b'raw'", "None", "k"],
    "Counter/runs": lambda v: v[:3] == [42, [3, 6], 1000.0] and len(v[3]) == 36,
    "Counter/calls": lambda v: v == ["one", 3, CALLEE, CALLEE, '"raw"'],
    "Counter/timers": lambda v: (
        v == ["fast", "<durable future of sleep 'third'>", "<durable future of sleep 'slow'>"]
    ),
    "Counter/loops": lambda v: v == ["1'", "2'", "3'", "4'", "4'"],
    "Counter/waits": lambda v: v == [1, "<durable future of sleep '1'>", 2, 2],
    "Counter/failing_call": lambda v: v == "418 tea {'a': 'b'}",
    "Flow/approve": lambda v: v == ["yes", 409, {"n": 1}, "yes"],
    "Flow/look": lambda v: v == "yes",
}


@pytest.mark.parametrize("target", features())
def test_feature_works_in_a_plain_run(target: str) -> None:
    lab, result = outcome(target)
    assert lab.attempt_count == 1
    if target == "Counter/sagas":
        assert result == Failure(402, "no money", {"card": "x"})
        assert lab.state == {"compensated": b'"no money"'}
    else:
        assert EXPECTED[target](value(result)), value(result)


@pytest.mark.parametrize("target", features())
def test_replay_from_every_prefix_gives_the_same_commands_and_result(target: str) -> None:
    plain, result = outcome(target)
    journal = tuple(plain.entries)
    immediate = {
        (first, second)
        for first, second in zip(range(len(journal)), range(1, len(journal)), strict=False)
        if _in_one_commit(journal[first], journal[second])
    }
    for length in range(1, len(journal) + 1):
        if (length - 1, length) in immediate:
            continue
        prefix = journal[:length]
        state = _state_after(FEATURES[target].get("state", {}), prefix)
        promises = dict(FEATURES[target].get("promises", {}))
        for each in prefix:
            if type(each) is CompletePromise:
                promises.setdefault(each.key, each.result)
        lab, again = outcome(target, entries=prefix, state=state, promises=promises)
        assert [_timeless(c) for c in lab.commands] == [_timeless(c) for c in plain.commands]
        assert again == result
        assert tuple(lab.entries[:length]) == prefix


@pytest.mark.parametrize("target", features())
@pytest.mark.parametrize("lazy", [False, True])
def test_suspension_at_every_await_changes_nothing(target: str, lazy: bool) -> None:
    plain, result = outcome(target)
    lab, again = outcome(target, always_suspend=True, lazy=lazy)
    assert again == result or target == "Counter/runs"
    if not lazy:
        assert [_timeless(c) for c in lab.commands] == [_timeless(c) for c in plain.commands]


def _in_one_commit(first: Entry, second: Entry) -> bool:
    """Whether no crash can part the two: a completion that is written with its command."""
    if type(second) is not Completion:
        return False
    if getattr(first, "id_completion_id", None) == second.completion_id:
        return True
    if type(first).__name__ in ("Run", "Sleep", "Call", "GetPromise", "AttachInvocation"):
        return False
    return getattr(first, "completion_id", None) == second.completion_id


def _state_after(state: dict[str, bytes], entries: tuple[Entry, ...]) -> dict[str, bytes]:
    after = dict(state)
    for each in entries:
        match each:
            case SetState():
                after[each.key] = each.value
            case ClearState():
                after.pop(each.key, None)
            case ClearAllState():
                after.clear()
            case _:
                pass
    return after


def _timeless(command: Entry) -> str:
    text = repr(command)
    for field in ("wake_up_at_ms", "invoke_at_ms"):
        if (moment := getattr(command, field, None)) is not None:
            text = text.replace(f"{field}={moment}", field)
    return text


# ---- bursts -------------------------------------------------------------------------------------


def test_handler_that_only_uses_state_emits_one_burst() -> None:
    lab, _ = outcome("Counter/add")
    assert lab.bursts == [
        (
            GetEagerState("total", b"7"),
            SetState("total", b"12"),
            Output(Value(b"12")),
            Ended(),
        )
    ]


def test_commands_and_what_is_awaited_leave_in_one_burst() -> None:
    lab, _ = outcome("Counter/failing_call")
    assert [type(f).__name__ for f in lab.bursts[0]] == ["Call", "AwaitingOn"]


def test_nothing_is_emitted_before_start_returns() -> None:
    async def run() -> None:
        lab = make("Counter/add")
        lab.start()
        assert lab.bursts == []
        await lab.finish()

    asyncio.run(run())


# ---- signals ------------------------------------------------------------------------------------

mail = VirtualObject("Mail")


@mail.handler()
async def wait_twice(ctx: ObjectContext) -> list[Any]:
    awakeable_id, awakeable = ctx.awakeable(type_hint=str)
    ctx.set("id", awakeable_id)
    first = await ctx.signal("s", type_hint=int)
    second = await ctx.signal("s", type_hint=int)
    return [first, second, await awakeable]


@mail.handler()
async def tell(ctx: ObjectContext, name: str) -> None:
    ctx.resolve_signal(CALLEE, name, {"v": 1})
    ctx.reject_signal(CALLEE, name, "no", 410)
    ctx.cancel_invocation(CALLEE)
    ctx.resolve_awakeable("sign_1AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYAAAAEQ", b"raw")
    ctx.reject_awakeable("sign_1AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYAAAAEQ", "no")
    ctx.set("attached", await ctx.attach_invocation(CALLEE))


def test_signals_and_awakeables_complete_in_order_and_are_taken_once() -> None:
    async def run() -> None:
        lab = Lab([mail], "Mail/wait_twice", always_suspend=True)
        lab.start()
        await settle()
        assert lab.state["id"] == b'"sign_1AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYAAAAEQ"'
        lab.notify(Signal(17, Value(b'"w"')))
        lab.notify(Signal("s", Value(b"1")))
        await settle()
        assert lab.attempt_count == 2  # the second signal is awaited; the first does not count
        lab.notify(Signal("s", Value(b"2")))
        assert value(await lab.finish()) == [1, 2, "w"]
        assert [s.awaiting.signals for s in lab.suspensions] == [("s", 1), ("s", 1)]

    asyncio.run(run())


def test_messages_to_others_become_commands() -> None:
    async def run() -> None:
        lab = Lab([mail], "Mail/tell", b'"n"')
        await lab.run()
        assert [type(c).__name__ for c in lab.commands[1:]] == [
            *["SendSignal"] * 3,
            *["CompleteAwakeable"] * 2,
            "AttachInvocation",
            "SetState",
            "Output",
        ]

    asyncio.run(run())


# ---- cancellation -------------------------------------------------------------------------------


@counter.handler()
async def cancelled(ctx: ObjectContext) -> list[Any]:
    ctx.service_send(say, "send")
    first = ctx.service_call(never, None)
    ctx.service_call(never, None)
    try:
        await first
    except TerminalError as e:
        caught = [e.status_code, e.message]
    await ctx.sleep(timedelta(seconds=1))
    try:
        await ctx.sleep(timedelta(days=1))
    except TerminalError as e:
        caught.append(e.status_code)
    return caught


FEATURES["Counter/cancelled"] = {}


@pytest.mark.parametrize("suspend", [False, True])
def test_cancel_reaches_calls_but_not_sends_and_each_cancels_one_await(suspend: bool) -> None:
    async def run() -> None:
        lab = make("Counter/cancelled", always_suspend=suspend)
        lab.auto_fire = False
        lab.start()
        await settle()
        lab.cancel()
        await settle()
        lab.fire_next()
        await settle()
        lab.cancel()
        assert value(await lab.finish()) == [409, "cancelled", 409]
        kinds = [type(c).__name__ for c in lab.commands]
        assert (
            kinds[1:8] == ["OneWayCall", "Call", "Call", "SendSignal", "SendSignal"] + ["Sleep"] * 2
        )
        again = make("Counter/cancelled", entries=tuple(lab.entries))
        assert value(await again.run()) == [409, "cancelled", 409]
        assert again.bursts == [(Ended(),)]

    asyncio.run(run())


def test_cancel_waits_for_the_ids_of_its_calls() -> None:
    async def run() -> None:
        lab = make("Counter/cancelled")
        lab.auto_fire = False
        lab.start()
        await settle()
        # As if the cancel signal had overtaken the ids of both calls.
        entries = [e for e in lab.entries if type(e) is not Completion or e.completion_id == 1]
        late = make("Counter/cancelled", entries=(*entries, Signal(1, Void()), Signal(1, Void())))
        late.auto_fire = False
        late.start()
        await settle()
        assert [type(f).__name__ for b in late.bursts for f in b] == ["AwaitingOn"]
        late.notify(Completion(2, InvocationId(CALLEE)))
        late.notify(Completion(4, InvocationId(INVOCATION)))
        await settle()
        signals = [c for c in late.commands if isinstance(c, SendSignal)]
        assert [s.target_id for s in signals[:2]] == [CALLEE, INVOCATION]
        lab.hosted.close()
        late.hosted.close()
        await settle()

    asyncio.run(run())


# ---- races --------------------------------------------------------------------------------------


@counter.handler()
async def race(ctx: ObjectContext) -> list[Any]:
    wins = []
    for _ in range(3):
        name, _ = await select(
            a=ctx.sleep(timedelta(seconds=1)),
            b=ctx.signal("b"),
            c=ctx.service_call(never, None),
        )
        wins.append(name)
    return wins


FEATURES["Counter/race"] = {}


def test_race_is_decided_alike_in_every_replay() -> None:
    async def run() -> None:
        lab = make("Counter/race")
        lab.auto_fire = False
        lab.start()
        await settle()
        lab.notify(Signal("b", Value(b"1")))
        lab.notify(Completion(1, Void()))  # of the first race: too late, or first for nobody
        await settle()
        lab.notify(Completion(6, Value(b'"c"')))
        lab.notify(Signal("b", Value(b"1")))
        await settle()
        expected = value(await lab.finish())
        assert expected == ["b", "c", "b"]
        for _ in range(3):
            again = make("Counter/race", entries=tuple(lab.entries))
            again.auto_fire = False
            assert value(await again.run()) == expected

    asyncio.run(run())


# ---- suspension ---------------------------------------------------------------------------------


def test_suspension_says_how_much_of_the_journal_it_saw() -> None:
    async def run() -> None:
        lab = make("Counter/race", always_suspend=True)
        lab.auto_fire = False
        lab.start()
        await settle()
        [suspended] = lab.suspensions
        assert len(lab.entries) == 4  # Input, Sleep, Call, id of the call
        assert suspended.seen_count == 4
        assert suspended.awaiting.completions == (1, 3)
        assert set(suspended.awaiting.signals) == {"b", 1}
        lab.hosted.close()
        await settle()

    asyncio.run(run())


def test_run_that_executes_is_proposed_before_the_attempt_suspends() -> None:
    async def run() -> None:
        lab = make("Counter/runs")
        lab.hold_barriers = True
        lab.start()
        await settle()
        assert lab.attempt is not None
        lab.attempt.close_input()
        await settle()
        assert lab.suspensions == []
        lab.hold_barriers = False
        lab.attempt.pass_barrier(1)
        await lab.finish()
        _, suspended = next(b for b in lab.bursts if type(b[0]).__name__ == "ProposeRun")
        assert type(suspended).__name__ == "Suspended"

    asyncio.run(run())


def test_awaited_run_and_what_follows_leave_in_one_burst() -> None:
    service = Service("Steps")

    @service.handler()
    async def go(ctx: Context) -> int:
        return await ctx.run_typed("a", lambda: 1) + await ctx.run_typed("b", lambda: 2)

    async def run() -> None:
        lab = Lab([service], "Steps/go")
        assert value(await lab.run()) == 3
        assert lab.bursts == [
            (Run(1, "a"), Barrier(1)),
            (ProposeRun(1, Value(b"1"), 0), Run(2, "b"), Barrier(2)),
            (ProposeRun(2, Value(b"2"), 1), Output(Value(b"3")), Ended()),
        ]

    asyncio.run(run())


def test_result_taken_before_a_cancellation_on_its_way_is_taken_again_in_the_order_of_the_journal() -> (
    None
):
    service = Service("Steps")
    seen: list[str] = []

    @service.handler()
    async def go(ctx: Context) -> str:
        async def first() -> None:
            lab.entries.append(Signal(1, Void()))  # stored, but not yet given to the attempt

        for name in "ab":
            try:
                await ctx.run_typed(name, first if name == "a" else lambda: seen.append("ran b"))
            except TerminalError:
                return f"cancelled at {name}"
            seen.append(f"past {name}")
        return "done"

    async def run() -> None:
        assert value(await lab.run()) == "cancelled at a"
        assert lab.attempt_count == 2
        assert seen == ["past a"]  # by the first attempt, of which nothing else counts

    lab = Lab([service], "Steps/go")
    asyncio.run(run())


def test_aborted_attempt_emits_nothing_more() -> None:
    async def run() -> None:
        lab = make("Counter/timers")
        lab.auto_fire = False
        lab.start()
        await settle()
        count = len(lab.bursts)
        assert lab.attempt is not None
        lab.attempt.abort()
        lab.attempt.deliver(((9, Completion(2, Void())),))
        await settle()
        assert len(lab.bursts) == count
        assert lab.hosted.running_count == 0
        lab.hosted.close()

    asyncio.run(run())


stubborn = VirtualObject("Stubborn")


@stubborn.handler()
async def swallow(ctx: ObjectContext) -> str:
    with suppress(BaseException):
        await ctx.sleep(timedelta(days=1))
    with suppress(BaseException):
        ctx.set("never", 1)
    return "done"


def test_handler_that_swallows_its_suspension_emits_nothing_more() -> None:
    async def run() -> None:
        lab = Lab([stubborn], "Stubborn/swallow", always_suspend=True)
        lab.auto_fire = False
        lab.start()
        await settle()
        assert [type(f).__name__ for b in lab.bursts for f in b] == [
            "Sleep",
            "AwaitingOn",
            "Suspended",
        ]
        assert lab.hosted.running_count == 0
        lab.hosted.close()

    asyncio.run(run())


def test_commands_leave_while_the_handler_waits_for_something_foreign() -> None:
    foreign = Service("Foreign")
    gate = asyncio.Event()

    @foreign.handler()
    async def wait(ctx: Context) -> None:
        ctx.service_send(say, "now")
        await gate.wait()

    async def run() -> None:
        lab = Lab([foreign, echo], "Foreign/wait")
        lab.start()
        await settle()
        assert [type(f).__name__ for f in lab.bursts[0]] == ["OneWayCall"]
        assert lab.attempt is not None
        lab.attempt.close_input()
        gate.set()
        await lab.finish()
        assert not lab.suspensions  # it never blocked on us

    asyncio.run(run())


def test_awaiting_on_shows_the_tree() -> None:
    lab, _ = outcome("Counter/waits")
    trees = [f.awaiting for b in lab.bursts for f in b if isinstance(f, AwaitingOn)]
    assert trees[0].completions == (1, 2, 3)
    assert trees[0].signals == (1,)
    assert trees[1].nested[0].completions == (1, 3)


def test_journal_begins_with_the_input() -> None:
    lab, _ = outcome("Counter/add")
    assert lab.entries[0] == Input((), b"5")
    assert all(is_command(e) for e in lab.entries)
