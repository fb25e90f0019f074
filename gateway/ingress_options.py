"""The small grammars of a request's options: delay, scope, limit key, target bodies. Pure.

Each function returns a value or a Refusal. Rules: ingress 4, 7.1 and 10.
"""

import string
from typing import Final, TypeAlias

import msgspec

from perdure.gateway.durations import parse_duration_ms
from perdure.gateway.ingress_routes import query_value
from perdure.gateway.responses import Refusal
from perdure.journal import entries

_SCOPE_ALPHABET: Final = frozenset(string.ascii_letters + string.digits + "_.-")
_LONGEST_SCOPE_BYTES: Final = 36
_MOST_LIMIT_KEY_PARTS: Final = 2
_BAD_DELAY: Final = "bad delay query parameter, must be a ISO8601 duration: "

SCOPES_ARE_OFF: Final = Refusal(400, "scoped invocations require vqueues to be enabled")
LIMIT_KEY_WITHOUT_SCOPE: Final = Refusal(400, "limit-key requires a scope to be set")


def delay_ms(query: str) -> int | Refusal | None:
    """The `delay` parameter; None where there is none."""
    value = query_value(query, "delay")
    if value is None:
        return None
    # The official server refuses a bare integer; restate.client of PyPI sends one, in milliseconds.
    if value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    try:
        return parse_duration_ms(value)
    except ValueError as e:
        return Refusal(400, _BAD_DELAY + str(e))


def scope_error(scope: str) -> str | None:
    """Why ``scope`` cannot be one."""
    if not scope:
        return "value cannot be empty"
    size = len(scope.encode())
    if size > _LONGEST_SCOPE_BYTES:
        return f"value too long: {size} bytes (max {_LONGEST_SCOPE_BYTES})"
    if not _SCOPE_ALPHABET.issuperset(scope):
        return "value contains characters outside the allowed set [a-zA-Z0-9_.-]"
    return None


def check_scope(scope: str) -> Refusal | None:
    reason = scope_error(scope)
    return Refusal(400, f"bad scope value: {reason}") if reason else None


def check_limit_key(header: str | None, query: str) -> Refusal | None:
    """Limit keys are checked although nothing can use them while scopes are off."""
    text = header
    if text is None and query:
        text = query_value(query, "limit-key")
    if not text:
        return None
    parts = text.removesuffix("/").split("/")
    if len(parts) > _MOST_LIMIT_KEY_PARTS:
        most = _MOST_LIMIT_KEY_PARTS
        return _bad_limit_key(f"too many path components in the given limit-key (max {most})")
    for part in parts:
        reason = scope_error(part)
        if reason:
            return _bad_limit_key(f"invalid limit-key component: {reason}")
    return LIMIT_KEY_WITHOUT_SCOPE


def _bad_limit_key(reason: str) -> Refusal:
    return Refusal(400, f"invalid limit-key: {reason}")


# ---- the bodies of /restate/attach, /output and /lookup ------------------------------------------


class _Workflow(msgspec.Struct, frozen=True, tag_field="target", tag="workflow", rename="camel"):
    workflow_name: str
    workflow_key: str
    scope: str | None = None


class _Idempotent(
    msgspec.Struct, frozen=True, tag_field="target", tag="idempotentInvocation", rename="camel"
):
    service: str
    handler: str
    idempotency_key: str
    key: str | None = None
    scope: str | None = None


class _Invocation(
    msgspec.Struct, frozen=True, tag_field="target", tag="invocation", rename="camel"
):
    invocation_id: str


_decode_target = msgspec.json.Decoder(_Workflow | _Idempotent | _Invocation).decode

Target: TypeAlias = entries.AttachTarget


def parse_target(verb: str, body: bytes) -> Target | Refusal:
    """The target that the body describes. Malformed: 500, as the official server answers."""
    try:
        target = _decode_target(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        what = "lookup" if verb == "lookup" else "request"
        return Refusal(500, f"cannot read body: invalid {what} body: {e}")
    if isinstance(target, _Invocation):
        return entries.ById(target.invocation_id)
    if target.scope is not None:
        refusal = check_scope(target.scope)
        if refusal is not None:
            return refusal
    if isinstance(target, _Workflow):
        return entries.ByWorkflow(target.workflow_name, target.workflow_key, target.scope)
    return entries.ByIdempotencyKey(
        target.service, target.key, target.handler, target.idempotency_key, target.scope
    )
