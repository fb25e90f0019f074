"""The discovery manifest, JSON of versions 1 to 5: from bytes to services. Pure.

Lenient towards fields that it does not know, strict with those it knows. Each error names service, handler,
field, what was expected and what came. Content types, schemas and what is shown of them:
gateway/manifest_payloads.py. Rules: service protocol 1.2 and 1.3.
"""

import math
import re
from typing import Any, Final, TypeVar

import msgspec

from perdure.gateway.deployment_errors import DeploymentRefused, coded
from perdure.gateway.manifest_payloads import Input, Output, input_rules, output_rule
from perdure.journal.effective import effective
from perdure.journal.schema import (
    Defaults,
    Handler,
    HandlerType,
    OnMaxAttempts,
    Options,
    Service,
    ServiceType,
)

_SERVICE_NAME: Final = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")
_HANDLER_NAME: Final = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")
_RESERVED_PREFIX, _RESERVED_NAME = "restate", "openapi"
_HIGHEST_VERSION: Final = 2**31 - 1
_HIGHEST_MILLIS: Final = 2**64 - 1
_LONGEST_MS: Final = (
    1000 * 366 * 86_400_000
)  # longer ones mean "for ever"; past it no date could be written
_MISFIT: Final = re.compile(r"Expected `(.+?)`, got `(.+?)`(?: - at `\$\.?(.*)`)?")
_SHOWN_CHARACTERS: Final = 64

_SERVICE_TYPES: Final = {
    "SERVICE": ServiceType.SERVICE,
    "VIRTUAL_OBJECT": ServiceType.VIRTUAL_OBJECT,
    "WORKFLOW": ServiceType.WORKFLOW,
}
_HANDLER_TYPES: Final[dict[ServiceType, dict[str | None, HandlerType]]] = {
    ServiceType.SERVICE: {None: HandlerType.SERVICE, "SHARED": HandlerType.SERVICE},
    ServiceType.VIRTUAL_OBJECT: {
        None: HandlerType.EXCLUSIVE,
        "EXCLUSIVE": HandlerType.EXCLUSIVE,
        "SHARED": HandlerType.SHARED,
    },
    ServiceType.WORKFLOW: {
        None: HandlerType.SHARED,
        "SHARED": HandlerType.SHARED,
        "WORKFLOW": HandlerType.WORKFLOW,
    },
}
_ON_MAX_ATTEMPTS: Final = {"PAUSE": OnMaxAttempts.PAUSE, "KILL": OnMaxAttempts.KILL}


class _Common(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What service and handler have alike. A null counts as absent."""

    name: str
    ty: str | None = None
    documentation: str | None = None
    metadata: dict[str, str] | None = None
    inactivity_timeout: int | None = None
    abort_timeout: int | None = None
    journal_retention: int | None = None
    idempotency_retention: int | None = None
    workflow_completion_retention: int | None = None
    enable_lazy_state: bool | None = None
    ingress_private: bool | None = None
    eager_state_keys_whitelist: tuple[str, ...] | None = None
    retry_policy_initial_interval: int | None = None
    retry_policy_max_interval: int | None = None
    retry_policy_exponentiation_factor: float | None = None
    retry_policy_max_attempts: int | None = None
    retry_policy_on_max_attempts: str | None = None


class _Service(_Common, frozen=True, kw_only=True, rename="camel"):
    handlers: tuple[msgspec.Raw, ...]


class _Handler(_Common, frozen=True, kw_only=True, rename="camel"):
    input: Input | None = None
    output: Output | None = None


class _Endpoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    protocol_mode: str | None = None
    min_protocol_version: int
    max_protocol_version: int
    services: tuple[msgspec.Raw, ...]


_decode_endpoint = msgspec.json.Decoder(_Endpoint).decode
_decode_service = msgspec.json.Decoder(_Service).decode
_decode_handler = msgspec.json.Decoder(_Handler).decode

T = TypeVar("T")


class Manifest(msgspec.Struct, frozen=True):
    """``services``: each with its own JSON, which is what the registry keeps."""

    bidi: bool
    oldest: int
    newest: int
    services: tuple[tuple[Service, bytes], ...]


def read_manifest(body: bytes, defaults: Defaults) -> Manifest:
    """Raises DeploymentRefused: META0013 for what is no manifest, META0005 for reserved names, and 400
    without a code for services that break a rule."""
    endpoint = _decoded(_decode_endpoint, body, "the manifest")
    mode = endpoint.protocol_mode
    if mode not in ("BIDI_STREAM", "REQUEST_RESPONSE"):
        found = "nothing" if mode is None else _shown(mode)
        raise _unusable(
            f"the manifest: field 'protocolMode': expected BIDI_STREAM or REQUEST_RESPONSE, found {found}"
        )
    oldest, newest = endpoint.min_protocol_version, endpoint.max_protocol_version
    for field, value in (("minProtocolVersion", oldest), ("maxProtocolVersion", newest)):
        if not 1 <= value <= _HIGHEST_VERSION:
            raise _unusable(
                f"the manifest: field '{field}': expected 1 to {_HIGHEST_VERSION}, found {value}"
            )
    if oldest > newest:
        raise _unusable(
            f"the manifest: expected minProtocolVersion <= maxProtocolVersion, found {oldest} and {newest}"
        )
    bidi = mode == "BIDI_STREAM"
    services: dict[str, tuple[Service, bytes]] = {}
    for index, raw in enumerate(endpoint.services):
        service = read_service(bytes(raw), defaults, bidi=bidi, index=index)
        if service.name in services:
            raise _against(f"service '{service.name}'", "expected each name once, found it twice")
        services[service.name] = (service, bytes(raw))
    return Manifest(bidi, oldest, newest, tuple(services.values()))


def read_service(raw: bytes, defaults: Defaults, *, bidi: bool, index: int = 0) -> Service:
    """One service with its effective options; revision and deployment are for the caller to set.

    Not ``bidi``: the inactivity timeout is 0 and that of a handler is ignored (admin 5.1). Raises
    DeploymentRefused.
    """
    where = _name_in(raw, "service", f"services[{index}]")
    given = _decoded(_decode_service, raw, where)
    _check_name(given.name, _SERVICE_NAME, where)
    lowered = given.name.lower()
    if lowered.startswith(_RESERVED_PREFIX) or lowered == _RESERVED_NAME:
        raise coded(
            400,
            "META0005",
            f"{where}: names that begin with '{_RESERVED_PREFIX}', and '{_RESERVED_NAME}', are reserved; "
            "choose another name",
        )
    type_ = _SERVICE_TYPES.get(given.ty or "")
    if type_ is None:
        raise _unusable(_expected(where, "ty", " or ".join(_SERVICE_TYPES), given.ty))
    options = _options(given, where)
    if not bidi:
        options = msgspec.structs.replace(options, inactivity_timeout_ms=0)
    handlers: dict[str, Handler] = {}
    for number, each in enumerate(given.handlers):
        handler = _read_handler(bytes(each), number, where, given.name, type_, options, bidi)
        if handler.name in handlers:
            raise _against(
                f"{where}, handler '{handler.name}'", "expected each name once, found it twice"
            )
        handlers[handler.name] = handler
    run = next((each for each in handlers.values() if each.type is HandlerType.WORKFLOW), None)
    if run is not None and options.workflow_retention_ms is None:
        # shown with the service, while only its run handler can set it
        retention_ms = run.options.workflow_retention_ms
        options = msgspec.structs.replace(options, workflow_retention_ms=retention_ms)
    service = Service(
        given.name, type_, handlers, options, given.documentation, given.metadata or {}
    )
    return effective(service, defaults)


def _read_handler(
    raw: bytes,
    index: int,
    service_where: str,
    service: str,
    service_type: ServiceType,
    outer: Options,
    bidi: bool,
) -> Handler:
    where = _name_in(raw, f"{service_where}, handler", f"handlers[{index}]")
    given = _decoded(_decode_handler, raw, where)
    _check_name(given.name, _HANDLER_NAME, where)
    allowed = _HANDLER_TYPES[service_type]
    type_ = allowed.get(given.ty)
    if type_ is None:
        names = " or ".join(name or "nothing" for name in allowed)
        raise _against(where, f"field 'ty': expected {names} in a {service_type}, found {given.ty}")
    options = _options(given, where)
    if not bidi:
        options = msgspec.structs.replace(options, inactivity_timeout_ms=None)
    _check_retention(options, type_, where)
    if outer.ingress_private and options.ingress_private is False:
        raise _against(
            where,
            "field 'ingressPrivate': expected nothing or true in a private service, found false",
        )
    rules, input_schema, input_description = input_rules(given.input, where)
    rule, output_schema, output_description = output_rule(given.output, where)
    return Handler(
        service=service,
        name=given.name,
        type=type_,
        service_type=service_type,
        input_rules=rules,
        output_rule=rule,
        options=options,
        input_schema=input_schema,
        output_schema=output_schema,
        input_description=input_description,
        output_description=output_description,
        documentation=given.documentation,
        metadata=given.metadata or {},
    )


def _check_retention(options: Options, type_: HandlerType, where: str) -> None:
    is_run = type_ is HandlerType.WORKFLOW
    if is_run and options.idempotency_retention_ms is not None:
        raise _against(
            where,
            "field 'idempotencyRetention': expected nothing on the run handler of a workflow, whose key "
            "names its invocation; use 'workflowCompletionRetention'",
        )
    if not is_run and options.workflow_retention_ms is not None:
        raise _against(
            where,
            "field 'workflowCompletionRetention': expected nothing on any handler but the run handler of "
            "a workflow",
        )


# ---- options and numbers -------------------------------------------------------------------------


def _options(given: _Common, where: str) -> Options:
    def millis(name: str, value: int | None) -> int | None:
        if value is None:
            return None
        if not 0 <= value <= _HIGHEST_MILLIS:
            raise _unusable(_expected(where, name, "milliseconds from 0 up", value))
        return min(value, _LONGEST_MS)

    factor = given.retry_policy_exponentiation_factor
    if factor is not None and not (math.isfinite(factor) and factor > 0):
        raise _unusable(_expected(where, "retryPolicyExponentiationFactor", "a number > 0", factor))
    attempts = given.retry_policy_max_attempts
    if attempts is not None and attempts < 0:
        raise _unusable(_expected(where, "retryPolicyMaxAttempts", "a number from 0 up", attempts))
    exhausted = given.retry_policy_on_max_attempts
    if exhausted is not None and exhausted not in _ON_MAX_ATTEMPTS:
        raise _unusable(_expected(where, "retryPolicyOnMaxAttempts", "PAUSE or KILL", exhausted))
    eager_keys = given.eager_state_keys_whitelist
    return Options(
        inactivity_timeout_ms=millis("inactivityTimeout", given.inactivity_timeout),
        abort_timeout_ms=millis("abortTimeout", given.abort_timeout),
        journal_retention_ms=millis("journalRetention", given.journal_retention),
        idempotency_retention_ms=millis("idempotencyRetention", given.idempotency_retention),
        workflow_retention_ms=millis(
            "workflowCompletionRetention", given.workflow_completion_retention
        ),
        # names to preload make sense with lazy state alone
        lazy_state=True if eager_keys else given.enable_lazy_state,
        eager_keys=eager_keys or None,
        ingress_private=given.ingress_private,
        retry_initial_interval_ms=millis(
            "retryPolicyInitialInterval", given.retry_policy_initial_interval
        ),
        retry_factor=factor,
        retry_max_interval_ms=millis("retryPolicyMaxInterval", given.retry_policy_max_interval),
        retry_max_attempts=attempts if attempts is None else max(attempts, 1),
        retry_on_max_attempts=None if exhausted is None else _ON_MAX_ATTEMPTS[exhausted],
    )


# ---- errors --------------------------------------------------------------------------------------


def _decoded(decode: Any, raw: bytes, where: str) -> Any:
    try:
        return decode(raw)
    except msgspec.ValidationError as e:
        raise _unusable(f"{where}: {_misfit(str(e))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise _unusable(f"{where}: expected JSON ({e})") from None


def _misfit(text: str) -> str:
    """msgspec's sentence in our words: the field, what was expected, what was found."""
    match = _MISFIT.fullmatch(text)
    if match is None:
        return text
    expected, found, path = match.groups()
    expected = expected.removesuffix(" | null")
    field = f"field '{path}': " if path else ""
    return f"{field}expected {expected}, found {found}"


def _name_in(raw: bytes, kind: str, otherwise: str) -> str:
    """How to speak of the object ``raw``: by its name, where it has one."""
    try:
        given = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        given = None
    name = given.get("name") if isinstance(given, dict) else None
    parent = kind.rpartition(", ")[0]
    if isinstance(name, str):
        return f"{kind} {_shown(name)}"
    return f"{parent}, {otherwise}" if parent else otherwise


def _check_name(name: str, pattern: re.Pattern[str], where: str) -> None:
    if not pattern.fullmatch(name):
        raise _unusable(_expected(where, "name", f"a name like {pattern.pattern}", name))


def _expected(where: str, field: str, expected: str, found: object) -> str:
    shown = _shown(found) if isinstance(found, str) else "nothing" if found is None else found
    return f"{where}: field '{field}': expected {expected}, found {shown}"


def _shown(text: str) -> str:
    """A name of the other side, made harmless and short."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if len(text) > _SHOWN_CHARACTERS:
        text = text[:_SHOWN_CHARACTERS] + "…"
    return f"'{text}'"


def _unusable(message: str) -> DeploymentRefused:
    return coded(500, "META0013", f"unusable discovery response: {message}")


def _against(where: str, message: str) -> DeploymentRefused:
    return DeploymentRefused(400, f"{where}: {message}")
