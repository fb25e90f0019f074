"""The discovery manifest by values: every rule, and errors that say where (service protocol 1.2, 1.3)."""

import json
from typing import Any

import pytest

from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.gateway.manifest import read_manifest, read_service
from perdure.journal.schema import (
    Defaults,
    Handler,
    HandlerType,
    InputRule,
    OnMaxAttempts,
    Options,
    OutputRule,
    RetryPolicy,
    ServiceType,
)

DEFAULTS = Defaults()
NO_BODY = InputRule(None)
# The example of the specification.
EXAMPLE = {
    "protocolMode": "BIDI_STREAM", "minProtocolVersion": 5, "maxProtocolVersion": 7,
    "services": [
        {"name": "Greeter", "ty": "SERVICE", "handlers": [
            {"name": "greet",
             "input": {"required": False, "contentType": "application/json",
                       "jsonSchema": {"type": "string"}},
             "output": {"contentType": "application/json", "setContentTypeIfEmpty": False}}]},
        {"name": "Cart", "ty": "VIRTUAL_OBJECT", "enableLazyState": True, "handlers": [
            {"name": "add", "ty": "EXCLUSIVE", "inactivityTimeout": 60000, "retryPolicyMaxAttempts": 5,
             "retryPolicyOnMaxAttempts": "KILL"},
            {"name": "get", "ty": "SHARED"}]},
        {"name": "Signup", "ty": "WORKFLOW", "handlers": [
            {"name": "run", "ty": "WORKFLOW", "workflowCompletionRetention": 86400000},
            {"name": "approve", "ty": "SHARED"}]},
    ],
}  # fmt: skip


def manifest(*services: dict[str, Any], **top: Any) -> bytes:
    given = {"protocolMode": "BIDI_STREAM", "minProtocolVersion": 5, "maxProtocolVersion": 7}
    return json.dumps({**given, "services": services, **top}).encode()


def service(*handlers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "S", "ty": "SERVICE", "handlers": handlers, **more}


def handler(
    more: dict[str, Any], ty: str = "SERVICE", outer: dict[str, Any] | None = None
) -> Handler:
    given = {"name": "S", "ty": ty, "handlers": [{"name": "h", **more}], **(outer or {})}
    return read_service(json.dumps(given).encode(), DEFAULTS, bidi=True).handlers["h"]


def refusal(body: bytes) -> DeploymentRefused:
    with pytest.raises(DeploymentRefused) as caught:
        read_manifest(body, DEFAULTS)
    return caught.value


def unusable(body: bytes) -> str:
    """The reason why a body is no manifest."""
    found = refusal(body)
    assert (found.status, found.restate_code) == (500, "META0013")
    prefix = "[META0013] unusable discovery response: "
    assert found.message.startswith(prefix)
    return found.message.removeprefix(prefix)


def test_the_example_of_the_specification_is_read() -> None:
    found = read_manifest(json.dumps(EXAMPLE).encode(), DEFAULTS)
    assert (found.bidi, found.oldest, found.newest) == (True, 5, 7)
    greeter, cart, signup = (each for each, _ in found.services)
    assert greeter.type is ServiceType.SERVICE
    assert greeter.handlers["greet"].type is HandlerType.SERVICE
    assert cart.handlers["add"].lazy_state
    assert cart.handlers["add"].retry == RetryPolicy(
        max_attempts=5, on_max_attempts=OnMaxAttempts.KILL
    )
    assert cart.handlers["get"].type is HandlerType.SHARED
    assert signup.handlers["run"].type is HandlerType.WORKFLOW
    assert signup.handlers["approve"].type is HandlerType.SHARED
    assert [json.loads(raw)["name"] for _, raw in found.services] == ["Greeter", "Cart", "Signup"]


def test_what_a_newer_sdk_adds_is_passed_over() -> None:
    added = service({"name": "h", "new": {"a": 1}}, newer=[1])
    found = read_manifest(manifest(added, lambdaCompression="zstd", other=None), DEFAULTS)
    assert list(found.services[0][0].handlers) == ["h"]


def test_a_null_is_as_good_as_nothing() -> None:
    plain = handler({})
    names = (
        "ty",
        "input",
        "output",
        "inactivityTimeout",
        "ingressPrivate",
        "metadata",
        "documentation",
    )
    assert handler(dict.fromkeys(names)) == plain


# ---- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service_type", "given", "found"),
    [
        ("SERVICE", None, HandlerType.SERVICE),
        ("SERVICE", "SHARED", HandlerType.SERVICE),
        ("VIRTUAL_OBJECT", None, HandlerType.EXCLUSIVE),
        ("VIRTUAL_OBJECT", "EXCLUSIVE", HandlerType.EXCLUSIVE),
        ("VIRTUAL_OBJECT", "SHARED", HandlerType.SHARED),
        ("WORKFLOW", "WORKFLOW", HandlerType.WORKFLOW),
        ("WORKFLOW", None, HandlerType.SHARED),
        ("WORKFLOW", "SHARED", HandlerType.SHARED),
    ],
)
def test_the_type_of_a_handler_follows_from_both(
    service_type: str, given: str | None, found: HandlerType
) -> None:
    assert handler({} if given is None else {"ty": given}, service_type).type is found


@pytest.mark.parametrize(
    ("service_type", "given"),
    [
        ("SERVICE", "EXCLUSIVE"), ("SERVICE", "WORKFLOW"), ("VIRTUAL_OBJECT", "WORKFLOW"),
        ("WORKFLOW", "EXCLUSIVE"), ("SERVICE", "shared"),
    ],
)  # fmt: skip
def test_other_pairs_of_types_are_refused(service_type: str, given: str) -> None:
    found = refusal(manifest(service({"name": "h", "ty": given}, ty=service_type)))
    assert (found.status, found.restate_code) == (400, None)
    assert found.message.startswith("service 'S', handler 'h': field 'ty': expected ")
    assert found.message.endswith(f", found {given}")


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "_1", "My.Service-2_x", "Restaurant"])
def test_good_service_names(name: str) -> None:
    assert read_manifest(manifest(service(name=name)), DEFAULTS).services[0][0].name == name


@pytest.mark.parametrize("name", ["", "1a", "_", "-a", "a/b", "ä", "a b", "a\n"])
def test_bad_service_names_are_refused(name: str) -> None:
    assert "field 'name': expected a name like " in unusable(manifest(service(name=name)))


@pytest.mark.parametrize("name", ["", "1a", "a.b", "a-b", "__"])
def test_bad_handler_names_are_refused(name: str) -> None:
    found = unusable(manifest(service({"name": name})))
    assert found.startswith(f"service 'S', handler '{name}': field 'name': expected a name like ")


@pytest.mark.parametrize("name", ["restate", "RestateThing", "restate.x", "openapi", "OpenApi"])
def test_reserved_names_are_refused(name: str) -> None:
    found = refusal(manifest(service(name=name)))
    assert (found.status, found.restate_code) == (400, "META0005")
    assert found.message.startswith(f"[META0005] service '{name}': ")


def test_a_name_stands_once() -> None:
    assert refusal(manifest(service(), service())).message == (
        "service 'S': expected each name once, found it twice"
    )
    twice = refusal(manifest(service({"name": "h"}, {"name": "h"})))
    assert twice.message == "service 'S', handler 'h': expected each name once, found it twice"


def test_what_a_name_shows_is_harmless_and_short() -> None:
    found = unusable(manifest(service(name="\x1b[31m" + "x" * 200)))
    assert "\x1b" not in found
    assert len(found) < 400


# ---- shape ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "the manifest: expected JSON ("),
        (b"[]", "the manifest: expected object, found array"),
        (b'"\xff"', "the manifest: "),
        (b"[" * 100_000, "the manifest: "),
        (manifest(protocolMode=None), "the manifest: field 'protocolMode': expected BIDI_STREAM or "),
        (manifest(protocolMode="bidi"), "the manifest: field 'protocolMode': expected BIDI_STREAM or "),
        (manifest(minProtocolVersion=0), "the manifest: field 'minProtocolVersion': expected 1 to "),
        (manifest(maxProtocolVersion=2**31), "the manifest: field 'maxProtocolVersion': expected 1 to "),
        (manifest(minProtocolVersion=7, maxProtocolVersion=6),
         "the manifest: expected minProtocolVersion <= maxProtocolVersion, found 7 and 6"),
        (manifest(minProtocolVersion="5"),
         "the manifest: field 'minProtocolVersion': expected int, found str"),
        (manifest(services=None), "the manifest: field 'services': expected array, found null"),
        (b'{"protocolMode": "BIDI_STREAM", "maxProtocolVersion": 7, "services": []}',
         "the manifest: Object missing required field `minProtocolVersion`"),
        (manifest(service(ty="ACTOR")),
         "service 'S': field 'ty': expected SERVICE or VIRTUAL_OBJECT or WORKFLOW, found 'ACTOR'"),
        (manifest({"name": "S", "handlers": []}), "service 'S': field 'ty': expected SERVICE or "),
        (manifest({"name": "S", "ty": "SERVICE"}),
         "service 'S': Object missing required field `handlers`"),
        (manifest({"ty": "SERVICE", "handlers": []}),
         "services[0]: Object missing required field `name`"),
        (manifest(service({"ty": "SHARED"})),
         "service 'S', handlers[0]: Object missing required field `name`"),
        (manifest(service({"name": "h", "inactivityTimeout": "1s"})),
         "service 'S', handler 'h': field 'inactivityTimeout': expected int, found str"),
        (manifest(service({"name": "h", "input": {"required": 1}})),
         "service 'S', handler 'h': field 'input.required': expected bool, found int"),
        (manifest(service(metadata={"a": 1})),
         "service 'S': field 'metadata[...]': expected str, found int"),
        (manifest(service({"name": "h", "abortTimeout": -1})),
         "service 'S', handler 'h': field 'abortTimeout': expected milliseconds from 0 up, found -1"),
        (manifest(service({"name": "h", "abortTimeout": 2**64})),
         "service 'S', handler 'h': field 'abortTimeout': expected milliseconds from 0 up"),
        (manifest(service(retryPolicyExponentiationFactor=0)),
         "service 'S': field 'retryPolicyExponentiationFactor': expected a number > 0, found 0"),
        (manifest(service(retryPolicyMaxAttempts=-1)),
         "service 'S': field 'retryPolicyMaxAttempts': expected a number from 0 up, found -1"),
        (manifest(service(retryPolicyOnMaxAttempts="STOP")),
         "service 'S': field 'retryPolicyOnMaxAttempts': expected PAUSE or KILL, found 'STOP'"),
    ],
)  # fmt: skip
def test_an_unusable_manifest_is_explained(body: bytes, reason: str) -> None:
    assert unusable(body).startswith(reason)


# ---- options -------------------------------------------------------------------------------------


def test_a_handlers_option_wins_over_the_services_and_that_over_the_defaults() -> None:
    outer = {"abortTimeout": 2, "inactivityTimeout": 3, "retryPolicyMaxInterval": 4}
    found = handler({"abortTimeout": 1, "retryPolicyExponentiationFactor": 1.5}, outer=outer)
    assert (found.abort_timeout_ms, found.inactivity_timeout_ms) == (1, 3)
    assert found.journal_retention_ms == DEFAULTS.journal_retention_ms
    assert found.retry == RetryPolicy(factor=1.5, max_interval_ms=4)
    assert found.options == Options(abort_timeout_ms=1, retry_factor=1.5)


def test_no_attempts_count_as_one_and_for_ever_as_a_thousand_years() -> None:
    found = handler({"retryPolicyMaxAttempts": 0, "journalRetention": 2**63})
    assert found.retry.max_attempts == 1
    assert found.journal_retention_ms == 1000 * 366 * 86_400_000


def test_lazy_state_and_its_exceptions_travel_together() -> None:
    outer = {"enableLazyState": True, "eagerStateKeysWhitelist": ["a"]}
    assert handler({}, "VIRTUAL_OBJECT", outer).eager_keys == ("a",)
    own = handler({"enableLazyState": False}, "VIRTUAL_OBJECT", outer)
    assert (own.lazy_state, own.eager_keys) == (False, None)
    listed = handler({"eagerStateKeysWhitelist": ["b"]}, "VIRTUAL_OBJECT")
    assert (listed.lazy_state, listed.eager_keys) == (True, ("b",))
    assert handler({"enableLazyState": True}, "VIRTUAL_OBJECT").eager_keys is None


def test_the_inactivity_timeout_is_nothing_to_a_request_response_endpoint() -> None:
    raw = json.dumps(
        service({"name": "h", "inactivityTimeout": 5000}, inactivityTimeout=1000)
    ).encode()
    found = read_service(raw, DEFAULTS, bidi=False)
    assert found.options.inactivity_timeout_ms == 0
    assert found.handlers["h"].inactivity_timeout_ms == 0


def test_retention_belongs_to_the_right_handlers() -> None:
    run = {"name": "run", "ty": "WORKFLOW", "workflowCompletionRetention": 5}
    raw = json.dumps(service(run, {"name": "h"}, ty="WORKFLOW")).encode()
    found = read_service(raw, DEFAULTS, bidi=True)
    assert found.handlers["run"].workflow_retention_ms == 5
    assert found.options.workflow_retention_ms == 5  # where the admin API shows it
    for ty, more in (
        ("WORKFLOW", {"ty": "WORKFLOW", "idempotencyRetention": 1}),
        ("WORKFLOW", {"workflowCompletionRetention": 1}),
        ("SERVICE", {"workflowCompletionRetention": 1}),
    ):
        refused = refusal(manifest(service({"name": "h", **more}, ty=ty)))
        assert (refused.status, refused.restate_code) == (400, None)
        assert refused.message.startswith("service 'S', handler 'h': field '")


def test_private_and_public() -> None:
    assert handler({}).public
    assert not handler({"ingressPrivate": True}).public
    assert not handler({}, outer={"ingressPrivate": True}).public
    assert handler({"ingressPrivate": False}).public
    refused = refusal(
        manifest(service({"name": "h", "ingressPrivate": False}, ingressPrivate=True))
    )
    assert refused.status == 400
    assert refused.message.startswith("service 'S', handler 'h': field 'ingressPrivate': expected")


# ---- input and output ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "rules", "description"),
    [
        (None, (NO_BODY, InputRule("*/*")), "*/*"),
        ({}, (NO_BODY,), "none"),
        ({"contentType": "text/plain"}, (NO_BODY, InputRule("text/plain")), "text/plain"),
        ({"required": True, "contentType": "text/*"}, (InputRule("text/*"),), "text/*"),
        ({"required": True}, (InputRule("*/*"),), "*/*"),
        ({"contentType": "application/json; charset=utf-8", "jsonSchema": {"type": "string"}},
         (NO_BODY, InputRule("application/json", body_required=True)), "JSON string"),
        ({"contentType": "application/json", "jsonSchema": {"title": "Order", "type": "object"}},
         (NO_BODY, InputRule("application/json", body_required=True)), "JSON 'Order'"),
        ({"contentType": "application/json", "jsonSchema": True},
         (NO_BODY, InputRule("application/json", body_required=True)), "application/json"),
    ],
)  # fmt: skip
def test_input_rules(given: Any, rules: tuple[InputRule, ...], description: str) -> None:
    found = handler({} if given is None else {"input": given})
    assert (found.input_rules, found.input_description) == (rules, description)


@pytest.mark.parametrize(
    ("given", "rule", "description"),
    [
        (None, OutputRule("application/json"), "application/json"),
        ({}, OutputRule(None), "none"),
        ({"setContentTypeIfEmpty": False}, OutputRule(None), "none"),
        ({"contentType": "text/plain; charset=utf-8", "setContentTypeIfEmpty": True},
         OutputRule("text/plain; charset=utf-8", set_if_empty=True), "optional text/plain; charset=utf-8"),
        ({"contentType": "application/json", "jsonSchema": {"type": "integer"}},
         OutputRule("application/json"), "JSON integer"),
    ],
)  # fmt: skip
def test_output_rules(given: Any, rule: OutputRule, description: str) -> None:
    found = handler({} if given is None else {"output": given})
    assert (found.output_rule, found.output_description) == (rule, description)


@pytest.mark.parametrize(
    "given", ["", "json", "*/json", "a/", "/b", "a/b/c", "a*/b", "te xt/plain"]
)
def test_an_illegal_content_type_is_refused(given: str) -> None:
    refused = refusal(manifest(service({"name": "h", "input": {"contentType": given}})))
    assert refused.status == 400
    assert refused.message.startswith(
        "service 'S', handler 'h': field 'input.contentType': expected type/sub, type/* or */*"
    )


@pytest.mark.parametrize("given", ["", "a", "text/plain\r\nset-cookie: a=b", "text/plain; ä"])
def test_an_output_type_that_is_no_header_is_refused(given: str) -> None:
    assert refusal(manifest(service({"name": "h", "output": {"contentType": given}}))).status == 400


def test_a_schema_is_an_object_or_a_boolean() -> None:
    refused = refusal(
        manifest(service({"name": "h", "input": {"contentType": "a/b", "jsonSchema": [1]}}))
    )
    assert refused.message == (
        "service 'S', handler 'h': field 'input.jsonSchema': expected an object or a boolean, found list"
    )
