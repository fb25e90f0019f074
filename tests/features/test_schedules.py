"""Schedules on virtual time, over crashes and replays: every tick once, none lost, none twice."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import perdure
from perdure import testing
from perdure.journal.errors import UsageError
from perdure.schedules import ScheduleRefused
from perdure.testing import TestSystem
from tests.features.modes import Run

DAY_S = 86_400.0
HOUR_S = 3_600.0

reports = perdure.VirtualObject("Reports")


@perdure.schedule(cron="0 3 * * *", timezone="Europe/Berlin", key="eu", arg="all")
@reports.handler()
async def nightly(ctx: perdure.ObjectContext, what: str) -> None:
    assert what == "all"
    ran = await ctx.get("ran", type_hint=list[str]) or []
    await ctx.sleep(timedelta(minutes=1))
    ctx.set("ran", [*ran, ctx.request().headers["x-perdure-tick"]])


async def ran(system: TestSystem) -> list[str]:
    found: list[str] = json.loads((await system.state(reports, "eu")).get("ran", b"[]"))
    return found


def test_every_night_of_a_week_is_run_once(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        await asyncio.sleep(7 * DAY_S)
        assert await ran(system) == [f"2025-01-0{n}T02:00:00Z" for n in range(1, 8)]

    run(scenario, [reports])


def test_a_month_of_ticks_passes_at_once() -> None:
    async def scenario(system: TestSystem) -> None:
        await asyncio.sleep(30 * DAY_S)
        assert len(set(await ran(system))) == len(await ran(system)) == 30

    testing.run(scenario, [reports])


pings = perdure.Service("Pings")
began: list[str] = []


@pings.handler()
async def ping(ctx: perdure.Context) -> str:
    began.append(ctx.request().headers["x-perdure-tick"])
    await ctx.sleep(timedelta(hours=3))
    return began[-1]


def test_schedules_that_a_program_makes_outlive_crashes(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        made = await system.schedules.create(
            ping, name="hourly", every=timedelta(hours=1), overlap="allow"
        )
        assert made.spec.name == "hourly"
        await asyncio.sleep(4.5 * HOUR_S)
        await system.schedules.pause("hourly", "lunch")
        await asyncio.sleep(4 * HOUR_S)
        stands = await system.schedules.find("hourly")
        assert stands is not None
        assert (stands.started_count, stands.succeeded_count) == (4, 4)
        triggered = await system.schedules.trigger("hourly")
        assert (await system.invocation(triggered)) is not None
        await system.schedules.resume("hourly")
        await asyncio.sleep(1 * HOUR_S)
        (listed,) = await system.schedules.list()
        assert listed.started_count == 6
        await system.schedules.delete("hourly")
        assert await system.schedules.list() == []

    run(scenario, [pings])


def test_a_backfill_runs_the_past_in_order_over_crashes(run: Run) -> None:
    async def scenario(system: TestSystem) -> None:
        began.clear()
        await system.schedules.create(ping, name="daily", cron="@daily")
        start, end = datetime(2024, 12, 1, tzinfo=UTC), datetime(2024, 12, 5, tzinfo=UTC)
        assert await system.schedules.backfill("daily", start, end) == 5
        await asyncio.sleep(16 * HOUR_S)
        assert list(dict.fromkeys(began)) == [f"2024-12-0{n}T00:00:00Z" for n in range(1, 6)]
        stands = await system.schedules.find("daily")
        assert stands is not None
        assert (stands.started_count, stands.succeeded_count, stands.backfills) == (5, 5, ())

    run(scenario, [pings])


def test_a_night_that_nobody_was_up_for_is_caught_up_with_once() -> None:
    """The engine is down for five and a half hours; then it starts again."""

    async def scenario(system: TestSystem) -> None:
        await system.schedules.create(ping, name="each", every=timedelta(hours=1), overlap="allow")
        await system.schedules.create(
            ping, name="one", every=timedelta(hours=1), offset=timedelta(minutes=1)
        )
        await system.stop()
        await asyncio.sleep(5.5 * HOUR_S)
        await system.start()
        await asyncio.sleep(1)
        each, one = await system.schedules.list()
        assert (each.started_count, each.skipped_count) == (5, 0)
        assert (one.started_count, one.skipped_count) == (1, 5)

    testing.run(scenario, [pings], storage="disk")


def test_code_that_declares_it_no_longer_takes_it_away() -> None:
    once = perdure.Service("Once")

    @perdure.schedule(at=datetime(2025, 1, 2), timezone="Asia/Tokyo", name="a")
    @perdure.schedule(every=timedelta(hours=1), name="b")
    @once.handler()
    async def work(ctx: perdure.Context) -> None:
        return None

    async def scenario(system: TestSystem) -> None:
        assert [each.spec.name for each in await system.schedules.list()] == ["a", "b"]
        await asyncio.sleep(1.5 * DAY_S)
        moment, hourly = await system.schedules.list()
        assert (moment.started_count, moment.next_tick_ms) == (1, None)
        assert moment.last_tick_ms == 1_735_743_600_000  # midnight in Tokyo
        assert hourly.started_count == 36
        once.handlers["work"].schedules.pop()
        await system.crash_and_restart()
        assert [each.spec.name for each in await system.schedules.list()] == ["b"]

    testing.run(scenario, [once])


def test_a_workflow_has_a_run_for_each_tick() -> None:
    flow = perdure.Workflow("Flow")

    @perdure.schedule(cron="@daily", key="eu")
    @flow.main()
    async def run(ctx: perdure.WorkflowContext) -> str:
        return ctx.key()

    async def scenario(system: TestSystem) -> None:
        await asyncio.sleep(0.5 * DAY_S)
        for day in (2, 3):
            await asyncio.sleep(DAY_S)
            key = f"eu@2025-01-0{day}T00:00:00Z"
            assert await system.workflow_attach(run, key) == key

    testing.run(scenario, [flow])


# ---- what is refused where it is written ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of cron="),
        ({"cron": "@daily", "every": timedelta(hours=1)}, "one of cron="),
        ({"cron": "never"}, "never"),
        ({"cron": "@daily", "timezone": "Mars/Base"}, "Mars/Base"),
        ({"at": datetime(2025, 1, 1), "timezone": "Mars/Base"}, "Mars/Base"),
        ({"every": timedelta(0)}, "one second"),
        ({"every": 60}, "timedelta"),
        ({"cron": "@daily", "offset": timedelta(hours=1)}, "offset="),
        ({"cron": "@daily", "overlap": "hope"}, "hope"),
        ({"cron": "@daily", "name": "a/b"}, "a/b"),
        ({"cron": "@daily", "key": "k"}, "no key"),
        ({"cron": "@daily", "jitter": timedelta(days=2)}, "jitter"),
        ({"cron": "@daily", "catch_up": timedelta(-1)}, "catch_up"),
    ],
)
def test_a_bad_schedule_is_refused_where_it_is_written(options: Any, words: str) -> None:
    service = perdure.Service("Bad")
    with pytest.raises(UsageError, match=words):

        @perdure.schedule(**options)
        @service.handler()
        async def work(ctx: perdure.Context) -> None: ...


def test_a_missing_key_argument_or_handler_is_told() -> None:
    box = perdure.VirtualObject("Box")
    with pytest.raises(UsageError, match="needs the key"):

        @perdure.schedule(cron="@daily")
        @box.handler()
        async def keyed(ctx: perdure.ObjectContext) -> None: ...

    with pytest.raises(UsageError, match="give arg="):

        @perdure.schedule(cron="@daily", key="k")
        @box.handler()
        async def hungry(ctx: perdure.ObjectContext, what: int) -> None: ...

    with pytest.raises(UsageError, match="goes above"):

        @box.handler()
        @perdure.schedule(cron="@daily", key="k")
        async def below(ctx: perdure.ObjectContext) -> None: ...

    with pytest.raises(UsageError, match="a name of its own"):

        @perdure.schedule(cron="@daily", key="a")
        @perdure.schedule(cron="@hourly", key="b")
        @box.handler()
        async def twice(ctx: perdure.ObjectContext) -> None: ...


def test_two_handlers_can_not_share_a_name() -> None:
    one, two = perdure.Service("One"), perdure.Service("Two")
    for each in (one, two):

        @perdure.schedule(cron="@daily", name="same")
        @each.handler()
        async def work(ctx: perdure.Context) -> None: ...

    async def scenario(system: TestSystem) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(UsageError, match="One/work and Two/work"):
        testing.run(scenario, [one, two])


def test_a_program_is_told_what_is_refused() -> None:
    async def scenario(system: TestSystem) -> None:
        with pytest.raises(ScheduleRefused, match="no schedule 'x'") as refused:
            await system.schedules.trigger("x")
        assert refused.value.code == 404
        with pytest.raises(UsageError, match="time zone"):
            await system.schedules.backfill("x", datetime(2024, 1, 1), datetime(2024, 1, 2))
        later = datetime(2030, 1, 1, tzinfo=UTC)
        with pytest.raises(ScheduleRefused, match="of the past"):
            await system.schedules.backfill("x", later, later)

    testing.run(scenario, [pings])


def test_an_endpoint_says_that_nobody_runs_its_schedules(caplog: pytest.LogCaptureFixture) -> None:
    async def discover() -> None:
        scope = {"type": "http", "method": "GET", "path": "/discover", "headers": []}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await perdure.app([reports])(scope | {"http_version": "2"}, receive, send)
        assert sent[0]["status"] == 200

    asyncio.run(discover())
    assert "Reports.nightly" in caplog.text
