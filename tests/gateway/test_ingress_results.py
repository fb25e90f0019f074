"""Attach, output, lookup, workflow results, awakeables, health, CORS (ingress 7-11, 14)."""

import asyncio

import pytest

from perdure.journal.entries import Failure, Outcome, Value
from perdure.journal.requests import Invoke
from tests.gateway.runtime import MemoryRuntime
from tests.gateway.serving import Served, served, settings
from tests.gateway.test_ingress_calls import JSON, error

UNKNOWN_ID = "inv_1foAirY4KKzi3nyGpLAzWjLgf9RFzKh2Li"
WORKFLOW_ID = "inv_12kpUQONmeFb40HPiUbKSfrH18FxSmvYzH"  # of Flow / w1
AWAKEABLE = "sign_1AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYAAAAEQ"


class Gate(MemoryRuntime):
    """`Greeter/greet` and `Flow/run` end when ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.functions |= {"Greeter/greet": self._wait, "Flow/run": self._wait}

    async def _wait(self, invoke: Invoke) -> Outcome:
        await self.go.wait()
        return Failure(418, "tea") if invoke.body == b"fail" else Value(b'"done"')


def test_output_is_470_until_the_invocation_is_over() -> None:
    runtime = Gate()

    async def test(on: Served) -> None:
        name = (await on.ingress.post("/Greeter/greet/send")).json()["invocationId"]
        for path in (f"/restate/invocation/{name}/output", f"/restate/output/{name}"):
            response = await on.ingress.get(path)
            text = "the invocation exists but has not completed yet"
            assert error(response) == (470, text, "ingress")
        runtime.go.set()
        await runtime.tasks[name]
        for path in (f"/restate/invocation/{name}/output", f"/restate/output/{name}"):
            response = await on.ingress.get(path)
            assert (response.status_code, response.text) == (200, '"done"')
            assert response.headers["x-restate-id"] == name
            assert response.headers["content-type"] == "application/json"
            assert response.headers["idempotency-expires"] == "2027-01-16T08:00:00.000+00:00"

    served(test, runtime)


def test_attach_waits_for_the_end() -> None:
    runtime = Gate()

    async def test(on: Served) -> None:
        name = (await on.ingress.post("/Greeter/greet/send")).json()["invocationId"]
        waiting = asyncio.ensure_future(on.ingress.get(f"/restate/attach/{name}"))
        assert (await on.ingress.get(f"/restate/output/{name}")).status_code == 470
        runtime.go.set()
        response = await waiting
        assert (response.status_code, response.text) == (200, '"done"')

    served(test, runtime)


def test_a_stored_failure_is_replayed_with_its_code() -> None:
    runtime = Gate()
    runtime.go.set()

    async def test(on: Served) -> None:
        headers = {"content-type": "application/json", "idempotency-key": "a b"}
        await on.ingress.post("/Greeter/greet", content=b"fail", headers=headers)
        body = {
            "target": "idempotentInvocation", "service": "Greeter", "handler": "greet",
            "idempotencyKey": "a b",
        }  # fmt: skip
        for verb in ("attach", "output"):
            response = await on.ingress.post(f"/restate/{verb}", json=body)
            assert error(response) == (418, "tea", "invocation")
            assert "idempotency-expires" in response.headers

    served(test, runtime)


def test_what_nobody_knows_is_404_in_two_ways() -> None:
    async def test(on: Served) -> None:
        attach = await on.ingress.get(f"/restate/attach/{UNKNOWN_ID}")
        assert error(attach) == (404, "not found", "invocation")
        assert attach.headers["x-restate-id"] == UNKNOWN_ID
        output = await on.ingress.get(f"/restate/output/{UNKNOWN_ID}")
        assert error(output) == (404, "invocation not found", "ingress")
        assert "x-restate-id" not in output.headers
        flow = await on.ingress.get("/restate/workflow/Flow/w1/attach")
        assert flow.headers["x-restate-id"] == WORKFLOW_ID
        by_key = await on.ingress.get("/restate/invocation/Counter/k1/add/k1/attach")
        assert by_key.headers["x-restate-id"] == UNKNOWN_ID

    served(test)


def test_a_result_whose_handler_is_gone_is_404() -> None:
    async def test(on: Served) -> None:
        name = (await on.ingress.get("/Counter/k/get")).headers["x-restate-id"]
        del on.runtime.served["Counter"].handlers["get"]
        response = await on.ingress.get(f"/restate/output/{name}")
        assert error(response) == (404, "not found", "ingress")

    served(test)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bad", "bad format"),
        ("inv_bad", "unrecognized codec version"),
        ("inv_1abc", "bad length"),
        ("inv_1" + "!" * 33, "base62 decode error"),
        ("dp_11nGQpCRmau6ypL82KH2TnP", "id doesn't match the expected type"),
    ],
)
def test_a_bad_id_is_explained(text: str, reason: str) -> None:
    async def test(on: Served) -> None:
        for path in (f"/restate/attach/{text}", f"/restate/invocation/{text}/output"):
            response = await on.ingress.get(path)
            assert error(response) == (400, f"bad invocation id '{text}': {reason}", "ingress")
        body = {"target": "invocation", "invocationId": text}
        for verb in ("attach", "output", "lookup"):
            response = await on.ingress.post(f"/restate/{verb}", json=body)
            assert error(response) == (400, f"bad invocation id '{text}': {reason}", "ingress")

    served(test)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"target": "workflow", "workflowName": "Flow", "workflowKey": "w1"}, WORKFLOW_ID),
        ({"target": "workflow", "workflowName": "Flow", "workflowKey": "w1", "scope": "s1"},
         "inv_1a1mlWikgvPI02lyupu2Fm0rRuDUEAfcEs"),
        ({"target": "idempotentInvocation", "service": "Counter", "key": "k1", "handler": "add",
          "idempotencyKey": "k1"}, UNKNOWN_ID),
        ({"target": "idempotentInvocation", "service": "Greeter", "handler": "greetStr",
          "idempotencyKey": "k1"},
         "inv_16vnR5MzgZWy7hSaTPNhFvGvO91qMVSyTn"),
        ({"target": "invocation", "invocationId": UNKNOWN_ID}, UNKNOWN_ID),
    ],
)  # fmt: skip
def test_lookup_computes_the_id_of_anything(body: dict[str, str], expected: str) -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.post("/restate/lookup", json=body)
        assert response.text == f'{{"invocationId":"{expected}"}}'

    served(test)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"target":"other"}', b'{"target":"invocation"}', b"\xff"]
)
def test_a_malformed_target_is_a_500_with_a_reason(body: bytes) -> None:
    async def test(on: Served) -> None:
        status, message, _ = error(await on.ingress.post("/restate/lookup", content=body))
        assert status == 500
        assert message.startswith("cannot read body: invalid lookup body: ")
        _, message, _ = error(await on.ingress.post("/restate/attach", content=body))
        assert message.startswith("cannot read body: invalid request body: ")

    served(test)


def test_a_target_with_a_bad_scope_is_refused() -> None:
    async def test(on: Served) -> None:
        body = {"target": "workflow", "workflowName": "F", "workflowKey": "k", "scope": "a b"}
        status, message, _ = error(await on.ingress.post("/restate/lookup", json=body))
        assert (status, message[:17]) == (400, "bad scope value: ")

    served(test)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/restate/attach/{UNKNOWN_ID}"),
        ("POST", f"/restate/invocation/{UNKNOWN_ID}/output"),
        ("HEAD", f"/restate/output/{UNKNOWN_ID}"),
        ("PUT", "/restate/workflow/Flow/w/attach"),
        ("GET", "/restate/attach"),
        ("GET", "/restate/lookup"),
        ("POST", "/restate/health"),
        ("GET", f"/restate/awakeables/{AWAKEABLE}/resolve"),
        ("HEAD", "/Greeter/greet"),
    ],
)
def test_a_wrong_method_is_405(method: str, path: str) -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.request(method, path)
        assert response.status_code == 405
        if method == "HEAD":
            assert response.content == b""
        else:
            assert error(response) == (405, "method not allowed", "ingress")

    served(test)


def test_awakeables_are_resolved_and_rejected_without_an_answer_body() -> None:
    async def test(on: Served) -> None:
        for path, body in (
            (f"/restate/awakeables/{AWAKEABLE}/resolve", b"\x00any"),
            (f"/restate/a/{AWAKEABLE}=/resolve", b""),
            (f"/restate/a/{AWAKEABLE}/reject", b"no\xff"),
            (f"/restate/awakeables/{AWAKEABLE}/reject", b""),
        ):
            response = await on.ingress.post(path, content=body)
            assert (response.status_code, response.content) == (202, b"")
            assert "content-type" not in response.headers
        assert on.runtime.awakeables == [
            (AWAKEABLE, Value(b"\x00any")),
            (AWAKEABLE + "=", Value(b"")),
            (AWAKEABLE, Failure(500, "no\ufffd")),
            (AWAKEABLE, Failure(500, "")),
        ]

    served(test)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bad", "bad format"),
        ("prom_1abc", "bad length"),
        ("sign_1abc", "id doesn't match the expected type"),
    ],
)
def test_a_bad_awakeable_id_is_explained(text: str, reason: str) -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.post(f"/restate/a/{text}/resolve")
        assert error(response) == (400, f"bad awakeable id '{text}': {reason}", "ingress")

    served(test)


def test_health_lists_all_services() -> None:
    async def test(on: Served) -> None:
        response = await on.ingress.get("/restate/health")
        assert response.json() == {"services": ["Greeter", "Counter", "Flow"]}
        on.runtime.served = {}
        assert (await on.ingress.get("/restate/health/x")).text == '{"services":[]}'

    served(test)


def test_a_preflight_is_answered_with_what_it_asks_for_on_any_path() -> None:
    async def test(on: Served) -> None:
        headers = {
            "origin": "https://a.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-a, x-b",
        }
        response = await on.ingress.options("/", headers=headers)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        assert response.headers["access-control-allow-methods"] == "POST"
        assert response.headers["access-control-allow-headers"] == "x-a, x-b"
        assert response.headers["access-control-allow-credentials"] == "true"
        bare = await on.ingress.options("/Greeter/greet")
        assert "access-control-allow-origin" not in bare.headers

    served(test)


def test_every_answer_echoes_the_origin() -> None:
    async def test(on: Served) -> None:
        headers = JSON | {"origin": "https://a.example"}
        for path in ("/Greeter/greet", "/Nope/x"):
            response = await on.ingress.post(path, content=b"1", headers=headers)
            assert response.headers["access-control-allow-origin"] == "https://a.example"

    served(test)


def test_origins_can_be_limited_to_a_list() -> None:
    async def test(on: Served) -> None:
        for origin, is_allowed in (("https://a.example", True), ("https://b.example", False)):
            headers = {"origin": origin, "access-control-request-method": "POST"}
            response = await on.ingress.options("/Greeter/greet", headers=headers)
            assert ("access-control-allow-origin" in response.headers) is is_allowed
            assert ("access-control-allow-methods" in response.headers) is is_allowed

    served(test, config=settings({"cors_origins": ("https://a.example",)}))
