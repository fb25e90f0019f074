"""The answers of the admin API as types, for its OpenAPI document and for the tests that hold it to them.

Fields in the order of admin 4 to 6; UNSET ones are left out where there is nothing to tell. Nothing is
computed here: what fills them is in gateway/admin_models.py and gateway/deployment_models.py.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

ServiceKind = Literal["Service", "VirtualObject", "Workflow"]
HandlerKind = Literal["Exclusive", "Shared", "Workflow"]
Status = Literal[
    "scheduled", "pending", "running", "backing-off", "suspended", "paused", "completed"
]


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: an object with exactly these fields."""


class Note(Shape, frozen=True, kw_only=True):
    code: str
    message: str


class HandlerRetryPolicy(Shape, frozen=True, kw_only=True):
    """What the handler sets itself."""

    max_attempts: int | None
    initial_interval: str | UnsetType = UNSET
    exponentiation_factor: float | UnsetType = UNSET
    max_interval: str | UnsetType = UNSET
    on_max_attempts: Literal["Pause", "Kill"] | UnsetType = UNSET


class RetryPolicy(Shape, frozen=True, kw_only=True):
    initial_interval: str
    exponentiation_factor: float
    max_attempts: int | None
    max_interval: str
    on_max_attempts: Literal["Pause", "Kill"]


class HandlerMetadata(Shape, frozen=True, kw_only=True):
    name: str
    ty: HandlerKind | UnsetType = UNSET
    documentation: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    idempotency_retention: str | UnsetType = UNSET
    journal_retention: str | UnsetType = UNSET
    inactivity_timeout: str | UnsetType = UNSET
    abort_timeout: str | UnsetType = UNSET
    enable_lazy_state: bool | UnsetType = UNSET
    public: bool
    input_description: str
    output_description: str
    input_json_schema: object = UNSET
    output_json_schema: object = UNSET
    retry_policy: HandlerRetryPolicy
    info: list[Note] | UnsetType = UNSET


class ServiceMetadata(Shape, frozen=True, kw_only=True):
    name: str
    ty: ServiceKind
    handlers: list[HandlerMetadata]
    documentation: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    deployment_id: str
    revision: int
    public: bool
    idempotency_retention: str
    workflow_completion_retention: str | UnsetType = UNSET
    journal_retention: str | UnsetType = UNSET
    inactivity_timeout: str
    abort_timeout: str
    enable_lazy_state: bool
    retry_policy: RetryPolicy
    info: list[Note] | UnsetType = UNSET


class Services(Shape, frozen=True, kw_only=True):
    services: list[ServiceMetadata]


class Handlers(Shape, frozen=True, kw_only=True):
    handlers: list[HandlerMetadata]


class RegisteredDeployment(Shape, frozen=True, kw_only=True):
    id: str
    services: list[ServiceMetadata]
    min_protocol_version: int
    max_protocol_version: int
    sdk_version: str | UnsetType = UNSET
    info: list[Note] | UnsetType = UNSET


class ServiceRevision(Shape, frozen=True, kw_only=True):
    name: str
    revision: int


class _Deployment(Shape, frozen=True, kw_only=True):
    id: str
    uri: str
    protocol_type: Literal["BidiStream", "RequestResponse"]
    http_version: Literal["HTTP/2.0", "HTTP/1.1"]
    additional_headers: dict[str, str] | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    created_at: str
    min_protocol_version: int
    max_protocol_version: int
    sdk_version: str | UnsetType = UNSET
    status: Literal["active", "draining", "drained"]


class Deployment(_Deployment, frozen=True, kw_only=True):
    services: list[ServiceRevision]


class DetailedDeployment(_Deployment, frozen=True, kw_only=True):
    services: list[ServiceMetadata]


class Deployments(Shape, frozen=True, kw_only=True):
    deployments: list[Deployment]


class Version(Shape, frozen=True, kw_only=True):
    version: str
    min_admin_api_version: int
    max_admin_api_version: int
    ingress_endpoint: str
    features: dict[str, bool]


class Members(Shape, frozen=True, kw_only=True):
    members: list[int]


class ClusterHealth(Shape, frozen=True, kw_only=True):
    cluster_name: str
    metadata_cluster_health: Members


# ---- ours: invocations, journals, state ----------------------------------------------------------


class Bytes(Shape, frozen=True, kw_only=True):
    """``json`` beside it where the bytes are JSON."""

    base64: str
    json: object = UNSET


class LastFailure(Shape, frozen=True, kw_only=True):
    type: str | None
    code: int
    message: str
    stacktrace: str
    related_command_index: int | None
    related_command_name: str
    related_command_type: str


class Invocation(Shape, frozen=True, kw_only=True):
    id: str
    service: str
    handler: str
    key: str | UnsetType = UNSET
    status: Status
    created_at: str
    modified_at: str
    entry_count: int
    command_count: int
    attempt_count: int
    invoked_by: str
    idempotency_key: str | UnsetType = UNSET
    scheduled_at: str | UnsetType = UNSET
    next_retry_at: str | UnsetType = UNSET
    awaiting: str | UnsetType = UNSET
    paused_reason: str | UnsetType = UNSET
    completed_at: str | UnsetType = UNSET
    result: dict[str, object] | UnsetType = UNSET
    last_failure: LastFailure | UnsetType = UNSET
    restarted_from: str | UnsetType = UNSET
    target: str


class Invocations(Shape, frozen=True, kw_only=True):
    invocations: list[Invocation]


class Journal(Shape, frozen=True, kw_only=True):
    """Entries with their `index`, `type`, `at` (when each was committed; not of entries that a release before
    that wrote) and the fields of their type."""

    entries: list[dict[str, object]]


class State(Shape, frozen=True, kw_only=True):
    state: dict[str, Bytes]
    version: str
