"""`perdure deployments` against a whole server: what it writes, and its exit codes."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure.gateway.cli import main
from tests.gateway.remotes import Endpoint, manifest, service, up

OK, ANSWER_IS_ERROR, USAGE, _, NOT_FOUND = range(5)
Run = Callable[..., Result]


@contextmanager
def background(data: Path, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """A server and an endpoint on a loop of their own thread; the URLs of both."""
    ready: list[tuple[str, str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    is_ready = threading.Event()

    async def serve() -> None:
        async with up(data) as server, endpoint.serve() as uri:
            stop = asyncio.Event()
            ready.append((server.gateway.admin_url, uri, asyncio.get_running_loop(), stop))
            is_ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    is_ready.wait()
    admin_url, uri, loop, stop = ready[0]
    try:
        yield admin_url, uri
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(manifest(service("Shop", "VIRTUAL_OBJECT", "buy", "look")))


@pytest.fixture
def server(tmp_path: Path, endpoint: Endpoint) -> Iterator[tuple[Run, str]]:
    with background(tmp_path / "data", endpoint) as (admin_url, uri):
        env = {"PERDURE_ADMIN_URL": admin_url}

        def run(*arguments: str) -> Result:
            return CliRunner().invoke(main, ["deployments", *arguments], env=env)

        yield run, uri


def test_a_deployment_from_registration_to_removal(
    server: tuple[Run, str], endpoint: Endpoint
) -> None:
    run, uri = server
    assert "There are no deployments." in run("list").stdout
    dry = run("register", uri, "--dry-run")
    assert dry.exit_code == OK
    assert dry.stdout.startswith("Nothing was changed.")
    bare = uri.removeprefix("http://")
    made = run("register", bare, "--header", "X-A=b", "--metadata", "team=a", "--json")
    assert made.exit_code == OK
    id = json.loads(made.stdout)["id"]
    assert endpoint.requests[-1]["headers"]["x-a"] == "b"
    again = run("register", uri)
    assert again.stdout.splitlines()[0] == id
    assert "buy, look" in again.stdout
    (line,) = [each for each in run("list").stdout.splitlines() if id in each]
    assert line.split()[1:5] == [f"{uri}/", "active", "BidiStream", "HTTP/2.0"]
    assert line.endswith("Shop [1]")
    shown = run("show", id).stdout
    assert "team=a" in shown
    assert "x-a=b" in shown
    updated = run("update", id, "--header", "X-C=d", "--overwrite", "--json")
    assert json.loads(updated.stdout)["additional_headers"] == {"x-c": "d"}
    kept = run("remove", id)
    assert kept.exit_code == ANSWER_IS_ERROR
    assert "the deployment is active" in kept.stderr
    assert run("remove", id, "--force").stdout == "removed\n"
    assert run("show", id).exit_code == NOT_FOUND


def test_errors_and_wrong_usage(server: tuple[Run, str], endpoint: Endpoint) -> None:
    run, uri = server
    assert run("register", uri, "--header", "nothing").exit_code == USAGE
    endpoint.reply = Endpoint(status=404).reply
    failed = run("register", uri)
    assert failed.exit_code == ANSWER_IS_ERROR
    assert "[META0003]" in failed.stderr
    assert run("update", "dp_112XBPqvqYyCh2R0PbHFZSN").exit_code == NOT_FOUND
