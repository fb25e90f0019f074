"""The JSON of the admin API: what the engine knows, as operators and the official tools read it. Pure.

Field order is part of the contract where admin 5.1 names one. The shapes of invocations, journals
and state are ours (the official API answers these with SQL alone).
"""

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from perdure.gateway.durations import format_duration, rfc3339_ns
from perdure.journal.entries import Entry, Failure, Outcome, type_name
from perdure.journal.records import target_text
from perdure.journal.requests import InvocationInfo
from perdure.journal.schema import Defaults, Handler, HandlerType, Options, Service, ServiceType
from perdure.journal.state_version import state_version

Infos: TypeAlias = Mapping[str, list[dict[str, str]]]

_FEATURES: Final = (
    "vqueues", "protocol_v7", "scoped_virtual_objects", "kafka_scope", "invoker_yield",
    "unique_random_seeds", "vqueues_migration_skip_completed", "vqueues_async_refill",
    "vqueue_obsolete_cleanup", "scoped_state_table_migration", "scoped_promise_table_migration",
    "preflight_invocation_termination_retention",
)  # fmt: skip
OLDEST_API, NEWEST_API = 2, 4


def version_json(version: str, ingress_url: str) -> dict[str, object]:
    return {
        "version": version,
        "min_admin_api_version": OLDEST_API,
        "max_admin_api_version": NEWEST_API,
        "ingress_endpoint": ingress_url,
        "features": dict.fromkeys(_FEATURES, False),
    }


# ---- services ------------------------------------------------------------------------------------


def service_json(
    service: Service, defaults: Defaults, infos: Infos = MappingProxyType({})
) -> dict[str, object]:
    """ServiceMetadata: effective values, the service's own before the server's (admin 5.1)."""

    def noted(name: str) -> dict[str, object]:
        return {"info": infos[name]} if name in infos else {}

    options = service.options
    return {
        "name": service.name,
        "ty": service.type.value,
        "handlers": [_handler_json(each) | noted(each.name) for each in service.handlers.values()],
        **_described(service.documentation, service.metadata),
        "deployment_id": service.deployment_id,
        "revision": service.revision,
        "public": not options.ingress_private,
        **_effective_options(service.type, options, defaults),
        "retry_policy": _effective_retry(options, defaults),
        **noted(""),
    }


def _effective_options(
    type_: ServiceType, options: Options, defaults: Defaults
) -> dict[str, object]:
    def duration(name: str) -> str:
        own = getattr(options, name)
        return format_duration(getattr(defaults, name) if own is None else own)

    shown: dict[str, object] = {"idempotency_retention": duration("idempotency_retention_ms")}
    if type_ is ServiceType.WORKFLOW:
        shown["workflow_completion_retention"] = duration("workflow_retention_ms")
    journal = duration("journal_retention_ms")
    if journal != "0s" or options.journal_retention_ms is not None:
        # the official server leaves out a default of none
        shown["journal_retention"] = journal
    shown["inactivity_timeout"] = duration("inactivity_timeout_ms")
    shown["abort_timeout"] = duration("abort_timeout_ms")
    lazy = options.lazy_state
    shown["enable_lazy_state"] = defaults.lazy_state if lazy is None else lazy
    return shown


def _effective_retry(options: Options, defaults: Defaults) -> dict[str, object]:
    retry = defaults.retry
    own = _retry_options(options)
    return {
        "initial_interval": format_duration(retry.initial_interval_ms),
        "exponentiation_factor": retry.factor,
        "max_attempts": retry.max_attempts,
        "max_interval": format_duration(retry.max_interval_ms),
        "on_max_attempts": retry.on_max_attempts.value,
    } | own


def _retry_options(options: Options) -> dict[str, object]:
    """The overridden fields of a retry policy."""
    first, longest = options.retry_initial_interval_ms, options.retry_max_interval_ms
    last = options.retry_on_max_attempts
    shown = {
        "initial_interval": None if first is None else format_duration(first),
        "exponentiation_factor": options.retry_factor,
        "max_attempts": options.retry_max_attempts,
        "max_interval": None if longest is None else format_duration(longest),
        "on_max_attempts": None if last is None else last.value,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _handler_json(handler: Handler) -> dict[str, object]:
    """HandlerMetadata: only what the handler itself sets, beside what everyone has."""
    shown: dict[str, object] = {"name": handler.name}
    if handler.type is not HandlerType.SERVICE:
        shown["ty"] = handler.type.value
    shown |= _described(handler.documentation, handler.metadata)
    options = handler.options
    for name in (
        "idempotency_retention",
        "journal_retention",
        "inactivity_timeout",
        "abort_timeout",
    ):
        own = getattr(options, name + "_ms")
        if own is not None:
            shown[name] = format_duration(own)
    if options.lazy_state is not None:
        shown["enable_lazy_state"] = options.lazy_state
    shown["public"] = handler.public
    shown["input_description"] = handler.input_description
    shown["output_description"] = handler.output_description
    if handler.input_schema is not None:
        shown["input_json_schema"] = handler.input_schema
    if handler.output_schema is not None:
        shown["output_json_schema"] = handler.output_schema
    shown["retry_policy"] = {"max_attempts": None} | _retry_options(options)
    return shown


def _described(documentation: str | None, metadata: dict[str, str]) -> dict[str, object]:
    shown: dict[str, object] = {}
    if documentation is not None:
        shown["documentation"] = documentation
    if metadata:
        shown["metadata"] = metadata
    return shown


# ---- invocations ---------------------------------------------------------------------------------


def invocation_json(info: InvocationInfo) -> dict[str, object]:
    """Unset fields are left out; times become RFC 3339."""
    shown: dict[str, object] = {}
    for name, value in msgspec.structs.asdict(info).items():
        if value is None or value == "":
            continue
        if name == "key":
            shown["key"] = value
        elif name == "result":
            shown["result"] = outcome_json(value)
        elif name.endswith("_at_ms"):
            shown[name.removesuffix("_ms")] = rfc3339_ns(value)
        else:
            shown[name] = value
    if info.key is not None:
        shown["key"] = info.key  # also when it is empty
    shown["target"] = target_text(info.service, info.key, info.handler)
    return shown


def outcome_json(outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, Failure):
        return {"failure": _plain(outcome)}
    return {"value": value_json(outcome.content)}


def entry_json(index: int, entry: Entry, at_ms: int | None = None) -> dict[str, object]:
    """One journal entry: its index among all entries, its type, when it was committed, its fields."""
    fields = {
        each: _plain(getattr(entry, each))
        for each in entry.__struct_fields__
        if getattr(entry, each) not in ("", None)
    }
    at = {} if at_ms is None else {"at": rfc3339_ns(at_ms)}
    return {"index": index, "type": type_name(entry), **at, **fields}


def _plain(value: Any) -> Any:
    """Structs to objects, bytes to both of their readings."""
    match value:
        case bytes():
            return value_json(value)
        case msgspec.Struct():
            fields = {each: _plain(getattr(value, each)) for each in value.__struct_fields__}
            return {"type": value.__struct_config__.tag, **fields}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def value_json(value: bytes) -> dict[str, object]:
    """`base64` always; `json` beside it, as it was written, where the bytes are JSON."""
    shown: dict[str, object] = {"base64": base64.b64encode(value).decode()}
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return shown
    return shown | {"json": msgspec.Raw(value)}


# ---- state ---------------------------------------------------------------------------------------


def state_json(state: dict[str, bytes]) -> dict[str, object]:
    values = {name: value_json(state[name]) for name in sorted(state)}
    return {"state": values, "version": state_version(state)}
