"""What a manifest says of a handler's input and output: rules for the ingress, schemas, descriptions. Pure.

Rules: service protocol 1.3, ingress 6, admin 5.1.
"""

import re
from typing import Final

import msgspec

from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.journal.schema import InputRule, OutputRule

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE: Final = re.compile(rf"{_TOKEN}/{_TOKEN}")
_PARAMETERS: Final = re.compile(r"[\t\x20-\x7e]*")
_NO_BODY: Final = InputRule(None)
_JSON: Final = "application/json"
_ANY: Final = "*/*"


class Input(msgspec.Struct, frozen=True, rename="camel"):
    required: bool | None = None
    content_type: str | None = None
    json_schema: object = None


class Output(msgspec.Struct, frozen=True, rename="camel"):
    content_type: str | None = None
    set_content_type_if_empty: bool | None = None
    json_schema: object = None


def input_rules(given: Input | None, where: str) -> tuple[tuple[InputRule, ...], object, str]:
    """Rules, JSON schema and description. Absent: anything. `{}`: nothing. Raises DeploymentRefused."""
    if given is None:
        return (_NO_BODY, InputRule(_ANY)), None, _ANY
    schema = _schema(given.json_schema, where, "input")
    pattern = given.content_type
    if pattern is None:
        if not given.required:
            return (_NO_BODY,), None, "none"
        pattern = _ANY  # something is required, and nothing said of its type
    pattern = _content_type(pattern, where, "input")
    rule = InputRule(pattern, body_required=schema is not None)
    rules = (rule,) if given.required else (_NO_BODY, rule)
    return rules, schema, _description(pattern, schema)


def output_rule(given: Output | None, where: str) -> tuple[OutputRule, object, str]:
    """Rule, JSON schema and description. Absent: JSON. Raises DeploymentRefused."""
    if given is None:
        return OutputRule(_JSON), None, _JSON
    schema = _schema(given.json_schema, where, "output")
    if given.content_type is None:
        return OutputRule(None), None, "none"
    kind, semicolon, parameters = given.content_type.partition(";")
    if not _TYPE.fullmatch(kind.strip()) or not _PARAMETERS.fullmatch(parameters):
        raise _bad_type(given.content_type, where, "output", "type/sub")
    full = kind.strip() + semicolon + parameters.rstrip()
    rule = OutputRule(full, set_if_empty=bool(given.set_content_type_if_empty))
    shown = _description(full, schema)
    return rule, schema, f"optional {full}" if rule.set_if_empty and shown == full else shown


def _content_type(text: str, where: str, field: str) -> str:
    """Without parameters; `*/*` and `type/*` are patterns, `*/sub` is none."""
    kind = text.partition(";")[0].strip()
    first, _, second = kind.partition("/")
    is_pattern = kind == _ANY or (second == "*" and "*" not in first)
    if not _TYPE.fullmatch(kind) or ("*" in kind and not is_pattern):
        raise _bad_type(text, where, field, "type/sub, type/* or */*")
    return kind


def _bad_type(text: str, where: str, field: str, expected: str) -> DeploymentRefused:
    shown = "".join(c if c.isprintable() else "?" for c in text[:64])
    return DeploymentRefused(
        400, f"{where}: field '{field}.contentType': expected {expected}, found '{shown}'"
    )


def _schema(given: object, where: str, field: str) -> object:
    """A JSON schema is an object or a boolean; the ingress never evaluates it."""
    if given is None or isinstance(given, dict | bool):
        return given
    found = "list" if isinstance(given, list) else type(given).__name__
    raise DeploymentRefused(
        400, f"{where}: field '{field}.jsonSchema': expected an object or a boolean, found {found}"
    )


def _description(content_type: str, schema: object) -> str:
    if isinstance(schema, dict):
        title, kind = schema.get("title"), schema.get("type")
        if isinstance(title, str):
            return f"JSON '{title}'"
        if isinstance(kind, str):
            return f"JSON {kind}"
    return content_type
