"""Decorated services, as the engine sees them; the official package's discovery is the model."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import msgspec
import pydantic
import pytest
import restate
from restate.discovery import compute_discovery_json
from restate.endpoint import Endpoint

import perdure
from perdure.describe import describe
from perdure.journal.schema import (
    Defaults,
    HandlerType,
    InputRule,
    OnMaxAttempts,
    OutputRule,
    RetryPolicy,
    Service,
    ServiceType,
)
from perdure.serde import BytesSerde


class Struct(msgspec.Struct):
    a: int


class Model(pydantic.BaseModel):
    a: int


@dataclasses.dataclass
class Data:
    a: int
    b: list[str] = dataclasses.field(default_factory=list)


def declare(api: Any) -> list[Any]:
    """The same services, with the official package or with ours."""
    service = api.Service(
        "Greeter",
        description="Greets",
        metadata={"team": "a"},
        journal_retention=timedelta(hours=1),
    )
    counter = api.VirtualObject(
        "Counter", enable_lazy_state=True, inactivity_timeout=timedelta(seconds=5)
    )
    flow = api.Workflow("Flow", ingress_private=True, state_preload=["a", "b"])
    policy = api.InvocationRetryPolicy(
        initial_interval=timedelta(milliseconds=20), max_attempts=3, on_max_attempts="kill"
    )

    async def text(ctx: Any, name: str) -> str:
        """Says hello."""
        return name

    async def nothing(ctx: Any) -> None: ...
    async def number(ctx: Any, n: int) -> float:
        return n

    async def items(ctx: Any, n: list[int]) -> bool:
        return bool(n)

    async def untyped(ctx, n): ...  # type: ignore[no-untyped-def]
    async def anything(ctx: Any, n: Any) -> Any: ...
    async def struct(ctx: Any, s: Struct) -> Struct:
        return s

    async def model(ctx: Any, s: Model) -> Model:
        return s

    async def void(ctx: Any, n: None) -> None: ...
    async def run(ctx: Any) -> str:
        return ""

    for fn in (text, nothing, void, number, items, untyped, anything, struct, model):
        service.handler()(fn)
    service.handler(
        "xml", accept="application/xml", content_type="text/plain", metadata={"k": "v"}
    )(text)
    counter.handler("add", abort_timeout=timedelta(minutes=2), invocation_retry_policy=policy)(
        number
    )
    counter.handler("get", kind="shared", state_preload=True, ingress_private=True)(number)
    flow.main(workflow_retention=timedelta(days=2))(run)
    flow.handler("status", state_preload=[])(nothing)
    return [service, counter, flow]


def _manifest() -> dict[str, Any]:
    endpoint = Endpoint()  # type: ignore[no-untyped-call]
    endpoint.bind(*declare(restate))
    manifest = json.loads(compute_discovery_json(endpoint, 5, "bidi"))
    return {each["name"]: each for each in manifest["services"]}


MANIFEST = _manifest()
OURS: dict[str, Service] = {each.name: describe(each) for each in declare(perdure)}
HANDLERS = [(s, h["name"], h) for s, service in MANIFEST.items() for h in service["handlers"]]


def _input_rules(given: dict[str, Any]) -> tuple[InputRule, ...]:
    """Rule: ingress 6.1."""
    if not given:
        return (InputRule(None),)
    return (InputRule(None), InputRule(given["contentType"], "jsonSchema" in given))


@pytest.mark.parametrize(("service", "name", "manifest"), HANDLERS)
def test_handler_is_described_as_discovery_would(service: str, name: str, manifest: Any) -> None:
    ours = OURS[service].handlers[name]
    assert ours.input_rules == _input_rules(manifest["input"])
    assert ours.input_schema == manifest["input"].get("jsonSchema")
    assert ours.output_rule == OutputRule(manifest["output"].get("contentType"))
    assert ours.output_schema == manifest["output"].get("jsonSchema")
    assert ours.documentation == manifest.get("documentation")
    assert ours.metadata == manifest.get("metadata", {})


OPTION_NAMES = {
    "inactivity_timeout_ms": "inactivityTimeout",
    "abort_timeout_ms": "abortTimeout",
    "journal_retention_ms": "journalRetention",
    "idempotency_retention_ms": "idempotencyRetention",
    "workflow_retention_ms": "workflowCompletionRetention",
    "lazy_state": "enableLazyState",
    "eager_keys": "eagerStateKeysWhitelist",
    "ingress_private": "ingressPrivate",
    "retry_initial_interval_ms": "retryPolicyInitialInterval",
    "retry_factor": "retryPolicyExponentiationFactor",
    "retry_max_interval_ms": "retryPolicyMaxInterval",
    "retry_max_attempts": "retryPolicyMaxAttempts",
    "retry_on_max_attempts": "retryPolicyOnMaxAttempts",
}


def _as_in_manifest(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value.upper() if isinstance(value, str) else value


def test_options_are_those_of_the_manifest() -> None:
    for name, manifest in MANIFEST.items():
        pairs = [(OURS[name].options, manifest)]
        pairs += [(OURS[name].handlers[h["name"]].options, h) for h in manifest["handlers"]]
        for options, given in pairs:
            for ours, theirs in OPTION_NAMES.items():
                assert _as_in_manifest(getattr(options, ours)) == given.get(theirs), (name, ours)


def test_types_of_services_and_handlers() -> None:
    types = {(s.name, h.name): (s.type, h.type) for s in OURS.values() for h in s.handlers.values()}
    assert types["Greeter", "text"] == (ServiceType.SERVICE, HandlerType.SERVICE)
    assert types["Counter", "add"] == (ServiceType.VIRTUAL_OBJECT, HandlerType.EXCLUSIVE)
    assert types["Counter", "get"] == (ServiceType.VIRTUAL_OBJECT, HandlerType.SHARED)
    assert types["Flow", "run"] == (ServiceType.WORKFLOW, HandlerType.WORKFLOW)
    assert types["Flow", "status"] == (ServiceType.WORKFLOW, HandlerType.SHARED)


def test_effective_options_are_handlers_over_services_over_defaults() -> None:
    defaults = Defaults(idempotency_retention_ms=7, retry=RetryPolicy(factor=3.0))
    counter = describe(declare(perdure)[1], defaults).handlers["add"]
    assert counter.inactivity_timeout_ms == 5_000  # the service's
    assert counter.abort_timeout_ms == 120_000  # the handler's
    assert counter.idempotency_retention_ms == 7  # the default
    assert counter.retry == RetryPolicy(20, 3.0, 60_000, 3, OnMaxAttempts.KILL)


def test_lazy_state_and_its_keys_are_decided_by_one_level() -> None:
    lazy = {
        f"{s.name}/{h.name}": (h.lazy_state, h.eager_keys)
        for s in OURS.values()
        for h in s.handlers.values()
    }
    assert lazy["Greeter/text"] == (False, None)
    assert lazy["Counter/add"] == (True, None)
    assert lazy["Counter/get"] == (False, None)
    assert lazy["Flow/run"] == (True, ("a", "b"))
    assert lazy["Flow/status"] == (True, None)


def test_handler_is_private_when_it_or_its_service_is() -> None:
    public = {f"{s.name}/{h.name}": h.public for s in OURS.values() for h in s.handlers.values()}
    assert public["Counter/add"]
    assert not public["Counter/get"]
    assert not public["Flow/run"]


@pytest.mark.parametrize(
    ("name", "input_", "output"),
    [
        ("text", "JSON string", "JSON string"),
        ("nothing", "none", "none"),
        ("items", "JSON array", "JSON boolean"),
        ("model", "JSON 'Model'", "JSON 'Model'"),
        ("struct", "application/json", "application/json"),
        ("untyped", "application/json", "none"),
        ("xml", "JSON string", "JSON string"),
    ],
)
def test_descriptions(name: str, input_: str, output: str) -> None:
    handler = OURS["Greeter"].handlers[name]
    assert (handler.input_description, handler.output_description) == (input_, output)


def test_types_beyond_the_official_ones_have_schemas() -> None:
    service = perdure.Service("S")

    @service.handler()
    def data(ctx: perdure.Context, d: Data) -> list[Model]:
        return []

    @service.handler()
    def optional(ctx: perdure.Context, d: int | None) -> dict[str, Data]:
        return {}

    handlers = describe(service).handlers
    assert handlers["data"].blocking
    schema: Any = handlers["data"].input_schema
    assert schema["$defs"]["Data"]["properties"]["a"] == {"type": "integer"}
    schema = handlers["data"].output_schema
    assert schema["items"] == {"$ref": "#/$defs/Model"}
    assert handlers["optional"].input_schema == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert handlers["optional"].input_description == "JSON integer"
    assert handlers["optional"].output_description == "JSON object"


def test_raw_bytes_need_no_json() -> None:
    service = perdure.Service("S")

    @service.handler()
    async def raw(ctx: perdure.Context, body: bytes) -> bytes:
        return body

    @service.handler(accept="image/png", content_type="image/png")
    async def image(ctx: perdure.Context, body: bytes) -> bytes:
        return body

    @service.handler(input_serde=BytesSerde(), output_serde=BytesSerde())
    async def explicit(ctx: perdure.Context, body: bytes) -> bytes:
        return body

    handlers = describe(service).handlers
    # With a serde of the user's own, the rules are those of the official package.
    assert handlers["explicit"].input_rules == (
        InputRule(None),
        InputRule("application/json", True),
    )
    assert handlers["explicit"].output_rule == OutputRule("application/json")
    assert handlers["raw"].input_rules == (InputRule(None), InputRule("*/*"))
    assert handlers["raw"].output_rule == OutputRule("application/octet-stream")
    assert (handlers["raw"].input_schema, handlers["raw"].input_description) == (None, "*/*")
    assert handlers["image"].input_rules == (InputRule(None), InputRule("image/png"))
    assert handlers["image"].output_description == "image/png"


def test_service_keeps_its_documentation_and_metadata() -> None:
    assert (OURS["Greeter"].documentation, OURS["Greeter"].metadata) == ("Greets", {"team": "a"})
