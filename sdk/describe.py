"""Services as decorated, to services as the machines and the gateway see them (`journal.schema`).

What discovery of the same services would give: input and output rules, schemas, effective options.
Rules: service protocol 1.3, ingress 6, admin 5.1.
"""

from datetime import timedelta
from typing import Any

from perdure.definition import Definition
from perdure.handler import Handler
from perdure.journal import schema
from perdure.journal.effective import effective
from perdure.journal.schema import (
    Defaults,
    InputRule,
    OnMaxAttempts,
    Options,
    OutputRule,
    ServiceType,
)
from perdure.options import HandlerOptions
from perdure.retry_policy import InvocationRetryPolicy

_SERVICE_TYPES = {
    "service": ServiceType.SERVICE,
    "object": ServiceType.VIRTUAL_OBJECT,
    "workflow": ServiceType.WORKFLOW,
}
_HANDLER_TYPES = {
    None: schema.HandlerType.SERVICE,
    "exclusive": schema.HandlerType.EXCLUSIVE,
    "shared": schema.HandlerType.SHARED,
    "workflow": schema.HandlerType.WORKFLOW,
}
_NO_BODY = InputRule(None)


def describe(service: Definition, defaults: Defaults | None = None) -> schema.Service:
    """The schema of one service; options are handler's over service's over ``defaults``."""
    tag = service.service_tag
    as_given = schema.Service(
        name=tag.name,
        type=_SERVICE_TYPES[tag.kind],
        handlers={name: _handler(handler) for name, handler in service.handlers.items()},
        options=_options(service.options),
        documentation=tag.description,
        metadata=dict(tag.metadata or {}),
    )
    return effective(as_given, defaults or Defaults())


def _handler(handler: Handler[Any, Any]) -> schema.Handler:
    input_rules, input_schema, input_description = _input(handler)
    output_rule, output_schema, output_description = _output(handler)
    return schema.Handler(
        service=handler.service_tag.name,
        name=handler.name,
        type=_HANDLER_TYPES[handler.kind],
        service_type=_SERVICE_TYPES[handler.service_tag.kind],
        input_rules=input_rules,
        output_rule=output_rule,
        blocking=handler.blocking,
        options=_options(handler),
        input_schema=input_schema,
        output_schema=output_schema,
        input_description=input_description,
        output_description=output_description,
        documentation=handler.description,
        metadata=dict(handler.metadata or {}),
    )


# ---- options ------------------------------------------------------------------------------------


def _options(given: HandlerOptions | Handler[Any, Any]) -> Options:
    lazy_state, eager_keys = _resolved_preload(given.state_preload, given.enable_lazy_state)
    retry = given.invocation_retry_policy or InvocationRetryPolicy()
    return Options(
        inactivity_timeout_ms=_ms(given.inactivity_timeout),
        abort_timeout_ms=_ms(given.abort_timeout),
        journal_retention_ms=_ms(given.journal_retention),
        idempotency_retention_ms=_ms(given.idempotency_retention),
        workflow_retention_ms=_ms(given.workflow_retention),
        lazy_state=lazy_state,
        eager_keys=eager_keys,
        ingress_private=given.ingress_private,
        retry_initial_interval_ms=_ms(retry.initial_interval),
        retry_factor=retry.exponentiation_factor,
        retry_max_interval_ms=_ms(retry.max_interval),
        retry_max_attempts=retry.max_attempts,
        retry_on_max_attempts=(
            OnMaxAttempts(retry.on_max_attempts.capitalize()) if retry.on_max_attempts else None
        ),
    )


def _ms(span: timedelta | None) -> int | None:
    return None if span is None else span // timedelta(milliseconds=1)


def _resolved_preload(
    state_preload: bool | list[str] | None, enable_lazy_state: bool | None
) -> tuple[bool | None, tuple[str, ...] | None]:
    """Lazy state, and the names that are given at the start all the same. An empty list: none."""
    if state_preload is None:
        return enable_lazy_state, None
    if isinstance(state_preload, bool):
        return not state_preload, None
    return True, tuple(state_preload) or None


# ---- input and output ---------------------------------------------------------------------------


def _input(handler: Handler[Any, Any]) -> tuple[tuple[InputRule, ...], Any, str]:
    io = handler.handler_io
    if io.input_type is None or io.input_type.is_void:
        return (_NO_BODY,), None, "none"
    generate = io.input_type.generate_json_schema
    json_schema = generate() if generate is not None else None
    rules = (_NO_BODY, InputRule(io.accept, body_required=json_schema is not None))
    return rules, json_schema, _description(io.accept, json_schema)


def _output(handler: Handler[Any, Any]) -> tuple[OutputRule, Any, str]:
    io = handler.handler_io
    if io.output_type is None or io.output_type.is_void:
        return OutputRule(None), None, "none"
    generate = io.output_type.generate_json_schema
    json_schema = generate() if generate is not None else None
    return OutputRule(io.content_type), json_schema, _description(io.content_type, json_schema)


def _description(content_type: str, json_schema: Any) -> str:
    if isinstance(json_schema, dict):
        match json_schema.get("anyOf"):
            case [dict(present), {"type": "null"}]:  # an optional value reads like its type
                return _description(content_type, present)
        title, kind = json_schema.get("title"), json_schema.get("type")
        if isinstance(title, str):
            return f"JSON '{title}'"
        if isinstance(kind, str):
            return f"JSON {kind}"
    return content_type
