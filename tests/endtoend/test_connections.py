"""Slow, half-open and vanishing clients against a real server: others don't notice, nothing stays behind."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.server import Server, execute
from tests.endtoend.conftest import PROGRAM

HALF_OPEN = 1000
VANISHING = 300
PATIENCE_S = 60.0
GROWTH_LIMIT_BYTES = 64 << 20  # of resident memory, over all of it

HEAD = b"POST /Greeter/wait HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module", autouse=True)
def _enough_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * HALF_OPEN:
        pytest.skip(f"this user may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * HALF_OPEN), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("connections") / "data"
    with Server(path, PROGRAM, flags=("--set", "ingress.header_timeout=1s")) as made:
        with httpx.Client(base_url=made.ingress_url, trust_env=False) as client:
            for _ in range(50):
                client.post("/Counter/warm/add", json=1)
        yield made


def _connect(server: Server) -> socket.socket:
    host, port = server.ingress_url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def _open_files(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def _resident_bytes(server: Server) -> int:
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _await(what: str, happens: Callable[[], Any]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < give_up_at, f"never happened: {what}"
        time.sleep(0.02)


def _count(server: Server, **query: str) -> int:
    url = f"{server.admin_url}/invocations"
    found = httpx.get(url, params={"limit": "10000", **query}, trust_env=False, timeout=PATIENCE_S)
    return len(found.json()["invocations"])


def _greets(server: Server) -> bool:
    url = f"{server.ingress_url}/Greeter/greet"
    answer = httpx.post(url, json="Ada", trust_env=False, timeout=PATIENCE_S)
    return bool(answer.json() == "Hello Ada")


def test_a_thousand_half_open_connections_hurt_nobody_and_are_closed(server: Server) -> None:
    files, resident = _open_files(server), _resident_bytes(server)
    shapes = (b"", b"POST /Gre", HEAD, HEAD + b"content-length: 5\r\n\r\n1")
    connections = [_connect(server) for _ in range(HALF_OPEN)]
    try:
        for i, connection in enumerate(connections):
            connection.sendall(shapes[i % len(shapes)])
        assert all(_greets(server) for _ in range(20))
        for i, connection in enumerate(connections):
            if shapes[i % len(shapes)].endswith(b"1"):
                connection.close()  # in the middle of a body
            else:
                _await_end(connection)  # the server is tired of waiting for the head
    finally:
        for connection in connections:
            connection.close()
    _await("all connections are gone", lambda: _open_files(server) <= files)
    assert _greets(server)
    assert _count(server, handler="wait") == 0
    assert _resident_bytes(server) - resident < GROWTH_LIMIT_BYTES


def _await_end(connection: socket.socket) -> None:
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return


def test_invocations_of_vanished_clients_complete(server: Server) -> None:
    files, resident = _open_files(server), _resident_bytes(server)
    request = HEAD + b"content-length: 3\r\n\r\n500"
    connections = [_connect(server) for _ in range(VANISHING)]
    for connection in connections:
        connection.sendall(request)
    _await("all are accepted", lambda: _count(server, handler="wait") == VANISHING)
    for connection in connections:
        connection.close()
    _await("all are gone", lambda: _open_files(server) <= files)
    _await(
        "all are completed",
        lambda: _count(server, handler="wait", status="completed") == VANISHING,
    )
    assert _greets(server)
    assert _resident_bytes(server) - resident < GROWTH_LIMIT_BYTES


def test_clients_that_vanish_while_they_wait_for_a_result_leave_nothing(server: Server) -> None:
    sent = httpx.post(f"{server.ingress_url}/Greeter/hold/send", trust_env=False).json()
    path = f"/restate/invocation/{sent['invocationId']}/attach"
    files = _open_files(server)
    for _ in range(3):
        connections = [_connect(server) for _ in range(VANISHING // 3)]
        for connection in connections:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert _greets(server)
        for connection in connections:
            connection.close()
        _await("all are gone", lambda: _open_files(server) <= files)
    kill = f"{server.admin_url}/invocations/{sent['invocationId']}/kill"
    assert httpx.patch(kill, trust_env=False).is_success
    answer = httpx.get(server.ingress_url + path, trust_env=False, timeout=PATIENCE_S)
    assert answer.status_code == 409
    assert "Traceback" not in server.log()


def test_a_low_limit_of_open_files_is_raised_as_far_as_the_system_allows(tmp_path: Path) -> None:
    launch = partial(execute, through=("sh", "-c", 'ulimit -Sn 64 && exec "$@"', "sh"))
    with Server(tmp_path / "data", PROGRAM, launch=launch) as served:
        connections = [_connect(served) for _ in range(100)]
        assert _greets(served)
        for connection in connections:
            connection.close()
