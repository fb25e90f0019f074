"""The harness of the official SDK's tests, on our engine: HTTP on free ports, nothing else needed."""

import asyncio
import logging
from datetime import timedelta

import httpx
import pytest

import perdure
from perdure import Context, JournalValueCodec, ObjectContext, Service, VirtualObject
from perdure.harness import TestConfiguration

counter = VirtualObject("Counter")
flaky = Service("Flaky")
attempts: list[str] = []


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    attempts.append("add")
    total = (await ctx.get("total") or 0) + amount
    await ctx.sleep(timedelta(milliseconds=300))  # longer than any way to the engine
    ctx.set("total", total)
    return total


@flaky.handler()
async def fail_once(ctx: Context) -> int:
    attempts.append("fail")
    if attempts.count("fail") == 1:
        raise ConnectionError("not yet")
    return attempts.count("fail")


app = perdure.app([counter, flaky])


def test_the_environment_has_both_urls_and_a_client() -> None:
    async def scenario() -> None:
        async with perdure.create_test_harness(app) as env:
            assert await env.client.object_call(add, key="a", arg=1) == 1
            assert await env.client.object_call(add, key="a", arg=2) == 3
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"{env.ingress_url}/Counter/a/add", json=4)
                assert (answer.status_code, answer.json()) == (200, 7)
                assert (await http.get(f"{env.admin_api_url}/health")).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{env.ingress_url}/restate/health")

    asyncio.run(scenario())


def test_two_at_a_time_do_not_share_anything() -> None:
    async def scenario() -> None:
        async with (
            perdure.create_test_harness(app) as one,
            perdure.create_test_harness([counter], restate_image="any", follow_logs=True) as two,
        ):
            assert one.ingress_url != two.ingress_url
            assert await one.client.object_call(add, key="a", arg=1) == 1
            assert await two.client.object_call(add, key="a", arg=5) == 5

    asyncio.run(scenario())


def test_a_blocking_test_needs_no_loop_of_its_own() -> None:
    with perdure.test_harness(app, follow_logs=True) as harness:
        with harness.ingress_client() as client:
            assert client.post("/Counter/a/add", json=2).json() == 2
        handlers = logging.getLogger("perdure").handlers
        assert len(handlers) == 1
    assert not logging.getLogger("perdure").handlers
    with pytest.raises(AssertionError, match="not started"):
        harness.ingress_client()


def test_always_replay_runs_the_handler_again_at_each_await() -> None:
    attempts.clear()
    with perdure.test_harness(app, always_replay=True) as harness, harness.ingress_client() as http:
        assert http.post("/Counter/a/add", json=2).json() == 2
    assert attempts.count("add") == 2


def test_retries_can_be_disabled() -> None:
    attempts.clear()
    with (
        perdure.test_harness(app, disable_retries=True) as harness,
        harness.ingress_client() as client,
    ):
        answer = client.post("/Flaky/fail_once")
        assert answer.status_code == 500
        assert "not yet" in answer.json()["message"]
    assert attempts == ["fail"]

    attempts.clear()
    with perdure.test_harness(app) as harness, harness.ingress_client() as client:
        assert client.post("/Flaky/fail_once").json() == 2


def test_one_service_may_come_without_a_list() -> None:
    with perdure.test_harness(counter) as harness, harness.ingress_client() as client:
        assert client.post("/Counter/a/add", json=1).json() == 1


def test_wrong_services_are_told_by_start() -> None:
    with pytest.raises(perdure.UsageError, match="expected Service"):
        perdure.test_harness(["nonsense"]).start()  # type: ignore[list-item]


class Reversed(JournalValueCodec):
    def encode(self, buf: bytes) -> bytes:
        return bytes(reversed(buf))

    async def decode(self, buf: bytes) -> bytes:
        return bytes(reversed(buf))


def test_the_client_uses_the_codec_of_the_app() -> None:
    async def scenario() -> None:
        codec = Reversed()
        coded = perdure.app([counter], journal_value_codec=codec)
        async with perdure.create_test_harness(coded, journal_value_codec=codec) as env:
            assert await env.client.object_call(add, key="a", arg=12) == 12

    asyncio.run(scenario())


def test_the_configuration_is_that_of_a_container_without_one() -> None:
    config = TestConfiguration(always_replay=True)
    assert config.defaults().inactivity_timeout_ms == 0
    assert TestConfiguration().defaults().inactivity_timeout_ms == 600_000
    assert config.defaults().retry.max_attempts == 70
