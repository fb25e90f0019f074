"""Options of services and handlers, and the checks on them and on names, made when they are declared.

A mistake is refused here, at import time, with the option's name and what it may be.
"""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from perdure.journal.errors import UsageError
from perdure.retry_policy import InvocationRetryPolicy

ContextManagers: TypeAlias = list[Callable[[], AbstractAsyncContextManager[None]]]

_HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*\Z")
_SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*\Z")


@dataclass(kw_only=True)
class HandlerOptions:
    """What may be said on a handler or a service. None: as the next outer level says."""

    metadata: dict[str, str] | None = None
    inactivity_timeout: timedelta | None = None
    abort_timeout: timedelta | None = None
    journal_retention: timedelta | None = None
    idempotency_retention: timedelta | None = None
    workflow_retention: timedelta | None = None
    enable_lazy_state: bool | None = None
    state_preload: bool | list[str] | None = None
    ingress_private: bool | None = None
    invocation_retry_policy: InvocationRetryPolicy | None = None
    context_managers: ContextManagers | None = None


def check_handler_name(where: str, name: str) -> None:
    """Raises UsageError. Rule: service protocol 1.3."""
    if not _HANDLER_NAME.match(name):
        raise UsageError(
            f"{where}: a handler's name begins with a letter, then come letters, digits or _; "
            "give another one with name="
        )


def check_service_name(name: Any) -> None:
    """Raises UsageError for a name that no ingress could route. Rule: service protocol 1.3."""
    if not isinstance(name, str) or not _SERVICE_NAME.match(name):
        raise UsageError(
            f"bad service name {name!r}: it begins with a letter, then come letters, digits, _ . or -"
        )
    if name.lower().startswith("restate") or name == "openapi":
        raise UsageError(
            f"the service name {name!r} is reserved: 'openapi' and names that begin with 'restate' "
            "are routes of the ingress"
        )


def check_state_preload_options(
    state_preload: bool | list[str] | None, enable_lazy_state: bool | None
) -> None:
    """Raises ValueError where both the option and its deprecated form are given."""
    if state_preload is not None and enable_lazy_state is not None:
        raise ValueError(
            "give either 'state_preload' or the deprecated 'enable_lazy_state', not both"
        )


def check_options(where: str, options: HandlerOptions) -> None:
    """Raises UsageError that names the option, ValueError for both forms of state preloading."""
    check_state_preload_options(options.state_preload, options.enable_lazy_state)
    for name in (
        "inactivity_timeout",
        "abort_timeout",
        "journal_retention",
        "idempotency_retention",
        "workflow_retention",
    ):
        check_duration(where, name, getattr(options, name))
    preload = options.state_preload
    if not (preload is None or isinstance(preload, bool) or _all_strings(preload)):
        raise UsageError(f"{where}: state_preload must be a bool or a list of state names")
    metadata = options.metadata
    if metadata is not None and not (_all_strings(metadata) and _all_strings(metadata.values())):
        raise UsageError(f"{where}: metadata must be a dict of str to str")
    if options.invocation_retry_policy is not None:
        _check_retry_policy(where, options.invocation_retry_policy)


def _all_strings(values: Any) -> bool:
    return not isinstance(values, str) and all(isinstance(each, str) for each in values)


def check_duration(where: str, name: str, value: Any) -> None:
    """Raises UsageError unless ``value`` is None or a timedelta of at least zero."""
    if value is None:
        return
    if not isinstance(value, timedelta):
        raise UsageError(
            f"{where}: {name} must be a timedelta, such as timedelta(seconds=30), not {value!r}"
        )
    if value < timedelta(0):
        raise UsageError(f"{where}: {name} must not be negative, got {value}")


def _check_retry_policy(where: str, policy: InvocationRetryPolicy) -> None:
    check_duration(where, "initial_interval", policy.initial_interval)
    check_duration(where, "max_interval", policy.max_interval)
    if policy.max_attempts is not None and policy.max_attempts < 0:
        raise UsageError(f"{where}: max_attempts must not be negative, got {policy.max_attempts}")
    if policy.exponentiation_factor is not None and policy.exponentiation_factor < 0:
        raise UsageError(
            f"{where}: exponentiation_factor must not be negative, got {policy.exponentiation_factor}"
        )
    if policy.on_max_attempts not in (None, "pause", "kill"):
        raise UsageError(
            f"{where}: on_max_attempts must be 'pause' or 'kill', got {policy.on_max_attempts!r}"
        )
