"""What HTTP can do to an attempt: statuses, content types, Retry-After, bodies without end, and silence.

No status is terminal (protocol 2.2), and time does what the timeouts say (5.10).
"""

import asyncio
from typing import Any

import pytest

from perdure.actors.clock import EPOCH_MS
from perdure.journal.attempt import AwaitingOn, Failed
from perdure.journal.entries import Input, Output, Run, SetState, Sleep, Value
from perdure.journal.requests import Op
from perdure.journal.schema import OnMaxAttempts, RetryPolicy
from tests.actors.remote.peer import OK, Exchange, Script, on, silent, suspended
from tests.actors.remote.stage import Play, World

FAR_MS = 4_000_000_000_000
STEADY = RetryPolicy(initial_interval_ms=1000, factor=1.0)


@pytest.fixture
def play() -> Play:
    return Play(on_disk=False)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def refuses(
    status: int, *headers: tuple[str, str], body: bytes = b"", reads: bool = True
) -> Script:
    async def script(x: Exchange) -> None:
        if reads:
            await x.begin(head=False)
        await x.head(status, "text/plain", *headers)
        if body:
            await x.raw(body)
        await x.read_all()
        await x.end()

    return script


def failed_with(play: Play, script: Script, **options: Any) -> tuple[str, int, float, int]:
    """Message and code of the failure, seconds until the next attempt, and its retry count."""

    async def scenario(world: World) -> tuple[str, int, float, int]:
        id = await world.send()
        info = await world.until(id, "backing-off")
        began_s = now_s()
        assert info.last_failure is not None
        assert await world.result(id) == Value(OK)
        _, second = world.exchanges()
        failure = info.last_failure
        return failure.message, failure.code, now_s() - began_s, second.start.retry_count

    return play(scenario, script, retry=STEADY, **options)


STATUSES = {
    413: ("[RT0019]", 413, 1),
    415: ("[RT0015]", 415, 0),
    429: ("[RT0023]", 429, 1),
    502: ("[RT0010]", 502, 1),
    503: ("[RT0023]", 503, 1),
    504: ("[RT0010]", 504, 1),
    301: ("[RT0012]", 500, 1),
    401: ("[RT0012]", 500, 1),
    404: ("[RT0012]", 500, 1),
    500: ("[RT0012]", 500, 1),
    599: ("[RT0012]", 500, 1),
}


@pytest.mark.parametrize("body", [b"", b"why not\n"])
@pytest.mark.parametrize("status", STATUSES)
def test_no_status_is_terminal(play: Play, status: int, body: bytes) -> None:
    message, code, _, retry_count = failed_with(play, refuses(status, body=body))
    expected, expected_code, expected_count = STATUSES[status]
    assert message.startswith(expected)
    assert f"HTTP {status}" in message
    assert message.endswith("why not") == bool(body)
    assert (code, retry_count) == (expected_code, expected_count)


def test_an_error_is_heard_before_the_request_is_read(play: Play) -> None:
    message, _, _, _ = failed_with(play, refuses(404, body=b"nobody here", reads=False))
    assert "HTTP 404" in message
    assert "nobody here" in message


@pytest.mark.parametrize("goes_on", ["silently", "talking"])
def test_an_error_body_without_end_is_cut(play: Play, goes_on: str) -> None:
    async def never_ends(x: Exchange) -> None:
        await x.begin(head=False)
        await x.head(500, "text/plain")
        await x.raw(b"x" * 10_000)
        while goes_on == "talking":
            await x.raw(b"y" * 10_000)
            await asyncio.sleep(0.1)
        await silent(x)

    message, _, _, _ = failed_with(play, never_ends)
    assert len(message) < 2200


def test_an_error_body_that_is_no_text_is_shown_as_well_as_it_goes(play: Play) -> None:
    message, _, _, _ = failed_with(play, refuses(500, body=b"caf\xc3\xa9 \xff\xfe"))
    assert "café" in message


def test_an_error_whose_body_breaks_off_is_told(play: Play) -> None:
    async def breaks(x: Exchange) -> None:
        await x.begin(head=False)
        await x.head(500, "text/plain")
        await x.raw(b"half a te")
        raise ValueError("gone")

    message, _, _, _ = failed_with(play, breaks)
    assert "HTTP 500" in message
    assert "half a te" in message


KINDS = ["", "text/html", "application/json", "application/vnd.restate.invocation.v6"]


@pytest.mark.parametrize("kind", KINDS)
def test_another_content_type_fails_the_attempt(play: Play, kind: str) -> None:
    async def answers(x: Exchange) -> None:
        await x.begin(head=False)
        await x.head(200, kind)
        await x.finish(Output(Value(b"no")))

    message, _, _, _ = failed_with(play, answers)
    assert "[RT0012]" in message
    assert (kind or "none") in message
    assert "application/vnd.restate.invocation.v7" in message


def test_any_status_of_success_will_do(play: Play) -> None:
    async def answers(x: Exchange) -> None:
        await x.begin(head=False)
        await x.head(204)
        await x.answer()

    async def scenario(world: World) -> None:
        assert await world.call() == Value(OK)
        assert len(world.exchanges()) == 1

    play(scenario, answers)


# ---- Retry-After --------------------------------------------------------------------------------
# virtual time begins on 2025-01-01 at midnight; a scenario gets here some 6 s later

DELAYS: dict[str, float | tuple[float, float] | None] = {
    "7": 7.0,
    "0": None,
    " 7 ": 7.0,
    "86400": 86_400.0,
    "999999999": 86_400.0,
    "9" * 5000: 86_400.0,
    "Wed, 01 Jan 2025 00:01:00 GMT": (30.0, 60.0),
    "Wed, 01 Jan 2025 00:01:00 -0000": (30.0, 60.0),
    "Wed, 01 Jan 2025 01:01:00 +0100": (30.0, 60.0),
    "Thu, 01 Jan 2099 00:00:00 GMT": 86_400.0,
    "Tue, 31 Dec 2024 23:59:00 GMT": None,
    "-5": None,
    "1.5": None,
    "²": None,
    "soon": None,
    "": None,
    " ": None,
    ",": None,
    "Wed, 99 Jan 9999999 99:99:99 GMT": None,
}


@pytest.mark.parametrize("value", DELAYS, ids=[each[:34] for each in DELAYS])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_replaces_the_next_delay(play: Play, status: int, value: str) -> None:
    if not value.isascii() and status == 503:
        return  # once is enough
    expected = DELAYS[value]

    async def scenario(world: World) -> None:
        assert EPOCH_MS % 86_400_000 == 0
        id = await world.send()
        info = await world.until(id, "backing-off")
        assert info.next_retry_at_ms is not None
        delay_s = (info.next_retry_at_ms - info.modified_at_ms) / 1000
        if expected is None:
            assert 1.0 <= delay_s <= 1.3  # the policy's
        elif isinstance(expected, tuple):
            assert expected[0] <= delay_s <= expected[1]
        else:
            assert delay_s == pytest.approx(expected, abs=0.05)

    play(scenario, refuses(status, ("retry-after", value)), retry=STEADY)


def test_retry_after_does_not_use_up_the_policy(play: Play) -> None:
    async def scenario(world: World) -> None:
        assert await world.call() == Value(OK)
        counts = [each.start.retry_count for each in world.exchanges()]
        assert counts == [0, 1, 2, 3]

    once = RetryPolicy(max_attempts=2, on_max_attempts=OnMaxAttempts.KILL)
    busy = refuses(503, ("retry-after", "1"))
    play(scenario, busy, busy, busy, retry=once)


def test_only_busy_deployments_may_ask_for_a_delay(play: Play) -> None:
    _, _, waited_s, _ = failed_with(play, refuses(500, ("retry-after", "600")))
    assert waited_s < 2


# ---- silence ------------------------------------------------------------------------------------

TIMEOUTS: dict[str, Any] = {
    "inactivity_timeout_ms": 10_000,
    "abort_timeout_ms": 20_000,
    "retry": STEADY,
}


async def _reads_and_says_nothing(x: Exchange) -> None:
    await x.begin(head=False)
    await x.read_all()
    await silent(x)


async def _says_hello_only(x: Exchange) -> None:
    await x.begin()
    await silent(x)


async def _dribbles(x: Exchange) -> None:
    """Bytes of a frame that is never complete are no sign of life."""
    await x.begin()
    await x.raw(bytes.fromhex("0403000000ffffff"))
    while True:
        await x.raw(b"x")
        await asyncio.sleep(1)


SILENCES = {
    "deaf and dumb": silent,
    "reads": _reads_and_says_nothing,
    "says hello": _says_hello_only,
    "dribbles": _dribbles,
}


@pytest.mark.parametrize("bidi", [True, False])
@pytest.mark.parametrize("name", SILENCES)
def test_a_silent_peer_is_aborted(play: Play, name: str, bidi: bool) -> None:
    async def scenario(world: World) -> None:
        began_s = now_s()
        id = await world.send()
        await world.until(id, "backing-off")
        expected_s = 30 if bidi else 20  # no inactivity before the input is closed
        assert expected_s <= now_s() - began_s <= expected_s + 3
        assert (await world.failure(id)).message.startswith("[RT0001]")
        assert not world.transport._open  # reset, so that the peer sees it
        assert await world.result(id) == Value(OK)

    play(scenario, SILENCES[name], bidi=bidi, **TIMEOUTS)


def test_timeouts_below_a_second_are_kept_to_the_point(play: Play) -> None:
    async def scenario(world: World) -> None:
        began_s = now_s()
        id = await world.send()
        await world.until(id, "backing-off")
        assert 0.3 <= now_s() - began_s <= 0.4
        assert (await world.failure(id)).message.startswith("[RT0001]")
        assert await world.result(id) == Value(OK)

    play(scenario, silent, inactivity_timeout_ms=100, abort_timeout_ms=200)


def test_inactivity_asks_to_suspend_and_is_no_failure(play: Play) -> None:
    async def sleeps(x: Exchange) -> None:
        await x.begin()
        await x.say(Sleep(1, EPOCH_MS + 100_000), AwaitingOn(on(1)))
        assert await x.read_all() == []  # ends after the inactivity timeout
        assert 10 <= now_s() - began[0] <= 12
        await x.finish(suspended(on(1)))

    async def scenario(world: World) -> None:
        began.append(now_s())
        id = await world.send()
        info = await world.until(id, "suspended")
        assert info.last_failure is None
        assert await world.result(id) == Value(OK)
        assert now_s() >= 100
        _, second = world.exchanges()
        assert len(second.replay) == 3
        assert second.start.retry_count == 0

    began: list[float] = []
    play(scenario, sleeps, **TIMEOUTS)


def test_a_peer_that_goes_on_after_the_close_is_left_alone_while_it_speaks(play: Play) -> None:
    async def computes(x: Exchange) -> None:
        await x.begin()
        await x.read_all()  # asked to suspend
        for n in range(5):
            await asyncio.sleep(15)  # below the abort timeout each time
            await x.say(SetState("n", b"%d" % n))
        await x.answer()

    async def scenario(world: World) -> None:
        assert await world.call() == Value(OK)
        assert len(world.exchanges()) == 1

    play(scenario, computes, **TIMEOUTS)


def test_what_comes_while_the_input_is_closed_waits_for_the_next_attempt(play: Play) -> None:
    async def misses(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1))
        assert await x.read_all() == []
        await asyncio.sleep(5)
        await x.finish(suspended(on(1, signals=("s",))))

    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(12)
        await world.engine.signal(id, "s", Value(b"1"))
        assert await world.result(id) == Value(OK)
        assert len(world.exchanges()[1].replay) == 3

    play(scenario, misses, **TIMEOUTS)


def test_a_response_that_never_ends_is_reset_and_holds_nothing_up(play: Play) -> None:
    disconnected = []

    async def lingers(x: Exchange) -> None:
        await x.begin()
        await x.say(Output(Value(OK)))
        await x.say(bytes.fromhex("0003000000000000"))  # End
        try:
            await silent(x)
        finally:
            disconnected.append(now_s())

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        ended_s = now_s()
        await world.probe("k")
        await asyncio.sleep(6)
        assert 4.9 <= disconnected[0] - ended_s <= 5.1

    play(scenario, lingers)


def test_a_kill_resets_the_exchange_without_further_frames(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send()
        await asyncio.sleep(1)
        await world.engine.operate(id, Op.KILL)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await world.result(id)).message == "killed"
        await world.probe("k")
        (exchange,) = world.exchanges()
        assert len(exchange.heard) == 2  # start and input
        assert not world.transport._open

    play(scenario, _says_hello_only)


def test_the_request_says_whose_attempt_it_is(play: Play) -> None:
    async def scenario(world: World) -> None:
        id = await world.send(key="ö/&")
        assert await world.result(id) == Value(OK)
        (exchange,) = world.exchanges()
        headers = exchange.headers
        assert headers["x-restate-invocation-id"] == id == exchange.start.debug_id
        assert headers["x-restate-service-key"] == "%C3%B6%2F%26"
        assert headers["accept"] == headers["content-type"]
        assert exchange.start.key == "ö/&"
        assert [type(each) for each in await world.journal(id)] == [Input, Output]

    play(scenario)


def test_a_failure_is_kept_until_the_end(play: Play) -> None:
    async def fails(x: Exchange) -> None:
        await x.begin()
        await x.say(Run(1, "pay"))
        failure = Failed(
            500,
            "no",
            "trace",
            related_command_index=1,
            related_command_name="pay",
            related_command_type="run",
        )
        await x.finish(failure)

    async def scenario(world: World) -> None:
        id = await world.send()
        assert await world.result(id) == Value(OK)
        failure = await world.failure(id)
        assert (failure.code, failure.message, failure.stacktrace) == (500, "no", "trace")
        assert failure.related_command_index == 1
        assert (failure.related_command_name, failure.related_command_type) == ("pay", "run")

    play(scenario, fails)
