"""The OpenAPI 3.1 document of one service: how its handlers are called at the ingress. Pure.

Self-contained: schemas of handlers are moved into the components, and every reference with them.
Rules: admin 5.4, ingress 2 and 3.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from perdure.journal.schema import Handler, HandlerType, Service

Json = dict[str, Any]

_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9._-]")  # in the name of a component
_LITERAL: Final = frozenset({"const", "enum", "default", "example", "examples"})
_DEFINITIONS: Final = ("$defs", "definitions")
_BASES: Final = frozenset({"$id", "$schema", "$anchor", "$dynamicAnchor"})
_TAGS: Final = ("Request Response", "Send", "Attach", "Get Output")

_SCHEMAS: Final[Json] = {
    "RestateError": {
        "type": "object",
        "title": "RestateError",
        "required": ["message", "source"],
        "properties": {
            "code": {"type": "integer", "title": "error code"},
            "message": {"type": "string", "title": "error message"},
            "stacktrace": {"type": "string", "title": "where the handler failed"},
            "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            "source": {"type": "string", "title": "who says so: ingress or invocation"},
        },
    },
}
_ERROR: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/RestateError"}}}
_SENT: Final = {
    "type": "object",
    "required": ["invocationId", "status"],
    "properties": {
        "invocationId": {"type": "string"},
        "executionTime": {"type": "string", "format": "date-time"},
        "status": {"type": "string", "enum": ["Accepted", "PreviouslyAccepted"]},
    },
}
_RESPONSES: Final[Json] = {
    "GenericError": {"description": "The request was refused, or failed.", "content": _ERROR},
    "InvocationNotFoundError": {
        "description": "There is no such invocation.",
        "content": _ERROR,
    },
    "InvocationNotReadyError": {
        "description": "The invocation is not over yet.",
        "content": _ERROR,
    },
    "Send": {
        "description": "The invocation is stored and will be carried out.",
        "content": {"application/json": {"schema": _SENT}},
    },
}
_PARAMETERS: Final[Json] = {
    "delay": {
        "name": "delay",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "example": "10s",
        "description": "How long to wait before it begins: such as 10s, 1h 30m, or ISO 8601.",
    },
    "idempotencyKeyHeader": {
        "name": "idempotency-key",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "Requests with the same key are one invocation.",
    },
    "idempotencyKeyPath": {
        "name": "idempotencyKey",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "The idempotency key that the invocation was sent with.",
    },
    "key": {
        "name": "key",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "The key of the object or workflow, percent-encoded.",
    },
}


def service_openapi(service: Service, ingress_url: str) -> Json:
    info: Json = {"title": service.name, "version": str(service.revision)}
    if service.documentation is not None:
        info["description"] = service.documentation
    if service.metadata:
        info["x-restate-extensions"] = service.metadata
    paths: Json = {}
    schemas = dict(_SCHEMAS)
    used: set[str] = set()
    for handler in service.handlers.values():
        _add_handler(paths, schemas, used, handler)
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": ingress_url, "description": "Restate Ingress URL"}],
        "paths": paths,
        "tags": [{"name": each} for each in _TAGS],
        "components": {
            "schemas": schemas,
            "responses": _RESPONSES,
            "parameters": _PARAMETERS,
        },
    }


def _add_handler(paths: Json, schemas: Json, used: set[str], handler: Handler) -> None:
    is_run = handler.type is HandlerType.WORKFLOW
    target = f"{handler.service}/{{key}}" if handler.keyed else handler.service
    keyed = [_parameter("key")] if handler.keyed else []
    call = keyed if is_run else [*keyed, _parameter("idempotencyKeyHeader")]
    described = {} if handler.documentation is None else {"description": handler.documentation}
    body = _request_body(schemas, handler)
    output = _output(schemas, handler)
    failed = {"default": _response("GenericError")}
    paths[f"/restate/call/{target}/{handler.name}"] = {
        "post": {
            "operationId": _unique(used, handler.name),
            "summary": f"Call {handler.service}/{handler.name}, wait for its result",
            **described,
            "tags": [_TAGS[0]],
            "parameters": call,
            **body,
            "responses": {"200": output, **failed},
        }
    }
    paths[f"/restate/send/{target}/{handler.name}"] = {
        "post": {
            "operationId": _unique(used, f"{handler.name}Send"),
            "summary": f"Send to {handler.service}/{handler.name}, do not wait",
            **described,
            "tags": [_TAGS[1]],
            "parameters": [_parameter("delay"), *call],
            **body,
            "responses": {
                "200": _response("Send"),
                "202": _response("Send"),
                **failed,
            },
        }
    }
    if is_run:
        place, again = f"/restate/workflow/{target}", keyed
    else:
        place = f"/restate/invocation/{target}/{handler.name}/{{idempotencyKey}}"
        again = [*keyed, _parameter("idempotencyKeyPath")]
    for verb, tag, extra in (
        ("attach", _TAGS[2], {}),
        ("output", _TAGS[3], {"470": _response("InvocationNotReadyError")}),
    ):
        paths[f"{place}/{verb}"] = {
            "get": {
                "operationId": _unique(used, f"{handler.name}{verb.capitalize()}"),
                "summary": f"{tag} of {handler.service}/{handler.name}",
                "tags": [tag],
                "parameters": again,
                "responses": {
                    "200": output,
                    "404": _response("InvocationNotFoundError"),
                    **extra,
                    **failed,
                },
            }
        }


def _parameter(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


def _response(name: str) -> Json:
    return {"$ref": f"#/components/responses/{name}"}


def _unique(used: set[str], wanted: str) -> str:
    """Handlers may be called like what we make of another handler's name."""
    while wanted in used:
        wanted += "_"
    used.add(wanted)
    return wanted


def _request_body(schemas: Json, handler: Handler) -> Json:
    types = [each for each in handler.input_rules if each.content_type is not None]
    if not types:
        return {}
    media = _media(schemas, f"{handler.name}Request", handler.input_schema)
    required = all(each.body_required for each in types) and len(types) == len(handler.input_rules)
    content = {each.content_type: media for each in types}
    return {"requestBody": {"required": required, "content": content}}


def _output(schemas: Json, handler: Handler) -> Json:
    kind = handler.output_rule.content_type
    output: Json = {"description": "The result."}
    if kind is None and handler.output_schema is None:
        return output
    media = _media(schemas, f"{handler.name}Response", handler.output_schema)
    return output | {"content": {kind or "application/json": media}}


def _media(schemas: Json, name: str, schema: object) -> Json:
    """``schema`` as a component."""
    if schema is None:
        return {}
    place = _free(schemas, name)
    schemas[place] = {}  # taken, before anything of it is looked at
    schemas[place] = _moved(schemas, place, schema)
    return {"schema": {"$ref": f"#/components/schemas/{place}"}}


def _free(schemas: Json, name: str) -> str:
    return _unique(set(schemas), _ILLEGAL.sub("_", name))


def _moved(schemas: Json, place: str, schema: object) -> object:
    """A schema as the component ``place``, its definitions as components beside it."""
    if not isinstance(schema, Mapping):
        return schema if isinstance(schema, bool) else {}
    places: dict[str, str] = {"#": f"#/components/schemas/{place}"}
    found: list[tuple[str, object]] = []
    for group in _DEFINITIONS:
        definitions = schema.get(group)
        if not isinstance(definitions, Mapping):
            continue
        for name, definition in definitions.items():
            component = _free(schemas, f"{place}.{name}")
            schemas[component] = {}
            escaped = str(name).replace("~", "~0").replace("/", "~1")
            places[f"#/{group}/{escaped}"] = f"#/components/schemas/{component}"
            found.append((component, definition))

    def move(reference: str) -> str | None:
        return _reference(reference, places) if _exists(schema, reference) else None

    for component, definition in found:
        schemas[component] = _walk(definition, move)
    top = {name: value for name, value in schema.items() if name not in _DEFINITIONS}
    return _walk(top, move)


def _walk(node: object, move: Callable[[str], str | None]) -> object:
    if isinstance(node, list):
        return [_walk(each, move) for each in node]
    if not isinstance(node, Mapping):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str):
        moved = move(reference)
        if moved is None:
            return {}  # what is elsewhere can be anything
        others = {name: value for name, value in node.items() if name != "$ref"}
        rest = _walk(others, move)
        assert isinstance(rest, dict)
        return {"$ref": moved, **rest}
    return {
        name: value if name in _LITERAL else _walk(value, move)
        for name, value in node.items()
        if not (name in _BASES and isinstance(value, str))
    }


def _exists(schema: object, reference: str) -> bool:
    """Whether a reference leads somewhere in its own schema."""
    first, *parts = reference.split("/")
    if first != "#":
        return False
    for part in parts:
        name = part.replace("~1", "/").replace("~0", "~")
        if (
            isinstance(schema, list)
            and name.isascii()
            and name.isdigit()
            and int(name) < len(schema)
        ):
            schema = schema[int(name)]
        elif isinstance(schema, Mapping) and name in schema:
            schema = schema[name]
        else:
            return False
    return True


def _reference(reference: str, places: Mapping[str, str]) -> str | None:
    """Where what it names is now; None for what is moved nowhere."""
    if reference in places:
        return places[reference]
    for old, new in places.items():
        if old != "#" and reference.startswith(old + "/"):
            return new + reference.removeprefix(old)
    if reference.startswith("#/") and not reference.startswith(("#/$defs/", "#/definitions/")):
        return places["#"] + reference.removeprefix("#")
    return None
