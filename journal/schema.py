"""What is deployed: services, their handlers and options, as the machines and the gateway see them.

Built by the SDK from decorated functions, or from a deployment's manifest. Durations are
milliseconds; None means: the server's default (``Defaults``). Source: service protocol 1.3, 5.9, 5.10.
"""

from enum import StrEnum

import msgspec


class ServiceType(StrEnum):
    SERVICE = "Service"
    VIRTUAL_OBJECT = "VirtualObject"
    WORKFLOW = "Workflow"


class HandlerType(StrEnum):
    """SERVICE is a plain service's handler; WORKFLOW the run handler, the others as named."""

    SERVICE = "Service"
    EXCLUSIVE = "Exclusive"
    SHARED = "Shared"
    WORKFLOW = "Workflow"


class OnMaxAttempts(StrEnum):
    PAUSE = "Pause"
    KILL = "Kill"


class RetryPolicy(msgspec.Struct, frozen=True):
    """Exponential. ``max_attempts`` counts the first one; None: for ever."""

    initial_interval_ms: int = 500
    factor: float = 2.0
    max_interval_ms: int = 60_000
    max_attempts: int | None = 70
    on_max_attempts: OnMaxAttempts = OnMaxAttempts.PAUSE


class Options(msgspec.Struct, frozen=True):
    """Options of a service or a handler; None: take the next outer level's."""

    inactivity_timeout_ms: int | None = None
    abort_timeout_ms: int | None = None
    journal_retention_ms: int | None = None
    idempotency_retention_ms: int | None = None
    workflow_retention_ms: int | None = None
    lazy_state: bool | None = None
    eager_keys: tuple[str, ...] | None = None  # with lazy state: preload only these
    ingress_private: bool | None = None
    retry_initial_interval_ms: int | None = None
    retry_factor: float | None = None
    retry_max_interval_ms: int | None = None
    retry_max_attempts: int | None = None
    retry_on_max_attempts: OnMaxAttempts | None = None


class InputRule(msgspec.Struct, frozen=True):
    """One way a request may look; a request passes when any rule passes (ingress 6.1).

    ``content_type`` None: no body and no content type allowed. Patterns: ``*/*``, ``type/*``, ``type/sub``.
    """

    content_type: str | None
    body_required: bool = False


class OutputRule(msgspec.Struct, frozen=True):
    content_type: str | None = "application/json"
    set_if_empty: bool = False


class Handler(msgspec.Struct, frozen=True):
    """One handler with its effective options: handler over service over ``Defaults``."""

    service: str
    name: str
    type: HandlerType
    service_type: ServiceType
    input_rules: tuple[InputRule, ...] = (InputRule(None), InputRule("*/*"))
    output_rule: OutputRule = OutputRule()
    public: bool = True
    inactivity_timeout_ms: int = 60_000
    abort_timeout_ms: int = 600_000
    journal_retention_ms: int = 86_400_000
    idempotency_retention_ms: int = 86_400_000
    workflow_retention_ms: int = 86_400_000
    lazy_state: bool = False
    eager_keys: tuple[str, ...] | None = None
    retry: RetryPolicy = RetryPolicy()
    blocking: bool = False  # a plain ``def`` that runs in the thread pool
    options: Options = Options()  # as given on the handler, for the admin API
    input_schema: object = None  # JSON schema, or None
    output_schema: object = None
    input_description: str = "*/*"
    output_description: str = "*/*"
    documentation: str | None = None
    metadata: dict[str, str] = {}

    @property
    def keyed(self) -> bool:
        return self.service_type is not ServiceType.SERVICE

    @property
    def may_write_state(self) -> bool:
        return self.type in (HandlerType.EXCLUSIVE, HandlerType.WORKFLOW)


class Service(msgspec.Struct, frozen=True):
    name: str
    type: ServiceType
    handlers: dict[str, Handler]
    options: Options = Options()
    documentation: str | None = None
    metadata: dict[str, str] = {}
    revision: int = 1
    deployment_id: str = ""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds where neither handler nor service says otherwise (settings, `[handlers]`)."""

    inactivity_timeout_ms: int = 60_000
    abort_timeout_ms: int = 600_000
    journal_retention_ms: int = 86_400_000
    idempotency_retention_ms: int = 86_400_000
    workflow_retention_ms: int = 86_400_000
    lazy_state: bool = False
    retry: RetryPolicy = RetryPolicy()
