"""What an endpoint tells about itself when it is discovered: its services as manifest JSON, v2 to v5.

Pure. A service that uses an option which the asked-for version cannot say is an error: leaving the
option out would change what the service does. Rules: service protocol 1.1 and 1.3.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from perdure.journal.errors import UsageError
from perdure.journal.schema import (
    Handler,
    HandlerType,
    Options,
    OutputRule,
    Service,
    ServiceType,
)
from perdure.journal.wire.versions import NEWEST, OLDEST

Mode = Literal["bidi", "request_response"]

VERSIONS: Final = (5, 4, 3, 2)  # of manifests, as they are preferred
_UNASKED_VERSION: Final = 2  # what a request without ``accept`` gets
_MODES: Final = {"bidi": "BIDI_STREAM", "request_response": "REQUEST_RESPONSE"}
_SERVICE_TYPES: Final = {
    ServiceType.SERVICE: "SERVICE",
    ServiceType.VIRTUAL_OBJECT: "VIRTUAL_OBJECT",
    ServiceType.WORKFLOW: "WORKFLOW",
}
_HANDLER_TYPES: Final = {
    HandlerType.SERVICE: None,
    HandlerType.EXCLUSIVE: "EXCLUSIVE",
    HandlerType.SHARED: "SHARED",
    HandlerType.WORKFLOW: "WORKFLOW",
}
# name in the manifest -> name in Options, and the first version that has it
_OPTIONS: Final = {
    "inactivityTimeout": ("inactivity_timeout_ms", 3),
    "abortTimeout": ("abort_timeout_ms", 3),
    "journalRetention": ("journal_retention_ms", 3),
    "idempotencyRetention": ("idempotency_retention_ms", 3),
    "workflowCompletionRetention": ("workflow_retention_ms", 3),
    "enableLazyState": ("lazy_state", 3),
    "ingressPrivate": ("ingress_private", 3),
    "retryPolicyInitialInterval": ("retry_initial_interval_ms", 4),
    "retryPolicyMaxInterval": ("retry_max_interval_ms", 4),
    "retryPolicyExponentiationFactor": ("retry_factor", 4),
    "retryPolicyMaxAttempts": ("retry_max_attempts", 4),
    "retryPolicyOnMaxAttempts": ("retry_on_max_attempts", 4),
    "eagerStateKeysWhitelist": ("eager_keys", 5),
}


def content_type(version: int) -> str:
    return f"application/vnd.restate.endpointmanifest.v{version}+json"


def negotiate(accept: str | None) -> int | None:
    """The newest version that the text of an ``accept`` header names; None: none of ours."""
    if accept is None:
        return _UNASKED_VERSION
    return next((each for each in VERSIONS if content_type(each) in accept), None)


def manifest(services: Iterable[Service], version: int, mode: Mode) -> bytes:
    """JSON. Raises UsageError that names the first option which ``version`` cannot say."""
    return msgspec.json.encode(
        {
            "protocolMode": _MODES[mode],
            "minProtocolVersion": OLDEST,
            "maxProtocolVersion": NEWEST,
            "services": [_service(each, version) for each in services],
        }
    )


def _service(service: Service, version: int) -> dict[str, Any]:
    given: dict[str, Any] = {"name": service.name, "ty": _SERVICE_TYPES[service.type]}
    given["handlers"] = [_handler(each, version) for each in service.handlers.values()]
    given |= _described(service)
    return given | _options(service.options, service.name, version)


def _handler(handler: Handler, version: int) -> dict[str, Any]:
    given: dict[str, Any] = {"name": handler.name}
    if (kind := _HANDLER_TYPES[handler.type]) is not None:
        given["ty"] = kind
    given["input"] = _input(handler)
    given["output"] = _output(handler.output_rule, handler.output_schema)
    given |= _described(handler)
    return given | _options(handler.options, f"{handler.service}/{handler.name}", version)


def _described(what: Service | Handler) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if what.documentation is not None:
        given["documentation"] = what.documentation
    if what.metadata:
        given["metadata"] = what.metadata
    return given


def _input(handler: Handler) -> dict[str, Any]:
    """No rule but the one for an empty body: the handler takes no argument."""
    accepted = [each for each in handler.input_rules if each.content_type is not None]
    if not accepted:
        return {}
    given: dict[str, Any] = {"required": False, "contentType": accepted[0].content_type}
    if handler.input_schema is not None:
        given["jsonSchema"] = handler.input_schema
    return given


def _output(rule: OutputRule, json_schema: object) -> dict[str, Any]:
    given: dict[str, Any] = {"setContentTypeIfEmpty": rule.set_if_empty}
    if rule.content_type is not None:
        given["contentType"] = rule.content_type
    if json_schema is not None:
        given["jsonSchema"] = json_schema
    return given


def _options(options: Options, where: str, version: int) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, (field, since) in _OPTIONS.items():
        value = getattr(options, field)
        if value is None:
            continue
        if since > version:
            raise UsageError(
                f"{where} sets {name}, which manifests have from version {since} on, and version"
                f" {version} was asked for: use a newer server, or remove the option"
            )
        given[name] = value.upper() if name == "retryPolicyOnMaxAttempts" else value
    return given
