"""Schedules over HTTP and from the command line, against a real engine in memory."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result

import perdure
from perdure.embedded import System
from perdure.gateway import server
from perdure.gateway.admin_schedule_shapes import ScheduleShown, SchedulesShown
from perdure.gateway.cli import main
from perdure.journal.store import MemoryStore, Store
from tests.gateway.serving import settings

OK, ANSWER_IS_ERROR, USAGE, NOT_FOUND = 0, 1, 2, 4

reports = perdure.Service("Reports")
boxes = perdure.VirtualObject("Boxes")
flows = perdure.Workflow("Flows")


@perdure.schedule(cron="0 3 * * *", timezone="Europe/Berlin", arg="all")
@reports.handler()
async def build(ctx: perdure.Context, what: str) -> str:
    return what


@boxes.handler()
async def empty(ctx: perdure.ObjectContext) -> None:
    return None


@flows.main()
async def run(ctx: perdure.WorkflowContext) -> None:
    return None


async def _memory() -> Store:
    return MemoryStore(Random(1))


@asynccontextmanager
async def _served() -> AsyncIterator[httpx.AsyncClient]:
    system = System([reports, boxes, flows], open_store=_memory)
    await system.start()
    gateway = await server.start(system.engine, settings())
    try:
        async with httpx.AsyncClient(base_url=gateway.admin_url, trust_env=False) as client:
            yield client
    finally:
        await gateway.stop()
        await system.stop()


def _with_admin(test: Callable[[httpx.AsyncClient], Any]) -> None:
    async def go() -> None:
        async with _served() as client:
            await test(client)

    asyncio.run(go())


HOURLY = {"name": "hourly", "service": "Boxes", "key": "a", "handler": "empty", "cron": "@hourly"}


def test_a_schedule_is_created_read_changed_and_deleted() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        wanted = HOURLY | {"body": {"n": 1}, "overlap": "queue", "jitter": "30s", "catch_up": "2h"}
        made = await client.post("/schedules", json=wanted)
        assert made.status_code == 201
        shown = made.json()
        assert shown["target"] == "Boxes/a/empty"
        assert (shown["cron"], shown["time_zone"], shown["status"]) == ("@hourly", "UTC", "active")
        assert (shown["overlap"], shown["jitter"], shown["catch_up"]) == ("queue", "30s", "2h")
        assert shown["body"]["json"] == {"n": 1}
        assert shown["headers"] == {"content-type": "application/json"}
        assert len(shown["upcoming"]) == 5
        assert (await client.get("/schedules/hourly")).json() == shown
        assert (await client.post("/schedules", json=HOURLY)).status_code == 409
        changed = await client.put("/schedules/hourly", json=HOURLY | {"cron": "30 * * * *"})
        assert changed.status_code == 200
        assert changed.json()["next_tick"].endswith(":30:00Z")
        msgspec.convert(shown, ScheduleShown)
        msgspec.convert((await client.get("/schedules")).json(), SchedulesShown)
        listed = (await client.get("/schedules")).json()["schedules"]
        assert [each["name"] for each in listed] == ["Reports.build", "hourly"]
        assert "body" not in listed[0]
        assert (await client.delete("/schedules/hourly")).status_code == 200
        assert (await client.get("/schedules/hourly")).status_code == 404
        assert (await client.delete("/schedules/hourly")).status_code == 404

    _with_admin(scenario)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"cron": "61 * * * *"}, 400, "Bad minute"),
        ({"time_zone": "Mars/Base"}, 400, "Mars/Base"),
        ({"every": "1h"}, 400, "one of"),
        ({"cron": None, "every": "10ms"}, 400, "one second"),
        ({"cron": None, "every": "1h", "offset": "2h"}, 400, "offset"),
        ({"offset": "5m"}, 400, "'offset' is for 'every'"),
        ({"cron": None, "at": "tomorrow"}, 400, "tomorrow"),
        (
            {"cron": None, "at": "2030-01-01T00:00", "time_zone": "Mars/X"},
            400,
            "'Mars/X' is not a time zone",
        ),
        ({"cron": None, "at": "2001-01-01T00:00:00Z"}, 400, "over"),
        ({"name": "no/name"}, 400, "no/name"),
        ({"name": None}, 400, "name"),
        ({"overlap": "hope"}, 400, "hope"),
        ({"jitter": "-1s"}, 400, "jitter"),
        ({"key": None}, 400, "needs a key"),
        ({"service": "Reports", "handler": "build"}, 400, "no key"),
        ({"handler": "fill"}, 404, "Boxes/fill"),
        ({"body": "x" * 70_000}, 400, "65536"),
        ({"color": "red"}, 422, "color"),
        ({"cron": 5}, 422, "cron"),
        ({"key": "k" * 70_000}, 400, "key"),
    ],
)
def test_a_bad_schedule_is_refused_with_the_reason(
    change: dict[str, Any], status: int, words: str
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/schedules", json=HOURLY | change)
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
        assert len((await client.get("/schedules")).json()["schedules"]) == 1

    _with_admin(scenario)


def test_what_code_declares_is_paused_and_triggered_but_not_changed_by_operators() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        path = "/schedules/Reports.build"
        shown = (await client.get(path)).json()
        assert shown["declared_by"] == "Reports"
        assert shown["body"]["json"] == "all"
        replaced = await client.put(path, json=HOURLY | {"name": "Reports.build"})
        assert (replaced.status_code, "in the code of Reports" in replaced.text) == (409, True)
        assert (await client.delete(path)).status_code == 409
        paused = await client.patch(path + "/pause?reason=too+slow")
        assert (paused.json()["status"], paused.json()["paused_reason"]) == ("paused", "too slow")
        assert "next_tick" not in paused.json()
        begun = await client.post(path + "/trigger")
        assert begun.status_code == 202
        id = begun.json()["invocation_id"]
        while (info := (await client.get(f"/invocations/{id}")).json())["status"] != "completed":
            await asyncio.sleep(0)
        assert info["invoked_by"] == "schedule:Reports.build"
        assert info["result"]["value"]["json"] == "all"
        counts = (await client.get(path)).json()["counts"]
        assert (counts["started"], counts["succeeded"]) == (1, 1)
        resumed = await client.patch(path + "/resume")
        assert resumed.json()["status"] == "active"

    _with_admin(scenario)


def test_the_openapi_document_tells_of_schedules() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        paths = (await client.get("/openapi")).json()["paths"]
        assert {"get", "post"} <= paths["/schedules"].keys()
        assert {"get", "put", "delete"} <= paths["/schedules/{schedule}"].keys()

    _with_admin(scenario)


def test_a_backfill_needs_a_range_of_the_past() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        path = "/schedules/Reports.build/backfill"
        day = {"from": "2026-01-01T00:00:00Z", "until": "2026-01-10T00:00:00Z"}
        begun = await client.post(path, json=day)
        assert (begun.status_code, begun.json()) == (202, {"tick_count": 9})
        for wrong, status in (
            ({"from": "2026-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}, 400),
            ({"from": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, 400),
            ({"from": "1990-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, 400),
            ({"from": "x", "until": "y"}, 400),
            ({"from": "2026-01-01T00:00:00Z"}, 422),
        ):
            assert (await client.post(path, json=wrong)).status_code == status, wrong
        assert (await client.post("/schedules/none/backfill", json=day)).status_code == 404
        assert (await client.post("/schedules/none/trigger")).status_code == 404
        for strange in ("%ff", "a%20b", "%00"):
            assert (await client.get(f"/schedules/{strange}")).status_code == 404
            assert (await client.delete(f"/schedules/{strange}")).status_code == 404
            assert (await client.put(f"/schedules/{strange}", json=HOURLY)).status_code == 400
        assert (await client.patch("/schedules/none/pause")).status_code == 404

    _with_admin(scenario)


# ---- the command line ----------------------------------------------------------------------------


@pytest.fixture
def perdure_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs a command against a server on a loop of its own thread."""
    told: list[Any] = []
    is_ready = threading.Event()

    async def serve() -> None:
        async with _served() as client:
            stop = asyncio.Event()
            told.extend((asyncio.get_running_loop(), stop, str(client.base_url)))
            is_ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    is_ready.wait()
    loop, stop, url = told
    env = {"PERDURE_ADMIN_URL": url}
    try:
        yield lambda *words: CliRunner().invoke(main, ["schedules", *words], env=env)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


Run = Callable[..., Result]


def test_the_command_line_does_all_of_it(perdure_: Run) -> None:
    made = perdure_("create", "tidy", "Boxes/a/empty", '{"n": 1}', "--every", "1h", "--json")
    assert made.exit_code == OK, made.output
    assert json.loads(made.stdout)["body"]["json"] == {"n": 1}
    again = perdure_("create", "tidy", "Boxes/a/empty", "--every", "2h")
    assert (again.exit_code, "already" in again.stderr) == (ANSWER_IS_ERROR, True)
    changed = perdure_("create", "tidy", "Boxes/a/empty", "--every", "2h", "--replace")
    assert (changed.exit_code, "every" in changed.stdout) == (OK, True)
    listed = perdure_("list").stdout
    assert "every 2h" in listed
    assert "0 3 * * * (Europe/Berlin)" in listed
    assert "tidy is paused." in perdure_("pause", "tidy", "--reason", "holidays").stdout
    assert "holidays" in perdure_("show", "tidy").stdout
    assert perdure_("trigger", "tidy").stdout.startswith("inv_1")
    assert "tidy is active" in perdure_("resume", "tidy").stdout
    days = ("--from", "2026-01-01T00:00Z", "--until", "2026-01-02T00:00Z")
    assert perdure_("backfill", "Reports.build", *days).stdout == "1 ticks\n"
    assert perdure_("delete", "tidy").stdout == "tidy is deleted.\n"
    assert perdure_("show", "tidy").exit_code == NOT_FOUND
    assert perdure_("delete", "Reports.build").exit_code == ANSWER_IS_ERROR


def test_the_command_line_refuses_what_is_not_json_or_no_target(perdure_: Run) -> None:
    assert perdure_("create", "a", "Boxes/a/empty", "{", "--every", "1h").exit_code == USAGE
    assert perdure_("create", "a", "Boxes", "--every", "1h").exit_code == USAGE
    assert perdure_("create", "a", "Boxes/a/empty", "--header", "x").exit_code == USAGE
    assert perdure_("create", "a", "Boxes/a/empty").exit_code == ANSWER_IS_ERROR
