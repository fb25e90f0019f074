"""Small programs as the official SDK's documentation has them, their imports moved, in every mode.

Texts of the official package are read from where it is installed; none is kept here. The others are
our own, written against its names.
"""

import asyncio
import inspect
import re
import textwrap
from importlib.metadata import metadata
from typing import Any

import pytest
import restate.context_managers

import perdure
from perdure import testing
from perdure.testing import TestSystem
from tests.conformance.moved import moved
from tests.features.modes import Mode, carry_out

_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

every_mode = pytest.mark.parametrize("mode", list(Mode), ids=str)


def program(source: str) -> dict[str, Any]:
    """Run a program's text with its imports moved; its names."""
    names: dict[str, Any] = {"__name__": "a_moved_program"}
    exec(compile(moved(textwrap.dedent(source)), "<moved>", "exec"), names)
    return names


def test_only_imports_are_changed() -> None:
    text = "import restate\nfrom restate.serde import X\nprint(restate.app, 'import restate')\n"
    assert moved(text) == (
        "import perdure as restate\nfrom perdure.serde import X\n"
        "print(restate.app, 'import restate')\n"
    )


@every_mode
def test_the_example_of_the_official_readme(mode: Mode) -> None:
    readme = metadata("restate-sdk")["Description"]
    names = program(next(each for each in _BLOCK.findall(readme) if "restate.app(" in each))

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(names["greet"], arg="Ada") == "Hello Ada!"
        assert await system.generic_call("greeter", "greet", b'"Bob"') == b'"Hello Bob!"'

    carry_out(mode, scenario, names["app"])


def test_the_example_of_the_official_context_manager(capsys: pytest.CaptureFixture[str]) -> None:
    doc = inspect.getdoc(restate.context_managers.contextvar) or ""
    head = """
        from collections.abc import AsyncIterator
        from contextlib import asynccontextmanager
        from restate.context_managers import contextvar
    """
    names = program(textwrap.dedent(head) + _BLOCK.findall(doc)[0])
    asyncio.run(names["usage_example"]())
    assert capsys.readouterr().out == "hi\n"


PAYMENT = """
    from datetime import timedelta
    import restate
    from restate import TerminalError

    payment = restate.Workflow("payment")

    @payment.main()
    async def run(ctx: restate.WorkflowContext, amount: int) -> dict:
        match await restate.select(
            result=ctx.promise("verify"), timeout=ctx.sleep(timedelta(seconds=10))
        ):
            case ["result", "approved"]:
                return {"paid": amount}
            case ["result", answer]:
                raise TerminalError(f"bank said {answer}", status_code=401)
            case ["timeout", _]:
                raise TerminalError("no answer from the bank", status_code=410)

    @payment.handler()
    async def verify(ctx: restate.WorkflowSharedContext, answer: str) -> None:
        await ctx.promise("verify").resolve(answer)

    app = restate.app([payment])
"""


@every_mode
@pytest.mark.parametrize(
    ("answer", "status"), [("approved", 200), ("declined", 401), (None, 410)], ids=str
)
def test_a_promise_can_be_raced_against_a_timer(
    mode: Mode, answer: str | None, status: int
) -> None:
    names = program(PAYMENT)

    async def scenario(system: TestSystem) -> None:
        await system.workflow_send(names["run"], key="k", arg=5)
        if answer is not None:
            await system.workflow_call(names["verify"], key="k", arg=answer)
        if status == 200:
            assert await system.workflow_attach(names["run"], key="k") == {"paid": 5}
            return
        with pytest.raises(perdure.HttpError) as caught:
            await system.workflow_attach(names["run"], key="k")
        assert caught.value.status_code == status

    carry_out(mode, scenario, names["app"])


TRAVEL = """
    from datetime import timedelta
    from restate import Context, Service, RunOptions, as_completed, select
    from restate.exceptions import TerminalError
    import restate

    travel = Service("travel")

    @travel.handler("offer")
    async def offer(ctx: Context, days: int) -> str:
        await ctx.sleep(timedelta(days=days))
        if days == 2:
            raise TerminalError("sold out")
        return f"after {days}"

    @travel.handler()
    async def first(ctx: Context) -> list:
        futures = {n: ctx.service_call(offer, arg=d) for n, d in
                   {"car": 3, "hotel": 1, "flight": 5}.items()}
        who, what = await select(**futures)
        return [who, what]

    @travel.handler()
    async def all(ctx: Context) -> list:
        seen = []
        async for future in as_completed(*[ctx.service_call(offer, arg=d) for d in (3, 2, 1)]):
            try:
                seen.append(await future)
            except TerminalError as e:
                seen.append(e.message)
        return seen

    @travel.handler()
    async def price(ctx: Context, base: int) -> int:
        async def ask(base: int, *, tax: int) -> int:
            return base + tax

        one = await ctx.run_typed("ask", ask, RunOptions(max_attempts=3), base, tax=1)
        two = await ctx.run("twice", lambda: one * 2)
        return two

    app = restate.app(services=[travel])
"""


@every_mode
def test_racing_collecting_and_running(mode: Mode) -> None:
    names = program(TRAVEL)

    async def scenario(system: TestSystem) -> None:
        assert await system.service_call(names["first"]) == ["hotel", "after 1"]
        assert await system.service_call(names["all"]) == ["after 1", "sold out", "after 3"]
        assert await system.service_call(names["price"], arg=4) == 10

    carry_out(mode, scenario, names["app"])


def test_a_moved_test_of_a_moved_program() -> None:
    """As a program's own tests use the harness."""
    names = program(
        PAYMENT
        + """
    async def check():
        async with restate.create_test_harness(app, always_replay=True) as env:
            await env.client.workflow_send(run, key="k", arg=7)
            await env.client.workflow_call(verify, key="k", arg="approved")
            return await env.client.workflow_attach(run, key="k")
    """
    )
    assert asyncio.run(names["check"]()) == {"paid": 7}


def test_handlers_of_one_module_can_be_tested_by_their_functions() -> None:
    names = program(TRAVEL)
    assert testing.run(lambda system: system.service_call(names["price"], arg=1), names["app"]) == 4
