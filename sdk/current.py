"""Whose code is running: the invocation of the current task or thread, for checks and extensions.

Context variables, set by the attempt that runs the handler; tasks and run closures inherit them.
"""

from contextvars import ContextVar
from typing import Any, TypeVar

from perdure.context import Context
from perdure.journal.errors import UsageError

T = TypeVar("T")

running_context: ContextVar[Context | None] = ContextVar("perdure_context", default=None)
"""The context of the handler that runs here."""

operating_for: ContextVar[object] = ContextVar("perdure_operating_for", default=None)
"""The attempt that may issue commands here; a string, the run's name, inside a run closure."""


def current_context() -> Context | None:
    """The context of the handler that runs here, None outside of handlers."""
    return running_context.get()


def set_extension_data(ctx: Context, key: str, value: Any) -> None:
    """Keep ``value`` for this attempt; its ``__close__``, where it has one, is called at the end."""
    _extension_data(ctx)[key] = value


def get_extension_data(ctx: Context, key: str) -> Any:
    """What was kept under ``key``, or None."""
    return _extension_data(ctx).get(key)


def clear_extension_data(ctx: Context, key: str) -> None:
    """Forget ``key`` without closing its value."""
    _extension_data(ctx).pop(key, None)


def _extension_data(ctx: Context) -> dict[str, Any]:
    data = getattr(ctx, "extension_data", None)
    if not isinstance(data, dict):
        raise UsageError(f"{type(ctx).__qualname__} is not the context of a running handler")
    return data
