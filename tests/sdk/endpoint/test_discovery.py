"""What discovery answers: versions, modes, and every option of services and handlers."""

import asyncio
import json
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

import perdure
from perdure.endpoint import App
from perdure.manifest import content_type
from tests.sdk.endpoint.peer import Peer

Mode = Literal["bidi", "request_response"]
ALL = ", ".join(content_type(each) for each in (1, 2, 3, 4, 5))
POLICY = perdure.InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=1.5,
    max_interval=timedelta(seconds=9),
    max_attempts=7,
    on_max_attempts="kill",
)


class Order(msgspec.Struct):
    item: str


plain = perdure.Service("Plain", description="what it does", metadata={"team": "a"})
optional = perdure.VirtualObject(
    "Optional",
    inactivity_timeout=timedelta(seconds=1),
    abort_timeout=timedelta(seconds=2),
    journal_retention=timedelta(seconds=3),
    idempotency_retention=timedelta(seconds=4),
    ingress_private=True,
    enable_lazy_state=True,
    invocation_retry_policy=POLICY,
)
flow = perdure.Workflow("Flow")
picky = perdure.VirtualObject("Picky")


@plain.handler()
async def order(ctx: perdure.Context, order: Order) -> Order:
    """Orders it."""
    return order


@plain.handler()
async def nothing(ctx: perdure.Context) -> None: ...


@plain.handler()
async def raw(ctx: perdure.Context, body: bytes) -> bytes:
    return body


@plain.handler(accept="text/plain", content_type="text/html", metadata={"k": "v"})
async def text(ctx: perdure.Context, body: str) -> str:
    return body


@optional.handler()
async def exclusive(ctx: perdure.ObjectContext) -> None: ...


@optional.handler(kind="shared", state_preload=True, invocation_retry_policy=POLICY)
async def shared(ctx: perdure.ObjectSharedContext) -> None: ...


@flow.main(workflow_retention=timedelta(days=1))
async def run(ctx: perdure.WorkflowContext) -> None: ...


@flow.handler(ingress_private=False)
async def look(ctx: perdure.WorkflowSharedContext) -> None: ...


@picky.handler(state_preload=["a", "b"])
async def some(ctx: perdure.ObjectContext) -> None: ...


def discover(served: App, accept: str | None = ALL, http_version: str = "2") -> Peer:
    async def scenario() -> Peer:
        headers = {} if accept is None else {"accept": accept}
        peer = Peer(
            served, "/mount/discover", method="GET", headers=headers, http_version=http_version
        ).open()
        peer.end()
        await peer.done()
        return peer

    return asyncio.run(scenario())


def manifest(served: App, accept: str | None = ALL, http_version: str = "2") -> Any:
    peer = discover(served, accept, http_version)
    assert peer.status == 200, peer.body
    return json.loads(peer.body)


def handlers(service: Any) -> dict[str, Any]:
    return {each["name"]: each for each in service["handlers"]}


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        (ALL, 5),
        (content_type(2), 2),
        (f"{content_type(1)}, {content_type(3)}, {content_type(2)}", 3),
        (content_type(4), 4),
        (None, 2),
    ],
)
def test_the_newest_version_that_both_know_is_answered(accept: str | None, version: int) -> None:
    peer = discover(perdure.app([plain]), accept)
    assert peer.status == 200
    assert peer.headers["content-type"] == content_type(version)


@pytest.mark.parametrize("accept", [content_type(1), "application/json", "*/*"])
def test_no_version_in_common_is_an_unsupported_media_type(accept: str) -> None:
    peer = discover(perdure.app([plain]), accept)
    assert peer.status == 415
    assert content_type(5) in json.loads(peer.body)["message"]


@pytest.mark.parametrize(
    ("given", "http_version", "mode"),
    [
        (None, "2", "BIDI_STREAM"),
        (None, "1.1", "REQUEST_RESPONSE"),
        (None, "1.0", "REQUEST_RESPONSE"),
        ("bidi", "1.1", "BIDI_STREAM"),
        ("request_response", "2", "REQUEST_RESPONSE"),
    ],
)
def test_the_mode_is_as_set_or_as_the_transport_allows(
    given: Mode | None, http_version: str, mode: str
) -> None:
    found = manifest(perdure.app([plain], protocol=given), http_version=http_version)
    assert found["protocolMode"] == mode
    assert (found["minProtocolVersion"], found["maxProtocolVersion"]) == (5, 7)


def test_handlers_say_what_they_take_and_give() -> None:
    (service,) = manifest(perdure.app([plain]), content_type(2))["services"]
    assert (service["name"], service["ty"]) == ("Plain", "SERVICE")
    assert (service["documentation"], service["metadata"]) == ("what it does", {"team": "a"})
    found = handlers(service)
    assert "ty" not in found["order"]
    assert found["order"]["documentation"] == "Orders it."
    given = found["order"]["input"]
    assert (given["required"], given["contentType"]) == (False, "application/json")
    assert given["jsonSchema"]["$defs"]["Order"]["type"] == "object"
    assert found["order"]["output"]["jsonSchema"] == given["jsonSchema"]
    assert found["nothing"]["input"] == {}
    assert found["nothing"]["output"] == {"setContentTypeIfEmpty": False}
    assert found["raw"]["input"] == {"required": False, "contentType": "*/*"}
    assert found["raw"]["output"]["contentType"] == "application/octet-stream"
    assert found["text"]["input"]["contentType"] == "text/plain"
    assert found["text"]["output"]["contentType"] == "text/html"
    assert found["text"]["metadata"] == {"k": "v"}


def test_every_option_is_told() -> None:
    optional_, flow_ = manifest(perdure.app([optional, flow]), content_type(4))["services"]
    found = handlers(optional_)
    assert optional_["ty"] == "VIRTUAL_OBJECT"
    assert {
        name: value for name, value in optional_.items() if name not in ("handlers", "name")
    } == {
        "ty": "VIRTUAL_OBJECT",
        "inactivityTimeout": 1000,
        "abortTimeout": 2000,
        "journalRetention": 3000,
        "idempotencyRetention": 4000,
        "ingressPrivate": True,
        "enableLazyState": True,
        "retryPolicyInitialInterval": 100,
        "retryPolicyMaxInterval": 9000,
        "retryPolicyExponentiationFactor": 1.5,
        "retryPolicyMaxAttempts": 7,
        "retryPolicyOnMaxAttempts": "KILL",
    }
    assert found["exclusive"]["ty"] == "EXCLUSIVE"
    assert (found["shared"]["ty"], found["shared"]["enableLazyState"]) == ("SHARED", False)
    assert found["shared"]["retryPolicyOnMaxAttempts"] == "KILL"
    assert flow_["ty"] == "WORKFLOW"
    assert handlers(flow_)["run"]["ty"] == "WORKFLOW"
    assert handlers(flow_)["run"]["workflowCompletionRetention"] == 86_400_000
    assert handlers(flow_)["look"]["ty"] == "SHARED"
    assert handlers(flow_)["look"]["ingressPrivate"] is False


def test_preloaded_names_are_told_from_version_5_on() -> None:
    (service,) = manifest(perdure.app([picky]), content_type(5))["services"]
    found = handlers(service)["some"]
    assert (found["enableLazyState"], found["eagerStateKeysWhitelist"]) == (True, ["a", "b"])


@pytest.mark.parametrize(
    ("service", "version", "option"),
    [
        (picky, 4, "eagerStateKeysWhitelist"),
        (optional, 3, "retryPolicyInitialInterval"),
        (flow, 2, "workflowCompletionRetention"),
    ],
)
def test_an_option_that_the_version_cannot_say_is_an_error(
    service: Any, version: int, option: str
) -> None:
    peer = discover(perdure.app([service]), content_type(version))
    assert peer.status == 500
    assert option in json.loads(peer.body)["message"]


def test_the_official_sdk_says_the_same_of_the_same_services() -> None:
    """Both describe one service; what they say differs at most in schemas' titles."""
    restate = pytest.importorskip("restate")
    from restate.discovery import compute_discovery_json
    from restate.endpoint import Endpoint

    theirs = restate.VirtualObject("Same", inactivity_timeout=timedelta(seconds=1))
    ours = perdure.VirtualObject("Same", inactivity_timeout=timedelta(seconds=1))

    async def add(ctx: Any, n: int) -> int:
        return n

    async def look(ctx: Any) -> None: ...

    for each in (theirs, ours):
        each.handler()(add)
        each.handler(kind="shared")(look)
    endpoint = Endpoint().bind(theirs)  # type: ignore[no-untyped-call]
    expected = json.loads(compute_discovery_json(endpoint, 4, "bidi"))
    assert manifest(perdure.app([ours]), content_type(4)) == expected
