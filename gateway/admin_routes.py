"""Raw request targets to admin operations: one table. Pure.

A trailing slash is not stripped and an empty segment never matches (admin 1). A route that is added
here is served under every prefix and counts in the answer to a wrong method.
"""

from typing import Final
from urllib.parse import unquote

import msgspec

from perdure.gateway.admin_models import NEWEST_API, OLDEST_API

ROUTES: Final[tuple[tuple[str, str, str], ...]] = (
    ("GET", "/health", "health"),
    ("GET", "/version", "version"),
    ("GET", "/cluster-health", "cluster_health"),
    ("POST", "/query", "query"),
    ("POST", "/code", "deploy_code"),
    ("POST", "/deployments", "register"),
    ("GET", "/deployments", "deployments"),
    ("GET", "/deployments/{deployment_id}", "deployment"),
    ("PATCH", "/deployments/{deployment_id}", "update_deployment"),
    ("PUT", "/deployments/{deployment_id}", "replace_deployment"),
    ("DELETE", "/deployments/{deployment_id}", "delete_deployment"),
    ("GET", "/services", "services"),
    ("GET", "/services/{service}", "service"),
    ("PATCH", "/services/{service}", "patch_service"),
    ("GET", "/services/{service}/handlers", "handlers"),
    ("GET", "/services/{service}/handlers/{handler}", "handler"),
    ("POST", "/services/{service}/state", "mutate_state"),
    ("GET", "/services/{service}/state/{key}", "state"),
    ("GET", "/invocations", "invocations"),
    ("GET", "/invocations/{invocation_id}", "invocation"),
    ("DELETE", "/invocations/{invocation_id}", "delete_invocation"),
    ("GET", "/invocations/{invocation_id}/journal", "journal"),
    ("GET", "/invocations/{invocation_id}/recording", "recording"),
    ("POST", "/invocations/{invocation_id}/fork", "fork"),
    ("GET", "/tree", "tree"),
    ("GET", "/metrics", "metrics"),
    ("PATCH", "/invocations/{invocation_id}/cancel", "operate"),
    ("PATCH", "/invocations/{invocation_id}/kill", "operate"),
    ("PATCH", "/invocations/{invocation_id}/purge", "operate"),
    ("PATCH", "/invocations/{invocation_id}/purge-journal", "operate"),
    ("PATCH", "/invocations/{invocation_id}/pause", "operate"),
    ("PATCH", "/invocations/{invocation_id}/resume", "operate"),
    ("PATCH", "/invocations/{invocation_id}/restart-as-new", "restart_as_new"),
    ("POST", "/internal/invocations_batch_operations/cancel", "batch"),
    ("POST", "/internal/invocations_batch_operations/kill", "batch"),
    ("POST", "/internal/invocations_batch_operations/purge", "batch"),
    ("POST", "/internal/invocations_batch_operations/purge-journal", "batch"),
    ("POST", "/internal/invocations_batch_operations/pause", "batch"),
    ("POST", "/internal/invocations_batch_operations/resume", "batch"),
    ("POST", "/internal/invocations_batch_operations/restart-as-new", "batch"),
    ("POST", "/internal/services/{service}/serdes/decode/{serde}", "serde"),
    ("POST", "/internal/services/{service}/serdes/encode/{serde}", "serde"),
    ("PUT", "/limits/rules", "put_rules"),
    ("POST", "/limits/rules/bulk-delete", "delete_rules"),
    ("POST", "/vqueues/{vqueue_id}/pause", "operate_vqueue"),
    ("POST", "/vqueues/{vqueue_id}/resume", "operate_vqueue"),
    ("POST", "/kafka-clusters", "create_cluster"),
    ("GET", "/kafka-clusters", "clusters"),
    ("GET", "/kafka-clusters/{cluster}", "cluster"),
    ("PATCH", "/kafka-clusters/{cluster}", "update_cluster"),
    ("DELETE", "/kafka-clusters/{cluster}", "delete_cluster"),
    ("POST", "/subscriptions", "create_subscription"),
    ("GET", "/subscriptions", "subscriptions"),
    ("GET", "/subscriptions/{subscription_id}", "subscription"),
    ("DELETE", "/subscriptions/{subscription_id}", "delete_subscription"),
    ("GET", "/schedules", "schedules"),
    ("POST", "/schedules", "create_schedule"),
    ("GET", "/schedules/{schedule}", "schedule"),
    ("PUT", "/schedules/{schedule}", "put_schedule"),
    ("DELETE", "/schedules/{schedule}", "delete_schedule"),
    ("PATCH", "/schedules/{schedule}/pause", "pause_schedule"),
    ("PATCH", "/schedules/{schedule}/resume", "resume_schedule"),
    ("POST", "/schedules/{schedule}/trigger", "trigger_schedule"),
    ("POST", "/schedules/{schedule}/backfill", "backfill_schedule"),
    ("GET", "/openapi", "openapi"),
    ("GET", "/services/{service}/openapi", "service_openapi"),
)


class Found(msgspec.Struct, frozen=True):
    """``name`` of the operation; ``arguments``: the decoded segments at the `{}`, then the last
    segment, where it is the verb of an operation with several."""

    name: str
    arguments: tuple[str, ...]


class WrongMethod(msgspec.Struct, frozen=True):
    allow: str  # the value of the header


class Unknown(msgspec.Struct, frozen=True):
    pass


class OldVersion(msgspec.Struct, frozen=True):
    message: str


_SPLIT: Final = tuple((method, path[1:].split("/"), name) for method, path, name in ROUTES)
_PREFIXES: Final = frozenset(f"v{each}" for each in range(OLDEST_API, NEWEST_API + 1))
_WITH_VERB: Final = frozenset({"operate", "batch"})  # one operation behind several paths
_OLD_PREFIX: Final = "v1"


def find(method: str, target: str) -> Found | WrongMethod | Unknown | OldVersion:
    """HEAD goes wherever GET goes."""
    segments = target.partition("?")[0].removeprefix("/").split("/")
    if segments[0] == _OLD_PREFIX:
        return OldVersion(
            "Unsupported Admin API version V1. This server supports versions between "
            f"V{OLDEST_API} and V{NEWEST_API}."
        )
    if segments[0] in _PREFIXES:
        segments = segments[1:]
    if method == "HEAD":
        method = "GET"
    allowed = []
    for each, pattern, name in _SPLIT:
        arguments = _match(pattern, segments)
        if arguments is None:
            continue
        if each == method:
            return Found(name, (*arguments, pattern[-1]) if name in _WITH_VERB else arguments)
        allowed.append(each)
    if not allowed:
        return Unknown()
    if "GET" in allowed:
        allowed.append("HEAD")
    return WrongMethod(",".join(allowed))


def is_v2(target: str) -> bool:
    """The oldest API differs in what a registration does by default (admin 1)."""
    return target.startswith("/v2/")


def _match(pattern: list[str], segments: list[str]) -> tuple[str, ...] | None:
    if len(pattern) != len(segments):
        return None
    arguments = []
    for expected, found in zip(pattern, segments, strict=True):
        if expected[0] == "{":
            # the key of a state may be empty, as the ingress accepts it
            if not found and expected != "{key}":
                return None
            arguments.append(unquote(found, errors="replace"))
        elif expected != found:
            return None
    return tuple(arguments)
