"""Effective options of a service: handler over service over the server's defaults, with a patch on top.

Pure. Works on any `journal.schema.Service`, from a manifest or of this process, since both keep the options
as they were given. Rules: service protocol 1.3, admin 5.3 and 11.
"""

from typing import Any, Final

import msgspec

from perdure.gateway.registry_file import ServicePatch
from perdure.journal.schema import (
    Defaults,
    Handler,
    HandlerType,
    Options,
    RetryPolicy,
    Service,
)

_DURATIONS: Final = (
    "inactivity_timeout_ms",
    "abort_timeout_ms",
    "journal_retention_ms",
    "idempotency_retention_ms",
    "workflow_retention_ms",
)


def effective(service: Service, defaults: Defaults, patch: ServicePatch | None = None) -> Service:
    """``service`` with every handler's options worked out anew; its raw options follow ``patch``."""
    options = service.options if patch is None else _patched(service.options, patch)
    handlers = {
        name: _handler(handler, options, defaults, patch)
        for name, handler in service.handlers.items()
    }
    return msgspec.structs.replace(service, options=options, handlers=handlers)


def _patched(options: Options, patch: ServicePatch) -> Options:
    changes: dict[str, Any] = {
        name: value for name in _DURATIONS if (value := getattr(patch, name)) is not None
    }
    if patch.public is not None:
        changes["ingress_private"] = not patch.public
    return msgspec.structs.replace(options, **changes)


def _handler(
    handler: Handler, outer: Options, defaults: Defaults, patch: ServicePatch | None
) -> Handler:
    own = handler.options
    is_run = handler.type is HandlerType.WORKFLOW
    if patch is not None and patch.workflow_retention_ms is not None and is_run:
        # It is an option of this one handler; the patch has no other place to say it.
        own = msgspec.structs.replace(own, workflow_retention_ms=patch.workflow_retention_ms)
    lazy_state, eager_keys = _lazy_state(own, outer, defaults)
    durations = {name: _pick(name, own, outer, getattr(defaults, name)) for name in _DURATIONS}
    return msgspec.structs.replace(
        handler,
        options=own,
        public=not (own.ingress_private or outer.ingress_private),
        lazy_state=lazy_state,
        eager_keys=eager_keys,
        retry=_retry(own, outer, defaults.retry),
        **durations,
    )


def _pick(name: str, own: Options, outer: Options, default: Any) -> Any:
    for level in (own, outer):
        value = getattr(level, name)
        if value is not None:
            return value
    return default


def _lazy_state(
    own: Options, outer: Options, defaults: Defaults
) -> tuple[bool, tuple[str, ...] | None]:
    """The two options travel together: a level that sets one decides both."""
    for level in (own, outer):
        if level.lazy_state is not None:
            return level.lazy_state, level.eager_keys
    return defaults.lazy_state, None


def _retry(own: Options, outer: Options, defaults: RetryPolicy) -> RetryPolicy:
    return RetryPolicy(
        initial_interval_ms=_pick(
            "retry_initial_interval_ms", own, outer, defaults.initial_interval_ms
        ),
        factor=_pick("retry_factor", own, outer, defaults.factor),
        max_interval_ms=_pick("retry_max_interval_ms", own, outer, defaults.max_interval_ms),
        max_attempts=_pick("retry_max_attempts", own, outer, defaults.max_attempts),
        on_max_attempts=_pick("retry_on_max_attempts", own, outer, defaults.on_max_attempts),
    )
