"""Calls and sends that a handler makes: from a decorated handler, or from names, to a command.

Checks here what would otherwise come back as an endless retry: a function that is no handler, a
missing or superfluous key, a bad delay, scope or header.
"""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure.context import ScopedContext
from perdure.futures import CallFuture, Sent
from perdure.handler import Handler, encode_argument, handler_from_callable
from perdure.journal.entries import Call, OneWayCall
from perdure.journal.errors import UsageError
from perdure.serde import BytesSerde, Serde, write_value

if TYPE_CHECKING:
    from perdure.attempt import HandlerAttempt

BYTES = BytesSerde()
_SCOPE = re.compile(r"[a-zA-Z0-9_.-]{1,36}\Z")
_LIMIT_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,36}(/[a-zA-Z0-9_.-]{1,36})?\Z")
_MILLISECOND = timedelta(milliseconds=1)


class Extras:
    """What a call may carry besides its target and argument."""

    __slots__ = ("headers", "idempotency_key", "limit_key", "scope")

    def __init__(
        self,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> None:
        if idempotency_key is not None and (
            not isinstance(idempotency_key, str) or not idempotency_key
        ):
            raise UsageError(
                f"an idempotency key is a str of at least one character, not {idempotency_key!r}"
            )
        self.idempotency_key = idempotency_key
        self.headers = _headers(headers) if headers else ()
        if scope is not None:
            check_scope(scope)
        if limit_key is not None:
            _check_limit_key(limit_key, scope)
        self.scope = scope
        self.limit_key = limit_key


def _headers(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    pairs = tuple(headers.items())
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"headers map str to str, got {name!r}: {value!r}")
    return pairs


def check_scope(scope: object) -> None:
    if not isinstance(scope, str) or not _SCOPE.match(scope):
        raise UsageError(f"a scope is 1 to 36 characters out of [a-zA-Z0-9_.-], not {scope!r}")


def _check_limit_key(limit_key: object, scope: str | None) -> None:
    if scope is None:
        raise UsageError("a limit key works only within a scope: give scope too")
    if not isinstance(limit_key, str) or not _LIMIT_KEY.match(limit_key):
        raise UsageError(
            "a limit key is one or two parts of 1 to 36 characters out of [a-zA-Z0-9_.-],"
            f" parted by '/', not {limit_key!r}"
        )


# ---- targets ------------------------------------------------------------------------------------


def resolve(tpe: Any, method: str) -> Handler[Any, Any]:
    """The handler behind the first argument of ``ctx.<method>``."""
    try:
        return handler_from_callable(tpe)
    except ValueError as e:
        shown = getattr(tpe, "__qualname__", None) or repr(tpe)
        raise UsageError(
            f"ctx.{method} got {shown}, which is not a handler: pass the function that is decorated"
            " with @service.handler(), or use ctx.generic_call with names"
        ) from e


def service_target(tpe: Any, method: str) -> Handler[Any, Any]:
    handler = resolve(tpe, method)
    kind = handler.service_tag.kind
    if kind != "service":
        right = method.replace("service", "workflow" if kind == "workflow" else "object")
        raise UsageError(
            f"{handler.qualified_name} is a handler of a {_KINDS[kind]}, which needs a key:"
            f" ctx.{right}(handler, key, arg) instead of ctx.{method}(handler, arg)"
        )
    return handler


def keyed_target(tpe: Any, key: Any, method: str) -> Handler[Any, Any]:
    handler = resolve(tpe, method)
    if handler.service_tag.kind == "service":
        right = method.replace("object", "service").replace("workflow", "service")
        raise UsageError(
            f"{handler.qualified_name} is a handler of a plain service, which has no key:"
            f" ctx.{right}(handler, arg) instead of ctx.{method}(handler, key, arg)"
        )
    if not isinstance(key, str):
        raise UsageError(
            f"ctx.{method} of {handler.qualified_name} needs a key of type str, not"
            f" {type(key).__qualname__}: ctx.{method}(handler, key, arg)"
        )
    return handler


_KINDS = {"object": "virtual object", "workflow": "workflow"}

# ---- commands -----------------------------------------------------------------------------------


def call(
    attempt: "HandlerAttempt", handler: Handler[Any, Any], key: str, arg: Any, extras: Extras
) -> CallFuture[Any]:
    parameter = attempt.encode(encode_argument(handler, arg))
    serde = handler.handler_io.output_serde
    return issue_call(
        attempt, handler.service_tag.name, handler.name, key, parameter, serde, extras
    )


def send(
    attempt: "HandlerAttempt",
    handler: Handler[Any, Any],
    key: str,
    arg: Any,
    delay: timedelta | None,
    extras: Extras,
) -> Sent:
    parameter = attempt.encode(encode_argument(handler, arg))
    return issue_send(
        attempt, handler.service_tag.name, handler.name, key, parameter, delay, extras
    )


def generic_argument(attempt: "HandlerAttempt", service: str, handler: str, arg: Any) -> bytes:
    return attempt.encode(write_value(BYTES, arg, "the argument of", f"{service}/{handler}"))


def issue_call(
    attempt: "HandlerAttempt",
    service: str,
    handler: str,
    key: str,
    parameter: bytes,
    serde: Serde[Any],
    extras: Extras,
) -> CallFuture[Any]:
    replay = attempt.replay
    id_handle = replay.new_completion_id()
    handle = replay.new_completion_id()
    attempt.issue(
        Call(
            id_handle,
            handle,
            service,
            handler,
            key,
            parameter,
            extras.headers,
            extras.idempotency_key,
            extras.scope,
            extras.limit_key,
        )
    )
    replay.track_call(id_handle)
    return CallFuture(attempt, handle, id_handle, serde, f"{service}/{handler}")


def issue_send(
    attempt: "HandlerAttempt",
    service: str,
    handler: str,
    key: str,
    parameter: bytes,
    delay: timedelta | None,
    extras: Extras,
) -> Sent:
    id_handle = attempt.replay.new_completion_id()
    attempt.issue(
        OneWayCall(
            id_handle,
            service,
            handler,
            key,
            parameter,
            _invoke_at_ms(attempt, delay),
            extras.headers,
            extras.idempotency_key,
            extras.scope,
            extras.limit_key,
        )
    )
    return Sent(attempt, id_handle, f"{service}/{handler}")


def _invoke_at_ms(attempt: "HandlerAttempt", delay: timedelta | None) -> int:
    if delay is None:
        return 0
    delay_ms = millis(delay, "send_delay")
    return attempt.sink.now_ms() + delay_ms if delay_ms else 0


def millis(span: object, what: str) -> int:
    """A timedelta of at least zero in milliseconds. Raises UsageError for anything else."""
    if not isinstance(span, timedelta):
        raise UsageError(
            f"{what} must be a timedelta, such as timedelta(seconds=5), not {type(span).__qualname__}"
        )
    if span < timedelta(0):
        raise UsageError(f"{what} must not be negative, got {span}")
    return span // _MILLISECOND


# ---- scopes -------------------------------------------------------------------------------------


class ScopedInvocation(ScopedContext):
    """Calls and sends of one handler within a scope."""

    def __init__(self, attempt: "HandlerAttempt", scope: str) -> None:
        check_scope(scope)
        self._attempt = attempt
        self._scope = scope

    def service_call(  # type: ignore[override]
        self,
        tpe: Any,
        arg: Any = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> CallFuture[Any]:
        self._attempt.check()
        extras = Extras(idempotency_key, headers, self._scope, limit_key)
        return call(self._attempt, service_target(tpe, "service_call"), "", arg, extras)

    def service_send(  # type: ignore[override]
        self,
        tpe: Any,
        arg: Any = None,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Sent:
        self._attempt.check()
        extras = Extras(idempotency_key, headers, self._scope, limit_key)
        target = service_target(tpe, "service_send")
        return send(self._attempt, target, "", arg, send_delay, extras)

    def object_call(  # type: ignore[override]
        self,
        tpe: Any,
        key: str,
        arg: Any = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> CallFuture[Any]:
        self._attempt.check()
        extras = Extras(idempotency_key, headers, self._scope, limit_key)
        return call(self._attempt, keyed_target(tpe, key, "object_call"), key, arg, extras)

    def object_send(  # type: ignore[override]
        self,
        tpe: Any,
        key: str,
        arg: Any = None,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Sent:
        self._attempt.check()
        extras = Extras(idempotency_key, headers, self._scope, limit_key)
        target = keyed_target(tpe, key, "object_send")
        return send(self._attempt, target, key, arg, send_delay, extras)

    workflow_call = object_call  # type: ignore[assignment]
    workflow_send = object_send  # type: ignore[assignment]
