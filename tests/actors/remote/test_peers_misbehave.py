"""Peers that break the protocol: the attempt fails with a text that says what came, and the next one counts.

Each of them holds an object's lock. That nothing is left open, stuck or broken is checked by ``Play``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.journal.attempt import Awaiting, AwaitingOn, Combinator, Ended, Failed, ProposeRun
from perdure.journal.entries import (
    Call,
    ClearState,
    Completion,
    GetLazyState,
    GetPromise,
    Input,
    OneWayCall,
    Output,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.schema import OnMaxAttempts, RetryPolicy
from perdure.journal.wire.control import run_ack_frame
from perdure.journal.wire.frames import FrameType, frame
from perdure.journal.wire.notifications import notification_frame
from tests.actors.remote.peer import OK, Exchange, encode, on, says, suspended
from tests.actors.remote.stage import Play, World, retried

FAR_MS = 4_000_000_000_000


@pytest.fixture(params=["memory", "disk"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(request.param == "disk")


def deep(levels: int) -> Awaiting:
    awaiting = on(1)
    for _ in range(levels):
        awaiting = Awaiting(Combinator.UNKNOWN, nested=(awaiting,))
    return awaiting


# ---- frames that a peer may not send ------------------------------------------------------------

FORBIDDEN = {
    "input": (encode(Input((), b"1"), 7), ["[RT0012]", "Input", "came from the deployment"]),
    "start": (frame(FrameType.START, b""), ["[RT0012] start (0x0000)"]),
    "command ack": (frame(FrameType.COMMAND_ACK, b"\x08\x01"), ["[RT0012] command_ack (0x0004)"]),
    "run ack": (run_ack_frame(1), ["[RT0012] propose_run_completion_ack (0x0007)"]),
    "completion": (
        notification_frame(Completion(1, Void()), FrameType.SLEEP_COMPLETION, 7),
        ["[RT0012] sleep_completion (0x800c)"],
    ),
    "signal": (notification_frame(Signal(1, Void()), 0, 7), ["[RT0012] signal (0xfbff)"]),
    "unknown control": (frame(0x0123, b""), ["[RT0012] 0x0123"]),
    "unknown command": (frame(0x0500, b""), ["[RT0012] 0x0500"]),
    "unused command": (frame(0x040F, b""), ["[RT0012] 0x040f"]),
    "custom entry": (frame(0xFC01, b"x"), ["[RT0012] 0xfc01"]),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_only_the_runtime_may_say_fails_the_attempt(play: Play, name: str) -> None:
    raw, expected = FORBIDDEN[name]
    retried(play, says(raw), *expected)


@pytest.mark.parametrize("name", ["input", "completion", "unknown command"])
def test_commands_before_a_forbidden_frame_stay(play: Play, name: str) -> None:
    raw, _ = FORBIDDEN[name]

    async def replays(x: Exchange) -> None:
        await x.begin()
        assert [each.type for each in x.replay] == [FrameType.INPUT, FrameType.SET_STATE]
        assert x.start.state == {"a": b"1"}
        await x.answer()

    async def scenario(world: World) -> None:
        assert await world.call() == Value(OK)

    play(scenario, says(SetState("a", b"1"), raw, SetState("a", b"2")), replays)


# ---- frames that are not what they say ----------------------------------------------------------

MALFORMED = {
    "no protobuf": (frame(FrameType.SET_STATE, b"\xff\xff\xff"), ["set_state", "do not parse"]),
    "state key": (frame(FrameType.CLEAR_STATE, b"\x0a\x02\xff\xfe"), ["clear_state", "UTF-8"]),
    "no result": (frame(FrameType.OUTPUT, b""), ["output (0x0401)"]),
    "no signal": (frame(FrameType.SEND_SIGNAL, b"\x0a\x03abc\x22\x00"), ["send_signal"]),
    "no proposal": (frame(FrameType.PROPOSE_RUN_COMPLETION, b"\x08\x01"), ["neither is present"]),
    "behavior": (frame(FrameType.ERROR, b"\x48\x09"), ["a behavior from 0 to 2", "9 came"]),
    "nothing awaited": (frame(FrameType.SUSPENSION, b""), ["suspension", "is absent"]),
    "empty tree": (frame(FrameType.SUSPENSION, b"\x22\x00"), ["suspension", "is empty"]),
    "combinator": (frame(FrameType.SUSPENSION, b"\x22\x02\x28\x09"), ["a combinator from 0 to 4"]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_message_is_described(play: Play, name: str) -> None:
    raw, expected = MALFORMED[name]
    retried(play, says(raw), "[RT0012]", *expected)


def test_a_tree_that_is_too_deep_pauses(play: Play) -> None:
    """Protocol 5.5: RT0025; a retry would only do the same."""

    async def scenario(world: World) -> None:
        id = await world.send()
        assert "[RT0025]" in (await world.until(id, "paused")).paused_reason
        assert len(world.exchanges()) == 1
        assert len(await world.journal(id)) == 2

    play(scenario, says(Sleep(1, FAR_MS), suspended(deep(1001))))


def test_a_wait_that_is_too_deep_pauses_too(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        assert "[RT0025]" in (await world.until(id, "paused")).paused_reason

    play(scenario, says(Sleep(1, FAR_MS), AwaitingOn(deep(1001))))


def test_awaiting_on_before_v7_is_refused(play: Play) -> None:
    raw = encode(AwaitingOn(on(1)), 7)
    retried(play, says(raw), "[RT0012]", "awaiting_on", "V6", version=6)


def test_a_suspension_on_nothing_is_refused_on_v6(play: Play) -> None:
    retried(play, says(frame(FrameType.SUSPENSION, b"")), "suspension", "is empty", version=6)


# ---- completion ids -----------------------------------------------------------------------------


def test_a_proposal_for_an_unknown_run_is_refused(play: Play) -> None:
    retried(play, says(ProposeRun(9, Value(b"1"))), "[RT0012]", "run", "but 9 is none")


def test_a_proposal_for_another_command_is_refused(play: Play) -> None:
    frames = Sleep(1, FAR_MS), ProposeRun(1, Value(b"1"))
    retried(play, says(*frames), "[RT0012]", "run", "1")


def test_a_second_proposal_is_refused(play: Play) -> None:
    frames = Run(1), ProposeRun(1, Value(b"1")), ProposeRun(1, Value(b"2"))

    async def scenario(world: World) -> None:
        id = await world.send()
        await world.until(id, "backing-off")
        assert "[RT0012]" in (await world.failure(id)).message
        assert await world.result(id) == Value(OK)
        assert (await world.journal(id)).count(Completion(1, Value(b"1"))) == 1

    play(scenario, says(*frames))


def test_a_proposal_for_a_run_that_was_replayed_complete_is_refused(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert [type(each) for each in await world.journal(id)] == [Input, Run, Completion, Output]
        assert "[RT0012]" in (await world.failure(id)).message

    first = says(Run(1), ProposeRun(1, Value(b"1")), Failed(500, "once"))
    play(scenario, first, says(ProposeRun(1, Value(b"2"))))


TWICE = {
    "sleeps": (Sleep(1, FAR_MS), Sleep(1, FAR_MS)),
    "two kinds": (Run(1), GetLazyState(1, "a")),
    "within a call": (Call(1, 1, "Plain", "b", "", b""),),
    "a call's id": (Sleep(1, FAR_MS), OneWayCall(1, "Plain", "b", "", b"")),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_completion_id_is_used_once(play: Play, name: str) -> None:
    retried(play, says(*TWICE[name]), "[RT0012]", "completion id 1 came twice")


def test_a_completion_id_of_the_replay_is_not_used_again(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert "completion id 1" in (await world.failure(id)).message

    play(scenario, says(Sleep(1, FAR_MS), Failed(500, "once")), says(Sleep(1, FAR_MS + 1)))


# ---- commands that are not allowed here ---------------------------------------------------------


def refused(
    play: Play, command: Any, expected: str, target: str = "Thing/a", **options: Any
) -> None:
    """Nothing of the command is stored; the attempt is retried."""

    async def scenario(world: World) -> None:
        id = await world.send(target)
        assert await world.result(id) == Value(OK)
        assert expected in (await world.failure(id)).message
        kinds = [type(each) for each in await world.journal(id)]
        assert kinds == [Input, SendSignal, Output]

    nobody = "inv_10GJfy0GGPIZ0JsmI2YhihwhbLzDth0Jvz"
    first = SendSignal(nobody, "s", Void())
    play(scenario, says(first, command, Output(Value(b"no")), Ended()), target=target, **options)


def test_a_shared_handler_cannot_write_state(play: Play) -> None:
    refused(play, SetState("a", b"1"), "[RT0017] SetState in Thing/s", "Thing/s")
    refused(play, ClearState("a"), "[RT0017] ClearState in Flow/s", "Flow/s")


def test_a_plain_service_has_no_state(play: Play) -> None:
    refused(play, GetLazyState(1, "a"), "[RT0017] GetLazyState", "Plain/a")


def test_promises_need_a_workflow(play: Play) -> None:
    refused(play, GetPromise(1, "p"), "[RT0017] GetPromise needs a workflow")


def test_a_key_for_a_plain_service_is_refused(play: Play) -> None:
    refused(play, Call(1, 2, "Plain", "b", "key", b""), "takes no key")
    refused(play, OneWayCall(1, "Plain", "b", "key", b""), "takes no key")


def test_an_unknown_callee_is_refused(play: Play) -> None:
    refused(play, Call(1, 2, "Plane", "b", "", b""), "[RT0018]")


def test_a_scope_is_refused(play: Play) -> None:
    refused(play, Call(1, 2, "Plain", "b", "", b"", scope="x"), "[RT0024]")


def test_an_empty_idempotency_key_is_refused(play: Play) -> None:
    refused(play, Call(1, 2, "Plain", "b", "", b"", idempotency_key=""), "idempotency key")


def test_a_signal_to_no_id_is_refused(play: Play) -> None:
    refused(play, SendSignal("nobody", 1, Void()), "[RT0012] bad invocation id 'nobody'")


# ---- the end of an attempt ----------------------------------------------------------------------


def test_an_end_without_an_output_is_refused(play: Play) -> None:
    retried(play, says(Ended()), "without an output")


def test_an_end_without_an_output_counts_by_the_handlers_policy(play: Play) -> None:
    async def scenario(world: World) -> None:
        result = await world.call()
        assert (result.code, result.message) == (571, "the attempt ended without an output")
        assert len(world.exchanges()) == 2

    policy = RetryPolicy(max_attempts=2, on_max_attempts=OnMaxAttempts.KILL)
    play(scenario, says(Ended()), says(Ended()), retry=policy)


async def _one_of_many_ends(x: Exchange) -> None:
    await x.begin()
    await x.say(Output(Value(OK)), Ended(), Failed(500, "late"), Ended(), b"\xff\xff garbage")
    await x.raw(b"more of it")
    await x.read_all()
    await x.end()


def test_only_the_first_last_frame_counts(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        assert (await world.info(id)).last_failure is None

    play(scenario, _one_of_many_ends)


def test_a_failure_before_an_end_wins(play: Play) -> None:
    retried(play, says(Failed(500, "first"), Output(Value(OK)), Ended()), "first")


def test_a_suspension_while_the_request_is_open_is_taken(play: Play) -> None:
    """Nobody asked; what was sent since the start may not have been read, so it counts as news."""

    async def suspends(x: Exchange) -> None:
        await x.begin()
        await x.say(Sleep(1, FAR_MS))
        await asyncio.sleep(5)  # a signal has been written to this stream in the meantime
        await x.finish(suspended(on(1, signals=("s",))))

    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(2)
        await world.engine.signal(id, "s", Void())
        assert await world.result(id) == Value(OK)
        assert len(world.exchanges()) == 2

    play(scenario, suspends)


CUTS = [0, 1, 7, 8, 9, 20]


@pytest.mark.parametrize("cut", CUTS)
def test_a_response_that_ends_anywhere_fails_the_attempt(play: Play, cut: int) -> None:
    async def ends(x: Exchange) -> None:
        await x.begin()
        await x.raw(encode(SetState("abc", b"0123456789"), 7)[:cut])
        await x.end()

    retried(play, ends, "[RT0010]", "ended its response")


@pytest.mark.parametrize("count", range(1, 6))
def test_a_close_after_each_frame_loses_nothing(play: Play, count: int) -> None:
    """Every prefix of an invocation's frames is taken up by the next attempt."""
    frames: list[Any] = [
        SetState("a", b"1"),
        Run(1),
        ProposeRun(1, Value(b"2")),
        Sleep(2, 0),
        Output(Value(OK)),
    ]

    async def cut(x: Exchange) -> None:
        await x.begin()
        await x.say(*frames[:count])
        await x.end()

    async def rest(x: Exchange) -> None:
        await x.begin()
        assert len(x.replay) == x.start.known_entry_count
        await x.finish(*frames[count:], Ended())

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        kinds = [type(each) for each in await world.journal(id)]
        assert kinds == [Input, SetState, Run, Completion, Sleep, Completion, Output]
        assert await world.engine.state("Thing", "k") == {"a": b"1"}

    play(scenario, cut, rest)


# ---- apps that break ----------------------------------------------------------------------------


async def _raises_at_once(x: Exchange) -> None:
    raise ValueError("no such luck")


async def _raises_later(x: Exchange) -> None:
    await x.begin()
    raise ValueError("no such luck")


async def _returns(x: Exchange) -> None:
    await x.begin(head=False)


async def _exits(x: Exchange) -> None:
    raise SystemExit(3)


BREAKS: dict[str, tuple[Callable[[Exchange], Awaitable[None]], str]] = {
    "at once": (_raises_at_once, "ValueError: no such luck"),
    "later": (_raises_later, "ValueError: no such luck"),
    "returns": (_returns, "did not begin a response"),
    "exits": (_exits, "SystemExit: 3"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_an_app_that_breaks_fails_its_attempt_only(play: Play, name: str) -> None:
    script, expected = BREAKS[name]
    retried(play, script, "[RT0010]", expected)
