"""Plain services: handlers without a key. What options mean: `perdure.service.Service.handler`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from perdure.definition import Definition
from perdure.options import ContextManagers, HandlerOptions
from perdure.retry_policy import InvocationRetryPolicy
from perdure.serde import DEFAULT, Serde

T = TypeVar("T")


class Service(Definition):
    """A service: any number of its invocations run at once.

    Options given here hold for every handler that does not say otherwise.
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
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
            context_managers=invocation_context_managers,
        )
        super().__init__("service", name, description, options)

    def handler(
        self,
        name: str | None = None,
        accept: str = "application/json",
        content_type: str = "application/json",
        input_serde: Serde[Any] = DEFAULT,
        output_serde: Serde[Any] = DEFAULT,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> Callable[[T], T]:
        """Decorate ``def`` or ``async def`` taking the context and at most one argument.

        - ``name``: None for the function's own
        - ``accept``: content type of requests, such as ``application/*``; ``content_type``: of answers
        - ``input_serde``, ``output_serde``: by default chosen by the type hints
        - ``inactivity_timeout``: how long without progress before it is suspended;
          ``abort_timeout``: how long after that before the attempt is cut off
        - ``journal_retention``, ``idempotency_retention``: what is kept after the end, and how long
        - ``ingress_private``: only other handlers may call it
        - ``invocation_context_managers``: factories; entered around every attempt, in order

        Raises ValueError for a name that is taken or a missing context, UsageError for other mistakes.
        """
        options = HandlerOptions(
            metadata=metadata,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
            context_managers=invocation_context_managers,
        )
        serdes = (input_serde, output_serde)
        return self._decorator(None, name, accept, content_type, serdes, options)
