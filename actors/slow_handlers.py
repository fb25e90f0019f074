"""Reports a handler that holds the loop: all others stand still meanwhile.

A thread of its own looks whether the loop still turns, and logs the loop's stack where it does not.
It changes nothing.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback

log = logging.getLogger("perdure.slow_handlers")


class SlowHandlers:
    """Watches the running loop. ``limit_s``: how long it may stand still; 0: do not watch."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._stopped = threading.Event()
        self._answered = threading.Event()

    def start(self) -> None:
        """Called on the loop's thread."""
        if self._limit_s > 0:
            loop, ident = asyncio.get_running_loop(), threading.get_ident()
            threading.Thread(
                target=self._watch, args=(loop, ident), name="perdure.slow_handlers", daemon=True
            ).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        while not self._stopped.wait(self._limit_s):
            self._answered.clear()
            asked_s = time.monotonic()
            try:
                loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # the loop is closed
                return
            if self._answered.wait(self._limit_s) or self._stopped.is_set():
                continue
            frame = sys._current_frames().get(ident)
            stack = (
                "".join(traceback.format_stack(frame, limit=12))
                if frame is not None
                else "(gone)\n"
            )
            self._answered.wait()
            log.warning(
                "the event loop was held for %.1f s; every other handler waited. Use `await`, "
                "ctx.run with a plain function (it gets a thread), or a plain `def` handler",
                time.monotonic() - asked_s,
                extra={"stacktrace": stack},
            )
