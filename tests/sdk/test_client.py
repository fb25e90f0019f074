"""The HTTP client: what it sends, what it makes of answers, and which mistakes it reports."""

import asyncio
import pickle
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import httpx
import pytest

import perdure
from perdure import Context, HttpError, ObjectContext, UsageError, WorkflowContext
from perdure.client import Client, IngressUnreachable, create_client
from perdure.client_types import InvocationOutput
from perdure.entry_codec import JournalValueCodec

greeter = perdure.Service("Greeter")
counter = perdure.VirtualObject("Counter")
flow = perdure.Workflow("Flow")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return name


@greeter.handler(accept="text/*", content_type="text/plain")
def shout(ctx: Context, text: bytes) -> bytes:
    return text


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    return n


@counter.handler()
async def get(ctx: ObjectContext) -> int:
    return 1


@flow.main()
async def run(ctx: WorkflowContext, n: int) -> str:
    return ""


Use = Callable[[Client], Coroutine[Any, Any, Any]]


class Ingress:
    """Records requests and gives one answer to all of them."""

    def __init__(self, status: int = 200, content: bytes = b"", **headers: str) -> None:
        self.requests: list[httpx.Request] = []
        self.answer = (status, content, {k.replace("_", "-"): v for k, v in headers.items()})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status, content, headers = self.answer
        return httpx.Response(status, content=content, headers=headers)

    def use(self, use: Use, **options: Any) -> Any:
        async def main() -> Any:
            transport = httpx.MockTransport(self)
            async with httpx.AsyncClient(base_url="http://ingress", transport=transport) as http:
                return await use(Client(http, **options))

        return asyncio.run(main())

    def line(self) -> str:
        [request] = self.requests
        return (
            f"{request.method} {request.url.raw_path.decode()} {request.content.decode()}".strip()
        )


SENT = b'{"invocationId":"inv_1","status":"Accepted"}'

CALLS: list[tuple[Use, bytes, str, Any]] = [
    (lambda c: c.service_call(greet, "Bob"), b'"hi"', 'POST /Greeter/greet "Bob"', "hi"),
    (lambda c: c.service_call(shout, b"a"), b"A", "POST /Greeter/shout a", b"A"),
    (lambda c: c.object_call(add, "a/b c", 1), b"2", "POST /Counter/a%2Fb%20c/add 1", 2),
    (lambda c: c.object_call(add, key="", arg=1), b"2", "POST /Counter//add 1", 2),
    (lambda c: c.object_call(add, "..", 1), b"2", "POST /Counter/%2E%2E/add 1", 2),
    (lambda c: c.object_call(get, "é"), b"2", "POST /Counter/%C3%A9/get", 2),
    (lambda c: c.workflow_call(run, "w", 3), b'"x"', "POST /Flow/w/run 3", "x"),
    (
        lambda c: c.scope("s").object_call(add, "a", 1),
        b"2",
        "POST /restate/scope/s/call/Counter/a/add 1",
        2,
    ),
    (lambda c: c.generic_call("S", "h", b"{}", key="k"), b"[]", "POST /S/k/h {}", b"[]"),
    (lambda c: c.attach("inv_1", type_hint=int), b"3", "GET /restate/invocation/inv_1/attach", 3),
    (
        lambda c: c.output("inv_1"),
        b"3",
        "GET /restate/invocation/inv_1/output",
        InvocationOutput(True, 3),
    ),
    (
        lambda c: c.workflow_attach(run, "w"),
        b'"x"',
        'POST /restate/attach {"target":"workflow","workflowName":"Flow","workflowKey":"w"}',
        "x",
    ),
    (
        lambda c: c.resolve_awakeable("sign_1x", {"a": 1}),
        b"",
        'POST /restate/awakeables/sign_1x/resolve {"a":1}',
        None,
    ),
    (
        lambda c: c.reject_awakeable("sign_1x", "no"),
        b"",
        "POST /restate/awakeables/sign_1x/reject no",
        None,
    ),
]


@pytest.mark.parametrize(("use", "content", "line", "result"), CALLS)
def test_request_and_result_of_each_method(
    use: Use, content: bytes, line: str, result: Any
) -> None:
    ingress = Ingress(content=content)
    assert ingress.use(use) == result
    assert ingress.line() == line


SENDS: list[tuple[Use, str]] = [
    (lambda c: c.service_send(greet, "Bob"), 'POST /Greeter/greet/send "Bob"'),
    (
        lambda c: c.object_send(add, "a", 1, send_delay=timedelta(seconds=1.5)),
        "POST /Counter/a/add/send?delay=1500ms 1",
    ),
    (
        lambda c: c.workflow_send(run, "w", 1, send_delay=timedelta(0)),
        "POST /Flow/w/run/send?delay=0ms 1",
    ),
    (
        lambda c: c.scope("s").service_send(greet, "B", timedelta(seconds=1)),
        'POST /restate/scope/s/send/Greeter/greet?delay=1000ms "B"',
    ),
    (lambda c: c.generic_send("S", "h", b"1"), "POST /S/h/send 1"),
]


@pytest.mark.parametrize(("use", "line"), SENDS)
def test_send_gives_the_invocation_id(use: Use, line: str) -> None:
    ingress = Ingress(202, SENT)
    handle = ingress.use(use)
    assert (handle.invocation_id, handle.status_code, handle.is_new) == ("inv_1", 202, True)
    assert ingress.line() == line


def test_duplicate_send_is_not_new() -> None:
    ingress = Ingress(202, SENT.replace(b"Accepted", b"PreviouslyAccepted"))
    assert not ingress.use(lambda c: c.service_send(greet, "x", idempotency_key="k")).is_new
    assert ingress.requests[0].headers["idempotency-key"] == "k"


def test_headers_of_call_and_client_and_limit_key_are_sent() -> None:
    ingress = Ingress(content=b'"x"')
    call: Use = lambda c: c.scope("s").service_call(  # noqa: E731
        greet, "x", limit_key="t/u", idempotency_key="", headers={"A": "1"}
    )
    ingress.use(call, headers={"authorization": "secret"})
    headers = ingress.requests[0].headers
    assert headers["x-restate-limit-key"] == "t/u"
    assert headers["idempotency-key"] == ""
    assert (headers["a"], headers["authorization"]) == ("1", "secret")


@pytest.mark.parametrize(
    ("use", "content_type"),
    [
        (lambda c: c.service_call(greet, "x"), "application/json"),
        (lambda c: c.service_call(greet, "x", headers={"Content-Type": "x/y"}), "x/y"),
        (lambda c: c.service_call(shout, b"x"), "text/plain"),
        (lambda c: c.object_call(get, "a"), None),
        (lambda c: c.generic_call("S", "h", b""), None),
        (lambda c: c.generic_call("S", "h", b"1"), "application/json"),
        (lambda c: c.generic_call("S", "h", b"1", headers={"content-type": "a/b"}), "a/b"),
    ],
)
def test_content_type_is_one_that_the_handler_accepts(use: Use, content_type: str | None) -> None:
    ingress = Ingress(content=b"1" if content_type is None else b'"x"')
    ingress.use(use)
    assert ingress.requests[0].headers.get("content-type") == content_type


def test_output_that_is_not_ready_is_no_error() -> None:
    body = b'{"code":470,"message":"not yet"}'
    assert Ingress(470, body, x_restate_error_source="ingress").use(
        lambda c: c.workflow_output(run, "w")
    ) == InvocationOutput(False)


@pytest.mark.parametrize("status", [200, 404, 409, 500])
def test_failure_is_an_http_error_with_the_message_of_the_body(status: int) -> None:
    body = b'{"code":409,"message":"killed","source":"invocation"}'
    with pytest.raises(HttpError, match=f"HTTP {status}: killed") as caught:
        Ingress(status, body, x_restate_error_source="invocation").use(
            lambda c: c.service_call(greet, "x")
        )
    assert (caught.value.status_code, caught.value.body) == (status, body.decode())
    assert pickle.loads(pickle.dumps(caught.value)).message == "killed"


def test_failure_that_is_not_json_has_the_reason_phrase() -> None:
    with pytest.raises(HttpError, match="HTTP 413: Request Entity Too Large"):
        Ingress(413, b"length limit exceeded").use(lambda c: c.service_call(greet, "x"))


def test_answer_of_another_type_names_what_was_expected() -> None:
    with pytest.raises(UsageError, match="cannot read the answer as str"):
        Ingress(content=b"3").use(lambda c: c.service_call(greet, "x"))


def test_no_ingress_is_reported_with_its_address() -> None:
    async def main() -> None:
        async with create_client("http://127.0.0.1:1") as client:
            await client.service_call(greet, "x")

    with pytest.raises(IngressUnreachable, match=r"ingress at http://127.0.0.1:1.*Is it running"):
        asyncio.run(main())


MISTAKES: list[tuple[Any, str]] = [
    (lambda c: c.service_call(add, 1), "Counter/add is of a keyed object"),
    (lambda c: c.object_call(greet, "k", "x"), "which has no keys"),
    (lambda c: c.object_call(add, 3, 1), "must be a str"),
    (lambda c: c.service_call(greet, object()), "the argument of 'Greeter/greet'"),
    (lambda c: c.service_send(greet, "x", timedelta(-1)), "send_delay must not be negative"),
    (lambda c: c.service_call(greet, "x", idempotency_key="é"), "is ASCII text, not 'é'"),
    (lambda c: c.service_call(greet, "x", idempotency_key=5), "is ASCII text, not 5"),
]


@pytest.mark.parametrize(("use", "says"), MISTAKES)
def test_mistake_is_reported_before_anything_is_sent(use: Use, says: str) -> None:
    ingress = Ingress()
    with pytest.raises(UsageError, match=says):
        ingress.use(use)
    assert ingress.requests == []


class Reversing(JournalValueCodec):
    def encode(self, buf: bytes) -> bytes:
        return buf[::-1]

    async def decode(self, buf: bytes) -> bytes:
        return buf[::-1]


def test_codec_is_between_serde_and_wire() -> None:
    ingress = Ingress(content=b"21")
    result = ingress.use(lambda c: c.object_call(add, "a", 34), journal_codec=Reversing())
    assert (result, ingress.requests[0].content) == (12, b"43")
    ingress = Ingress(content=b"21")
    assert ingress.use(lambda c: c.object_call(get, "a"), journal_codec=Reversing()) == 12
    assert ingress.requests[0].content == b""


def test_client_of_an_address_closes_its_connections() -> None:
    async def main() -> Client:
        async with perdure.Client("http://127.0.0.1:1") as client:
            return client

    assert asyncio.run(main()).client.is_closed
