"""The engine inside a program: `async with perdure.open(...)`, and what becomes of wrong uses."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.journal.errors import StoreError, UsageError

counter = perdure.VirtualObject("Counter")


@counter.handler()
async def add(ctx: perdure.ObjectContext, n: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + n
    ctx.set("total", total)
    return total


def test_state_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    async def main() -> None:
        for total in (1, 2):
            async with perdure.open(tmp_path, [counter]) as system:
                assert await system.object_call(add, key="k", arg=1) == total

    asyncio.run(main())


def test_what_is_asked_before_it_is_open_says_how_to_open_it(tmp_path: Path) -> None:
    system: Any = perdure.open(tmp_path / "data", [counter])
    with pytest.raises(AttributeError, match=r"async with perdure\.open.*system\.object_call"):
        system.object_call(add, key="k", arg=1)
    assert not (tmp_path / "data").exists()


def test_it_is_opened_once(tmp_path: Path) -> None:
    async def main() -> None:
        opening = perdure.open(tmp_path, [counter])
        async with opening as system:
            pass
        with pytest.raises(UsageError, match=r"call perdure\.open\(\.\.\.\) once more"):
            async with opening:
                pytest.fail("open")
        with pytest.raises(StoreError, match="stopping"):
            await system.object_call(add, key="k", arg=1)

    asyncio.run(main())


def test_a_directory_has_one_system(tmp_path: Path) -> None:
    async def main() -> None:
        async with perdure.open(tmp_path, [counter]) as system:
            with pytest.raises(StoreError, match="in use"):
                async with perdure.open(tmp_path, [counter]):
                    pytest.fail("open")
            assert await system.object_call(add, key="k", arg=1) == 1

    asyncio.run(main())
