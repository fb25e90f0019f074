"""Virtual objects: handlers with a key, its state, and one exclusive handler at a time per key.

What options mean: `perdure.service.Service.handler`.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, TypeVar

from perdure.definition import Definition
from perdure.journal.errors import UsageError
from perdure.options import ContextManagers, HandlerOptions
from perdure.retry_policy import InvocationRetryPolicy
from perdure.serde import DEFAULT, Serde

T = TypeVar("T")


class VirtualObject(Definition):
    """An object type; each key of it is an object with state of its own.

    ``state_preload``: True gives all state to every attempt at its start, False gives none, a list
    gives the named values; ``enable_lazy_state`` is its deprecated negation.
    """

    def __init__(
        self,
        name: str,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        enable_lazy_state: bool | None = None,
        state_preload: bool | list[str] | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> None:
        options = HandlerOptions(
            metadata=metadata,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            enable_lazy_state=enable_lazy_state,
            state_preload=state_preload,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
            context_managers=invocation_context_managers,
        )
        super().__init__("object", name, description, options)

    def handler(
        self,
        name: str | None = None,
        kind: Literal["exclusive", "shared"] | None = "exclusive",
        accept: str = "application/json",
        content_type: str = "application/json",
        input_serde: Serde[Any] = DEFAULT,
        output_serde: Serde[Any] = DEFAULT,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        enable_lazy_state: bool | None = None,
        state_preload: bool | list[str] | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> Callable[[T], T]:
        """Decorate a handler. Shared ones run beside the exclusive one and cannot write state."""
        if kind not in ("exclusive", "shared", None):
            raise UsageError(
                f"a handler of {self.name} must be of kind 'exclusive' or 'shared', not {kind!r}"
            )
        options = HandlerOptions(
            metadata=metadata,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            enable_lazy_state=enable_lazy_state,
            state_preload=state_preload,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
            context_managers=invocation_context_managers,
        )
        serdes = (input_serde, output_serde)
        return self._decorator(kind or "exclusive", name, accept, content_type, serdes, options)
