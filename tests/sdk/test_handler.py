"""Decorating handlers: what they become, and what is refused at once."""

import functools
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

import perdure
from perdure import Context, InvocationRetryPolicy, ObjectContext, UsageError
from perdure.describe import describe
from perdure.handler import (
    decode_input,
    encode_argument,
    encode_output,
    handler_from_callable,
    target_of,
)
from perdure.journal.errors import TerminalError


def _service() -> perdure.Service:
    return perdure.Service("Greeter")


async def greet(ctx: Context, name: str) -> str:
    """Greets."""
    return f"hi {name}"


def test_decorated_function_is_still_itself() -> None:
    service = _service()

    async def local(ctx: Context, name: str) -> str:
        return name

    assert service.handler()(local) is local
    handler = handler_from_callable(local)
    assert service.handlers == {"local": handler}
    assert (handler.arity, handler.blocking, handler.qualified_name) == (2, False, "Greeter/local")


def test_one_function_may_be_the_handler_of_two_services() -> None:
    first, second = perdure.Service("First"), perdure.Service("Second")

    async def local(ctx: Context) -> str:
        return "x"

    one, two = first.handler()(local), second.handler("other")(local)
    assert handler_from_callable(one).qualified_name == "First/local"
    assert handler_from_callable(two).qualified_name == "Second/other"
    assert not handler_from_callable(two).blocking


def test_plain_def_is_blocking_and_async_behind_a_decorator_is_not() -> None:
    service = _service()

    @service.handler()
    def plain(ctx: Context) -> str:
        return "x"

    def loud(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapper(*args: Any) -> Any:
            return fn(*args)

        return wrapper

    @service.handler()
    @loud
    async def decorated(ctx: Context) -> str:
        return "x"

    class Callable_:
        async def __call__(self, ctx: Context, n: int) -> int:
            return n

    service.handler("obj")(Callable_())
    blocking = {name: handler.blocking for name, handler in service.handlers.items()}
    assert blocking == {"plain": True, "decorated": False, "obj": False}


def test_bound_methods_and_partials_can_be_handlers() -> None:
    class Greeting:
        async def greet(self, ctx: Context, name: str) -> str:
            return name

    service = _service()
    service.handler()(Greeting().greet)
    service.handler("partial")(functools.partial(greet, name="x"))
    assert service.handlers["greet"].arity == 2


# ---- refused ------------------------------------------------------------------------------------


async def no_context() -> None: ...
async def three(ctx: Context, a: int, b: int) -> None: ...
async def method(self: Any, ctx: Context) -> None: ...
async def keywords(ctx: Context, *, a: int) -> None: ...
async def variadic(ctx: Context, **kwargs: Any) -> None: ...
async def unresolved(ctx: Context, a: "Nope") -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (no_context, ValueError, "must have at least one parameter"),
    (three, UsageError, r"takes 3 parameters \(ctx, a, b\).*dataclass"),
    (method, UsageError, "is a method"),
    (keywords, UsageError, "parameter 'a' must be positional"),
    (variadic, UsageError, "parameter 'kwargs' must be positional"),
    (unresolved, UsageError, "annotation 'Nope' cannot be resolved"),
    (generator, UsageError, "is a generator"),
    (3, UsageError, "must be called before it decorates"),
]


@pytest.mark.parametrize(
    ("fn", "error", "says"), REFUSED, ids=lambda each: getattr(each, "__name__", str(each))[:30]
)
def test_function_that_cannot_be_a_handler_is_refused(
    fn: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        _service().handler()(fn)


def test_decorating_without_parentheses_is_refused() -> None:
    service: Any = _service()
    with pytest.raises(UsageError, match=r"with parentheses, as in @greeter\.handler"):
        service.handler(greet)


@pytest.mark.parametrize("name", ["1a", "a-b", "_", "a b", "a\n", "ä"])
def test_bad_handler_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name begins with a letter"):
        _service().handler(name)(greet)


@pytest.mark.parametrize("name", ["", "1a", "a/b", "a b", "_", "a\n", None, 3])
def test_bad_service_name_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="bad service name"):
        perdure.Service(name)


@pytest.mark.parametrize("name", ["restate", "RestateX", "openapi"])
def test_reserved_service_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is reserved"):
        perdure.VirtualObject(name)


def test_second_handler_of_a_name_is_refused() -> None:
    service = _service()
    service.handler("a")(greet)
    with pytest.raises(ValueError, match="Handler a already exists in Greeter"):
        service.handler("a")(greet)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"inactivity_timeout": timedelta(-1)}, "inactivity_timeout must not be negative"),
        ({"abort_timeout": 5}, "abort_timeout must be a timedelta"),
        ({"metadata": {"a": 1}}, "metadata must be a dict of str to str"),
        (
            {"invocation_retry_policy": InvocationRetryPolicy(max_interval=timedelta(-1))},
            "max_interval must not be negative",
        ),
        (
            {"invocation_retry_policy": InvocationRetryPolicy(on_max_attempts="stop")},  # type: ignore[arg-type]
            "on_max_attempts must be 'pause' or 'kill'",
        ),
    ],
)
def test_bad_option_is_refused_on_service_and_handler(options: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        perdure.Service("Greeter", **options)
    with pytest.raises(UsageError, match=says):
        _service().handler(**options)(greet)


def test_both_forms_of_state_preload_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        perdure.VirtualObject("A", enable_lazy_state=True, state_preload=False)
    with pytest.raises(ValueError, match="not both"):
        perdure.Workflow("A").main(enable_lazy_state=True, state_preload=False)(greet)


def test_state_preload_must_be_a_bool_or_names() -> None:
    with pytest.raises(UsageError, match="state_preload must be"):
        perdure.VirtualObject("A", state_preload="a")  # type: ignore[arg-type]


def test_kind_of_an_object_handler_is_checked() -> None:
    with pytest.raises(UsageError, match="'exclusive' or 'shared', not 'workflow'"):
        perdure.VirtualObject("A").handler(kind="workflow")  # type: ignore[arg-type]


def test_workflow_has_one_main_handler() -> None:
    workflow = perdure.Workflow("A")
    workflow.main()(greet)
    with pytest.raises(UsageError, match="A has a main handler already: greet"):
        workflow.main("other")


def test_handler_of_a_private_service_cannot_be_public() -> None:
    with pytest.raises(UsageError, match="ingress_private"):
        perdure.Service("A", ingress_private=True).handler(ingress_private=False)


def test_endpoint_refuses_duplicates_and_what_is_no_service() -> None:
    with pytest.raises(ValueError, match="Service Greeter already exists"):
        perdure.app([_service(), _service()])
    with pytest.raises(ValueError, match="Invalid service type 3"):
        perdure.app([3])  # type: ignore[list-item]


def test_app_holds_its_services_and_settings() -> None:
    service = _service()
    app = perdure.app([service], protocol="bidi", identity_keys=["k"])
    assert app.services == {"Greeter": service}
    assert (app.endpoint.protocol, app.endpoint.identity_keys) == ("bidi", ["k"])


# ---- input and output ---------------------------------------------------------------------------

counter = perdure.VirtualObject("Counter")


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    return n


@counter.handler()
async def maybe(ctx: ObjectContext, n: int | None) -> int:
    return n or 0


@counter.handler()
async def defaulted(ctx: ObjectContext, n: int = 5) -> int:
    return n


@counter.handler()
async def untyped(ctx: ObjectContext, n) -> int:  # type: ignore[no-untyped-def]
    return 1


@counter.handler()
async def raw(ctx: ObjectContext, body: bytes) -> bytes:
    return body


@counter.handler()
async def nothing(ctx: ObjectContext) -> None: ...


@pytest.mark.parametrize(
    ("fn", "body", "value"),
    [
        (add, b"3", 3),
        (maybe, b"", None),
        (maybe, b"null", None),
        (defaulted, b"", 5),
        (untyped, b"", None),
        (untyped, b'{"a":1}', {"a": 1}),
        (raw, b"", b""),
        (raw, b"\xff", b"\xff"),
    ],
)
def test_body_becomes_the_argument(fn: Any, body: bytes, value: Any) -> None:
    assert decode_input(handler_from_callable(fn), body) == value


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'"x"', "bad input: Counter/add expects int: Expected `int`, got `str`"),
        (b"", "bad input: Counter/add expects int: the body is empty"),
        (b"{bad", "bad input: Counter/add expects int: no JSON: JSON is malformed"),
    ],
)
def test_wrong_body_is_a_terminal_error_400_with_handler_and_type(body: bytes, says: str) -> None:
    with pytest.raises(TerminalError) as caught:
        decode_input(handler_from_callable(add), body)
    assert caught.value.status_code == 400
    assert caught.value.message.startswith(says)


def test_output_that_cannot_be_serialized_names_the_handler() -> None:
    assert encode_output(handler_from_callable(add), 3) == b"3"
    with pytest.raises(UsageError, match="the result of 'Counter/add', a value of type object"):
        encode_output(handler_from_callable(add), object())


def test_argument_is_left_out_for_a_handler_that_takes_none() -> None:
    assert encode_argument(handler_from_callable(nothing), None) == b""
    assert encode_argument(handler_from_callable(add), 3) == b"3"


def test_call_of_something_else_than_a_handler_is_refused() -> None:
    with pytest.raises(ValueError, match="Handler not found: no_context is not decorated"):
        handler_from_callable(no_context)


def test_key_is_given_exactly_where_it_is_needed() -> None:
    assert target_of(add, "a").name == "add"
    with pytest.raises(UsageError, match="Counter/add is of a keyed object"):
        target_of(add, None)
    with pytest.raises(UsageError, match="key of Counter/add must be a str, got int 3"):
        target_of(add, 3)  # type: ignore[arg-type]
    service = _service()
    with pytest.raises(UsageError, match="which has no keys"):
        target_of(service.handler()(greet), "a")


@pytest.mark.parametrize(
    ("fn", "arity"),
    [
        (lambda *args: None, 1),
        (lambda *args, **kwargs: None, 2),
        (lambda ctx, *args: None, 2),
        (lambda ctx, *args, **kwargs: None, 2),
    ],
    ids=["args", "args kwargs", "ctx args", "ctx args kwargs"],
)
def test_a_wrapper_is_given_as_much_as_by_the_official_sdk(fn: Any, arity: int) -> None:
    service = _service()
    service.handler("wrapped")(fn)
    assert service.handlers["wrapped"].arity == arity


def test_options_may_be_set_on_a_service_later_and_are_checked() -> None:
    service = _service()
    assert service.ingress_private is None
    service.ingress_private = True
    service.journal_retention = timedelta(hours=1)
    assert describe(service).options.ingress_private is True
    assert describe(service).options.journal_retention_ms == 3_600_000
    with pytest.raises(UsageError, match="inactivity_timeout must be a timedelta"):
        service.inactivity_timeout = 5  # type: ignore[assignment]
    assert service.inactivity_timeout is None
