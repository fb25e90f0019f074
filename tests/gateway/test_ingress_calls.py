"""Calls and sends over real HTTP: status, body, headers, order of checks (ingress 2.2, 3-6, 12)."""

import asyncio

import httpx
import pytest

from perdure.journal.entries import Failure, Outcome, Value
from perdure.journal.errors import Overloaded, StoreFailed
from perdure.journal.requests import Invoke
from tests.gateway.runtime import EXPIRES_AT_MS, NOW_MS, MemoryRuntime
from tests.gateway.serving import Served, ask, exchange, served, settings

JSON = {"content-type": "application/json"}


def error(response: httpx.Response) -> tuple[int, str, str]:
    """Status, message and source; the code in the body must agree with the header."""
    body = response.json()
    assert list(body) == [
        each for each in ("code", "message", "stacktrace", "metadata", "source") if each in body
    ]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-restate-error-source"] == body["source"]
    return response.status_code, body["message"], body["source"]


def test_a_call_answers_with_the_bytes_of_the_handler() -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.post("/Greeter/greet", content=b' "Bob"', headers=JSON)
        assert (response.status_code, response.content) == (200, b' "Bob"')
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-restate-id"].startswith("inv_1")
        assert response.headers["vary"].startswith("origin, access-control-request-method")
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["content-length"] == "6"
        assert "date" in response.headers
        assert "idempotency-expires" not in response.headers
        assert "access-control-allow-origin" not in response.headers

    served(test)


def test_get_works_for_calls_and_a_call_needs_no_body() -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.get("/Counter/k/get")
        assert (response.status_code, response.content) == (200, b"")
        assert "content-type" not in response.headers

    served(test)


def test_the_output_rule_decides_the_content_type_of_an_empty_answer() -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.get("/Greeter/text")
        assert response.headers["content-type"] == "text/plain"

    served(test)


@pytest.mark.parametrize(
    "key", ["", "a/b", "..", ".", "%", "a+b", "\0", "ключ", " ", "?#", "x" * 4096]
)
def test_any_key_reaches_the_handler_as_it_is(key: str) -> None:
    async def test(on: Served) -> None:
        quoted = "".join(f"%{byte:02X}" for byte in key.encode())
        await exchange(
            on.ingress_port,
            f"GET /Counter/{quoted}/get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode(),
        )
        assert [invoke.key for invoke in on.runtime.invokes] == [key]

    served(test)


def test_a_failure_becomes_a_status_and_keeps_its_code() -> None:
    async def fail(invoke: Invoke) -> Outcome:
        code = int(invoke.body)
        return Failure(
            code, "no", {"k": "v"} if code == 418 else {}, "trace" if code == 418 else ""
        )

    async def test(on: Served) -> None:
        on.runtime.functions["Greeter/greet"] = fail
        for code, status in (
            (418, 418),
            (1000, 500),
            (99, 500),
            (100, 500),
            (200, 200),
            (999, 999),
        ):
            response = await on.ingress.post("/Greeter/greet", content=str(code), headers=JSON)
            assert error(response) == (status, "no", "invocation")
            assert response.json()["code"] == code
            assert response.headers["x-restate-id"].startswith("inv_1")
        body = (await on.ingress.post("/Greeter/greet", content=b"418", headers=JSON)).text
        assert body == (
            '{"code":418,"message":"no","stacktrace":"trace","metadata":{"k":"v"},"source":"invocation"}'
        )

    served(test)


def test_a_bodiless_status_is_framed_so_that_the_connection_goes_on() -> None:
    async def fail(invoke: Invoke) -> Outcome:
        return Failure(204, "none")

    async def test(on: Served) -> None:
        on.runtime.functions["Greeter/greet"] = fail
        for _ in range(2):
            assert (await on.ingress.post("/Greeter/greet")).status_code == 204

    served(test)


def test_a_send_answers_when_it_is_accepted() -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.post("/Greeter/greet/send", content=b"1", headers=JSON)
        assert response.status_code == 202
        name = response.headers["x-restate-id"]
        assert response.text == f'{{"invocationId":"{name}","status":"Accepted"}}'

    served(test)


def test_a_delayed_send_repeats_its_first_execution_time() -> None:
    async def test(on: Served) -> None:
        first = await on.ingress.post("/Flow/w/run/send?DELAY=1m")
        again = await on.ingress.post("/restate/send/Flow/w/run?delay=5s")
        assert list(first.json()) == ["invocationId", "executionTime", "status"]
        assert first.json()["executionTime"] == "2027-01-15T08:01:00.000000000Z"
        assert first.json()["status"] == "Accepted"
        assert again.json() == first.json() | {"status": "PreviouslyAccepted"}

    served(test)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("5s", 5000), ("60+sec", 60_000), ("0", 0), ("5000", 5000), ("PT1H", 3_600_000)],
)
def test_a_delay_is_a_duration_or_the_milliseconds_of_the_pypi_client(text: str, ms: int) -> None:
    async def test(on: Served) -> None:
        await on.ingress.post(f"/Greeter/greet/send?delay={text}")
        assert on.runtime.invokes[0].delay_ms == ms

    served(test)


@pytest.mark.parametrize("text", ["", "5.5", "abc", "10S", "1mo", "-5s", "1h,30m", "9" * 30])
def test_a_bad_delay_is_refused(text: str) -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.post(f"/Greeter/greet/send?delay={text}")
        status, message, source = error(response)
        assert (status, source) == (400, "ingress")
        assert message.startswith("bad delay query parameter, must be a ISO8601 duration: ")
        assert on.runtime.invokes == []

    served(test)


def test_a_call_with_a_delay_is_refused() -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.post("/Greeter/greet?delay=1s")
        text = "cannot use the delay query parameter with calls. The delay is supported only with sends"
        assert error(response) == (400, text, "ingress")

    served(test)


def test_a_repeated_idempotency_key_gets_the_stored_answer() -> None:
    async def test(on: Served) -> None:
        headers = JSON | {"idempotency-key": "k"}
        first = await on.ingress.post("/Counter/a/add", content=b"1", headers=headers)
        again = await on.ingress.post("/Counter/a/add", content=b"2", headers=headers)
        assert (first.content, again.content) == (b"1", b"1")
        assert first.headers["x-restate-id"] == again.headers["x-restate-id"]
        assert "idempotency-expires" not in first.headers
        assert again.headers["idempotency-expires"] == "2027-01-16T08:00:00.000+00:00"
        sent = await on.ingress.post("/Counter/a/add/send", content=b"2", headers=headers)
        assert sent.json()["status"] == "PreviouslyAccepted"
        assert on.runtime.invokes[0].idempotency_key == "k"
        empty = {"idempotency-key": ""}
        await on.ingress.get("/Counter/a/get", headers=empty)
        assert on.runtime.invokes[-1].idempotency_key == ""

    assert EXPIRES_AT_MS - NOW_MS == 86_400_000
    served(test)


def test_a_workflow_runs_once_and_takes_no_idempotency_key() -> None:
    async def test(on: Served) -> None:
        assert (await on.ingress.post("/Flow/w/run")).status_code == 200
        again = await on.ingress.post("/Flow/w/run")
        assert error(again) == (409, "the workflow method was already invoked", "invocation")
        assert "x-restate-id" in again.headers
        status, message, _ = error(
            await on.ingress.post("/Flow/v/run", headers={"idempotency-key": "k"})
        )
        assert status == 400
        assert message.startswith("cannot use the idempotency key with workflow handlers.")
        shared = await on.ingress.post("/Flow/w/finish", headers={"idempotency-key": "k"})
        assert shared.status_code == 200

    served(test)


UNKNOWN = (
    "the service 'Greeter' exists, but the handler 'x' was not found, check that the handler exists in "
    "the latest registered service version."
)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "message"),
    [
        ("PUT", "/Greeter/x", {}, b"", 404, UNKNOWN),
        ("PUT", "/Greeter/secret", {}, b"", 400, "the invoked service is not public"),
        ("PUT", "/Greeter/greet", {}, b"", 405, "method not allowed"),
        ("DELETE", "/Counter/k/add", {}, b"", 405, "method not allowed"),
        ("PATCH", "/restate/call/Greeter/greet", {}, b"", 405, "method not allowed"),
        ("PUT", "/restate/scope/s/call/Greeter/greet", {}, b"", 400,
         "scoped invocations require vqueues to be enabled"),
        ("POST", "/restate/scope/%2F/call/Greeter/greet", {}, b"", 400,
         "bad scope value: value contains characters outside the allowed set [a-zA-Z0-9_.-]"),
        ("POST", "/restate/scope//call/Greeter/greet", {}, b"", 400,
         "bad scope value: value cannot be empty"),
        ("POST", f"/restate/scope/{'s' * 37}/call/Greeter/greet", {}, b"", 400,
         "bad scope value: value too long: 37 bytes (max 36)"),
        ("POST", "/Greeter/greet", {}, b"1", 400, "input validation error: Empty content-type"),
        ("POST", "/Greeter/greet?delay=x", {}, b"1", 400, "input validation error: Empty content-type"),
        ("POST", "/Greeter/noInput", JSON, b"", 400,
         "input validation error: Expected body and content-type to be empty, but wasn't with "
         "content-type 'Some(\"application/json\")'"),
        ("POST", "/Greeter/greet", {"x-restate-limit-key": "a"}, b"", 400,
         "limit-key requires a scope to be set"),
        ("POST", "/Greeter/greet?Limit-Key=a/b/", {}, b"", 400, "limit-key requires a scope to be set"),
        ("POST", "/Greeter/greet", {"x-restate-limit-key": "a/b/c"}, b"", 400,
         "invalid limit-key: too many path components in the given limit-key (max 2)"),
        ("POST", "/Greeter/greet", {"x-restate-limit-key": "a b"}, b"", 400,
         "invalid limit-key: invalid limit-key component: value contains characters outside the allowed set "
         "[a-zA-Z0-9_.-]"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_is_refused(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int, message: str
) -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.request(method, path, headers=headers, content=body)
        assert error(response) == (status, message, "ingress")
        assert "x-restate-id" not in response.headers
        assert on.runtime.invokes == []

    served(test)


def test_an_empty_limit_key_is_none() -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.get("/Counter/k/get", headers={"x-restate-limit-key": ""})
        assert response.status_code == 200

    served(test)


@pytest.mark.parametrize(
    "path",
    ["/Greeter/secret", "//Greeter/secret/", "/restate/call/Greeter/secret", "/Greeter/secret/send",
     "/restate/send/Greeter/secret", "/restate/scope/s/call/Greeter/secret", "/greeter/secret",
     "/Greeter/Secret", "/Greeter/secre%74", "/Gr%65eter/secret", "/Greeter/./secret", "/x/../Greeter/secret",
     "/Greeter/secret?x", "/RESTATE/call/Greeter/secret", "/restate//call/Greeter/secret",
     "/Greeter/%73ecret/send"],
)  # fmt: skip
def test_no_spelling_reaches_a_private_handler(path: str) -> None:
    async def test(on: Served) -> None:
        for method in ("GET", "POST"):
            raw = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            status, _, _ = await ask(on.ingress_port, raw.encode())
            assert status in (400, 404)
        assert on.runtime.invokes == []

    served(test)


def test_the_handler_sees_path_and_headers_in_order_each_once() -> None:
    async def test(on: Served) -> None:
        raw = (
            b"POST /Greeter/headers?x=1&y=2%20z HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
            b"X-Two: first\r\nIdempotency-Key: i\r\nIdempotency-Expires: never\r\n"
            b"Authorization: Bearer t\r\nX-Two: second\r\n"
            b"X-Restate-Ingress-Path: forged\r\nContent-Length: 1\r\n"
            b"Content-Type: a/b\r\nX-Tab: a\tb\r\n\r\n1"
        )
        assert (await ask(on.ingress_port, raw))[0] == 200
        assert on.runtime.invokes[0].headers == (
            ("x-restate-ingress-path", "/Greeter/headers?x=1&y=2%20z"),
            ("x-two", "first"),
            ("authorization", "Bearer t"),
            ("content-length", "1"),
            ("content-type", "a/b"),
            ("x-tab", "a\tb"),
        )

    served(test)


@pytest.mark.parametrize("name", ["x-name", "idempotency-key"])
def test_header_values_beyond_ascii_are_refused(name: str) -> None:
    async def test(on: Served) -> None:
        raw = f"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{name}: ä\r\n\r\n"
        status, headers, body = await ask(on.ingress_port, raw.encode())
        assert status == 400
        assert f"bad header {name}: ToStrError {{ _priv: () }}".encode() in body
        assert headers["x-restate-error-source"] == "ingress"

    served(test)


def test_over_the_limit_of_requests_in_flight_a_request_is_shed_at_once() -> None:
    async def test(on: Served) -> None:
        go = asyncio.Event()
        arrived = asyncio.Event()

        async def wait(invoke: Invoke) -> Outcome:
            arrived.set()
            await go.wait()
            return Value(b"1")

        on.runtime.functions["Greeter/greet"] = wait
        waiting = asyncio.ensure_future(on.ingress.post("/Greeter/greet"))
        await arrived.wait()
        shed = await on.ingress.get("/restate/health")
        assert error(shed) == (
            429, "too many requests, the ingress is overloaded. Retry later.", "ingress"
        )  # fmt: skip
        assert shed.headers["retry-after"] == "1"
        assert (await on.ingress.options("/x/y")).status_code == 200
        go.set()
        assert (await waiting).status_code == 200
        assert (await on.ingress.get("/restate/health")).status_code == 200

    served(test, config=settings({"concurrent_requests_limit": 1}))


@pytest.mark.parametrize(
    ("failure", "retry_after"), [(Overloaded("full", 7), "7"), (StoreFailed("disk"), "1")]
)
def test_an_engine_that_cannot_take_more_is_503_with_retry_after(
    failure: Overloaded | StoreFailed, retry_after: str
) -> None:
    async def test(on: Served) -> None:
        on.runtime.failure = failure
        response = await on.ingress.post("/Greeter/greet")
        assert error(response) == (503, str(failure), "ingress")
        assert response.headers["retry-after"] == retry_after

    served(test)


def test_a_bug_below_is_a_500_that_reveals_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryRuntime):
        async def call(self, invoke: Invoke) -> None:  # type: ignore[override]
            raise ZeroDivisionError("secret")

    async def test(on: Served) -> None:
        response = await on.ingress.post("/Greeter/greet")
        assert error(response)[0] == 500
        assert "secret" not in response.text

    served(test, Broken())
    assert "ZeroDivisionError" in caplog.text
