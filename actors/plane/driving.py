"""Runs a coroutine of the engine up to its end without a task: the hot path of the server.

A task costs an object, a turn of the loop before the first step and another behind the last one. Here the
first step happens at once, so requests reach the engine in the order they came. For coroutines that only
await futures, as the engine's calls and sends do: nothing that asks for the current task.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Drive:
    """``done(key, result, error)`` is called once, at the end; never after ``close``."""

    __slots__ = ("_coroutine", "_done", "_key", "_waits_for")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        key: Any,
        done: Callable[[Any, Any, BaseException | None], None],
    ) -> None:
        self._coroutine = coroutine
        self._key = key
        self._done = done
        self._waits_for: Any = None

    def go_on(self, _: object = None) -> None:
        """Until it waits for something, or is over."""
        self._waits_for = None
        try:
            waits_for = self._coroutine.send(None)
        except StopIteration as end:
            self._done(self._key, end.value, None)
        except (Exception, asyncio.CancelledError) as error:
            self._done(self._key, None, error)
        else:
            if waits_for is None:  # sleep(0)
                asyncio.get_running_loop().call_soon(self.go_on)
                return
            waits_for._asyncio_future_blocking = False
            self._waits_for = waits_for
            waits_for.add_done_callback(self.go_on)

    def close(self) -> None:
        """Give up: its clean-up runs now."""
        self._done = _nobody
        if self._waits_for is not None:
            self._waits_for.remove_done_callback(self.go_on)
        self._coroutine.close()


def _nobody(key: Any, result: Any, error: BaseException | None) -> None:
    """Whoever it was told to has given up."""
