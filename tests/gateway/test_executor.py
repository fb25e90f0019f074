"""The default executor of a loop that hosts apps: as asyncio's own, but for stuck functions."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import uvloop

from perdure.gateway import executor as module
from perdure.gateway.executor import ClosureExecutor


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = request.param()
    loop.set_default_executor(ClosureExecutor(loop, 2))
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def fails(error: BaseException) -> None:
    raise error


def test_results_and_errors_come_back(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        assert await asyncio.to_thread(int, "ff", base=16) == 255
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        assert await asyncio.gather(*(asyncio.to_thread(str, n) for n in range(50))) == [
            str(n) for n in range(50)
        ]
        with pytest.raises(ValueError, match="no luck"):
            await asyncio.to_thread(fails, ValueError("no luck"))
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await asyncio.to_thread(fails, StopIteration())

    loop.run_until_complete(main())


def test_what_is_cancelled_before_it_begins_never_runs(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        busy = [loop.run_in_executor(None, gate.wait) for _ in range(2)]
        late = loop.run_in_executor(None, ran.append, "late")
        last = loop.run_in_executor(None, ran.append, "last")
        late.cancel()
        gate.set()
        await asyncio.gather(*busy, last)

    loop.run_until_complete(main())
    assert ran == ["last"]


def test_a_cancelled_wait_leaves_the_function_to_its_end(loop: asyncio.AbstractEventLoop) -> None:
    begun, gate = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        gate.wait()
        return "nobody waits for this"

    async def main() -> None:
        future = loop.run_in_executor(None, work)
        await asyncio.to_thread(begun.wait)
        future.cancel()
        gate.set()
        assert await asyncio.to_thread(str, 1) == "1"
        with pytest.raises(asyncio.CancelledError):
            await future

    loop.run_until_complete(main())


def test_from_another_thread_it_is_an_executor_like_any(loop: asyncio.AbstractEventLoop) -> None:
    executor = ClosureExecutor(loop, 2)
    future: Any = executor.submit(int, "7")
    assert isinstance(future, Future)
    assert future.result(10) == 7
    executor.shutdown()


def test_a_stop_does_not_wait_for_what_is_stuck(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STUCK_S", 0.01)
    begun, gate = threading.Event(), threading.Event()

    def stuck() -> None:
        begun.set()
        gate.wait()

    async def main() -> None:
        loop.run_in_executor(None, stuck)
        await asyncio.to_thread(begun.wait)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert not gate.is_set()
    gate.set()
