"""Calls and sends that a handler makes: from a decorated handler, or from names, to a command.

Targets are checked here, as a wrong one would come back as an endless retry: a function that is no
handler, a missing or superfluous key.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure.arguments import BYTES, Extras, millis
from perdure.futures import CallFuture, Sent
from perdure.handler import Handler, encode_argument, handler_from_callable
from perdure.journal.entries import Call, OneWayCall
from perdure.journal.errors import UsageError
from perdure.serde import Serde, write_value

if TYPE_CHECKING:
    from perdure.attempt_core import AttemptCore


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
    attempt: "AttemptCore", handler: Handler[Any, Any], key: str, arg: Any, extras: Extras
) -> CallFuture[Any]:
    parameter = attempt.encode(encode_argument(handler, arg))
    serde = handler.handler_io.output_serde
    return issue_call(
        attempt, handler.service_tag.name, handler.name, key, parameter, serde, extras
    )


def send(
    attempt: "AttemptCore",
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


def generic_argument(attempt: "AttemptCore", service: str, handler: str, arg: Any) -> bytes:
    return attempt.encode(write_value(BYTES, arg, "the argument of", f"{service}/{handler}"))


def issue_call(
    attempt: "AttemptCore",
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
    target = f"{service}/{handler}"
    attempt.unawaited[handle] = target
    return CallFuture(attempt, handle, id_handle, serde, target)


def issue_send(
    attempt: "AttemptCore",
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


def _invoke_at_ms(attempt: "AttemptCore", delay: timedelta | None) -> int:
    if delay is None:
        return 0
    delay_ms = millis(delay, "send_delay")
    return attempt.sink.now_ms() + delay_ms if delay_ms else 0
