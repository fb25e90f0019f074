"""Virtual time: jumps, deadlocks, threads, and traces that follow from a seed."""

import asyncio
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from perdure.actors.clock import (
    EPOCH_MS,
    Deadlock,
    SystemClock,
    VirtualClock,
    VirtualLoop,
    clock_of,
    run_virtual,
)


def test_thirty_days_of_sleep_pass_at_once_and_are_seen_by_the_clock() -> None:
    async def main() -> int:
        clock = clock_of(asyncio.get_running_loop())
        before = clock.now_ms()
        await asyncio.sleep(30 * 24 * 3600)
        return clock.now_ms() - before

    assert run_virtual(main()) == 30 * 24 * 3600 * 1000


def test_virtual_clock_counts_from_the_epoch_that_was_given() -> None:
    async def main() -> list[int]:
        clock = clock_of(asyncio.get_running_loop())
        times = [clock.now_ms()]
        for delay_s in (0.1, 0.2, 0.7):  # sums that floats do not hit exactly
            await asyncio.sleep(delay_s)
            times.append(clock.now_ms())
        return times

    assert run_virtual(main(), epoch_ms=5_000) == [5_000, 5_100, 5_300, 6_000]
    assert run_virtual(main())[0] == EPOCH_MS


def test_a_timer_never_fires_before_the_clock_shows_its_time() -> None:
    async def main() -> None:
        clock = clock_of(asyncio.get_running_loop())
        for delay_ms in range(1, 500):
            due_ms = clock.now_ms() + delay_ms
            await asyncio.sleep(delay_ms / 1000)
            assert clock.now_ms() == due_ms

    run_virtual(main(), seed=3)


def test_other_loops_have_the_clock_of_the_machine() -> None:
    loop = asyncio.new_event_loop()
    assert isinstance(clock_of(loop), SystemClock)
    loop.close()
    assert abs(SystemClock().now_ms() - time.time() * 1000) < 60_000


def test_waiting_for_what_never_comes_raises_and_names_who_waits() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match=r"test_clock\.py"):
        run_virtual(main())


def test_a_deadlock_inside_a_timeout_is_a_timeout() -> None:
    async def main() -> None:
        async with asyncio.timeout(3600):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        run_virtual(main())


def test_virtual_time_stands_still_while_a_thread_works() -> None:
    async def main() -> tuple[float, list[str]]:
        loop = asyncio.get_running_loop()
        trace: list[str] = []

        async def sleeper() -> None:
            await asyncio.sleep(0.001)
            trace.append("slept")

        task = asyncio.create_task(sleeper())
        await asyncio.to_thread(time.sleep, 0.05)
        trace.append("thread")
        at = loop.time()
        await task
        return at, trace

    assert run_virtual(main()) == (0.0, ["thread", "slept"])


def test_a_thread_that_is_declared_as_outside_work_is_no_deadlock() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        answer: asyncio.Future[str] = loop.create_future()
        go = threading.Event()

        def work() -> None:
            go.wait()
            loop.call_soon_threadsafe(answer.set_result, "done")

        thread = threading.Thread(target=work)
        thread.start()
        with loop.outside_work():
            loop.call_soon(go.set)
            result = await answer
        thread.join()
        return result

    assert run_virtual(main(), seed=1) == "done"


def test_outside_work_is_over_when_its_block_is() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        with loop.outside_work():
            await asyncio.to_thread(int)
        await loop.create_future()

    with pytest.raises(Deadlock):
        run_virtual(main())


def test_a_failing_thread_job_raises_where_it_is_awaited() -> None:
    async def main() -> None:
        await asyncio.to_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        run_virtual(main())


def test_a_busy_loop_does_not_keep_a_thread_waiting_for_ever() -> None:
    async def main() -> int:
        done = asyncio.ensure_future(asyncio.to_thread(int, "7"))
        while not done.done():
            await asyncio.sleep(0)
        return done.result()

    assert run_virtual(main()) == 7


async def _race(rounds: int) -> list[str]:
    trace: list[str] = []

    async def racer(name: str) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
            trace.append(name)

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(racer(name))
    return trace


def test_same_seed_same_trace_and_other_seeds_other_traces() -> None:
    traces = [tuple(run_virtual(_race(5), seed=seed)) for seed in range(20)]
    assert traces == [tuple(run_virtual(_race(5), seed=seed)) for seed in range(20)]
    assert len(set(traces)) > 15


def test_without_a_seed_tasks_go_in_turn() -> None:
    assert run_virtual(_race(3)) == list("abcd" * 3)


class AtOnce(Executor):
    """Finishes every job before ``submit`` returns, as a quick thread may."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_the_speed_of_a_thread_does_not_change_the_trace_of_a_seed() -> None:
    async def main(pool: Executor, delay_s: float) -> list[str]:
        trace: list[str] = []

        async def writer() -> None:
            for index in range(5):
                await asyncio.get_running_loop().run_in_executor(pool, time.sleep, delay_s)
                trace.append(f"wrote {index}")

        task = asyncio.create_task(writer())
        trace += await _race(5)
        await asyncio.sleep(1)
        await task
        pool.shutdown()
        return trace

    for seed in range(5):
        traces = [
            run_virtual(main(AtOnce(), 0), seed=seed),
            run_virtual(main(ThreadPoolExecutor(1), 0), seed=seed),
            run_virtual(main(ThreadPoolExecutor(1), 0.003), seed=seed),
        ]
        assert traces[0] == traces[1] == traces[2]


def test_plain_callbacks_keep_their_order_under_every_seed() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        for index in range(20):
            asyncio.get_running_loop().call_soon(seen.append, index)
        await _race(4)
        await asyncio.sleep(1)
        return seen

    for seed in range(10):
        assert run_virtual(main(), seed=seed) == list(range(20))


def test_call_soon_threadsafe_refuses_a_closed_loop() -> None:
    loop = VirtualLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)


def test_two_clocks_of_one_loop_may_count_from_different_epochs() -> None:
    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1)
        return VirtualClock(loop, 0).now_ms(), VirtualClock(loop, 500).now_ms()

    assert run_virtual(main()) == (1000, 1500)
