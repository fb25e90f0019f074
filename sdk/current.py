"""Whose code is running: the invocation of the current task or thread, for checks and extensions.

Context variables, set by the attempt that runs the handler; tasks and run closures inherit them.
"""

from contextvars import ContextVar
from typing import Any, Protocol

from perdure.context import Context
from perdure.journal.attempt import Start
from perdure.journal.errors import UsageError


class Owner(Protocol):
    """Whose code runs: an attempt, or one of its run closures."""

    @property
    def context(self) -> Context: ...

    @property
    def start(self) -> Start: ...


class InsideRun:
    """A run closure: it knows its invocation, but must not operate for it."""

    __slots__ = ("context", "name", "start")

    def __init__(self, owner: Owner, name: str) -> None:
        self.context = owner.context
        self.start = owner.start
        self.name = name


operating_for: ContextVar[Owner | None] = ContextVar("perdure_operating_for", default=None)
"""Only the attempt that this names may issue commands in this task or thread."""


def current_context() -> Context | None:
    """The context of the handler that runs here, None outside of handlers."""
    owner = operating_for.get()
    return getattr(owner, "context", None)  # an attempt that is over has none any more


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
