"""Bad requests to a real server: each gets a clear error, and the next good call works."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.crash.server import Server

JSON = {"content-type": "application/json"}
UNKNOWN_ID = "inv_1gXHZYjYZ24M0VooDNnlwh2kTnWTmiOSaJ"
LIMIT_BYTES = 64 * 1024


@pytest.fixture(autouse=True)
def _works_after(ingress: httpx.Client, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test sent, the store is intact: a counter of its own counts on."""
    key = str(abs(hash(request.node.nodeid)))
    assert ingress.post(f"/Counter/{key}/add", json=1).json() == 1
    yield
    assert ingress.post(f"/Counter/{key}/add", json=1).json() == 2


@pytest.mark.parametrize(
    ("method", "path", "extra", "status", "told"),
    [
        ("PUT", "/Counter/a/add", {"json": 1}, 405, "method not allowed"),
        ("DELETE", "/Counter/a/add", {}, 405, "method not allowed"),
        ("POST", "/restate/health", {}, 405, "method not allowed"),
        ("POST", "/", {}, 400, "bad path"),
        ("POST", "/Counter", {}, 400, "bad path"),
        ("POST", "/Counter/a", {}, 400, "expected either /:service-name/:handler"),
        ("POST", "/Counter/a/add/b/c", {"json": 1}, 400, "expected either"),
        ("POST", "/restate/call/Counter/add", {"json": 1}, 400, "expected /restate/call"),
        ("POST", "/restate/nonsense/x", {}, 404, "not found"),
        ("POST", "/Counter/%FF/add", {"json": 1}, 400, "not valid UTF-8"),
        ("POST", "/Counter/a/add", {"content": b"[1", "headers": JSON}, 400, "expects int"),
        ("POST", "/Counter/a/add", {"content": b"nonsense", "headers": JSON}, 400, "expects int"),
        ("POST", "/Counter/a/add", {"content": b"\xff", "headers": JSON}, 400, "expects int"),
        ("POST", "/Counter/a/add", {"json": "one"}, 400, "Expected `int`, got `str`"),
        ("POST", "/Counter/a/add", {"json": 1.5}, 400, "Expected `int`, got `float`"),
        ("POST", "/Counter/a/add", {}, 400, "the body is empty"),
        ("POST", "/Counter/a/add", {"content": b"[" * 60_000, "headers": JSON}, 400, "int"),
        ("POST", "/Greeter/greet", {"content": b'"\xff"', "headers": JSON}, 400, "greet"),
        (
            "POST",
            "/Counter/a/add",
            {"content": b"1", "headers": {"content-type": "text/plain"}},
            400,
            "does not match 'application/json'",
        ),
        ("POST", "/Greeter/hold", {"json": 1}, 400, "to be empty"),
        ("POST", "/Nobody/x", {}, 404, "service 'Nobody' not found"),
        ("POST", "/Counter/a/nope", {"json": 1}, 404, "handler 'nope' was not found"),
        ("POST", "/Counter/a/reset", {}, 400, "not public"),
        ("POST", "/Counter/a/reset/send", {}, 400, "not public"),
        ("POST", "/restate/call/Counter/a/reset", {}, 400, "not public"),
        ("GET", "/restate/invocation/nonsense/attach", {}, 400, "'nonsense': bad format"),
        ("GET", "/restate/invocation/nonsense/output", {}, 400, "'nonsense': bad format"),
        ("GET", f"/restate/invocation/{UNKNOWN_ID}/output", {}, 404, "invocation not found"),
        ("GET", f"/restate/invocation/{UNKNOWN_ID}/attach", {}, 404, "not found"),
        ("POST", "/restate/awakeables/nonsense/resolve", {}, 400, "bad awakeable id 'nonsense'"),
        ("POST", "/Counter/a/add?delay=10s", {"json": 1}, 400, "only with sends"),
        ("POST", "/Counter/a/add/send?delay=soon", {"json": 1}, 400, "not a duration"),
        ("POST", "/Counter/a/add/send?delay=-5s", {"json": 1}, 400, "negative"),
        ("POST", "/Flow/w/run", {"json": "x", "headers": {"idempotency-key": "k"}}, 400, "key"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(
    ingress: httpx.Client, method: str, path: str, extra: dict[str, Any], status: int, told: str
) -> None:
    answer = ingress.request(method, path, **extra)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"] == status
    assert told in body["message"]


def test_a_body_over_the_limit_is_refused_by_its_announced_length(ingress: httpx.Client) -> None:
    body = b'"' + b"x" * LIMIT_BYTES + b'"'
    answer = ingress.post("/Greeter/greet", content=body, headers=JSON)
    assert (answer.status_code, answer.text) == (413, "length limit exceeded")


def test_a_chunked_body_over_the_limit_is_refused(ingress: httpx.Client) -> None:
    chunks = (b"x" * 1000 for _ in range(80))
    answer = ingress.post("/Greeter/greet", content=chunks, headers=JSON)
    assert answer.status_code == 413
    assert "LengthLimit" in answer.json()["message"]


def test_a_body_of_the_limit_is_accepted(ingress: httpx.Client) -> None:
    name = "x" * (LIMIT_BYTES - 2)
    assert ingress.post("/Greeter/greet", json=name).json() == f"Hello {name}"


def test_an_idempotency_key_keeps_its_first_request(ingress: httpx.Client) -> None:
    """Another body under the same key gets the first answer; another target is another request."""
    key = {"idempotency-key": "reused"}
    first = ingress.post("/Counter/once/add", json=1, headers=key)
    again = ingress.post("/Counter/once/add", json=5, headers=key)
    assert (first.json(), again.json()) == (1, 1)
    assert first.headers["x-restate-id"] == again.headers["x-restate-id"]
    assert ingress.post("/Counter/other/add", json=5, headers=key).json() == 5
    assert ingress.get("/Counter/once/get").json() == 1


def test_a_workflow_key_runs_once(ingress: httpx.Client) -> None:
    assert ingress.post("/Flow/once/run", json="a").json() == "ran a"
    answer = ingress.post("/Flow/once/run", json="b")
    assert answer.status_code == 409
    assert "already invoked" in answer.json()["message"]


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_number_that_no_column_holds_is_counted_or_refused(
    ingress: httpx.Client, digits: int
) -> None:
    """Python stops turning digits into numbers past 4,300; nothing may be retried for ever."""
    content = b"1" * digits
    answer = ingress.post(f"/Counter/{digits}/add", content=content, headers=JSON, timeout=20)
    assert answer.status_code in (200, 400), answer.text
    assert answer.status_code == 400 or answer.content == content
    again = ingress.get(f"/Counter/{digits}/get")
    assert again.content == (content if answer.status_code == 200 else b"0")


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /Counter/a/add HTTP/1.1\r\nhost: x\r\ncontent-length: nope\r\n\r\n",
        b"POST /Counter/a/add HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /Counter/a/add HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 50_000 + b"\r\n",
    ],
    ids=["no http", "length", "two lengths", "chunk size", "long path", "many headers"],
)
def test_malformed_http_is_answered_and_the_connection_closed(server: Server, raw: bytes) -> None:
    host, port = server.ingress_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(raw)
            answer = _read_all(connection)
        except ConnectionResetError:
            return  # what it sent was still being read: cut is as good as an answer
        assert answer.split(b" ")[1] in (b"400", b"431"), answer
        assert b'"message":"malformed HTTP request' in answer


def _read_all(connection: socket.socket) -> bytes:
    answer = b""
    while chunk := connection.recv(1 << 16):
        answer += chunk
    return answer


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/invocations/nonsense", 400, "bad format"),
        ("PATCH", "/invocations/nonsense/kill", 400, "bad format"),
        ("PATCH", f"/invocations/{UNKNOWN_ID}/kill", 404, "does not exist"),
        ("GET", f"/invocations/{UNKNOWN_ID}/journal", 404, "does not exist"),
        ("GET", "/invocations?status=nonsense", 400, "must be one of"),
        ("GET", "/invocations?limit=0", 400, "from 1 to"),
        ("GET", "/services/Nobody", 404, "'Nobody' does not exist"),
        ("GET", "/services/Greeter/state/x", 400, "service type Service"),
        ("POST", "/services/Counter/state", 415, "application/json"),
        ("PUT", "/health", 405, ""),
        ("GET", "/nonsense", 404, ""),
    ],
)
def test_the_admin_api_refuses_with_the_reason(
    server: Server, method: str, path: str, status: int, told: str
) -> None:
    answer = httpx.request(method, server.admin_url + path, trust_env=False, timeout=30)
    assert answer.status_code == status
    assert told in answer.text


def test_the_admin_api_answers_no_other_host_or_origin(server: Server) -> None:
    url = f"{server.admin_url}/invocations/{UNKNOWN_ID}/kill"
    for headers, status in (({"host": "evil.example"}, 421), ({"origin": "http://evil"}, 403)):
        answer = httpx.patch(url, headers=headers, trust_env=False)
        assert answer.status_code == status


def test_nothing_of_this_was_logged_as_a_traceback(server: Server) -> None:
    assert "Traceback" not in server.log()
