"""The calling half of a handler's context: calls and sends by handler, by name, and within a scope.

Which commands they become: `perdure.outbound`.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure import outbound
from perdure.arguments import BYTES, Extras, check_scope
from perdure.calling import Calls
from perdure.context import ScopedContext
from perdure.futures import CallFuture, Sent

if TYPE_CHECKING:
    from perdure.attempt_core import AttemptCore


class Caller(Calls):
    """Calls and sends without a scope, carried out by ``_attempt``."""

    _attempt: "AttemptCore"

    def service_call(
        self,
        tpe: Any,
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> CallFuture[Any]:
        self._attempt.check()
        target = outbound.service_target(tpe, "service_call")
        return outbound.call(self._attempt, target, "", arg, Extras(idempotency_key, headers))

    def service_send(
        self,
        tpe: Any,
        arg: Any = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Sent:
        self._attempt.check()
        target = outbound.service_target(tpe, "service_send")
        extras = Extras(idempotency_key, headers)
        return outbound.send(self._attempt, target, "", arg, send_delay, extras)

    def object_call(
        self,
        tpe: Any,
        key: str,
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> CallFuture[Any]:
        self._attempt.check()
        target = outbound.keyed_target(tpe, key, "object_call")
        return outbound.call(self._attempt, target, key, arg, Extras(idempotency_key, headers))

    def object_send(
        self,
        tpe: Any,
        key: str,
        arg: Any = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Sent:
        self._attempt.check()
        target = outbound.keyed_target(tpe, key, "object_send")
        extras = Extras(idempotency_key, headers)
        return outbound.send(self._attempt, target, key, arg, send_delay, extras)

    workflow_call = object_call
    workflow_send = object_send

    def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> CallFuture[bytes]:
        attempt = self._attempt
        attempt.check()
        extras = Extras(idempotency_key, headers, scope, limit_key)
        parameter = outbound.generic_argument(attempt, service, handler, arg)
        return outbound.issue_call(attempt, service, handler, key or "", parameter, BYTES, extras)

    def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> Sent:
        attempt = self._attempt
        attempt.check()
        extras = Extras(idempotency_key, headers, scope, limit_key)
        parameter = outbound.generic_argument(attempt, service, handler, arg)
        return outbound.issue_send(
            attempt, service, handler, key or "", parameter, send_delay, extras
        )


class ScopedInvocation(ScopedContext):
    """Calls and sends of one handler within a scope."""

    def __init__(self, attempt: "AttemptCore", scope: str) -> None:
        check_scope(scope)
        self._attempt = attempt
        self._scope = scope

    def service_call(
        self,
        tpe: Any,
        arg: Any = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> CallFuture[Any]:
        self._attempt.check()
        extras = Extras(idempotency_key, headers, self._scope, limit_key)
        return outbound.call(
            self._attempt, outbound.service_target(tpe, "service_call"), "", arg, extras
        )

    def service_send(
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
        target = outbound.service_target(tpe, "service_send")
        return outbound.send(self._attempt, target, "", arg, send_delay, extras)

    def object_call(
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
        return outbound.call(
            self._attempt, outbound.keyed_target(tpe, key, "object_call"), key, arg, extras
        )

    def object_send(
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
        target = outbound.keyed_target(tpe, key, "object_send")
        return outbound.send(self._attempt, target, key, arg, send_delay, extras)

    workflow_call = object_call
    workflow_send = object_send
