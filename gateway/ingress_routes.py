"""Raw request targets to routes of the ingress. Pure: no HTTP library, no I/O.

Splits the still percent-encoded path and decodes each segment at most once, so that a key may hold
slashes, dots and NUL. Whether a `{key}` is expected depends on the type of the service.
Rules: ingress 2; reliability S6, S19.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from perdure.gateway.responses import NOT_FOUND, Refusal
from perdure.journal.schema import Service, ServiceType


class Invocation(msgspec.Struct, frozen=True):
    """A call or a send. ``scope`` is set by the scoped routes, percent-decoded."""

    service: Service
    handler: str
    key: str | None
    one_way: bool
    query: str
    scope: str | None = None


class ById(msgspec.Struct, frozen=True):
    invocation_id: str
    attach: bool  # else: output


class ByIdempotencyKey(msgspec.Struct, frozen=True):
    service: str
    key: str | None
    handler: str
    idempotency_key: str
    attach: bool


class ByWorkflow(msgspec.Struct, frozen=True):
    service: str
    key: str
    attach: bool


class ByBody(msgspec.Struct, frozen=True):
    """The target stands in the JSON body; ``verb``: attach, output or lookup."""

    verb: str


class Awakeable(msgspec.Struct, frozen=True):
    awakeable_id: str
    resolve: bool  # else: reject


class Health(msgspec.Struct, frozen=True):
    pass


Route: TypeAlias = (
    Invocation | ById | ByIdempotencyKey | ByWorkflow | ByBody | Awakeable | Health | Refusal
)

_FEWEST_SEGMENTS, _MOST_SEGMENTS = 2, 7
_KINDS: Final = {
    ServiceType.SERVICE: ("service, without keys", "/:handler"),
    ServiceType.VIRTUAL_OBJECT: ("virtual object", "/:object-key/:handler"),
    ServiceType.WORKFLOW: ("workflow", "/:workflow-key/:handler"),
}
_SCHEMES = ("http://", "https://")

_BAD_CALL: Final = Refusal(
    400,
    "bad path, expected either /:service-name/:handler or /:object-name/:object-key/:handler",
)
_BAD_VERB: Final = Refusal(
    400,
    "bad path, expected /restate/call/:service/:handler, /restate/send/:service/:handler, "
    "/restate/scope/:scope/call/:service/:handler, /restate/attach/:invocation_id, "
    "/restate/output/:invocation_id, or /restate/lookup",
)
_BAD_INVOCATION: Final = Refusal(
    400,
    "bad path, expected either /restate/invocation/:invocation_id/output or "
    "/restate/invocation/:invocation_id/attach, or with :service/:handler/:idempotency_key or "
    ":object/:key/:handler/:idempotency_key in place of the id",
)
_BAD_WORKFLOW: Final = Refusal(
    400,
    "bad path, expected either /restate/workflow/:workflow_name/:workflow_key/output or "
    "/restate/workflow/:workflow_name/:workflow_key/attach",
)
_BAD_AWAKEABLE: Final = Refusal(
    400,
    "bad path, expected either /restate/awakeables/:id/resolve or /restate/awakeables/:id/reject",
)


def parse(target: str, services: Mapping[str, Service]) -> Route:
    """Where ``target`` (path and query as received) leads."""
    path, _, query = target.partition("?")
    if path[:1] != "/" or not target.isascii() or "#" in target:
        path, query = _unusual(path, query)
    path = path.strip("/")
    segments = path.split("/")
    if not _FEWEST_SEGMENTS <= len(segments) <= _MOST_SEGMENTS:
        if path == "health":  # beyond the spec: the same path tells of health on both ports
            return Health()
        return Refusal(400, f"bad path: /{path}")
    first = segments[0]
    service = services.get(first)
    if service is not None:
        return _open_call(segments, service, query)
    if first == "restate":
        return _reserved(segments, query, services)
    if first == "openapi":
        return NOT_FOUND
    return unknown_service(first)


def unknown_service(name: str) -> Refusal:
    return Refusal(
        404, f"service '{name}' not found, make sure to register the service before calling it."
    )


def _unusual(path: str, query: str) -> tuple[str, str]:
    """Targets in absolute form, with a fragment, or with bytes that are not UTF-8."""
    path, query = path.partition("#")[0], query.partition("#")[0]
    if path.startswith(_SCHEMES):
        path = "/" + path.partition("//")[2].partition("/")[2]
    return path.encode("utf-8", "backslashreplace").decode(), query


def _open_call(segments: list[str], service: Service, query: str) -> Invocation | Refusal:
    """`/{service}/{handler}` and `/{object}/{key}/{handler}`, with or without `/send`."""
    rest = len(segments) - (2 if service.type is ServiceType.SERVICE else 3)
    if rest == 0:
        one_way = False
    elif rest == 1 and segments[-1] == "send":
        one_way = True
    else:
        return _misshapen(service, _BAD_CALL, "", ", or that with /send behind it")
    if service.type is ServiceType.SERVICE:
        return Invocation(service, segments[1], None, one_way, query)
    key = segments[1]
    if "%" in key:
        decoded = _decode(key)
        if decoded is None:
            return _bad_segment("key", key)
        key = decoded
    return Invocation(service, segments[2], key, one_way, query)


def _misshapen(service: Service, refusal: Refusal, prefix: str, suffix: str = "") -> Refusal:
    """``refusal``, and how this very service is called."""
    kind, way = _KINDS[service.type]
    told = f"; {service.name} is a {kind}: {prefix}/{service.name}{way}{suffix}"
    return Refusal(refusal.status, refusal.message + told)


def _reserved(segments: list[str], query: str, services: Mapping[str, Service]) -> Route:
    match segments[1]:
        case "call" | "send" as verb:
            return _verb_call(segments[2:], verb == "send", None, query, services)
        case "scope":
            return _scoped(segments[2:], query, services)
        case "attach" | "output" as verb:
            if len(segments) == 2:
                return ByBody(verb)
            return ById(segments[2], verb == "attach") if len(segments) == 3 else _BAD_VERB
        case "lookup":
            return ByBody("lookup") if len(segments) == 2 else _BAD_VERB
        case "invocation":
            return _invocation(segments[2:], services)
        case "workflow":
            return _workflow(segments[2:])
        case "awakeables" | "a":
            return _awakeable(segments[2:])
        case "health":
            return Health()
        case _:
            return NOT_FOUND


def _verb_call(
    rest: list[str],
    one_way: bool,
    scope: str | None,
    query: str,
    services: Mapping[str, Service],
) -> Invocation | Refusal:
    if not rest:
        return _BAD_VERB
    service = services.get(rest[0])
    if service is None:
        return unknown_service(rest[0])
    is_plain = service.type is ServiceType.SERVICE
    if len(rest) != (2 if is_plain else 3):
        return _misshapen(service, _BAD_VERB, "/restate/call")
    if is_plain:
        return Invocation(service, rest[1], None, one_way, query, scope)
    key = _decode(rest[1])
    if key is None:
        return _bad_segment("key", rest[1])
    return Invocation(service, rest[2], key, one_way, query, scope)


def _scoped(rest: list[str], query: str, services: Mapping[str, Service]) -> Invocation | Refusal:
    if len(rest) < 2 or rest[1] not in ("call", "send"):
        return _BAD_VERB
    scope = _decode(rest[0])
    if scope is None:
        return _bad_segment("scope", rest[0])
    return _verb_call(rest[2:], rest[1] == "send", scope, query, services)


def _invocation(rest: list[str], services: Mapping[str, Service]) -> Route:
    if len(rest) < 2:
        return _BAD_INVOCATION
    verb = rest[-1]
    if len(rest) == 2:
        return ById(rest[0], verb == "attach") if verb in ("attach", "output") else NOT_FOUND
    service = services.get(rest[0])
    if service is None:
        return unknown_service(rest[0])
    if len(rest) != (4 if service.type is ServiceType.SERVICE else 5):
        return _BAD_INVOCATION
    if verb not in ("attach", "output"):
        return NOT_FOUND
    key = None
    if service.type is not ServiceType.SERVICE:
        key = _decode(rest[1])
        if key is None:
            return _bad_segment("key", rest[1])
    # the idempotency key is taken as it stands, percent signs included
    return ByIdempotencyKey(service.name, key, rest[-3], rest[-2], verb == "attach")


def _workflow(rest: list[str]) -> Route:
    if len(rest) != 3:
        return _BAD_WORKFLOW
    name, raw_key, verb = rest
    if verb not in ("attach", "output"):
        return NOT_FOUND
    key = _decode(raw_key)
    return _bad_segment("key", raw_key) if key is None else ByWorkflow(name, key, verb == "attach")


def _awakeable(rest: list[str]) -> Route:
    if len(rest) != 2:
        return _BAD_AWAKEABLE
    if rest[1] not in ("resolve", "reject"):
        return NOT_FOUND
    return Awakeable(rest[0], rest[1] == "resolve")


def _decode(segment: str) -> str | None:
    """One segment, percent-decoded once; None where it is not UTF-8. A `+` stays a plus."""
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None


def _bad_segment(what: str, segment: str) -> Refusal:
    return Refusal(
        400, f"bad {what} '{segment}': after percent-decoding it is not valid UTF-8, encode it anew"
    )


def query_value(query: str, name: str) -> str | None:
    """The first value of a parameter; names compare without case, `+` is a space."""
    for each, value in parse_qsl(query, keep_blank_values=True):
        if each.lower() == name:
            return value
    return None
