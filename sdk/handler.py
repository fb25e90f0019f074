"""Handlers: a user's function with its serdes and options, and the checks made when it is decorated.

What cannot work is refused here, at import time, with what to change. Nothing runs a handler here.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import timedelta
from types import FunctionType, UnionType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import msgspec

from perdure.codecs import SchemaMode, schema_for
from perdure.journal.errors import TerminalError, UsageError
from perdure.journal.schedules_records import Spec
from perdure.options import ContextManagers, HandlerOptions, check_handler_name, check_options
from perdure.retry_policy import InvocationRetryPolicy
from perdure.serde import DefaultSerde, Serde, is_optional, reason, type_name, write_value

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")

HandlerKind: TypeAlias = Literal["exclusive", "shared", "workflow"]

_HANDLER_ATTRIBUTE = "__perdure_handler__"
JSON = "application/json"
RAW = "application/octet-stream"


class _Required:
    """Stands for: an empty body is an error."""


REQUIRED = _Required()

# ---- shapes -------------------------------------------------------------------------------------


@dataclass
class ServiceTag:
    """What a handler knows of its service."""

    kind: Literal["object", "service", "workflow"]
    name: str
    description: str | None = None
    metadata: dict[str, str] | None = None


@dataclass
class TypeHint(Generic[T]):
    """The type of an input or output. ``is_void``: there is none."""

    annotation: T | None = None
    is_void: bool = False
    generate_json_schema: Callable[[], Any] | None = None


@dataclass
class HandlerIO(Generic[I, O]):
    """Content types and serdes of a handler, as given, then completed from its type hints."""

    accept: str
    content_type: str
    input_serde: Serde[I]
    output_serde: Serde[O]
    input_type: TypeHint[I] | None = None
    output_type: TypeHint[O] | None = None


@dataclass
class Handler(Generic[I, O]):
    """A handler. ``arity`` counts the context. ``fn`` is the user's own function."""

    service_tag: ServiceTag
    handler_io: HandlerIO[I, O]
    kind: HandlerKind | None  # None: of a plain service
    name: str
    fn: Callable[..., Any]
    arity: int
    description: str | None = None
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
    blocking: bool = False  # a plain ``def``: runs in a thread
    empty_input: Any = None  # the argument for an empty body; REQUIRED: that is an error
    schedules: list[Spec] = field(default_factory=list)  # by ``perdure.schedule``

    @property
    def qualified_name(self) -> str:
        """As people write it: `Counter/add`."""
        return f"{self.service_tag.name}/{self.name}"


# ---- from a function ----------------------------------------------------------------------------


def register(
    handlers: dict[str, Handler[Any, Any]],
    service_tag: ServiceTag,
    handler_io: HandlerIO[Any, Any],
    kind: HandlerKind | None,
    name: str | None,
    options: HandlerOptions,
    fn: Callable[..., Any],
) -> Callable[..., Any]:
    """Make ``fn`` a handler, add it to ``handlers``, and return what the decorator returns.

    Raises ValueError for a missing context parameter and for a name that is taken, UsageError for
    everything else that cannot work.
    """
    handler = make_handler(service_tag, handler_io, kind, name, options, fn)
    if handler.name in handlers:
        raise ValueError(f"Handler {handler.name} already exists in {service_tag.name}")
    handlers[handler.name] = handler
    plain = isinstance(fn, FunctionType) and _HANDLER_ATTRIBUTE not in vars(fn)
    marked = fn if plain else _wrapped(fn)
    setattr(marked, _HANDLER_ATTRIBUTE, handler)
    return marked


def _wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function to mark in place of ``fn``: a method, a partial, or already another's handler."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def make_handler(
    service_tag: ServiceTag,
    handler_io: HandlerIO[Any, Any],
    kind: HandlerKind | None,
    name: str | None,
    options: HandlerOptions,
    fn: Callable[..., Any],
) -> Handler[Any, Any]:
    """Check ``fn`` and ``options`` and complete ``handler_io`` from the type hints."""
    if not callable(fn):
        raise UsageError(
            f"@{service_tag.name}.handler must be called before it decorates: @….handler(), not @….handler; "
            f"got {type(fn).__qualname__}"
        )
    handler_name = name or getattr(fn, "__name__", None)
    if not handler_name:
        raise ValueError(f"the handler {fn!r} of {service_tag.name} has no name: give name=")
    where = f"handler {service_tag.name}/{handler_name}"
    check_handler_name(where, handler_name)
    check_options(where, options)
    parameters, returns = _signature(fn, where)
    _complete_input(handler_io, parameters)
    _complete_output(handler_io, returns)
    return Handler(
        service_tag=service_tag,
        handler_io=handler_io,
        kind=kind,
        name=handler_name,
        fn=fn,
        arity=len(parameters),
        description=inspect.getdoc(fn),
        blocking=not _is_async(fn),
        empty_input=_empty_input(handler_io, parameters),
        **{f.name: getattr(options, f.name) for f in fields(options)},
    )


def handler_from_callable(wrapper: Callable[..., Any]) -> Handler[Any, Any]:
    """The handler that a decorated function stands for. Raises ValueError for any other function."""
    try:
        return getattr(wrapper, _HANDLER_ATTRIBUTE)  # type: ignore[no-any-return]
    except AttributeError:
        name = getattr(wrapper, "__qualname__", repr(wrapper))
        raise ValueError(
            f"Handler not found: {name} is not decorated with .handler() or .main() of a service"
        ) from None


def target_of(tpe: Any, key: str | None) -> Handler[Any, Any]:
    """The handler of a call. Raises UsageError unless a key is given exactly where one is needed."""
    handler = handler_from_callable(tpe)
    if key is None:
        if handler.service_tag.kind != "service":
            raise UsageError(
                f"{handler.qualified_name} is of a keyed {handler.service_tag.kind}: call it with "
                "object_call or workflow_call and a key"
            )
    elif handler.service_tag.kind == "service":
        raise UsageError(
            f"{handler.qualified_name} is of a service, which has no keys: call it with service_call"
        )
    elif not isinstance(key, str):
        raise UsageError(
            f"the key of {handler.qualified_name} must be a str, got {type(key).__qualname__} {key!r}"
        )
    return handler


def _signature(fn: Callable[..., Any], where: str) -> tuple[list[inspect.Parameter], Any]:
    """The parameters, one or two, and the return annotation, all resolved."""
    try:
        signature = inspect.signature(fn, eval_str=True)
    except NameError as e:
        raise UsageError(
            f"{where}: the annotation '{e.name}' cannot be resolved; import or define it at module "
            "level, outside `if TYPE_CHECKING`"
        ) from e
    except (TypeError, SyntaxError, AttributeError) as e:
        raise UsageError(f"{where}: its annotations cannot be resolved: {e}") from e
    parameters = [
        each
        for each in signature.parameters.values()
        if each.kind is not each.KEYWORD_ONLY or each.default is each.empty
    ]
    if any(each.kind is each.VAR_POSITIONAL for each in signature.parameters.values()):
        # a wrapper around a handler; how many it names is how many it is given, as in the official SDK
        names = ("context", "argument")[: len(signature.parameters)]
        parameters = [inspect.Parameter(each, inspect.Parameter.POSITIONAL_ONLY) for each in names]
    if not parameters:
        raise ValueError(f"Handler must have at least one parameter: {where} has no context")
    for each in parameters:
        if each.kind not in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            raise UsageError(f"{where}: parameter '{each.name}' must be positional")
    if parameters[0].name in ("self", "cls"):
        raise UsageError(
            f"{where} is a method: a handler is a function whose first parameter is the context; "
            "move it out of the class"
        )
    if len(parameters) > 2:
        given = ", ".join(each.name for each in parameters)
        raise UsageError(
            f"{where} takes {len(parameters)} parameters ({given}); it may take the context and one "
            "argument: put several values in a dataclass or dict"
        )
    target = inspect.unwrap(fn)
    if inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
        raise UsageError(f"{where} is a generator (it has a yield): return the result instead")
    return parameters, signature.return_annotation


def _is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling ``fn`` gives a coroutine, also through decorators that keep ``__wrapped__``."""
    each: Any = fn
    while each is not None:
        call = getattr(type(each), "__call__", None)  # noqa: B004 - of the class, for objects
        if inspect.iscoroutinefunction(each) or inspect.iscoroutinefunction(call):
            return True
        each = getattr(each, "__wrapped__", None)
    return False


def _complete_input(io: HandlerIO[Any, Any], parameters: list[inspect.Parameter]) -> None:
    if len(parameters) == 1:
        io.input_type = TypeHint(is_void=True)
        return
    hint = parameters[1].annotation
    io.input_type = TypeHint(core_type(hint), generate_json_schema=_schema(hint, "validation"))
    if isinstance(io.input_serde, DefaultSerde):
        io.input_serde = io.input_serde.with_maybe_type(hint)
        if core_type(hint) is bytes:
            io.input_type.generate_json_schema = None
            io.accept = "*/*" if io.accept == JSON else io.accept


def _complete_output(io: HandlerIO[Any, Any], hint: Any) -> None:
    if hint is None or hint is inspect.Signature.empty:
        io.output_type = TypeHint(is_void=True)
        return
    io.output_type = TypeHint(core_type(hint), generate_json_schema=_schema(hint, "serialization"))
    if isinstance(io.output_serde, DefaultSerde):
        io.output_serde = io.output_serde.with_maybe_type(hint)
        if core_type(hint) is bytes:
            io.output_type.generate_json_schema = None
            io.content_type = RAW if io.content_type == JSON else io.content_type


def _schema(hint: Any, mode: SchemaMode) -> Callable[[], Any] | None:
    """Computed when asked for. True (anything) where there is no hint, or bytes by the user's serde."""
    if hint is None:
        return None  # as None is all there is to say
    if hint is inspect.Parameter.empty or core_type(hint) is bytes:
        return lambda: True
    return lambda: schema_for(hint, mode)


def _empty_input(io: HandlerIO[Any, Any], parameters: list[inspect.Parameter]) -> Any:
    if len(parameters) == 1:
        return None
    argument = parameters[1]
    if argument.default is not argument.empty:
        return argument.default
    hint = argument.annotation
    untyped = hint is argument.empty or is_optional(hint) or isinstance(hint, TypeVar)
    if untyped or hint is bytes or not isinstance(io.input_serde, DefaultSerde):
        return None
    return REQUIRED


def core_type(hint: Any) -> Any:
    """``X`` for ``X | None``, else ``hint`` itself."""
    if get_origin(hint) in (Union, UnionType):
        others = [each for each in get_args(hint) if each is not type(None)]
        if len(others) == 1 and len(get_args(hint)) == 2:
            return others[0]
    return hint


# ---- input and output of one invocation ---------------------------------------------------------


def decode_input(handler: Handler[Any, Any], body: bytes) -> Any:
    """The handler's argument; only for handlers of arity 2. Raises TerminalError 400."""
    if not body and handler.empty_input is not None:
        if handler.empty_input is REQUIRED:
            raise TerminalError(_bad_input(handler, "the body is empty"), status_code=400)
        return handler.empty_input
    try:
        return handler.handler_io.input_serde.deserialize(body)
    except TerminalError:
        raise
    except msgspec.ValidationError as e:
        raise TerminalError(_bad_input(handler, _misfit(body, e)), status_code=400) from e
    except Exception as e:
        raise TerminalError(_bad_input(handler, reason(e)), status_code=400) from e


def _misfit(body: bytes, error: msgspec.ValidationError) -> str:
    """msgspec stops at the first misfit; that the rest is no JSON at all is what helps more."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        return f"no JSON: {reason(e)}"
    except RecursionError:
        pass  # too deep to look
    return reason(error)


def _bad_input(handler: Handler[Any, Any], problem: str) -> str:
    serde = handler.handler_io.input_serde
    hint = getattr(serde, "type_hint", None)
    expected = f" expects {type_name(hint)}" if hint is not None else "'s serde refused it"
    return f"bad input: {handler.qualified_name}{expected}: {problem}"


def encode_output(handler: Handler[Any, Any], value: Any) -> bytes:
    """The handler's answer. Raises UsageError that names the handler and the type."""
    return write_value(
        handler.handler_io.output_serde, value, "the result of", handler.qualified_name
    )


def encode_argument(handler: Handler[Any, Any], value: Any) -> bytes:
    """The argument for a call of ``handler``. Raises UsageError that names both."""
    if handler.arity == 1 and value is None:
        return b""
    return write_value(
        handler.handler_io.input_serde, value, "the argument of", handler.qualified_name
    )
