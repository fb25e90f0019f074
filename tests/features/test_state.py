"""State of a key: every operation, its serdes and type hints, lazy and preloaded."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

import perdure
from perdure import ObjectContext, ObjectSharedContext, VirtualObject
from perdure.journal.schema import Defaults
from perdure.serde import BytesSerde
from perdure.testing import TestSystem
from tests.features.modes import Run


@dataclass
class Point:
    x: int
    y: int


class Line(msgspec.Struct):
    start: int
    end: int


class Person(BaseModel):
    name: str


def drawers(**options: Any) -> tuple[VirtualObject, dict[str, Any]]:
    drawer = VirtualObject("Drawer", **options)

    @drawer.handler()
    async def put(ctx: ObjectContext, items: dict[str, int]) -> None:
        for name, value in items.items():
            ctx.set(name, value)

    @drawer.handler()
    async def own_writes(ctx: ObjectContext) -> list[object]:
        """What a handler reads of what it wrote itself, awaiting between."""
        ctx.set("a", 1)
        seen: list[object] = [await ctx.get("a")]
        await ctx.run_typed("pause", lambda: None)
        ctx.clear("a")
        seen.append(await ctx.get("a"))
        ctx.set("b", 2)
        ctx.set("c", None)
        seen.append(await ctx.state_keys())
        await ctx.run_typed("pause", lambda: None)
        seen.append(await ctx.get("old"))
        ctx.clear_all()
        seen.append(await ctx.state_keys())
        seen.append(await ctx.get("old"))
        ctx.set("d", 4)
        return seen

    @drawer.handler(kind="shared")
    async def read(ctx: ObjectSharedContext) -> dict[str, int | None]:
        return {name: await ctx.get(name, type_hint=int) for name in await ctx.state_keys()}

    return drawer, {"put": put, "own_writes": own_writes, "read": read}


@pytest.mark.parametrize(
    "options",
    [{}, {"enable_lazy_state": True}, {"state_preload": ["old"]}, {"state_preload": False}],
    ids=["eager", "lazy", "preload", "no-preload"],
)
def test_a_handler_reads_its_own_writes_and_clears(run: Run, options: dict[str, Any]) -> None:
    drawer, handlers = drawers(**options)

    async def scenario(system: TestSystem) -> None:
        await system.object_call(handlers["put"], key="k", arg={"old": 7})
        assert await system.object_call(handlers["own_writes"], key="k") == [
            1, None, ["b", "c", "old"], 7, [], None,
        ]  # fmt: skip
        assert await system.object_call(handlers["read"], key="k") == {"d": 4}
        assert await system.object_call(handlers["read"], key="other") == {}
        assert await system.state(drawer, "k") == {"d": b"4"}

    run(scenario, [drawer])


def test_lazy_state_can_be_the_default(run: Run) -> None:
    drawer, handlers = drawers()

    async def scenario(system: TestSystem) -> None:
        await system.object_call(handlers["put"], key="k", arg={"a": 1, "b": 2})
        assert await system.object_call(handlers["read"], key="k") == {"a": 1, "b": 2}

    run(scenario, [drawer], defaults=Defaults(lazy_state=True))


def test_type_hints_and_serdes_bring_values_back_as_they_were(run: Run) -> None:
    box = VirtualObject("Box")

    @box.handler()
    async def fill(ctx: ObjectContext) -> None:
        ctx.set("point", Point(1, 2))
        ctx.set("line", Line(3, 4))
        ctx.set("person", Person(name="Ada"))
        ctx.set("raw", b"\x00\xff", serde=BytesSerde())
        ctx.set("none", None)

    @box.handler()
    async def check(ctx: ObjectContext) -> list[bool]:
        return [
            await ctx.get("point", type_hint=Point) == Point(1, 2),
            await ctx.get("line", type_hint=Line) == Line(3, 4),
            await ctx.get("person", type_hint=Person) == Person(name="Ada"),
            await ctx.get("raw", serde=BytesSerde()) == b"\x00\xff",
            await ctx.get("none") is None,
            "none" in await ctx.state_keys(),
            await ctx.get("unset", type_hint=Point) is None,
        ]

    async def scenario(system: TestSystem) -> None:
        await system.object_call(fill, key="k")
        assert all(await system.object_call(check, key="k"))

    run(scenario, [box])


def test_what_was_written_before_a_terminal_error_stays(run: Run) -> None:
    box = VirtualObject("Box")

    @box.handler()
    async def write_and_fail(ctx: ObjectContext) -> None:
        ctx.set("n", (await ctx.get("n") or 0) + 1)
        raise perdure.TerminalError("enough")

    async def scenario(system: TestSystem) -> None:
        with pytest.raises(perdure.HttpError, match="enough"):
            await system.object_call(write_and_fail, key="k")
        assert await system.state(box, "k") == {"n": b"1"}

    run(scenario, [box])


def test_a_shared_handler_cannot_write(run: Run) -> None:
    box = VirtualObject("Box")

    @box.handler(kind="shared")
    async def write(ctx: ObjectSharedContext) -> None:
        ctx.set("n", 1)  # type: ignore[attr-defined]

    async def scenario(system: TestSystem) -> None:
        with pytest.raises(perdure.HttpError, match="shared"):
            await system.object_call(write, key="k")
        assert await system.state(box, "k") == {}

    run(scenario, [box])


def test_a_value_that_does_not_fit_its_hint_is_told_at_once(run: Run) -> None:
    box = VirtualObject("Box")

    @box.handler()
    async def misread(ctx: ObjectContext) -> int:
        ctx.set("n", "text")
        return await ctx.get("n", type_hint=int) or 0

    async def scenario(system: TestSystem) -> None:
        with pytest.raises(perdure.HttpError, match="'n'"):
            await system.object_call(misread, key="k")

    run(scenario, [box])


def test_objects_and_workflows_keep_state_apart(run: Run) -> None:
    box, flow = VirtualObject("Box"), perdure.Workflow("Flow")

    @box.handler()
    async def put(ctx: ObjectContext, value: int) -> None:
        ctx.set("n", value)

    @flow.main()
    async def main(ctx: perdure.WorkflowContext) -> list[str]:
        before = await ctx.state_keys()
        ctx.set("n", "flow")
        return before

    async def scenario(system: TestSystem) -> None:
        await system.object_call(put, key="k", arg=1)
        assert await system.workflow_call(main, key="k") == []
        assert await system.state(box, "k") == {"n": b"1"}
        assert await system.state(flow, "k") == {"n": b'"flow"'}

    run(scenario, [box, flow])
