"""Starting and stopping: addresses that cannot be had, draining, cutting."""

import asyncio
import socket
import subprocess
import sys

import httpx
import pytest

from perdure.gateway import server
from perdure.gateway.settings import Admin, Engine, Ingress, Settings, SettingsError
from perdure.journal.entries import Outcome, Value
from perdure.journal.requests import Invoke
from tests.gateway.runtime import MemoryRuntime
from tests.gateway.serving import FREE_PORT, serving, settings


def refused(config: Settings) -> str:
    with pytest.raises(SettingsError) as raised:
        asyncio.run(server.start(MemoryRuntime(), config))
    return str(raised.value)


def test_a_port_in_use_names_the_setting_and_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = refused(Settings(ingress=Ingress(bind=address), admin=Admin(bind=FREE_PORT)))
        assert f"{address} is already in use" in message
        assert "--ingress HOST:PORT" in message
        message = refused(Settings(ingress=Ingress(bind=FREE_PORT), admin=Admin(bind=address)))
        assert "--admin HOST:PORT" in message


def test_one_port_for_both_is_refused_before_anything_is_done() -> None:
    address = "127.0.0.1:8080"
    config = Settings(ingress=Ingress(bind=address), admin=Admin(bind=address))
    with pytest.raises(SettingsError, match="different ports with --ingress and --admin"):
        server.check_addresses(config)
    server.check_addresses(Settings(ingress=Ingress(bind=FREE_PORT), admin=Admin(bind=FREE_PORT)))


def test_the_sockets_are_closed_again_when_the_second_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        taken_address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(Settings(ingress=Ingress(bind=free), admin=Admin(bind=taken_address)))
        with socket.create_server(("127.0.0.1", int(free.rpartition(":")[2]))):
            pass


def test_an_address_of_nowhere_is_explained() -> None:
    for address in ("host.invalid:1", "192.0.2.1:1"):
        message = refused(Settings(ingress=Ingress(bind=address), admin=Admin(bind=FREE_PORT)))
        assert message.startswith(f"cannot listen on {address} ('ingress.bind')")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9070", "example.org:9070"])
def test_the_admin_api_stays_on_this_machine(address: str) -> None:
    message = refused(Settings(ingress=Ingress(bind=FREE_PORT), admin=Admin(bind=address)))
    assert "no authentication" in message
    assert "'admin.token_file'" in message
    assert "PERDURE_ADMIN__TOKEN" in message


def test_requests_in_flight_are_answered_before_the_server_stops() -> None:
    async def run() -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def work(invoke: Invoke) -> Outcome:
            arrived.set()
            await go.wait()
            return Value(b"1")

        async with serving() as on:
            on.runtime.functions["Greeter/greet"] = work
            waiting = asyncio.ensure_future(on.ingress.post("/Greeter/greet"))
            await arrived.wait()
            stopping = asyncio.ensure_future(on.gateway.stop())
            while not on.gateway.servers[0].is_draining:
                await asyncio.sleep(0)
            go.set()
            response = await waiting
            assert (response.status_code, response.content) == (200, b"1")
            assert response.headers["connection"] == "close"
            await stopping
            with pytest.raises(httpx.ConnectError):
                await on.ingress.get("/restate/health")

    asyncio.run(run())


def test_what_is_not_done_in_time_is_cut_and_its_invocation_goes_on() -> None:
    async def run() -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def work(invoke: Invoke) -> Outcome:
            arrived.set()
            await go.wait()
            return Value(b"1")

        config = settings(engine=Engine(shutdown_timeout_ms=10))
        async with serving(config=config) as on:
            on.runtime.functions["Greeter/greet"] = work
            waiting = asyncio.ensure_future(on.ingress.post("/Greeter/greet"))
            await arrived.wait()
            await on.gateway.stop()
            with pytest.raises(httpx.RemoteProtocolError):
                await waiting
            go.set()
            (task,) = on.runtime.tasks.values()
            assert await task == Value(b"1")

    asyncio.run(run())


def test_a_start_loads_nothing_that_only_deployments_and_http2_need() -> None:
    """They would make every start, and every pause after the watchdog's death, a tenth longer."""
    program = (
        "import sys, perdure.gateway.up, perdure.gateway.process_workers, perdure.gateway.sql.workers; "
        "print([m for m in ('h2', 'google.protobuf', 'cryptography', 'datafusion') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
