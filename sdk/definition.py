"""What services, virtual objects and workflows have in common: a name, options and handlers.

Users meet the three subclasses, whose signatures say which options each of them takes.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar, overload

from perdure.handler import Handler, HandlerIO, HandlerKind, ServiceTag, register
from perdure.journal.errors import UsageError
from perdure.options import ContextManagers, HandlerOptions, check_options, check_service_name
from perdure.retry_policy import InvocationRetryPolicy
from perdure.serde import Serde

T = TypeVar("T")


class _Option(Generic[T]):
    """One of the options, as an attribute that may be set later, as in the official SDK."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, definition: None, owner: type) -> "_Option[T]": ...
    @overload
    def __get__(self, definition: "Definition", owner: type) -> T | None: ...
    def __get__(self, definition: "Definition | None", owner: type) -> Any:
        return self if definition is None else getattr(definition.options, self._name)

    def __set__(self, definition: "Definition", value: T | None) -> None:
        change: dict[str, Any] = {self._name: value}
        options = replace(definition.options, **change)
        tag = definition.service_tag
        check_options(f"{tag.kind} {tag.name}", options)
        definition.options = options


class Definition:
    """A named group of handlers. ``handlers`` is in order of declaration."""

    inactivity_timeout = _Option[timedelta]()
    abort_timeout = _Option[timedelta]()
    journal_retention = _Option[timedelta]()
    idempotency_retention = _Option[timedelta]()
    ingress_private = _Option[bool]()
    invocation_retry_policy = _Option[InvocationRetryPolicy]()
    context_managers = _Option[ContextManagers]()
    enable_lazy_state = _Option[bool]()
    state_preload = _Option[bool | list[str]]()

    def __init__(
        self,
        kind: Literal["object", "service", "workflow"],
        name: str,
        description: str | None,
        options: HandlerOptions,
    ) -> None:
        check_service_name(name)
        check_options(f"{kind} {name}", options)
        self.service_tag = ServiceTag(kind, name, description, options.metadata)
        self.handlers: dict[str, Handler[Any, Any]] = {}
        self.options = options

    @property
    def name(self) -> str:
        """What it is called by."""
        return self.service_tag.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {', '.join(self.handlers) or 'no handlers'}>"

    def _decorator(
        self,
        kind: HandlerKind | None,
        name: str | None,
        accept: str,
        content_type: str,
        serdes: tuple[Serde[Any], Serde[Any]],
        options: HandlerOptions,
    ) -> Callable[[T], T]:
        """The decorator that adds one handler. ``name`` None: the function's own."""
        if name is not None and not isinstance(name, str):
            raise UsageError(
                f"a decorator of {self.name} was given {name!r} as name=: call it before it decorates, "
                f"with parentheses, as in @{self.name.lower()}.handler()"
            )
        if self.options.ingress_private and options.ingress_private is False:
            raise UsageError(
                f"{self.name} is ingress_private, so none of its handlers can be ingress_private=False"
            )
        options.context_managers = _joined(self.options.context_managers, options.context_managers)

        def decorate(fn: Any) -> Any:
            handler_io = HandlerIO[Any, Any](accept, content_type, *serdes)
            return register(self.handlers, self.service_tag, handler_io, kind, name, options, fn)

        return decorate


def _joined(outer: ContextManagers | None, inner: ContextManagers | None) -> ContextManagers | None:
    return [*(outer or ()), *(inner or ())] or None
