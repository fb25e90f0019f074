"""Values that no journal can hold, and some that it only just can: each is the affair of its own invocation.

After each one the store was never opened again, other keys answer, and operators can read the
invocation, before and after a crash.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest

import perdure
from perdure import Context, ObjectContext, Service, TerminalError, VirtualObject
from perdure.client_types import HttpError
from perdure.definition import Definition
from perdure.journal.requests import InvocationInfo, Op, OpResult
from perdure.pytest_plugin import Durable
from perdure.testing import TestSystem

MIB = 1 << 20
LARGEST = 32 * MIB  # of one command
NOT_UTF8 = "bad file \udcff"
SHOWN = "bad file \\udcff"

neighbour = VirtualObject("Neighbour")


@neighbour.handler()
async def count(ctx: ObjectContext) -> int:
    n = (await ctx.get("n", type_hint=int) or 0) + 1
    ctx.set("n", n)
    return n


def on_disk(
    durable: Durable, scenario: Callable[[TestSystem], Awaitable[None]], services: list[Definition]
) -> None:
    """A partition that fails for ever shall fail the test: ten virtual minutes are enough."""
    durable(lambda system: asyncio.wait_for(scenario(system), 600), services, storage="disk")


Handler = Callable[[Context], Awaitable[Any]]


def service(fn: Handler) -> Service:
    """The service ``Hostile`` with ``fn`` as its handler ``go``."""
    hostile = Service("Hostile")

    @hostile.handler()
    async def go(ctx: Context) -> Any:
        return await fn(ctx)

    return hostile


class Outcome:
    """What became of the hostile invocation, looked at twice."""

    def __init__(self) -> None:
        self.id = ""
        self.answers: list[bytes | HttpError] = []
        self.infos: list[InvocationInfo] = []

    @property
    def error(self) -> HttpError:
        first, again = self.answers
        assert isinstance(first, HttpError)
        assert isinstance(again, HttpError)
        assert (first.status_code, first.message) == (again.status_code, again.message)
        return first


async def look(system: TestSystem, outcome: Outcome) -> None:
    """Everything that operators can see of it."""
    info = await system.invocation(outcome.id)
    assert info is not None
    assert info in await system.invocations()
    journal = await system.journal(outcome.id)
    assert journal is not None
    outcome.infos.append(info)


async def answer(system: TestSystem, outcome: Outcome) -> None:
    try:
        outcome.answers.append(await system.attach(outcome.id))
    except HttpError as e:
        outcome.answers.append(e)


def submit(durable: Durable, hostile: Service, *, ends: bool = True) -> Outcome:
    """Send one invocation to the disk's system; its neighbours must not notice."""
    outcome = Outcome()

    async def scenario(system: TestSystem) -> None:
        store = system.engine.store
        assert await system.object_call(count, key="before") == 1
        sent = await system.generic_send(hostile.name, "go", b"")
        outcome.id = sent.invocation_id
        beside = asyncio.gather(*(system.object_call(count, key=f"{n}") for n in range(8)))
        assert await beside == [1] * 8
        if ends:
            await answer(system, outcome)
        else:
            await asyncio.sleep(5)
        await look(system, outcome)
        assert await system.object_call(count, key="before") == 2
        assert system.engine.store is store, "the partition failed and was opened again"
        assert system.engine.health() == ""

        await system.crash_and_restart()
        store = system.engine.store
        if ends:
            await answer(system, outcome)
        await look(system, outcome)
        assert await system.object_call(count, key="before") == 3
        op = Op.PURGE if ends else Op.KILL
        assert await system.operate(outcome.id, op) is OpResult.DONE
        assert system.engine.store is store, "the partition failed and was opened again"

    on_disk(durable, scenario, [hostile, neighbour])
    return outcome


# ---- errors that are answers --------------------------------------------------------------------


def raising(make: Callable[[], BaseException]) -> Service:
    async def fn(ctx: Context) -> NoReturn:
        raise make()

    return service(fn)


def wrong(message: Any, code: Any = 500, metadata: Any = None) -> Callable[[], BaseException]:
    """A terminal error as user code makes it that no type checker saw."""
    return lambda: TerminalError(message, code, metadata)


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (wrong(ValueError("x")), 500, "x"),
        (wrong(None), 500, "None"),
        (wrong("x", "404"), 404, "x"),
        (wrong("x", "not a number"), 500, "x"),
        (wrong("x", 10**30), 500, "x"),
        (wrong("x", -1), 500, "x"),
        (wrong("x", True), 500, "x"),
        (wrong(NOT_UTF8), 500, SHOWN),
        (wrong("x", 409, 7), 409, "x"),
        (wrong("x", 409, {NOT_UTF8: NOT_UTF8, "n": 7}), 409, "x"),
    ],
)
def test_a_terminal_error_of_odd_make_is_an_answer_like_any_other(
    durable: Durable, make: Callable[[], BaseException], code: int, message: str
) -> None:
    outcome = submit(durable, raising(make))
    assert (outcome.error.status_code, outcome.error.message) == (code, message)
    assert {each.status for each in outcome.infos} == {"completed"}


def test_a_terminal_error_of_21_mib_is_cut(durable: Durable) -> None:
    error = submit(durable, raising(wrong("é" * 21 * MIB))).error
    assert len(error.message) < MIB
    assert "characters ...]" in error.message


# ---- errors that are retried --------------------------------------------------------------------


class Unspeakable(Exception):
    """Neither ``str`` nor ``repr`` of it ends well."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ValueError(NOT_UTF8), SHOWN),
        (lambda: ValueError("x" * 21 * MIB), "characters ...]"),
        (lambda: perdure.RetryableError(NOT_UTF8, 10**30), SHOWN),
        (Unspeakable, "Unspeakable"),
    ],
)
def test_an_odd_error_is_retried_and_shown(
    durable: Durable, make: Callable[[], BaseException], message: str
) -> None:
    outcome = submit(durable, raising(make), ends=False)
    for info in outcome.infos:
        assert info.status in ("backing-off", "running")
        assert info.attempt_count > 1
    failure = outcome.infos[0].last_failure
    assert failure is not None
    assert message in failure.message
    assert failure.code == 500


@pytest.mark.parametrize("make", [wrong(NOT_UTF8, "404"), wrong(ValueError(NOT_UTF8), 404)])
def test_a_run_closure_may_raise_what_is_odd_too(
    durable: Durable, make: Callable[[], BaseException]
) -> None:
    def closure() -> NoReturn:
        raise make()

    async def fn(ctx: Context) -> None:
        await ctx.run_typed("odd", closure)

    error = submit(durable, service(fn)).error
    assert (error.status_code, error.message) == (404, SHOWN)


# ---- names --------------------------------------------------------------------------------------


async def _run_name(ctx: Context) -> None:
    await ctx.run_typed(NOT_UTF8, lambda: None)


async def _called_key(ctx: Context) -> None:
    await ctx.object_call(count, key=NOT_UTF8, arg=None)


async def _sent_key(ctx: Context) -> None:
    ctx.object_send(count, key=NOT_UTF8, arg=None)


async def _header(ctx: Context) -> None:
    await ctx.object_call(count, key="k", arg=None, headers={"name": NOT_UTF8})


async def _idempotency_key(ctx: Context) -> None:
    await ctx.object_call(count, key="k", arg=None, idempotency_key=NOT_UTF8)


async def _awakeable_id(ctx: Context) -> None:
    ctx.resolve_awakeable(NOT_UTF8, 1)


@pytest.mark.parametrize(
    "fn",
    [_run_name, _called_key, _sent_key, _header, _idempotency_key, _awakeable_id],
    ids=lambda fn: str(fn.__name__),
)
def test_a_name_that_utf8_can_not_hold_ends_its_invocation(durable: Durable, fn: Handler) -> None:
    error = submit(durable, service(fn)).error
    assert error.status_code == 500
    assert "\\udcff" in error.message


def test_a_state_name_that_utf8_can_not_hold_ends_its_invocation_and_frees_the_key(
    durable: Durable,
) -> None:
    box = VirtualObject("Box")

    @box.handler()
    async def keep(ctx: ObjectContext, name: str) -> list[str]:
        ctx.set(name or NOT_UTF8, 1)
        return await ctx.state_keys()

    async def scenario(system: TestSystem) -> None:
        store = system.engine.store
        with pytest.raises(HttpError):
            await system.object_call(keep, key="k", arg="")
        assert await system.object_call(keep, key="k", arg="fine") == ["fine"]
        assert system.engine.store is store

    on_disk(durable, scenario, [box])


# ---- sizes --------------------------------------------------------------------------------------


def test_a_result_over_the_limit_is_refused_for_good(durable: Durable) -> None:
    async def fn(ctx: Context) -> str:
        return "x" * LARGEST  # and the quotes

    error = submit(durable, service(fn)).error
    assert error.status_code == 413
    assert "[RT0003] Output carries 33554434 bytes" in error.message


def test_the_result_of_a_run_over_the_limit_is_refused_for_good(durable: Durable) -> None:
    async def fn(ctx: Context) -> None:
        await ctx.run_typed("large", lambda: "x" * LARGEST)

    error = submit(durable, service(fn)).error
    assert error.status_code == 413
    assert "RT0003" in error.message


def test_metadata_of_90_mib_is_cut(durable: Durable) -> None:
    metadata = {f"{n}": "x" * 60_000 for n in range(1_500)}
    error = submit(durable, raising(wrong("x", 409, metadata))).error
    assert (error.status_code, error.message) == (409, "x")


def test_a_state_value_just_under_the_limit_is_kept(durable: Durable) -> None:
    box = VirtualObject("Box")
    size = LARGEST - 100

    @box.handler()
    async def fill(ctx: ObjectContext) -> None:
        ctx.set("k", "x" * size)

    @box.handler()
    async def measure(ctx: ObjectContext) -> int:
        return len(await ctx.get("k", type_hint=str) or "")

    async def scenario(system: TestSystem) -> None:
        store = system.engine.store
        sent = await system.object_send(fill, key="k")
        assert await system.object_call(count, key="k") == 1
        await system.attach(sent.invocation_id)
        assert await system.object_call(measure, key="k") == size
        assert await system.journal(sent.invocation_id)
        assert system.engine.store is store
        await system.crash_and_restart()
        assert await system.object_call(measure, key="k") == size
        assert await system.object_call(count, key="k") == 2

    on_disk(durable, scenario, [box, neighbour])


def test_several_large_values_at_once_are_refused_for_good_and_leave_nothing_behind(
    durable: Durable,
) -> None:
    box = VirtualObject("Box")

    @box.handler()
    async def fill(ctx: ObjectContext) -> None:
        for n in range(5):
            ctx.set(f"{n}", "x" * 20 * MIB)

    @box.handler()
    async def names(ctx: ObjectContext) -> list[str]:
        return await ctx.state_keys()

    async def scenario(system: TestSystem) -> None:
        store = system.engine.store
        sent = await system.object_send(fill, key="k")
        beside = asyncio.gather(*(system.object_call(count, key=f"{n}") for n in range(8)))
        assert await beside == [1] * 8
        with pytest.raises(HttpError, match=r"\[RT0003\]") as raised:
            await system.attach(sent.invocation_id)
        assert raised.value.status_code == 413
        assert await system.object_call(names, key="k") == []
        listed = await system.invocations(service="Box")
        assert {each.status for each in listed} == {"completed"}
        assert system.engine.store is store
        assert system.engine.health() == ""

    on_disk(durable, scenario, [box, neighbour])


def test_large_values_of_many_invocations_at_once_all_reach_the_disk(durable: Durable) -> None:
    box = VirtualObject("Box")

    @box.handler()
    async def fill(ctx: ObjectContext) -> int:
        ctx.set("k", "x" * 12 * MIB)
        return 12

    async def scenario(system: TestSystem) -> None:
        store = system.engine.store
        calls = (system.object_call(fill, key=f"{n}") for n in range(6))
        assert await asyncio.gather(*calls) == [12] * 6
        assert system.engine.store is store
        await system.crash_and_restart()
        for n in range(6):
            assert len((await system.state(box, f"{n}"))["k"]) == 12 * MIB + 2

    on_disk(durable, scenario, [box])
