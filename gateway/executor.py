"""The default executor of a loop that hosts apps of other SDKs.

The official Python SDK runs each plain closure with ``run_in_executor(None, ...)``, so the way to a
thread and back is on its hot path: ours is the one of our own closures (decision 0006).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from perdure.pool import ClosurePool, fit_for_a_future

_STUCK_S: Final = 5.0  # how long a stop waits for functions that still run

P = ParamSpec("P")
T = TypeVar("T")


class ClosureExecutor(ThreadPoolExecutor):
    """At most ``size`` daemon threads. ``asyncio`` takes nothing but a ``ThreadPoolExecutor``.

    On its loop ``submit`` gives the loop's own kind of future, which ``run_in_executor`` returns as it is;
    elsewhere it does what it always does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        super().__init__(size)
        self._loop = loop
        self._pool = ClosurePool(size)

    def submit(  # type: ignore[override]
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T] | Future[T]:
        if asyncio._get_running_loop() is not self._loop:
            return super().submit(fn, *args, **kwargs)
        future: asyncio.Future[T] = self._loop.create_future()

        def work() -> Any:
            return None if future.cancelled() else fn(*args, **kwargs)

        self._pool.submit(work, partial(_settle, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """What has not begun is dropped; a function that is stuck keeps nobody for more than 5 seconds."""
        self._pool.close()
        if wait:
            self._pool.join(_STUCK_S)
        super().shutdown(wait, cancel_futures=cancel_futures)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return  # cancelled meanwhile
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(fit_for_a_future(error))
