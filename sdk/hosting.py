"""Hosts SDK services in this process: makes an attempt for each start that the runtime asks for.

Implements ``journal.attempt.Deployment``. Owns the two bounded thread pools: one for handlers that are
plain functions, one for plain run closures, so that a handler can always wait for its closures.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from perdure.attempt import HandlerAttempt
from perdure.attempt_core import AttemptCore
from perdure.entry_codec import JournalValueCodec
from perdure.handler import Handler
from perdure.journal.attempt import Attempt, Failed, Sink, Start
from perdure.pool import ClosurePool
from perdure.threads import BlockingAttempt, HandlerThreads

_UNKNOWN_HANDLER = 404


class HostedService(Protocol):
    """What a Service, VirtualObject or Workflow has."""

    handlers: dict[str, Handler[Any, Any]]

    @property
    def name(self) -> str: ...


class Hosted:
    """A set of services. ``threads`` bounds each of the two pools; more work waits in a queue."""

    def __init__(
        self,
        services: Iterable[HostedService],
        *,
        threads: int | None = None,
        codec: JournalValueCodec | None = None,
    ) -> None:
        self._handlers = {
            (service.name, handler.name): handler
            for service in services
            for handler in service.handlers.values()
        }
        size = threads or min(32, (os.cpu_count() or 1) + 4)
        self.codec = codec
        self.on_enter: Callable[[str], None] | None = None  # told the trace of each attempt
        self.run_pool = ClosurePool(size)
        self.handler_threads = HandlerThreads(size)
        self._attempts: set[AttemptCore] = set()

    def start(self, start: Start, sink: Sink) -> Attempt:
        """Begin an attempt; its first frame leaves in a later turn of the running loop."""
        handler = self._handlers.get((start.handler.service, start.handler.name))
        if handler is None:
            return _Refused(start, sink)
        kind = BlockingAttempt if handler.blocking else HandlerAttempt
        attempt = kind(start, sink, handler, self)
        self._attempts.add(attempt)
        attempt.launch()
        return attempt

    def forget(self, attempt: AttemptCore) -> None:
        """An attempt is over."""
        self._attempts.discard(attempt)

    @property
    def running_count(self) -> int:
        """Attempts whose handler has not ended, kept coroutines included."""
        return len(self._attempts)

    def close(self) -> None:
        """Abort what is left and let idle threads go; threads in user code end when that does."""
        for attempt in tuple(self._attempts):
            attempt.abort()
        self.run_pool.close()
        self.handler_threads.close()


class _Refused:
    """An attempt at a handler that is not here: a deployment that changed under its invocation."""

    def __init__(self, start: Start, sink: Sink) -> None:
        self._aborted = False
        handler = start.handler
        message = (
            f"unknown handler {handler.service}/{handler.name}: this process does not serve it;"
            " start it with the file or module that defines the handler"
        )
        failed = Failed(_UNKNOWN_HANDLER, message)
        asyncio.get_running_loop().call_soon(self._refuse, sink, failed)

    def _refuse(self, sink: Sink, failed: Failed) -> None:
        if not self._aborted:
            sink.emit((failed,))

    def deliver(self, entries: object) -> None:
        """Nobody is there to take it."""

    def pass_barrier(self, completion_id: int) -> None:
        """There are none."""

    def close_input(self) -> None:
        """The failure is on its way."""

    def abort(self) -> None:
        self._aborted = True
