"""The admin API's own OpenAPI 3.1 document: made of the table of routes and the types of bodies. Pure.

A route that nobody describes in gateway/openapi_operations.py is in the document all the same, with what
its path says. Rule: admin 10.
"""

import re
from collections import Counter
from typing import Any, Final

import msgspec

from perdure.gateway.openapi_operations import OPERATIONS, Described
from perdure.gateway.responses import AdminError

Json = dict[str, Any]

_ARGUMENT: Final = re.compile(r"\{(\w+)\}")
_REFERENCES: Final = "#/components/schemas/{name}"
_HIDDEN: Final = "/internal/"  # as in the official document


def admin_openapi(routes: tuple[tuple[str, str, str], ...], version: str) -> Json:
    """``routes``: method, path and name of the operation."""
    types = _types([name for _, _, name in routes])
    refs, schemas = msgspec.json.schema_components(
        types, schema_hook=_anything, ref_template=_REFERENCES
    )
    by_type = dict(zip(map(repr, types), refs, strict=True))
    counts = Counter(name for _, _, name in routes)
    paths: dict[str, Json] = {}
    for method, path, name in routes:
        unique = name if counts[name] == 1 else f"{name}_{_verb(path)}"
        described = OPERATIONS.get(name, Described(_summary(name)))
        operation = _operation(path, unique, described, by_type)
        paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Perdure Admin API",
            "version": version,
            "description": "Everything is also served under /v2, /v3 and /v4.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Refused": _refused(by_type)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _anything(type_: type) -> Json:
    """Of ``object``, the only type in bodies that msgspec does not know."""
    assert type_ is object
    return {"description": "any JSON value"}


def _types(names: list[str]) -> list[Any]:
    """Every type of a body, once."""
    found: dict[str, Any] = {repr(AdminError): AdminError}
    for name in names:
        described = OPERATIONS.get(name)
        if described is None:
            continue
        for each in (described.body, *described.answers.values()):
            if each is not None:
                found.setdefault(repr(each), each)
    return list(found.values())


def _operation(path: str, name: str, described: Described, by_type: dict[str, Json]) -> Json:
    parameters: list[Json] = [
        {
            "name": argument,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }
        for argument in _ARGUMENT.findall(path)
    ]
    parameters += [
        {"name": query, "in": "query", "required": False, "schema": schema}
        for query, schema in described.query.items()
    ]
    operation: Json = {
        "operationId": name,
        "summary": described.summary,
        "tags": [path.split("/")[1]],
        "responses": _responses(described, by_type),
    }
    if parameters:
        operation["parameters"] = parameters
    if described.body is not None:
        schema = by_type[repr(described.body)]
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"required": True, "content": content}
    if path.startswith(_HIDDEN):
        operation["x-internal"] = True
    return operation


def _responses(described: Described, by_type: dict[str, Json]) -> Json:
    responses: Json = {}
    for status, type_ in described.answers.items():
        answer: Json = {"description": described.summary}
        if type_ is not None:
            answer["content"] = {"application/json": {"schema": by_type[repr(type_)]}}
        if described.binary is not None and status == 200:
            content_type, meaning = described.binary
            schema = {"type": "string", "format": "binary", "description": meaning}
            answer["content"][content_type] = {"schema": schema}
        responses[str(status)] = answer
    if not described.answers:
        responses["2XX"] = {"description": described.summary}
    refused = {"$ref": "#/components/responses/Refused"}
    return responses | {"4XX": refused, "5XX": refused}


def _refused(by_type: dict[str, Json]) -> Json:
    return {
        "description": "Why the request was refused; plain text where it could not be read.",
        "content": {
            "application/json": {"schema": by_type[repr(AdminError)]},
            "text/plain": {"schema": {"type": "string"}},
        },
    }


def _verb(path: str) -> str:
    """The last part of a path that is no argument."""
    return next(each for each in reversed(path.split("/")) if "{" not in each).replace("-", "_")


def _summary(name: str) -> str:
    return name.replace("_", " ").capitalize()
