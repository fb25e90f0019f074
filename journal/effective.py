"""Effective options of a service: handler over service over the server's defaults. Pure.

For any `journal.schema.Service`, decorated here or from a manifest: both keep the options as they were
given. Rules: service protocol 1.3, admin 11.
"""

from typing import Any, Final

from msgspec.structs import replace

from perdure.journal.schema import Defaults, Handler, Options, RetryPolicy, Service

DURATIONS: Final = (
    "inactivity_timeout_ms",
    "abort_timeout_ms",
    "journal_retention_ms",
    "idempotency_retention_ms",
    "workflow_retention_ms",
)


def effective(service: Service, defaults: Defaults) -> Service:
    """``service`` with every handler's options worked out anew."""
    handlers = {
        name: _handler(handler, service.options, defaults)
        for name, handler in service.handlers.items()
    }
    return replace(service, handlers=handlers)


def _handler(handler: Handler, outer: Options, defaults: Defaults) -> Handler:
    own = handler.options
    lazy_state, eager_keys = _lazy_state(own, outer, defaults)
    durations = {name: _pick(name, own, outer, getattr(defaults, name)) for name in DURATIONS}
    return replace(
        handler,
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
